/* The writes of one entry over the store. */
#include "change.h"
#include "base/hash.h"
#include "base/mem.h"
#include <assert.h>

void change_clear(struct change *change)
{
    for (uint32_t i = 0; i < change->count; i++)
        mem_free(change->rows[i]);
    change->count = 0;
}

void change_deinit(struct change *change)
{
    change_clear(change);
    mem_free(change->rows);
    change->rows = NULL;
}

enum err change_check(struct change *change, enum err err)
{
    if (err != OK && change->broken == OK)
        change->broken = err;
    return err;
}

/* Index of the first row >= key. */
static uint32_t row_lower(const struct change *change, struct slice key)
{
    uint32_t low = 0;
    uint32_t high = change->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (slice_compare(change->rows[middle]->key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const struct change_row *row_find(const struct change *change, struct slice key)
{
    uint32_t at = row_lower(change, key);
    if (at == change->count || !slice_equal(change->rows[at]->key, key))
        return NULL;
    return change->rows[at];
}

static void row_set(struct change *change, struct slice key, struct slice value, bool deleted)
{
    struct change_row *row = mem_alloc(sizeof *row + key.bytes + value.bytes);
    uint8_t *data = (uint8_t *)(row + 1);
    memcpy(data, key.data, key.bytes);
    if (value.bytes > 0)
        memcpy(data + key.bytes, value.data, value.bytes);
    *row = (struct change_row){.key = slice_of(data, key.bytes),
                               .value = slice_of(data + key.bytes, value.bytes),
                               .deleted = deleted};
    uint32_t at = row_lower(change, row->key);
    if (at < change->count && slice_equal(change->rows[at]->key, row->key)) {
        mem_free(change->rows[at]);
        change->rows[at] = row;
        return;
    }
    if (change->count == change->capacity) {
        change->capacity = change->capacity == 0 ? 16 : change->capacity * 2;
        change->rows = (struct change_row **)mem_resize(change->rows,
                                                        change->capacity * sizeof(*change->rows));
    }
    memmove(change->rows + at + 1, change->rows + at, (change->count - at) * sizeof(*change->rows));
    change->rows[at] = row;
    change->count++;
}

enum err change_get(struct change *change, const struct row_key *key, struct bytes *out_value)
{
    TRY(change->broken);
    const struct change_row *row = row_find(change, row_key_slice(key));
    if (row != NULL) {
        if (row->deleted)
            return ERR_NOT_FOUND;
        bytes_append(out_value, row->value);
        return OK;
    }
    enum err err = kv_get(change->lane, change->kv, row_key_slice(key), out_value);
    if (err != OK && err != ERR_NOT_FOUND)
        change->broken = err;
    return err;
}

enum err change_has(struct change *change, const struct row_key *key)
{
    AUTO_VALUE(bytes) value = {.max = KV_VALUE_BYTES_MAX};
    return change_get(change, key, &value);
}

void change_put(struct change *change, const struct row_key *key, const struct bytes *value)
{
    assert(!value->overflow);
    row_set(change, row_key_slice(key), bytes_slice(value), false);
}

void change_delete_at(struct change *change, struct slice key)
{
    row_set(change, key, slice_of(NULL, 0), true);
}

void change_delete(struct change *change, const struct row_key *key)
{
    change_delete_at(change, row_key_slice(key));
}

bool change_has_table(const struct change *change, enum row_table table)
{
    uint8_t tag = (uint8_t)table;
    uint32_t at = row_lower(change, slice_of(&tag, sizeof tag));
    return at < change->count && change->rows[at]->key.data[0] == tag;
}

void change_write(const struct change *change, struct kv_batch *batch, struct hasher *hasher)
{
    for (uint32_t i = 0; i < change->count; i++) {
        const struct change_row *row = change->rows[i];
        uint8_t frame[9];
        store_u32(frame, (uint32_t)row->key.bytes);
        store_u32(frame + 4, (uint32_t)row->value.bytes);
        frame[8] = row->deleted;
        hasher_update(hasher, slice_of(frame, sizeof frame));
        hasher_update(hasher, row->key);
        hasher_update(hasher, row->value);
        if (row->deleted)
            kv_batch_delete(batch, row->key);
        else
            kv_batch_put(batch, row->key, row->value);
    }
}

/* --- scans --- */

void change_scan_init(struct change_scan *scan, struct change *change, const struct row_key *prefix)
{
    struct row_key end = *prefix;
    row_key_next_prefix(&end);
    *scan = (struct change_scan){
        .change = change,
        .prefix = *prefix,
        .iterator = kv_iterator_new(change->lane, change->kv, NULL, row_key_slice(prefix),
                                    row_key_slice(&end)),
        .copy = {.max = KV_VALUE_BYTES_MAX},
    };
    kv_iterator_seek(scan->iterator, row_key_slice(prefix));
}

void change_scan_after(struct change_scan *scan, const struct row_key *key)
{
    scan->last = *key;
    kv_iterator_seek(scan->iterator, row_key_slice(key));
    if (kv_iterator_valid(scan->iterator) &&
        slice_equal(kv_iterator_key(scan->iterator), row_key_slice(key)))
        kv_iterator_next(scan->iterator);
}

void change_scan_deinit(struct change_scan *scan)
{
    kv_iterator_free(scan->iterator);
    bytes_deinit(&scan->copy);
}

/* The next row of the change itself, deleted ones included, or NULL. */
static const struct change_row *scan_own(const struct change_scan *scan)
{
    const struct change *change = scan->change;
    bool started = scan->last.bytes > 0;
    struct slice from = row_key_slice(started ? &scan->last : &scan->prefix);
    uint32_t at = row_lower(change, from);
    if (started && at < change->count && slice_equal(change->rows[at]->key, from))
        at++;
    if (at == change->count ||
        !slice_starts_with(change->rows[at]->key, row_key_slice(&scan->prefix)))
        return NULL;
    return change->rows[at];
}

/* Copied, because the row of the change may be replaced while the caller looks at it. */
static void scan_set(struct change_scan *scan, struct slice key, struct slice value)
{
    assert(key.bytes <= sizeof scan->last.data);
    memcpy(scan->last.data, key.data, key.bytes);
    scan->last.bytes = key.bytes;
    bytes_clear(&scan->copy);
    bytes_append(&scan->copy, value);
    scan->key = row_key_slice(&scan->last);
    scan->value = bytes_slice(&scan->copy);
}

bool change_scan_next(struct change_scan *scan)
{
    while (scan->change->broken == OK) {
        bool stored = kv_iterator_valid(scan->iterator);
        if (!stored && change_check(scan->change, kv_iterator_error(scan->iterator)) != OK)
            return false;
        const struct change_row *own = scan_own(scan);
        if (own == NULL && !stored)
            return false;
        int order = own == NULL ? 1
                    : !stored   ? -1
                                : slice_compare(own->key, kv_iterator_key(scan->iterator));
        bool deleted = order <= 0 && own->deleted;
        if (order <= 0)
            scan_set(scan, own->key, own->value);
        else
            scan_set(scan, kv_iterator_key(scan->iterator), kv_iterator_value(scan->iterator));
        if (order >= 0)
            kv_iterator_next(scan->iterator);
        if (!deleted)
            return true;
    }
    return false;
}

bool change_empty(struct change *change, const struct row_key *prefix)
{
    struct change_scan scan;
    change_scan_init(&scan, change, prefix);
    bool found = change_scan_next(&scan);
    change_scan_deinit(&scan);
    return !found && change->broken == OK;
}

enum err change_get_before(struct change *change, const struct row_key *prefix,
                           const struct row_key *key, struct row_key *out_key,
                           struct bytes *out_value)
{
    TRY(change->broken);
    struct row_key end = *prefix;
    row_key_next_prefix(&end);
    struct row_key above = *key;
    assert(above.bytes < sizeof above.data);
    above.data[above.bytes++] = 0;
    AUTO(kv_iterator)
    iterator =
        kv_iterator_new(change->lane, change->kv, NULL, row_key_slice(prefix), row_key_slice(&end));
    kv_iterator_seek_before(iterator, row_key_slice(&above));
    if (!kv_iterator_valid(iterator)) {
        TRY(change_check(change, kv_iterator_error(iterator)));
        return ERR_NOT_FOUND;
    }
    struct slice found = kv_iterator_key(iterator);
    assert(found.bytes <= sizeof out_key->data);
    memcpy(out_key->data, found.data, found.bytes);
    out_key->bytes = found.bytes;
    bytes_append(out_value, kv_iterator_value(iterator));
    return OK;
}
