/* See record_check.h. */
#include "record_check.h"

#include "base/hash.h"
#include "base/mem.h"
#include <inttypes.h>

enum { PIECE_BYTES = 1 << 20 };

static enum err read_exactly(struct io *io, struct file *file, struct buf *buf, size_t at,
                             uint64_t bytes, uint64_t offset)
{
    size_t got = 0;
    TRY(io_read(io, file, buf, at, (size_t)bytes, offset, &got));
    return got == bytes ? OK : FAIL(ERR_CORRUPT, "record beyond the end of its segment");
}

/* The footer ends the record; its first block says how long it is. */
static enum err read_footer(struct io *io, struct file *file,
                            const struct segment_identity *identity,
                            const struct index_record *record, struct buf *memory,
                            struct record *out)
{
    uint64_t end = record->offset + record->bytes;
    for (uint32_t bytes = RECORD_ALIGN_BYTES; bytes <= RECORD_FOOTER_BYTES_MAX; bytes *= 2) {
        if (record->bytes < RECORD_HEADER_BYTES + bytes)
            break;
        TRY(read_exactly(io, file, memory, RECORD_HEADER_BYTES, bytes, end - bytes));
        const uint8_t *footer = memory->data + RECORD_HEADER_BYTES;
        if (record_claimed_bytes(footer, identity) == bytes)
            return record_decode(slice_of(footer, bytes), identity, RECORD_FOOTER, record->offset,
                                 out);
    }
    return FAIL(ERR_CORRUPT, "streamed record without a footer");
}

static enum err identify(struct io *io, struct file *file, const struct segment_identity *identity,
                         const struct index_record *record, struct buf *memory, struct record *out)
{
    TRY(read_exactly(io, file, memory, 0, RECORD_HEADER_BYTES, record->offset));
    TRY(record_decode(buf_slice(memory, 0, RECORD_HEADER_BYTES), identity, RECORD_HEADER,
                      record->offset, out));
    if (out->kind == RECORD_STREAMED)
        TRY(read_footer(io, file, identity, record, memory, out));
    if (!block_id_equal(out->block, record->key.block) || out->slot != record->key.slot ||
        record_total_bytes(out->kind, out->payload_bytes, &out->hint) != record->bytes)
        return FAIL(ERR_CORRUPT, "record is not what its row says");
    return OK;
}

static enum err check_payload(struct io *io, struct file *file, const struct record *record)
{
    AUTO(buf) buf = buf_new(PIECE_BYTES);
    AUTO(hasher) hasher = hasher_new();
    for (uint32_t at = 0; at < record->payload_bytes; at += PIECE_BYTES) {
        uint32_t rest = record->payload_bytes - at;
        uint32_t bytes = rest < PIECE_BYTES ? rest : PIECE_BYTES;
        TRY(read_exactly(io, file, buf, 0, record_align(bytes),
                         record->offset + RECORD_HEADER_BYTES + at));
        for (uint32_t cell = 0; cell < bytes; cell += RECORD_CELL_BYTES) {
            uint32_t index = (at + cell) / RECORD_CELL_BYTES;
            uint32_t cell_bytes = record_cell_bytes(record->payload_bytes, index);
            if (!record_cell_matches(record->cell_crcs, record->payload_bytes, index,
                                     buf_slice(buf, cell, cell_bytes)))
                return FAIL(ERR_CORRUPT, "cell %u fails its checksum", index);
        }
        hasher_update(hasher, buf_slice(buf, 0, bytes));
    }
    struct hash128 hash = hasher_value(hasher);
    return hash128_equal(&hash, &record->payload_hash)
               ? OK
               : FAIL(ERR_CORRUPT, "payload has another hash");
}

enum err record_identify(struct io *io, struct drive *drive, const struct index_record *record,
                         struct buf *memory, struct record *out)
{
    TRY(drive_check(drive));
    struct segment_file *segment = drive_segment_acquire(drive, record->segment);
    if (segment == NULL)
        return FAIL(ERR_NOT_FOUND, "segment=%" PRIu64 " is gone", record->segment);
    struct file *file = NULL;
    enum err err = drive_segment_file(io, drive, segment, true, &file);
    if (err == OK)
        err = identify(io, file, &segment->identity, record, memory, out);
    drive_segment_release(drive, segment);
    return err == ERR_MISMATCH ? ERR_CORRUPT : err;
}

enum err record_check(struct io *io, struct drive *drive, const struct index_record *record)
{
    TRY(drive_check(drive));
    struct segment_file *segment = drive_segment_acquire(drive, record->segment);
    if (segment == NULL)
        return FAIL(ERR_NOT_FOUND, "segment=%" PRIu64 " is gone", record->segment);
    AUTO(buf) memory = buf_new(RECORD_HEADER_BYTES + RECORD_FOOTER_BYTES_MAX);
    struct record *found = mem_new(struct record);
    struct file *file = NULL;
    enum err err = drive_segment_file(io, drive, segment, true, &file);
    if (err == OK)
        err = identify(io, file, &segment->identity, record, memory, found);
    if (err == OK)
        err = check_payload(io, file, found);
    mem_free(found);
    drive_segment_release(drive, segment);
    return err == ERR_MISMATCH ? ERR_CORRUPT : err;
}
