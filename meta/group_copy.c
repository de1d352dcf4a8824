/* See group_copy.h. */
#include "group_copy.h"
#include "base/encode.h"
#include "base/hash.h"
#include "base/mem.h"
#include "server_core.h"
#include <assert.h>
#include <inttypes.h>

enum {
    LENGTHS_BYTES = 8, /* of key and value, before them */
    BATCH_BYTES_MAX = COPY_BATCH_BYTES + KV_KEY_BYTES_MAX + KV_VALUE_BYTES_MAX + LENGTHS_BYTES,
};

/* --- the snapshot --- */

struct begin_job {
    struct group_copy *copy;
    struct state *state;
};

static void begin_on_lane(struct lane *lane, void *argument)
{
    struct begin_job *job = argument;
    struct state_position position = state_position(job->state);
    (void)lane; /* the one that applies: nothing is between two batches */
    job->copy->kv = state_kv(job->state);
    job->copy->snapshot = kv_snapshot_new(job->copy->kv);
    job->copy->seed.index = position.index;
    job->copy->seed.term = position.term;
    job->copy->seed.state_hash = position.hash;
}

/* --- one batch --- */

struct rows {
    struct kv *kv;
    struct kv_snapshot *snapshot; /* NULL: now */
    struct bytes next;            /* key to go on with */
    struct bytes rows;            /* of this batch: lengths, key, value */
    struct bytes last;            /* those that come last; NULL data: taken with the others */
    bool keeps_last;
    bool ended;
    struct hasher *hasher;
    enum err err;
};

static void rows_deinit(struct rows *rows)
{
    bytes_deinit(&rows->next);
    bytes_deinit(&rows->rows);
    bytes_deinit(&rows->last);
    hasher_free(rows->hasher);
}

static void rows_init(struct rows *rows, struct kv *kv, struct kv_snapshot *snapshot)
{
    *rows = (struct rows){.kv = kv,
                          .snapshot = snapshot,
                          .next = {.max = KV_KEY_BYTES_MAX}, /* those of rows are far shorter */
                          .rows = {.max = BATCH_BYTES_MAX},
                          .last = {.max = BATCH_BYTES_MAX},
                          .hasher = hasher_new()};
}

static bool comes_last(struct slice key)
{
    return key.bytes == 1 && (key.data[0] == TABLE_APPLIED || key.data[0] == TABLE_MEMBERSHIP);
}

static void add_row(struct rows *rows, struct slice key, struct slice value)
{
    uint8_t lengths[LENGTHS_BYTES];
    store_u32(lengths, (uint32_t)key.bytes);
    store_u32(lengths + 4, (uint32_t)value.bytes);
    struct bytes *out = rows->keeps_last && comes_last(key) ? &rows->last : &rows->rows;
    bytes_append(out, slice_of(lengths, sizeof lengths));
    bytes_append(out, key);
    bytes_append(out, value);
    hasher_update(rows->hasher, slice_of(lengths, sizeof lengths));
    hasher_update(rows->hasher, key);
    hasher_update(rows->hasher, value);
}

static enum err read_rows(struct lane *lane, struct rows *rows)
{
    AUTO(kv_iterator) iterator = kv_iterator_new(lane, rows->kv, rows->snapshot,
                                                 bytes_slice(&rows->next), slice_of(NULL, 0));
    kv_iterator_seek(iterator, bytes_slice(&rows->next));
    bytes_clear(&rows->rows);
    while (kv_iterator_valid(iterator) && rows->rows.bytes < COPY_BATCH_BYTES) {
        add_row(rows, kv_iterator_key(iterator), kv_iterator_value(iterator));
        bytes_clear(&rows->next);
        bytes_append(&rows->next, kv_iterator_key(iterator));
        bytes_append_byte(&rows->next, 0);
        kv_iterator_next(iterator);
    }
    rows->ended = !kv_iterator_valid(iterator);
    assert(!rows->rows.overflow);
    return kv_iterator_error(iterator);
}

static void read_on_lane(struct lane *lane, void *argument)
{
    struct rows *rows = argument;
    rows->err = read_rows(lane, rows);
}

struct write_job {
    struct kv *kv;
    struct slice rows;
    enum err err;
};

static void write_on_lane(struct lane *lane, void *argument)
{
    struct write_job *job = argument;
    AUTO(kv_batch) batch = kv_batch_new(job->kv);
    struct slice rows = job->rows;
    while (rows.bytes > 0) {
        size_t key = load_u32(rows.data);
        size_t value = load_u32(rows.data + 4);
        rows = slice_skip(rows, LENGTHS_BYTES);
        kv_batch_put(batch, slice_of(rows.data, key), slice_of(rows.data + key, value));
        rows = slice_skip(rows, key + value);
    }
    job->err = kv_write(lane, job->kv, batch);
}

static void flush_on_lane(struct lane *lane, void *argument)
{
    struct write_job *job = argument;
    job->err = kv_flush(lane, job->kv);
}

/* --- the whole --- */

static enum err write_rows(struct io *io, struct meta_server *server, const struct bytes *rows)
{
    struct write_job job = {.kv = server->kv, .rows = bytes_slice(rows)};
    TRY(lane_run(io, server->apply_lane, write_on_lane, &job));
    return job.err;
}

static enum err pace(struct io *io, const struct group_copy *copy, size_t bytes)
{
    if (copy->stopping != NULL && *copy->stopping)
        return ERR_CANCELED;
    return io_sleep_ms(io, 1 + bytes * 1000 / COPY_BYTES_PER_S);
}

static enum err copy_rows(struct io *io, struct group_copy *copy, struct meta_server *server,
                          struct rows *rows)
{
    rows->keeps_last = true;
    while (!rows->ended) {
        TRY(lane_run(io, copy->lane, read_on_lane, rows));
        copy->source_err = rows->err;
        TRY(rows->err);
        TRY(write_rows(io, server, &rows->rows));
        TRY(pace(io, copy, rows->rows.bytes));
    }
    TRY(write_rows(io, server, &rows->last));
    struct write_job job = {.kv = server->kv};
    TRY(lane_run(io, server->flush_lane, flush_on_lane, &job));
    return job.err;
}

static enum err read_back(struct io *io, struct group_copy *copy, struct meta_server *server,
                          struct rows *rows)
{
    while (!rows->ended) {
        TRY(lane_run(io, server->read_lane, read_on_lane, rows));
        TRY(rows->err);
        TRY(pace(io, copy, rows->rows.bytes));
    }
    return OK;
}

static enum err fill(struct io *io, struct server_seed *seed, struct meta_server *server)
{
    struct group_copy *copy = CONTAINER_OF(seed, struct group_copy, seed);
    struct rows from;
    struct rows to;
    rows_init(&from, copy->kv, copy->snapshot);
    rows_init(&to, server->kv, NULL);
    enum err err = copy_rows(io, copy, server, &from);
    if (err == OK)
        err = read_back(io, copy, server, &to);
    struct hash128 wrote = hasher_value(from.hasher);
    struct hash128 found = hasher_value(to.hasher);
    if (err == OK && !hash128_equal(&wrote, &found))
        err = FAIL(ERR_CORRUPT, "copy of a state is not what was written");
    rows_deinit(&from);
    rows_deinit(&to);
    return err;
}

enum err group_copy_begin(struct io *io, struct group_copy *copy, struct lane *apply_lane,
                          struct state *state, struct lane *lane)
{
    struct begin_job job = {.copy = copy, .state = state};
    copy->lane = lane;
    copy->seed.fill = fill;
    return lane_run(io, apply_lane, begin_on_lane, &job);
}

void group_copy_end(struct group_copy *copy)
{
    kv_snapshot_free(copy->snapshot);
    copy->snapshot = NULL;
}
