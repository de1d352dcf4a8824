/* Recovery from arbitrary bytes: the scan of a segment neither crashes nor invents records,
 * and finds the same however its input is cut.
 *
 * Input: commands of 4 bytes {what, a, b, c} that build a segment in memory: whole records,
 * holes, noise, copies of earlier blocks, changed fields with the checksum made good again (so
 * that the checks behind it are reached). */
#include "base/crc.h"
#include "base/mem.h"
#include "segment.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { FILE_BYTES = 512 << 10, EVENTS_MAX = 4096, CRC_OFFSET = 8, COMMAND_BYTES = 4 };

static const struct segment_identity the_segment = {
    .cluster_id = {1}, .drive = {{2}}, .segment = 3, .nonce = {4, 5, 6}};

struct image {
    uint8_t bytes[FILE_BYTES];
    uint64_t end;
    struct record record;
};

struct found {
    enum segment_event_kind kind;
    struct block_id block;
    uint64_t offset, bytes;
};

struct events {
    const struct image *image;
    uint32_t count;
    struct found list[EVENTS_MAX];
};

static void put_record(struct image *image, enum record_kind kind, uint8_t sequence,
                       uint32_t payload_bytes)
{
    struct record *record = &image->record;
    *record = (struct record){.kind = kind,
                              .block = {1, sequence},
                              .data_shards = 1,
                              .unit_bytes = 4096,
                              .offset = image->end,
                              .durable_offset = image->end,
                              .payload_bytes = payload_bytes,
                              .block_bytes = payload_bytes};
    uint64_t total = record_total_bytes(kind, payload_bytes, &record->hint);
    if (image->end + total > FILE_BYTES)
        return;
    uint8_t *header = image->bytes + image->end;
    uint8_t *body = header + RECORD_HEADER_BYTES;
    memset(body, sequence, payload_bytes);
    record->cell_count = record_cells(payload_bytes);
    for (uint32_t i = 0; i < record->cell_count; i++)
        record->cell_crcs[i] = crc32c_update(
            0, slice_of(body + i * RECORD_CELL_BYTES, record_cell_bytes(payload_bytes, i)));
    if (kind == RECORD_STREAMED) {
        record_encode(record, &the_segment, RECORD_FOOTER, body + record_align(payload_bytes));
        record->cell_count = 0;
    }
    record_encode(record, &the_segment, RECORD_HEADER, header);
    image->end += total;
}

static void put_trailer(struct image *image, uint8_t count)
{
    struct segment_entry entries[256] = {{.slot = 0}};
    AUTO_VALUE(bytes) trailer = {.max = 64 << 10};
    segment_trailer_encode(&the_segment, image->end, entries, count, &trailer);
    if (image->end + trailer.bytes > FILE_BYTES)
        return;
    memcpy(image->bytes + image->end, trailer.data, trailer.bytes);
    image->end += trailer.bytes;
}

static void mend_crc(uint8_t *block, size_t bytes)
{
    memset(block + CRC_OFFSET, 0, 4);
    uint32_t crc = crc32c_update(0, slice_of(block, bytes));
    memcpy(block + CRC_OFFSET, &crc, 4);
}

static void command(struct image *image, const uint8_t *c)
{
    uint64_t blocks = FILE_BYTES / RECORD_ALIGN_BYTES;
    uint8_t *block = image->bytes + (c[1] % blocks) * RECORD_ALIGN_BYTES;
    switch (c[0] % 8) {
    case 0:
        put_record(image, RECORD_ONE_SHOT, c[1], (uint32_t)(c[2] << 8 | c[3]) * 2);
        break;
    case 1:
        put_record(image, RECORD_STREAMED, c[1], (uint32_t)(c[2] << 8 | c[3]) * 2);
        break;
    case 2:
        if (image->end + (uint64_t)RECORD_ALIGN_BYTES <= FILE_BYTES)
            image->end += RECORD_ALIGN_BYTES;
        break;
    case 3: /* change a byte */
        block[(c[2] << 4) % RECORD_ALIGN_BYTES + c[2] % 16] ^= c[3];
        break;
    case 4: /* change a field */
        block[c[2]] = c[3];
        mend_crc(block, RECORD_ALIGN_BYTES);
        break;
    case 5: /* copy a block elsewhere */
        memmove(image->bytes + (c[2] % blocks) * RECORD_ALIGN_BYTES, block, RECORD_ALIGN_BYTES);
        break;
    case 6:
        memset(block, c[2], RECORD_ALIGN_BYTES);
        break;
    case 7:
        put_trailer(image, c[1]);
        break;
    }
}

static void on_event(void *context, const struct segment_event *event)
{
    struct events *events = context;
    assert(events->count < EVENTS_MAX);
    assert(event->offset >= SEGMENT_HEADER_BYTES);
    assert(event->offset % RECORD_ALIGN_BYTES == 0);
    assert(event->bytes >= RECORD_HEADER_BYTES);
    if (event->kind == SEGMENT_RECORD) {
        assert(event->offset + event->bytes <= FILE_BYTES);
        const uint8_t *body = events->image->bytes + event->offset + RECORD_HEADER_BYTES;
        for (uint32_t i = 0; i < event->record->cell_count; i++) {
            uint32_t bytes = record_cell_bytes(event->record->payload_bytes, i);
            assert(record_cell_matches(event->record->cell_crcs, event->record->payload_bytes, i,
                                       slice_of(body + i * RECORD_CELL_BYTES, bytes)));
        }
    }
    events->list[events->count++] =
        (struct found){event->kind, event->record->block, event->offset, event->bytes};
}

static void scan(const struct image *image, size_t step, struct events *events)
{
    struct segment_scan *scan = mem_new(struct segment_scan);
    events->image = image;
    segment_scan_init(scan, &the_segment, SEGMENT_HEADER_BYTES, on_event, events);
    for (size_t at = SEGMENT_HEADER_BYTES; at < FILE_BYTES; at += step)
        segment_scan_feed(scan, slice_first(slice_of(image->bytes + at, FILE_BYTES - at), step));
    segment_scan_finish(scan);
    for (uint32_t i = 0; i < segment_scan_entries(scan); i++)
        (void)segment_scan_entry(scan, i);
    segment_scan_deinit(scan);
    mem_free(scan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct image *image = mem_new(struct image);
    image->end = SEGMENT_HEADER_BYTES;
    for (size_t at = 0; at + COMMAND_BYTES <= bytes && at < 256 * COMMAND_BYTES;
         at += COMMAND_BYTES)
        command(image, data + at);
    struct events *whole = mem_new(struct events);
    struct events *cut = mem_new(struct events);
    scan(image, FILE_BYTES, whole);
    scan(image, RECORD_ALIGN_BYTES, cut);
    assert(whole->count == cut->count);
    for (uint32_t i = 0; i < whole->count; i++) {
        assert(whole->list[i].kind == cut->list[i].kind);
        assert(whole->list[i].offset == cut->list[i].offset);
        assert(i == 0 || whole->list[i].kind == SEGMENT_BAD ||
               whole->list[i].offset != whole->list[i - 1].offset);
    }
    struct segment_header header;
    (void)segment_header_decode(slice_first(slice_of(image->bytes, FILE_BYTES), bytes), &header);
    mem_free(whole);
    mem_free(cut);
    mem_free(image);
    return 0;
}
