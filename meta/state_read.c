/* Reads of single things, and of what belongs to one object. */
#include "bucket_cache.h"
#include "read.h"
#include <assert.h>
#include <inttypes.h>

enum { REREADS_MAX = 64 };

/* --- cluster role --- */

enum err state_bucket_find(struct lane *lane, struct state *state, struct slice name,
                           struct bucket_row *out_row)
{
    if (name.bytes > META_BUCKET_NAME_BYTES_MAX)
        return FAIL(ERR_NOT_FOUND, "bucket name too long");
    struct bucket_cache *cache = state_bucket_cache(state);
    uint64_t version = bucket_cache_version(cache);
    if (bucket_cache_get(cache, version, name, out_row))
        return OK;
    struct row_key key = row_key_bytes(TABLE_BUCKET_NAME, name);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    TRY(read_row(lane, state, &key, &value));
    TRY(bucket_row_decode(bytes_slice(&value), out_row));
    bucket_cache_put(cache, version, out_row);
    return OK;
}

static enum err read_root(struct lane *lane, struct state *state, struct bytes *value,
                          struct slice *out_access_key)
{
    struct row_key key = row_key_table(TABLE_ROOT);
    TRY(read_row(lane, state, &key, value));
    return bytes_row_decode(bytes_slice(value), out_access_key);
}

enum err state_identity_find(struct lane *lane, struct state *state, struct slice access_key,
                             struct identity *out_identity)
{
    struct identity identity = {0};
    if (access_key.bytes >= sizeof identity.access_key)
        return FAIL(ERR_NOT_FOUND, "access key too long");
    struct row_key key = row_key_bytes(TABLE_IDENTITY, access_key);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    struct identity_row row;
    TRY(read_row(lane, state, &key, &value));
    TRY(identity_row_decode(bytes_slice(&value), &row));
    memcpy(identity.access_key, access_key.data, access_key.bytes);
    memcpy(identity.secret_key, row.secret_key.data, row.secret_key.bytes);
    AUTO_VALUE(bytes) root_value = {.max = ROW_VALUE_BYTES_MAX};
    struct slice root = {0};
    enum err err = read_root(lane, state, &root_value, &root);
    if (err != OK && err != ERR_NOT_FOUND)
        return err;
    identity.root = err == OK && slice_equal(root, access_key);
    *out_identity = identity;
    return OK;
}

enum err state_identity_root(struct lane *lane, struct state *state, struct identity *out_identity)
{
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    struct slice root = {0};
    TRY(read_root(lane, state, &value, &root));
    return state_identity_find(lane, state, root, out_identity);
}

/* --- buckets of the object role --- */

enum err state_bucket_config_find(struct lane *lane, struct state *state, uint64_t bucket_id,
                                  enum bucket_config_kind kind, struct bytes *out_value)
{
    struct row_key key = row_key_bucket_config(bucket_id, kind);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    struct slice config = {0};
    TRY(read_row(lane, state, &key, &value));
    TRY(bytes_row_decode(bytes_slice(&value), &config));
    bytes_append(out_value, config);
    return OK;
}

/* --- objects --- */

/* Everything in one allocation: the object, its blocks, then bytes. */
static struct object *object_build(uint64_t bucket_id, struct slice key,
                                   const struct version_row *row, struct slice inline_bytes)
{
    uint32_t count = row_block_count(row->blocks);
    size_t block_bytes = count * sizeof(struct block_ref);
    struct object *object = mem_alloc(sizeof *object + block_bytes + key.bytes +
                                      row->attributes.bytes + row->tags.bytes + inline_bytes.bytes);
    struct block_ref *blocks = (struct block_ref *)(object + 1);
    for (uint32_t i = 0; i < count; i++)
        blocks[i] = row_block(row->blocks, i);
    uint8_t *at = (uint8_t *)(blocks + count);
    struct slice *texts[] = {&object->key, &object->attributes, &object->tags,
                             &object->inline_bytes};
    *object = (struct object){
        .bucket_id = bucket_id,
        .key = key,
        .stamp = row->stamp,
        .modified_ms = row->modified_ms,
        .bytes = row->bytes,
        .etag = row->etag,
        .checksum = row->checksum,
        .attributes = row->attributes,
        .tags = row->tags,
        .layout = row->layout,
        .block_count = count,
        .blocks = count == 0 ? NULL : blocks,
        .upload_id = row->upload_id,
        .manifest = row->manifest,
        .write_id = row->write_id,
        .inline_bytes = inline_bytes,
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (texts[i]->bytes > 0)
            memcpy(at, texts[i]->data, texts[i]->bytes);
        texts[i]->data = at;
        at += texts[i]->bytes;
    }
    return object;
}

/* ERR_STALE: the version was replaced between the two reads. */
static enum err object_read(struct lane *lane, struct state *state, uint64_t bucket_id,
                            struct slice key, bool inline_too, struct object **out_object)
{
    struct row_key current = row_key_current(bucket_id, key);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    struct version_row row;
    TRY(read_row(lane, state, &current, &value));
    TRY(version_row_decode(bytes_slice(&value), &row));
    AUTO_VALUE(bytes) inline_value = {.max = ROW_VALUE_BYTES_MAX};
    struct slice inline_bytes = {0};
    if (inline_too && row.layout == LAYOUT_INLINE && row.bytes > 0) {
        struct row_key inline_key = row_key_2(TABLE_INLINE, bucket_id, row.stamp);
        enum err err = read_row(lane, state, &inline_key, &inline_value);
        if (err != OK)
            return err == ERR_NOT_FOUND ? ERR_STALE : err;
        TRY(bytes_row_decode(bytes_slice(&inline_value), &inline_bytes));
        if (inline_bytes.bytes != row.bytes)
            return FAIL(ERR_CORRUPT, "inline bytes=%zu expected=%" PRIu64, inline_bytes.bytes,
                        row.bytes);
    }
    *out_object = object_build(bucket_id, key, &row, inline_bytes);
    return OK;
}

static bool key_is_valid(struct slice key)
{
    return key.bytes > 0 && key.bytes <= META_KEY_BYTES_MAX && slice_find(key, 0) == key.bytes;
}

enum err state_object_find(struct lane *lane, struct state *state, uint64_t bucket_id,
                           struct slice key, bool inline_too, struct object **out_object)
{
    if (!key_is_valid(key))
        return FAIL(ERR_NOT_FOUND, "no such key can exist");
    for (unsigned i = 0; i < REREADS_MAX; i++) {
        enum err err = object_read(lane, state, bucket_id, key, inline_too, out_object);
        if (err != ERR_STALE)
            return err;
    }
    return FAIL(ERR_CORRUPT, "version without its inline bytes");
}

enum err state_upload_find(struct lane *lane, struct state *state, uint64_t bucket_id,
                           struct slice key, uint64_t upload_id, struct upload **out_upload)
{
    if (!key_is_valid(key))
        return FAIL(ERR_NOT_FOUND, "no such key can exist");
    struct row_key row_key = row_key_upload(bucket_id, key, upload_id);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    struct upload_row row;
    TRY(read_row(lane, state, &row_key, &value));
    TRY(upload_row_decode(bytes_slice(&value), &row));
    struct upload *upload =
        mem_alloc(sizeof *upload + key.bytes + row.attributes.bytes + row.tags.bytes);
    uint8_t *at = (uint8_t *)(upload + 1);
    memcpy(at, key.data, key.bytes);
    if (row.attributes.bytes > 0)
        memcpy(at + key.bytes, row.attributes.data, row.attributes.bytes);
    uint8_t *tags = at + key.bytes + row.attributes.bytes;
    if (row.tags.bytes > 0)
        memcpy(tags, row.tags.data, row.tags.bytes);
    *upload = (struct upload){
        .bucket_id = bucket_id,
        .key = slice_of(at, key.bytes),
        .id = upload_id,
        .created_ms = row.created_ms,
        .checksum_algorithm = row.checksum_algorithm,
        .checksum_type = row.checksum_type,
        .attributes = slice_of(at + key.bytes, row.attributes.bytes),
        .tags = slice_of(tags, row.tags.bytes),
    };
    *out_upload = upload;
    return OK;
}

/* --- objects made of parts --- */

/* While the version's own referrer row is there, no part of its manifest was freed: checked
 * after the parts were read. */
static enum err manifest_check(struct lane *lane, struct state *state, const struct object *object)
{
    struct row_key key = row_key_2(TABLE_MANIFEST_REFERRER, object->manifest, object->stamp);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    enum err err = read_row(lane, state, &key, &value);
    return err == ERR_NOT_FOUND ? FAIL(ERR_STALE, "version is gone") : err;
}

struct extent_builder {
    uint64_t offset; /* where the extents begin */
    uint32_t max, capacity;
    struct extent_page *page;
};

static enum err extents_of_part(struct lane *lane, struct state *state, uint64_t manifest,
                                const struct part *part, uint64_t part_offset,
                                struct extent_builder *builder)
{
    struct row_key key = row_key_part(manifest, part->number);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    struct part_row row;
    TRY(read_row(lane, state, &key, &value));
    TRY(part_row_decode(bytes_slice(&value), &row));
    if (row.part.id != part->id)
        return FAIL(ERR_CORRUPT, "manifest names another part number=%u", part->number);
    struct extent_page *page = builder->page;
    uint64_t at = part_offset;
    for (uint32_t i = 0; i < row_block_count(row.blocks) && page->count < builder->max; i++) {
        struct extent extent = {.offset = at, .ref = row_block(row.blocks, i)};
        at += extent.ref.bytes;
        if (at <= builder->offset)
            continue;
        READ_GROW(page->extents, page->count, builder->capacity);
        page->extents[page->count++] = extent;
    }
    return OK;
}

static enum err extents_of_segment(struct lane *lane, struct state *state, uint64_t manifest,
                                   struct slice key, struct slice value,
                                   struct extent_builder *builder)
{
    uint64_t numbers[3];
    struct manifest_row segment;
    TRY(row_key_read_numbers(key, TABLE_MANIFEST, 3, numbers));
    TRY(manifest_row_decode(value, &segment));
    uint64_t at = numbers[1];
    for (uint32_t i = 0; i < segment.count && builder->page->count < builder->max; i++) {
        const struct part *part = &segment.parts[i];
        uint64_t end = at + part->bytes;
        if (end > builder->offset && part->bytes > 0)
            TRY(extents_of_part(lane, state, manifest, part, at, builder));
        at = end;
    }
    return OK;
}

static enum err extents_read(struct lane *lane, struct state *state, uint64_t manifest,
                             struct extent_builder *builder)
{
    struct row_key prefix = row_key_1(TABLE_MANIFEST, manifest);
    struct row_key behind = row_key_3(TABLE_MANIFEST, manifest, builder->offset, UINT64_MAX);
    AUTO(kv_iterator) iterator = read_prefix(lane, state, NULL, &prefix);
    kv_iterator_seek_before(iterator, row_key_slice(&behind));
    for (; kv_iterator_valid(iterator) && builder->page->count < builder->max;
         kv_iterator_next(iterator))
        TRY(extents_of_segment(lane, state, manifest, kv_iterator_key(iterator),
                               kv_iterator_value(iterator), builder));
    return kv_iterator_error(iterator);
}

enum err state_object_extents(struct lane *lane, struct state *state, const struct object *object,
                              uint64_t offset, uint32_t max, struct extent_page **out_page)
{
    assert(object->layout == LAYOUT_PARTS);
    AUTO(extent_page) page = mem_new(struct extent_page);
    struct extent_builder builder = {.offset = offset, .max = max, .page = page};
    enum err err = extents_read(lane, state, object->manifest, &builder);
    if (err == OK || err == ERR_NOT_FOUND)
        TRY(manifest_check(lane, state, object));
    if (err == ERR_NOT_FOUND)
        return FAIL(ERR_CORRUPT, "manifest names a part that is not there");
    TRY(err);
    *out_page = TAKE(page);
    return OK;
}

/* The page gets parts with number > after; *capacity is of its array. */
static void part_add(struct part_page *page, uint32_t *capacity, const struct part *part,
                     uint32_t after, uint32_t max)
{
    if (part->number <= after)
        return;
    if (page->count == max) {
        page->truncated = true;
        return;
    }
    READ_GROW(page->parts, page->count, *capacity);
    page->parts[page->count++] = *part;
}

enum err state_object_parts(struct lane *lane, struct state *state, const struct object *object,
                            uint32_t after, uint32_t max, struct part_page **out_page)
{
    assert(object->layout == LAYOUT_PARTS);
    AUTO(part_page) page = mem_new(struct part_page);
    uint32_t capacity = 0;
    struct row_key prefix = row_key_1(TABLE_MANIFEST, object->manifest);
    AUTO(kv_iterator) iterator = read_prefix(lane, state, NULL, &prefix);
    kv_iterator_seek(iterator, row_key_slice(&prefix));
    for (; kv_iterator_valid(iterator) && !page->truncated; kv_iterator_next(iterator)) {
        struct manifest_row segment;
        TRY(manifest_row_decode(kv_iterator_value(iterator), &segment));
        for (uint32_t i = 0; i < segment.count && !page->truncated; i++)
            part_add(page, &capacity, &segment.parts[i], after, max);
    }
    TRY(kv_iterator_error(iterator));
    TRY(manifest_check(lane, state, object));
    *out_page = TAKE(page);
    return OK;
}

/* Parts first, then the upload: an upload that is still open had all its parts before. */
enum err state_part_list(struct lane *lane, struct state *state, uint64_t bucket_id,
                         struct slice key, uint64_t upload_id, uint32_t after, uint32_t max,
                         struct part_page **out_page)
{
    AUTO(part_page) page = mem_new(struct part_page);
    uint32_t capacity = 0;
    struct row_key prefix = row_key_1(TABLE_PART, upload_id);
    struct row_key from = row_key_part(upload_id, after);
    AUTO(kv_iterator) iterator = read_prefix(lane, state, NULL, &prefix);
    kv_iterator_seek(iterator, row_key_slice(&from));
    for (; kv_iterator_valid(iterator) && !page->truncated; kv_iterator_next(iterator)) {
        struct part_row row;
        TRY(part_row_decode(kv_iterator_value(iterator), &row));
        part_add(page, &capacity, &row.part, after, max);
    }
    TRY(kv_iterator_error(iterator));
    AUTO(upload) upload = NULL;
    TRY(state_upload_find(lane, state, bucket_id, key, upload_id, &upload));
    *out_page = TAKE(page);
    return OK;
}
