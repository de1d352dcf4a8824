/* Entries, commands and results: what is written is read, and nothing else is. */
#include "fixture.h"

FIXTURE_SERVER

static struct block_use uses[2] = {
    {.ref = {.id = {1, 70000}, .hash = {.bytes = {1, 2}}, .bytes = 5, .missing = 3},
     .lease_from = 65536,
     .lease_to = 131072},
    {.ref = {.id = {2, 3}, .bytes = META_BLOCK_BYTES_MAX}, .lease_to = 65536},
};
static struct part_name parts[2] = {{.number = 1, .id = 9}, {.number = 10000, .id = 12}};
static uint64_t positions[2] = {5, UINT64_MAX};

#define KEY SLICE_LITERAL("some/key")
#define ETAG                                                                                       \
    {                                                                                              \
        .kind = CONDITION_ETAG, .etag = {.md5 = {1}, .part_count = 2 }                             \
    }

static const struct {
    const char *name;
    struct command command;
} cases[] = {
    {"open session", {.type = COMMAND_OPEN_SESSION, .session = {.holder = 1, .boot = UINT64_MAX}}},
    {"tick", {.type = COMMAND_TICK, .tick = {.tick_ms = 1}}},
    {"bucket take",
     {.type = COMMAND_BUCKET_TAKE,
      .bucket = {.name = KEY, .owner = KEY, .region = KEY, .id = 1, .attempt = 2, .group = 3}}},
    {"identity",
     {.type = COMMAND_IDENTITY_PUT, .identity = {.access_key = "a", .secret_key = "b", .root = 1}}},
    {"drive", {.type = COMMAND_DRIVE_REGISTER, .drive = {.id = {{1}}, .node_id = 2}}},
    {"standing", {.type = COMMAND_DRIVE_STANDING, .drive = {.id = {{1}}, .standing = DRIVE_LOST}}},
    {"forget", {.type = COMMAND_DRIVE_FORGET, .drive = {.id = {{1}}}}},
    {"repair", {.type = COMMAND_REPAIR_START, .repair = {.volume = 1, .slots = 5}}},
    {"repair done", {.type = COMMAND_REPAIR_DONE, .repair = {.volume = 1, .repair = 7}}},
    {"repair cancel", {.type = COMMAND_REPAIR_CANCEL, .repair = {.volume = 1, .repair = 7}}},
    {"volume",
     {.type = COMMAND_VOLUME_CREATE,
      .volume = {.data_shards = 1, .parity_shards = 1, .slots = {{{1}}, {{2}}}}}},
    {"lease", {.type = COMMAND_LEASE_OPEN, .lease = {.volume = 1, .holder = 2, .boot = 3}}},
    {"put",
     {.type = COMMAND_OBJECT_PUT,
      .put = {.bucket_id = 1,
              .key = KEY,
              .conditions = ETAG,
              .bytes = 7,
              .attributes = KEY,
              .tags = KEY,
              .checksum = {.algorithm = 1, .bytes = 4, .value = {1, 2, 3, 4}},
              .uses = uses,
              .use_count = 2,
              .intent = 4}}},
    {"part put",
     {.type = COMMAND_PART_PUT, .put = {.key = KEY, .upload_id = 3, .part_number = 10000}}},
    {"copy", {.type = COMMAND_OBJECT_COPY, .copy = {.source_key = KEY, .key = KEY}}},
    {"copy with other tags",
     {.type = COMMAND_OBJECT_COPY,
      .copy = {.source_key = KEY, .key = KEY, .replace_tags = true, .tags = KEY}}},
    {"tag", {.type = COMMAND_OBJECT_TAG, .tag = {.bucket_id = 1, .key = KEY, .tags = KEY}}},
    {"no tag", {.type = COMMAND_OBJECT_TAG, .tag = {.bucket_id = 1, .key = KEY}}},
    {"bucket config",
     {.type = COMMAND_BUCKET_CONFIG,
      .config = {.bucket_id = 1, .kind = BUCKET_CONFIG_CORS, .value = KEY}}},
    {"delete",
     {.type = COMMAND_OBJECT_DELETE,
      .delete = {.key = KEY, .conditions = {.modified_ms = 5, .has_bytes = true, .bytes = 6}}}},
    {"upload",
     {.type = COMMAND_UPLOAD_CREATE, .upload = {.key = KEY, .attributes = KEY, .tags = KEY}}},
    {"complete",
     {.type = COMMAND_UPLOAD_COMPLETE,
      .complete = {.key = KEY, .upload_id = 1, .parts = parts, .part_count = 2}}},
    {"stage",
     {.type = COMMAND_BLOCK_STAGE,
      .stage = {.bucket_id = 1, .use = {.ref = {.id = {1, 2}, .bytes = 3}, .lease_to = 9}}}},
    {"intent drop", {.type = COMMAND_INTENT_DROP, .intent = 77}},
    {"intent renew", {.type = COMMAND_INTENT_RENEW, .intent = 77}},
    {"free done", {.type = COMMAND_FREE_DONE, .free_done = {.positions = positions, .count = 2}}},
    {"expand", {.type = COMMAND_EXPAND}},
};

/* Decoding and encoding again gives the same bytes; every shorter input and one byte more are
 * refused. */
static void commands_are_read_as_written(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AUTO_VALUE(bytes) encoded = {.max = ENTRY_BYTES_MAX};
        AUTO_VALUE(bytes) again = {.max = ENTRY_BYTES_MAX};
        assert_int_equal(command_encode(&encoded, &cases[i].command), OK);
        struct command command;
        if (command_decode(bytes_slice(&encoded), &command) != OK)
            fail_msg("%s is not decoded", cases[i].name);
        assert_int_equal(command_encode(&again, &command), OK);
        command_deinit(&command);
        assert_true(slice_equal(bytes_slice(&encoded), bytes_slice(&again)));
        for (size_t cut = 0; cut < encoded.bytes; cut++)
            assert_int_not_equal(command_decode(slice_first(bytes_slice(&encoded), cut), &command),
                                 OK);
        bytes_append_byte(&encoded, 0);
        assert_int_equal(command_decode(bytes_slice(&encoded), &command), ERR_CORRUPT);
    }
}

static void commands_of_later_releases_are_unsupported(void **unused)
{
    (void)unused;
    struct command command;
    assert_int_equal(command_decode(slice_of("\x02\x42", 2), &command), ERR_UNSUPPORTED);
    assert_int_equal(command_decode(slice_of("\x01\x7f", 2), &command), ERR_UNSUPPORTED);
}

static void counts_are_not_believed(void **unused)
{
    (void)unused;
    /* FREE_DONE of 4096 positions in an input that holds none. */
    struct command command;
    assert_int_equal(command_decode(slice_of("\x01\x4c\x80\x20", 4), &command), ERR_CORRUPT);
}

static void an_entry_that_is_not_understood_stops_the_replica(void **unused)
{
    (void)unused;
    AUTO(meta_group) server = server_new();
    struct state_position before = state_position(server->state);
    AUTO_VALUE(bytes) answer = {.max = RESULT_BYTES_MAX};
    const char *const entries[] = {"", "\x01", "\x02\x01\x01\x01\x01\x01\x4d",
                                   "\x01\x01\x01\x01\x01\x01\x7f"};
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
        assert_int_equal(state_apply(the_lane(), server->state, before.index + 1, 1,
                                     slice_of_text(entries[i]), &answer),
                         ERR_UNSUPPORTED);
    struct state_position after = state_position(server->state);
    assert_int_equal(after.index, before.index);
    assert_int_equal(after.hash, before.hash);
}

static void results_are_read_as_written(void **unused)
{
    (void)unused;
    const struct result results[] = {
        {.outcome = RESULT_STALE},
        {.outcome = RESULT_APPLIED, .err = ERR_PRECONDITION},
        {.outcome = RESULT_APPLIED, .kind = RESULT_STAMP, .written = {1, UINT64_MAX}},
        {.outcome = RESULT_APPLIED, .kind = RESULT_DELETED, .deleted = true},
        {.outcome = RESULT_APPLIED,
         .err = ERR_EXISTS,
         .kind = RESULT_BUCKET,
         .bucket = {.state = BUCKET_LIVE, .bucket = {.id = 1, .name = "n", .owner = "o"}}},
        {.outcome = RESULT_APPLIED,
         .kind = RESULT_VOLUME,
         .volume = {.id = 1, .data_shards = 16, .parity_shards = 8}},
        {.outcome = RESULT_APPLIED, .kind = RESULT_LEASE, .lease = {.volume = 1, .to = 65536}},
    };
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++) {
        AUTO_VALUE(bytes) encoded = {.max = RESULT_BYTES_MAX};
        AUTO_VALUE(bytes) again = {.max = RESULT_BYTES_MAX};
        result_encode(&encoded, &results[i]);
        struct result result;
        assert_int_equal(result_decode(bytes_slice(&encoded), &result), OK);
        result_encode(&again, &result);
        assert_true(slice_equal(bytes_slice(&encoded), bytes_slice(&again)));
        assert_int_equal(result.err, results[i].err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_read_as_written),
        cmocka_unit_test(commands_of_later_releases_are_unsupported),
        cmocka_unit_test(counts_are_not_believed),
        cmocka_unit_test(an_entry_that_is_not_understood_stops_the_replica),
        cmocka_unit_test(results_are_read_as_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
