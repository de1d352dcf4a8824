/* Rows in memory and in the store: adding, finding, removing, opening. */
#include "drive_index.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "index_rows.h"
#include <assert.h>

enum { DRAIN_ROWS_MAX = 1024 };

/* --- rows in memory; the mutex is held --- */

static struct list *bucket_of(struct drive *drive, const struct shard_key *key)
{
    uint64_t words[3] = {key->block.volume, key->block.sequence, key->slot};
    return &drive->pending[hash64_of(slice_of(words, sizeof words)) % PENDING_BUCKETS];
}

static struct pending_row *find_pending(struct drive *drive, const struct shard_key *key)
{
    LIST_EACH(struct pending_row, row, bucket_of(drive, key), node)
    {
        if (block_id_equal(row->key.block, key->block) && row->key.slot == key->slot)
            return row;
    }
    return NULL;
}

/* The row is in the store, or not wanted any more. */
static void finish_pending(struct drive *drive, struct pending_row *row)
{
    drive_extent_move(row->segment, row->place.offset, EXTENT_DONE);
    list_remove(bucket_of(drive, &row->key), &row->node);
    list_remove(&drive->pending_queue, &row->queue_node);
}

static void push_entry(struct segment_file *segment, const struct shard_key *key,
                       const struct place *place)
{
    if (segment->entries_count == segment->entries_capacity) {
        segment->entries_capacity =
            segment->entries_capacity == 0 ? 64 : 2 * segment->entries_capacity;
        segment->entries =
            mem_resize(segment->entries, segment->entries_capacity * sizeof(struct segment_entry));
    }
    segment->entries[segment->entries_count++] = (struct segment_entry){
        .block = key->block, .offset = place->offset, .bytes = place->bytes, .slot = key->slot};
}

void drive_index_add(struct drive *drive, struct segment_file *segment, const struct shard_key *key,
                     const struct place *place)
{
    struct pending_row *row = mem_new(struct pending_row);
    row->key = *key;
    row->place = *place;
    row->segment = segment;
    pthread_mutex_lock(&drive->mutex);
    assert(find_pending(drive, key) == NULL);
    segment->users++;
    list_push_back(bucket_of(drive, key), &row->node);
    list_push_back(&drive->pending_queue, &row->queue_node);
    push_entry(segment, key, place);
    drive_extent_move(segment, place->offset, EXTENT_DURABLE);
    pthread_mutex_unlock(&drive->mutex);
}

bool drive_index_is_full(struct drive *drive)
{
    pthread_mutex_lock(&drive->mutex);
    bool full = drive->pending_queue.count >= DRIVE_PENDING_MAX;
    pthread_mutex_unlock(&drive->mutex);
    return full;
}

bool drive_index_is_idle(struct drive *drive)
{
    pthread_mutex_lock(&drive->mutex);
    bool idle = drive->pending_queue.count == 0;
    pthread_mutex_unlock(&drive->mutex);
    return idle;
}

/* --- on the index lane --- */

static void put_dirty_segments(struct drive *drive, struct kv_batch *batch)
{
    for (uint32_t i = 0; i < drive->segment_count; i++) {
        struct segment_file *segment = drive->segments[i];
        if (segment->dirty)
            put_segment_row(batch, segment);
        segment->dirty = false;
    }
}

/* Add the rows to what lives in their segments and put the segments' rows in the batch, or
 * take that back. */
static void count_rows(struct drive *drive, struct kv_batch *batch, struct pending_row **rows,
                       uint32_t count, int sign)
{
    pthread_mutex_lock(&drive->mutex);
    for (uint32_t i = 0; i < count; i++) {
        struct segment_file *segment = rows[i]->segment;
        segment->live_bytes += (uint64_t)sign * rows[i]->place.bytes;
        segment->live_count += (uint64_t)sign;
        segment->dirty = true;
    }
    if (batch != NULL)
        put_dirty_segments(drive, batch);
    pthread_mutex_unlock(&drive->mutex);
}

/* A watermark goes to the store with the batch after the rows that it covers, so whichever
 * prefix of batches survives a crash (K1), records without a row are above it and found by the
 * scan. */
static enum err drain(struct lane *lane, struct drive *drive)
{
    struct pending_row *rows[DRAIN_ROWS_MAX];
    uint32_t count = 0;
    AUTO(kv_batch) batch = kv_batch_new(drive->kv);
    pthread_mutex_lock(&drive->mutex);
    LIST_EACH(struct pending_row, row, &drive->pending_queue, queue_node)
    {
        if (count < DRAIN_ROWS_MAX)
            rows[count++] = row;
    }
    pthread_mutex_unlock(&drive->mutex);
    for (uint32_t i = 0; i < count; i++)
        put_record_rows(batch, &rows[i]->key, &rows[i]->place);

    /* This lane is the only one that takes rows out, so they are still there. */
    count_rows(drive, batch, rows, count, 1);
    enum err err = kv_batch_count(batch) > 0 ? kv_write(lane, drive->kv, batch) : OK;
    if (err != OK) {
        /* The rows stay in memory: what was acknowledged is still found. */
        count_rows(drive, NULL, rows, count, -1);
        return err;
    }
    pthread_mutex_lock(&drive->mutex);
    for (uint32_t i = 0; i < count; i++)
        finish_pending(drive, rows[i]);
    pthread_mutex_unlock(&drive->mutex);
    for (uint32_t i = 0; i < count; i++) {
        drive_segment_release(drive, rows[i]->segment);
        mem_free(rows[i]);
    }
    return OK;
}

static void drain_job(struct lane *lane, void *argument)
{
    struct index_job *job = argument;
    job->err = drain(lane, job->drive);
}

enum err drive_index_drain(struct io *io, struct drive *drive)
{
    TRY(drive_check(drive));
    struct index_job job = {.drive = drive};
    return index_change(io, drive, drain_job, &job);
}

static void flush_job(struct lane *lane, void *argument)
{
    struct index_job *job = argument;
    job->err = kv_flush(lane, job->drive->kv);
}

enum err drive_index_flush(struct io *io, struct drive *drive)
{
    TRY(drive_check(drive));
    struct index_job job = {.drive = drive};
    return index_change(io, drive, flush_job, &job);
}

static void get_job(struct lane *lane, void *argument)
{
    struct index_job *job = argument;
    job->err = get_place(lane, job->drive, job->key, job->place);
}

enum err drive_index_find(struct io *io, struct drive *drive, const struct shard_key *key,
                          struct place *out_place)
{
    pthread_mutex_lock(&drive->mutex);
    struct pending_row *row = find_pending(drive, key);
    if (row != NULL)
        *out_place = row->place;
    pthread_mutex_unlock(&drive->mutex);
    if (row != NULL)
        return OK;
    enum err err = get_place(NULL, drive, key, out_place);
    if (err != ERR_WOULD_BLOCK)
        return err;
    struct index_job job = {.drive = drive, .key = key, .place = out_place};
    return index_run(io, drive->read_lane, get_job, &job);
}

static bool drop_pending(struct drive *drive, const struct shard_key *key)
{
    pthread_mutex_lock(&drive->mutex);
    struct pending_row *row = find_pending(drive, key);
    if (row != NULL)
        finish_pending(drive, row);
    pthread_mutex_unlock(&drive->mutex);
    if (row == NULL)
        return false;
    drive_segment_release(drive, row->segment);
    mem_free(row);
    return true;
}

static enum err remove_rows(struct lane *lane, struct index_job *job)
{
    struct drive *drive = job->drive;
    AUTO(kv_batch) batch = kv_batch_new(drive->kv);
    for (uint32_t i = 0; i < job->count; i++) {
        if (drop_pending(drive, &job->keys[i]))
            continue;
        struct place place;
        enum err err = get_place(lane, drive, &job->keys[i], &place);
        if (err == ERR_NOT_FOUND)
            continue;
        if (err != OK)
            return err;
        remove_record_rows(batch, &job->keys[i], &place);
        uncount_record(drive, &place);
    }
    pthread_mutex_lock(&drive->mutex);
    put_dirty_segments(drive, batch);
    pthread_mutex_unlock(&drive->mutex);
    return kv_batch_count(batch) > 0 ? kv_write(lane, drive->kv, batch) : OK;
}

static void remove_job(struct lane *lane, void *argument)
{
    struct index_job *job = argument;
    job->err = remove_rows(lane, job);
}

enum err drive_index_remove(struct io *io, struct drive *drive, const struct shard_key *keys,
                            uint32_t count)
{
    TRY(drive_check(drive));
    struct index_job job = {.drive = drive, .keys = keys, .count = count};
    return index_change(io, drive, remove_job, &job);
}

/* --- opening --- */

static enum err load_segments(struct lane *lane, struct index_job *job)
{
    AUTO_VALUE(bytes) from = {.max = KEY_BYTES_MAX};
    AUTO_VALUE(bytes) to = {.max = KEY_BYTES_MAX};
    encode_key_u8(&from, TABLE_SEGMENT);
    encode_key_u8(&to, TABLE_SEGMENT + 1);
    AUTO(kv_iterator) iterator =
        kv_iterator_new(lane, job->drive->kv, NULL, bytes_slice(&from), bytes_slice(&to));
    for (kv_iterator_seek(iterator, bytes_slice(&from)); kv_iterator_valid(iterator);
         kv_iterator_next(iterator)) {
        if (job->row_count == job->max) {
            job->max = job->max == 0 ? 64 : 2 * job->max;
            job->rows = mem_resize(job->rows, job->max * sizeof(struct segment_row));
        }
        TRY(decode_segment_row(kv_iterator_key(iterator), kv_iterator_value(iterator),
                               &job->rows[job->row_count]));
        job->row_count++;
    }
    return kv_iterator_error(iterator);
}

static void open_job(struct lane *lane, void *argument)
{
    struct index_job *job = argument;
    struct kv_options options = {.cache_bytes = 16 << 20, .create = job->create};
    job->err = kv_open(job->provider, lane, job->path, &options, &job->drive->kv);
    if (job->err == OK)
        job->err = load_segments(lane, job);
    if (job->err != OK && job->drive->kv != NULL)
        kv_close(TAKE(job->drive->kv));
}

enum err drive_index_open(struct io *io, struct drive *drive, struct kv_provider *provider,
                          struct segment_row **out_rows, uint32_t *out_row_count, bool *out_rebuild)
{
    AUTO_STRING path = mem_format("%s/index", drive->directory);
    struct index_job job = {.drive = drive, .provider = provider, .path = path};
    enum err err = index_run(io, drive->index_lane, open_job, &job);
    *out_rebuild = err == ERR_CORRUPT || err == ERR_NOT_FOUND;
    if (*out_rebuild) {
        if (err == ERR_CORRUPT)
            log_warn("drive: index damaged, it is rebuilt from the segments directory=%s",
                     drive->directory);
        mem_free(job.rows);
        job =
            (struct index_job){.drive = drive, .provider = provider, .path = path, .create = true};
        TRY(io_remove_tree(io, path));
        err = index_run(io, drive->index_lane, open_job, &job);
    }
    if (err != OK) {
        mem_free(job.rows);
        return err;
    }
    *out_rows = job.rows;
    *out_row_count = job.row_count;
    return OK;
}

static void drop_all_pending(struct drive *drive)
{
    while (drive->pending_queue.count > 0) {
        struct pending_row *row =
            CONTAINER_OF(list_pop_front(&drive->pending_queue), struct pending_row, queue_node);
        list_remove(bucket_of(drive, &row->key), &row->node);
        drive_segment_release(drive, row->segment);
        mem_free(row);
    }
}

static void close_job(struct lane *lane, void *argument)
{
    (void)lane;
    struct index_job *job = argument;
    kv_close(TAKE(job->drive->kv));
}

void drive_index_close(struct io *io, struct drive *drive)
{
    if (drive->kv == NULL)
        return;
    enum err err = OK;
    while (err == OK && !drive_index_is_idle(drive))
        err = drive_index_drain(io, drive);
    if (err == OK)
        err = drive_index_drain(io, drive);
    if (err == OK)
        (void)drive_index_flush(io, drive); /* what is not flushed is found by the next scan */
    drop_all_pending(drive);
    struct index_job job = {.drive = drive};
    if (lane_run(io, drive->index_lane, close_job, &job) != OK && drive->kv != NULL)
        kv_close(TAKE(drive->kv));
}
