/* Walking through the index, and putting rows that recovery found. */
#include "base/log.h"
#include "base/mem.h"
#include "index_rows.h"
#include <assert.h>
#include <inttypes.h>

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
            remove_record_rows(batch, &entry->key, &known);
            uncount_record(drive, &known);
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
    struct index_job job = {.drive = drive, .segment = segment, .entries = entries, .count = count};
    return index_run(io, drive->index_lane, restore_job, &job);
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
    return index_change(io, drive, put_segment_job, &job);
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
    return index_change(io, drive, drop_segment_job, &job);
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
    AUTO(kv_iterator) iterator =
        kv_iterator_new(lane, job->drive->kv, NULL, bytes_slice(&from), bytes_slice(&to));
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
    TRY(index_run(io, drive->read_lane, page_job, &job));
    *out_count = job.count;
    return OK;
}

static enum err list_entries(struct lane *lane, struct index_job *job)
{
    AUTO_VALUE(bytes) from = {.max = KEY_BYTES_MAX};
    AUTO_VALUE(bytes) to = {.max = KEY_BYTES_MAX};
    encode_record_key(&from, job->segment_id, 0);
    encode_record_key(&to, job->segment_id + 1, 0);
    AUTO(kv_iterator) iterator =
        kv_iterator_new(lane, job->drive->kv, NULL, bytes_slice(&from), bytes_slice(&to));
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
    enum err err = index_run(io, drive->read_lane, entries_job, &job);
    if (err != OK) {
        mem_free(job.out_entries);
        return err;
    }
    *out_entries = job.out_entries;
    *out_count = job.count;
    return OK;
}
