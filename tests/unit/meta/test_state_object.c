/* Versions and blocks: conditions, shapes of a put, copies, leases. */
#include "fixture.h"

FIXTURE_SERVER

#define KEY SLICE_LITERAL("key")

static enum err put_blocks(struct world *world, const char *key, const struct block_ref *refs,
                           const struct lease *leases, uint32_t count, uint64_t intent)
{
    struct object_put put = {.bucket_id = world->bucket_id,
                             .key = slice_of_text(key),
                             .blocks = refs,
                             .leases = leases,
                             .block_count = count,
                             .intent = intent};
    for (uint32_t i = 0; i < count; i++)
        put.bytes += refs[i].bytes;
    struct object_written written;
    return meta_object_put(NULL, world->client, &put, &written);
}

static struct object_written put_inline(struct world *world, const char *key, const char *text)
{
    struct object_put put = {.bucket_id = world->bucket_id,
                             .key = slice_of_text(key),
                             .bytes = strlen(text),
                             .etag = {.md5 = {(uint8_t)text[0]}},
                             .inline_bytes = slice_of_text(text),
                             .attributes = SLICE_LITERAL("attributes")};
    struct object_written written;
    assert_int_equal(meta_object_put(NULL, world->client, &put, &written), OK);
    return written;
}

static enum block_status status_of(struct world *world, struct block_id id)
{
    enum block_status status;
    assert_int_equal(meta_block_status(NULL, world->client, &id, 1, &status), OK);
    return status;
}

static uint32_t free_count(struct world *world)
{
    AUTO(free_page) page = NULL;
    assert_int_equal(meta_free_list(NULL, world->client, 0, UINT32_MAX, &page), OK);
    return page->count;
}

static struct applied_row applied_row(struct world *world)
{
    struct row_key key = row_key_table(TABLE_APPLIED);
    AUTO_VALUE(bytes) value = {.max = KV_VALUE_BYTES_MAX};
    assert_int_equal(kv_get(the_lane(), world->server->kv, row_key_slice(&key), &value), OK);
    struct applied_row row;
    assert_int_equal(applied_row_decode(bytes_slice(&value), &row), OK);
    return row;
}

static void conditions_are_judged_against_the_current_version(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct object_written written = put_inline(&world, "key", "x");
    const struct {
        const char *name, *key;
        struct write_conditions conditions;
        enum err expected;
    } cases[] = {
        {"absent, missing", "none", {.kind = CONDITION_ABSENT}, OK},
        {"absent, there", "key", {.kind = CONDITION_ABSENT}, ERR_PRECONDITION},
        {"present, missing", "none", {.kind = CONDITION_PRESENT}, ERR_NOT_FOUND},
        {"present, there", "key", {.kind = CONDITION_PRESENT}, OK},
        {"etag, missing", "none", {.kind = CONDITION_ETAG, .etag = {{'x'}, 0}}, ERR_NOT_FOUND},
        {"etag, same", "key", {.kind = CONDITION_ETAG, .etag = {{'x'}, 0}}, OK},
        {"etag, other", "key", {.kind = CONDITION_ETAG, .etag = {{'y'}, 0}}, ERR_PRECONDITION},
        {"etag, of parts", "key", {.kind = CONDITION_ETAG, .etag = {{'x'}, 1}}, ERR_PRECONDITION},
        {"etag, absurd", "key", {.kind = CONDITION_ETAG, .etag = {{'x'}, 99999}}, ERR_PRECONDITION},
        {"stamp, same", "key", {.kind = CONDITION_STAMP, .stamp = written.stamp}, OK},
        {"stamp, other",
         "key",
         {.kind = CONDITION_STAMP, .stamp = written.stamp + 1},
         ERR_PRECONDITION},
        {"time, same second", "key", {.modified_ms = written.modified_ms / 1000 * 1000}, OK},
        {"time, other", "key", {.modified_ms = written.modified_ms + 1000}, ERR_PRECONDITION},
        {"time, missing", "none", {.modified_ms = 1}, ERR_NOT_FOUND},
        {"bytes, same", "key", {.has_bytes = true, .bytes = 1}, OK},
        {"bytes, other", "key", {.has_bytes = true, .bytes = 2}, ERR_PRECONDITION},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool deleted = false;
        enum err err =
            meta_object_delete(NULL, world.client, world.bucket_id, slice_of_text(cases[i].key),
                               &cases[i].conditions, &deleted);
        if (err != cases[i].expected)
            fail_msg("%s: %s", cases[i].name, err_text(err));
        assert_int_equal(deleted, err == OK && cases[i].key[0] == 'k');
        if (deleted) { /* the same again, for the next case */
            world_deinit(&world);
            world_init(&world);
            struct object_written again = put_inline(&world, "key", "x");
            assert_int_equal(again.stamp, written.stamp);
            assert_int_equal(again.modified_ms, written.modified_ms);
        }
    }
    world_deinit(&world);
}

static void puts_that_contradict_themselves_are_refused(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct block_ref block = block_next(&world, 10);
    struct block_ref twice[2] = {block, block};
    struct block_ref empty = block;
    empty.bytes = 0;
    struct lease leases[2] = {world.lease, world.lease};
    static const uint8_t long_key[META_KEY_BYTES_MAX + 1] = {1};
    const struct {
        const char *name;
        struct object_put put;
        enum err expected;
    } cases[] = {
        {"no key", {.key = SLICE_LITERAL("")}, ERR_INVALID},
        {"NUL in the key", {.key = SLICE_LITERAL("a\0b")}, ERR_INVALID},
        {"long key", {.key = slice_of(long_key, sizeof long_key)}, ERR_INVALID},
        {"bytes without contents", {.key = KEY, .bytes = 1}, ERR_INVALID},
        {"fewer bytes", {.key = KEY, .bytes = 1, .inline_bytes = SLICE_LITERAL("ab")}, ERR_INVALID},
        {"bytes and blocks",
         {.key = KEY,
          .bytes = 11,
          .inline_bytes = SLICE_LITERAL("a"),
          .blocks = &block,
          .leases = leases,
          .block_count = 1},
         ERR_INVALID},
        {"block twice",
         {.key = KEY, .bytes = 20, .blocks = twice, .leases = leases, .block_count = 2},
         ERR_INVALID},
        {"empty block",
         {.key = KEY, .blocks = &empty, .leases = leases, .block_count = 1},
         ERR_INVALID},
        {"too many blocks",
         {.key = KEY, .blocks = twice, .leases = leases, .block_count = META_OBJECT_BLOCKS_MAX + 1},
         ERR_LIMIT},
        {"long attributes",
         {.key = KEY, .attributes = {.data = long_key, .bytes = META_ATTRIBUTES_BYTES_MAX + 1}},
         ERR_LIMIT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct object_put put = cases[i].put;
        put.bucket_id = world.bucket_id;
        struct object_written written;
        enum err err = meta_object_put(NULL, world.client, &put, &written);
        if (err != cases[i].expected)
            fail_msg("%s: %s", cases[i].name, err_text(err));
    }
    world_deinit(&world);
}

static void blocks_are_accepted_under_their_open_lease_only(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct lease closed = world.lease;
    struct block_ref live = block_next(&world, 10);
    struct block_ref late = block_next(&world, 10);
    uint64_t intent = 0;
    struct block_ref staged = block_next(&world, 10);
    assert_int_equal(put_blocks(&world, "live", &live, &closed, 1, 0), OK);
    assert_int_equal(
        meta_block_stage(NULL, world.client, world.bucket_id, &closed, &staged, &intent), OK);
    assert_int_equal(put_blocks(&world, "again", &live, &closed, 1, 0), ERR_STALE_EPOCH);
    assert_int_equal(status_of(&world, late.id), BLOCK_UNKNOWN);

    assert_int_equal(meta_lease_close(NULL, world.client, &closed), OK);
    assert_int_equal(status_of(&world, live.id), BLOCK_LIVE);
    assert_int_equal(status_of(&world, staged.id), BLOCK_LIVE);
    assert_int_equal(status_of(&world, late.id), BLOCK_NEVER);
    assert_int_equal(put_blocks(&world, "late", &late, &closed, 1, 0), ERR_STALE_EPOCH);
    uint64_t other = 0;
    assert_int_equal(meta_block_stage(NULL, world.client, world.bucket_id, &closed, &late, &other),
                     ERR_STALE_EPOCH);

    struct block_ref last = {.id = {closed.volume, closed.to - 1}, .bytes = 1};
    assert_int_equal(put_blocks(&world, "last", &last, &closed, 1, 0), ERR_STALE_EPOCH);

    /* Another lease's name does not help, nor does one that claims everything. */
    struct lease next;
    assert_int_equal(meta_lease_open(NULL, world.client, world.volume.id, 1, 1, &next), OK);
    assert_int_equal(next.from, closed.to);
    struct lease wide = {.volume = closed.volume, .from = closed.from, .to = next.to};
    struct lease forged = {.volume = closed.volume, .from = closed.from + 1, .to = closed.to + 1};
    assert_int_equal(put_blocks(&world, "late", &late, &next, 1, 0), ERR_STALE_EPOCH);
    assert_int_equal(put_blocks(&world, "late", &late, &wide, 1, 0), ERR_STALE_EPOCH);
    assert_int_equal(put_blocks(&world, "late", &late, &forged, 1, 0), ERR_STALE_EPOCH);

    /* A staged block was accepted before. */
    assert_int_equal(put_blocks(&world, "staged", &staged, &closed, 1, intent), OK);
    assert_int_equal(put_blocks(&world, "twice", &staged, &closed, 1, intent), ERR_STALE_EPOCH);
    assert_int_equal(applied_row(&world).intent_count, 0); /* refused stages count nothing */
    world_deinit(&world);
}

/* The closed range that begins at `from`; 0: there is none. */
static uint64_t closed_to(struct world *world, uint64_t from)
{
    struct row_key key = row_key_2(TABLE_CLOSED, world->volume.id, from);
    AUTO_VALUE(bytes) value = {.max = KV_VALUE_BYTES_MAX};
    uint64_t to = 0;
    if (kv_get(the_lane(), world->server->kv, row_key_slice(&key), &value) == OK)
        assert_int_equal(number_row_decode(bytes_slice(&value), &to), OK);
    return to;
}

/* Gaps in the order of closings leave open leases open; what is closed becomes one row in the
 * end. */
static void leases_close_in_any_order(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct lease leases[4] = {world.lease};
    for (unsigned i = 1; i < 4; i++)
        assert_int_equal(
            meta_lease_open(NULL, world.client, world.volume.id, 1 + i / 3, i, &leases[i]), OK);
    static const unsigned order[] = {2, 0, 1, 3};
    bool closed[4] = {false};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(meta_lease_close(NULL, world.client, &leases[order[i]]), OK);
        closed[order[i]] = true;
        for (unsigned j = 0; j < 4; j++) {
            struct block_id first = {leases[j].volume, leases[j].from};
            struct block_id last = {leases[j].volume, leases[j].to - 1};
            enum block_status expected = closed[j] ? BLOCK_NEVER : BLOCK_UNKNOWN;
            assert_int_equal(status_of(&world, first), expected);
            assert_int_equal(status_of(&world, last), expected);
        }
    }
    assert_int_equal(closed_to(&world, leases[0].from), leases[3].to);
    for (unsigned i = 1; i < 4; i++)
        assert_int_equal(closed_to(&world, leases[i].from), 0);
    world_deinit(&world);
}

static void a_new_boot_closes_the_leases_of_earlier_ones(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world); /* a lease of holder 1, boot 1 */
    struct lease own;
    struct lease foreign;
    assert_int_equal(meta_lease_open(NULL, world.client, world.volume.id, 1, 2, &own), OK);
    assert_int_equal(meta_lease_open(NULL, world.client, world.volume.id, 2, 1, &foreign), OK);
    assert_int_equal(meta_lease_close_stale(NULL, world.client, 1, 2), OK);
    assert_int_equal(status_of(&world, (struct block_id){own.volume, world.lease.from}),
                     BLOCK_NEVER);
    assert_int_equal(status_of(&world, (struct block_id){own.volume, own.from}), BLOCK_UNKNOWN);
    assert_int_equal(status_of(&world, (struct block_id){own.volume, foreign.from}), BLOCK_UNKNOWN);
    struct lease none;
    assert_int_equal(meta_lease_open(NULL, world.client, 99, 1, 2, &none), ERR_STALE_EPOCH);
    world_deinit(&world);
}

static void an_intent_that_is_not_renewed_is_dropped(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    uint64_t intent = 0;
    struct block_ref refs[2] = {block_next(&world, 5), block_next(&world, 5)};
    struct lease leases[2] = {world.lease, world.lease};
    assert_int_equal(
        meta_block_stage(NULL, world.client, world.bucket_id, &leases[0], &refs[0], &intent), OK);
    for (unsigned i = 0; i < 80; i++) /* 800 s */
        server_tick(world.server, 10000);
    server_open_session(world.server);
    assert_int_equal(
        meta_block_stage(NULL, world.client, world.bucket_id, &leases[1], &refs[1], &intent), OK);
    for (unsigned i = 0; i < 80; i++)
        server_tick(world.server, 10000);
    assert_int_equal(status_of(&world, refs[0].id), BLOCK_LIVE);
    for (unsigned i = 0; i < 10; i++)
        server_tick(world.server, 10000);
    assert_int_equal(status_of(&world, refs[0].id), BLOCK_UNKNOWN);
    server_open_session(world.server);
    assert_int_equal(free_count(&world), 2);
    /* Its blocks are free now: they must not come back, although their lease is open. */
    assert_int_equal(put_blocks(&world, "late", refs, leases, 2, intent), ERR_STALE_EPOCH);
    assert_int_equal(
        meta_block_stage(NULL, world.client, world.bucket_id, &leases[1], &refs[1], &intent),
        ERR_STALE_EPOCH);
    assert_int_equal(meta_intent_drop(NULL, world.client, intent), OK);
    world_deinit(&world);
}

static void a_renewed_intent_lasts(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    uint64_t intent = 0;
    struct block_ref ref = block_next(&world, 5);
    assert_int_equal(
        meta_block_stage(NULL, world.client, world.bucket_id, &world.lease, &ref, &intent), OK);
    for (unsigned i = 0; i < 300; i++) {
        server_tick(world.server, 10000);
        if (i % 60 == 59) { /* 600 s */
            server_open_session(world.server);
            assert_int_equal(meta_intent_renew(NULL, world.client, intent), OK);
        }
    }
    assert_int_equal(put_blocks(&world, "slow", &ref, &world.lease, 1, intent), OK);
    assert_int_equal(free_count(&world), 0);
    assert_int_equal(meta_intent_renew(NULL, world.client, intent), ERR_STALE_EPOCH);
    world_deinit(&world);
}

static void an_intent_holds_as_many_blocks_as_an_object(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    uint64_t intent = 0;
    struct block_ref refs[META_OBJECT_BLOCKS_MAX + 1];
    struct lease leases[META_OBJECT_BLOCKS_MAX + 1];
    for (uint32_t i = 0; i <= META_OBJECT_BLOCKS_MAX; i++) {
        refs[i] = block_next(&world, META_BLOCK_BYTES_MAX);
        leases[i] = world.lease;
        enum err err =
            meta_block_stage(NULL, world.client, world.bucket_id, &leases[i], &refs[i], &intent);
        assert_int_equal(err, i < META_OBJECT_BLOCKS_MAX ? OK : ERR_LIMIT);
    }
    assert_int_equal(put_blocks(&world, "big", refs, leases, META_OBJECT_BLOCKS_MAX, intent), OK);
    assert_int_equal(free_count(&world), 0);
    assert_int_equal(put_blocks(&world, "big", &refs[META_OBJECT_BLOCKS_MAX], leases, 1, 0), OK);
    assert_int_equal(free_count(&world), META_OBJECT_BLOCKS_MAX);
    world_deinit(&world);
}

static void copies_outlive_their_source_and_carry_their_own_attributes(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    (void)put_inline(&world, "source", "hello");
    AUTO(object) source = NULL;
    assert_int_equal(meta_object_find(NULL, world.client, world.bucket_id, SLICE_LITERAL("source"),
                                      false, &source),
                     OK);
    assert_int_equal(source->inline_bytes.bytes, 0);
    struct object_copy copy = {.source_bucket_id = world.bucket_id,
                               .source_key = source->key,
                               .source_stamp = source->stamp,
                               .bucket_id = world.bucket_id,
                               .key = KEY,
                               .attributes = SLICE_LITERAL("other"),
                               .checksum = {.algorithm = 9, .bytes = 1, .value = {7}}};
    struct object_written written;
    assert_int_equal(meta_object_copy(NULL, world.client, &copy, &written), OK);
    (void)put_inline(&world, "source", "replaced");
    assert_int_equal(meta_object_copy(NULL, world.client, &copy, &written), ERR_STALE);
    AUTO(object) copied = NULL;
    assert_int_equal(meta_object_find(NULL, world.client, world.bucket_id, KEY, true, &copied), OK);
    assert_true(slice_equal_text(copied->inline_bytes, "hello"));
    assert_true(slice_equal_text(copied->attributes, "other"));
    assert_int_equal(copied->checksum.algorithm, 9);
    assert_true(object_etag_equal(&copied->etag, &source->etag));
    world_deinit(&world);
}

static void commit_times_do_not_go_back_for_a_key(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct object_written first = put_inline(&world, "key", "a");
    world.server->wall_ms -= 5000;
    struct object_written second = put_inline(&world, "key", "b");
    assert_int_equal(second.modified_ms, first.modified_ms);
    assert_true(second.stamp > first.stamp);
    assert_true(put_inline(&world, "other", "c").modified_ms < first.modified_ms);
    world_deinit(&world);
}

static struct object *find_key(struct world *world, const char *key)
{
    struct object *object = NULL;
    assert_int_equal(
        meta_object_find(NULL, world->client, world->bucket_id, slice_of_text(key), true, &object),
        OK);
    return object;
}

static void tags_change_without_a_new_version(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct object_written written = put_inline(&world, "key", "bytes");
    const char *const tags[] = {"first", "other", ""};
    for (unsigned i = 0; i < sizeof tags / sizeof tags[0]; i++) {
        assert_int_equal(
            meta_object_tag(NULL, world.client, world.bucket_id, KEY, slice_of_text(tags[i])), OK);
        AUTO(object) object = find_key(&world, "key");
        assert_true(slice_equal_text(object->tags, tags[i]));
        assert_true(slice_equal_text(object->attributes, "attributes"));
        assert_true(slice_equal_text(object->inline_bytes, "bytes"));
        assert_int_equal(object->stamp, written.stamp);
        assert_int_equal(object->modified_ms, written.modified_ms);
    }
    assert_int_equal(meta_object_tag(NULL, world.client, world.bucket_id, SLICE_LITERAL("none"),
                                     SLICE_LITERAL("t")),
                     ERR_NOT_FOUND);
    assert_int_equal(meta_object_tag(NULL, world.client, world.bucket_id + 1, KEY, KEY),
                     ERR_NOT_FOUND);
    static const uint8_t long_tags[META_TAGS_BYTES_MAX + 1];
    assert_int_equal(meta_object_tag(NULL, world.client, world.bucket_id, KEY,
                                     slice_of(long_tags, sizeof long_tags)),
                     ERR_LIMIT);
    world_deinit(&world);
}

/* Tags that came after the source was looked up are not lost: the copy names the version only. */
static void a_copy_takes_the_tags_of_its_moment_or_its_own(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct object_copy copy = {.source_bucket_id = world.bucket_id,
                               .source_key = KEY,
                               .source_stamp = put_inline(&world, "key", "bytes").stamp,
                               .bucket_id = world.bucket_id,
                               .key = SLICE_LITERAL("copy"),
                               .tags = SLICE_LITERAL("own")};
    assert_int_equal(
        meta_object_tag(NULL, world.client, world.bucket_id, KEY, SLICE_LITERAL("late")), OK);
    for (unsigned i = 0; i < 2; i++) {
        struct object_written written;
        copy.replace_tags = i == 1;
        assert_int_equal(meta_object_copy(NULL, world.client, &copy, &written), OK);
        AUTO(object) object = find_key(&world, "copy");
        assert_true(slice_equal_text(object->tags, i == 1 ? "own" : "late"));
    }
    world_deinit(&world);
}

static void the_largest_put_fits_an_entry(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    static uint8_t bytes[META_INLINE_BYTES_MAX];
    static uint8_t key[META_KEY_BYTES_MAX];
    memset(key, 'k', sizeof key);
    struct object_put put = {.bucket_id = world.bucket_id,
                             .key = slice_of(key, sizeof key),
                             .bytes = sizeof bytes,
                             .inline_bytes = slice_of(bytes, sizeof bytes),
                             .attributes = slice_of(bytes, META_ATTRIBUTES_BYTES_MAX),
                             .tags = slice_of(bytes, META_TAGS_BYTES_MAX)};
    struct object_written written;
    assert_int_equal(meta_object_put(NULL, world.client, &put, &written), OK);
    AUTO(object) object = NULL;
    assert_int_equal(meta_object_find(NULL, world.client, world.bucket_id, put.key, true, &object),
                     OK);
    assert_int_equal(object->inline_bytes.bytes, sizeof bytes);
    world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conditions_are_judged_against_the_current_version),
        cmocka_unit_test(puts_that_contradict_themselves_are_refused),
        cmocka_unit_test(blocks_are_accepted_under_their_open_lease_only),
        cmocka_unit_test(leases_close_in_any_order),
        cmocka_unit_test(a_new_boot_closes_the_leases_of_earlier_ones),
        cmocka_unit_test(an_intent_that_is_not_renewed_is_dropped),
        cmocka_unit_test(a_renewed_intent_lasts),
        cmocka_unit_test(an_intent_holds_as_many_blocks_as_an_object),
        cmocka_unit_test(copies_outlive_their_source_and_carry_their_own_attributes),
        cmocka_unit_test(commit_times_do_not_go_back_for_a_key),
        cmocka_unit_test(tags_change_without_a_new_version),
        cmocka_unit_test(a_copy_takes_the_tags_of_its_moment_or_its_own),
        cmocka_unit_test(the_largest_put_fits_an_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
