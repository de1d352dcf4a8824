/* Runs the scripts of tests/data/raft. Each holds comments (#), commands ("> verb ...") and, below
 * each command, the output it must print. RAFT_SCRIPTS_WRITE=1 rewrites the outputs; review them as
 * a diff.
 *
 *   group voters=1,2,3 [learners=4] [seed=N]
 *   tick ID [COUNT]            elect ID: tick until it campaigns, then settle
 *   deliver [FROM->TO] [TYPE]  all packets in flight now that match; * stands for any id
 *   drop, dup ...              the same choice
 *   persist ID [COUNT] [lost]  pending writes become durable; lost: without telling the replica
 *   redurable ID SEQ GEN TERM LAST   a late or repeated answer of the disk
 *   settle                     deliver, persist and apply until nothing is left
 *   propose ID TEXT, read ID, change ID voters=.. learners=.., transfer ID TARGET
 *   crash ID [SURVIVORS], restart ID, compact ID INDEX, snapshot FROM->TO, snapshot-failed ID PEER
 *   install-pending ID on|off, repair ID FIRST|off, apply manual|auto|ID, load manual|auto,
 *   load-failed ID PEER FIRST
 *   inject TYPE FROM->TO term=.. index=.. log_term=.. commit=.. round=.. entries=TERM:TEXT,..
 *   status ID, log ID, progress ID, quiet COMMAND..., add ID voters=.. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "group.h"
#include <cmocka.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX = 16, SCRIPT_BYTES_MAX = 1 << 20 };

struct command {
    char *words[WORDS_MAX];
    uint32_t count;
};

static const char *word(const struct command *command, uint32_t position)
{
    return position < command->count ? command->words[position] : "";
}

static uint64_t number(const struct command *command, uint32_t position, uint64_t otherwise)
{
    return position < command->count ? strtoull(command->words[position], NULL, 10) : otherwise;
}

/* The value of name=value among the words, or NULL. */
static const char *option(const struct command *command, const char *name)
{
    size_t length = strlen(name);
    for (uint32_t i = 0; i < command->count; i++)
        if (strncmp(command->words[i], name, length) == 0 && command->words[i][length] == '=')
            return command->words[i] + length + 1;
    return NULL;
}

static uint64_t option_number(const struct command *command, const char *name)
{
    const char *text = option(command, name);
    return text == NULL ? 0 : strtoull(text, NULL, 10);
}

static uint32_t parse_ids(const char *text, uint64_t *ids, uint32_t max)
{
    uint32_t count = 0;
    while (text != NULL && *text != 0 && count < max) {
        char *end = NULL;
        ids[count++] = strtoull(text, &end, 10);
        text = *end == ',' ? end + 1 : end;
    }
    return count;
}

static struct raft_membership parse_membership(const struct command *command)
{
    struct raft_membership membership = {0};
    membership.voter_count =
        parse_ids(option(command, "voters"), membership.voters, RAFT_VOTERS_MAX);
    membership.learner_count =
        parse_ids(option(command, "learners"), membership.learners, RAFT_LEARNERS_MAX);
    return membership;
}

static struct replica *target(struct group *group, const struct command *command, uint32_t position)
{
    struct replica *replica = group_find(group, number(command, position, 0));
    if (replica == NULL)
        group_violation(group, "script names no replica: %s", word(command, position));
    return replica;
}

static void print_result(struct group *group, enum err err)
{
    if (err != OK)
        group_print(group, "  error: %s\n", err_text(err));
}

/* ---- packets ---- */

static bool packet_matches(const struct packet *packet, const struct command *command)
{
    for (uint32_t i = 1; i < command->count; i++) {
        const char *text = command->words[i];
        const char *arrow = strstr(text, "->");
        if (arrow == NULL) {
            if (strcmp(message_type_text(packet->type), text) != 0)
                return false;
            continue;
        }
        if (text[0] != '*' && strtoull(text, NULL, 10) != packet->from)
            return false;
        if (arrow[2] != '*' && strtoull(arrow + 2, NULL, 10) != packet->to)
            return false;
    }
    return true;
}

static void run_packets(struct group *group, const struct command *command)
{
    uint32_t left = group->network.count;
    uint32_t position = 0;
    for (; left > 0; left--) {
        if (!packet_matches(&group->network.items[position], command)) {
            position++;
        } else if (strcmp(word(command, 0), "dup") == 0) {
            group_duplicate(group, position++);
        } else if (strcmp(word(command, 0), "drop") == 0) {
            group_drop(group, position);
        } else {
            group_deliver(group, position);
        }
    }
}

static void settle(struct group *group)
{
    for (bool busy = true; busy;) {
        busy = false;
        while (group->network.count > 0) {
            group_deliver(group, 0);
            busy = true;
        }
        for (uint32_t i = 0; i < group->replica_count; i++)
            while (group->replicas[i].raft != NULL &&
                   group_persist(group, &group->replicas[i], true))
                busy = true;
    }
}

/* ---- commands ---- */

static void run_group(struct group *group, const struct command *command)
{
    struct raft_membership membership = parse_membership(command);
    group_init(group, &membership, option_number(command, "seed"));
}

static void run_add(struct group *group, const struct command *command)
{
    struct raft_membership membership = parse_membership(command);
    group_add(group, number(command, 1, 0), &membership);
}

static void run_tick(struct group *group, const struct command *command)
{
    struct replica *replica = target(group, command, 1);
    for (uint64_t i = number(command, 2, 1); i > 0; i--) {
        raft_tick(replica->raft);
        group_drain(group, replica);
    }
}

static void run_elect(struct group *group, const struct command *command)
{
    struct replica *replica = target(group, command, 1);
    struct raft_status status;
    for (uint32_t i = 0; i < 2 * RAFT_ELECTION_TICKS + 1; i++) {
        raft_tick(replica->raft);
        raft_status_get(replica->raft, &status);
        if (status.role != RAFT_FOLLOWER)
            break;
    }
    group_drain(group, replica);
    settle(group);
}

static void run_persist(struct group *group, const struct command *command)
{
    struct replica *replica = target(group, command, 1);
    bool lost = strcmp(word(command, 2), "lost") == 0 || strcmp(word(command, 3), "lost") == 0;
    uint64_t count = number(command, 2, 0);
    if (count == 0)
        count = GROUP_PENDING_MAX;
    while (count-- > 0 && group_persist(group, replica, !lost))
        continue;
}

static void run_redurable(struct group *group, const struct command *command)
{
    struct replica *replica = target(group, command, 1);
    struct raft_token token = {.sequence = number(command, 2, 0),
                               .generation = number(command, 3, 0),
                               .term = number(command, 4, 0),
                               .last_index = number(command, 5, 0)};
    raft_persisted(replica->raft, &token);
    group_drain(group, replica);
}

static void run_propose(struct group *group, const struct command *command)
{
    struct replica *replica = target(group, command, 1);
    const char *text = word(command, 2);
    struct slice slices[2] = {slice_of(text, 1), slice_of(text + 1, strlen(text) - 1)};
    uint64_t index = 0;
    uint64_t term = 0;
    enum err err = raft_propose(replica->raft, slices, 2, &index, &term);
    print_result(group, err);
    if (err == OK)
        group_print(group, "  proposed %" PRIu64 "/%" PRIu64 "\n", index, term);
    group_drain(group, replica);
}

static void run_read(struct group *group, const struct command *command)
{
    struct replica *replica = target(group, command, 1);
    struct raft_read_ticket ticket;
    enum err err = raft_read(replica->raft, &ticket);
    print_result(group, err);
    if (err == OK)
        group_print(group, "  read %" PRIu64 " index=%" PRIu64 "\n", ticket.number, ticket.index);
    group_drain(group, replica);
}

static void run_change(struct group *group, const struct command *command)
{
    struct replica *replica = target(group, command, 1);
    struct raft_membership membership = parse_membership(command);
    uint64_t index = 0;
    print_result(group, raft_change_membership(replica->raft, &membership, &index));
    group_drain(group, replica);
}

static void run_transfer(struct group *group, const struct command *command)
{
    struct replica *replica = target(group, command, 1);
    print_result(group, raft_transfer_leader(replica->raft, number(command, 2, 0)));
    group_drain(group, replica);
}

static void run_crash(struct group *group, const struct command *command)
{
    group_crash(group, target(group, command, 1), (uint32_t)number(command, 2, 0));
}

static void run_restart(struct group *group, const struct command *command)
{
    group_restart(group, target(group, command, 1));
}

static void run_compact(struct group *group, const struct command *command)
{
    struct replica *replica = target(group, command, 1);
    group_flush_store(replica);
    group_compact(group, replica, number(command, 2, 0));
    group_drain(group, replica);
}

static void run_snapshot(struct group *group, const struct command *command)
{
    const char *arrow = strstr(word(command, 1), "->");
    struct replica *from = group_find(group, strtoull(word(command, 1), NULL, 10));
    struct replica *to = group_find(group, strtoull(arrow + 2, NULL, 10));
    struct store snapshot = from->store;
    uint64_t term = 0;
    print_result(group, raft_term_get(from->raft, snapshot.applied, &term));
    group_print(group, "  install %" PRIu64 "/%" PRIu64 "\n", snapshot.applied, term);
    group_install(group, to, &snapshot, term);
}

static void run_snapshot_failed(struct group *group, const struct command *command)
{
    struct replica *replica = target(group, command, 1);
    raft_snapshot_failed(replica->raft, number(command, 2, 0));
    group_drain(group, replica);
}

static void run_install_pending(struct group *group, const struct command *command)
{
    raft_set_snapshot_pending(target(group, command, 1)->raft, strcmp(word(command, 2), "on") == 0);
}

static void run_repair(struct group *group, const struct command *command)
{
    struct replica *replica = target(group, command, 1);
    raft_set_repair(replica->raft, strcmp(word(command, 2), "off") != 0, number(command, 2, 0));
    group_drain(group, replica);
}

static void run_apply(struct group *group, const struct command *command)
{
    if (strcmp(word(command, 1), "manual") == 0 || strcmp(word(command, 1), "auto") == 0)
        group->manual_apply = strcmp(word(command, 1), "manual") == 0;
    else
        group_apply(group, target(group, command, 1));
}

static void run_load(struct group *group, const struct command *command)
{
    group->manual_load = strcmp(word(command, 1), "manual") == 0;
}

static void run_loaded(struct group *group, const struct command *command)
{
    struct replica *replica = target(group, command, 1);
    raft_entries_loaded(replica->raft, number(command, 2, 0), number(command, 3, 0), NULL, 0);
    group_drain(group, replica);
}

static uint32_t parse_entries(char *text, struct raft_entry *entries, uint32_t max)
{
    uint32_t count = 0;
    char *rest = NULL;
    for (char *item = strtok_r(text, ",", &rest); item != NULL && count < max;
         item = strtok_r(NULL, ",", &rest)) {
        char *colon = strchr(item, ':');
        entries[count++] = (struct raft_entry){.term = strtoull(item, NULL, 10),
                                               .type = RAFT_COMMAND,
                                               .payload = slice_of_text(colon + 1)};
    }
    return count;
}

static void run_inject(struct group *group, const struct command *command)
{
    struct raft_message message = {
        .term = option_number(command, "term"),
        .index = option_number(command, "index"),
        .log_term = option_number(command, "log_term"),
        .commit = option_number(command, "commit"),
        .round = option_number(command, "round"),
        .hint_index = option_number(command, "hint"),
        .hint_term = option_number(command, "hint_term"),
        .reject = option_number(command, "reject") != 0,
        .transfer = option_number(command, "transfer") != 0,
    };
    for (int type = RAFT_PREVOTE; type <= RAFT_TIMEOUT_NOW; type++)
        if (strcmp(message_type_text((enum raft_message_type)type), word(command, 1)) == 0)
            message.type = (enum raft_message_type)type;
    message.from = number(command, 2, 0);
    message.to = strtoull(strstr(word(command, 2), "->") + 2, NULL, 10);
    struct raft_entry entries[8];
    if (option(command, "entries") != NULL) {
        AUTO_STRING text = mem_format("%s", option(command, "entries"));
        message.entry_count = parse_entries(text, entries, 8);
        message.entries = entries;
        print_result(group, group_inject(group, &message));
        return;
    }
    print_result(group, group_inject(group, &message));
}

static void run_status(struct group *group, const struct command *command)
{
    struct replica *replica = target(group, command, 1);
    struct raft_status s;
    raft_status_get(replica->raft, &s);
    group_print(group,
                "  %s term=%" PRIu64 " vote=%" PRIu64 " leader=%" PRIu64 " last=%" PRIu64
                " durable=%" PRIu64 " commit=%" PRIu64 " applied=%" PRIu64 "\n",
                role_text(s.role), s.term, s.vote, s.leader, s.last_index, s.durable_index,
                s.commit_index, s.applied_index);
}

static void run_log(struct group *group, const struct command *command)
{
    struct replica *replica = target(group, command, 1);
    struct raft_status status;
    raft_status_get(replica->raft, &status);
    group_print(group, "  compacted=%" PRIu64 ":", status.compacted_index);
    for (uint64_t i = status.compacted_index + 1; i <= status.last_index; i++) {
        uint64_t term = 0;
        if (raft_term_get(replica->raft, i, &term) == OK)
            group_print(group, " %" PRIu64 "/%" PRIu64, i, term);
    }
    group_print(group, "\n");
}

static void run_progress(struct group *group, const struct command *command)
{
    static const char *const names[] = {"probe", "replicate", "snapshot"};
    struct replica *replica = target(group, command, 1);
    for (uint32_t i = 0; i < group->replica_count; i++) {
        struct raft_progress_status status;
        if (raft_progress_get(replica->raft, group->replicas[i].id, &status) == OK)
            group_print(group,
                        "  %" PRIu64 " %s match=%" PRIu64 " next=%" PRIu64 " inflight=%u%s\n",
                        group->replicas[i].id, names[status.state], status.match, status.next,
                        status.inflight_count, status.active ? "" : " silent");
    }
}

static void run_settle(struct group *group, const struct command *command)
{
    (void)command;
    settle(group);
}

static const struct {
    const char *name;
    void (*run)(struct group *group, const struct command *command);
} verbs[] = {
    {"group", run_group},
    {"add", run_add},
    {"tick", run_tick},
    {"elect", run_elect},
    {"deliver", run_packets},
    {"drop", run_packets},
    {"dup", run_packets},
    {"persist", run_persist},
    {"redurable", run_redurable},
    {"settle", run_settle},
    {"propose", run_propose},
    {"read", run_read},
    {"change", run_change},
    {"transfer", run_transfer},
    {"crash", run_crash},
    {"restart", run_restart},
    {"compact", run_compact},
    {"snapshot", run_snapshot},
    {"repair", run_repair},
    {"snapshot-failed", run_snapshot_failed},
    {"apply", run_apply},
    {"install-pending", run_install_pending},
    {"load", run_load},
    {"load-failed", run_loaded},
    {"inject", run_inject},
    {"status", run_status},
    {"log", run_log},
    {"progress", run_progress},
};

static void run_command(struct group *group, const char *line)
{
    AUTO_STRING text = mem_format("%s", line);
    struct command command = {0};
    char *rest = NULL;
    for (char *item = strtok_r(text, " ", &rest); item != NULL && command.count < WORDS_MAX;
         item = strtok_r(NULL, " ", &rest))
        command.words[command.count++] = item;
    struct bytes *trace = group->trace;
    if (strcmp(word(&command, 0), "quiet") == 0) {
        command.count--;
        memmove(command.words, command.words + 1, command.count * sizeof command.words[0]);
        group->trace = NULL;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(word(&command, 0), verbs[i].name) == 0) {
            verbs[i].run(group, &command);
            group->trace = trace;
            return;
        }
    group_violation(group, "unknown command: %s", line);
}

/* ---- files ---- */

static void read_file(const char *path, struct bytes *out)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char chunk[4096];
    for (size_t n = fread(chunk, 1, sizeof chunk, file); n > 0;
         n = fread(chunk, 1, sizeof chunk, file))
        bytes_append(out, slice_of(chunk, n));
    fclose(file);
    bytes_append_byte(out, 0);
}

/* Does the script print what it holds? */
static bool run_script(const char *path)
{
    AUTO_VALUE(bytes) expected = {.max = SCRIPT_BYTES_MAX};
    AUTO_VALUE(bytes) actual = {.max = SCRIPT_BYTES_MAX};
    read_file(path, &expected);
    AUTO_STRING text = mem_format("%s", (const char *)expected.data);
    struct group *group = mem_new(struct group);
    group->trace = &actual;
    char *rest = NULL;
    for (char *line = text; line != NULL && *line != 0; line = rest) {
        char *end = strchr(line, '\n');
        rest = end == NULL ? NULL : end + 1;
        if (end != NULL)
            *end = 0;
        if (line[0] != '#' && line[0] != '>' && line[0] != 0)
            continue;
        bytes_append_format(&actual, "%s\n", line);
        if (line[0] == '>')
            run_command(group, line + 2);
    }
    group_deinit(group);
    mem_free(group);
    bytes_append_byte(&actual, 0);
    if (getenv("RAFT_SCRIPTS_WRITE") != NULL) {
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        fputs((const char *)actual.data, file);
        fclose(file);
        return true;
    }
    if (strcmp((const char *)actual.data, (const char *)expected.data) == 0)
        return true;
    fprintf(stderr, "%s: output differs, got:\n%s", path, (const char *)actual.data);
    return false;
}

static int is_script(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot != NULL && strcmp(dot, ".txt") == 0;
}

static void every_script_prints_what_it_holds(void **state)
{
    (void)state;
    struct dirent **entries = NULL;
    int count = scandir(RAFT_SCRIPT_DIRECTORY, &entries, is_script, alphasort);
    assert_true(count > 0);
    bool same = true;
    for (int i = 0; i < count; i++) {
        AUTO_STRING path = mem_format("%s/%s", RAFT_SCRIPT_DIRECTORY, entries[i]->d_name);
        same = run_script(path) && same;
        free(entries[i]);
    }
    free(entries);
    assert_true(same);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_script_prints_what_it_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
