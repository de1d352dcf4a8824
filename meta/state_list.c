/* Reads of ranges: listings, and what the storage daemon asks for. */
#include "read.h"
#include <assert.h>

/* --- objects and uploads --- */

struct list_builder {
    struct list_entry *entries; /* keys are in `keys`, one after the other */
    uint32_t count, capacity;
    struct bytes keys;
};

static struct list_entry *list_add(struct list_builder *builder, struct slice key)
{
    READ_GROW(builder->entries, builder->count, builder->capacity);
    bytes_append(&builder->keys, key);
    struct list_entry *entry = &builder->entries[builder->count++];
    *entry = (struct list_entry){.key = {.bytes = key.bytes}};
    return entry;
}

static struct list_page *list_build(const struct list_builder *builder, bool truncated)
{
    size_t entry_bytes = builder->count * sizeof *builder->entries;
    struct list_page *page = mem_alloc(sizeof *page + entry_bytes + builder->keys.bytes);
    struct list_entry *entries = (struct list_entry *)(page + 1);
    uint8_t *at = (uint8_t *)(entries + builder->count);
    if (entry_bytes > 0)
        memcpy(entries, builder->entries, entry_bytes);
    if (builder->keys.bytes > 0)
        memcpy(at, builder->keys.data, builder->keys.bytes);
    for (uint32_t i = 0; i < builder->count; i++) {
        entries[i].key.data = at;
        at += entries[i].key.bytes;
    }
    *page = (struct list_page){.entries = entries, .count = builder->count, .truncated = truncated};
    return page;
}

/* The common prefix of `key` in this query, or nothing: up to and with the first delimiter
 * behind the prefix. */
static struct slice common_prefix(const struct list_query *query, struct slice key)
{
    struct slice delimiter = query->delimiter;
    if (delimiter.bytes == 0 || !slice_starts_with(key, query->prefix))
        return slice_of(NULL, 0);
    for (size_t at = query->prefix.bytes; at + delimiter.bytes <= key.bytes; at++)
        if (memcmp(key.data + at, delimiter.data, delimiter.bytes) == 0)
            return slice_first(key, at + delimiter.bytes);
    return slice_of(NULL, 0);
}

static void seek_behind_prefix(struct kv_iterator *iterator, enum row_table table,
                               uint64_t bucket_id, struct slice prefix)
{
    struct row_key key = row_key_name_prefix(table, bucket_id, prefix);
    row_key_next_prefix(&key);
    kv_iterator_seek(iterator, row_key_slice(&key));
}

/* Where the page begins: at the prefix, or strictly after `after`. */
static void list_seek(struct kv_iterator *iterator, enum row_table table,
                      const struct list_query *query)
{
    struct row_key key = row_key_name_prefix(table, query->bucket_id, query->prefix);
    if (query->after.bytes == 0 || slice_compare(query->after, query->prefix) < 0) {
        kv_iterator_seek(iterator, row_key_slice(&key));
        return;
    }
    struct slice common = common_prefix(query, query->after);
    if (common.bytes > 0 && common.bytes == query->after.bytes) {
        seek_behind_prefix(iterator, table, query->bucket_id, common);
        return;
    }
    if (table == TABLE_UPLOAD && query->after_upload != 0 && query->after_upload != UINT64_MAX) {
        key = row_key_upload(query->bucket_id, query->after, query->after_upload + 1);
        kv_iterator_seek(iterator, row_key_slice(&key));
        return;
    }
    /* Keys end with a NUL and have none inside, so this is behind all rows of the key `after`,
     * and before longer keys. */
    key = row_key_name_prefix(table, query->bucket_id, query->after);
    key.data[key.bytes++] = 1;
    kv_iterator_seek(iterator, row_key_slice(&key));
}

static enum err list_object(struct list_builder *builder, struct slice key, struct slice value)
{
    struct version_row row;
    TRY(version_row_decode_head(value, &row));
    struct list_entry *entry = list_add(builder, key);
    entry->stamp = row.stamp;
    entry->modified_ms = row.modified_ms;
    entry->bytes = row.bytes;
    entry->etag = row.etag;
    entry->checksum_algorithm = row.checksum.algorithm;
    entry->checksum_type = row.checksum.type;
    return OK;
}

static enum err list_upload(struct list_builder *builder, struct slice key, uint64_t upload_id,
                            struct slice value)
{
    struct upload_row row;
    TRY(upload_row_decode(value, &row));
    struct list_entry *entry = list_add(builder, key);
    entry->stamp = upload_id;
    entry->upload_id = upload_id;
    entry->modified_ms = row.created_ms;
    entry->checksum_algorithm = row.checksum_algorithm;
    entry->checksum_type = row.checksum_type;
    return OK;
}

/* The entry for the row under the iterator; moves behind it, or behind its common prefix with
 * one seek. */
static enum err list_row(struct kv_iterator *iterator, enum row_table table,
                         const struct list_query *query, struct list_builder *builder)
{
    bool uploads = table == TABLE_UPLOAD;
    struct slice key;
    uint64_t upload_id = 0;
    TRY(row_key_read_name(kv_iterator_key(iterator), table, &key, uploads ? &upload_id : NULL));
    struct slice common = common_prefix(query, key);
    if (common.bytes > 0) {
        struct list_entry *entry = list_add(builder, common);
        entry->is_prefix = true;
        /* The iterator's key moves with it: seek by the copy. */
        struct slice copy =
            slice_skip(bytes_slice(&builder->keys), builder->keys.bytes - entry->key.bytes);
        seek_behind_prefix(iterator, table, query->bucket_id, copy);
        return OK;
    }
    if (uploads)
        TRY(list_upload(builder, key, upload_id, kv_iterator_value(iterator)));
    else
        TRY(list_object(builder, key, kv_iterator_value(iterator)));
    kv_iterator_next(iterator);
    return OK;
}

static enum err list_rows(struct kv_iterator *iterator, enum row_table table,
                          const struct list_query *query, struct list_builder *builder,
                          bool *out_truncated)
{
    list_seek(iterator, table, query);
    while (builder->count < query->max && kv_iterator_valid(iterator))
        TRY(list_row(iterator, table, query, builder));
    *out_truncated = kv_iterator_valid(iterator);
    return kv_iterator_error(iterator);
}

enum err state_list(struct lane *lane, struct state *state, const struct list_query *query,
                    bool uploads, struct list_page **out_page)
{
    assert(query->max <= META_LIST_MAX);
    /* No key lies between a longer text and its first META_KEY_BYTES_MAX bytes. */
    struct list_query clipped = *query;
    clipped.after = slice_first(query->after, META_KEY_BYTES_MAX);
    enum row_table table = uploads ? TABLE_UPLOAD : TABLE_CURRENT;
    struct list_builder builder = {.keys = {.max = (size_t)META_LIST_MAX * META_KEY_BYTES_MAX}};
    bool truncated = false;
    enum err err = OK;
    if (query->max > 0 && query->prefix.bytes <= META_KEY_BYTES_MAX) {
        struct row_key prefix = row_key_name_prefix(table, query->bucket_id, query->prefix);
        AUTO(kv_iterator) iterator = read_prefix(lane, state, NULL, &prefix);
        err = list_rows(iterator, table, &clipped, &builder, &truncated);
    }
    if (err == OK)
        *out_page = list_build(&builder, truncated);
    mem_free(builder.entries);
    bytes_deinit(&builder.keys);
    return err;
}

/* --- buckets, volumes, leases --- */

enum err state_bucket_list(struct lane *lane, struct state *state, struct slice prefix,
                           struct slice after, uint32_t max, struct bucket_page **out_page)
{
    AUTO(bucket_page) page = mem_new(struct bucket_page);
    uint32_t capacity = 0;
    if (prefix.bytes > META_BUCKET_NAME_BYTES_MAX || after.bytes > META_KEY_BYTES_MAX) {
        *out_page = TAKE(page);
        return OK;
    }
    struct row_key from = row_key_bytes(TABLE_BUCKET_NAME, prefix);
    AUTO(kv_iterator) iterator = read_prefix(lane, state, NULL, &from);
    struct row_key start = row_key_bytes(TABLE_BUCKET_NAME, after);
    start.data[start.bytes++] = 0;
    bool from_start = after.bytes == 0 || slice_compare(after, prefix) < 0;
    kv_iterator_seek(iterator, row_key_slice(from_start ? &from : &start));
    for (; kv_iterator_valid(iterator) && !page->truncated; kv_iterator_next(iterator)) {
        struct bucket_row row;
        TRY(bucket_row_decode(kv_iterator_value(iterator), &row));
        if (row.state == BUCKET_CREATING)
            continue; /* nobody was told that it exists */
        if (page->count == max) {
            page->truncated = true;
            break;
        }
        READ_GROW(page->buckets, page->count, capacity);
        page->buckets[page->count++] = row.bucket;
    }
    TRY(kv_iterator_error(iterator));
    *out_page = TAKE(page);
    return OK;
}

enum err state_volume_list(struct lane *lane, struct state *state, struct volume_page **out_page)
{
    AUTO(volume_page) page = mem_new(struct volume_page);
    uint32_t capacity = 0;
    struct row_key prefix = row_key_table(TABLE_VOLUME);
    AUTO(kv_iterator) iterator = read_prefix(lane, state, NULL, &prefix);
    kv_iterator_seek(iterator, row_key_slice(&prefix));
    for (; kv_iterator_valid(iterator); kv_iterator_next(iterator)) {
        struct volume_row row;
        TRY(volume_row_decode(kv_iterator_value(iterator), &row));
        READ_GROW(page->volumes, page->count, capacity);
        page->volumes[page->count++] = row.volume;
    }
    TRY(kv_iterator_error(iterator));
    *out_page = TAKE(page);
    return OK;
}

enum err state_lease_stale(struct lane *lane, struct state *state, uint64_t holder, uint64_t boot,
                           uint32_t max, struct lease_found *out_leases, uint32_t *out_count)
{
    uint32_t count = 0;
    struct row_key prefix = row_key_table(TABLE_LEASE);
    AUTO(kv_iterator) iterator = read_prefix(lane, state, NULL, &prefix);
    kv_iterator_seek(iterator, row_key_slice(&prefix));
    for (; kv_iterator_valid(iterator) && count < max; kv_iterator_next(iterator)) {
        uint64_t numbers[2];
        struct lease_row row;
        TRY(row_key_read_numbers(kv_iterator_key(iterator), TABLE_LEASE, 2, numbers));
        TRY(lease_row_decode(kv_iterator_value(iterator), &row));
        if (row.holder == holder && row.boot != boot)
            out_leases[count++] =
                (struct lease_found){.volume = numbers[0], .from = numbers[1], .to = row.to};
    }
    TRY(kv_iterator_error(iterator));
    *out_count = count;
    return OK;
}

/* --- collection --- */

enum err state_free_list(struct lane *lane, struct state *state, uint64_t after, uint32_t max,
                         struct free_page **out_page)
{
    AUTO(free_page) page = mem_new(struct free_page);
    uint32_t capacity = 0;
    struct row_key prefix = row_key_table(TABLE_FREE);
    AUTO(kv_iterator) iterator = read_prefix(lane, state, NULL, &prefix);
    struct row_key from = row_key_1(TABLE_FREE, after == UINT64_MAX ? after : after + 1);
    kv_iterator_seek(iterator, row_key_slice(&from));
    for (; kv_iterator_valid(iterator) && page->count < max; kv_iterator_next(iterator)) {
        struct free_entry entry;
        TRY(row_key_read_numbers(kv_iterator_key(iterator), TABLE_FREE, 1, &entry.position));
        TRY(block_id_row_decode(kv_iterator_value(iterator), &entry.block));
        READ_GROW(page->entries, page->count, capacity);
        page->entries[page->count++] = entry;
    }
    TRY(kv_iterator_error(iterator));
    *out_page = TAKE(page);
    return OK;
}

enum err state_has_jobs(struct lane *lane, struct state *state, bool *out_has_jobs)
{
    struct row_key prefix = row_key_table(TABLE_JOB);
    AUTO(kv_iterator) iterator = read_prefix(lane, state, NULL, &prefix);
    kv_iterator_seek(iterator, row_key_slice(&prefix));
    *out_has_jobs = kv_iterator_valid(iterator);
    return kv_iterator_error(iterator);
}

static enum err is_closed(struct lane *lane, struct state *state, struct kv_snapshot *snapshot,
                          struct block_id id, bool *out_closed)
{
    struct row_key prefix = row_key_1(TABLE_CLOSED, id.volume);
    struct row_key behind = row_key_2(TABLE_CLOSED, id.volume, id.sequence);
    behind.data[behind.bytes++] = 0;
    AUTO(kv_iterator) iterator = read_prefix(lane, state, snapshot, &prefix);
    kv_iterator_seek_before(iterator, row_key_slice(&behind));
    uint64_t to = 0;
    if (kv_iterator_valid(iterator))
        TRY(number_row_decode(kv_iterator_value(iterator), &to));
    *out_closed = id.sequence < to;
    return kv_iterator_error(iterator);
}

static enum err has_referrer(struct lane *lane, struct state *state, struct kv_snapshot *snapshot,
                             struct block_id id, bool *out_has)
{
    struct row_key prefix = row_key_2(TABLE_REFERRER, id.volume, id.sequence);
    AUTO(kv_iterator) iterator = read_prefix(lane, state, snapshot, &prefix);
    kv_iterator_seek(iterator, row_key_slice(&prefix));
    *out_has = kv_iterator_valid(iterator);
    return kv_iterator_error(iterator);
}

/* Both tables at one point in time: else a block could become live and its lease be closed in
 * between. */
enum err state_block_status(struct lane *lane, struct state *state, const struct block_id *ids,
                            uint32_t count, enum block_status *out_status)
{
    AUTO(kv_snapshot) snapshot = kv_snapshot_new(state_kv(state));
    for (uint32_t i = 0; i < count; i++) {
        bool live = false;
        bool closed = false;
        TRY(has_referrer(lane, state, snapshot, ids[i], &live));
        TRY(is_closed(lane, state, snapshot, ids[i], &closed));
        out_status[i] = live ? BLOCK_LIVE : closed ? BLOCK_NEVER : BLOCK_UNKNOWN;
    }
    return OK;
}
