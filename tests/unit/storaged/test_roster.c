/* What a start makes of the directories it is given. Cases are text. */
#include "base/log.h"
#include "base/mem.h"
#include "roster.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PLACES_MAX = 8 };

struct roster_case {
    const char *name;
    uint8_t floor;
    bool accepts_loss;
    /* The table that every drive has: ID/PATH@COUNTER, then m: was a mount point, l: lost. */
    const char *table;
    /* Directories: PATH=E empty, N none, F foreign, X unreadable, L locked, or ID@COUNTER a drive;
     * then m: is a mount point, o: of another cluster, v: with a table of an older version. */
    const char *places;
    enum err err;
    const char *actions; /* by directory: O open, F format, - leave */
    const char *states;  /* by line of the table: here, missing, not mounted, unreadable, rolled
                            back, lost, never made (x) */
};

#define THREE "1/a@5 2/b@5 3/c@5"
static const struct roster_case cases[] = {
    {"all empty is a new node", 0, false, "", "/a=E /b=N", OK, "FF", ""},
    {"an unreadable one among empty ones is refused", 0, false, "", "/a=E /b=X", ERR_IO, "", ""},
    {"known drives open in any order", 1, false, THREE, "/c=3@5 /a=1@5 /b=2@5", OK, "OOO", "hhh"},
    {"foreign files are refused", 1, false, THREE, "/a=1@5 /b=F", ERR_EXISTS, "", ""},
    {"one drive twice is refused", 1, false, THREE, "/a=1@5 /x=1@5", ERR_MISMATCH, "", ""},
    {"a directory given twice is refused", 1, false, THREE, "/a=1@5 /b=2@5 /q=E /q/=E", ERR_INVALID,
     "", ""},
    {"a drive of another cluster is refused", 1, false, THREE, "/a=1@5 /b=2@5o", ERR_MISMATCH, "",
     ""},
    {"a locked drive is refused", 1, false, THREE, "/a=1@5 /b=L", ERR_LOCKED, "", ""},
    {"an emptied drive is lost and made anew", 1, false, THREE, "/a=1@5 /b/=E /c=3@5", OK, "OFO",
     "hlh"},
    {"two emptied of which one is borne are refused", 1, false, THREE, "/a=1@5 /b=E /c=E",
     ERR_NOT_FOUND, "", ""},
    {"unless the loss is accepted", 1, true, THREE, "/a=1@5 /b=E /c=E", OK, "OFF", "hll"},
    {"a directory that is gone is not made for a known drive", 1, false, THREE,
     "/a=1@5 /b=N /c=3@5", OK, "O-O", "hmh"},
    {"what is not mounted is never formatted", 1, false, "1/a@5m 2/b@5m", "/a=1@5m /b=E", OK, "O-",
     "hn"},
    {"an empty file system that is mounted there is", 1, false, "1/a@5m 2/b@5m", "/a=1@5m /b=Em",
     OK, "OF", "hl"},
    {"another empty directory is one more drive", 1, false, THREE, "/a=1@5 /b=2@5 /c=3@5 /d=E /e=N",
     OK, "OOOFF", "hhh"},
    {"a missing drive is borne", 1, false, THREE, "/a=1@5 /c=3@5", OK, "OO", "hmh"},
    {"two missing are not", 1, false, THREE, "/a=1@5", ERR_NOT_FOUND, "", ""},
    {"lost ones count until they are rebuilt", 1, false, "1/a@5 2/b@5l 3/c@5", "/a=1@5",
     ERR_NOT_FOUND, "", ""},
    {"a place that was emptied twice counts once", 1, false, "1/a@5 2/b@5l 4/b@5 3/c@5",
     "/a=1@5 /b=E /c=3@5", OK, "OFO", "hllh"},
    {"a lost drive that comes back is left alone", 1, false, "1/a@5 2/b@5l", "/a=1@5 /b=2@5v", OK,
     "O-", "hl"},
    {"so is one that nobody remembers", 0, false, "1/a@5", "/a=1@5 /z=9@5v", OK, "O-", "h"},
    {"an older copy of a drive is not opened", 1, false, THREE, "/a=1@5 /b=2@4 /c=3@5", OK, "O-O",
     "hrh"},
    {"a drive that was opened more often than was noted is", 1, false, THREE,
     "/a=1@5 /b=2@9 /c=3@5", OK, "OOO", "hhh"},
    {"a damaged drive is borne like a missing one", 1, false, THREE, "/a=1@5 /b=X /c=3@5", OK,
     "O-O", "huh"},
    {"wherever it is mounted now", 1, false, THREE, "/a=1@5 /y=X /c=3@5", OK, "O-O", "huh"},
    {"but not beside all drives of the node", 1, false, THREE, "/a=1@5 /b=2@5 /c=3@5 /y=X", ERR_IO,
     "", ""},
    {"and not where nothing bears it", 0, false, "1/a@5 2/b@5", "/a=1@5 /b=X", ERR_NOT_FOUND, "",
     ""},
    {"a format that was cut off is finished", 0, false, "1/a@0 2/b@0", "/a=1@0 /b=E", OK, "OF",
     "hx"},
};

struct fixture {
    char paths[PLACES_MAX][64];
    struct superblock superblocks[PLACES_MAX];
    struct roster_found found[PLACES_MAX];
    struct roster roster;
};

/* The next word, or NULL. */
static const char *next_word(const char **text, char *word, size_t bytes)
{
    int used = 0;
    while (**text == ' ')
        (*text)++;
    if (**text == '\0')
        return NULL;
    used = (int)strcspn(*text, " ");
    (void)snprintf(word, bytes, "%.*s", used, *text);
    *text += used;
    return word;
}

static void fill_table(const struct roster_case *c, struct superblock *superblock)
{
    char word[64];
    superblock->parity_floor = c->floor;
    for (const char *text = c->table; next_word(&text, word, sizeof word) != NULL;) {
        struct superblock_drive *drive = &superblock->drives[superblock->drive_count++];
        char *counter = strchr(word, '@');
        *counter++ = '\0';
        *drive = (struct superblock_drive){
            .id = {{(uint8_t)(word[0] - '0')}},
            .was_mount_point = strchr(counter, 'm') != NULL,
            .lost = strchr(counter, 'l') != NULL,
            .mount_counter = strtoul(counter, NULL, 10),
        };
        (void)snprintf(drive->path, sizeof drive->path, "%s", word + 1);
    }
}

static void make_place(const struct roster_case *c, char *word, unsigned index, struct fixture *f)
{
    char *what = strchr(word, '=');
    *what++ = '\0';
    char *counter = strchr(what, '@');
    struct superblock *superblock = &f->superblocks[index];
    *superblock = (struct superblock){
        .node = {.cluster_id = {strchr(what, 'o') != NULL ? 2 : 1}, .node_id = 1},
        .drive = {{(uint8_t)(what[0] - '0')}},
        .mount_counter = counter != NULL ? strtoul(counter + 1, NULL, 10) : 0,
        .table_version = strchr(what, 'v') != NULL ? 1 : 7,
    };
    fill_table(c, superblock);
    (void)snprintf(f->paths[index], sizeof f->paths[index], "%s", word);
    f->found[index] = (struct roster_found){
        .directory = f->paths[index],
        .err = what[0] == 'X'   ? ERR_IO
               : what[0] == 'L' ? ERR_LOCKED
                                : OK,
        .kind = counter != NULL  ? DRIVE_SHALE
                : what[0] == 'F' ? DRIVE_FOREIGN
                                 : DRIVE_EMPTY,
        .exists = what[0] != 'N',
        .is_mount_point = strchr(what, 'm') != NULL,
        .device = 1,
        .inode = 100 + index,
        .superblock = superblock,
    };
}

static uint32_t make_places(const struct roster_case *c, struct fixture *f)
{
    char word[64];
    uint32_t count = 0;
    for (const char *text = c->places; next_word(&text, word, sizeof word) != NULL;)
        make_place(c, word, count++, f);
    return count;
}

static void check(const struct roster_case *c, struct fixture *f)
{
    uint32_t count = make_places(c, f);
    enum err err = roster_decide(f->found, count, c->accepts_loss, &f->roster);
    if (err != c->err)
        print_error("%s: %s: %s\n", c->name, err_text(err), f->roster.reason);
    assert_int_equal(err, c->err);
    assert_int_equal(f->roster.reason[0] != '\0', err != OK);
    for (uint32_t i = 0; err == OK && i < count; i++) {
        if ("?OF-"[f->roster.actions[i]] != c->actions[i])
            print_error("%s: %s\n", c->name, f->paths[i]);
        assert_int_equal("?OF-"[f->roster.actions[i]], c -> actions[i]);
    }
    for (uint32_t i = 0; err == OK && c->states[i] != '\0'; i++) {
        if ("?hmnurlx"[f->roster.known[i].state] != c->states[i])
            print_error("%s: drive %u\n", c->name, i + 1);
        assert_int_equal("?hmnurlx"[f->roster.known[i].state], c -> states[i]);
    }
}

static void directories_become_a_plan(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture *f = mem_new(struct fixture);
        check(&cases[i], f);
        mem_free(f);
    }
}

/* A drive was added and only its own superblock says so. */
static void the_newest_table_counts(void **state)
{
    (void)state;
    static const struct roster_case c = {"", 1, false, THREE, "/a=1@5 /b=2@5 /d=4@1", OK, "", ""};
    struct fixture *f = mem_new(struct fixture);
    uint32_t count = make_places(&c, f);
    struct superblock *newest = &f->superblocks[2];
    newest->table_version = 8;
    newest->parity_floor = 2;
    newest->drives[newest->drive_count++] =
        (struct superblock_drive){.id = {{4}}, .mount_counter = 0, .path = "/d"};
    assert_int_equal(roster_decide(f->found, count, false, &f->roster), OK);
    assert_int_equal(f->roster.known_count, 4);
    assert_int_equal(f->roster.parity_floor, 2);
    assert_int_equal(f->roster.actions[2], ROSTER_OPEN);
    assert_int_equal(f->roster.known[2].state, ROSTER_MISSING);
    mem_free(f);
}

static void the_refusal_names_what_is_missing(void **state)
{
    (void)state;
    static const struct roster_case c = {"", 1, false, THREE, "/a=1@5 /b=E", ERR_NOT_FOUND, "", ""};
    struct fixture *f = mem_new(struct fixture);
    uint32_t count = make_places(&c, f);
    assert_int_equal(roster_decide(f->found, count, false, &f->roster), ERR_NOT_FOUND);
    assert_non_null(strstr(f->roster.reason, "/b (lost)"));
    assert_non_null(strstr(f->roster.reason, "/c (missing)"));
    mem_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directories_become_a_plan),
        cmocka_unit_test(the_newest_table_counts),
        cmocka_unit_test(the_refusal_names_what_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
