/* Walking through the index, and putting rows that recovery found. */
#include "base/log.h"
#include "base/mem.h"
#include "index_rows.h"
#include <assert.h>
#include <inttypes.h>

/* --- recovery --- */

/* The one known and the one found are two records of one shard. The one found was read from end to
 * end just now; perhaps it was written because the other is no good. */
static bool found_counts(const struct place *known, const struct place *found)
{
    if (known->bad != found->bad)
        return known->bad;
    return found->epoch >= known->epoch;
}

static enum err restore_one(struct lane *lane, struct index_job *job, struct kv_batch *batch,
                            const struct index_entry *entry)
{
    struct place known;
    enum err err = get_place(lane, job->drive, &entry->key, &known);
    if (err != OK && err != ERR_NOT_FOUND)
        return err;
    bool same =
        err == OK && known.segment == entry->place.segment && known.offset == entry->place.offset;
    if (same && known.bad == entry->place.bad)
        return OK;
    bool counts = err == ERR_NOT_FOUND || same || found_counts(&known, &entry->place);
    if (!counts && entry->place.bad)
        return OK; /* nobody needs it, and how long it is only a bad record says */
    bool listed = same;
    if (!same)
        TRY(find_record_row(lane, job->drive, entry->place.segment, entry->place.offset, &listed));
    if (counts)
        put_record_rows(batch, &entry->key, &entry->place);
    else
        put_record_row(batch, &entry->key, &entry->place);
    if (err == OK && !same)
        note_stale(job->drive, &entry->key, counts ? &known : &entry->place);
    if (!listed) {
        job->segment->live_bytes += entry->place.bytes;
        job->segment->live_count++;
    }
    return OK;
}

/* Whether one of the first `count` is of the same shard. */
static bool is_again(const struct index_entry *entries, uint32_t from, uint32_t count)
{
    const struct shard_key *key = &entries[count].key;
    for (uint32_t i = from; i < count; i++) {
        if (block_id_equal(entries[i].key.block, key->block) && entries[i].key.slot == key->slot)
            return true;
    }
    return false;
}

static enum err restore_rows(struct lane *lane, struct index_job *job)
{
    struct drive *drive = job->drive;
    AUTO(kv_batch) batch = kv_batch_new(drive->kv);
    uint32_t from = 0; /* of what is in the batch */
    for (uint32_t i = 0; i < job->count; i++) {
        if (is_again(job->entries, from, i)) {
            TRY(kv_write(lane, drive->kv, batch));
            kv_batch_clear(batch);
            from = i;
        }
        TRY(restore_one(lane, job, batch, &job->entries[i]));
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

/* Of a row of TABLE_RECORD. */
static enum err decode_record_row(struct slice key, struct slice value, struct index_record *out)
{
    struct decoder decoder = decoder_of(key);
    (void)decode_key_u8(&decoder);
    out->segment = decode_key_u64(&decoder);
    out->offset = decode_key_u64(&decoder);
    TRY(decode_finish(&decoder, "record key"));
    decoder = decoder_of(value);
    if (decode_u8(&decoder) != ROW_VERSION)
        return FAIL(ERR_CORRUPT, "record row version");
    out->key.block.volume = decode_u64(&decoder);
    out->key.block.sequence = decode_u64(&decoder);
    out->key.slot = decode_u8(&decoder);
    out->bytes = decode_varint(&decoder);
    return decode_finish(&decoder, "record row");
}

static enum err list_records(struct lane *lane, struct index_job *job)
{
    AUTO_VALUE(bytes) from = {.max = KEY_BYTES_MAX};
    AUTO_VALUE(bytes) to = {.max = KEY_BYTES_MAX};
    encode_record_key(&from, job->segment_id, job->offset);
    encode_key_u8(&from, 0); /* the first key behind it */
    encode_key_u8(&to, TABLE_RECORD + 1);
    AUTO(kv_iterator) iterator =
        kv_iterator_new(lane, job->drive->kv, NULL, bytes_slice(&from), bytes_slice(&to));
    kv_iterator_seek(iterator, bytes_slice(&from));
    while (job->count < job->max && kv_iterator_valid(iterator)) {
        TRY(decode_record_row(kv_iterator_key(iterator), kv_iterator_value(iterator),
                              &job->out_records[job->count]));
        job->count++;
        kv_iterator_next(iterator);
    }
    return kv_iterator_error(iterator);
}

static void records_job(struct lane *lane, void *argument)
{
    struct index_job *job = argument;
    job->err = list_records(lane, job);
}

enum err drive_index_records(struct io *io, struct drive *drive, uint64_t segment, uint64_t offset,
                             struct index_record *out_records, uint32_t max, uint32_t *out_count)
{
    struct index_job job = {.drive = drive,
                            .segment_id = segment,
                            .offset = offset,
                            .out_records = out_records,
                            .max = max};
    TRY(index_run(io, drive->read_lane, records_job, &job));
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
        struct index_record record;
        TRY(decode_record_row(kv_iterator_key(iterator), kv_iterator_value(iterator), &record));
        job->out_entries[job->count++] = (struct segment_entry){.block = record.key.block,
                                                                .offset = record.offset,
                                                                .bytes = record.bytes,
                                                                .slot = record.key.slot};
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

/* --- notes --- */

static void put_note_job(struct lane *lane, void *argument)
{
    struct index_job *job = argument;
    AUTO(kv_batch) batch = kv_batch_new(job->drive->kv);
    uint8_t key[2] = {TABLE_NOTE, job->note};
    kv_batch_put(batch, slice_of(key, sizeof key), job->value);
    job->err = kv_write(lane, job->drive->kv, batch);
}

enum err drive_index_put_note(struct io *io, struct drive *drive, uint8_t note, struct slice value)
{
    TRY(drive_check(drive));
    struct index_job job = {.drive = drive, .note = note, .value = value};
    return index_change(io, drive, put_note_job, &job);
}

static void get_note_job(struct lane *lane, void *argument)
{
    struct index_job *job = argument;
    uint8_t key[2] = {TABLE_NOTE, job->note};
    job->err = kv_get(lane, job->drive->kv, slice_of(key, sizeof key), job->out_value);
}

enum err drive_index_get_note(struct io *io, struct drive *drive, uint8_t note,
                              struct bytes *out_value)
{
    struct index_job job = {.drive = drive, .note = note, .out_value = out_value};
    return index_run(io, drive->read_lane, get_note_job, &job);
}

static void verify_job(struct lane *lane, void *argument)
{
    struct index_job *job = argument;
    job->err = kv_verify(lane, job->drive->kv);
}

enum err drive_index_verify(struct io *io, struct drive *drive)
{
    struct index_job job = {.drive = drive};
    return index_run(io, drive->read_lane, verify_job, &job);
}
