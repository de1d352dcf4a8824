/* Block layout, byte by byte against a layout made by hand. */
#include "erasure/geometry.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { PAGE = 4096 };

/* Deal out the block's bytes to slots with a loop instead of divisions: where byte i lands. */
struct place {
    uint32_t stripe, slot, shard_offset;
};

static struct place *deal(struct geometry geometry, uint32_t block_bytes, uint32_t *out_shard_bytes)
{
    struct place *places = calloc(block_bytes + 1, sizeof *places);
    uint32_t k = geometry.data_shards, at = 0;
    for (uint32_t stripe = 0; at < block_bytes; stripe++) {
        uint32_t rest = block_bytes - at;
        uint32_t unit = geometry.unit_bytes;
        if (rest < unit * k) {
            unit = 0;
            while (unit * k < rest)
                unit += PAGE;
            unit = unit > geometry.unit_bytes ? geometry.unit_bytes : unit;
        }
        for (uint32_t slot = 0; slot < k; slot++) {
            for (uint32_t i = 0; i < unit && at < block_bytes; i++)
                places[at++] = (struct place){stripe, slot, out_shard_bytes[slot]++};
        }
    }
    return places;
}

static void check_layout(struct geometry geometry, uint32_t block_bytes)
{
    uint32_t shard_bytes[CODEC_DATA_SHARDS_MAX] = {0};
    struct place *places = deal(geometry, block_bytes, shard_bytes);
    for (uint32_t slot = 0; slot < geometry_shards(geometry); slot++) {
        uint32_t expected = shard_bytes[slot < geometry.data_shards ? slot : 0];
        if (geometry_shard_bytes(geometry, block_bytes, slot) != expected)
            fail_msg("k=%u unit=%u block=%u slot=%u", geometry.data_shards, geometry.unit_bytes,
                     block_bytes, slot);
        uint32_t sum = 0;
        for (uint32_t i = 0; i < geometry_stripe_count(geometry, block_bytes); i++)
            sum += geometry_unit_bytes(geometry, block_bytes, i, slot);
        assert_int_equal(sum, expected);
    }
    for (uint32_t i = 0; i < block_bytes; i++) {
        struct geometry_position position = geometry_locate(geometry, block_bytes, i);
        bool same = position.stripe == places[i].stripe && position.slot == places[i].slot &&
                    position.shard_offset == places[i].shard_offset;
        uint32_t last = i + position.bytes - 1;
        bool run_ok = position.bytes > 0 && last < block_bytes &&
                      places[last].slot == position.slot &&
                      places[last].shard_offset == position.shard_offset + position.bytes - 1 &&
                      (last + 1 == block_bytes || places[last + 1].stripe != position.stripe ||
                       places[last + 1].slot != position.slot);
        bool back =
            geometry_block_offset(geometry, block_bytes, position.slot, position.shard_offset) == i;
        if (!same || !run_ok || !back)
            fail_msg("k=%u unit=%u block=%u byte=%u", geometry.data_shards, geometry.unit_bytes,
                     block_bytes, i);
    }
    if (block_bytes > 0)
        assert_int_equal(places[block_bytes - 1].stripe + 1,
                         geometry_stripe_count(geometry, block_bytes));
    free(places);
}

static void every_byte_is_where_dealing_puts_it(void **state)
{
    (void)state;
    static const unsigned data_shards[] = {1, 2, 3, 4, 7, 16};
    for (size_t i = 0; i < sizeof data_shards / sizeof data_shards[0]; i++) {
        for (uint32_t unit = PAGE; unit <= 3 * PAGE; unit += 2 * PAGE) {
            struct geometry geometry = {
                .data_shards = (uint8_t)data_shards[i], .parity_shards = 2, .unit_bytes = unit};
            uint32_t stripe_bytes = geometry_stripe_bytes(geometry);
            for (uint32_t stripes = 0; stripes <= (unit == PAGE ? 4u : 1u); stripes++) {
                uint32_t start = stripes * stripe_bytes;
                const uint32_t lengths[] = {
                    start,
                    start + 1,
                    start + PAGE - 1,
                    start + PAGE,
                    start + PAGE + 1,
                    start + unit - 1,
                    start + unit + 1,
                    start + stripe_bytes / 2,
                    start + stripe_bytes - 1,
                };
                for (size_t j = 0; j < sizeof lengths / sizeof lengths[0]; j++)
                    check_layout(geometry, lengths[j]);
            }
        }
    }
}

/* Ranges whose ends lie around all boundaries: each byte of the range is covered exactly once, and
 * nothing else. */
static void a_cover_is_exact(void **state)
{
    (void)state;
    static const unsigned data_shards[] = {1, 3, 4};
    for (size_t i = 0; i < sizeof data_shards / sizeof data_shards[0]; i++) {
        struct geometry geometry = {.data_shards = (uint8_t)data_shards[i], .unit_bytes = 2 * PAGE};
        uint32_t stripe_bytes = geometry_stripe_bytes(geometry);
        uint32_t block_bytes = 2 * stripe_bytes + stripe_bytes / 2 + 5;
        uint32_t ends[100];
        unsigned count = 0;
        for (uint32_t at = 0; at < block_bytes; at += PAGE) {
            ends[count++] = at;
            ends[count++] = at + 1 < block_bytes ? at + 1 : block_bytes;
            ends[count++] = at + PAGE - 1 < block_bytes ? at + PAGE - 1 : block_bytes;
        }
        ends[count++] = block_bytes;
        for (unsigned a = 0; a < count; a++) {
            for (unsigned b = a; b < count; b++) {
                struct geometry_range ranges[CODEC_DATA_SHARDS_MAX];
                uint32_t found =
                    geometry_cover(geometry, block_bytes, ends[a], ends[b] - ends[a], ranges);
                uint32_t sum = 0;
                for (uint32_t j = 0; j < found; j++) {
                    struct geometry_range range = ranges[j];
                    assert_true(range.bytes > 0);
                    assert_true(j == 0 || range.slot > ranges[j - 1].slot);
                    uint32_t first = geometry_block_offset(geometry, block_bytes, range.slot,
                                                           range.shard_offset);
                    uint32_t last = geometry_block_offset(geometry, block_bytes, range.slot,
                                                          range.shard_offset + range.bytes - 1);
                    assert_in_range(first, ends[a], ends[b] - 1);
                    assert_in_range(last, ends[a], ends[b] - 1);
                    sum += range.bytes;
                }
                assert_int_equal(sum, ends[b] - ends[a]);
            }
        }
    }
}

static void the_unit_follows_the_length(void **state)
{
    (void)state;
    static const struct {
        unsigned k;
        uint64_t block_bytes;
        uint32_t unit_bytes;
    } cases[] = {
        {4, 0, 256 << 10}, /* not known ahead */
        {4, 1, 4096},
        {4, 4 * 4096, 4096},
        {4, 4 * 4096 + 1, 8192},
        {4, 100000, 28672},
        {8, 1 << 20, 128 << 10},
        {8, 2 << 20, 256 << 10},
        {8, (2 << 20) + 1, 256 << 10},
        {1, 64 << 20, 256 << 10},
        {16, 64 << 20, 256 << 10},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct geometry geometry = {0};
        assert_int_equal(geometry_make(cases[i].k, 2, cases[i].block_bytes, &geometry), OK);
        assert_int_equal(geometry.unit_bytes, cases[i].unit_bytes);
        assert_int_equal(geometry.data_shards, cases[i].k);
        assert_int_equal(geometry.parity_shards, 2);
    }
}

/* A writer that learns the length only at the end must get the layout of one that knew it. */
static void a_short_block_lies_the_same_whether_its_length_was_known_or_not(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {1, 4096, 4097, 50000, 1 << 20, (1 << 20) + 1, 1572864};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct geometry known, unknown;
        assert_int_equal(geometry_make(6, 3, lengths[i], &known), OK);
        assert_int_equal(geometry_make(6, 3, 0, &unknown), OK);
        assert_int_equal(geometry_stripe_count(known, lengths[i]), 1);
        for (uint32_t slot = 0; slot < 9; slot++)
            assert_int_equal(geometry_shard_bytes(known, lengths[i], slot),
                             geometry_shard_bytes(unknown, lengths[i], slot));
    }
}

static void the_largest_block_works(void **state)
{
    (void)state;
    for (unsigned k = 1; k <= CODEC_DATA_SHARDS_MAX; k++) {
        struct geometry geometry = {0};
        assert_int_equal(geometry_make(k, 8, GEOMETRY_BLOCK_BYTES_MAX, &geometry), OK);
        uint64_t sum = 0;
        for (uint32_t slot = 0; slot < k; slot++)
            sum += geometry_shard_bytes(geometry, GEOMETRY_BLOCK_BYTES_MAX, slot);
        assert_true(sum == GEOMETRY_BLOCK_BYTES_MAX);
        uint32_t last = GEOMETRY_BLOCK_BYTES_MAX - 1;
        struct geometry_position at = geometry_locate(geometry, GEOMETRY_BLOCK_BYTES_MAX, last);
        assert_int_equal(at.bytes, 1);
        assert_int_equal(
            geometry_block_offset(geometry, GEOMETRY_BLOCK_BYTES_MAX, at.slot, at.shard_offset),
            last);
    }
}

static void what_cannot_be_true_is_refused(void **state)
{
    (void)state;
    static const struct {
        struct geometry geometry;
        uint64_t block_bytes;
        enum err err;
    } cases[] = {
        {{1, 0, 4096}, 0, OK},
        {{16, 8, 256 << 10}, 64 << 20, OK},
        {{0, 0, 4096}, 0, ERR_INVALID},
        {{17, 0, 4096}, 0, ERR_INVALID},
        {{1, 9, 4096}, 0, ERR_INVALID},
        {{1, 0, 0}, 0, ERR_INVALID},
        {{1, 0, 4095}, 0, ERR_INVALID},
        {{1, 0, 260 << 10}, 0, ERR_INVALID},
        {{1, 0, 4096}, (64 << 20) + 1, ERR_INVALID},
        {{1, 0, 4096}, UINT64_MAX, ERR_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(geometry_check(cases[i].geometry, cases[i].block_bytes), cases[i].err);
    struct geometry geometry = {0};
    assert_int_equal(geometry_make(0, 0, 1, &geometry), ERR_INVALID);
    assert_int_equal(geometry_make(257, 0, 1, &geometry), ERR_INVALID);
    assert_int_equal(geometry_make(1, 257, 1, &geometry), ERR_INVALID);
    assert_int_equal(geometry_make(1, 0, (64 << 20) + 1, &geometry), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_is_where_dealing_puts_it),
        cmocka_unit_test(a_cover_is_exact),
        cmocka_unit_test(the_unit_follows_the_length),
        cmocka_unit_test(a_short_block_lies_the_same_whether_its_length_was_known_or_not),
        cmocka_unit_test(the_largest_block_works),
        cmocka_unit_test(what_cannot_be_true_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
