/* Bytes of blocks out of records, for those who have no index. */
#include "survey_table.h"

#include "base/mem.h"
#include "erasure/geometry.h"
#include <assert.h>
#include <inttypes.h>

enum { PIECE_BYTES = 4 << 20 };

/* A record being read: its header or footer, decoded. */
struct record_reader {
    struct file *file;
    struct buf *head; /* what the record's slices point into */
    struct record record;
};

static void reader_free(struct record_reader *reader)
{
    file_close(reader->file);
    if (reader->head != NULL)
        buf_unref(reader->head);
    mem_free(reader);
}

static enum err read_exactly(struct io *io, struct file *file, struct buf *buf, uint64_t offset,
                             size_t bytes)
{
    for (size_t at = 0; at < bytes; at += PIECE_BYTES) {
        size_t want = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        size_t got = 0;
        TRY(io_read(io, file, buf, at, want, offset + at, &got));
        if (got < want)
            return FAIL(ERR_CORRUPT, "%s ends inside a record", file_path(file));
    }
    return OK;
}

static enum err read_footer(struct io *io, const struct segment_identity *identity,
                            const struct survey_shard *shard, struct record_reader *reader)
{
    uint64_t offset = (uint64_t)shard->place * RECORD_ALIGN_BYTES;
    uint64_t footer = offset + RECORD_HEADER_BYTES + record_align(shard->payload_bytes);
    TRY(read_exactly(io, reader->file, reader->head, footer, RECORD_ALIGN_BYTES));
    uint32_t bytes = record_claimed_bytes(reader->head->data, identity);
    if (!record_looks_like(reader->head->data, RECORD_FOOTER) || bytes == 0)
        return FAIL(ERR_CORRUPT, "%s offset=%" PRIu64 ": no footer", file_path(reader->file),
                    footer);
    TRY(read_exactly(io, reader->file, reader->head, footer, bytes));
    return record_decode(slice_of(reader->head->data, bytes), identity, RECORD_FOOTER, UINT64_MAX,
                         &reader->record);
}

static enum err read_head(struct io *io, const struct survey *survey,
                          const struct survey_shard *shard, struct record_reader *reader)
{
    const struct drive_survey *drive = &survey->drives[shard->drive];
    const struct survey_segment *segment = survey_segment(drive, shard->segment);
    if (segment == NULL)
        return FAIL(ERR_CORRUPT, "segment=%" PRIu64 " was not understood", shard->segment);
    struct segment_identity identity = {.drive = drive->id, .segment = shard->segment};
    memcpy(identity.cluster_id, drive->cluster_id, 16);
    memcpy(identity.nonce, segment->nonce, RECORD_NONCE_BYTES);
    uint64_t offset = (uint64_t)shard->place * RECORD_ALIGN_BYTES;
    AUTO_STRING path = survey_segment_path(drive, shard->segment);
    TRY(io_open(io, path, FILE_DIRECT, &reader->file));
    reader->head = buf_new(RECORD_FOOTER_BYTES_MAX);
    if (shard->kind == RECORD_STREAMED)
        return read_footer(io, &identity, shard, reader);
    TRY(read_exactly(io, reader->file, reader->head, offset, RECORD_HEADER_BYTES));
    return record_decode(slice_of(reader->head->data, RECORD_HEADER_BYTES), &identity,
                         RECORD_HEADER, offset, &reader->record);
}

static enum err check_cells(const struct record *record, const struct buf *payload)
{
    for (uint32_t cell = 0; cell < record_cells(record->payload_bytes); cell++) {
        struct slice bytes = buf_slice(payload, (size_t)cell * RECORD_CELL_BYTES,
                                       record_cell_bytes(record->payload_bytes, cell));
        if (!record_cell_matches(record->cell_crcs, record->payload_bytes, cell, bytes))
            return FAIL(ERR_CORRUPT, "cell=%u of block=%" PRIu64 "-%" PRIu64 " slot=%u", cell,
                        record->block.volume, record->block.sequence, record->slot);
    }
    return OK;
}

static enum err read_payload(struct io *io, const struct survey_shard *shard,
                             struct record_reader *reader, struct buf **out_payload)
{
    const struct record *record = &reader->record;
    uint64_t offset = (uint64_t)shard->place * RECORD_ALIGN_BYTES;
    if (!block_id_equal(record->block, shard->block) || record->slot != shard->slot ||
        record->offset != offset || record->payload_bytes != shard->payload_bytes)
        return FAIL(ERR_CORRUPT, "record at offset=%" PRIu64 " is another one", offset);
    size_t bytes = (size_t)record_align(record->payload_bytes);
    AUTO(buf) payload = buf_new(bytes > 0 ? bytes : RECORD_ALIGN_BYTES);
    TRY(read_exactly(io, reader->file, payload, offset + RECORD_HEADER_BYTES, bytes));
    TRY(check_cells(record, payload));
    *out_payload = TAKE(payload);
    return OK;
}

static enum err read_shard(struct io *io, const struct survey *survey,
                           const struct survey_shard *shard, struct buf **out_payload)
{
    struct record_reader *reader = mem_new(struct record_reader);
    enum err err = read_head(io, survey, shard, reader);
    if (err == OK)
        err = read_payload(io, shard, reader, out_payload);
    reader_free(reader);
    return err;
}

/* --- a block --- */

struct block_image {
    struct geometry geometry;
    uint32_t bytes;
    uint32_t present;                      /* bit per slot */
    struct buf *payloads[META_SHARDS_MAX]; /* of present slots */
};

static void image_deinit(struct block_image *image)
{
    for (uint32_t slot = 0; slot < META_SHARDS_MAX; slot++)
        if (image->payloads[slot] != NULL)
            buf_unref(image->payloads[slot]);
}

/* The shard of a slot, from whichever record of it can be read. */
static enum err load_slot(struct io *io, const struct survey *survey,
                          const struct survey_block *block, uint32_t slot,
                          struct block_image *image)
{
    enum err err = ERR_CORRUPT;
    uint32_t want = geometry_shard_bytes(image->geometry, image->bytes, slot);
    for (uint32_t i = 0; err != OK && i < block->count; i++) {
        const struct survey_shard *shard = &survey->shards[block->first + i];
        if (shard->slot != slot || (shard->flags & SHARD_BAD) != 0 ||
            shard->payload_bytes != want || shard->block_bytes != block->bytes)
            continue;
        err = read_shard(io, survey, shard, &image->payloads[slot]);
        if (err == ERR_CANCELED || err == ERR_TIMEOUT)
            return err;
    }
    if (err == OK)
        image->present |= UINT32_C(1) << slot;
    return OK;
}

/* Any k slots, data first: those need no arithmetic. */
static enum err load_image(struct io *io, const struct survey *survey,
                           const struct survey_block *block, struct block_image *image)
{
    uint32_t have = 0;
    for (uint32_t slot = 0; slot < geometry_shards(image->geometry); slot++) {
        if (have == image->geometry.data_shards)
            break;
        bool empty = slot < image->geometry.data_shards &&
                     geometry_shard_bytes(image->geometry, image->bytes, slot) == 0;
        if (empty)
            image->present |= UINT32_C(1) << slot;
        else if ((block->good >> slot & 1) != 0)
            TRY(load_slot(io, survey, block, slot, image));
        have += image->present >> slot & 1;
    }
    if (have < image->geometry.data_shards)
        return FAIL(ERR_CORRUPT, "block=%" PRIu64 "-%" PRIu64 " good shards=%u of %u",
                    block->id.volume, block->id.sequence, have, image->geometry.data_shards);
    return OK;
}

/* Put one stripe at `out`; missing data units are computed in place. */
static enum err join_stripe(const struct codec *codec, const struct block_image *image,
                            uint32_t stripe, uint8_t *out)
{
    struct geometry geometry = image->geometry;
    struct slice units[CODEC_SHARDS_MAX] = {{.data = NULL}};
    struct codec_output outputs[CODEC_SHARDS_MAX] = {{.data = NULL}};
    uint32_t wanted = 0;
    uint32_t present = image->present;
    for (uint32_t slot = 0; slot < geometry_shards(geometry); slot++) {
        uint32_t bit = UINT32_C(1) << slot;
        uint32_t bytes = geometry_unit_bytes(geometry, image->bytes, stripe, slot);
        bool is_data = slot < geometry.data_shards;
        if (is_data && bytes == 0)
            present |= bit;
        if ((present & bit) != 0 && bytes > 0) {
            units[slot] =
                buf_slice(image->payloads[slot], (size_t)stripe * geometry.unit_bytes, bytes);
            if (is_data)
                memcpy(out, units[slot].data, bytes);
        } else if (is_data && bytes > 0) {
            wanted |= bit;
            outputs[slot] = (struct codec_output){.data = out, .bytes = bytes};
        }
        if (is_data)
            out += bytes;
    }
    return wanted == 0 ? OK : codec_reconstruct(codec, present, units, wanted, outputs);
}

static enum err join(const struct block_image *image, struct buf *out)
{
    AUTO(codec) codec = NULL;
    TRY(codec_new(image->geometry.data_shards, image->geometry.parity_shards, &codec));
    size_t at = 0;
    for (uint32_t i = 0; i < geometry_stripe_count(image->geometry, image->bytes); i++) {
        TRY(join_stripe(codec, image, i, out->data + at));
        at += geometry_stripe_bytes(image->geometry);
    }
    return OK;
}

enum err survey_read(struct io *io, struct survey *survey, const struct survey_block *block,
                     const struct block_ref *ref, struct buf **out_buf)
{
    if (survey_judge(block, ref).state == SURVEY_LOST)
        return FAIL(ERR_CORRUPT, "block=%" PRIu64 "-%" PRIu64 " is lost", block->id.volume,
                    block->id.sequence);
    struct block_image image = {
        .geometry = {block->data_shards, block->parity_shards, block->unit_bytes},
        .bytes = block->bytes,
    };
    AUTO(buf) out = buf_new(block->bytes);
    enum err err = load_image(io, survey, block, &image);
    if (err == OK)
        err = join(&image, out);
    image_deinit(&image);
    TRY(err);
    struct hash128 hash = hash128_of(slice_of(out->data, block->bytes));
    if (ref != NULL && !hash128_equal(&hash, &ref->hash))
        return FAIL(ERR_CORRUPT, "block=%" PRIu64 "-%" PRIu64 " differs from its hash",
                    block->id.volume, block->id.sequence);
    *out_buf = TAKE(out);
    return OK;
}

enum err survey_hint(struct io *io, struct survey *survey, const struct survey_block *block,
                     struct buf **out_buf, struct block_hint *out_hint)
{
    enum err err = ERR_NOT_FOUND;
    for (uint32_t i = 0; err != OK && i < block->count; i++) {
        const struct survey_shard *shard = &survey->shards[block->first + i];
        if ((shard->flags & SHARD_TRAILER) != 0)
            continue;
        struct record_reader *reader = mem_new(struct record_reader);
        err = read_head(io, survey, shard, reader);
        if (err == OK) {
            *out_hint = reader->record.hint;
            *out_buf = TAKE(reader->head);
        }
        reader_free(reader);
    }
    return err == OK ? OK : ERR_NOT_FOUND;
}
