/* Multipart uploads, from none to 10 000 parts. */
#include "fixture.h"

FIXTURE_SERVER

#define KEY SLICE_LITERAL("key")

static uint64_t create(struct world *world)
{
    uint64_t upload_id = 0;
    struct upload_create create = {.bucket_id = world->bucket_id,
                                   .key = KEY,
                                   .attributes = SLICE_LITERAL("attributes"),
                                   .tags = SLICE_LITERAL("tags"),
                                   .checksum_algorithm = 3,
                                   .checksum_type = 4};
    assert_int_equal(meta_upload_create(NULL, world->client, &create, &upload_id), OK);
    return upload_id;
}

static enum err put_part(struct world *world, uint64_t upload_id, uint32_t number,
                         const struct block_ref *ref, uint64_t *out_id)
{
    struct object_put put = {.bucket_id = world->bucket_id,
                             .key = KEY,
                             .bytes = ref->bytes,
                             .blocks = ref,
                             .leases = &world->lease,
                             .block_count = 1,
                             .etag = {.md5 = {(uint8_t)number}}};
    struct object_written written;
    TRY(meta_part_put(NULL, world->client, upload_id, number, &put, &written));
    *out_id = written.stamp;
    return OK;
}

static enum err complete(struct world *world, uint64_t upload_id, const struct part *parts,
                         uint32_t count)
{
    struct upload_complete command = {.bucket_id = world->bucket_id,
                                      .key = KEY,
                                      .upload_id = upload_id,
                                      .parts = parts,
                                      .part_count = count,
                                      .etag = {.md5 = {9}, .part_count = count}};
    struct object_written written;
    return meta_upload_complete(NULL, world->client, &command, &written);
}

static struct object *find(struct world *world, struct slice key)
{
    struct object *object = NULL;
    assert_int_equal(meta_object_find(NULL, world->client, world->bucket_id, key, false, &object),
                     OK);
    return object;
}

static void remove_key(struct world *world, struct slice key)
{
    bool deleted = false;
    struct write_conditions none = {0};
    assert_int_equal(
        meta_object_delete(NULL, world->client, world->bucket_id, key, &none, &deleted), OK);
    assert_true(deleted);
}

static uint32_t free_count(struct world *world)
{
    (void)world_expand(world);
    AUTO(free_page) page = NULL;
    assert_int_equal(meta_free_list(NULL, world->client, 0, UINT32_MAX, &page), OK);
    return page->count;
}

static void complete_judges_the_parts_named(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    uint64_t upload = create(&world);
    struct block_ref refs[4];
    uint64_t ids[4]; /* part 1, 2 twice, 5 */
    static const uint32_t numbers[4] = {1, 2, 2, 5};
    for (unsigned i = 0; i < 4; i++) {
        refs[i] = block_next(&world, 10 + i);
        assert_int_equal(put_part(&world, upload, numbers[i], &refs[i], &ids[i]), OK);
    }
    const struct {
        const char *name;
        struct part parts[3];
        uint32_t count;
    } cases[] = {
        {"none", {{0}}, 0},
        {"not there", {{.number = 3, .id = ids[0]}}, 1},
        {"behind the last", {{.number = 6, .id = ids[3]}}, 1},
        {"replaced", {{.number = 1, .id = ids[0]}, {.number = 2, .id = ids[1]}}, 2},
        {"descending", {{.number = 2, .id = ids[2]}, {.number = 1, .id = ids[0]}}, 2},
        {"twice", {{.number = 1, .id = ids[0]}, {.number = 1, .id = ids[0]}}, 2},
        {"number 0", {{.number = 0, .id = ids[0]}}, 1},
        {"number too large", {{.number = META_PARTS_MAX + 1, .id = ids[0]}}, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum err err = complete(&world, upload, cases[i].parts, cases[i].count);
        if (err != ERR_INVALID)
            fail_msg("%s: %s", cases[i].name, err_text(err));
    }
    struct part good[2] = {{.number = 2, .id = ids[2]}, {.number = 5, .id = ids[3]}};
    assert_int_equal(complete(&world, upload + 1, good, 2), ERR_NOT_FOUND);
    assert_int_equal(complete(&world, upload, good, 2), OK);
    assert_int_equal(complete(&world, upload, good, 2), OK);

    AUTO(object) object = find(&world, KEY);
    assert_int_equal(object->bytes, 12 + 13);
    assert_int_equal(object->upload_id, upload);
    assert_true(slice_equal_text(object->attributes, "attributes"));
    assert_true(block_id_equal(object->write_id, refs[2].id));
    assert_int_equal(free_count(&world), 2); /* the replaced one and the one left out */

    /* A part that comes late finds no upload (B46). */
    uint64_t late = 0;
    struct block_ref block = block_next(&world, 10);
    assert_int_equal(put_part(&world, upload, 1, &block, &late), ERR_NOT_FOUND);
    /* A repetition with other parts is none: they are not what is there. */
    assert_int_equal(complete(&world, upload, good, 1), ERR_NOT_FOUND);
    /* Once another version is there, a repeated complete is told so. */
    remove_key(&world, KEY);
    assert_int_equal(complete(&world, upload, good, 2), ERR_NOT_FOUND);
    assert_int_equal(free_count(&world), 4);
    world_deinit(&world);
}

static void parts_and_uploads_are_listed(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    uint64_t upload = create(&world);
    uint64_t second = create(&world);
    for (uint32_t number = 1; number <= 5; number++) {
        struct block_ref ref = block_next(&world, 10);
        uint64_t id = 0;
        assert_int_equal(put_part(&world, upload, number * 2, &ref, &id), OK);
    }
    AUTO(part_page) page = NULL;
    assert_int_equal(meta_part_list(NULL, world.client, world.bucket_id, KEY, upload, 3, 2, &page),
                     OK);
    assert_int_equal(page->count, 2);
    assert_true(page->truncated);
    assert_int_equal(page->parts[0].number, 4);
    assert_int_equal(page->parts[1].etag.md5[0], 6);
    AUTO(part_page) none = NULL;
    assert_int_equal(
        meta_part_list(NULL, world.client, world.bucket_id, KEY, second + 1, 0, 2, &none),
        ERR_NOT_FOUND);

    struct list_query query = {.bucket_id = world.bucket_id, .max = 1};
    AUTO(list_page) first_page = NULL;
    assert_int_equal(meta_upload_list(NULL, world.client, &query, &first_page), OK);
    assert_int_equal(first_page->entries[0].upload_id, upload);
    assert_int_equal(first_page->entries[0].checksum_algorithm, 3);
    assert_true(first_page->truncated);
    query.after = KEY;
    query.after_upload = upload;
    AUTO(list_page) second_page = NULL;
    assert_int_equal(meta_upload_list(NULL, world.client, &query, &second_page), OK);
    assert_int_equal(second_page->count, 1);
    assert_int_equal(second_page->entries[0].upload_id, second);
    assert_false(second_page->truncated);
    query.after_upload = 0; /* after all of that key */
    AUTO(list_page) last_page = NULL;
    assert_int_equal(meta_upload_list(NULL, world.client, &query, &last_page), OK);
    assert_int_equal(last_page->count, 0);
    AUTO(upload) found = NULL;
    assert_int_equal(meta_upload_find(NULL, world.client, world.bucket_id, KEY, upload, &found),
                     OK);
    assert_int_equal(found->checksum_type, 4);
    assert_true(slice_equal_text(found->attributes, "attributes"));
    world_deinit(&world);
}

/* Uploads are aborted with their bucket, in bounded steps, also when there are many. */
static void deleting_a_bucket_frees_its_uploads(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    enum { UPLOADS = 150 };
    for (unsigned i = 0; i < UPLOADS; i++) {
        uint64_t id = 0;
        struct block_ref ref = block_next(&world, 10);
        assert_int_equal(put_part(&world, create(&world), 1, &ref, &id), OK);
    }
    assert_int_equal(meta_bucket_delete(NULL, world.client, SLICE_LITERAL("bucket")), OK);
    struct block_ref late = block_next(&world, 10);
    uint64_t id = 0;
    assert_int_equal(put_part(&world, 1, 1, &late, &id), ERR_NOT_FOUND);
    assert_int_equal(free_count(&world), UPLOADS);
    world_deinit(&world);
}

/* --- 10 000 parts --- */

static void check_extents(struct world *world, const struct object *object,
                          const struct block_ref *refs)
{
    /* Part n has 10 + n % 7 bytes: find the extents behind some offsets by adding up. */
    uint64_t at = 0;
    for (uint32_t i = 0; i < META_PARTS_MAX; i++) {
        bool border = i % MANIFEST_SEGMENT_PARTS <= 1 || i == META_PARTS_MAX - 1;
        for (uint32_t inside = 0; border && inside < 2; inside++) {
            AUTO(extent_page) page = NULL;
            uint64_t offset = inside == 0 ? at : at + refs[i].bytes - 1;
            assert_int_equal(meta_object_extents(NULL, world->client, object, offset, 2, &page),
                             OK);
            assert_int_equal(page->count, i + 1 < META_PARTS_MAX ? 2 : 1);
            assert_int_equal(page->extents[0].offset, at);
            assert_true(block_ref_equal(&page->extents[0].ref, &refs[i]));
        }
        at += refs[i].bytes;
    }
    assert_int_equal(object->bytes, at);
    AUTO(extent_page) behind = NULL;
    assert_int_equal(meta_object_extents(NULL, world->client, object, at, 2, &behind), OK);
    assert_int_equal(behind->count, 0);
}

static void check_parts(struct world *world, const struct object *object)
{
    uint32_t after = 0;
    for (;;) {
        AUTO(part_page) page = NULL;
        assert_int_equal(meta_object_parts(NULL, world->client, object, after, 999, &page), OK);
        for (uint32_t i = 0; i < page->count; i++)
            assert_int_equal(page->parts[i].number, ++after);
        if (!page->truncated)
            break;
    }
    assert_int_equal(after, META_PARTS_MAX);
}

static void copy_to(struct world *world, const struct object *source, struct slice key)
{
    struct object_copy copy = {.source_bucket_id = world->bucket_id,
                               .source_key = source->key,
                               .source_stamp = source->stamp,
                               .bucket_id = world->bucket_id,
                               .key = key};
    struct object_written written;
    assert_int_equal(meta_object_copy(NULL, world->client, &copy, &written), OK);
}

static void ten_thousand_parts_are_completed_copied_and_freed_in_bounded_entries(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    uint64_t upload = create(&world);
    struct block_ref *refs = mem_alloc_array(META_PARTS_MAX, sizeof *refs);
    struct part *parts = mem_alloc_array(META_PARTS_MAX, sizeof *parts);
    for (uint32_t i = 0; i < META_PARTS_MAX; i++) {
        refs[i] = block_next(&world, 10 + i % 7);
        parts[i].number = i + 1;
        assert_int_equal(put_part(&world, upload, i + 1, &refs[i], &parts[i].id), OK);
    }
    assert_int_equal(complete(&world, upload, parts, META_PARTS_MAX), OK);
    assert_true(world.server->entry_bytes_max < 256 << 10);
    AUTO(object) object = find(&world, KEY);
    check_extents(&world, object, refs);
    check_parts(&world, object);

    copy_to(&world, object, SLICE_LITERAL("copy"));
    AUTO(object) copy = find(&world, SLICE_LITERAL("copy"));
    assert_int_equal(copy->upload_id, 0);
    copy_to(&world, copy, SLICE_LITERAL("copy")); /* onto itself */
    AUTO(extent_page) stale = NULL;
    assert_int_equal(meta_object_extents(NULL, world.client, copy, 0, 1, &stale), ERR_STALE);
    AUTO(object) again = find(&world, SLICE_LITERAL("copy"));
    remove_key(&world, KEY);
    assert_int_equal(world_expand(&world), 0);
    check_extents(&world, again, refs);
    check_parts(&world, again);

    remove_key(&world, SLICE_LITERAL("copy"));
    assert_int_equal(meta_object_extents(NULL, world.client, again, 0, 1, &stale), ERR_STALE);
    unsigned steps = world_expand(&world);
    assert_in_range(steps, META_PARTS_MAX / 1024, META_PARTS_MAX / 256);
    assert_int_equal(free_count(&world), META_PARTS_MAX);
    struct row_key tables[] = {row_key_table(TABLE_PART), row_key_table(TABLE_MANIFEST),
                               row_key_table(TABLE_MANIFEST_REFERRER),
                               row_key_table(TABLE_REFERRER), row_key_table(TABLE_JOB)};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        struct row_key end = tables[i];
        row_key_next_prefix(&end);
        AUTO(kv_iterator)
        iterator = kv_iterator_new(the_lane(), world.server->kv, NULL, row_key_slice(&tables[i]),
                                   row_key_slice(&end));
        kv_iterator_seek(iterator, row_key_slice(&tables[i]));
        assert_false(kv_iterator_valid(iterator));
    }
    mem_free(refs);
    mem_free(parts);
    world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(complete_judges_the_parts_named),
        cmocka_unit_test(parts_and_uploads_are_listed),
        cmocka_unit_test(deleting_a_bucket_frees_its_uploads),
        cmocka_unit_test(ten_thousand_parts_are_completed_copied_and_freed_in_bounded_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
