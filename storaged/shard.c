/* One record on its way to a drive. */
#include "shard.h"

#include "base/crc.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include <assert.h>

enum {
    ZERO_COPY_BYTES_MIN = 128 << 10, /* smaller pieces are copied together */
    /* A one-shot record up to here goes to the segment that is zeroed ahead; writing every
     * block twice does not pay for larger ones. */
    ZEROED_BYTES_MAX = 128 << 10,
    TAIL_BYTES_MAX = 256 << 10,
    TAIL_BYTES_FIRST = 64 << 10,  /* of a record of unknown length */
    PARTS_MAX = IO_PARTS_MAX - 2, /* header and footer are parts of their own */
    /* Beyond so many parts everything is copied, in large pieces, so that PARTS_MAX is enough. */
    ZERO_COPY_PARTS_MAX = PARTS_MAX - 3,
};

/* A record being written. Stays on its reactor. */
struct shard {
    uint32_t references; /* the writer's and one for each write under way */
    struct appender *appender;
    struct shard_options options;
    struct record record;
    uint8_t *hint_memory;
    struct hasher *hasher;
    struct io_part parts[PARTS_MAX]; /* payload not handed to a write yet; buffers referenced */
    unsigned part_count;
    uint32_t parts_bytes;
    struct buf *tail; /* the last part, when it is ours and can take more */
    size_t tail_end;
    bool has_lead; /* parts[0] has room for the header right before it */
    struct reservation place;
    bool reserved;
    bool streamed;
    uint32_t submitted_bytes; /* of payload */
    uint64_t extent_bytes;
    unsigned writes;
    uint64_t bytes_in_flight;
    bool finished;            /* the last write was begun */
    bool freed;               /* by its writer */
    bool done;                /* durable, or given up */
    uint64_t rewrites_before; /* of the drive, when this was begun */
    enum err err;
    struct signal progress;
};

static void copy_hint(struct shard *shard, const struct block_hint *hint)
{
    shard->hint_memory = mem_alloc(hint->bucket_name.bytes + hint->key.bytes);
    shard->record.hint = *hint;
    if (hint->bucket_name.bytes > 0)
        memcpy(shard->hint_memory, hint->bucket_name.data, hint->bucket_name.bytes);
    if (hint->key.bytes > 0)
        memcpy(shard->hint_memory + hint->bucket_name.bytes, hint->key.data, hint->key.bytes);
    shard->record.hint.bucket_name = slice_of(shard->hint_memory, hint->bucket_name.bytes);
    shard->record.hint.key =
        slice_of(shard->hint_memory + hint->bucket_name.bytes, hint->key.bytes);
}

/* A record of known length that fits is one-shot; a stripe of several drives' is small enough at a
 * unit each. */
static uint32_t one_shot_bytes_max(const struct shard *shard)
{
    return shard->options.geometry.data_shards == 1 ? RECORD_ONE_SHOT_BYTES_MAX
                                                    : GEOMETRY_UNIT_BYTES_MAX;
}

static uint32_t chunk_bytes(const struct shard *shard)
{
    if (!shard->streamed)
        return one_shot_bytes_max(shard);
    return shard->options.geometry.data_shards == 1 ? SHARD_CHUNK_BYTES : GEOMETRY_UNIT_BYTES_MAX;
}

enum err shard_open(struct io *io, struct appender *appender, const struct shard_options *options,
                    struct shard **out_shard)
{
    (void)io;
    TRY(drive_check(appender->drive));
    if (drive_index_is_full(appender->drive))
        return FAIL(ERR_BUSY, "index of a drive is behind");
    TRY(drive_take_space(appender->drive,
                         2 * RECORD_HEADER_BYTES + record_align(options->payload_bytes_expected)));
    struct shard *shard = mem_new(struct shard);
    shard->references = 1;
    shard->appender = appender;
    shard->options = *options;
    shard->options.hint = NULL;
    shard->record.block = options->key.block;
    shard->record.slot = options->key.slot;
    shard->record.data_shards = options->geometry.data_shards;
    shard->record.parity_shards = options->geometry.parity_shards;
    shard->record.unit_bytes = options->geometry.unit_bytes;
    shard->record.epoch = options->epoch;
    shard->record.incarnation = options->incarnation;
    shard->hasher = hasher_new();
    copy_hint(shard, options->hint);
    signal_init(&shard->progress);
    if (options->replaces)
        atomic_fetch_add(&appender->drive->rewrites, 1);
    shard->rewrites_before = atomic_load(&appender->drive->rewrites);
    atomic_fetch_add(&appender->drive->load, 1);
    *out_shard = shard;
    return OK;
}

static void drop_parts(struct shard *shard)
{
    for (unsigned i = 0; i < shard->part_count; i++)
        buf_unref(shard->parts[i].buf);
    shard->part_count = 0;
    shard->parts_bytes = 0;
    shard->tail = NULL;
    shard->has_lead = false;
}

static void unref(struct shard *shard)
{
    assert(shard->references > 0);
    if (--shard->references > 0)
        return;
    struct drive *drive = shard->appender->drive;
    if (shard->reserved)
        drive_segment_release(drive, shard->place.segment);
    drop_parts(shard);
    hasher_free(shard->hasher);
    mem_free(shard->hint_memory);
    mem_free(shard);
}

/* The record will never be whole; its blocks are free once nothing is written there any more. */
static void give_up(struct shard *shard)
{
    assert(shard->writes == 0);
    shard->done = true;
    if (!shard->reserved)
        return;
    struct drive *drive = shard->appender->drive;
    uint64_t used = shard->submitted_bytes == 0
                        ? 0
                        : RECORD_HEADER_BYTES + record_align(shard->submitted_bytes);
    if (shard->finished)
        used = shard->extent_bytes;
    drive_extent_abandon(drive, shard->place.segment, shard->place.offset, used);
}

void shard_free(struct shard *shard)
{
    if (shard == NULL)
        return;
    atomic_fetch_sub(&shard->appender->drive->load, 1);
    shard->freed = true;
    if (!shard->done && shard->writes == 0)
        give_up(shard);
    unref(shard);
}

/* --- taking payload --- */

static void count_payload(struct shard *shard, struct slice bytes)
{
    struct record *record = &shard->record;
    hasher_update(shard->hasher, bytes);
    while (bytes.bytes > 0) {
        uint32_t cell = record->payload_bytes / RECORD_CELL_BYTES;
        uint32_t room = RECORD_CELL_BYTES - record->payload_bytes % RECORD_CELL_BYTES;
        struct slice piece = slice_first(bytes, room);
        record->cell_crcs[cell] = crc32c_update(record->cell_crcs[cell], piece);
        record->payload_bytes += (uint32_t)piece.bytes;
        bytes = slice_skip(bytes, piece.bytes);
    }
}

static enum err new_tail(struct shard *shard)
{
    assert(shard->part_count < PARTS_MAX);
    bool first = shard->record.payload_bytes == 0;
    size_t lead = first ? RECORD_HEADER_BYTES : 0;
    size_t bytes = first ? TAIL_BYTES_FIRST : TAIL_BYTES_MAX;
    uint32_t expected = shard->options.payload_bytes_expected;
    if (expected > shard->record.payload_bytes) {
        bytes = (size_t)record_align(expected - shard->record.payload_bytes);
        if (bytes > TAIL_BYTES_MAX)
            bytes = TAIL_BYTES_MAX;
    }
    struct buf *buf = NULL;
    TRY(buf_pool_get(shard->options.pool, lead + bytes, &buf));
    shard->tail = buf;
    shard->tail_end = lead + bytes;
    shard->has_lead = shard->has_lead || first;
    shard->parts[shard->part_count++] = (struct io_part){.buf = buf, .offset = lead};
    return OK;
}

/* Bytes taken of what is offered: at most up to the end of the chunk. */
static enum err take_piece(struct shard *shard, struct buf *buf, size_t offset, size_t bytes,
                           size_t *out_taken)
{
    size_t room = chunk_bytes(shard) - shard->parts_bytes;
    size_t taken = bytes < room ? bytes : room;
    struct io_part *last = shard->part_count > 0 ? &shard->parts[shard->part_count - 1] : NULL;
    bool aligned = last == NULL || last->bytes % RECORD_ALIGN_BYTES == 0;
    if (aligned && offset % RECORD_ALIGN_BYTES == 0 && taken >= ZERO_COPY_BYTES_MIN &&
        shard->part_count < ZERO_COPY_PARTS_MAX) {
        taken = taken / RECORD_ALIGN_BYTES * RECORD_ALIGN_BYTES;
        shard->parts[shard->part_count++] =
            (struct io_part){.buf = buf_ref(buf), .offset = offset, .bytes = taken};
        shard->tail = NULL;
    } else {
        if (shard->tail == NULL)
            TRY(new_tail(shard));
        last = &shard->parts[shard->part_count - 1];
        size_t tail_room = shard->tail_end - last->offset - last->bytes;
        taken = taken < tail_room ? taken : tail_room;
        memcpy(last->buf->data + last->offset + last->bytes, buf->data + offset, taken);
        last->bytes += taken;
        if (taken == tail_room)
            shard->tail = NULL;
    }
    shard->parts_bytes += (uint32_t)taken;
    count_payload(shard, slice_of(buf->data + offset, taken));
    *out_taken = taken;
    return OK;
}

/* --- writing --- */

static struct buf *header_buf(struct shard *shard, uint32_t payload_bytes, uint32_t block_bytes)
{
    struct record header = shard->record;
    header.payload_bytes = payload_bytes;
    header.block_bytes = block_bytes;
    header.kind = shard->streamed ? RECORD_STREAMED : RECORD_ONE_SHOT;
    header.offset = shard->place.offset;
    header.durable_offset = shard->place.durable_offset;
    if (shard->streamed) {
        header.cell_count = 0;
        header.payload_hash = (struct hash128){.bytes = {0}};
    }
    /* In the room before the first bytes when there is one, so that a small record is one piece. */
    struct buf *buf = shard->has_lead ? shard->parts[0].buf : buf_new(RECORD_HEADER_BYTES);
    record_encode(&header, &shard->place.segment->identity, RECORD_HEADER, buf->data);
    return buf;
}

static void push_part(struct write_op *op, struct io_part part)
{
    assert(op->part_count < IO_PARTS_MAX);
    assert(part.bytes % RECORD_ALIGN_BYTES == 0);
    op->parts[op->part_count++] = part;
    op->bytes += part.bytes;
}

/* Move the collected payload into a write, with the header before the first. Only the last
 * part of a record ends within a block; the rest of that block is zeroed, in memory that is
 * ours. */
static struct write_op *new_write(struct shard *shard, uint32_t header_payload_bytes,
                                  uint32_t block_bytes)
{
    struct write_op *op = mem_new(struct write_op);
    op->shard = shard;
    op->file = shard->place.file;
    op->offset = shard->place.offset;
    if (shard->submitted_bytes == 0) {
        struct buf *header = header_buf(shard, header_payload_bytes, block_bytes);
        if (shard->has_lead) {
            shard->parts[0].offset = 0;
            shard->parts[0].bytes += RECORD_HEADER_BYTES;
        } else {
            push_part(op, (struct io_part){.buf = header, .bytes = RECORD_HEADER_BYTES});
        }
    } else {
        op->offset += RECORD_HEADER_BYTES + shard->submitted_bytes;
    }
    for (unsigned i = 0; i < shard->part_count; i++) {
        struct io_part part = shard->parts[i];
        size_t whole = (size_t)record_align(part.bytes);
        if (whole > part.bytes) {
            assert(i + 1 == shard->part_count);
            memset(part.buf->data + part.offset + part.bytes, 0, whole - part.bytes);
            part.bytes = whole;
        }
        push_part(op, part);
    }
    shard->submitted_bytes += shard->parts_bytes;
    shard->part_count = 0;
    shard->parts_bytes = 0;
    shard->tail = NULL;
    shard->has_lead = false;
    return op;
}

static void free_op(struct write_op *op)
{
    for (unsigned i = 0; i < op->part_count; i++)
        buf_unref(op->parts[i].buf);
    mem_free(op);
}

static enum err submit(struct io *io, struct shard *shard, struct write_op *op)
{
    shard->references++;
    shard->writes++;
    shard->bytes_in_flight += op->bytes;
    uint64_t bytes = op->bytes;
    enum err err = appender_write(io, shard->appender, op);
    if (err == OK)
        return OK;
    shard->bytes_in_flight -= bytes;
    shard->writes--;
    shard->references--;
    shard->err = err;
    free_op(op);
    return err;
}

/* Durable: it can be found from now on, whether its writer still waits or not. */
static void complete(struct io *io, struct shard *shard)
{
    struct drive *drive = shard->appender->drive;
    struct place place = place_of_record(&shard->record, shard->place.segment->identity.segment,
                                         shard->extent_bytes);
    /* A write that its writer did not wait for may end after the shard was written again. */
    enum index_add how = INDEX_ADD_FIRST;
    if (shard->options.replaces)
        how = INDEX_ADD_REPLACES;
    else if (shard->rewrites_before != atomic_load(&drive->rewrites))
        how = INDEX_ADD_AGAIN;
    drive_index_add(drive, shard->place.segment, &shard->options.key, &place, how);
    shard->done = true;
    appender_drain(io, shard->appender);
}

void shard_written(struct io *io, struct write_op *op, enum err err)
{
    struct shard *shard = op->shard;
    shard->writes--;
    shard->bytes_in_flight -= op->bytes;
    free_op(op);
    if (err != OK && shard->err == OK)
        shard->err = err;
    if (shard->writes == 0 && !shard->done && (shard->finished || shard->freed)) {
        if (shard->finished && shard->err == OK)
            complete(io, shard);
        else
            give_up(shard);
    }
    signal_wake_all(io, &shard->progress);
    unref(shard);
}

static enum err reserve(struct io *io, struct shard *shard, enum segment_kind kind, uint64_t bytes)
{
    struct reservation place;
    TRY(appender_reserve(io, shard->appender, kind, bytes, &place));
    shard->place = place;
    shard->reserved = true;
    shard->extent_bytes = bytes;
    shard->record.offset = place.offset;
    shard->record.durable_offset = place.durable_offset;
    return OK;
}

/* More than a one-shot record takes: reserve for the declared length, or for the largest block. */
static enum err begin_stream(struct io *io, struct shard *shard)
{
    uint32_t bytes = shard->options.payload_bytes_expected;
    if (bytes == 0) {
        bytes = shard->options.payload_bytes_max;
        TRY(drive_take_space(shard->appender->drive, bytes));
    }
    shard->streamed = true;
    return reserve(io, shard, SEGMENT_STREAMED,
                   record_total_bytes(RECORD_STREAMED, bytes, &shard->record.hint));
}

static uint32_t declared_bytes(const struct shard *shard)
{
    uint32_t expected = shard->options.payload_bytes_expected;
    return expected > 0 ? expected : shard->options.payload_bytes_max;
}

static enum err flush_chunk(struct io *io, struct shard *shard)
{
    if (!shard->reserved)
        TRY(begin_stream(io, shard));
    TRY(submit(io, shard, new_write(shard, declared_bytes(shard), 0)));
    while (shard->err == OK && shard->bytes_in_flight >= 2 * chunk_bytes(shard))
        TRY(signal_wait(io, &shard->progress, 0));
    return shard->err;
}

enum err shard_append(struct io *io, struct shard *shard, struct buf *buf, size_t offset,
                      size_t bytes)
{
    assert(!shard->finished);
    TRY(shard->err);
    if (bytes > declared_bytes(shard) - shard->record.payload_bytes)
        return FAIL(ERR_LIMIT, "more payload than was declared");
    while (bytes > 0) {
        /* A full first chunk may be all there is: only more bytes make it a stream. */
        if (shard->parts_bytes == chunk_bytes(shard))
            TRY(flush_chunk(io, shard));
        size_t taken = 0;
        TRY(take_piece(shard, buf, offset, bytes, &taken));
        offset += taken;
        bytes -= taken;
        bool more = shard->record.payload_bytes < declared_bytes(shard);
        if (shard->streamed && more && shard->parts_bytes == chunk_bytes(shard))
            TRY(flush_chunk(io, shard));
    }
    return OK;
}

/* A write of its own, or the last part of the last write of the payload: recovery checks the
 * payload against the footer, so nothing has to be durable before it. */
static struct write_op *add_footer(struct shard *shard, struct write_op *op)
{
    struct record *record = &shard->record;
    uint32_t bytes = record_footer_bytes(record->payload_bytes, &record->hint);
    struct buf *footer = buf_new(bytes);
    record_encode(record, &shard->place.segment->identity, RECORD_FOOTER, footer->data);
    if (op == NULL) {
        op = mem_new(struct write_op);
        op->shard = shard;
        op->file = shard->place.file;
        op->offset =
            shard->place.offset + RECORD_HEADER_BYTES + record_align(shard->submitted_bytes);
    }
    push_part(op, (struct io_part){.buf = footer, .bytes = bytes});
    return op;
}

static enum err finish_record(struct io *io, struct shard *shard)
{
    struct record *record = &shard->record;
    if (!shard->reserved && record->payload_bytes > one_shot_bytes_max(shard))
        TRY(begin_stream(io, shard));
    uint64_t total = record_total_bytes(shard->streamed ? RECORD_STREAMED : RECORD_ONE_SHOT,
                                        record->payload_bytes, &record->hint);
    if (!shard->reserved)
        TRY(reserve(io, shard, total <= ZEROED_BYTES_MAX ? SEGMENT_ONE_SHOT : SEGMENT_STREAMED,
                    total));
    record->kind = shard->streamed ? RECORD_STREAMED : RECORD_ONE_SHOT;
    drive_extent_trim(shard->appender->drive, shard->place.segment, shard->place.offset, total);
    shard->extent_bytes = total;
    struct write_op *op = NULL;
    if (!shard->streamed || shard->parts_bytes > 0)
        op = new_write(shard, shard->streamed ? declared_bytes(shard) : record->payload_bytes,
                       record->block_bytes);
    if (shard->streamed)
        op = add_footer(shard, op);
    shard->finished = true;
    return submit(io, shard, op);
}

enum err shard_finish(struct io *io, struct shard *shard, uint32_t block_bytes)
{
    assert(!shard->finished);
    TRY(shard->err);
    shard->record.block_bytes = block_bytes;
    shard->record.payload_hash = hasher_value(shard->hasher);
    shard->record.cell_count = record_cells(shard->record.payload_bytes);
    enum err err = finish_record(io, shard);
    if (err != OK && shard->err == OK)
        shard->err = err;
    return err;
}

enum err shard_wait(struct io *io, struct shard *shard)
{
    assert(shard->finished);
    while (!shard->done && (shard->err == OK || shard->writes > 0))
        TRY(signal_wait(io, &shard->progress, 0));
    return shard->err;
}

struct hash128 shard_hash(const struct shard *shard)
{
    return shard->record.payload_hash;
}
