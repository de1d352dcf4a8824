/* Names of the simulated file system: what a power cut may and may not leave of them. */
#include "sim_disk.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { SEEDS = 300 };

struct fixture {
    struct sim_disk *disk;
    struct sim_random random;
    struct sim_fault_counts counts;
};

static void setup(struct fixture *fixture, uint64_t seed)
{
    *fixture =
        (struct fixture){.disk = sim_disk_new(64 << 20, 1), .random = sim_random_stream(seed, 1)};
    assert_int_equal(sim_disk_make_directory(fixture->disk, "/a"), OK);
    assert_int_equal(sim_disk_make_directory(fixture->disk, "/b"), OK);
    sim_disk_keep_all(fixture->disk);
}

static void crash(struct fixture *fixture)
{
    sim_disk_crash(fixture->disk, &fixture->random, &fixture->counts);
}

/* Write `text` to a file, made when it is missing, and sync the file but not its name. */
static void put(struct fixture *fixture, const char *path, const char *text)
{
    AUTO(sim_node) node = NULL;
    assert_int_equal(sim_disk_open(fixture->disk, path, FILE_WRITE | FILE_CREATE, &node), OK);
    assert_int_equal(sim_file_truncate(sim_node_file(node), 0), OK);
    if (text[0] != '\0')
        sim_file_write(sim_node_file(node), 0, (const uint8_t *)text, strlen(text), true);
}

static bool has(struct fixture *fixture, const char *path, const char *text)
{
    AUTO(sim_node) node = NULL;
    if (sim_disk_open(fixture->disk, path, 0, &node) != OK)
        return false;
    uint8_t data[64];
    size_t bytes = sim_file_read(sim_node_file(node), 0, data, sizeof data);
    assert_true(bytes == strlen(text));
    assert_memory_equal(data, text, bytes);
    return true;
}

static void sync_directory(struct fixture *fixture, const char *path)
{
    AUTO(sim_node) node = NULL;
    assert_int_equal(sim_disk_open(fixture->disk, path, FILE_DIRECTORY, &node), OK);
    sim_disk_sync_directory(fixture->disk, node, sim_disk_sequence(fixture->disk));
}

/* Both outcomes were seen in SEEDS runs. */
static void assert_both(unsigned count)
{
    assert_true(count > SEEDS / 20);
    assert_true(count < SEEDS - SEEDS / 20);
}

static void a_synced_file_without_synced_name_may_vanish(void **state)
{
    (void)state;
    unsigned kept = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct fixture f;
        setup(&f, seed);
        put(&f, "/a/file", "text");
        crash(&f);
        kept += has(&f, "/a/file", "text");
        sim_disk_free(f.disk);
    }
    assert_both(kept);
}

static void a_synced_name_stays(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct fixture f;
        setup(&f, seed);
        put(&f, "/a/file", "text");
        sync_directory(&f, "/a");
        crash(&f);
        assert_true(has(&f, "/a/file", "text"));
        sim_disk_free(f.disk);
    }
}

static void a_sync_covers_names_made_before_it_began(void **state)
{
    (void)state;
    unsigned kept = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct fixture f;
        setup(&f, seed);
        put(&f, "/a/1", "one");
        uint64_t began = sim_disk_sequence(f.disk);
        put(&f, "/a/2", "two");
        AUTO(sim_node) node = NULL;
        assert_int_equal(sim_disk_open(f.disk, "/a", FILE_DIRECTORY, &node), OK);
        sim_disk_sync_directory(f.disk, node, began);
        crash(&f);
        assert_true(has(&f, "/a/1", "one"));
        kept += has(&f, "/a/2", "two");
        sim_node_release(TAKE(node));
        sim_disk_free(f.disk);
    }
    assert_both(kept);
}

static void a_rename_is_atomic(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
    } cases[] = {{"/a/old", "/a/new"}, {"/a/old", "/b/new"}, {"/a/old", "/old"}};
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned renamed = 0;
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            struct fixture f;
            setup(&f, seed);
            put(&f, cases[i].from, "text");
            sim_disk_keep_all(f.disk);
            assert_int_equal(sim_disk_rename(f.disk, cases[i].from, cases[i].to), OK);
            crash(&f);
            bool at_new = has(&f, cases[i].to, "text");
            assert_true(at_new != has(&f, cases[i].from, "text"));
            renamed += at_new;
            sim_disk_free(f.disk);
        }
        assert_both(renamed);
    }
}

static void a_replaced_file_is_old_or_new_but_never_missing(void **state)
{
    (void)state;
    unsigned replaced = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct fixture f;
        setup(&f, seed);
        put(&f, "/a/file", "old");
        sync_directory(&f, "/a");
        put(&f, "/a/file.tmp", "brand new");
        assert_int_equal(sim_disk_rename(f.disk, "/a/file.tmp", "/a/file"), OK);
        crash(&f);
        struct file_info info;
        assert_int_equal(sim_disk_stat(f.disk, "/a/file", &info), OK);
        assert_true(has(&f, "/a/file", info.bytes == 3 ? "old" : "brand new"));
        replaced += info.bytes != 3;
        sim_disk_free(f.disk);
    }
    assert_both(replaced);
}

static void changes_of_one_directory_are_kept_in_order(void **state)
{
    (void)state;
    unsigned partly = 0;
    unsigned other_only = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct fixture f;
        setup(&f, seed);
        put(&f, "/a/1", "1");
        put(&f, "/b/1", "1");
        put(&f, "/a/2", "2");
        put(&f, "/a/3", "3");
        crash(&f);
        bool kept[3] = {has(&f, "/a/1", "1"), has(&f, "/a/2", "2"), has(&f, "/a/3", "3")};
        assert_true(kept[0] || !kept[1]);
        assert_true(kept[1] || !kept[2]);
        partly += kept[0] && !kept[2];
        other_only += has(&f, "/b/1", "1") && !kept[0];
        sim_disk_free(f.disk);
    }
    assert_true(partly > 0);
    assert_true(other_only > 0);
}

static void a_sync_commits_what_the_directory_depends_on(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct fixture f;
        setup(&f, seed);
        put(&f, "/a/1", "1");
        assert_int_equal(sim_disk_rename(f.disk, "/a/1", "/b/1"), OK);
        sync_directory(&f, "/b");
        crash(&f);
        assert_true(has(&f, "/b/1", "1"));
        assert_false(has(&f, "/a/1", "1"));
        sim_disk_free(f.disk);
    }
}

static void an_unsynced_unlink_may_come_back_with_its_contents(void **state)
{
    (void)state;
    unsigned back = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct fixture f;
        setup(&f, seed);
        put(&f, "/a/file", "text");
        sync_directory(&f, "/a");
        assert_int_equal(sim_disk_unlink(f.disk, "/a/file"), OK);
        crash(&f);
        back += has(&f, "/a/file", "text");
        sim_disk_free(f.disk);
    }
    assert_both(back);
}

static void directories_never_end_up_inside_themselves(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct fixture f;
        setup(&f, seed);
        assert_int_equal(sim_disk_make_directory(f.disk, "/a/q"), OK);
        assert_int_equal(sim_disk_make_directory(f.disk, "/a/q/x"), OK);
        put(&f, "/a/q/x/file", "text");
        sim_disk_keep_all(f.disk);
        assert_int_equal(sim_disk_rename(f.disk, "/a/q", "/a/q/x/q"), ERR_INVALID);
        assert_int_equal(sim_disk_rename(f.disk, "/a/q/x", "/b/x"), OK);
        assert_int_equal(sim_disk_rename(f.disk, "/a/q", "/b/x/q"), OK);
        crash(&f);
        assert_int_equal(has(&f, "/a/q/x/file", "text") + has(&f, "/b/x/file", "text"), 1);
        sim_disk_free(f.disk); /* asserts that nothing is left over */
    }
}

static void an_open_file_outlives_its_name(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 1);
    put(&f, "/a/file", "text");
    AUTO(sim_node) node = NULL;
    assert_int_equal(sim_disk_open(f.disk, "/a/file", 0, &node), OK);
    assert_int_equal(sim_disk_unlink(f.disk, "/a/file"), OK);
    sim_disk_keep_all(f.disk);
    assert_int_equal(sim_file_bytes(sim_node_file(node)), 4);
    sim_node_release(TAKE(node));
    struct space_info space;
    assert_int_equal(sim_disk_space(f.disk, "/", &space), OK);
    assert_int_equal(space.free_bytes, space.total_bytes);
    sim_disk_free(f.disk);
}

static void wrong_calls_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 1);
    put(&f, "/a/file", "text");
    struct file_info info;
    struct sim_node *node = NULL;
    char long_name[SIM_NAME_BYTES_MAX + 3] = "/";
    memset(long_name + 1, 'x', SIM_NAME_BYTES_MAX + 1);
    assert_int_equal(sim_disk_stat(f.disk, "/a/none", &info), ERR_NOT_FOUND);
    assert_int_equal(sim_disk_stat(f.disk, "/none/file", &info), ERR_NOT_FOUND);
    assert_int_equal(sim_disk_stat(f.disk, "/a/file/x", &info), ERR_INVALID);
    assert_int_equal(sim_disk_stat(f.disk, "/a/../b", &info), ERR_INVALID);
    assert_int_equal(sim_disk_stat(f.disk, long_name, &info), ERR_INVALID);
    assert_int_equal(sim_disk_stat(f.disk, "a//./file", &info), OK);
    assert_int_equal(sim_disk_make_directory(f.disk, "/a"), ERR_EXISTS);
    assert_int_equal(sim_disk_make_directory(f.disk, "/none/x"), ERR_NOT_FOUND);
    assert_int_equal(sim_disk_remove_directory(f.disk, "/a"), ERR_NOT_EMPTY);
    assert_int_equal(sim_disk_remove_directory(f.disk, "/b"), OK);
    assert_int_equal(sim_disk_unlink(f.disk, "/a"), ERR_INVALID);
    assert_int_equal(sim_disk_rename(f.disk, "/a/file", "/a"), ERR_INVALID);
    assert_int_equal(sim_disk_open(f.disk, "/a", 0, &node), ERR_INVALID);
    assert_int_equal(sim_disk_open(f.disk, "/a/file", FILE_DIRECTORY, &node), ERR_INVALID);
    assert_int_equal(
        sim_disk_open(f.disk, "/a/file", FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE, &node),
        ERR_EXISTS);
    AUTO_VALUE(bytes) names = {.max = 4};
    assert_int_equal(sim_disk_list(f.disk, "/a", &names), ERR_LIMIT);
    sim_disk_free(f.disk);
}

static void a_tree_is_described_in_order(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 1);
    put(&f, "/a/2", "x");
    put(&f, "/a/10", "");
    AUTO_VALUE(bytes) text = {.max = 1000};
    sim_disk_describe(f.disk, &text);
    bytes_append_byte(&text, 0);
    const char *lines = (const char *)text.data;
    assert_ptr_equal(strstr(lines, "/a/\n/a/10 bytes=0 allocated=0 hash="), lines);
    assert_non_null(strstr(lines, "\n/a/2 bytes=1 allocated=4096 hash="));
    assert_string_equal(lines + strlen(lines) - 4, "/b/\n");
    AUTO_VALUE(bytes) names = {.max = 100};
    assert_int_equal(sim_disk_list(f.disk, "/a", &names), OK);
    assert_int_equal(names.bytes, 5);
    assert_memory_equal(names.data,
                        "10\0"
                        "2",
                        5);
    sim_disk_free(f.disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_synced_file_without_synced_name_may_vanish),
        cmocka_unit_test(a_synced_name_stays),
        cmocka_unit_test(a_sync_covers_names_made_before_it_began),
        cmocka_unit_test(a_rename_is_atomic),
        cmocka_unit_test(a_replaced_file_is_old_or_new_but_never_missing),
        cmocka_unit_test(changes_of_one_directory_are_kept_in_order),
        cmocka_unit_test(a_sync_commits_what_the_directory_depends_on),
        cmocka_unit_test(an_unsynced_unlink_may_come_back_with_its_contents),
        cmocka_unit_test(directories_never_end_up_inside_themselves),
        cmocka_unit_test(an_open_file_outlives_its_name),
        cmocka_unit_test(wrong_calls_are_refused),
        cmocka_unit_test(a_tree_is_described_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
