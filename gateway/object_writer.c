/* See body.h. Bytes are kept inline until they outgrow META_INLINE_BYTES_MAX; then they go to
 * blocks, one after the other. A finished block is staged when the next one begins, so that it
 * counts as live for repair and collection; the last one is named by the commit entry alone. */
#include "body.h"

#include "base/mem.h"

enum {
    BODY_PIECE_BYTES_MIN = 4 << 10,
};
/* Well below the 15 minutes after which the metadata gives an intent up. */
#define INTENT_RENEW_NS (180 * IO_NS_PER_S)

struct object_writer {
    struct context *context;
    struct slice key;
    uint64_t upload_id;
    uint32_t part_number;
    uint64_t expected_bytes; /* UINT64_MAX: unknown */
    uint64_t bytes;
    struct bytes inline_bytes;
    struct block_writer *block; /* open, or NULL */
    uint32_t block_bytes;       /* written to it */
    /* The last finished block's, until an entry names the block: its lease stays in use so long. */
    struct block_writer *finished;
    struct block_ref *blocks; /* finished ones */
    struct lease *leases;
    uint32_t block_count;
    uint32_t staged_count;
    struct block_id write_id;
    uint64_t intent;
    uint64_t renewed_ns; /* when it was staged or renewed last */
};

enum s3_error object_writer_new(struct io *io, struct context *context, struct slice key,
                                uint64_t upload_id, uint32_t part_number, uint64_t bytes_expected,
                                struct object_writer **out_writer)
{
    (void)io;
    struct object_writer *writer = mem_new(struct object_writer);
    writer->context = context;
    writer->key = key;
    writer->upload_id = upload_id;
    writer->part_number = part_number;
    writer->expected_bytes = bytes_expected;
    writer->inline_bytes.max = META_INLINE_BYTES_MAX;
    *out_writer = writer;
    return S3_OK;
}

void object_writer_free(struct object_writer *writer)
{
    if (writer == NULL)
        return;
    struct context *context = writer->context;
    if (writer->intent != 0 && context->abandoned_intent_count < CONTEXT_INTENTS_MAX)
        context->abandoned_intents[context->abandoned_intent_count++] = writer->intent;
    block_writer_free(writer->block);
    block_writer_free(writer->finished);
    bytes_deinit(&writer->inline_bytes);
    mem_free(writer->blocks);
    mem_free(writer->leases);
    mem_free(writer);
}

static enum s3_error block_finish(struct io *io, struct object_writer *writer)
{
    struct block_ref *ref = &writer->blocks[writer->block_count];
    struct lease *lease = &writer->leases[writer->block_count];
    TRY(s3_error_from(block_writer_finish(io, writer->block, ref, lease), "block finish"));
    assert(writer->finished == NULL);
    assert(ref->bytes == writer->block_bytes);
    /* A block that was written again has another id than it began with. */
    if (writer->block_count == 0)
        writer->write_id = ref->id;
    writer->finished = TAKE(writer->block);
    writer->block_count++;
    writer->block_bytes = 0;
    return S3_OK;
}

static enum s3_error block_stage(struct io *io, struct object_writer *writer)
{
    while (writer->staged_count < writer->block_count) {
        uint32_t i = writer->staged_count;
        TRY(s3_error_from(meta_block_stage(io, writer->context->gateway->options.meta,
                                           writer->context->bucket.id, &writer->leases[i],
                                           &writer->blocks[i], &writer->intent),
                          "block stage"));
        writer->staged_count++;
        writer->renewed_ns = io_now_ns(io);
    }
    block_writer_free(TAKE(writer->finished));
    return S3_OK;
}

/* A slow client may take hours for one block; the ones before it stay staged. */
static enum s3_error intent_renew(struct io *io, struct object_writer *writer)
{
    if (writer->intent == 0 || io_now_ns(io) - writer->renewed_ns < INTENT_RENEW_NS)
        return S3_OK;
    enum err err = meta_intent_renew(io, writer->context->gateway->options.meta, writer->intent);
    if (err == ERR_STALE_EPOCH)
        return s3_error_from(err, "intent renewal");
    if (err == OK)
        writer->renewed_ns = io_now_ns(io); /* else the next piece tries again */
    return S3_OK;
}

static enum s3_error block_open(struct io *io, struct object_writer *writer)
{
    if (writer->block_count == META_OBJECT_BLOCKS_MAX)
        return S3_FAIL(S3_ENTITY_TOO_LARGE, "blocks=%u", writer->block_count);
    if (writer->blocks == NULL) {
        writer->blocks = mem_alloc_array(META_OBJECT_BLOCKS_MAX, sizeof *writer->blocks);
        writer->leases = mem_alloc_array(META_OBJECT_BLOCKS_MAX, sizeof *writer->leases);
    }
    TRY(block_stage(io, writer));
    uint64_t rest = writer->expected_bytes == UINT64_MAX || writer->expected_bytes < writer->bytes
                        ? 0
                        : writer->expected_bytes - writer->bytes;
    struct block_hint hint = {
        .bucket_id = writer->context->bucket.id,
        .bucket_name = slice_of_text(writer->context->bucket.name),
        .key = writer->key,
        .write_id = writer->write_id,
        .ordinal = writer->block_count,
        .upload_id = writer->upload_id,
        .part_number = writer->part_number,
    };
    uint32_t expected = (uint32_t)(rest < BLOCK_BYTES_MAX ? rest : BLOCK_BYTES_MAX);
    return s3_error_from(block_writer_open(io, writer->context->gateway->options.storage, &hint,
                                           expected, &writer->block),
                         "block open");
}

static enum s3_error append_to_blocks(struct io *io, struct object_writer *writer, struct buf *buf,
                                      size_t offset, size_t bytes)
{
    while (bytes > 0) {
        if (writer->block != NULL && writer->block_bytes == BLOCK_BYTES_MAX)
            TRY(block_finish(io, writer));
        if (writer->block == NULL)
            TRY(block_open(io, writer));
        TRY(intent_renew(io, writer));
        size_t room = BLOCK_BYTES_MAX - writer->block_bytes;
        size_t count = bytes < room ? bytes : room;
        TRY(s3_error_from(block_writer_append(io, writer->block, buf, offset, count),
                          "block append"));
        writer->block_bytes += (uint32_t)count;
        writer->bytes += count;
        offset += count;
        bytes -= count;
    }
    return S3_OK;
}

/* What was kept inline becomes the start of the first block. */
static enum s3_error spill_inline(struct io *io, struct object_writer *writer)
{
    size_t bytes = writer->inline_bytes.bytes;
    if (bytes == 0)
        return S3_OK;
    AUTO(buf) buf = NULL;
    TRY(context_buf(io, writer->context, bytes, &buf));
    memcpy(buf->data, writer->inline_bytes.data, bytes);
    bytes_deinit(&writer->inline_bytes);
    writer->inline_bytes = (struct bytes){.max = META_INLINE_BYTES_MAX};
    writer->bytes = 0;
    return append_to_blocks(io, writer, buf, 0, bytes);
}

enum s3_error object_writer_append(struct io *io, struct object_writer *writer, struct buf *buf,
                                   size_t offset, size_t bytes)
{
    /* Parts are never inline: they are joined without moving a byte. */
    bool in_blocks = writer->upload_id != 0 || writer->block != NULL || writer->block_count > 0;
    if (!in_blocks && writer->bytes + bytes <= META_INLINE_BYTES_MAX) {
        bytes_append(&writer->inline_bytes, buf_slice(buf, offset, bytes));
        writer->bytes += bytes;
        return S3_OK;
    }
    if (!in_blocks)
        TRY(spill_inline(io, writer));
    return append_to_blocks(io, writer, buf, offset, bytes);
}

enum s3_error object_writer_finish(struct io *io, struct object_writer *writer,
                                   struct object_put *put)
{
    if (writer->block != NULL)
        TRY(block_finish(io, writer));
    put->bucket_id = writer->context->bucket.id;
    put->key = writer->key;
    put->bytes = writer->bytes;
    put->inline_bytes = bytes_slice(&writer->inline_bytes);
    put->blocks = writer->blocks;
    put->leases = writer->leases;
    put->block_count = writer->block_count;
    put->intent = writer->intent;
    return S3_OK;
}

void object_writer_committed(struct object_writer *writer)
{
    writer->intent = 0;
    block_writer_free(TAKE(writer->finished));
}

/* Pieces as large as what is left, so that a small body takes little of the budget. */
static size_t piece_bytes(const struct context *context, uint64_t expected, uint64_t done)
{
    size_t most = context_piece_bytes(context);
    uint64_t rest = expected == UINT64_MAX || expected < done ? most : expected - done;
    if (rest >= most)
        return most;
    return rest < BODY_PIECE_BYTES_MIN ? BODY_PIECE_BYTES_MIN : (size_t)rest;
}

enum s3_error body_to_object(struct io *io, struct context *context, struct body_reader *reader,
                             struct object_writer *writer)
{
    uint64_t expected = body_reader_expected_bytes(reader);
    for (;;) {
        size_t bytes = piece_bytes(context, expected, writer->bytes);
        AUTO(buf) buf = NULL;
        TRY(context_buf(io, context, bytes, &buf));
        size_t got = 0;
        TRY(body_reader_fill(io, reader, buf, 0, bytes, &got));
        if (got > 0)
            TRY(object_writer_append(io, writer, buf, 0, got));
        if (got < bytes)
            return S3_OK;
    }
}

static struct object_checksum checksum_to_keep(const struct body_reader *reader,
                                               const struct digest_values *values)
{
    struct checksum checksum = body_reader_checksum(reader);
    if (checksum.algorithm == CHECKSUM_NONE)
        checksum = digest_checksum(values, CHECKSUM_CRC64NVME);
    return checksum_to_object(&checksum);
}

enum s3_error body_store(struct io *io, struct context *context, struct body_reader *reader,
                         struct object_writer *writer, struct object_put *put)
{
    struct digest_values values;
    TRY(body_to_object(io, context, reader, writer));
    TRY(body_reader_finish(io, reader, &values));
    TRY(object_writer_finish(io, writer, put));
    memcpy(put->etag.md5, values.md5, sizeof put->etag.md5);
    put->checksum = checksum_to_keep(reader, &values);
    return S3_OK;
}
