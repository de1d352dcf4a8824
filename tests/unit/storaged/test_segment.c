/* Scanning segments: what a crash or rot can leave, and what must be found in it. */
#include "base/crc.h"
#include "base/mem.h"
#include "segment.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { FILE_BYTES = 1 << 20, EVENTS_MAX = 64 };

static const struct segment_identity the_segment = {
    .cluster_id = {1}, .drive = {{2}}, .segment = 3, .nonce = {4, 5, 6}};

/* A segment in memory, and where its next record goes. */
struct image {
    uint8_t bytes[FILE_BYTES];
    uint64_t end;
    uint64_t durable;
};

struct found {
    enum segment_event_kind kind;
    struct block_id block;
    uint64_t offset, bytes;
};

struct events {
    struct found list[EVENTS_MAX];
    unsigned count;
};

static struct image *image_new(void)
{
    struct image *image = mem_new(struct image);
    struct segment_header header = {.identity = the_segment, .kind = SEGMENT_ONE_SHOT};
    segment_header_encode(&header, image->bytes);
    image->end = SEGMENT_HEADER_BYTES;
    image->durable = image->end;
    return image;
}

/* Append a record of block `sequence`; with `payload` NULL some bytes are made up. */
static uint64_t put(struct image *image, enum record_kind kind, uint64_t sequence,
                    uint32_t payload_bytes, const uint8_t *payload)
{
    struct record *record = mem_new(struct record);
    *record = (struct record){.kind = kind,
                              .block = {1, sequence},
                              .data_shards = 1,
                              .unit_bytes = 4096,
                              .offset = image->end,
                              .durable_offset = image->durable,
                              .payload_bytes = payload_bytes,
                              .block_bytes = payload_bytes};
    uint8_t *at = image->bytes + image->end;
    uint8_t *body = at + RECORD_HEADER_BYTES;
    for (uint32_t i = 0; i < payload_bytes; i++)
        body[i] = payload != NULL ? payload[i] : (uint8_t)(sequence * 31 + i * 7 + i / 256);
    record->cell_count = record_cells(payload_bytes);
    for (uint32_t i = 0; i < record->cell_count; i++)
        record->cell_crcs[i] = crc32c_update(
            0, slice_of(body + i * RECORD_CELL_BYTES, record_cell_bytes(payload_bytes, i)));
    uint64_t start = image->end;
    image->end += record_total_bytes(kind, payload_bytes, &record->hint);
    assert_true(image->end <= FILE_BYTES);
    if (kind == RECORD_STREAMED) {
        record_encode(record, &the_segment, RECORD_FOOTER, body + record_align(payload_bytes));
        record->cell_count = 0;
        record->payload_bytes = RECORD_PAYLOAD_BYTES_MAX;
    }
    record_encode(record, &the_segment, RECORD_HEADER, at);
    mem_free(record);
    return start;
}

static void on_event(void *context, const struct segment_event *event)
{
    struct events *events = context;
    assert_true(events->count < EVENTS_MAX);
    events->list[events->count++] =
        (struct found){event->kind, event->record->block, event->offset, event->bytes};
}

/* Scan in pieces of `step` bytes. */
static void scan(const struct image *image, size_t step, struct events *events,
                 struct segment_scan *scan)
{
    events->count = 0;
    segment_scan_init(scan, &the_segment, SEGMENT_HEADER_BYTES, on_event, events);
    for (size_t at = SEGMENT_HEADER_BYTES; at < FILE_BYTES; at += step)
        segment_scan_feed(scan, slice_first(slice_of(image->bytes + at, FILE_BYTES - at), step));
    segment_scan_finish(scan);
}

static void expect(const struct image *image, const char *what)
{
    struct events events;
    struct segment_scan *state = mem_new(struct segment_scan);
    static const size_t steps[] = {4096, 65536, FILE_BYTES};
    for (unsigned i = 0; i < 3; i++) {
        scan(image, steps[i], &events, state);
        assert_int_equal(events.count, strlen(what) / 2);
        for (unsigned j = 0; j < events.count; j++) {
            static const char letters[] = " RBU";
            assert_int_equal(letters[events.list[j].kind], what[2 * j]);
            assert_int_equal(events.list[j].block.sequence, (uint64_t)(what[2 * j + 1] - '0'));
        }
        segment_scan_deinit(state);
    }
    mem_free(state);
}

/* --- facts --- */

static void records_of_both_kinds_are_found(void **state)
{
    (void)state;
    struct image *image = image_new();
    put(image, RECORD_ONE_SHOT, 1, 100, NULL);
    put(image, RECORD_STREAMED, 2, 200000, NULL);
    put(image, RECORD_ONE_SHOT, 3, 0, NULL);
    put(image, RECORD_ONE_SHOT, 4, 65536, NULL);
    put(image, RECORD_STREAMED, 5, 8192, NULL);
    expect(image, "R1R2R3R4R5");
    mem_free(image);
}

static void payload_of_zeros_is_found(void **state)
{
    (void)state;
    static uint8_t zeros[131072];
    struct image *image = image_new();
    put(image, RECORD_STREAMED, 1, sizeof zeros, zeros);
    put(image, RECORD_ONE_SHOT, 2, 70000, zeros);
    expect(image, "R1R2");
    mem_free(image);
}

static void holes_are_stepped_over(void **state)
{
    (void)state;
    struct image *image = image_new();
    put(image, RECORD_ONE_SHOT, 1, 100, NULL);
    uint64_t from = put(image, RECORD_ONE_SHOT, 2, 100000, NULL);
    memset(image->bytes + from, 0, image->end - from);
    put(image, RECORD_STREAMED, 3, 9000, NULL);
    image->end += 3 * 4096;
    put(image, RECORD_ONE_SHOT, 4, 5, NULL);
    expect(image, "R1R3R4");
    mem_free(image);
}

static void an_unfinished_stream_is_reported_as_free(void **state)
{
    (void)state;
    struct image *image = image_new();
    put(image, RECORD_ONE_SHOT, 1, 100, NULL);
    put(image, RECORD_STREAMED, 2, 100000, NULL);
    memset(image->bytes + image->end - 4096, 0, 4096); /* its footer */
    put(image, RECORD_ONE_SHOT, 3, 100, NULL);
    expect(image, "R1U2R3");
    memset(image->bytes + image->end - 8192, 0, 8192); /* at the end of the file too */
    expect(image, "R1U2");
    mem_free(image);
}

static void imitations_in_payload_are_not_records(void **state)
{
    (void)state;
    struct image *other = image_new();
    other->end = SEGMENT_HEADER_BYTES + 8192;
    uint64_t fake = put(other, RECORD_ONE_SHOT, 9, 100, NULL);
    uint8_t payload[16384];
    memcpy(payload, other->bytes + fake, 8192);
    memset(payload + 48, 0, RECORD_NONCE_BYTES); /* a client does not know the nonce */
    memcpy(payload + 8192, payload, 8192);
    struct image *image = image_new();
    put(image, RECORD_STREAMED, 1, sizeof payload, payload);
    uint64_t from = put(image, RECORD_STREAMED, 2, sizeof payload, payload);
    memset(image->bytes + image->end - 4096, 0, 4096);
    memset(image->bytes + from, 0, 4096); /* even when nothing says that it is payload */
    put(image, RECORD_ONE_SHOT, 3, 5, NULL);
    expect(image, "R1R3");
    mem_free(other);
    mem_free(image);
}

static void a_damaged_payload_marks_the_record_bad(void **state)
{
    (void)state;
    struct image *image = image_new();
    put(image, RECORD_ONE_SHOT, 1, 100, NULL);
    uint64_t second = put(image, RECORD_ONE_SHOT, 2, 100000, NULL);
    uint64_t third = put(image, RECORD_STREAMED, 3, 100000, NULL);
    put(image, RECORD_ONE_SHOT, 4, 100, NULL);
    image->bytes[second + 4096 + 99999] ^= 1;
    image->bytes[third + 4096 + 70000] ^= 1;
    expect(image, "R1B2B3R4");
    mem_free(image);
}

static void a_stream_whose_header_rotted_is_known_by_its_footer(void **state)
{
    (void)state;
    struct image *image = image_new();
    put(image, RECORD_ONE_SHOT, 1, 100, NULL);
    uint64_t second = put(image, RECORD_STREAMED, 2, 100000, NULL);
    image->bytes[second + 200] ^= 1;
    expect(image, "R1B2");
    memset(image->bytes + second, 0, image->end - second - 4096); /* a cut off punch */
    expect(image, "R1");
    mem_free(image);
}

static void a_damaged_record_behind_an_unfinished_stream_is_not_lost_with_it(void **state)
{
    (void)state;
    struct image *image = image_new();
    put(image, RECORD_STREAMED, 1, 100000, NULL);
    memset(image->bytes + image->end - 4096, 0, 4096); /* its footer */
    uint64_t second = put(image, RECORD_STREAMED, 2, 50000, NULL);
    image->bytes[second + 100] ^= 1;
    expect(image, "U1B2");
    struct events events;
    struct segment_scan *scanned = mem_new(struct segment_scan);
    scan(image, 4096, &events, scanned);
    assert_int_equal(events.list[0].offset + events.list[0].bytes, second);
    segment_scan_deinit(scanned);
    mem_free(scanned);
    mem_free(image);
}

static void a_trailer_names_its_records(void **state)
{
    (void)state;
    struct image *image = image_new();
    struct segment_entry entries[300];
    for (uint32_t i = 0; i < 300; i++)
        entries[i] = (struct segment_entry){{7, i}, 4096 * (i + 2), 8192, (uint8_t)(i % 5)};
    put(image, RECORD_ONE_SHOT, 1, 100, NULL);
    AUTO_VALUE(bytes) trailer = {.max = 1 << 20};
    segment_trailer_encode(&the_segment, image->end, entries, 300, &trailer);
    memcpy(image->bytes + image->end, trailer.data, trailer.bytes);
    expect(image, "R1");
    struct events events;
    struct segment_scan *state_ = mem_new(struct segment_scan);
    scan(image, 65536, &events, state_);
    assert_true(state_->sealed);
    assert_int_equal(segment_scan_entries(state_), 300);
    struct segment_entry entry = segment_scan_entry(state_, 299);
    assert_memory_equal(&entry.block, &entries[299].block, sizeof entry.block);
    assert_int_equal(entry.offset, entries[299].offset);
    assert_int_equal(entry.bytes, 8192);
    assert_int_equal(entry.slot, 4);
    segment_scan_deinit(state_);
    image->bytes[image->end + 5000] ^= 1; /* a torn one does not count */
    scan(image, 65536, &events, state_);
    assert_false(state_->sealed);
    segment_scan_deinit(state_);
    mem_free(state_);
    mem_free(image);
}

static void either_copy_of_a_segment_header_is_enough(void **state)
{
    (void)state;
    struct segment_header in = {
        .identity = the_segment, .kind = SEGMENT_STREAMED, .created_ms = 99};
    struct segment_header out;
    uint8_t bytes[SEGMENT_HEADER_BYTES];
    for (int damage = 0; damage < 4; damage++) {
        segment_header_encode(&in, bytes);
        bytes[100] ^= (uint8_t)(damage & 1);
        bytes[4096 + 3000] ^= (uint8_t)(damage >> 1);
        enum err err = segment_header_decode(slice_of(bytes, sizeof bytes), &out);
        assert_int_equal(err, damage == 3 ? ERR_CORRUPT : OK);
        assert_memory_equal(&in.identity, &out.identity, sizeof in.identity);
    }
    segment_header_encode(&in, bytes);
    assert_int_equal(segment_header_decode(slice_of(bytes, 4096), &out), OK);
    assert_int_equal(segment_header_decode(slice_of(bytes, 4095), &out), ERR_CORRUPT);
}

/* --- R8: every state that a power cut can leave --- */

/* Records 1 and 2 were acknowledged; the blocks of 3 and 4 (two writes, in any order, at most
 * 12 blocks) are on the medium or not, each by itself. */
static void crash_states(enum record_kind third, uint32_t third_bytes, enum record_kind fourth,
                         uint32_t fourth_bytes)
{
    struct image *before = image_new();
    put(before, RECORD_ONE_SHOT, 1, 5000, NULL);
    put(before, RECORD_STREAMED, 2, 5000, NULL);
    uint64_t from = before->end;
    struct image *after = mem_copy(before, sizeof *before);
    after->durable = from;
    put(after, third, 3, third_bytes, NULL);
    uint64_t middle = after->end;
    put(after, fourth, 4, fourth_bytes, NULL);
    uint64_t blocks = (after->end - from) / 4096;
    uint64_t third_blocks = (middle - from) / 4096;
    assert_true(blocks <= 12);
    struct image *now = mem_copy(before, sizeof *before);
    struct segment_scan *state = mem_new(struct segment_scan);
    for (uint64_t landed = 0; landed < UINT64_C(1) << blocks; landed++) {
        for (uint64_t i = 0; i < blocks; i++)
            memcpy(now->bytes + from + i * 4096,
                   ((landed >> i & 1) != 0 ? after : before)->bytes + from + i * 4096, 4096);
        struct events events;
        scan(now, FILE_BYTES, &events, state);
        segment_scan_deinit(state);
        assert_true(events.count >= 2);
        bool whole[2] = {false, false};
        for (unsigned i = 0; i < events.count; i++) {
            const struct found *found = &events.list[i];
            uint64_t sequence = found->block.sequence;
            if (i < 2)
                assert_true(found->kind == SEGMENT_RECORD && sequence == i + 1);
            else if (found->kind == SEGMENT_RECORD)
                whole[sequence - 3] = true;
        }
        uint64_t third_mask = (UINT64_C(1) << third_blocks) - 1;
        assert_int_equal(whole[0], (landed & third_mask) == third_mask);
        assert_int_equal(whole[1],
                         landed >> third_blocks == (UINT64_C(1) << (blocks - third_blocks)) - 1);
    }
    mem_free(state);
    mem_free(now);
    mem_free(after);
    mem_free(before);
}

static void in_every_crash_state_exactly_the_whole_records_are_found(void **state)
{
    (void)state;
    crash_states(RECORD_ONE_SHOT, 18000, RECORD_ONE_SHOT, 18000);
    crash_states(RECORD_ONE_SHOT, 18000, RECORD_STREAMED, 14000);
    crash_states(RECORD_STREAMED, 18000, RECORD_STREAMED, 10000);
    crash_states(RECORD_STREAMED, 14000, RECORD_ONE_SHOT, 18000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_of_both_kinds_are_found),
        cmocka_unit_test(payload_of_zeros_is_found),
        cmocka_unit_test(holes_are_stepped_over),
        cmocka_unit_test(an_unfinished_stream_is_reported_as_free),
        cmocka_unit_test(imitations_in_payload_are_not_records),
        cmocka_unit_test(a_damaged_payload_marks_the_record_bad),
        cmocka_unit_test(a_stream_whose_header_rotted_is_known_by_its_footer),
        cmocka_unit_test(a_damaged_record_behind_an_unfinished_stream_is_not_lost_with_it),
        cmocka_unit_test(a_trailer_names_its_records),
        cmocka_unit_test(either_copy_of_a_segment_header_is_enough),
        cmocka_unit_test(in_every_crash_state_exactly_the_whole_records_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
