/* Writing a block: plain bytes to the shards of its volume. */
#include "base/hash.h"
#include "base/mem.h"
#include "placement.h"
#include "shard.h"
#include <assert.h>

/* One block on its way to the drives of its volume.
 *
 * k = 1: every slot takes the plain bytes as they come, without a copy where they are aligned.
 * k > 1: bytes are collected to a stripe, encoded, and each slot takes its unit of it. */
struct block_writer {
    struct storage *storage;
    struct placed placed;
    struct geometry geometry;
    struct shard *shards[META_SHARDS_MAX];
    uint32_t bytes_expected;
    uint32_t bytes;
    struct buf *stripe; /* k > 1: the plain bytes of the stripe being collected */
    uint32_t stripe_bytes;
    struct hasher *hasher; /* k > 1; else the shard's hash is the block's */
    bool finished;
    enum err err;
};

/* The superblock of each drive fixes the largest block it takes; the shard is never larger. */
static uint32_t block_bytes_max(const struct volume_entry *entry, unsigned slots)
{
    uint32_t bytes = BLOCK_BYTES_MAX;
    for (unsigned slot = 0; slot < slots; slot++) {
        const struct drive *drive = entry->drives[slot];
        uint64_t half = drive->segment_bytes / 2;
        if (half < bytes)
            bytes = (uint32_t)half;
        if (drive->superblock->block_bytes_max < bytes)
            bytes = drive->superblock->block_bytes_max;
    }
    return bytes;
}

static enum err open_shards(struct io *io, struct block_writer *writer,
                            const struct block_hint *hint)
{
    const struct volume_entry *entry = writer->placed.entry;
    unsigned slots = geometry_shards(writer->geometry);
    uint32_t bytes_max = block_bytes_max(entry, slots);
    if (writer->bytes_expected > bytes_max)
        return FAIL(ERR_LIMIT, "block larger than the drives take bytes=%u max=%u",
                    writer->bytes_expected, bytes_max);
    for (unsigned slot = 0; slot < slots; slot++) {
        struct shard_options options = {
            .key = {.block = writer->placed.block, .slot = (uint8_t)slot},
            .epoch = writer->placed.lease.epoch,
            .incarnation = entry->drives[slot]->superblock->incarnation,
            .geometry = writer->geometry,
            .hint = hint,
            .payload_bytes_max = geometry_shard_bytes(writer->geometry, bytes_max, slot),
            .pool = writer->storage->pool,
        };
        if (writer->bytes_expected > 0)
            options.payload_bytes_expected =
                geometry_shard_bytes(writer->geometry, writer->bytes_expected, slot);
        struct appender *appender = storage_appender(io, writer->storage, entry->drives[slot]);
        TRY(shard_open(io, appender, &options, &writer->shards[slot]));
    }
    return OK;
}

enum err block_writer_open(struct io *io, struct storage_client *client,
                           const struct block_hint *hint, uint32_t bytes_expected,
                           struct block_writer **out_writer)
{
    if (bytes_expected > BLOCK_BYTES_MAX || hint->key.bytes > META_KEY_BYTES_MAX ||
        hint->bucket_name.bytes > META_BUCKET_NAME_BYTES_MAX)
        return FAIL(ERR_INVALID, "block larger than its limit or hint too long");
    struct placed placed;
    TRY(placement_choose(io, client->storage, bytes_expected, &placed));
    struct geometry geometry;
    const struct volume *volume = &placed.entry->volume;
    TRY(geometry_make(volume->data_shards, volume->parity_shards, bytes_expected, &geometry));
    AUTO(block_writer) writer = mem_new(struct block_writer);
    writer->storage = client->storage;
    writer->placed = placed;
    writer->geometry = geometry;
    writer->bytes_expected = bytes_expected;
    if (geometry.data_shards > 1)
        writer->hasher = hasher_new();
    TRY(open_shards(io, writer, hint));
    *out_writer = TAKE(writer);
    return OK;
}

/* --- stripes --- */

static enum err take_parity(struct io *io, struct block_writer *writer, const struct slice *data,
                            uint32_t unit_bytes)
{
    unsigned data_count = writer->geometry.data_shards;
    struct buf *bufs[CODEC_PARITY_SHARDS_MAX] = {NULL};
    struct codec_output outputs[CODEC_PARITY_SHARDS_MAX];
    enum err err = OK;
    unsigned count = 0;
    for (; err == OK && count < writer->geometry.parity_shards; count++) {
        err = buf_pool_get(writer->storage->pool, unit_bytes, &bufs[count]);
        if (err == OK)
            outputs[count] = (struct codec_output){bufs[count]->data, unit_bytes};
    }
    if (err == OK && count > 0)
        codec_encode(writer->placed.entry->codec, data, outputs);
    for (unsigned i = 0; err == OK && i < count; i++)
        err = shard_append(io, writer->shards[data_count + i], bufs[i], 0, unit_bytes);
    for (unsigned i = 0; i < count; i++)
        buf_unref(bufs[i]);
    return err;
}

/* Hand the collected stripe to the slots; `block_bytes` is the block up to its end. */
static enum err flush_stripe(struct io *io, struct block_writer *writer, uint32_t block_bytes)
{
    assert(writer->stripe_bytes > 0);
    struct geometry geometry = writer->geometry;
    uint32_t stripe = geometry_stripe_count(geometry, block_bytes) - 1;
    AUTO(buf) buf = TAKE(writer->stripe);
    struct slice units[CODEC_DATA_SHARDS_MAX];
    uint32_t offset = 0;
    for (unsigned slot = 0; slot < geometry.data_shards; slot++) {
        uint32_t bytes = geometry_unit_bytes(geometry, block_bytes, stripe, slot);
        units[slot] = slice_of(buf->data + offset, bytes);
        if (bytes > 0)
            TRY(shard_append(io, writer->shards[slot], buf, offset, bytes));
        offset += bytes;
    }
    assert(offset == writer->stripe_bytes);
    writer->stripe_bytes = 0;
    return take_parity(io, writer, units, geometry_unit_bytes(geometry, block_bytes, stripe, 0));
}

static enum err collect(struct io *io, struct block_writer *writer, struct slice bytes)
{
    uint32_t stripe_max = geometry_stripe_bytes(writer->geometry);
    hasher_update(writer->hasher, bytes);
    while (bytes.bytes > 0) {
        if (writer->stripe_bytes == stripe_max)
            TRY(flush_stripe(io, writer, writer->bytes));
        if (writer->stripe == NULL) {
            uint32_t rest = writer->bytes_expected > writer->bytes
                                ? writer->bytes_expected - writer->bytes
                                : stripe_max;
            TRY(buf_pool_get(writer->storage->pool, rest < stripe_max ? rest : stripe_max,
                             &writer->stripe));
        }
        struct slice piece = slice_first(bytes, stripe_max - writer->stripe_bytes);
        memcpy(writer->stripe->data + writer->stripe_bytes, piece.data, piece.bytes);
        writer->stripe_bytes += (uint32_t)piece.bytes;
        writer->bytes += (uint32_t)piece.bytes;
        bytes = slice_skip(bytes, piece.bytes);
    }
    return OK;
}

static enum err append(struct io *io, struct block_writer *writer, struct buf *buf, size_t offset,
                       size_t bytes)
{
    uint32_t limit = writer->bytes_expected > 0 ? writer->bytes_expected : BLOCK_BYTES_MAX;
    if (bytes > limit - writer->bytes)
        return FAIL(ERR_LIMIT, "more bytes than the block was opened for");
    counter_add(writer->storage->written_bytes, bytes);
    if (writer->geometry.data_shards > 1)
        return collect(io, writer, buf_slice(buf, offset, bytes));
    for (unsigned slot = 0; slot < geometry_shards(writer->geometry); slot++)
        TRY(shard_append(io, writer->shards[slot], buf, offset, bytes));
    writer->bytes += (uint32_t)bytes;
    return OK;
}

enum err block_writer_append(struct io *io, struct block_writer *writer, struct buf *buf,
                             size_t offset, size_t bytes)
{
    assert(!writer->finished);
    assert(offset + bytes <= buf->capacity);
    TRY(writer->err);
    writer->err = append(io, writer, buf, offset, bytes);
    return writer->err;
}

static enum err finish(struct io *io, struct block_writer *writer)
{
    if (writer->stripe_bytes > 0)
        TRY(flush_stripe(io, writer, writer->bytes));
    unsigned slots = geometry_shards(writer->geometry);
    for (unsigned slot = 0; slot < slots; slot++)
        TRY(shard_finish(io, writer->shards[slot], writer->bytes));
    for (unsigned slot = 0; slot < slots; slot++)
        TRY(shard_wait(io, writer->shards[slot]));
    return OK;
}

enum err block_writer_finish(struct io *io, struct block_writer *writer, struct block_ref *out_ref,
                             struct lease *out_lease)
{
    assert(!writer->finished);
    assert(writer->bytes > 0 || writer->err != OK);
    TRY(writer->err);
    writer->finished = true;
    writer->err = finish(io, writer);
    TRY(writer->err);
    *out_ref = (struct block_ref){
        .id = writer->placed.block,
        .hash =
            writer->hasher != NULL ? hasher_value(writer->hasher) : shard_hash(writer->shards[0]),
        .bytes = writer->bytes,
    };
    *out_lease = writer->placed.lease;
    return OK;
}

void block_writer_free(struct block_writer *writer)
{
    if (writer == NULL)
        return;
    for (unsigned slot = 0; slot < META_SHARDS_MAX; slot++)
        shard_free(writer->shards[slot]);
    if (writer->stripe != NULL)
        buf_unref(writer->stripe);
    hasher_free(writer->hasher);
    mem_free(writer);
}

struct block_id block_writer_id(const struct block_writer *writer)
{
    return writer->placed.block;
}
