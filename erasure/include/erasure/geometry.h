/* How the bytes of a block lie in its shards. Arithmetic only.
 *
 * A block is cut in stripes of k units, unit i of a stripe goes to slot i, and a shard is the units
 * of its slot one after the other (k = 3, U = unit_bytes):
 *
 *     block     | 0 | 1 | 2 | 3 | 4 | 5 |a |b |c|        the last stripe is short
 *     shard 0   | 0 | 3 |a |
 *     shard 1   | 1 | 4 |b |
 *     shard 2   | 2 | 5 |c|
 *     parity    | P | P |P |
 *
 * The bytes of a short last stripe are cut in units of u = ceil(rest / k) rounded up to 4 KiB, at
 * most U: so a short block still spreads over the drives. The last of these units may be short and
 * those behind it empty; they count as zero for the parity and nothing of that is stored. A parity
 * unit is as long as the longest data unit of its stripe. Since each stripe but the last holds
 * whole units, stripe s starts at s * U in every shard, and a range of the block is one range of
 * each shard. */
#pragma once
#include "base/err.h"
#include "erasure/codec.h"
#include <stdint.h>

enum {
    GEOMETRY_BLOCK_BYTES_MAX = 64 << 20,
    GEOMETRY_UNIT_ALIGN_BYTES = 4096,
    GEOMETRY_UNIT_BYTES_MAX = 256 << 10,
};

/* Fixed when a block is begun, stored with it. */
struct geometry {
    uint8_t data_shards;   /* k, 1..16 */
    uint8_t parity_shards; /* m, 0..8 */
    uint32_t unit_bytes;   /* U, multiple of 4096, 4096..256 KiB */
};

/* A place in a shard. */
struct geometry_position {
    uint32_t stripe;
    uint32_t slot;         /* a data slot */
    uint32_t shard_offset; /* in the shard's payload */
    uint32_t bytes;        /* from here on consecutive both in the block and in the shard */
};

/* A range of one shard's payload; never empty. */
struct geometry_range {
    uint32_t slot;
    uint32_t shard_offset;
    uint32_t bytes;
};

/* The geometry for a new block of `block_bytes` bytes; 0 when its length is not known yet.
 * ERR_INVALID: k, m or the length is out of bounds. */
enum err geometry_make(unsigned data_shards, unsigned parity_shards, uint64_t block_bytes,
                       struct geometry *out_geometry);
/* Whether what a disk or a peer says can be true: ERR_INVALID otherwise. The functions below assert
 * it. */
enum err geometry_check(struct geometry geometry, uint64_t block_bytes);

static inline uint32_t geometry_shards(struct geometry geometry)
{
    return (uint32_t)geometry.data_shards + geometry.parity_shards;
}

/* Bytes of a full stripe: k * U. */
static inline uint32_t geometry_stripe_bytes(struct geometry geometry)
{
    return geometry.data_shards * geometry.unit_bytes;
}

/* Stripes of a block, the short one included. */
uint32_t geometry_stripe_count(struct geometry geometry, uint32_t block_bytes);
/* Bytes of the unit of `slot` (data or parity) in stripe `stripe`; 0 for the empty units of a short
 * stripe. */
uint32_t geometry_unit_bytes(struct geometry geometry, uint32_t block_bytes, uint32_t stripe,
                             uint32_t slot);
/* Payload bytes of the shard of `slot` (data or parity). */
uint32_t geometry_shard_bytes(struct geometry geometry, uint32_t block_bytes, uint32_t slot);

/* Where byte `offset` (< block_bytes) of the block is. */
struct geometry_position geometry_locate(struct geometry geometry, uint32_t block_bytes,
                                         uint32_t offset);
/* The inverse: the block's byte at `shard_offset` (< geometry_shard_bytes) of data slot `slot`. */
uint32_t geometry_block_offset(struct geometry geometry, uint32_t block_bytes, uint32_t slot,
                               uint32_t shard_offset);
/* What a read of block bytes [offset, offset + bytes) needs of each data shard. Returns how many
 * ranges were written, by rising slot; 0 for an empty range. The range must lie in the block. */
uint32_t geometry_cover(struct geometry geometry, uint32_t block_bytes, uint32_t offset,
                        uint32_t bytes, struct geometry_range out_ranges[CODEC_DATA_SHARDS_MAX]);
