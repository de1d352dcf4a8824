#include "drive_index.h"

#include "base/encode.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include <assert.h>
#include <inttypes.h>

enum {
    TABLE_BLOCK = 1,   /* volume, sequence, slot -> place */
    TABLE_RECORD = 2,  /* segment, offset -> block, slot, bytes */
    TABLE_SEGMENT = 3, /* segment -> segment_row */
    ROW_VERSION = 1,
    ROW_BYTES_MAX = 512,
    KEY_BYTES_MAX = 32,
    DRAIN_ROWS_MAX = 1024,
    FLAG_BAD = 1,
};

/* --- rows as bytes --- */

static void encode_block_key(struct bytes *out, const struct shard_key *key)
{
    encode_key_u8(out, TABLE_BLOCK);
    encode_key_u64(out, key->block.volume);
    encode_key_u64(out, key->block.sequence);
    encode_key_u8(out, key->slot);
}

static enum err decode_block_key(struct slice bytes, struct shard_key *out)
{
    struct decoder decoder = decoder_of(bytes);
    (void)decode_key_u8(&decoder);
    out->block.volume = decode_key_u64(&decoder);
    out->block.sequence = decode_key_u64(&decoder);
    out->slot = decode_key_u8(&decoder);
    return decode_finish(&decoder, "index key");
}

static void encode_record_key(struct bytes *out, uint64_t segment, uint64_t offset)
{
    encode_key_u8(out, TABLE_RECORD);
    encode_key_u64(out, segment);
    encode_key_u64(out, offset);
}

static void encode_segment_key(struct bytes *out, uint64_t segment)
{
    encode_key_u8(out, TABLE_SEGMENT);
    encode_key_u64(out, segment);
}

static void encode_place(struct bytes *out, const struct place *place)
{
    encode_u8(out, ROW_VERSION);
    encode_u8(out, place->bad ? FLAG_BAD : 0);
    encode_u8(out, (uint8_t)place->kind);
    encode_u8(out, place->data_shards);
    encode_u8(out, place->parity_shards);
    encode_varint(out, place->segment);
    encode_varint(out, place->offset);
    encode_varint(out, place->bytes);
    encode_varint(out, place->epoch);
    encode_varint(out, place->generation);
    encode_varint(out, place->payload_bytes);
    encode_varint(out, place->block_bytes);
    encode_varint(out, place->unit_bytes);
    encode_varint(out, place->cell_count);
    for (uint32_t i = 0; i < place->cell_count; i++)
        encode_u32(out, place->cell_crcs[i]);
    assert(!out->overflow);
}

static enum err decode_place(struct slice bytes, struct place *out)
{
    struct decoder decoder = decoder_of(bytes);
    if (decode_u8(&decoder) != ROW_VERSION)
        return FAIL(ERR_CORRUPT, "index row version");
    *out = (struct place){.bad = (decode_u8(&decoder) & FLAG_BAD) != 0};
    out->kind = (enum record_kind)decode_u8(&decoder);
    out->data_shards = decode_u8(&decoder);
    out->parity_shards = decode_u8(&decoder);
    out->segment = decode_varint(&decoder);
    out->offset = decode_varint(&decoder);
    out->bytes = decode_varint(&decoder);
    out->epoch = decode_varint(&decoder);
    out->generation = (uint32_t)decode_varint(&decoder);
    out->payload_bytes = (uint32_t)decode_varint(&decoder);
    out->block_bytes = (uint32_t)decode_varint(&decoder);
    out->unit_bytes = (uint32_t)decode_varint(&decoder);
    out->cell_count = (uint32_t)decode_varint(&decoder);
    if (out->cell_count > PLACE_CELLS_MAX || out->payload_bytes > RECORD_PAYLOAD_BYTES_MAX ||
        out->offset % RECORD_ALIGN_BYTES != 0 || out->bytes % RECORD_ALIGN_BYTES != 0)
        return FAIL(ERR_CORRUPT, "index row with impossible fields");
    for (uint32_t i = 0; i < out->cell_count; i++)
        out->cell_crcs[i] = decode_u32(&decoder);
    return decode_finish(&decoder, "index row");
}

static void put_segment_row(struct kv_batch *batch, const struct segment_file *segment)
{
    AUTO_VALUE(bytes) key = {.max = KEY_BYTES_MAX};
    AUTO_VALUE(bytes) value = {.max = ROW_BYTES_MAX};
    encode_segment_key(&key, segment->identity.segment);
    encode_u8(&value, ROW_VERSION);
    encode_u8(&value, (uint8_t)segment->kind);
    encode_u8(&value, segment->state == SEGMENT_SEALED);
    encode_raw(&value, slice_of(segment->identity.nonce, RECORD_NONCE_BYTES));
    encode_u64(&value, segment->end);
    encode_u64(&value, segment->watermark);
    encode_u64(&value, segment->live_bytes);
    encode_u64(&value, segment->live_count);
    kv_batch_put(batch, bytes_slice(&key), bytes_slice(&value));
}

static enum err decode_segment_row(struct slice key, struct slice value, struct segment_row *out)
{
    struct decoder decoder = decoder_of(key);
    (void)decode_key_u8(&decoder);
    out->segment = decode_key_u64(&decoder);
    TRY(decode_finish(&decoder, "segment key"));
    decoder = decoder_of(value);
    if (decode_u8(&decoder) != ROW_VERSION)
        return FAIL(ERR_CORRUPT, "segment row version");
    out->kind = (enum segment_kind)decode_u8(&decoder);
    out->sealed = decode_u8(&decoder) != 0;
    decode_copy(&decoder, out->nonce, RECORD_NONCE_BYTES);
    out->end = decode_u64(&decoder);
    out->watermark = decode_u64(&decoder);
    out->live_bytes = decode_u64(&decoder);
    out->live_count = decode_u64(&decoder);
    return decode_finish(&decoder, "segment row");
}

static void put_record_rows(struct kv_batch *batch, const struct shard_key *key,
                            const struct place *place)
{
    AUTO_VALUE(bytes) row_key = {.max = KEY_BYTES_MAX};
    AUTO_VALUE(bytes) value = {.max = ROW_BYTES_MAX};
    encode_block_key(&row_key, key);
    encode_place(&value, place);
    kv_batch_put(batch, bytes_slice(&row_key), bytes_slice(&value));
    bytes_clear(&row_key);
    bytes_clear(&value);
    encode_record_key(&row_key, place->segment, place->offset);
    encode_u8(&value, ROW_VERSION);
    encode_u64(&value, key->block.volume);
    encode_u64(&value, key->block.sequence);
    encode_u8(&value, key->slot);
    encode_varint(&value, place->bytes);
    kv_batch_put(batch, bytes_slice(&row_key), bytes_slice(&value));
}

struct place place_of_record(const struct record *record, uint64_t segment, uint64_t total_bytes)
{
    struct place place = {
        .segment = segment,
        .offset = record->offset,
        .bytes = total_bytes,
        .epoch = record->epoch,
        .payload_bytes = record->payload_bytes,
        .block_bytes = record->block_bytes,
        .unit_bytes = record->unit_bytes,
        .generation = record->generation,
        .kind = record->kind,
        .data_shards = record->data_shards,
        .parity_shards = record->parity_shards,
    };
    if (record->cell_count <= PLACE_CELLS_MAX) {
        place.cell_count = record->cell_count;
        memcpy(place.cell_crcs, record->cell_crcs, 4 * record->cell_count);
    }
    return place;
}

/* --- rows in memory; the mutex is held --- */

static struct list *bucket_of(struct drive *drive, const struct shard_key *key)
{
    uint64_t words[3] = {key->block.volume, key->block.sequence, key->slot};
    return &drive->pending[hash64_of(slice_of(words, sizeof words)) % PENDING_BUCKETS];
}

static struct pending_row *find_pending(struct drive *drive, const struct shard_key *key)
{
    LIST_EACH (struct pending_row, row, bucket_of(drive, key), node) {
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
        segment->entries = mem_resize(segment->entries,
                                      segment->entries_capacity * sizeof(struct segment_entry));
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

struct index_job {
    struct drive *drive;
    enum err err;
    struct kv_provider *provider;
    const char *path;
    struct segment_row *rows;
    uint32_t row_count;
    bool create;
    const struct shard_key *keys;
    struct shard_key *out_keys;
    const struct index_entry *entries;
    struct segment_entry *out_entries;
    uint32_t count, max;
    const struct shard_key *key;
    struct place *place;
    struct segment_file *segment;
    uint64_t segment_id;
};

static enum err run(struct io *io, struct lane *lane, lane_fn *fn, struct index_job *job)
{
    TRY(lane_run(io, lane, fn, job));
    return job->err;
}

static void put_dirty_segments(struct drive *drive, struct kv_batch *batch)
{
    for (uint32_t i = 0; i < drive->segment_count; i++) {
        struct segment_file *segment = drive->segments[i];
        if (segment->dirty)
            put_segment_row(batch, segment);
        segment->dirty = false;
    }
}

/* Add the rows to what lives in their segments and put the segments' rows in the batch, or take that back. */
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

/* A watermark goes to the store with the batch after the rows that it covers, so whichever prefix of
 * batches survives a crash (K1), records without a row are above it and found by the scan. */
static enum err drain(struct lane *lane, struct drive *drive)
{
    struct pending_row *rows[DRAIN_ROWS_MAX];
    uint32_t count = 0;
    AUTO(kv_batch) batch = kv_batch_new(drive->kv);
    pthread_mutex_lock(&drive->mutex);
    LIST_EACH (struct pending_row, row, &drive->pending_queue, queue_node) {
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

static void fence_on_error(struct drive *drive, enum err err)
{
    if (err == ERR_IO || err == ERR_CORRUPT)
        drive_fence(drive, "index", err);
}

enum err drive_index_drain(struct io *io, struct drive *drive)
{
    TRY(drive_check(drive));
    struct index_job job = {.drive = drive};
    enum err err = run(io, drive->index_lane, drain_job, &job);
    fence_on_error(drive, err);
    return err;
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
    enum err err = run(io, drive->index_lane, flush_job, &job);
    fence_on_error(drive, err);
    return err;
}

static enum err get_place(struct lane *lane, struct drive *drive, const struct shard_key *key,
                          struct place *out)
{
    AUTO_VALUE(bytes) row_key = {.max = KEY_BYTES_MAX};
    AUTO_VALUE(bytes) value = {.max = ROW_BYTES_MAX};
    encode_block_key(&row_key, key);
    TRY(lane == NULL ? kv_try_get(drive->kv, bytes_slice(&row_key), &value)
                     : kv_get(lane, drive->kv, bytes_slice(&row_key), &value));
    return decode_place(bytes_slice(&value), out);
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
    return run(io, drive->read_lane, get_job, &job);
}

static void batch_remove(struct kv_batch *batch, const struct shard_key *key,
                         const struct place *place)
{
    AUTO_VALUE(bytes) row_key = {.max = KEY_BYTES_MAX};
    encode_block_key(&row_key, key);
    kv_batch_delete(batch, bytes_slice(&row_key));
    bytes_clear(&row_key);
    encode_record_key(&row_key, place->segment, place->offset);
    kv_batch_delete(batch, bytes_slice(&row_key));
}

static void uncount(struct drive *drive, const struct place *place)
{
    pthread_mutex_lock(&drive->mutex);
    struct segment_file *segment = drive_segment_find(drive, place->segment);
    if (segment != NULL) {
        assert(segment->live_count > 0);
        segment->live_count--;
        segment->live_bytes -= place->bytes;
        segment->dirty = true;
    }
    pthread_mutex_unlock(&drive->mutex);
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
        batch_remove(batch, &job->keys[i], &place);
        uncount(drive, &place);
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
    enum err err = run(io, drive->index_lane, remove_job, &job);
    fence_on_error(drive, err);
    return err;
}

/* --- recovery --- */

static enum err restore_rows(struct lane *lane, struct index_job *job)
{
    struct drive *drive = job->drive;
    AUTO(kv_batch) batch = kv_batch_new(drive->kv);
    for (uint32_t i = 0; i < job->count; i++) {
        const struct index_entry *entry = &job->entries[i];
        struct place known;
        enum err err = get_place(lane, drive, &entry->key, &known);
        if (err != OK && err != ERR_NOT_FOUND)
            return err;
        bool same = err == OK && known.segment == entry->place.segment &&
                    known.offset == entry->place.offset;
        if (same && known.bad == entry->place.bad)
            continue;
        if (err == OK && !known.bad && entry->place.bad && !same)
            continue;
        if (err == OK && !same && !known.bad)
            log_error("drive: two records of one shard volume=%" PRIu64 " sequence=%" PRIu64
                      " segments=%" PRIu64 ",%" PRIu64,
                      entry->key.block.volume, entry->key.block.sequence, known.segment,
                      entry->place.segment);
        if (err == OK && !same) {
            batch_remove(batch, &entry->key, &known);
            uncount(drive, &known);
        }
        put_record_rows(batch, &entry->key, &entry->place);
        if (!same) {
            job->segment->live_bytes += entry->place.bytes;
            job->segment->live_count++;
        }
    }
    put_segment_row(batch, job->segment);
    return kv_write(lane, drive->kv, batch);
}

static void restore_job(struct lane *lane, void *argument)
{
    struct index_job *job = argument;
    job->err = restore_rows(lane, job);
}

enum err drive_index_restore(struct io *io, struct drive *drive, struct segment_file *segment,
                             const struct index_entry *entries, uint32_t count)
{
    struct index_job job = {
        .drive = drive, .segment = segment, .entries = entries, .count = count};
    return run(io, drive->index_lane, restore_job, &job);
}

static void put_segment_job(struct lane *lane, void *argument)
{
    struct index_job *job = argument;
    AUTO(kv_batch) batch = kv_batch_new(job->drive->kv);
    pthread_mutex_lock(&job->drive->mutex);
    put_segment_row(batch, job->segment);
    job->segment->dirty = false;
    pthread_mutex_unlock(&job->drive->mutex);
    job->err = kv_write(lane, job->drive->kv, batch);
}

enum err drive_index_put_segment(struct io *io, struct drive *drive, struct segment_file *segment)
{
    struct index_job job = {.drive = drive, .segment = segment};
    enum err err = run(io, drive->index_lane, put_segment_job, &job);
    fence_on_error(drive, err);
    return err;
}

static void drop_segment_job(struct lane *lane, void *argument)
{
    struct index_job *job = argument;
    AUTO(kv_batch) batch = kv_batch_new(job->drive->kv);
    AUTO_VALUE(bytes) from = {.max = KEY_BYTES_MAX};
    encode_segment_key(&from, job->segment_id);
    kv_batch_delete(batch, bytes_slice(&from));
    job->err = kv_write(lane, job->drive->kv, batch);
}

enum err drive_index_drop_segment(struct io *io, struct drive *drive, uint64_t segment)
{
    struct index_job job = {.drive = drive, .segment_id = segment};
    enum err err = run(io, drive->index_lane, drop_segment_job, &job);
    fence_on_error(drive, err);
    return err;
}

/* --- pages --- */

static enum err page(struct lane *lane, struct index_job *job)
{
    AUTO_VALUE(bytes) from = {.max = KEY_BYTES_MAX};
    AUTO_VALUE(bytes) to = {.max = KEY_BYTES_MAX};
    encode_key_u8(&to, TABLE_BLOCK + 1);
    if (job->key == NULL) {
        encode_key_u8(&from, TABLE_BLOCK);
    } else {
        encode_block_key(&from, job->key);
        encode_key_u8(&from, 0); /* the first key behind it */
    }
    AUTO(kv_iterator) iterator = kv_iterator_new(lane, job->drive->kv, NULL, bytes_slice(&from),
                                                 bytes_slice(&to));
    kv_iterator_seek(iterator, bytes_slice(&from));
    while (job->count < job->max && kv_iterator_valid(iterator)) {
        TRY(decode_block_key(kv_iterator_key(iterator), &job->out_keys[job->count]));
        job->count++;
        kv_iterator_next(iterator);
    }
    return kv_iterator_error(iterator);
}

static void page_job(struct lane *lane, void *argument)
{
    struct index_job *job = argument;
    job->err = page(lane, job);
}

enum err drive_index_page(struct io *io, struct drive *drive, const struct shard_key *after,
                          struct shard_key *out_keys, uint32_t max, uint32_t *out_count)
{
    struct index_job job = {.drive = drive, .key = after, .out_keys = out_keys, .max = max};
    TRY(run(io, drive->read_lane, page_job, &job));
    *out_count = job.count;
    return OK;
}

static enum err list_entries(struct lane *lane, struct index_job *job)
{
    AUTO_VALUE(bytes) from = {.max = KEY_BYTES_MAX};
    AUTO_VALUE(bytes) to = {.max = KEY_BYTES_MAX};
    encode_record_key(&from, job->segment_id, 0);
    encode_record_key(&to, job->segment_id + 1, 0);
    AUTO(kv_iterator) iterator = kv_iterator_new(lane, job->drive->kv, NULL, bytes_slice(&from),
                                                 bytes_slice(&to));
    for (kv_iterator_seek(iterator, bytes_slice(&from));
         kv_iterator_valid(iterator) && job->count < SEGMENT_ENTRIES_MAX;
         kv_iterator_next(iterator)) {
        if (job->count == job->max) {
            job->max = job->max == 0 ? 64 : 2 * job->max;
            job->out_entries =
                mem_resize(job->out_entries, job->max * sizeof(struct segment_entry));
        }
        struct segment_entry *entry = &job->out_entries[job->count++];
        struct decoder decoder = decoder_of(slice_skip(kv_iterator_key(iterator), 9));
        entry->offset = decode_key_u64(&decoder);
        decoder = decoder_of(kv_iterator_value(iterator));
        (void)decode_u8(&decoder);
        entry->block.volume = decode_u64(&decoder);
        entry->block.sequence = decode_u64(&decoder);
        entry->slot = decode_u8(&decoder);
        entry->bytes = decode_varint(&decoder);
        TRY(decode_finish(&decoder, "record row"));
    }
    return kv_iterator_error(iterator);
}

static void entries_job(struct lane *lane, void *argument)
{
    struct index_job *job = argument;
    job->err = list_entries(lane, job);
}

enum err drive_index_entries(struct io *io, struct drive *drive, uint64_t segment,
                             struct segment_entry **out_entries, uint32_t *out_count)
{
    struct index_job job = {.drive = drive, .segment_id = segment};
    enum err err = run(io, drive->read_lane, entries_job, &job);
    if (err != OK) {
        mem_free(job.out_entries);
        return err;
    }
    *out_entries = job.out_entries;
    *out_count = job.count;
    return OK;
}

/* --- opening --- */

static enum err load_segments(struct lane *lane, struct index_job *job)
{
    AUTO_VALUE(bytes) from = {.max = KEY_BYTES_MAX};
    AUTO_VALUE(bytes) to = {.max = KEY_BYTES_MAX};
    encode_key_u8(&from, TABLE_SEGMENT);
    encode_key_u8(&to, TABLE_SEGMENT + 1);
    AUTO(kv_iterator) iterator = kv_iterator_new(lane, job->drive->kv, NULL, bytes_slice(&from),
                                                 bytes_slice(&to));
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
                          struct segment_row **out_rows, uint32_t *out_row_count,
                          bool *out_rebuild)
{
    AUTO_STRING path = mem_format("%s/index", drive->directory);
    struct index_job job = {.drive = drive, .provider = provider, .path = path};
    enum err err = run(io, drive->index_lane, open_job, &job);
    *out_rebuild = err == ERR_CORRUPT || err == ERR_NOT_FOUND;
    if (*out_rebuild) {
        if (err == ERR_CORRUPT)
            log_warn("drive: index damaged, it is rebuilt from the segments directory=%s",
                     drive->directory);
        mem_free(job.rows);
        job = (struct index_job){
            .drive = drive, .provider = provider, .path = path, .create = true};
        TRY(io_remove_tree(io, path));
        err = run(io, drive->index_lane, open_job, &job);
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
        struct pending_row *row = CONTAINER_OF(list_pop_front(&drive->pending_queue),
                                               struct pending_row, queue_node);
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
