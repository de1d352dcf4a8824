/* Limits, start, log positions, quorums and encoding of one replica. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/encode.h"
#include "base/mem.h"
#include "log.h"
#include "membership.h"
#include "raft/raft.h"
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static const struct raft_membership_at one_voter = {
    .membership = {.voters = {1}, .voter_count = 1}};

static struct raft_config sole_config(void)
{
    return (struct raft_config){
        .replica = 1, .group = 7, .memberships = &one_voter, .membership_count = 1, .seed = 5};
}

/* Make every write durable and everything committed applied; the last committed index. */
static uint64_t run_owner(struct raft *raft)
{
    uint64_t last = 0;
    while (raft_has_output(raft)) {
        struct raft_output output;
        raft_take_output(raft, &output);
        last = output.committed_last > last ? output.committed_last : last;
        if (output.committed_last >= output.committed_first)
            raft_applied(raft, output.committed_last);
        if (output.token.sequence != 0)
            raft_persisted(raft, &output.token);
    }
    return last;
}

static struct raft *new_sole_leader(const struct raft_config *config)
{
    struct raft *raft = NULL;
    assert_int_equal(raft_new(config, &raft), OK);
    raft_tick(raft);
    run_owner(raft);
    assert_int_equal(raft_leader(raft), 1);
    return raft;
}

static enum err propose(struct raft *raft, const void *data, size_t bytes, uint64_t *out_index)
{
    struct slice slice = slice_of(data, bytes);
    uint64_t term = 0;
    return raft_propose(raft, &slice, 1, out_index, &term);
}

/* ---- proposals ---- */

static void hundreds_of_proposals_leave_as_one_write(void **state)
{
    (void)state;
    struct raft_config config = sole_config();
    AUTO(raft) raft = new_sole_leader(&config);
    uint64_t index = 0;
    for (uint32_t i = 0; i < 500; i++)
        assert_int_equal(propose(raft, &i, sizeof i, &index), OK);
    assert_int_equal(index, 501);
    struct raft_output output;
    raft_take_output(raft, &output);
    assert_int_equal(output.message_count, 0);
    assert_int_equal(output.append_first, 2);
    assert_int_equal(output.append_count, 500);
    struct raft_entry entry;
    assert_int_equal(raft_entry_get(raft, 101, &entry), OK);
    assert_int_equal(load_u32(entry.payload.data), 99);
    raft_persisted(raft, &output.token);
    assert_int_equal(run_owner(raft), 501);
    struct raft_status status;
    raft_status_get(raft, &status);
    assert_int_equal(status.uncommitted_bytes, 0);
    assert_int_equal(status.cached_bytes, 0);
}

static void uncommitted_bytes_have_a_limit(void **state)
{
    (void)state;
    struct raft_config config = sole_config();
    config.uncommitted_bytes_max = 3 * (100 + RAFT_ENTRY_OVERHEAD_BYTES);
    AUTO(raft) raft = new_sole_leader(&config);
    uint8_t payload[100] = {0};
    uint64_t index = 0;
    for (int i = 0; i < 3; i++)
        assert_int_equal(propose(raft, payload, sizeof payload, &index), OK);
    assert_int_equal(propose(raft, payload, sizeof payload, &index), ERR_BUSY);
    run_owner(raft);
    assert_int_equal(propose(raft, payload, sizeof payload, &index), OK);
}

static void unapplied_bytes_have_a_limit(void **state)
{
    (void)state;
    struct raft_config config = sole_config();
    config.cache_bytes_max = 200;
    config.uncommitted_bytes_max = 400;
    AUTO(raft) raft = new_sole_leader(&config);
    uint8_t payload[68] = {0};
    uint64_t index = 0;
    struct raft_output output = {0};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(propose(raft, payload, sizeof payload, &index), OK);
        raft_take_output(raft, &output);
        raft_persisted(raft, &output.token);
    }
    assert_int_equal(propose(raft, payload, sizeof payload, &index), ERR_BUSY);
    raft_take_output(raft, &output);
    raft_applied(raft, output.committed_last);
    assert_int_equal(propose(raft, payload, sizeof payload, &index), OK);
}

static void payloads_are_joined_and_limited(void **state)
{
    (void)state;
    struct raft_config config = sole_config();
    AUTO(raft) raft = new_sole_leader(&config);
    struct slice slices[3] = {SLICE_LITERAL("ab"), SLICE_LITERAL(""), SLICE_LITERAL("cd")};
    uint64_t index = 0;
    uint64_t term = 0;
    assert_int_equal(raft_propose(raft, slices, 3, &index, &term), OK);
    struct raft_entry entry;
    assert_int_equal(raft_entry_get(raft, index, &entry), OK);
    assert_true(slice_equal_text(entry.payload, "abcd"));
    uint8_t *large = mem_alloc(RAFT_PAYLOAD_BYTES_MAX + 1);
    assert_int_equal(propose(raft, large, RAFT_PAYLOAD_BYTES_MAX + 1, &index), ERR_LIMIT);
    assert_int_equal(propose(raft, large, RAFT_PAYLOAD_BYTES_MAX, &index), OK);
    mem_free(large);
}

/* ---- start ---- */

static void contradictions_on_disk_are_refused(void **state)
{
    (void)state;
    static const struct raft_term_run good[] = {{1, 1}, {4, 2}};
    static const struct raft_term_run falling[] = {{1, 2}, {4, 1}};
    static const struct raft_term_run late[] = {{4, 3}};
    static const struct raft_term_run gap[] = {{2, 1}};
    static const struct raft_term_run beyond[] = {{1, 1}, {9, 2}};
    const struct {
        const char *name;
        struct raft_log_view log;
        struct raft_hard_state hard_state;
        uint64_t applied;
        enum err err;
    } cases[] = {
        {"good", {0, 0, 5, good, 2}, {2, 0, 3}, 2, OK},
        {"applied beyond the log", {0, 0, 5, good, 2}, {2, 0, 3}, 6, ERR_CORRUPT},
        {"commit beyond the log", {0, 0, 5, good, 2}, {2, 0, 6}, 2, ERR_CORRUPT},
        {"log beyond the hard state", {0, 0, 5, good, 2}, {1, 0, 3}, 2, ERR_CORRUPT},
        {"applied below the log", {5, 2, 5, NULL, 0}, {2, 0, 5}, 4, ERR_CORRUPT},
        {"snapshot of a later term", {5, 3, 5, NULL, 0}, {2, 1, 5}, 5, OK},
        {"entries of a later term", {3, 1, 5, late, 1}, {2, 1, 5}, 5, ERR_CORRUPT},
        {"empty after compaction", {5, 2, 5, NULL, 0}, {2, 0, 5}, 5, OK},
        {"ends below its start", {5, 2, 4, NULL, 0}, {2, 0, 0}, 4, ERR_CORRUPT},
        {"terms fall", {0, 0, 5, falling, 2}, {2, 0, 3}, 2, ERR_CORRUPT},
        {"terms start late", {0, 0, 5, gap, 1}, {2, 0, 3}, 2, ERR_CORRUPT},
        {"terms beyond the end", {0, 0, 5, beyond, 2}, {2, 0, 3}, 2, ERR_CORRUPT},
        {"entries without terms", {0, 0, 5, NULL, 0}, {2, 0, 3}, 2, ERR_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct raft_config config = sole_config();
        config.log = cases[i].log;
        config.hard_state = cases[i].hard_state;
        config.applied_index = cases[i].applied;
        AUTO(raft) raft = NULL;
        enum err err = raft_new(&config, &raft);
        if (err != cases[i].err)
            print_error("%s\n", cases[i].name);
        assert_int_equal(err, cases[i].err);
    }
}

static void terms_are_known_inside_the_log_only(void **state)
{
    (void)state;
    static const struct raft_term_run runs[] = {{4, 3}, {6, 5}};
    struct raft_config config = sole_config();
    config.log = (struct raft_log_view){3, 2, 7, runs, 2};
    config.hard_state = (struct raft_hard_state){.term = 5, .commit = 6};
    config.applied_index = 4;
    AUTO(raft) raft = NULL;
    assert_int_equal(raft_new(&config, &raft), OK);
    static const struct {
        uint64_t index;
        enum err err;
        uint64_t term;
    } cases[] = {
        {0, ERR_COMPACTED, 0},
        {2, ERR_COMPACTED, 0},
        {3, OK, 2},
        {4, OK, 3},
        {5, OK, 3},
        {6, OK, 5},
        {7, OK, 5},
        {8, ERR_NOT_FOUND, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t term = 0;
        assert_int_equal(raft_term_get(raft, cases[i].index, &term), cases[i].err);
        assert_int_equal(term, cases[i].term);
    }
    /* Committed before the restart: to be applied from the owner's log, not from memory. */
    struct raft_output output;
    raft_take_output(raft, &output);
    assert_int_equal(output.committed_first, 5);
    assert_int_equal(output.committed_last, 6);
    struct raft_entry entry;
    assert_int_equal(raft_entry_get(raft, 5, &entry), ERR_WOULD_BLOCK);
    assert_int_equal(raft_entry_get(raft, 3, &entry), ERR_COMPACTED);
}

static void log_finds_the_last_place_of_a_term(void **state)
{
    (void)state;
    static const struct raft_term_run runs[] = {{3, 2}, {5, 4}, {8, 7}};
    struct raft_config config = sole_config();
    config.log = (struct raft_log_view){2, 1, 9, runs, 3};
    config.hard_state = (struct raft_hard_state){.term = 7, .commit = 2};
    config.applied_index = 2;
    struct raft_log log;
    assert_int_equal(raft_log_init(&log, &config), OK);
    static const struct {
        uint64_t index, term, found;
    } cases[] = {{9, 7, 9}, {20, 9, 9}, {9, 6, 7}, {9, 3, 4},
                 {6, 4, 6}, {9, 1, 2},  {9, 0, 2}, {1, 5, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(raft_log_find_conflict(&log, cases[i].index, cases[i].term),
                         cases[i].found);
    raft_log_truncate(&log, 8);
    assert_int_equal(raft_log_last_term(&log), 4);
    raft_log_compact(&log, 6);
    uint64_t term = 0;
    assert_int_equal(raft_log_term(&log, 7, &term), OK);
    assert_int_equal(term, 4);
    raft_log_append(&log, 9, RAFT_COMMAND, mem_copy("x", 1), 1);
    assert_int_equal(raft_log_last_term(&log), 9);
    raft_log_compact(&log, 8);
    assert_int_equal(log.run_count, 0);
    assert_int_equal(raft_log_last_term(&log), 9);
    raft_log_deinit(&log);
}

/* ---- quorums ---- */

static uint64_t match_by_id(const void *context, uint64_t id)
{
    const uint64_t *matches = context;
    return matches[id];
}

static void quorums_need_a_majority_of_each_part(void **state)
{
    (void)state;
    static const struct {
        struct raft_membership membership;
        uint64_t ids[9];
        uint32_t id_count;
        bool quorum;
    } cases[] = {
        {{.voters = {1}, .voter_count = 1}, {1}, 1, true},
        {{.voters = {1}, .voter_count = 1}, {2}, 1, false},
        {{.voters = {1, 2}, .voter_count = 2}, {1}, 1, false},
        {{.voters = {1, 2, 3}, .voter_count = 3}, {1, 3}, 2, true},
        {{.voters = {1, 2, 3, 4}, .voter_count = 4}, {1, 3}, 2, false},
        {{.voters = {1, 2, 3}, .voter_count = 3, .learners = {4}, .learner_count = 1},
         {1, 4},
         2,
         false},
        {{.voters = {1, 4, 5}, .voter_count = 3, .old_voters = {1, 2, 3}, .old_voter_count = 3},
         {1, 4, 5},
         3,
         false},
        {{.voters = {1, 4, 5}, .voter_count = 3, .old_voters = {1, 2, 3}, .old_voter_count = 3},
         {1, 2, 3},
         3,
         false},
        {{.voters = {1, 4, 5}, .voter_count = 3, .old_voters = {1, 2, 3}, .old_voter_count = 3},
         {1, 2, 4},
         3,
         true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t matches[10] = {0};
        for (uint32_t j = 0; j < cases[i].id_count; j++)
            matches[cases[i].ids[j]] = 8;
        assert_int_equal(
            raft_membership_quorum(&cases[i].membership, cases[i].ids, cases[i].id_count),
            cases[i].quorum);
        assert_int_equal(raft_membership_committed(&cases[i].membership, match_by_id, matches),
                         cases[i].quorum ? 8 : 0);
    }
}

/* ---- encoding ---- */

static void memberships_survive_encoding(void **state)
{
    (void)state;
    struct raft_membership membership = {.voters = {1, UINT64_MAX, 3},
                                         .voter_count = 3,
                                         .old_voters = {9, 8},
                                         .old_voter_count = 2,
                                         .learners = {8, 7},
                                         .learner_count = 2};
    AUTO_VALUE(bytes) encoded = {.max = 1024};
    raft_membership_encode(&encoded, &membership);
    struct raft_membership decoded;
    assert_int_equal(raft_membership_decode(bytes_slice(&encoded), &decoded), OK);
    assert_memory_equal(&decoded, &membership, sizeof decoded);
    for (size_t i = 0; i < encoded.bytes; i++)
        assert_int_not_equal(
            raft_membership_decode(slice_first(bytes_slice(&encoded), i), &decoded), OK);
    encoded.data[0] = 9;
    assert_int_equal(raft_membership_decode(bytes_slice(&encoded), &decoded), ERR_UNSUPPORTED);
}

static void impossible_memberships_are_refused(void **state)
{
    (void)state;
    static const uint8_t cases[][20] = {
        {1, 0, 0, 0},                            /* no voter */
        {1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},    /* id 0 */
        {1, 10},                                 /* too many */
        {1, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, /* trailing byte */
    };
    static const size_t lengths[] = {4, 12, 2, 13};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct raft_membership membership;
        assert_int_equal(raft_membership_decode(slice_of(cases[i], lengths[i]), &membership),
                         ERR_CORRUPT);
    }
}

static struct raft_message sample_message(const struct raft_entry *entries)
{
    return (struct raft_message){.type = RAFT_APPEND,
                                 .transfer = true,
                                 .repair = true,
                                 .group = 7,
                                 .from = 1,
                                 .to = UINT64_MAX,
                                 .term = 300,
                                 .index = 1ull << 40,
                                 .log_term = 299,
                                 .commit = 5,
                                 .round = 6,
                                 .hint_index = 7,
                                 .hint_term = 8,
                                 .entries = entries,
                                 .entry_count = 3};
}

static void messages_survive_encoding(void **state)
{
    (void)state;
    struct raft_entry entries[3] = {
        {.term = 299, .type = RAFT_NOOP},
        {.term = 300, .type = RAFT_COMMAND, .payload = SLICE_LITERAL("hello")},
        {.term = 300, .type = RAFT_MEMBERSHIP, .payload = SLICE_LITERAL("x")},
    };
    struct raft_message message = sample_message(entries);
    AUTO_VALUE(bytes) encoded = {.max = 4096};
    raft_message_encode(&encoded, &message);
    AUTO_VALUE(raft_entries) storage = {0};
    struct raft_message decoded;
    assert_int_equal(raft_message_decode(bytes_slice(&encoded), &storage, &decoded), OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(decoded.entries[i].term, entries[i].term);
        assert_int_equal(decoded.entries[i].type, entries[i].type);
        assert_true(slice_equal(decoded.entries[i].payload, entries[i].payload));
    }
    AUTO_VALUE(bytes) again = {.max = 4096};
    raft_message_encode(&again, &decoded);
    assert_true(slice_equal(bytes_slice(&again), bytes_slice(&encoded)));
}

/* Whatever arrives, the decoder refuses it or gives a message that the replica survives. */
static void damaged_messages_are_refused_or_harmless(void **state)
{
    (void)state;
    struct raft_entry entries[3] = {
        {.term = 299, .type = RAFT_NOOP},
        {.term = 300, .type = RAFT_COMMAND, .payload = SLICE_LITERAL("hello")},
        {.term = 300, .type = RAFT_COMMAND, .payload = SLICE_LITERAL("x")},
    };
    struct raft_message message = sample_message(entries);
    message.to = 1;
    message.from = 2;
    message.index = 0;
    message.log_term = 0;
    AUTO_VALUE(bytes) encoded = {.max = 4096};
    raft_message_encode(&encoded, &message);
    AUTO_VALUE(raft_entries) storage = {0};
    struct raft_message decoded;
    for (size_t i = 0; i < encoded.bytes; i++)
        assert_int_not_equal(
            raft_message_decode(slice_first(bytes_slice(&encoded), i), &storage, &decoded), OK);
    struct raft_config config = sole_config();
    AUTO(raft) raft = NULL;
    assert_int_equal(raft_new(&config, &raft), OK);
    uint32_t accepted = 0;
    for (size_t i = 0; i < encoded.bytes; i++) {
        for (int bit = 0; bit < 8; bit++) {
            AUTO_VALUE(bytes) damaged = {.max = 4096};
            bytes_append(&damaged, bytes_slice(&encoded));
            damaged.data[i] ^= (uint8_t)(1 << bit);
            if (raft_message_decode(bytes_slice(&damaged), &storage, &decoded) != OK)
                continue;
            accepted += raft_receive(raft, &decoded) == OK;
            run_owner(raft);
        }
    }
    assert_true(accepted > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hundreds_of_proposals_leave_as_one_write),
        cmocka_unit_test(uncommitted_bytes_have_a_limit),
        cmocka_unit_test(unapplied_bytes_have_a_limit),
        cmocka_unit_test(payloads_are_joined_and_limited),
        cmocka_unit_test(contradictions_on_disk_are_refused),
        cmocka_unit_test(terms_are_known_inside_the_log_only),
        cmocka_unit_test(log_finds_the_last_place_of_a_term),
        cmocka_unit_test(quorums_need_a_majority_of_each_part),
        cmocka_unit_test(memberships_survive_encoding),
        cmocka_unit_test(impossible_memberships_are_refused),
        cmocka_unit_test(messages_survive_encoding),
        cmocka_unit_test(damaged_messages_are_refused_or_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
