/* Segment files as bytes: header, trailer, and the scan that finds the records in one. Pure.
 * Format and crash cases: docs/formats.md#segments.
 *
 *     | header | header again | record | record | ... | trailer |        (trailer: sealed only)
 *
 * The scan reads forward once and steps over what it does not understand in blocks of 4096 bytes:
 * punched holes, extents that were never finished, torn writes. */
#pragma once
#include "base/bytes.h"
#include "record.h"

enum {
    SEGMENT_HEADER_BYTES = 8192, /* two copies of 4096 */
    SEGMENT_BYTES_MIN = 1 << 20,
    SEGMENT_ENTRIES_MAX = 1 << 20,
};

enum segment_kind { SEGMENT_ONE_SHOT = 1, SEGMENT_STREAMED = 2 };

struct segment_header {
    struct segment_identity identity;
    enum segment_kind kind;
    uint64_t created_ms;
};
/* Writes SEGMENT_HEADER_BYTES at `out`. */
void segment_header_encode(const struct segment_header *header, uint8_t *out);
/* From either good copy. `bytes` may be shorter than a header when the file is. ERR_CORRUPT:
 * both are damaged or missing; ERR_UNSUPPORTED: of a later format. */
enum err segment_header_decode(struct slice bytes, struct segment_header *out);

/* One line of a trailer. */
struct segment_entry {
    struct block_id block;
    uint64_t offset;
    uint64_t bytes; /* of the whole record */
    uint8_t slot;
};
/* Append a trailer (a multiple of 4096 bytes) to be written at `offset`. */
void segment_trailer_encode(const struct segment_identity *identity, uint64_t offset,
                            const struct segment_entry *entries, uint32_t count, struct bytes *out);

enum segment_event_kind {
    SEGMENT_RECORD = 1,     /* whole and checked */
    SEGMENT_BAD = 2,        /* one that says who it is, but its payload or header is damaged */
    SEGMENT_UNFINISHED = 3, /* a streamed header without footer: [offset, offset + bytes) is free */
};
struct segment_event {
    enum segment_event_kind kind;
    uint64_t offset;
    uint64_t bytes;
    const struct record *record; /* borrowed for the call */
};
typedef void segment_event_fn(void *context, const struct segment_event *event);

enum segment_scan_state { SCAN_STEP, SCAN_ONE_SHOT, SCAN_FOOTER, SCAN_TRAILER };

struct segment_scan {
    struct segment_identity identity;
    segment_event_fn *on_event;
    void *context;
    enum segment_scan_state state;
    uint64_t position; /* of the next block */
    uint64_t used_end; /* end of the last block that was not zero */
    uint64_t
        durable_offset;    /* largest that a good record names: below it damage is contradictory */
    uint64_t unknown_from; /* first not understood block since the last good thing, or UINT64_MAX */
    uint64_t unknown_blocks;
    uint64_t damaged_from; /* first not understood block below the durable offset, or UINT64_MAX */
    bool in_stream;        /* `current` is a streamed header whose footer was not seen yet */
    struct record current;
    uint32_t payload_blocks; /* seen since its header */
    uint32_t crcs[RECORD_CELLS_MAX];
    uint32_t crc_before; /* of the cell of `last_block` without that block */
    uint8_t last_block[RECORD_ALIGN_BYTES];
    uint8_t header[RECORD_HEADER_BYTES]; /* what current's slices point into */
    uint8_t footer[RECORD_FOOTER_BYTES_MAX];
    uint32_t footer_bytes, footer_wanted;
    struct record last; /* the footer, decoded */
    bool sealed;        /* a whole trailer was seen */
    uint64_t trailer_offset;
    uint32_t trailer_crc, trailer_count;
    uint64_t trailer_wanted;
    struct bytes trailer;
};

/* Start at `position` (>= SEGMENT_HEADER_BYTES, multiple of 4096, not inside a record). */
void segment_scan_init(struct segment_scan *scan, const struct segment_identity *identity,
                       uint64_t position, segment_event_fn *on_event, void *context);
void segment_scan_deinit(struct segment_scan *scan);
/* The next bytes of the file, a multiple of 4096. Calls on_event for what they complete. */
void segment_scan_feed(struct segment_scan *scan, struct slice bytes);
/* The file ended. */
void segment_scan_finish(struct segment_scan *scan);
/* Entry `index` < segment_scan_entries of a sealed segment's trailer. */
uint32_t segment_scan_entries(const struct segment_scan *scan);
struct segment_entry segment_scan_entry(const struct segment_scan *scan, uint32_t index);
