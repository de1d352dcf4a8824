/* Arithmetic of stripes, units and shards. */
#include "erasure/geometry.h"
#include <assert.h>
#include <inttypes.h>

static_assert(GEOMETRY_UNIT_BYTES_MAX % GEOMETRY_UNIT_ALIGN_BYTES == 0);
/* Every offset, also that of a full stripe behind the last byte, fits in 32 bits. */
static_assert((uint64_t)GEOMETRY_BLOCK_BYTES_MAX +
                  (uint64_t)CODEC_DATA_SHARDS_MAX * GEOMETRY_UNIT_BYTES_MAX <
              UINT32_MAX);

static uint32_t minimum(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The unit of a stripe that holds `bytes` bytes (<= k * unit_bytes_max). */
static uint32_t spread(uint32_t data_shards, uint32_t bytes, uint32_t unit_bytes_max)
{
    uint32_t even = (bytes + data_shards - 1) / data_shards;
    uint32_t pages = (even + GEOMETRY_UNIT_ALIGN_BYTES - 1) / GEOMETRY_UNIT_ALIGN_BYTES;
    return minimum(pages * GEOMETRY_UNIT_ALIGN_BYTES, unit_bytes_max);
}

enum err geometry_make(unsigned data_shards, unsigned parity_shards, uint64_t block_bytes,
                       struct geometry *out_geometry)
{
    if (data_shards > CODEC_DATA_SHARDS_MAX || parity_shards > CODEC_PARITY_SHARDS_MAX)
        return FAIL(ERR_INVALID, "no such code data_shards=%u parity_shards=%u", data_shards,
                    parity_shards);
    struct geometry geometry = {
        .data_shards = (uint8_t)data_shards,
        .parity_shards = (uint8_t)parity_shards,
        .unit_bytes = GEOMETRY_UNIT_BYTES_MAX,
    };
    TRY(geometry_check(geometry, block_bytes));
    if (block_bytes > 0)
        geometry.unit_bytes = spread(data_shards, (uint32_t)block_bytes, GEOMETRY_UNIT_BYTES_MAX);
    *out_geometry = geometry;
    return OK;
}

enum err geometry_check(struct geometry geometry, uint64_t block_bytes)
{
    bool code_ok = geometry.data_shards >= 1 && geometry.data_shards <= CODEC_DATA_SHARDS_MAX &&
                   geometry.parity_shards <= CODEC_PARITY_SHARDS_MAX;
    bool unit_ok = geometry.unit_bytes >= GEOMETRY_UNIT_ALIGN_BYTES &&
                   geometry.unit_bytes <= GEOMETRY_UNIT_BYTES_MAX &&
                   geometry.unit_bytes % GEOMETRY_UNIT_ALIGN_BYTES == 0;
    if (!code_ok || !unit_ok || block_bytes > GEOMETRY_BLOCK_BYTES_MAX)
        return FAIL(ERR_INVALID,
                    "no such geometry data_shards=%u parity_shards=%u unit=%" PRIu32
                    " block=%" PRIu64,
                    geometry.data_shards, geometry.parity_shards, geometry.unit_bytes, block_bytes);
    return OK;
}

static void assert_valid(struct geometry geometry, uint32_t block_bytes)
{
    assert(geometry.data_shards >= 1);
    assert(geometry.data_shards <= CODEC_DATA_SHARDS_MAX);
    assert(geometry.unit_bytes >= GEOMETRY_UNIT_ALIGN_BYTES);
    assert(geometry.unit_bytes <= GEOMETRY_UNIT_BYTES_MAX);
    assert(block_bytes <= GEOMETRY_BLOCK_BYTES_MAX);
}

uint32_t geometry_stripe_count(struct geometry geometry, uint32_t block_bytes)
{
    assert_valid(geometry, block_bytes);
    uint32_t stripe_bytes = geometry_stripe_bytes(geometry);
    return (block_bytes + stripe_bytes - 1) / stripe_bytes;
}

/* Block bytes in stripe `stripe`; 0 behind the last. */
static uint32_t bytes_of_stripe(struct geometry geometry, uint32_t block_bytes, uint32_t stripe)
{
    uint32_t stripe_bytes = geometry_stripe_bytes(geometry);
    uint64_t start = (uint64_t)stripe * stripe_bytes;
    return start >= block_bytes ? 0 : minimum(block_bytes - (uint32_t)start, stripe_bytes);
}

/* Bytes from one unit of stripe `stripe` to the next: U, or u in a short stripe. */
static uint32_t unit_step(struct geometry geometry, uint32_t block_bytes, uint32_t stripe)
{
    uint32_t bytes = bytes_of_stripe(geometry, block_bytes, stripe);
    return spread(geometry.data_shards, bytes, geometry.unit_bytes);
}

uint32_t geometry_unit_bytes(struct geometry geometry, uint32_t block_bytes, uint32_t stripe,
                             uint32_t slot)
{
    assert_valid(geometry, block_bytes);
    assert(slot < geometry_shards(geometry));
    /* The first data unit is the longest. */
    uint32_t data_slot = slot < geometry.data_shards ? slot : 0;
    uint32_t step = unit_step(geometry, block_bytes, stripe);
    uint32_t bytes = bytes_of_stripe(geometry, block_bytes, stripe);
    uint32_t start = data_slot * step;
    return start >= bytes ? 0 : minimum(bytes - start, step);
}

/* How many of the block's first `offset` bytes lie in data slot `slot`: they are its first ones. */
static uint32_t shard_bytes_before(struct geometry geometry, uint32_t block_bytes, uint32_t slot,
                                   uint32_t offset)
{
    uint32_t stripe_bytes = geometry_stripe_bytes(geometry);
    uint32_t stripe = offset / stripe_bytes;
    uint32_t within = offset % stripe_bytes;
    uint32_t step = unit_step(geometry, block_bytes, stripe);
    uint32_t start = slot * step;
    uint32_t part = start >= within ? 0 : minimum(within - start, step);
    return stripe * geometry.unit_bytes + part;
}

uint32_t geometry_shard_bytes(struct geometry geometry, uint32_t block_bytes, uint32_t slot)
{
    assert_valid(geometry, block_bytes);
    assert(slot < geometry_shards(geometry));
    uint32_t data_slot = slot < geometry.data_shards ? slot : 0;
    return shard_bytes_before(geometry, block_bytes, data_slot, block_bytes);
}

struct geometry_position geometry_locate(struct geometry geometry, uint32_t block_bytes,
                                         uint32_t offset)
{
    assert_valid(geometry, block_bytes);
    assert(offset < block_bytes);
    uint32_t stripe = offset / geometry_stripe_bytes(geometry);
    uint32_t within = offset % geometry_stripe_bytes(geometry);
    uint32_t step = unit_step(geometry, block_bytes, stripe);
    uint32_t slot = within / step;
    assert(slot < geometry.data_shards);
    uint32_t unit_bytes = geometry_unit_bytes(geometry, block_bytes, stripe, slot);
    return (struct geometry_position){
        .stripe = stripe,
        .slot = slot,
        .shard_offset = stripe * geometry.unit_bytes + within % step,
        .bytes = unit_bytes - within % step,
    };
}

uint32_t geometry_block_offset(struct geometry geometry, uint32_t block_bytes, uint32_t slot,
                               uint32_t shard_offset)
{
    assert_valid(geometry, block_bytes);
    assert(slot < geometry.data_shards);
    assert(shard_offset < geometry_shard_bytes(geometry, block_bytes, slot));
    uint32_t stripe = shard_offset / geometry.unit_bytes;
    uint32_t step = unit_step(geometry, block_bytes, stripe);
    return stripe * geometry_stripe_bytes(geometry) + slot * step +
           shard_offset % geometry.unit_bytes;
}

uint32_t geometry_cover(struct geometry geometry, uint32_t block_bytes, uint32_t offset,
                        uint32_t bytes, struct geometry_range out_ranges[CODEC_DATA_SHARDS_MAX])
{
    assert_valid(geometry, block_bytes);
    assert(offset <= block_bytes);
    assert(bytes <= block_bytes - offset);
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < geometry.data_shards; slot++) {
        uint32_t from = shard_bytes_before(geometry, block_bytes, slot, offset);
        uint32_t to = shard_bytes_before(geometry, block_bytes, slot, offset + bytes);
        if (to > from)
            out_ranges[count++] =
                (struct geometry_range){.slot = slot, .shard_offset = from, .bytes = to - from};
    }
    return count;
}
