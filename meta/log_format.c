/* Blocks, headers and records, both directions. */
#include "log_format.h"
#include "base/crc.h"
#include "base/encode.h"
#include <assert.h>
#include <inttypes.h>
#include <string.h>

/* Stamp. */
enum {
    STAMP_SEQUENCE = 0,
    STAMP_DURABLE = 8,
    STAMP_BLOCK = 16,
    STAMP_BLOCK_COUNT = 18,
    STAMP_USED = 20,
    STAMP_FLAGS = 22,
    STAMP_CRC = 24,
};
/* Segment header. */
enum {
    HEADER_MAGIC = 0,
    HEADER_VERSION = 8,
    HEADER_LOG_ID = 16,
    HEADER_SEGMENT = 32,
    HEADER_CRC = 40,
};
/* Record header. */
enum {
    RECORD_LENGTH = 0,
    RECORD_TYPE = 4,
    RECORD_KIND = 5,
    RECORD_RESERVED = 6,
    RECORD_GROUP = 8,
    RECORD_TERM = 16,
    RECORD_INDEX = 24,
    RECORD_CRC = 32,
};
static_assert(STAMP_CRC + 4 == LOG_STAMP_BYTES);
static_assert(RECORD_CRC + 4 == LOG_RECORD_HEADER_BYTES);
static_assert(LOG_PAYLOAD_BYTES == 4052);
static_assert((uint64_t)LOG_BATCH_BLOCKS_MAX * LOG_PAYLOAD_BYTES > LOG_ENTRY_BYTES_MAX + (1 << 20));

static const char header_magic[8] = "SHALELOG";

/* --- blocks --- */

uint32_t log_block_count(size_t bytes)
{
    assert(bytes > 0);
    return (uint32_t)((bytes + LOG_PAYLOAD_BYTES - 1) / LOG_PAYLOAD_BYTES);
}

/* Offset in the block of payload byte `at`, and how many follow before the sector's marker. */
static size_t payload_offset(size_t at, size_t *out_run)
{
    enum {
        FIRST = LOG_SECTOR_BYTES - LOG_STAMP_BYTES - LOG_MARKER_BYTES,
        OTHER = LOG_SECTOR_BYTES - LOG_MARKER_BYTES
    };
    if (at < FIRST) {
        *out_run = FIRST - at;
        return LOG_STAMP_BYTES + at;
    }
    size_t sector = 1 + (at - FIRST) / OTHER;
    size_t inside = (at - FIRST) % OTHER;
    *out_run = OTHER - inside;
    return sector * LOG_SECTOR_BYTES + inside;
}

void log_encoder_put(struct log_encoder *encoder, struct slice bytes)
{
    while (bytes.bytes > 0) {
        if (encoder->used == LOG_PAYLOAD_BYTES) {
            encoder->block++;
            encoder->used = 0;
        }
        assert(encoder->block < encoder->block_count);
        size_t run = 0;
        size_t offset = payload_offset(encoder->used, &run);
        size_t count = run < bytes.bytes ? run : bytes.bytes;
        memcpy(encoder->blocks + (size_t)encoder->block * LOG_BLOCK_BYTES + offset, bytes.data,
               count);
        encoder->used += (uint32_t)count;
        bytes = slice_skip(bytes, count);
    }
}

/* 0 means "not written"; two bits are always set, so that no single flipped bit makes a written
 * sector look unwritten. */
static uint16_t marker_of(uint64_t sequence)
{
    return (uint16_t)(0xc000 | (sequence & 0x3fff));
}

static uint32_t block_crc(const uint8_t *block, const struct log_place *place)
{
    static const uint8_t zero[4];
    uint8_t where[LOG_ID_BYTES + 16];
    memcpy(where, place->log_id, LOG_ID_BYTES);
    store_u64(where + LOG_ID_BYTES, place->segment);
    store_u64(where + LOG_ID_BYTES + 8, place->offset);
    uint32_t crc = crc32c_update(0, slice_of(block, STAMP_CRC));
    crc = crc32c_update(crc, slice_of(zero, sizeof zero));
    crc = crc32c_update(crc, slice_of(block + LOG_STAMP_BYTES, LOG_BLOCK_BYTES - LOG_STAMP_BYTES));
    return crc32c_update(crc, slice_of(where, sizeof where));
}

static void block_finish(uint8_t *block, const struct log_place *place,
                         const struct log_stamp *stamp)
{
    store_u64(block + STAMP_SEQUENCE, stamp->sequence);
    store_u64(block + STAMP_DURABLE, stamp->durable_sequence);
    store_u16(block + STAMP_BLOCK, stamp->block);
    store_u16(block + STAMP_BLOCK_COUNT, stamp->block_count);
    store_u16(block + STAMP_USED, stamp->used);
    store_u16(block + STAMP_FLAGS, stamp->flags);
    for (unsigned i = 1; i <= LOG_SECTORS; i++)
        store_u16(block + i * LOG_SECTOR_BYTES - LOG_MARKER_BYTES, marker_of(stamp->sequence));
    store_u32(block + STAMP_CRC, block_crc(block, place));
}

void log_encoder_finish(struct log_encoder *encoder, const struct log_place *place,
                        uint64_t sequence, uint64_t durable_sequence)
{
    assert(encoder->block + 1 == encoder->block_count);
    assert(encoder->block_count <= LOG_BATCH_BLOCKS_MAX);
    assert(sequence > durable_sequence);
    struct log_place at = *place;
    for (uint32_t i = 0; i < encoder->block_count; i++) {
        bool last = i + 1 == encoder->block_count;
        struct log_stamp stamp = {
            .sequence = sequence,
            .durable_sequence = durable_sequence,
            .block = (uint16_t)i,
            .block_count = (uint16_t)encoder->block_count,
            .used = (uint16_t)(last ? encoder->used : LOG_PAYLOAD_BYTES),
        };
        block_finish(encoder->blocks + (size_t)i * LOG_BLOCK_BYTES, &at, &stamp);
        at.offset += LOG_BLOCK_BYTES;
    }
}

static bool stamp_is_sound(const struct log_stamp *stamp)
{
    return stamp->sequence > stamp->durable_sequence && stamp->block < stamp->block_count &&
           stamp->block_count <= LOG_BATCH_BLOCKS_MAX && stamp->used > 0 &&
           stamp->used <= LOG_PAYLOAD_BYTES && stamp->flags == 0 &&
           (stamp->used == LOG_PAYLOAD_BYTES || stamp->block + 1 == stamp->block_count);
}

static bool is_zero(const uint8_t *data, size_t bytes)
{
    return data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0;
}

/* At least one sector was never written; all others carry the marker of one batch that could be
 * in flight. */
static bool is_torn(const uint8_t *block, uint64_t sequence)
{
    unsigned unwritten = 0;
    uint16_t seen = 0;
    for (unsigned i = 0; i < LOG_SECTORS; i++) {
        const uint8_t *sector = block + i * LOG_SECTOR_BYTES;
        if (is_zero(sector, LOG_SECTOR_BYTES)) {
            unwritten++;
            continue;
        }
        uint16_t marker = load_u16(sector + LOG_SECTOR_BYTES - LOG_MARKER_BYTES);
        if (seen != 0 && marker != seen)
            return false;
        seen = marker;
    }
    bool plausible = false;
    for (unsigned i = 0; i < LOG_IN_FLIGHT_MAX; i++)
        plausible |= seen == marker_of(sequence + i);
    return unwritten > 0 && plausible;
}

enum log_block_kind log_block_classify(const uint8_t *block, const struct log_place *place,
                                       uint64_t sequence, struct log_stamp *out_stamp)
{
    if (is_zero(block, LOG_BLOCK_BYTES))
        return LOG_BLOCK_EMPTY;
    struct log_stamp stamp = {
        .sequence = load_u64(block + STAMP_SEQUENCE),
        .durable_sequence = load_u64(block + STAMP_DURABLE),
        .block = load_u16(block + STAMP_BLOCK),
        .block_count = load_u16(block + STAMP_BLOCK_COUNT),
        .used = load_u16(block + STAMP_USED),
        .flags = load_u16(block + STAMP_FLAGS),
    };
    if (load_u32(block + STAMP_CRC) == block_crc(block, place) && stamp_is_sound(&stamp)) {
        *out_stamp = stamp;
        return LOG_BLOCK_VALID;
    }
    return is_torn(block, sequence) ? LOG_BLOCK_TORN : LOG_BLOCK_ROTTEN;
}

void log_block_payload(const uint8_t *block, const struct log_stamp *stamp, struct bytes *out)
{
    for (size_t at = 0; at < stamp->used;) {
        size_t run = 0;
        size_t offset = payload_offset(at, &run);
        size_t count = run < stamp->used - at ? run : stamp->used - at;
        bytes_append(out, slice_of(block + offset, count));
        at += count;
    }
}

/* --- segment header --- */

void log_header_encode(uint8_t *block, const uint8_t log_id[LOG_ID_BYTES], uint64_t segment)
{
    memset(block, 0, LOG_HEADER_BYTES);
    memcpy(block + HEADER_MAGIC, header_magic, sizeof header_magic);
    store_u32(block + HEADER_VERSION, LOG_FORMAT_VERSION);
    memcpy(block + HEADER_LOG_ID, log_id, LOG_ID_BYTES);
    store_u64(block + HEADER_SEGMENT, segment);
    store_u32(block + HEADER_CRC, crc32c_update(0, slice_of(block, HEADER_CRC)));
}

enum err log_header_check(const uint8_t *block, const uint8_t log_id[LOG_ID_BYTES],
                          uint64_t segment)
{
    if (memcmp(block + HEADER_MAGIC, header_magic, sizeof header_magic) != 0 ||
        load_u32(block + HEADER_CRC) != crc32c_update(0, slice_of(block, HEADER_CRC)))
        return FAIL(ERR_CORRUPT, "log segment=%" PRIu64 " header", segment);
    if (load_u32(block + HEADER_VERSION) != LOG_FORMAT_VERSION)
        return FAIL(ERR_UNSUPPORTED, "log segment=%" PRIu64 " version=%" PRIu32, segment,
                    load_u32(block + HEADER_VERSION));
    if (memcmp(block + HEADER_LOG_ID, log_id, LOG_ID_BYTES) != 0 ||
        load_u64(block + HEADER_SEGMENT) != segment)
        return FAIL(ERR_MISMATCH, "log segment=%" PRIu64 " is of another log", segment);
    return OK;
}

/* --- records --- */

void log_record_encode(struct bytes *out, const struct log_record *record)
{
    assert(record->bytes.bytes <= LOG_ENTRY_BYTES_MAX);
    uint8_t header[LOG_RECORD_HEADER_BYTES] = {0};
    store_u32(header + RECORD_LENGTH, (uint32_t)record->bytes.bytes);
    header[RECORD_TYPE] = (uint8_t)record->type;
    header[RECORD_KIND] = record->kind;
    store_u64(header + RECORD_GROUP, record->group);
    store_u64(header + RECORD_TERM, record->term);
    store_u64(header + RECORD_INDEX, record->index);
    uint32_t crc = crc32c_update(0, slice_of(header, RECORD_CRC));
    store_u32(header + RECORD_CRC, crc32c_update(crc, record->bytes));
    bytes_append(out, slice_of(header, sizeof header));
    bytes_append(out, record->bytes);
}

enum err log_record_decode(struct slice *stream, struct log_record *out_record, uint32_t *out_crc)
{
    const uint8_t *header = stream->data;
    if (stream->bytes < LOG_RECORD_HEADER_BYTES)
        return FAIL(ERR_CORRUPT, "log record header bytes=%zu", stream->bytes);
    size_t length = load_u32(header + RECORD_LENGTH);
    if (length > LOG_ENTRY_BYTES_MAX || length > stream->bytes - LOG_RECORD_HEADER_BYTES)
        return FAIL(ERR_CORRUPT, "log record length=%zu", length);
    struct slice bytes = slice_of(header + LOG_RECORD_HEADER_BYTES, length);
    uint32_t crc = crc32c_update(0, slice_of(header, RECORD_CRC));
    crc = crc32c_update(crc, bytes);
    if (crc != load_u32(header + RECORD_CRC))
        return FAIL(ERR_CORRUPT, "log record checksum");
    uint8_t type = header[RECORD_TYPE];
    if (type < LOG_RECORD_BATCH || type > LOG_RECORD_INSTALLED ||
        load_u16(header + RECORD_RESERVED) != 0)
        return FAIL(ERR_UNSUPPORTED, "log record type=%u", type);
    *out_record = (struct log_record){
        .type = (enum log_record_type)type,
        .kind = header[RECORD_KIND],
        .group = load_u64(header + RECORD_GROUP),
        .term = load_u64(header + RECORD_TERM),
        .index = load_u64(header + RECORD_INDEX),
        .bytes = bytes,
    };
    if (out_crc != NULL)
        *out_crc = crc;
    *stream = slice_skip(*stream, LOG_RECORD_HEADER_BYTES + length);
    return OK;
}

void log_batch_record_encode(struct bytes *out, const struct log_batch_record *batch)
{
    assert(batch->count <= LOG_GROUPS_MAX);
    AUTO_VALUE(bytes) bytes = {.max = LOG_BLOCK_BYTES};
    encode_u64(&bytes, batch->sequence);
    encode_u32(&bytes, batch->count);
    for (uint32_t i = 0; i < batch->count; i++) {
        encode_u64(&bytes, batch->groups[i].group);
        encode_u64(&bytes, batch->groups[i].last_index);
        encode_u64(&bytes, batch->groups[i].chain);
    }
    struct log_record record = {.type = LOG_RECORD_BATCH, .bytes = bytes_slice(&bytes)};
    log_record_encode(out, &record);
}

enum err log_batch_record_decode(const struct log_record *record,
                                 struct log_batch_record *out_batch)
{
    struct decoder decoder = decoder_of(record->bytes);
    struct log_batch_record batch = {.sequence = decode_u64(&decoder),
                                     .count = decode_u32(&decoder)};
    if (batch.count > LOG_GROUPS_MAX)
        return FAIL(ERR_CORRUPT, "log batch groups=%" PRIu32, batch.count);
    for (uint32_t i = 0; i < batch.count; i++) {
        batch.groups[i].group = decode_u64(&decoder);
        batch.groups[i].last_index = decode_u64(&decoder);
        batch.groups[i].chain = decode_u64(&decoder);
    }
    TRY(decode_finish(&decoder, "log batch record"));
    *out_batch = batch;
    return OK;
}

void log_segment_record_encode(struct bytes *out, const struct log_segment_record *segment)
{
    AUTO_VALUE(bytes) bytes = {.max = LOG_SECTOR_BYTES};
    encode_u64(&bytes, segment->segment);
    encode_u64(&bytes, segment->end);
    encode_u64(&bytes, segment->sequence);
    struct log_record record = {.type = LOG_RECORD_SEGMENT, .bytes = bytes_slice(&bytes)};
    log_record_encode(out, &record);
}

enum err log_segment_record_decode(const struct log_record *record,
                                   struct log_segment_record *out_segment)
{
    struct decoder decoder = decoder_of(record->bytes);
    struct log_segment_record segment = {.segment = decode_u64(&decoder),
                                         .end = decode_u64(&decoder),
                                         .sequence = decode_u64(&decoder)};
    TRY(decode_finish(&decoder, "log segment record"));
    *out_segment = segment;
    return OK;
}
