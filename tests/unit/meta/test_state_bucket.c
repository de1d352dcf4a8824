/* Buckets, identities, volumes: sequences of entries that may stop anywhere and interleave. */
#include "fixture.h"

FIXTURE_SERVER

#define NAME SLICE_LITERAL("other")

static struct result step(struct world *world, enum command_type type, uint64_t id,
                          uint64_t attempt)
{
    struct meta_group *server = world->server;
    struct command command = {.type = type,
                              .bucket = {.name = NAME, .id = id, .attempt = attempt, .group = 1}};
    server->sequence++;
    struct entry_header header = {.wall_ms = server->wall_ms,
                                  .session = server->session,
                                  .sequence = server->sequence,
                                  .done_below = server->sequence};
    return server_entry(server, &header, &command);
}

static enum err put_inline(struct world *world, uint64_t bucket_id, const char *key)
{
    struct object_put put = {.bucket_id = bucket_id, .key = slice_of_text(key)};
    struct object_written written;
    return meta_object_put(NULL, world->client, &put, &written);
}

static enum err find(struct world *world)
{
    struct bucket bucket;
    return meta_bucket_find(NULL, world->client, NAME, &bucket);
}

static void remove_key(struct world *world, uint64_t bucket_id, const char *key)
{
    bool deleted = false;
    struct write_conditions none = {0};
    assert_int_equal(
        meta_object_delete(NULL, world->client, bucket_id, slice_of_text(key), &none, &deleted),
        OK);
}

static void a_half_made_bucket_is_finished_by_the_next_create(void **unused)
{
    (void)unused;
    for (unsigned steps = 1; steps <= 2; steps++) {
        struct world world;
        world_init(&world);
        struct result taken = step(&world, COMMAND_BUCKET_TAKE, 0, 0);
        if (steps == 2)
            (void)step(&world, COMMAND_BUCKET_OPEN, taken.bucket.bucket.id, 0);
        assert_int_equal(find(&world), ERR_NOT_FOUND);
        struct bucket bucket;
        assert_int_equal(meta_bucket_create(NULL, world.client, NAME, SLICE_LITERAL("o"),
                                            SLICE_LITERAL(""), &bucket),
                         ERR_EXISTS);
        assert_int_equal(bucket.id, taken.bucket.bucket.id);
        assert_int_equal(find(&world), OK);
        assert_int_equal(put_inline(&world, bucket.id, "k"), OK);
        world_deinit(&world);
    }
}

/* Where a deletion stopped: after how many of its steps. */
static void a_half_done_deletion_is_finished_by_who_meets_it(void **unused)
{
    (void)unused;
    for (unsigned steps = 1; steps <= 2; steps++) {
        for (unsigned by_create = 0; by_create < 2; by_create++) {
            struct world world;
            world_init(&world);
            struct bucket bucket;
            assert_int_equal(meta_bucket_create(NULL, world.client, NAME, SLICE_LITERAL("o"),
                                                SLICE_LITERAL(""), &bucket),
                             OK);
            struct result marked = step(&world, COMMAND_BUCKET_MARK, 0, 0);
            if (steps == 2)
                assert_int_equal(
                    step(&world, COMMAND_BUCKET_CLOSE, bucket.id, marked.bucket.attempt).err, OK);
            if (by_create == 1) {
                struct bucket again;
                assert_int_equal(meta_bucket_create(NULL, world.client, NAME, SLICE_LITERAL("o"),
                                                    SLICE_LITERAL(""), &again),
                                 OK);
                assert_int_not_equal(again.id, bucket.id);
            } else {
                assert_int_equal(find(&world), ERR_NOT_FOUND);
            }
            assert_int_equal(put_inline(&world, bucket.id, "k"), ERR_NOT_FOUND);
            world_deinit(&world);
        }
    }
}

static void a_bucket_with_objects_comes_back_to_life(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct bucket bucket;
    assert_int_equal(meta_bucket_create(NULL, world.client, NAME, SLICE_LITERAL("o"),
                                        SLICE_LITERAL(""), &bucket),
                     OK);
    assert_int_equal(put_inline(&world, bucket.id, "k"), OK);
    (void)step(&world, COMMAND_BUCKET_MARK, 0, 0); /* and its deleter died */
    assert_int_equal(find(&world), OK);
    assert_int_equal(meta_bucket_delete(NULL, world.client, NAME), ERR_NOT_EMPTY);
    assert_int_equal(put_inline(&world, bucket.id, "k2"), OK);
    world_deinit(&world);
}

/* A marks, B marks and finds an object, the object goes, A's late CLOSE must not close what B
 * brings back to life. */
static void a_late_close_is_refused_after_a_later_attempt(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct bucket bucket;
    assert_int_equal(meta_bucket_create(NULL, world.client, NAME, SLICE_LITERAL("o"),
                                        SLICE_LITERAL(""), &bucket),
                     OK);
    assert_int_equal(put_inline(&world, bucket.id, "k"), OK);
    uint64_t a = step(&world, COMMAND_BUCKET_MARK, 0, 0).bucket.attempt;
    uint64_t b = step(&world, COMMAND_BUCKET_MARK, 0, 0).bucket.attempt;
    assert_int_equal(step(&world, COMMAND_BUCKET_CLOSE, bucket.id, b).err, ERR_NOT_EMPTY);
    remove_key(&world, bucket.id, "k");
    assert_int_equal(step(&world, COMMAND_BUCKET_CLOSE, bucket.id, a).err, ERR_STALE);
    assert_int_equal(step(&world, COMMAND_BUCKET_SETTLE, bucket.id, b).err, OK);
    assert_int_equal(put_inline(&world, bucket.id, "k"), OK);
    assert_int_equal(find(&world), OK);
    world_deinit(&world);
}

/* A's mark is not the last: A may not bring it back while B deletes. */
static void only_the_last_attempt_settles(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct bucket bucket;
    assert_int_equal(meta_bucket_create(NULL, world.client, NAME, SLICE_LITERAL("o"),
                                        SLICE_LITERAL(""), &bucket),
                     OK);
    assert_int_equal(put_inline(&world, bucket.id, "k"), OK);
    uint64_t a = step(&world, COMMAND_BUCKET_MARK, 0, 0).bucket.attempt;
    assert_int_equal(step(&world, COMMAND_BUCKET_CLOSE, bucket.id, a).err, ERR_NOT_EMPTY);
    uint64_t b = step(&world, COMMAND_BUCKET_MARK, 0, 0).bucket.attempt;
    remove_key(&world, bucket.id, "k");
    assert_int_equal(step(&world, COMMAND_BUCKET_CLOSE, bucket.id, b).err, OK);
    assert_int_equal(step(&world, COMMAND_BUCKET_SETTLE, bucket.id, a).err, OK);
    assert_int_equal(find(&world), ERR_NOT_FOUND);
    assert_int_equal(step(&world, COMMAND_BUCKET_FORGET, bucket.id, b).err, OK);
    world_deinit(&world);
}

static void a_late_open_does_not_revive_a_deleted_bucket(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct bucket bucket;
    assert_int_equal(meta_bucket_create(NULL, world.client, NAME, SLICE_LITERAL("o"),
                                        SLICE_LITERAL(""), &bucket),
                     OK);
    assert_int_equal(meta_bucket_delete(NULL, world.client, NAME), OK);
    assert_int_equal(step(&world, COMMAND_BUCKET_OPEN, bucket.id, 0).err, ERR_NOT_FOUND);
    assert_int_equal(put_inline(&world, bucket.id, "k"), ERR_NOT_FOUND);
    assert_int_equal(meta_bucket_delete(NULL, world.client, NAME), ERR_NOT_FOUND);
    world_deinit(&world);
}

static void a_closed_bucket_refuses_what_it_took_before(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct result taken = step(&world, COMMAND_BUCKET_TAKE, 0, 0);
    uint64_t id = taken.bucket.bucket.id;
    assert_int_equal(step(&world, COMMAND_BUCKET_OPEN, id, 0).err, OK);
    assert_int_equal(put_inline(&world, id, "k"), OK);
    assert_int_equal(step(&world, COMMAND_BUCKET_CLOSE, id, 1).err, ERR_NOT_EMPTY);
    assert_int_equal(put_inline(&world, id, "k"), OK);
    remove_key(&world, id, "k");
    assert_int_equal(step(&world, COMMAND_BUCKET_CLOSE, id, 1).err, OK);
    assert_int_equal(put_inline(&world, id, "k"), ERR_NOT_FOUND);
    world_deinit(&world);
}

static void buckets_are_listed_in_order_by_prefix(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    const char *const names[] = {"b-2", "a", "b-1", "b", "c"};
    struct bucket bucket;
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(meta_bucket_create(NULL, world.client, slice_of_text(names[i]),
                                            SLICE_LITERAL("o"), SLICE_LITERAL("r"), &bucket),
                         OK);
    static const struct {
        const char *prefix, *after, *expected;
        uint32_t max;
        bool truncated;
    } cases[] = {
        {"", "", "a b b-1 b-2 bucket c ", 10, false},
        {"b", "", "b b-1 ", 2, true},
        {"b-", "", "b-1 b-2 ", 2, false},
        {"b", "b", "b-1 b-2 bucket ", 10, false},
        {"b", "b-1", "b-2 ", 1, true},
        {"b", "a", "b b-1 b-2 bucket ", 10, false},
        {"b", "c", "", 10, false},
        {"x", "", "", 10, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AUTO(bucket_page) page = NULL;
        assert_int_equal(meta_bucket_list(NULL, world.client, slice_of_text(cases[i].prefix),
                                          slice_of_text(cases[i].after), cases[i].max, &page),
                         OK);
        char names_found[256] = "";
        for (uint32_t j = 0; j < page->count; j++) {
            strcat(names_found, page->buckets[j].name);
            strcat(names_found, " ");
        }
        assert_string_equal(names_found, cases[i].expected);
        assert_int_equal(page->truncated, cases[i].truncated);
    }
    world_deinit(&world);
}

static void the_root_identity_moves_and_the_former_one_ends(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct identity found;
    assert_int_equal(meta_identity_root(NULL, world.client, &found), ERR_NOT_FOUND);
    struct identity first = {.access_key = "first", .secret_key = "one", .root = true};
    struct identity user = {.access_key = "user", .secret_key = "two"};
    struct identity second = {.access_key = "second", .secret_key = "three", .root = true};
    assert_int_equal(meta_identity_put(NULL, world.client, &first), OK);
    assert_int_equal(meta_identity_put(NULL, world.client, &user), OK);
    assert_int_equal(meta_identity_find(NULL, world.client, SLICE_LITERAL("first"), &found), OK);
    assert_true(found.root);
    assert_string_equal(found.secret_key, "one");
    assert_int_equal(meta_identity_put(NULL, world.client, &second), OK);
    assert_int_equal(meta_identity_root(NULL, world.client, &found), OK);
    assert_string_equal(found.access_key, "second");
    assert_int_equal(meta_identity_find(NULL, world.client, SLICE_LITERAL("first"), &found),
                     ERR_NOT_FOUND);
    assert_int_equal(meta_identity_find(NULL, world.client, SLICE_LITERAL("user"), &found), OK);
    assert_false(found.root);
    world_deinit(&world);
}

static void volumes_stand_on_known_distinct_drives(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct volume volume;
    struct drive_id twice[2] = {drive_of(1), drive_of(1)};
    struct drive_id unknown[2] = {drive_of(1), drive_of(9)};
    assert_int_equal(meta_volume_create(NULL, world.client, 1, 1, twice, &volume), ERR_INVALID);
    assert_int_equal(meta_volume_create(NULL, world.client, 2, 0, unknown, &volume), ERR_INVALID);
    assert_int_equal(meta_volume_create(NULL, world.client, 0, 2, unknown, &volume), ERR_INVALID);
    AUTO(volume_page) page = NULL;
    assert_int_equal(meta_volume_list(NULL, world.client, &page), OK);
    assert_int_equal(page->count, 1);
    assert_int_equal(page->volumes[0].id, world.volume.id);
    assert_memory_equal(page->volumes[0].slots, world.volume.slots, sizeof world.volume.slots);
    world_deinit(&world);
}

static enum err config_find(struct world *world, uint64_t bucket_id, enum bucket_config_kind kind,
                            const char *expected)
{
    AUTO_VALUE(bytes) value = {.max = META_BUCKET_CONFIG_BYTES_MAX};
    TRY(meta_bucket_config_find(NULL, world->client, bucket_id, kind, &value));
    assert_true(slice_equal_text(bytes_slice(&value), expected));
    return OK;
}

static void each_kind_of_configuration_stands_alone_and_ends_with_the_bucket(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct bucket bucket;
    assert_int_equal(meta_bucket_create(NULL, world.client, NAME, SLICE_LITERAL("o"),
                                        SLICE_LITERAL(""), &bucket),
                     OK);
    const struct {
        enum bucket_config_kind kind;
        const char *value;
        const char *tags, *cors; /* NULL: not set */
    } cases[] = {
        {BUCKET_CONFIG_TAGS, "", NULL, NULL},   {BUCKET_CONFIG_TAGS, "t", "t", NULL},
        {BUCKET_CONFIG_CORS, "c", "t", "c"},    {BUCKET_CONFIG_TAGS, "", NULL, "c"},
        {BUCKET_CONFIG_CORS, "cc", NULL, "cc"}, {BUCKET_CONFIG_TAGS, "tt", "tt", "cc"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(meta_bucket_config_put(NULL, world.client, bucket.id, cases[i].kind,
                                                slice_of_text(cases[i].value)),
                         OK);
        assert_int_equal(config_find(&world, bucket.id, BUCKET_CONFIG_TAGS, cases[i].tags),
                         cases[i].tags == NULL ? ERR_NOT_FOUND : OK);
        assert_int_equal(config_find(&world, bucket.id, BUCKET_CONFIG_CORS, cases[i].cors),
                         cases[i].cors == NULL ? ERR_NOT_FOUND : OK);
        assert_int_equal(config_find(&world, world.bucket_id, BUCKET_CONFIG_CORS, NULL),
                         ERR_NOT_FOUND);
    }
    assert_int_equal(meta_bucket_delete(NULL, world.client, NAME), OK);
    assert_int_equal(config_find(&world, bucket.id, BUCKET_CONFIG_TAGS, NULL), ERR_NOT_FOUND);
    assert_int_equal(config_find(&world, bucket.id, BUCKET_CONFIG_CORS, NULL), ERR_NOT_FOUND);
    assert_int_equal(
        meta_bucket_config_put(NULL, world.client, bucket.id, BUCKET_CONFIG_TAGS, NAME),
        ERR_NOT_FOUND);
    world_deinit(&world);
}

static void the_largest_configuration_fits_a_row(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    static char value[META_BUCKET_CONFIG_BYTES_MAX + 2];
    memset(value, 'v', META_BUCKET_CONFIG_BYTES_MAX);
    assert_int_equal(meta_bucket_config_put(NULL, world.client, world.bucket_id, BUCKET_CONFIG_CORS,
                                            slice_of_text(value)),
                     OK);
    assert_int_equal(config_find(&world, world.bucket_id, BUCKET_CONFIG_CORS, value), OK);
    value[META_BUCKET_CONFIG_BYTES_MAX] = 'v';
    assert_int_equal(meta_bucket_config_put(NULL, world.client, world.bucket_id, BUCKET_CONFIG_CORS,
                                            slice_of_text(value)),
                     ERR_LIMIT);
    world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_half_made_bucket_is_finished_by_the_next_create),
        cmocka_unit_test(a_half_done_deletion_is_finished_by_who_meets_it),
        cmocka_unit_test(a_bucket_with_objects_comes_back_to_life),
        cmocka_unit_test(a_late_close_is_refused_after_a_later_attempt),
        cmocka_unit_test(only_the_last_attempt_settles),
        cmocka_unit_test(a_late_open_does_not_revive_a_deleted_bucket),
        cmocka_unit_test(a_closed_bucket_refuses_what_it_took_before),
        cmocka_unit_test(buckets_are_listed_in_order_by_prefix),
        cmocka_unit_test(the_root_identity_moves_and_the_former_one_ends),
        cmocka_unit_test(volumes_stand_on_known_distinct_drives),
        cmocka_unit_test(each_kind_of_configuration_stands_alone_and_ends_with_the_bucket),
        cmocka_unit_test(the_largest_configuration_fits_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
