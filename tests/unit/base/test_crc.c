/* CRCs against their check values and a bit-by-bit reference. */
#include "base/crc.h"
#include "crc64.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { DATA_BYTES = 2000 };

/* One reflected CRC, a bit at a time: slow and obviously right. */
static uint64_t reference(uint64_t polynomial, uint64_t state, struct slice data)
{
    for (size_t i = 0; i < data.bytes; i++) {
        state ^= data.data[i];
        for (int bit = 0; bit < 8; bit++)
            state = state >> 1 ^ ((state & 1) != 0 ? polynomial : 0);
    }
    return state;
}

static void fill(uint8_t *data, size_t bytes)
{
    uint64_t x = 0x9e3779b97f4a7c15;
    for (size_t i = 0; i < bytes; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        data[i] = (uint8_t)(x >> 32);
    }
}

static void check_values_match_the_standards(void **state)
{
    (void)state;
    struct slice check = SLICE_LITERAL("123456789");
    assert_int_equal(crc32c_update(0, check), 0xe3069283);
    assert_int_equal(crc32_update(0, check), 0xcbf43926);
    assert_true(crc64nvme_update(0, check) == 0xae8b14860a799888);
    assert_int_equal(crc32c_update(0, slice_of(NULL, 0)), 0);
    assert_int_equal(crc32_update(0, slice_of(NULL, 0)), 0);
    assert_true(crc64nvme_update(0, slice_of(NULL, 0)) == 0);
    /* RFC 3720 B.4: 32 bytes of zero. */
    static const uint8_t zero[32];
    assert_int_equal(crc32c_update(0, slice_of(zero, sizeof zero)), 0x8a9136aa);
}

static void every_length_and_alignment_agrees_with_the_reference(void **state)
{
    (void)state;
    uint8_t data[DATA_BYTES + 16];
    fill(data, sizeof data);
    for (size_t bytes = 0; bytes < 700; bytes++) {
        struct slice slice = slice_of(data + bytes % 16, bytes);
        uint64_t expected = reference(CRC64_NVME_POLYNOMIAL, ~bytes, slice);
        assert_true(crc64_table(~bytes, slice) == expected);
        assert_true(crc64_folding(~bytes, slice) == expected);
        assert_int_equal(crc32c_update(0, slice), ~(uint32_t)reference(0x82f63b78, ~0u, slice));
        assert_int_equal(crc32_update(0, slice), ~(uint32_t)reference(0xedb88320, ~0u, slice));
    }
}

static void updates_chain_and_combine_at_every_cut(void **state)
{
    (void)state;
    uint8_t data[DATA_BYTES];
    fill(data, sizeof data);
    struct slice all = slice_of(data, sizeof data);
    for (size_t cut = 0; cut <= sizeof data; cut += 7) {
        struct slice a = slice_first(all, cut), b = slice_skip(all, cut);
        assert_int_equal(crc32c_update(crc32c_update(0, a), b), crc32c_update(0, all));
        assert_int_equal(crc32_update(crc32_update(0, a), b), crc32_update(0, all));
        assert_true(crc64nvme_update(crc64nvme_update(0, a), b) == crc64nvme_update(0, all));
        assert_int_equal(crc32c_combine(crc32c_update(0, a), crc32c_update(0, b), b.bytes),
                         crc32c_update(0, all));
        assert_int_equal(crc32_combine(crc32_update(0, a), crc32_update(0, b), b.bytes),
                         crc32_update(0, all));
        assert_true(crc64nvme_combine(crc64nvme_update(0, a), crc64nvme_update(0, b), b.bytes) ==
                    crc64nvme_update(0, all));
    }
}

/* Combining with 2^40 zero bytes, in one step and by doubling 2^20 zero bytes twenty times. */
static void combining_is_right_for_lengths_no_test_can_hash(void **state)
{
    (void)state;
    static const uint8_t zero[1 << 20];
    struct slice mega = slice_of(zero, sizeof zero);
    uint64_t run64 = crc64nvme_update(0, mega);
    uint32_t run32 = crc32_update(0, mega);
    for (int i = 20; i < 40; i++) {
        run64 = crc64nvme_combine(run64, run64, UINT64_C(1) << i);
        run32 = crc32_combine(run32, run32, UINT64_C(1) << i);
    }
    uint64_t half64 = crc64nvme_combine(
        crc64nvme_update(0, mega), crc64nvme_combine(run64, run64, UINT64_C(1) << 40), 2ULL << 40);
    uint64_t swapped64 = crc64nvme_combine(crc64nvme_combine(run64, run64, UINT64_C(1) << 40),
                                           crc64nvme_update(0, mega), sizeof zero);
    assert_true(half64 == swapped64);
    uint32_t half32 = crc32_combine(crc32_update(0, mega), run32, UINT64_C(1) << 40);
    assert_int_equal(half32, crc32_combine(run32, crc32_update(0, mega), sizeof zero));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_values_match_the_standards),
        cmocka_unit_test(every_length_and_alignment_agrees_with_the_reference),
        cmocka_unit_test(updates_chain_and_combine_at_every_cut),
        cmocka_unit_test(combining_is_right_for_lengths_no_test_can_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
