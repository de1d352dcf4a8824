/* Rows of the index as bytes. */
#include "index_rows.h"

#include <assert.h>

enum { FLAG_BAD = 1 };

void encode_block_key(struct bytes *out, const struct shard_key *key)
{
    encode_key_u8(out, TABLE_BLOCK);
    encode_key_u64(out, key->block.volume);
    encode_key_u64(out, key->block.sequence);
    encode_key_u8(out, key->slot);
}

enum err decode_block_key(struct slice bytes, struct shard_key *out)
{
    struct decoder decoder = decoder_of(bytes);
    (void)decode_key_u8(&decoder);
    out->block.volume = decode_key_u64(&decoder);
    out->block.sequence = decode_key_u64(&decoder);
    out->slot = decode_key_u8(&decoder);
    return decode_finish(&decoder, "index key");
}

void encode_record_key(struct bytes *out, uint64_t segment, uint64_t offset)
{
    encode_key_u8(out, TABLE_RECORD);
    encode_key_u64(out, segment);
    encode_key_u64(out, offset);
}

void encode_segment_key(struct bytes *out, uint64_t segment)
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

void put_segment_row(struct kv_batch *batch, const struct segment_file *segment)
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

enum err decode_segment_row(struct slice key, struct slice value, struct segment_row *out)
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

void put_record_row(struct kv_batch *batch, const struct shard_key *key, const struct place *place)
{
    AUTO_VALUE(bytes) row_key = {.max = KEY_BYTES_MAX};
    AUTO_VALUE(bytes) value = {.max = ROW_BYTES_MAX};
    encode_record_key(&row_key, place->segment, place->offset);
    encode_u8(&value, ROW_VERSION);
    encode_u64(&value, key->block.volume);
    encode_u64(&value, key->block.sequence);
    encode_u8(&value, key->slot);
    encode_varint(&value, place->bytes);
    kv_batch_put(batch, bytes_slice(&row_key), bytes_slice(&value));
}

void put_record_rows(struct kv_batch *batch, const struct shard_key *key, const struct place *place)
{
    AUTO_VALUE(bytes) row_key = {.max = KEY_BYTES_MAX};
    AUTO_VALUE(bytes) value = {.max = ROW_BYTES_MAX};
    encode_block_key(&row_key, key);
    encode_place(&value, place);
    kv_batch_put(batch, bytes_slice(&row_key), bytes_slice(&value));
    put_record_row(batch, key, place);
}

enum err find_record_row(struct lane *lane, struct drive *drive, uint64_t segment, uint64_t offset,
                         bool *out_found)
{
    AUTO_VALUE(bytes) row_key = {.max = KEY_BYTES_MAX};
    AUTO_VALUE(bytes) value = {.max = ROW_BYTES_MAX};
    encode_record_key(&row_key, segment, offset);
    enum err err = kv_get(lane, drive->kv, bytes_slice(&row_key), &value);
    *out_found = err == OK;
    return err == ERR_NOT_FOUND ? OK : err;
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

enum err get_place(struct lane *lane, struct drive *drive, const struct shard_key *key,
                   struct place *out)
{
    AUTO_VALUE(bytes) row_key = {.max = KEY_BYTES_MAX};
    AUTO_VALUE(bytes) value = {.max = ROW_BYTES_MAX};
    encode_block_key(&row_key, key);
    TRY(lane == NULL ? kv_try_get(drive->kv, bytes_slice(&row_key), &value)
                     : kv_get(lane, drive->kv, bytes_slice(&row_key), &value));
    return decode_place(bytes_slice(&value), out);
}

void remove_record_rows(struct kv_batch *batch, const struct index_record *record, bool counts)
{
    AUTO_VALUE(bytes) row_key = {.max = KEY_BYTES_MAX};
    if (counts) {
        encode_block_key(&row_key, &record->key);
        kv_batch_delete(batch, bytes_slice(&row_key));
        bytes_clear(&row_key);
    }
    encode_record_key(&row_key, record->segment, record->offset);
    kv_batch_delete(batch, bytes_slice(&row_key));
}

void note_stale(struct drive *drive, const struct shard_key *key, const struct place *place)
{
    pthread_mutex_lock(&drive->mutex);
    if (drive->stale_count < DRIVE_STALE_MAX)
        drive->stale[drive->stale_count++] = (struct index_record){
            .key = *key, .segment = place->segment, .offset = place->offset, .bytes = place->bytes};
    pthread_mutex_unlock(&drive->mutex);
}

void uncount_record(struct drive *drive, uint64_t segment_id, uint64_t bytes)
{
    pthread_mutex_lock(&drive->mutex);
    struct segment_file *segment = drive_segment_find(drive, segment_id);
    if (segment != NULL) {
        assert(segment->live_count > 0);
        segment->live_count--;
        segment->live_bytes -= bytes;
        segment->dirty = true;
    }
    pthread_mutex_unlock(&drive->mutex);
}

enum err index_run(struct io *io, struct lane *lane, lane_fn *fn, struct index_job *job)
{
    TRY(lane_run(io, lane, fn, job));
    return job->err;
}

enum err index_change(struct io *io, struct drive *drive, lane_fn *fn, struct index_job *job)
{
    enum err err = index_run(io, drive->index_lane, fn, job);
    if (err == ERR_IO || err == ERR_CORRUPT)
        drive_fence(drive, "index", err);
    return err;
}
