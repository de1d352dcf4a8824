/* Encoding of stored values and keys. */
#include "base/encode.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static const uint64_t values[] = {
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x3fff,
    0x4000,
    0xffff,
    0x10000,
    0xffffffff,
    0x100000000,
    UINT64_MAX / 2,
    UINT64_MAX - 1,
    UINT64_MAX,
    1ULL << 63,
    1ULL << 62,
    1ULL << 56,
    (1ULL << 56) - 1,
};
enum { VALUE_COUNT = sizeof values / sizeof values[0] };

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    for (int i = 0; i < VALUE_COUNT; i++) {
        uint64_t v = values[i];
        AUTO_VALUE(bytes) out = {.max = 200};
        encode_u8(&out, (uint8_t)v);
        encode_u16(&out, (uint16_t)v);
        encode_u32(&out, (uint32_t)v);
        encode_u64(&out, v);
        encode_varint(&out, v);
        encode_slice(&out, SLICE_LITERAL("name"));
        encode_raw(&out, SLICE_LITERAL("raw"));
        encode_raw(&out, SLICE_LITERAL("copy"));
        encode_key_u8(&out, (uint8_t)v);
        encode_key_u32(&out, (uint32_t)v);
        encode_key_u64(&out, v);
        encode_slice(&out, slice_of(NULL, 0));
        struct decoder in = decoder_of(bytes_slice(&out));
        char copy[4];
        assert_int_equal(decode_u8(&in), (uint8_t)v);
        assert_int_equal(decode_u16(&in), (uint16_t)v);
        assert_int_equal(decode_u32(&in), (uint32_t)v);
        assert_true(decode_u64(&in) == v);
        assert_true(decode_varint(&in) == v);
        assert_true(slice_equal_text(decode_slice(&in), "name"));
        assert_true(slice_equal_text(decode_raw(&in, 3), "raw"));
        decode_copy(&in, copy, sizeof copy);
        assert_memory_equal(copy, "copy", 4);
        assert_int_equal(decode_key_u8(&in), (uint8_t)v);
        assert_int_equal(decode_key_u32(&in), (uint32_t)v);
        assert_true(decode_key_u64(&in) == v);
        assert_int_equal(decode_slice(&in).bytes, 0);
        assert_int_equal(decode_finish(&in, "test"), OK);
    }
}

static void the_bytes_are_what_the_format_says(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) out = {.max = 200};
    encode_u32(&out, 0x01020304);
    encode_key_u32(&out, 0x01020304);
    encode_key_u64(&out, 0x0102030405060708);
    encode_varint(&out, 300);
    static const uint8_t expected[] = {4, 3, 2, 1, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8, 0xac, 2};
    assert_true(slice_equal(bytes_slice(&out), slice_of(expected, sizeof expected)));
}

static void order_of_keys_is_order_of_numbers(void **state)
{
    (void)state;
    for (int i = 0; i < VALUE_COUNT; i++) {
        for (int j = 0; j < VALUE_COUNT; j++) {
            AUTO_VALUE(bytes) a = {.max = 8};
            AUTO_VALUE(bytes) b = {.max = 8};
            encode_key_u64(&a, values[i]);
            encode_key_u64(&b, values[j]);
            int order = slice_compare(bytes_slice(&a), bytes_slice(&b));
            assert_int_equal((order > 0) - (order < 0),
                             (values[i] > values[j]) - (values[i] < values[j]));
        }
    }
}

/* Each prefix of a valid encoding must be refused, and nothing beyond its end be read (ASan
 * watches: the copy is exactly as long as the prefix). */
static void every_cut_is_refused(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) out = {.max = 200};
    encode_u8(&out, 1);
    encode_varint(&out, UINT64_MAX);
    encode_slice(&out, SLICE_LITERAL("hello"));
    encode_u64(&out, 5);
    for (size_t cut = 0; cut < out.bytes; cut++) {
        uint8_t *part = malloc(cut);
        memcpy(part, out.data, cut);
        struct decoder in = decoder_of(slice_of(part, cut));
        (void)decode_u8(&in);
        (void)decode_varint(&in);
        (void)decode_slice(&in);
        assert_true(decode_u64(&in) == 0);
        assert_true(in.failed);
        char copy[3] = "zz";
        decode_copy(&in, copy, sizeof copy);
        assert_memory_equal(copy, "\0\0\0", 3);
        assert_int_equal(decode_finish(&in, "cut"), ERR_CORRUPT);
        free(part);
    }
    bytes_append_byte(&out, 0);
    struct decoder in = decoder_of(bytes_slice(&out));
    (void)decode_raw(&in, out.bytes - 1);
    assert_int_equal(decode_finish(&in, "trailing"), ERR_CORRUPT);
}

static void malformed_varints_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct slice input;
    } cases[] = {
        {"longer than needed", {(const uint8_t *)"\x80\x00", 2}},
        {"longer than needed", {(const uint8_t *)"\xff\x80\x00", 3}},
        {"above 64 bits", {(const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10}},
        {"eleven bytes", {(const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x01", 11}},
        {"unfinished", {(const uint8_t *)"\xff\xff", 2}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct decoder in = decoder_of(cases[i].input);
        assert_true(decode_varint(&in) == 0);
        assert_int_equal(decode_finish(&in, cases[i].name), ERR_CORRUPT);
    }
}

static void a_length_beyond_the_end_is_refused(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) out = {.max = 20};
    encode_varint(&out, UINT64_MAX);
    encode_u8(&out, 1);
    struct decoder in = decoder_of(bytes_slice(&out));
    assert_int_equal(decode_slice(&in).bytes, 0);
    assert_int_equal(decode_finish(&in, "length"), ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(the_bytes_are_what_the_format_says),
        cmocka_unit_test(order_of_keys_is_order_of_numbers),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(malformed_varints_are_refused),
        cmocka_unit_test(a_length_beyond_the_end_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
