/* Reading ranges of blocks: one copy, or units of several drives, decoded where some fail. */
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "placement.h"
#include "shard_reader.h"
#include <assert.h>
#include <inttypes.h>

/* --- k = 1: any slot has the plain bytes --- */

static enum err read_copy(struct io *io, struct storage *storage, const struct volume_entry *entry,
                          const struct block_ref *ref, unsigned slot, uint32_t offset,
                          uint32_t bytes, struct buf_pool *pool, struct buf **out_buf,
                          size_t *out_offset)
{
    struct shard_reader reader;
    TRY(shard_reader_open(io, storage, entry, ref, slot, &reader));
    struct cell_range range = shard_reader_cover(&reader, offset, bytes);
    AUTO(buf) buf = NULL;
    enum err err = buf_pool_get(pool, range.to - range.from, &buf);
    if (err == OK)
        err = shard_reader_read(io, &reader, range, buf);
    shard_reader_deinit(&reader);
    TRY(err);
    *out_offset = offset - range.from;
    *out_buf = TAKE(buf);
    return OK;
}

/* Errors that another slot may not have. */
static bool is_of_one_slot(enum err err)
{
    return err == ERR_CORRUPT || err == ERR_NOT_FOUND || err == ERR_IO || err == ERR_FENCED;
}

/* Damage says more than absence. */
static enum err worse(enum err a, enum err b)
{
    return a == OK || a == ERR_NOT_FOUND || b == ERR_CORRUPT ? b : a;
}

static enum err read_any_copy(struct io *io, struct storage *storage,
                              const struct volume_entry *entry, const struct block_ref *ref,
                              uint32_t offset, uint32_t bytes, struct buf_pool *pool,
                              struct buf **out_buf, size_t *out_offset)
{
    enum err worst = OK;
    unsigned slots = 1u + entry->volume.parity_shards;
    for (unsigned slot = 0; slot < slots; slot++) {
        if ((ref->missing >> slot & 1) != 0)
            continue;
        enum err err =
            read_copy(io, storage, entry, ref, slot, offset, bytes, pool, out_buf, out_offset);
        if (err == OK || !is_of_one_slot(err))
            return err;
        worst = worse(worst, err);
    }
    return worst == OK ? ERR_CORRUPT : worst;
}

/* --- k > 1 --- */

/* Payload [offset, offset + bytes) of one shard, in memory. */
struct piece {
    struct buf *buf;
    size_t at; /* of payload `offset` in buf */
    uint32_t offset;
    uint32_t bytes;
};

struct striped_read {
    struct storage *storage;
    const struct volume_entry *entry;
    const struct block_ref *ref;
    struct buf_pool *pool;
    struct geometry geometry;
    struct piece pieces[META_SHARDS_MAX]; /* by slot */
};

static void drop_pieces(struct striped_read *read)
{
    for (unsigned slot = 0; slot < META_SHARDS_MAX; slot++) {
        if (read->pieces[slot].buf != NULL)
            buf_unref(read->pieces[slot].buf);
        read->pieces[slot] = (struct piece){.buf = NULL};
    }
}

static enum err read_piece(struct io *io, struct striped_read *read, unsigned slot, uint32_t offset,
                           uint32_t bytes)
{
    if ((read->ref->missing >> slot & 1) != 0)
        return ERR_NOT_FOUND;
    struct shard_reader reader;
    TRY(shard_reader_open(io, read->storage, read->entry, read->ref, slot, &reader));
    struct cell_range range = shard_reader_cover(&reader, offset, bytes);
    AUTO(buf) buf = NULL;
    enum err err = OK;
    if (reader.place.unit_bytes != read->geometry.unit_bytes)
        err = FAIL(ERR_CORRUPT, "shards of one block differ in their unit");
    if (err == OK)
        err = buf_pool_get(read->pool, range.to - range.from, &buf);
    if (err == OK)
        err = shard_reader_read(io, &reader, range, buf);
    shard_reader_deinit(&reader);
    TRY(err);
    read->pieces[slot] = (struct piece){
        .buf = TAKE(buf), .at = offset - range.from, .offset = offset, .bytes = bytes};
    return OK;
}

/* The unit is in every shard's row; any that can be found says it. */
static enum err find_geometry(struct io *io, struct striped_read *read)
{
    enum err worst = OK;
    unsigned slots = (unsigned)read->entry->volume.data_shards + read->entry->volume.parity_shards;
    for (unsigned slot = 0; slot < slots; slot++) {
        struct shard_key key = {.block = read->ref->id, .slot = (uint8_t)slot};
        struct place place;
        enum err err = drive_check(read->entry->drives[slot]);
        if (err == OK)
            err = drive_index_find(io, read->entry->drives[slot], &key, &place);
        if (err == OK && !place.bad) {
            read->geometry = (struct geometry){read->entry->volume.data_shards,
                                               read->entry->volume.parity_shards, place.unit_bytes};
            return geometry_check(read->geometry, read->ref->bytes) == OK
                       ? OK
                       : FAIL(ERR_CORRUPT, "impossible geometry");
        }
        worst = worse(worst, err == OK ? ERR_CORRUPT : err);
    }
    return worst;
}

/* Only what the range needs, from the data slots. */
static enum err read_healthy(struct io *io, struct striped_read *read, uint32_t offset,
                             uint32_t bytes)
{
    struct geometry_range ranges[CODEC_DATA_SHARDS_MAX];
    uint32_t count = geometry_cover(read->geometry, read->ref->bytes, offset, bytes, ranges);
    for (uint32_t i = 0; i < count; i++)
        TRY(read_piece(io, read, ranges[i].slot, ranges[i].shard_offset, ranges[i].bytes));
    return OK;
}

/* What the stripes [first, last] are in the shard of `slot`. */
static struct geometry_range stripes_of(const struct striped_read *read, unsigned slot,
                                        uint32_t first, uint32_t last)
{
    uint32_t from = first * read->geometry.unit_bytes;
    uint32_t to = (last + 1) * read->geometry.unit_bytes;
    uint32_t end = geometry_shard_bytes(read->geometry, read->ref->bytes, slot);
    if (to > end)
        to = end;
    return (struct geometry_range){
        .slot = slot, .shard_offset = from, .bytes = to > from ? to - from : 0};
}

static enum err rebuild(struct striped_read *read, uint32_t present, uint32_t wanted,
                        const struct geometry_range *ranges)
{
    struct slice units[CODEC_SHARDS_MAX] = {{.bytes = 0}};
    struct codec_output outputs[CODEC_SHARDS_MAX] = {{.bytes = 0}};
    for (unsigned slot = 0; slot < geometry_shards(read->geometry); slot++) {
        struct piece *piece = &read->pieces[slot];
        if ((wanted >> slot & 1) != 0) {
            TRY(buf_pool_get(read->pool, ranges[slot].bytes, &piece->buf));
            piece->at = 0;
            piece->offset = ranges[slot].shard_offset;
            piece->bytes = ranges[slot].bytes;
            outputs[slot] = (struct codec_output){piece->buf->data, piece->bytes};
        } else if (piece->buf != NULL) {
            units[slot] = buf_slice(piece->buf, piece->at, piece->bytes);
        }
    }
    return codec_reconstruct(read->entry->codec, present, units, wanted, outputs);
}

/* Whole stripes from any k slots; what data is missing is computed. */
static enum err read_degraded(struct io *io, struct striped_read *read, uint32_t offset,
                              uint32_t bytes)
{
    struct geometry geometry = read->geometry;
    uint32_t first = geometry_locate(geometry, read->ref->bytes, offset).stripe;
    uint32_t last = geometry_locate(geometry, read->ref->bytes, offset + bytes - 1).stripe;
    struct geometry_range ranges[CODEC_SHARDS_MAX];
    uint32_t present = 0;
    uint32_t wanted = 0;
    unsigned good = 0;
    enum err worst = OK;
    drop_pieces(read);
    for (unsigned slot = 0; slot < geometry_shards(geometry) && good < geometry.data_shards;
         slot++) {
        ranges[slot] = stripes_of(read, slot, first, last);
        enum err err =
            ranges[slot].bytes == 0
                ? OK
                : read_piece(io, read, slot, ranges[slot].shard_offset, ranges[slot].bytes);
        if (err != OK && !is_of_one_slot(err))
            return err;
        if (err == OK) {
            present |= 1u << slot;
            good++;
        } else {
            worst = worse(worst, err);
            if (slot < geometry.data_shards)
                wanted |= 1u << slot;
        }
    }
    if (good < geometry.data_shards)
        return worst;
    return wanted == 0 ? OK : rebuild(read, present, wanted, ranges);
}

static enum err assemble(const struct striped_read *read, uint32_t offset, uint32_t bytes,
                         struct buf **out_buf)
{
    AUTO(buf) buf = NULL;
    TRY(buf_pool_get(read->pool, bytes, &buf));
    for (uint32_t done = 0; done < bytes;) {
        struct geometry_position at =
            geometry_locate(read->geometry, read->ref->bytes, offset + done);
        const struct piece *piece = &read->pieces[at.slot];
        assert(at.shard_offset >= piece->offset);
        uint32_t take = at.bytes < bytes - done ? at.bytes : bytes - done;
        assert(at.shard_offset - piece->offset + take <= piece->bytes);
        memcpy(buf->data + done, piece->buf->data + piece->at + (at.shard_offset - piece->offset),
               take);
        done += take;
    }
    *out_buf = TAKE(buf);
    return OK;
}

static enum err read_striped(struct io *io, struct striped_read *read, uint32_t offset,
                             uint32_t bytes, struct buf **out_buf)
{
    TRY(find_geometry(io, read));
    enum err err = read_healthy(io, read, offset, bytes);
    bool degraded = err != OK && is_of_one_slot(err);
    if (degraded)
        err = read_degraded(io, read, offset, bytes);
    TRY(err);
    AUTO(buf) buf = NULL;
    TRY(assemble(read, offset, bytes, &buf));
    if (degraded && bytes == read->ref->bytes) {
        struct hash128 hash = hash128_of(buf_slice(buf, 0, bytes));
        if (!hash128_equal(&hash, &read->ref->hash))
            return FAIL(ERR_CORRUPT, "decoded block has another hash");
    }
    *out_buf = TAKE(buf);
    return OK;
}

enum err block_read(struct io *io, struct storage_client *client, const struct block_ref *ref,
                    uint32_t offset, uint32_t bytes, struct buf_pool *pool, struct buf **out_buf,
                    size_t *out_offset)
{
    assert(bytes > 0);
    assert(bytes <= BLOCK_READ_BYTES_MAX);
    assert((uint64_t)offset + bytes <= ref->bytes);
    struct storage *storage = client->storage;
    struct volume_entry *entry = NULL;
    TRY(placement_volume(io, storage, ref->id.volume, &entry));
    enum err err = OK;
    if (entry->volume.data_shards == 1) {
        err = read_any_copy(io, storage, entry, ref, offset, bytes, pool, out_buf, out_offset);
    } else {
        struct striped_read read = {.storage = storage, .entry = entry, .ref = ref, .pool = pool};
        err = read_striped(io, &read, offset, bytes, out_buf);
        drop_pieces(&read);
        *out_offset = 0;
    }
    if (err == OK)
        counter_add(storage->read_bytes, bytes);
    return err;
}
