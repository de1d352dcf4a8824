/* One shard of one block as it lies in a segment. Pure. Format:
 * docs/formats.md#records.
 *
 * one-shot   | header with cell CRCs | payload |                   one durable write streamed
 * | header | payload ...            | footer with cell CRCs |
 *
 * Header, payload and footer start at multiples of 4096. Each header and footer carries the
 * nonce of its segment, which no client can know, and its own offset: so neither payload that
 * imitates a record nor a misdirected write is ever taken for one. */
#pragma once
#include "base/err.h"
#include "base/hash.h"
#include "storaged/client.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    RECORD_ALIGN_BYTES = 4096,
    RECORD_CELL_BYTES = 64 << 10,
    RECORD_PAYLOAD_BYTES_MAX = META_BLOCK_BYTES_MAX,
    RECORD_CELLS_MAX = RECORD_PAYLOAD_BYTES_MAX / RECORD_CELL_BYTES,
    RECORD_ONE_SHOT_BYTES_MAX = 1 << 20, /* payload of a one-shot record */
    RECORD_HEADER_BYTES = 4096,
    RECORD_FOOTER_BYTES_MAX = 8192,
    RECORD_NONCE_BYTES = 16,
};

enum record_kind { RECORD_ONE_SHOT = 1, RECORD_STREAMED = 2 };
enum record_role { RECORD_HEADER = 1, RECORD_FOOTER = 2 };

/* What every record of one segment carries. */
struct segment_identity {
    uint8_t cluster_id[16];
    struct drive_id drive;
    uint64_t segment;
    uint8_t nonce[RECORD_NONCE_BYTES];
};

/* A header or footer, decoded. */
struct record {
    enum record_kind kind;
    struct block_id block;
    uint8_t slot;
    uint8_t data_shards;
    uint8_t parity_shards;
    uint32_t unit_bytes;
    uint32_t generation;  /* of the volume's profile */
    uint64_t epoch;       /* of the volume */
    uint64_t incarnation; /* of the cluster */
    uint64_t offset;      /* of the header in the segment */
    uint64_t
        durable_offset; /* everything below it in this segment was durable when this was written */
    uint32_t payload_bytes;      /* of this shard; in a streamed header what was reserved for it */
    uint32_t block_bytes;        /* 0 in a streamed header of a block whose length was not known */
    struct hash128 payload_hash; /* zero in a streamed header */
    struct block_hint hint;      /* slices borrowed from what was decoded */
    uint32_t cell_count;         /* 0 in a streamed header */
    uint32_t cell_crcs[RECORD_CELLS_MAX];
};

static inline uint64_t record_align(uint64_t bytes)
{
    return (bytes + RECORD_ALIGN_BYTES - 1) / RECORD_ALIGN_BYTES * RECORD_ALIGN_BYTES;
}
static inline uint32_t record_cells(uint32_t payload_bytes)
{
    return (payload_bytes + RECORD_CELL_BYTES - 1) / RECORD_CELL_BYTES;
}
/* Bytes of cell `index` of a payload: the last one is short. */
uint32_t record_cell_bytes(uint32_t payload_bytes, uint32_t index);
/* Bytes of the footer of a streamed record, a multiple of 4096. */
uint32_t record_footer_bytes(uint32_t payload_bytes, const struct block_hint *hint);
/* Header, payload and footer together. */
uint64_t record_total_bytes(enum record_kind kind, uint32_t payload_bytes,
                            const struct block_hint *hint);

/* Write a header (4096 bytes) or footer (record_footer_bytes) at `out`. */
void record_encode(const struct record *record, const struct segment_identity *identity,
                   enum record_role role, uint8_t *out);

/* Whether a 4096-byte block claims to be a header or footer; nothing is checked. */
bool record_looks_like(const uint8_t *block, enum record_role role);
/* Bytes that a footer's first block says it has: 4096 or 8192; 0 when it cannot be one of this
 * segment. */
uint32_t record_claimed_bytes(const uint8_t *block, const struct segment_identity *identity);
/* Check everything that can be checked without the payload, and decode.
 *
 * bytes   the header or the whole footer.
 * offset  where its header must be; for a footer UINT64_MAX: any.
 * ERR_CORRUPT: CRC or impossible fields. ERR_MISMATCH: of another segment, drive or place.
 * ERR_UNSUPPORTED: of a later format. */
enum err record_decode(struct slice bytes, const struct segment_identity *identity,
                       enum record_role role, uint64_t offset, struct record *out);
/* True when cell `index` of the payload has the CRC that the record says. */
bool record_cell_matches(const uint32_t *cell_crcs, uint32_t payload_bytes, uint32_t index,
                         struct slice cell);
