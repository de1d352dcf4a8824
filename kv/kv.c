/* The front of both back ends: arguments, lanes, life times, and that a store which failed once
 * takes no more writes. */
#include "kv/kv.h"
#include "backend.h"
#include "base/mem.h"
#include <assert.h>

static void check_key(struct slice key)
{
    assert(key.bytes <= KV_KEY_BYTES_MAX);
}

/* Contract K4: what failed once is not written to again, since nobody knows what it holds. */
static enum err note(struct kv *kv, enum err err)
{
    if (err == ERR_IO || err == ERR_CORRUPT) {
        int none = OK;
        (void)atomic_compare_exchange_strong(&kv->failure, &none, (int)err); /* keep the first */
    }
    return err;
}

static enum err refuse_failed(struct kv *kv)
{
    enum err failure = (enum err)atomic_load(&kv->failure);
    if (failure != OK)
        return FAIL(failure, "store failed before and takes no more writes");
    return OK;
}

static void add_user(struct kv *kv)
{
    atomic_fetch_add(&kv->users, 1);
}

static void remove_user(struct kv *kv)
{
    uint32_t before = atomic_fetch_sub(&kv->users, 1);
    assert(before > 0);
}

enum err kv_open(struct kv_provider *provider, struct lane *lane, const char *path,
                 const struct kv_options *options, struct kv **out_kv)
{
    assert(lane_is_current(lane));
    assert(path[0] != '\0');
    return provider->open(provider, lane, path, options, out_kv);
}

void kv_close(struct kv *kv)
{
    if (kv == NULL)
        return;
    assert(atomic_load(&kv->users) == 0);
    kv->operations->close(kv);
}

enum err kv_get(struct lane *lane, struct kv *kv, struct slice key, struct bytes *out_value)
{
    assert(lane_is_current(lane));
    check_key(key);
    return note(kv, kv->operations->get(kv, key, false, out_value));
}

enum err kv_try_get(struct kv *kv, struct slice key, struct bytes *out_value)
{
    check_key(key);
    return note(kv, kv->operations->get(kv, key, true, out_value));
}

/* --- batches --- */

struct kv_batch *kv_batch_new(struct kv *kv)
{
    struct kv_batch *batch = kv->operations->batch_new(kv);
    batch->kv = kv;
    add_user(kv);
    return batch;
}

void kv_batch_free(struct kv_batch *batch)
{
    if (batch == NULL)
        return;
    struct kv *kv = batch->kv;
    kv->operations->batch_free(batch);
    remove_user(kv);
}

void kv_batch_put(struct kv_batch *batch, struct slice key, struct slice value)
{
    check_key(key);
    assert(value.bytes <= KV_VALUE_BYTES_MAX);
    batch->kv->operations->batch_put(batch, key, value);
    batch->count++;
    batch->bytes += key.bytes + value.bytes;
}

void kv_batch_delete(struct kv_batch *batch, struct slice key)
{
    check_key(key);
    batch->kv->operations->batch_delete(batch, key);
    batch->count++;
    batch->bytes += key.bytes;
}

void kv_batch_delete_range(struct kv_batch *batch, struct slice from, struct slice to)
{
    check_key(from);
    check_key(to);
    if (slice_compare(from, to) >= 0)
        return; /* nothing lies between */
    batch->kv->operations->batch_delete_range(batch, from, to);
    batch->count++;
    batch->bytes += from.bytes + to.bytes;
}

void kv_batch_clear(struct kv_batch *batch)
{
    batch->kv->operations->batch_clear(batch);
    batch->count = 0;
    batch->bytes = 0;
}

unsigned kv_batch_count(const struct kv_batch *batch)
{
    return batch->count;
}

enum err kv_write(struct lane *lane, struct kv *kv, struct kv_batch *batch)
{
    assert(lane_is_current(lane));
    assert(batch->kv == kv);
    TRY(refuse_failed(kv));
    if (batch->count == 0)
        return OK;
    TRY(note(kv, kv->operations->write(kv, batch)));
    atomic_fetch_add(&kv->unflushed_bytes, batch->bytes);
    return OK;
}

/* --- the store as a whole --- */

enum err kv_flush(struct lane *lane, struct kv *kv)
{
    assert(lane_is_current(lane));
    TRY(refuse_failed(kv));
    uint64_t before_bytes = atomic_load(&kv->unflushed_bytes);
    TRY(note(kv, kv->operations->flush(kv)));
    atomic_fetch_sub(&kv->unflushed_bytes, before_bytes);
    return OK;
}

uint64_t kv_unflushed_bytes(const struct kv *kv)
{
    return atomic_load(&kv->unflushed_bytes);
}

enum err kv_checkpoint(struct lane *lane, struct kv *kv, const char *path)
{
    assert(lane_is_current(lane));
    assert(path[0] != '\0');
    TRY(refuse_failed(kv));
    return note(kv, kv->operations->checkpoint(kv, path));
}

enum err kv_verify(struct lane *lane, struct kv *kv)
{
    assert(lane_is_current(lane));
    return note(kv, kv->operations->verify(kv));
}

uint64_t kv_disk_bytes(struct kv *kv)
{
    return kv->operations->disk_bytes(kv);
}

/* --- reading in order --- */

struct kv_snapshot *kv_snapshot_new(struct kv *kv)
{
    struct kv_snapshot *snapshot = kv->operations->snapshot_new(kv);
    snapshot->kv = kv;
    add_user(kv);
    return snapshot;
}

void kv_snapshot_free(struct kv_snapshot *snapshot)
{
    if (snapshot == NULL)
        return;
    struct kv *kv = snapshot->kv;
    kv->operations->snapshot_free(snapshot);
    remove_user(kv);
}

static struct slice copy(struct slice slice)
{
    return slice_of(mem_copy(slice.data, slice.bytes), slice.bytes);
}

static void free_copy(struct slice slice)
{
    mem_free((void *)(uintptr_t)slice.data);
}

struct kv_iterator *kv_iterator_new(struct lane *lane, struct kv *kv, struct kv_snapshot *snapshot,
                                    struct slice from, struct slice to)
{
    assert(lane_is_current(lane));
    assert(snapshot == NULL || snapshot->kv == kv);
    check_key(from);
    check_key(to);
    struct slice own_from = copy(from);
    struct slice own_to = copy(to);
    struct kv_iterator *iterator = kv->operations->iterator_new(kv, snapshot, own_from, own_to);
    iterator->kv = kv;
    iterator->lane = lane;
    iterator->from = own_from;
    iterator->to = own_to;
    add_user(kv);
    return iterator;
}

void kv_iterator_free(struct kv_iterator *iterator)
{
    if (iterator == NULL)
        return;
    struct kv *kv = iterator->kv;
    struct slice from = iterator->from;
    struct slice to = iterator->to;
    kv->operations->iterator_free(iterator);
    free_copy(from);
    free_copy(to);
    remove_user(kv);
}

void kv_iterator_seek(struct kv_iterator *iterator, struct slice key)
{
    assert(lane_is_current(iterator->lane));
    if (slice_compare(key, iterator->from) < 0)
        key = iterator->from;
    iterator->kv->operations->seek(iterator, key);
}

void kv_iterator_seek_before(struct kv_iterator *iterator, struct slice key)
{
    assert(lane_is_current(iterator->lane));
    if (iterator->to.bytes > 0 && slice_compare(key, iterator->to) > 0)
        key = iterator->to;
    iterator->kv->operations->seek_before(iterator, key);
}

void kv_iterator_next(struct kv_iterator *iterator)
{
    assert(lane_is_current(iterator->lane));
    assert(kv_iterator_valid(iterator));
    iterator->kv->operations->next(iterator);
}

void kv_iterator_previous(struct kv_iterator *iterator)
{
    assert(lane_is_current(iterator->lane));
    assert(kv_iterator_valid(iterator));
    iterator->kv->operations->previous(iterator);
}

bool kv_iterator_valid(const struct kv_iterator *iterator)
{
    return iterator->kv->operations->valid(iterator);
}

enum err kv_iterator_error(const struct kv_iterator *iterator)
{
    return note(iterator->kv, iterator->kv->operations->error(iterator));
}

struct slice kv_iterator_key(const struct kv_iterator *iterator)
{
    assert(kv_iterator_valid(iterator));
    return iterator->kv->operations->key(iterator);
}

struct slice kv_iterator_value(const struct kv_iterator *iterator)
{
    assert(kv_iterator_valid(iterator));
    return iterator->kv->operations->value(iterator);
}
