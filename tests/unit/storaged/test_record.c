/* Records as bytes. */
#include "base/crc.h"
#include "base/mem.h"
#include "record.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct segment_identity the_segment = {
    .cluster_id = {1, 2, 3}, .drive = {{4, 5, 6}}, .segment = 77, .nonce = {7, 8, 9}};

static struct record *new_record(enum record_kind kind, uint32_t payload_bytes, size_t key_bytes)
{
    static uint8_t key[META_KEY_BYTES_MAX];
    memset(key, 'k', sizeof key);
    struct record *record = mem_new(struct record);
    *record = (struct record){.kind = kind,
                              .block = {11, 12},
                              .slot = 2,
                              .data_shards = 4,
                              .parity_shards = 2,
                              .unit_bytes = 262144,
                              .generation = 1,
                              .epoch = 13,
                              .incarnation = 14,
                              .offset = 8192,
                              .durable_offset = 4096,
                              .payload_bytes = payload_bytes,
                              .block_bytes = payload_bytes,
                              .payload_hash = {{15, 16}},
                              .hint = {.bucket_id = 17,
                                       .bucket_name = SLICE_LITERAL("bucket"),
                                       .key = slice_of(key, key_bytes),
                                       .write_id = {18, 19},
                                       .ordinal = 20,
                                       .upload_id = 21,
                                       .part_number = 22},
                              .cell_count = record_cells(payload_bytes)};
    for (uint32_t i = 0; i < record->cell_count; i++)
        record->cell_crcs[i] = i * 2654435761u;
    return record;
}

static void a_record_reads_back_as_written(void **state)
{
    (void)state;
    static const struct {
        enum record_kind kind;
        enum record_role role;
        uint32_t payload_bytes;
        size_t key_bytes;
        uint32_t bytes;
    } cases[] = {
        {RECORD_ONE_SHOT, RECORD_HEADER, 0, 0, 4096},
        {RECORD_ONE_SHOT, RECORD_HEADER, 1, 1, 4096},
        {RECORD_ONE_SHOT, RECORD_HEADER, RECORD_ONE_SHOT_BYTES_MAX, META_KEY_BYTES_MAX, 4096},
        {RECORD_STREAMED, RECORD_FOOTER, RECORD_ONE_SHOT_BYTES_MAX + 1, 100, 4096},
        {RECORD_STREAMED, RECORD_FOOTER, RECORD_PAYLOAD_BYTES_MAX, META_KEY_BYTES_MAX, 8192},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct record *in = new_record(cases[i].kind, cases[i].payload_bytes, cases[i].key_bytes);
        struct record *out = mem_new(struct record);
        uint8_t bytes[RECORD_FOOTER_BYTES_MAX];
        record_encode(in, &the_segment, cases[i].role, bytes);
        assert_true(record_looks_like(bytes, cases[i].role));
        assert_int_equal(record_claimed_bytes(bytes, &the_segment), cases[i].bytes);
        assert_int_equal(
            record_decode(slice_of(bytes, cases[i].bytes), &the_segment, cases[i].role, 8192, out),
            OK);
        assert_true(slice_equal(out->hint.key, in->hint.key));
        assert_true(slice_equal(out->hint.bucket_name, in->hint.bucket_name));
        out->hint.key = in->hint.key;
        out->hint.bucket_name = in->hint.bucket_name;
        assert_memory_equal(in, out, sizeof *in);
        mem_free(in);
        mem_free(out);
    }
}

static void every_flipped_bit_of_a_header_is_refused(void **state)
{
    (void)state;
    struct record *record = new_record(RECORD_ONE_SHOT, 200000, 30);
    struct record *out = mem_new(struct record);
    uint8_t bytes[RECORD_HEADER_BYTES];
    record_encode(record, &the_segment, RECORD_HEADER, bytes);
    for (unsigned bit = 0; bit < 8 * RECORD_HEADER_BYTES; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(
            record_decode(slice_of(bytes, sizeof bytes), &the_segment, RECORD_HEADER, 8192, out),
            OK);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    mem_free(record);
    mem_free(out);
}

static void a_record_answers_only_for_its_segment_and_place(void **state)
{
    (void)state;
    struct record *record = new_record(RECORD_ONE_SHOT, 100, 30);
    struct record *out = mem_new(struct record);
    uint8_t bytes[RECORD_HEADER_BYTES];
    record_encode(record, &the_segment, RECORD_HEADER, bytes);
    struct segment_identity others[4] = {the_segment, the_segment, the_segment, the_segment};
    others[0].cluster_id[15] ^= 1;
    others[1].drive.bytes[0] ^= 1;
    others[2].segment++;
    others[3].nonce[7] ^= 1;
    struct slice slice = slice_of(bytes, sizeof bytes);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(record_decode(slice, &others[i], RECORD_HEADER, 8192, out), ERR_MISMATCH);
    assert_int_equal(record_decode(slice, &the_segment, RECORD_HEADER, 12288, out), ERR_MISMATCH);
    assert_int_equal(record_decode(slice, &the_segment, RECORD_FOOTER, 8192, out), ERR_CORRUPT);
    mem_free(record);
    mem_free(out);
}

static void the_last_cell_is_short(void **state)
{
    (void)state;
    assert_int_equal(record_cells(0), 0);
    assert_int_equal(record_cells(65536), 1);
    assert_int_equal(record_cells(65537), 2);
    assert_int_equal(record_cell_bytes(65537, 0), 65536);
    assert_int_equal(record_cell_bytes(65537, 1), 1);
    uint8_t cell[3] = {1, 2, 3};
    uint32_t crc = crc32c_update(0, slice_of(cell, 3));
    assert_true(record_cell_matches(&crc, 3, 0, slice_of(cell, 3)));
    assert_false(record_cell_matches(&crc, 3, 0, slice_of(cell, 2)));
    cell[1] ^= 1;
    assert_false(record_cell_matches(&crc, 3, 0, slice_of(cell, 3)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_reads_back_as_written),
        cmocka_unit_test(every_flipped_bit_of_a_header_is_refused),
        cmocka_unit_test(a_record_answers_only_for_its_segment_and_place),
        cmocka_unit_test(the_last_cell_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
