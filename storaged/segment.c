/* Headers, trailers and the scan: docs/formats.md#segments. */
#include "segment.h"

#include "base/crc.h"
#include <assert.h>
#include <inttypes.h>
#include <stddef.h>

#define SEGMENT_MAGIC UINT64_C(0x4745534c41485300) /* NUL "SHALSEG", as read in little endian */
#define TRAILER_MAGIC UINT64_C(0x4c525454454c4853)
enum { SEGMENT_VERSION = 1, ENTRY_BYTES = 32 };

/* The rest of the 4096 bytes is zero. The trailer uses the same head, with its own fields
 * filled. */
struct segment_layout {
    uint64_t magic;
    uint32_t crc; /* CRC32C of the 4096 bytes with this field zero */
    uint16_t version;
    uint8_t kind;
    uint8_t reserved;
    uint8_t cluster_id[16];
    uint8_t drive_id[16];
    uint8_t nonce[16];
    uint64_t segment;
    uint64_t created_ms;
    uint64_t offset; /* trailer: where it is */
    uint32_t entry_count;
    uint32_t entries_crc;
};
static_assert(sizeof(struct segment_layout) == 96);
static_assert(offsetof(struct segment_layout, segment) == 64);

struct entry_layout {
    uint64_t volume;
    uint64_t sequence;
    uint32_t offset_blocks;
    uint32_t blocks;
    uint8_t slot;
    uint8_t reserved[7];
};
static_assert(sizeof(struct entry_layout) == ENTRY_BYTES);

static void pack_head(struct segment_layout *layout, const struct segment_identity *identity)
{
    layout->version = SEGMENT_VERSION;
    layout->segment = identity->segment;
    memcpy(layout->cluster_id, identity->cluster_id, 16);
    memcpy(layout->drive_id, identity->drive.bytes, 16);
    memcpy(layout->nonce, identity->nonce, 16);
}

static void write_block(struct segment_layout *layout, uint8_t *out)
{
    memset(out, 0, RECORD_ALIGN_BYTES);
    memcpy(out, layout, sizeof *layout);
    layout->crc = crc32c_update(0, slice_of(out, RECORD_ALIGN_BYTES));
    memcpy(out, layout, sizeof *layout);
}

static bool read_block(const uint8_t *block, uint64_t magic, struct segment_layout *out)
{
    uint8_t copy[RECORD_ALIGN_BYTES];
    memcpy(copy, block, sizeof copy);
    memset(copy + offsetof(struct segment_layout, crc), 0, 4);
    memcpy(out, block, sizeof *out);
    return out->magic == magic && out->crc == crc32c_update(0, slice_of(copy, sizeof copy));
}

void segment_header_encode(const struct segment_header *header, uint8_t *out)
{
    struct segment_layout layout = {
        .magic = SEGMENT_MAGIC, .kind = (uint8_t)header->kind, .created_ms = header->created_ms};
    pack_head(&layout, &header->identity);
    write_block(&layout, out);
    memcpy(out + RECORD_ALIGN_BYTES, out, RECORD_ALIGN_BYTES);
}

enum err segment_header_decode(struct slice bytes, struct segment_header *out)
{
    struct segment_layout layout = {.version = 0};
    bool good = false;
    for (size_t at = 0; !good && at < SEGMENT_HEADER_BYTES; at += RECORD_ALIGN_BYTES)
        good = at + RECORD_ALIGN_BYTES <= bytes.bytes &&
               read_block(bytes.data + at, SEGMENT_MAGIC, &layout);
    if (!good)
        return FAIL(ERR_CORRUPT, "segment header: no good copy");
    if (layout.version != SEGMENT_VERSION)
        return FAIL(ERR_UNSUPPORTED, "segment version=%u", layout.version);
    if (layout.kind != SEGMENT_ONE_SHOT && layout.kind != SEGMENT_STREAMED)
        return FAIL(ERR_CORRUPT, "segment kind=%u", layout.kind);
    *out = (struct segment_header){.kind = (enum segment_kind)layout.kind,
                                   .created_ms = layout.created_ms,
                                   .identity.segment = layout.segment};
    memcpy(out->identity.cluster_id, layout.cluster_id, 16);
    memcpy(out->identity.drive.bytes, layout.drive_id, 16);
    memcpy(out->identity.nonce, layout.nonce, 16);
    return OK;
}

void segment_trailer_encode(const struct segment_identity *identity, uint64_t offset,
                            const struct segment_entry *entries, uint32_t count, struct bytes *out)
{
    assert(offset % RECORD_ALIGN_BYTES == 0);
    assert(count <= SEGMENT_ENTRIES_MAX);
    size_t list_bytes = (size_t)record_align((uint64_t)count * ENTRY_BYTES);
    uint8_t *at = bytes_extend(out, RECORD_ALIGN_BYTES + list_bytes);
    assert(at != NULL);
    memset(at, 0, RECORD_ALIGN_BYTES + list_bytes);
    for (uint32_t i = 0; i < count; i++) {
        struct entry_layout entry = {
            .volume = entries[i].block.volume,
            .sequence = entries[i].block.sequence,
            .offset_blocks = (uint32_t)(entries[i].offset / RECORD_ALIGN_BYTES),
            .blocks = (uint32_t)(entries[i].bytes / RECORD_ALIGN_BYTES),
            .slot = entries[i].slot,
        };
        memcpy(at + RECORD_ALIGN_BYTES + (size_t)i * ENTRY_BYTES, &entry, sizeof entry);
    }
    struct segment_layout layout = {
        .magic = TRAILER_MAGIC,
        .offset = offset,
        .entry_count = count,
        .entries_crc = crc32c_update(0, slice_of(at + RECORD_ALIGN_BYTES, list_bytes)),
    };
    pack_head(&layout, identity);
    write_block(&layout, at);
}

/* --- scan --- */

void segment_scan_init(struct segment_scan *scan, const struct segment_identity *identity,
                       uint64_t position, segment_event_fn *on_event, void *context)
{
    assert(position >= SEGMENT_HEADER_BYTES);
    assert(position % RECORD_ALIGN_BYTES == 0);
    memset(scan, 0, sizeof *scan);
    scan->identity = *identity;
    scan->on_event = on_event;
    scan->context = context;
    scan->position = position;
    scan->used_end = position;
    scan->unknown_from = UINT64_MAX;
    scan->damaged_from = UINT64_MAX;
    scan->trailer.max = (size_t)SEGMENT_ENTRIES_MAX * ENTRY_BYTES;
}

void segment_scan_deinit(struct segment_scan *scan)
{
    bytes_deinit(&scan->trailer);
}

static bool is_zero(const uint8_t *block)
{
    return block[0] == 0 && memcmp(block, block + 1, RECORD_ALIGN_BYTES - 1) == 0;
}

static void emit(struct segment_scan *scan, enum segment_event_kind kind,
                 const struct record *record, uint64_t offset, uint64_t end)
{
    if (kind == SEGMENT_RECORD) {
        if (record->durable_offset > scan->durable_offset)
            scan->durable_offset = record->durable_offset;
        if (scan->unknown_from < scan->durable_offset && scan->damaged_from == UINT64_MAX)
            scan->damaged_from = scan->unknown_from;
        scan->unknown_from = UINT64_MAX;
    }
    struct segment_event event = {
        .kind = kind, .offset = offset, .bytes = end - offset, .record = record};
    scan->on_event(scan->context, &event);
}

/* The stream will have no footer: what was reserved for it up to `end` is free. */
static void end_stream(struct segment_scan *scan, uint64_t end)
{
    if (scan->in_stream) {
        uint64_t extent_end =
            scan->current.offset +
            record_total_bytes(RECORD_STREAMED, scan->current.payload_bytes, &scan->current.hint);
        if (end > extent_end)
            end = extent_end;
        if (end <= scan->current.offset)
            end = scan->current.offset + RECORD_HEADER_BYTES;
        emit(scan, SEGMENT_UNFINISHED, &scan->current, scan->current.offset, end);
    }
    scan->in_stream = false;
}

/* Take one block of the current record's payload into its cell's CRC. The end of the payload is not
 * known yet in a stream, so the last block can be taken back. */
static void add_payload(struct segment_scan *scan, const uint8_t *block)
{
    uint32_t cell = scan->payload_blocks / (RECORD_CELL_BYTES / RECORD_ALIGN_BYTES);
    if (cell >= RECORD_CELLS_MAX) {
        end_stream(scan, scan->position);
        return;
    }
    if (scan->payload_blocks % (RECORD_CELL_BYTES / RECORD_ALIGN_BYTES) == 0)
        scan->crcs[cell] = 0;
    scan->crc_before = scan->crcs[cell];
    scan->crcs[cell] = crc32c_update(scan->crcs[cell], slice_of(block, RECORD_ALIGN_BYTES));
    memcpy(scan->last_block, block, RECORD_ALIGN_BYTES);
    scan->payload_blocks++;
}

/* The blocks seen are the payload that `record` describes. */
static bool payload_matches(struct segment_scan *scan, const struct record *record)
{
    if (record_align(record->payload_bytes) != (uint64_t)scan->payload_blocks * RECORD_ALIGN_BYTES)
        return false;
    uint32_t cells = record_cells(record->payload_bytes);
    if (cells > 0) {
        uint32_t tail_bytes = (record->payload_bytes - 1) % RECORD_ALIGN_BYTES + 1;
        scan->crcs[cells - 1] =
            crc32c_update(scan->crc_before, slice_of(scan->last_block, tail_bytes));
    }
    return memcmp(scan->crcs, record->cell_crcs, sizeof(uint32_t) * cells) == 0;
}

static void finish_one_shot(struct segment_scan *scan)
{
    bool good = payload_matches(scan, &scan->current);
    scan->state = SCAN_STEP;
    emit(scan, good ? SEGMENT_RECORD : SEGMENT_BAD, &scan->current, scan->current.offset,
         scan->current.offset + RECORD_HEADER_BYTES + record_align(scan->current.payload_bytes));
}

static bool take_header(struct segment_scan *scan, const uint8_t *block)
{
    struct slice bytes = slice_of(scan->header, RECORD_HEADER_BYTES);
    /* Decoded in place of `last` first, since `current` may still be needed by end_stream. */
    if (record_decode(slice_of(block, RECORD_HEADER_BYTES), &scan->identity, RECORD_HEADER,
                      scan->position, &scan->last) != OK)
        return false;
    end_stream(scan, scan->position);
    memcpy(scan->header, block, RECORD_HEADER_BYTES);
    if (record_decode(bytes, &scan->identity, RECORD_HEADER, scan->position, &scan->current) != OK)
        return false;
    scan->payload_blocks = 0;
    scan->in_stream = scan->current.kind == RECORD_STREAMED;
    if (scan->current.kind == RECORD_ONE_SHOT) {
        scan->state = SCAN_ONE_SHOT;
        if (scan->current.payload_bytes == 0)
            finish_one_shot(scan);
    }
    return true;
}

static void note_unknown(struct segment_scan *scan, uint64_t offset)
{
    scan->unknown_blocks++;
    if (scan->unknown_from == UINT64_MAX)
        scan->unknown_from = offset;
}

/* All blocks of a footer are there; `end` is behind them. */
static void take_footer(struct segment_scan *scan, uint64_t end)
{
    scan->state = SCAN_STEP;
    struct slice bytes = slice_of(scan->footer, scan->footer_bytes);
    if (record_decode(bytes, &scan->identity, RECORD_FOOTER, UINT64_MAX, &scan->last) != OK ||
        scan->last.offset >= end) {
        note_unknown(scan, end - scan->footer_bytes);
        return;
    }
    if (scan->in_stream && scan->last.offset == scan->current.offset) {
        bool good = block_id_equal(scan->last.block, scan->current.block) &&
                    scan->last.slot == scan->current.slot && payload_matches(scan, &scan->last);
        scan->in_stream = false;
        emit(scan, good ? SEGMENT_RECORD : SEGMENT_BAD, &scan->last, scan->last.offset, end);
        return;
    }
    /* A footer whose header is gone: zeros there are an interrupted punch, anything else is
     * rot. Behind an unfinished stream the two look alike. */
    bool behind_stream = scan->in_stream && scan->last.offset > scan->current.offset;
    if (behind_stream)
        end_stream(scan, scan->last.offset);
    if (behind_stream || scan->unknown_from <= scan->last.offset)
        emit(scan, SEGMENT_BAD, &scan->last, scan->last.offset, end);
}

static bool take_trailer(struct segment_scan *scan, const uint8_t *block)
{
    struct segment_layout layout;
    if (!read_block(block, TRAILER_MAGIC, &layout) || layout.version != SEGMENT_VERSION ||
        layout.offset != scan->position || layout.segment != scan->identity.segment ||
        memcmp(layout.nonce, scan->identity.nonce, 16) != 0 ||
        layout.entry_count > SEGMENT_ENTRIES_MAX)
        return false;
    end_stream(scan, scan->position);
    scan->state = SCAN_TRAILER;
    scan->trailer_offset = scan->position;
    scan->trailer_count = layout.entry_count;
    scan->trailer_crc = layout.entries_crc;
    scan->trailer_wanted = record_align((uint64_t)layout.entry_count * ENTRY_BYTES);
    bytes_clear(&scan->trailer);
    return true;
}

static void end_trailer(struct segment_scan *scan)
{
    scan->state = SCAN_STEP;
    scan->sealed = scan->trailer.bytes == scan->trailer_wanted &&
                   crc32c_update(0, bytes_slice(&scan->trailer)) == scan->trailer_crc;
}

static void step(struct segment_scan *scan, const uint8_t *block, bool zero)
{
    if (record_looks_like(block, RECORD_HEADER) && take_header(scan, block))
        return;
    uint64_t magic;
    memcpy(&magic, block, sizeof magic);
    if (magic == TRAILER_MAGIC && take_trailer(scan, block)) {
        if (scan->trailer_wanted == 0)
            end_trailer(scan);
        return;
    }
    uint32_t footer_bytes =
        record_looks_like(block, RECORD_FOOTER) ? record_claimed_bytes(block, &scan->identity) : 0;
    if (footer_bytes > 0) {
        memcpy(scan->footer, block, RECORD_ALIGN_BYTES);
        scan->footer_bytes = RECORD_ALIGN_BYTES;
        scan->footer_wanted = footer_bytes;
        scan->state = SCAN_FOOTER;
        if (footer_bytes == RECORD_ALIGN_BYTES)
            take_footer(scan, scan->position + RECORD_ALIGN_BYTES);
        return;
    }
    if (scan->in_stream)
        add_payload(scan, block);
    else if (!zero)
        note_unknown(scan, scan->position);
}

static void feed_block(struct segment_scan *scan, const uint8_t *block)
{
    bool zero = is_zero(block);
    switch (scan->state) {
    case SCAN_STEP:
        step(scan, block, zero);
        break;
    case SCAN_ONE_SHOT:
        add_payload(scan, block);
        if ((uint64_t)scan->payload_blocks * RECORD_ALIGN_BYTES ==
            record_align(scan->current.payload_bytes))
            finish_one_shot(scan);
        break;
    case SCAN_FOOTER:
        memcpy(scan->footer + scan->footer_bytes, block, RECORD_ALIGN_BYTES);
        scan->footer_bytes += RECORD_ALIGN_BYTES;
        if (scan->footer_bytes == scan->footer_wanted)
            take_footer(scan, scan->position + RECORD_ALIGN_BYTES);
        break;
    case SCAN_TRAILER:
        bytes_append(&scan->trailer, slice_of(block, RECORD_ALIGN_BYTES));
        if (scan->trailer.bytes >= scan->trailer_wanted)
            end_trailer(scan);
        break;
    }
    scan->position += RECORD_ALIGN_BYTES;
    if (!zero)
        scan->used_end = scan->position;
}

void segment_scan_feed(struct segment_scan *scan, struct slice bytes)
{
    assert(bytes.bytes % RECORD_ALIGN_BYTES == 0);
    for (size_t at = 0; at < bytes.bytes; at += RECORD_ALIGN_BYTES)
        feed_block(scan, bytes.data + at);
}

void segment_scan_finish(struct segment_scan *scan)
{
    if (scan->state == SCAN_ONE_SHOT) {
        scan->state = SCAN_STEP;
        emit(scan, SEGMENT_BAD, &scan->current, scan->current.offset,
             scan->current.offset + RECORD_HEADER_BYTES +
                 record_align(scan->current.payload_bytes));
    }
    end_stream(scan, scan->used_end); /* the file is cut off there */
    scan->state = SCAN_STEP;
}

uint32_t segment_scan_entries(const struct segment_scan *scan)
{
    return scan->sealed ? scan->trailer_count : 0;
}

struct segment_entry segment_scan_entry(const struct segment_scan *scan, uint32_t index)
{
    assert(index < segment_scan_entries(scan));
    struct entry_layout entry;
    memcpy(&entry, scan->trailer.data + (size_t)index * ENTRY_BYTES, sizeof entry);
    return (struct segment_entry){
        .block = {entry.volume, entry.sequence},
        .offset = (uint64_t)entry.offset_blocks * RECORD_ALIGN_BYTES,
        .bytes = (uint64_t)entry.blocks * RECORD_ALIGN_BYTES,
        .slot = entry.slot,
    };
}
