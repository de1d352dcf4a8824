/* Rows in memory and in the store: adding, finding, removing, opening. */
#include "drive_index.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "index_rows.h"
#include <assert.h>

enum { DRAIN_ROWS_MAX = 1024 };

/* --- rows in memory; the mutex is held --- */

static struct list *bucket_of(struct drive *drive, const struct shard_key *key)
{
    uint64_t words[3] = {key->block.volume, key->block.sequence, key->slot};
    return &drive->pending[hash64_of(slice_of(words, sizeof words)) % PENDING_BUCKETS];
}

/* The one that counts of those in memory. */
static struct pending_row *find_pending(struct drive *drive, const struct shard_key *key)
{
    struct pending_row *best = NULL;
    LIST_EACH(struct pending_row, row, bucket_of(drive, key), node)
    {
        if (!block_id_equal(row->key.block, key->block) || row->key.slot != key->slot)
            continue;
        if (best == NULL || row->place.epoch > best->place.epoch ||
            (row->place.epoch == best->place.epoch && row->replaces))
            best = row;
    }
    return best;
}

static struct pending_row *find_pending_record(struct drive *drive,
                                               const struct index_record *record)
{
    LIST_EACH(struct pending_row, row, bucket_of(drive, &record->key), node)
    {
        if (row->place.segment == record->segment && row->place.offset == record->offset)
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
                     const struct place *place, enum index_add how)
{
    struct pending_row *row = mem_new(struct pending_row);
    row->key = *key;
    row->place = *place;
    row->segment = segment;
    row->replaces = how == INDEX_ADD_REPLACES;
    pthread_mutex_lock(&drive->mutex);
    row->again = how != INDEX_ADD_FIRST || find_pending(drive, key) != NULL;
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

/* Of the two records of a shard: the one in memory, not that in the store. */
static bool pending_counts(const struct place *pending, bool replaces, const struct place *known)
{
    return pending->epoch > known->epoch ||
           (pending->epoch == known->epoch && (replaces || known->bad));
}

/* Another record of the shard may be in the store: the rows of the one that counts. The other keeps
 * its record row, by which it is found and punched. */
static enum err put_again(struct lane *lane, struct drive *drive, struct kv_batch *batch,
                          const struct pending_row *row)
{
    struct place known;
    enum err err = get_place(lane, drive, &row->key, &known);
    if (err != OK && err != ERR_NOT_FOUND)
        return err;
    bool counts = err == ERR_NOT_FOUND || pending_counts(&row->place, row->replaces, &known);
    if (counts)
        put_record_rows(batch, &row->key, &row->place);
    else
        put_record_row(batch, &row->key, &row->place);
    if (err == OK)
        note_stale(drive, &row->key, counts ? &known : &row->place);
    return OK;
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
        /* Begins a batch, so that what came before is in the store. */
        if (count == DRAIN_ROWS_MAX || (row->again && count > 0))
            break;
        rows[count++] = row;
    }
    pthread_mutex_unlock(&drive->mutex);
    for (uint32_t i = 0; i < count; i++) {
        if (rows[i]->again)
            TRY(put_again(lane, drive, batch, rows[i]));
        else
            put_record_rows(batch, &rows[i]->key, &rows[i]->place);
    }

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

uint32_t drive_index_take_stale(struct drive *drive, struct index_record *out, uint32_t max)
{
    pthread_mutex_lock(&drive->mutex);
    uint32_t count = drive->stale_count < max ? drive->stale_count : max;
    drive->stale_count -= count;
    memcpy(out, drive->stale + drive->stale_count, count * sizeof *out);
    pthread_mutex_unlock(&drive->mutex);
    return count;
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

static enum err find_stored(struct io *io, struct drive *drive, const struct shard_key *key,
                            struct place *out_place)
{
    enum err err = get_place(NULL, drive, key, out_place);
    if (err != ERR_WOULD_BLOCK)
        return err;
    struct index_job job = {.drive = drive, .key = key, .place = out_place};
    return index_run(io, drive->read_lane, get_job, &job);
}

enum err drive_index_find(struct io *io, struct drive *drive, const struct shard_key *key,
                          struct place *out_place)
{
    bool again = false;
    bool replaces = false;
    pthread_mutex_lock(&drive->mutex);
    struct pending_row *row = find_pending(drive, key);
    if (row != NULL) {
        *out_place = row->place;
        again = row->again;
        replaces = row->replaces;
    }
    pthread_mutex_unlock(&drive->mutex);
    if (row == NULL)
        return find_stored(io, drive, key, out_place);
    if (!again)
        return OK;
    struct place stored;
    enum err err = find_stored(io, drive, key, &stored);
    if (err == OK && !pending_counts(out_place, replaces, &stored))
        *out_place = stored;
    return err == ERR_NOT_FOUND ? OK : err;
}

static bool drop_pending(struct drive *drive, const struct index_record *record)
{
    pthread_mutex_lock(&drive->mutex);
    struct pending_row *row = find_pending_record(drive, record);
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
        const struct index_record *record = &job->records[i];
        bool found = false;
        if (drop_pending(drive, record))
            continue;
        TRY(find_record_row(lane, drive, record->segment, record->offset, &found));
        if (!found)
            continue;
        struct place place;
        enum err err = get_place(lane, drive, &record->key, &place);
        if (err != OK && err != ERR_NOT_FOUND)
            return err;
        bool counts =
            err == OK && place.segment == record->segment && place.offset == record->offset;
        remove_record_rows(batch, record, counts);
        uncount_record(drive, record->segment, record->bytes);
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

enum err drive_index_remove(struct io *io, struct drive *drive, const struct index_record *records,
                            uint32_t count)
{
    TRY(drive_check(drive));
    struct index_job job = {.drive = drive, .records = records, .count = count};
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
    struct kv_options options = {
        .cache_bytes = 16 << 20, .create = job->create, .discard = job->create};
    job->err = kv_open(job->provider, lane, job->path, &options, &job->drive->kv);
    if (job->err == OK)
        job->err = load_segments(lane, job);
    if (job->err != OK && job->drive->kv != NULL)
        kv_close(TAKE(job->drive->kv));
}

/* Named after the drive: the store of one whose place this one took in the same life is still open,
 * and a store is known by its path. */
static char *path_of_store(const struct drive *drive)
{
    char id[2 * sizeof drive->superblock->drive.bytes + 1];
    text_hex(slice_of(drive->superblock->drive.bytes, sizeof drive->superblock->drive.bytes), id);
    return mem_format("%s/index/%s", drive->directory, id);
}

/* Beside it while it is known to be damaged; goes with it. */
static char *path_of_condemned(const struct drive *drive)
{
    return mem_format("%s/index/damaged", drive->directory);
}

enum err drive_index_condemn(struct io *io, struct drive *drive)
{
    TRY(drive_check(drive));
    AUTO_STRING parent = mem_format("%s/index", drive->directory);
    AUTO_STRING path = path_of_condemned(drive);
    AUTO(file) file = NULL;
    TRY(io_open(io, path, FILE_WRITE | FILE_CREATE, &file));
    return io_sync_directory(io, parent);
}

enum err drive_index_open(struct io *io, struct drive *drive, struct kv_provider *provider,
                          struct segment_row **out_rows, uint32_t *out_row_count, bool *out_rebuild)
{
    AUTO_STRING parent = mem_format("%s/index", drive->directory);
    AUTO_STRING path = path_of_store(drive);
    AUTO_STRING condemned = path_of_condemned(drive);
    struct file_info info;
    struct index_job job = {.drive = drive, .provider = provider, .path = path};
    enum err err = io_stat(io, condemned, &info) == OK
                       ? ERR_CORRUPT
                       : index_run(io, drive->index_lane, open_job, &job);
    *out_rebuild = err == ERR_CORRUPT || err == ERR_NOT_FOUND;
    if (*out_rebuild) {
        if (err == ERR_CORRUPT)
            log_warn("drive: index damaged, it is rebuilt from the segments directory=%s",
                     drive->directory);
        mem_free(job.rows);
        job =
            (struct index_job){.drive = drive, .provider = provider, .path = path, .create = true};
        TRY(io_remove_tree(io, parent));
        TRY(io_make_directory(io, parent));
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
