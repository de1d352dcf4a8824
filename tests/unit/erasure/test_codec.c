/* The codec against a slow reference that shares nothing with it. */
#include "erasure/codec.h"
#include "erasure/geometry.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { PATTERNS_MAX = 200 };

/* --- reference: GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1, a bit at a time --- */

static uint8_t multiply(uint8_t a, uint8_t b)
{
    unsigned product = 0;
    for (int i = 0; i < 8; i++)
        product ^= (b >> i & 1) != 0 ? (unsigned)a << i : 0;
    for (int i = 14; i >= 8; i--)
        product ^= (product >> i & 1) != 0 ? 0x11du << (i - 8) : 0;
    return (uint8_t)product;
}

static uint8_t inverse(uint8_t a)
{
    for (unsigned b = 1; b < 256; b++) {
        if (multiply(a, (uint8_t)b) == 1)
            return (uint8_t)b;
    }
    assert_true(false);
    return 0;
}

/* The matrix that codec.h promises: 1 / ((k + row) + column), each column divided by its first
 * entry, then each row by its first. */
static void reference_matrix(unsigned k, unsigned m, uint8_t matrix[8][16])
{
    for (unsigned row = 0; row < m; row++) {
        for (unsigned column = 0; column < k; column++)
            matrix[row][column] = inverse((uint8_t)((k + row) ^ column));
    }
    for (unsigned column = 0; column < k && m > 0; column++) {
        uint8_t scale = inverse(matrix[0][column]);
        for (unsigned row = 0; row < m; row++)
            matrix[row][column] = multiply(matrix[row][column], scale);
    }
    for (unsigned row = 0; row < m; row++) {
        uint8_t scale = inverse(matrix[row][0]);
        for (unsigned column = 0; column < k; column++)
            matrix[row][column] = multiply(matrix[row][column], scale);
    }
}

static uint8_t reference_parity(uint8_t matrix[8][16], unsigned k, unsigned row,
                                const struct slice *data, size_t at)
{
    uint8_t sum = 0;
    for (unsigned column = 0; column < k; column++)
        sum ^= at < data[column].bytes ? multiply(matrix[row][column], data[column].data[at]) : 0;
    return sum;
}

/* --- a stripe with its parity in exactly sized memory, so that ASan sees each byte too far --- */

struct stripe {
    unsigned k, m;
    struct slice units[CODEC_SHARDS_MAX];
};

static uint64_t draw(uint64_t *seed)
{
    *seed ^= *seed << 13, *seed ^= *seed >> 7, *seed ^= *seed << 17;
    return *seed;
}

static void stripe_init(struct stripe *stripe, const struct codec *codec, unsigned k, unsigned m,
                        const size_t *lengths, uint64_t *seed)
{
    *stripe = (struct stripe){.k = k, .m = m};
    struct codec_output parity[CODEC_PARITY_SHARDS_MAX];
    size_t longest = 0;
    for (unsigned slot = 0; slot < k; slot++) {
        uint8_t *data = malloc(lengths[slot]);
        for (size_t i = 0; i < lengths[slot]; i++)
            data[i] = (uint8_t)(draw(seed) >> 24);
        stripe->units[slot] = slice_of(data, lengths[slot]);
        longest = lengths[slot] > longest ? lengths[slot] : longest;
    }
    for (unsigned row = 0; row < m; row++) {
        parity[row] = (struct codec_output){.data = malloc(longest), .bytes = longest};
        memset(parity[row].data, 0x55, longest);
        stripe->units[k + row] = slice_of(parity[row].data, longest);
    }
    codec_encode(codec, stripe->units, parity);
}

static void stripe_deinit(struct stripe *stripe)
{
    for (unsigned slot = 0; slot < stripe->k + stripe->m; slot++)
        free((void *)(uintptr_t)stripe->units[slot].data);
}

static void check_parity(const struct stripe *stripe)
{
    uint8_t matrix[8][16];
    reference_matrix(stripe->k, stripe->m, matrix);
    for (unsigned row = 0; row < stripe->m; row++) {
        struct slice unit = stripe->units[stripe->k + row];
        for (size_t at = 0; at < unit.bytes; at++)
            assert_int_equal(unit.data[at],
                             reference_parity(matrix, stripe->k, row, stripe->units, at));
    }
}

/* Lose the slots of `lost` and get them back from exactly those of `present`. */
static void check_loss(const struct codec *codec, const struct stripe *stripe, uint32_t present,
                       uint32_t lost)
{
    struct slice units[CODEC_SHARDS_MAX] = {0};
    struct codec_output outputs[CODEC_SHARDS_MAX] = {0};
    for (unsigned slot = 0; slot < stripe->k + stripe->m; slot++) {
        struct slice unit = stripe->units[slot];
        if ((present >> slot & 1) != 0)
            units[slot] = unit;
        if ((lost >> slot & 1) != 0) {
            outputs[slot] = (struct codec_output){.data = malloc(unit.bytes), .bytes = unit.bytes};
            memset(outputs[slot].data, 0xaa, unit.bytes);
        }
    }
    assert_int_equal(codec_reconstruct(codec, present, units, lost, outputs), OK);
    for (unsigned slot = 0; slot < stripe->k + stripe->m; slot++) {
        if ((lost >> slot & 1) != 0)
            assert_memory_equal(outputs[slot].data, stripe->units[slot].data, outputs[slot].bytes);
        free(outputs[slot].data);
    }
}

/* All loss patterns of 1..m slots when there are few, else a sample. */
static void check_losses(const struct codec *codec, const struct stripe *stripe, unsigned count_max,
                         uint64_t *seed)
{
    unsigned n = stripe->k + stripe->m;
    uint32_t all = (UINT32_C(1) << n) - 1;
    bool exhaustive = n <= 10;
    unsigned count = exhaustive ? all : count_max;
    for (unsigned i = 1; i <= count; i++) {
        uint32_t lost = exhaustive ? i : 0;
        unsigned losses = exhaustive ? 0 : 1 + (unsigned)(draw(seed) % stripe->m);
        for (unsigned j = 0; j < losses; j++)
            lost |= UINT32_C(1) << (draw(seed) >> 20) % n;
        if ((unsigned)__builtin_popcount(lost) > stripe->m)
            continue;
        check_loss(codec, stripe, all & ~lost, lost);
    }
}

static void every_code_survives_every_loss(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (unsigned k = 1; k <= CODEC_DATA_SHARDS_MAX; k++) {
        for (unsigned m = 0; m <= CODEC_PARITY_SHARDS_MAX; m++) {
            AUTO(codec) codec = NULL;
            assert_int_equal(codec_new(k, m, &codec), OK);
            size_t lengths[CODEC_DATA_SHARDS_MAX];
            for (unsigned slot = 0; slot < k; slot++)
                lengths[slot] = 70 + k; /* a vector or two and a tail */
            struct stripe stripe;
            stripe_init(&stripe, codec, k, m, lengths, &seed);
            check_parity(&stripe);
            if (m > 0)
                check_losses(codec, &stripe, PATTERNS_MAX, &seed);
            stripe_deinit(&stripe);
        }
    }
}

/* m = 8 of k = 8: each choice of the eight that remain is another matrix to invert. */
static void any_eight_of_sixteen_are_enough(void **state)
{
    (void)state;
    uint64_t seed = 2;
    AUTO(codec) codec = NULL;
    assert_int_equal(codec_new(8, 8, &codec), OK);
    size_t lengths[8] = {5, 5, 5, 5, 5, 5, 5, 5};
    struct stripe stripe;
    stripe_init(&stripe, codec, 8, 8, lengths, &seed);
    for (uint32_t lost = 0; lost < 1 << 16; lost++) {
        if (__builtin_popcount(lost) == 8)
            check_loss(codec, &stripe, 0xffff & ~lost, lost);
    }
    stripe_deinit(&stripe);
}

static void lengths_around_every_vector_width_agree_with_the_reference(void **state)
{
    (void)state;
    uint64_t seed = 3;
    static const struct {
        unsigned k, m;
    } codes[] = {{1, 2}, {2, 1}, {4, 2}, {6, 7}, {8, 3}, {16, 8}};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        AUTO(codec) codec = NULL;
        assert_int_equal(codec_new(codes[i].k, codes[i].m, &codec), OK);
        for (size_t bytes = 0; bytes <= 200; bytes++) {
            size_t lengths[CODEC_DATA_SHARDS_MAX];
            for (unsigned slot = 0; slot < codes[i].k; slot++)
                lengths[slot] = bytes;
            struct stripe stripe;
            stripe_init(&stripe, codec, codes[i].k, codes[i].m, lengths, &seed);
            check_parity(&stripe);
            check_losses(codec, &stripe, 3, &seed);
            stripe_deinit(&stripe);
        }
    }
}

static void units_that_end_early_count_as_zero(void **state)
{
    (void)state;
    uint64_t seed = 4;
    for (int round = 0; round < 200; round++) {
        unsigned k = 1 + (unsigned)(draw(&seed) % 16), m = 1 + (unsigned)(draw(&seed) % 8);
        AUTO(codec) codec = NULL;
        assert_int_equal(codec_new(k, m, &codec), OK);
        size_t lengths[CODEC_DATA_SHARDS_MAX];
        for (unsigned slot = 0; slot < k; slot++)
            lengths[slot] = draw(&seed) % 3 == 0 ? 0 : draw(&seed) % 150;
        struct stripe stripe;
        stripe_init(&stripe, codec, k, m, lengths, &seed);
        check_parity(&stripe);
        check_losses(codec, &stripe, 5, &seed);
        stripe_deinit(&stripe);
    }
}

/* A block laid out by geometry.h and encoded stripe by stripe. */
static void check_block(const struct codec *codec, struct geometry geometry, uint32_t block_bytes,
                        uint64_t *seed)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < geometry_stripe_count(geometry, block_bytes); i++) {
        size_t lengths[CODEC_DATA_SHARDS_MAX];
        for (uint32_t slot = 0; slot < geometry.data_shards; slot++) {
            lengths[slot] = geometry_unit_bytes(geometry, block_bytes, i, slot);
            total += (uint32_t)lengths[slot];
        }
        struct stripe stripe;
        stripe_init(&stripe, codec, geometry.data_shards, geometry.parity_shards, lengths, seed);
        for (uint32_t row = 0; row < geometry.parity_shards; row++) {
            uint32_t slot = geometry.data_shards + row;
            assert_int_equal(stripe.units[slot].bytes,
                             geometry_unit_bytes(geometry, block_bytes, i, slot));
        }
        uint32_t all = (UINT32_C(1) << geometry_shards(geometry)) - 1;
        for (int sample = 0; sample < 3 && geometry.parity_shards > 0; sample++) {
            uint32_t lost = 0;
            for (uint32_t j = 0; j < geometry.parity_shards; j++)
                lost |= UINT32_C(1) << (draw(seed) >> 20) % geometry_shards(geometry);
            check_loss(codec, &stripe, all & ~lost, lost);
        }
        stripe_deinit(&stripe);
    }
    assert_int_equal(total, block_bytes);
}

static void blocks_of_every_boundary_length_come_back(void **state)
{
    (void)state;
    static const struct {
        unsigned k, m;
    } ladder[] = {{1, 0}, {1, 1}, {1, 2}, {2, 1}, {2, 2}, {3, 2}, {4, 2}, {8, 3}, {16, 8}};
    uint64_t seed = 5;
    for (size_t i = 0; i < sizeof ladder / sizeof ladder[0]; i++) {
        AUTO(codec) codec = NULL;
        assert_int_equal(codec_new(ladder[i].k, ladder[i].m, &codec), OK);
        struct geometry geometry = {.data_shards = (uint8_t)ladder[i].k,
                                    .parity_shards = (uint8_t)ladder[i].m,
                                    .unit_bytes = 8192};
        for (uint32_t stripes = 0; stripes <= 4; stripes++) {
            uint32_t start = stripes * geometry_stripe_bytes(geometry);
            for (uint32_t part = 0; part <= (stripes < 4 ? 4u : 0u); part++) {
                uint32_t bytes = start + part * geometry_stripe_bytes(geometry) / 5;
                if (bytes > 0)
                    check_block(codec, geometry, bytes - 1, &seed);
                check_block(codec, geometry, bytes, &seed);
                check_block(codec, geometry, bytes + 1, &seed);
            }
        }
    }
}

static void one_data_unit_means_copies_and_one_parity_means_xor(void **state)
{
    (void)state;
    static const uint8_t raw[3][3] = {{1, 2, 3}, {0x80, 0x40, 0x20}, {0xff, 0, 0x0f}};
    struct slice data[3] = {slice_of(raw[0], 3), slice_of(raw[1], 3), slice_of(raw[2], 3)};
    uint8_t out[8][3];
    struct codec_output parity[8];
    for (int i = 0; i < 8; i++)
        parity[i] = (struct codec_output){.data = out[i], .bytes = 3};
    AUTO(codec) copies = NULL;
    assert_int_equal(codec_new(1, 8, &copies), OK);
    codec_encode(copies, data, parity);
    for (int i = 0; i < 8; i++)
        assert_memory_equal(out[i], raw[0], 3);
    AUTO(codec) raid = NULL;
    assert_int_equal(codec_new(3, 1, &raid), OK);
    codec_encode(raid, data, parity);
    for (int at = 0; at < 3; at++)
        assert_int_equal(out[0][at], raw[0][at] ^ raw[1][at] ^ raw[2][at]);
}

static void codes_out_of_bounds_are_refused(void **state)
{
    (void)state;
    AUTO(codec) codec = NULL;
    assert_int_equal(codec_new(0, 1, &codec), ERR_INVALID);
    assert_int_equal(codec_new(17, 1, &codec), ERR_INVALID);
    assert_int_equal(codec_new(1, 9, &codec), ERR_INVALID);
    assert_null(codec);
    codec_free(NULL);
}

static void nonsense_is_not_reconstructed(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t present, wanted;
        enum err err;
    } cases[] = {
        {"fine", 0b01011, 0b00100, OK},
        {"more than needed", 0b11011, 0b00100, OK},
        {"too few", 0b00011, 0b00100, ERR_INVALID},
        {"none present", 0, 0b00100, ERR_INVALID},
        {"none wanted", 0b01011, 0, ERR_INVALID},
        {"wanted is present", 0b01011, 0b00001, ERR_INVALID},
        {"wanted beyond the code", 0b01011, 0b100000, ERR_INVALID},
        {"present beyond the code", 0b101011, 0b00100, ERR_INVALID},
        {"parity too short", 0b10011, 0b00100, ERR_INVALID},
    };
    AUTO(codec) codec = NULL;
    assert_int_equal(codec_new(3, 2, &codec), OK);
    uint8_t zero[4] = {0};
    struct slice units[CODEC_SHARDS_MAX] = {0};
    struct codec_output outputs[CODEC_SHARDS_MAX] = {0};
    uint8_t out[4];
    for (unsigned slot = 0; slot < 4; slot++)
        units[slot] = slice_of(zero, 4);
    units[4] = slice_of(zero, 3);
    outputs[2] = (struct codec_output){.data = out, .bytes = 4};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(
            codec_reconstruct(codec, cases[i].present, units, cases[i].wanted, outputs),
            cases[i].err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_survives_every_loss),
        cmocka_unit_test(any_eight_of_sixteen_are_enough),
        cmocka_unit_test(lengths_around_every_vector_width_agree_with_the_reference),
        cmocka_unit_test(units_that_end_early_count_as_zero),
        cmocka_unit_test(blocks_of_every_boundary_length_come_back),
        cmocka_unit_test(one_data_unit_means_copies_and_one_parity_means_xor),
        cmocka_unit_test(codes_out_of_bounds_are_refused),
        cmocka_unit_test(nonsense_is_not_reconstructed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
