/* Profiles by number of drives, and the draw of drives for a volume. */
#include "ladder.h"
#include "latency.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void a_node_has_the_widest_rung_that_keeps_its_promise(void **state)
{
    (void)state;
    static const struct {
        uint32_t drives;
        struct redundancy wanted;
        uint8_t floor;
        struct redundancy rung;
    } cases[] = {
        {0, {0, 0}, 0, {0, 0}}, {1, {0, 0}, 0, {1, 0}},  {2, {0, 0}, 0, {1, 1}},
        {3, {0, 0}, 0, {2, 1}}, {4, {0, 0}, 0, {2, 2}},  {5, {0, 0}, 0, {3, 2}},
        {6, {0, 0}, 0, {4, 2}}, {24, {0, 0}, 0, {4, 2}}, /* by themselves */
        {5, {0, 0}, 2, {3, 2}}, {4, {0, 0}, 2, {2, 2}},  {3, {0, 0}, 2, {1, 2}},
        {2, {0, 0}, 2, {0, 0}}, {1, {0, 0}, 2, {0, 0}}, /* drives are gone of 4+2 */
        {2, {0, 0}, 1, {1, 1}}, {1, {0, 0}, 1, {0, 0}}, /* of 2+1 */
        {8, {0, 0}, 3, {4, 3}},                         /* an option of earlier starts */
        {6, {3, 1}, 1, {3, 1}}, {3, {3, 1}, 1, {2, 1}},  {2, {3, 1}, 1, {1, 1}},
        {1, {3, 1}, 1, {0, 0}}, {12, {8, 3}, 3, {8, 3}}, {10, {8, 3}, 3, {7, 3}},
        {5, {1, 0}, 0, {1, 0}}, /* by option */
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct redundancy rung = ladder_rung(cases[i].drives, cases[i].wanted, cases[i].floor);
        assert_int_equal(rung.data_shards, cases[i].rung.data_shards);
        assert_int_equal(rung.parity_shards, cases[i].rung.parity_shards);
    }
}

static void a_draw_gives_distinct_drives(void **state)
{
    (void)state;
    struct ladder_drive drives[10];
    uint64_t random = 1;
    for (unsigned i = 0; i < 10; i++)
        drives[i] = (struct ladder_drive){.free_bytes = (uint64_t)i << 30, .volumes = 1};
    for (unsigned round = 0; round < 1000; round++) {
        uint32_t order[10];
        uint32_t seen = 0;
        uint32_t count = 1 + round % 10;
        ladder_draw(drives, 10, count, &random, order);
        for (uint32_t i = 0; i < count; i++) {
            assert_true(order[i] < 10);
            assert_int_equal(seen >> order[i] & 1, 0);
            seen |= 1u << order[i];
        }
    }
}

static void empty_drives_are_drawn_more_often(void **state)
{
    (void)state;
    struct ladder_drive drives[3] = {{.free_bytes = UINT64_C(1) << 40, .volumes = 1},
                                     {.free_bytes = UINT64_C(2) << 40, .volumes = 1},
                                     {.free_bytes = UINT64_C(2) << 40, .load = 48, .volumes = 1}};
    unsigned counts[3] = {0};
    uint64_t random = 7;
    for (unsigned round = 0; round < 9000; round++) {
        uint32_t order[1];
        ladder_draw(drives, 3, 1, &random, order);
        counts[order[0]]++;
    }
    /* 1 : 4 : 1 */
    assert_in_range(counts[0], 1200, 1800);
    assert_in_range(counts[1], 5600, 6400);
    assert_in_range(counts[2], 1200, 1800);
}

static void a_drive_in_no_volume_is_in_the_next(void **state)
{
    (void)state;
    struct ladder_drive drives[4] = {{.free_bytes = UINT64_C(1) << 40, .volumes = 1},
                                     {.free_bytes = UINT64_C(1) << 40, .volumes = 1},
                                     {.free_bytes = UINT64_C(1) << 40, .volumes = 1},
                                     {.free_bytes = 0, .volumes = 0}};
    uint64_t random = 3;
    for (unsigned round = 0; round < 100; round++) {
        uint32_t order[2];
        ladder_draw(drives, 4, 2, &random, order);
        assert_true(order[0] == 3 || order[1] == 3);
    }
}

static void percentiles_follow_what_was_recorded(void **state)
{
    (void)state;
    struct latency latency;
    memset(&latency, 0, sizeof latency);
    for (unsigned i = 0; i < 97; i++)
        latency_record(&latency, 1000000);
    for (unsigned i = 0; i < 3; i++)
        latency_record(&latency, 100000000);
    latency_update(&latency, false);
    assert_true(latency.known);
    assert_in_range(latency.p95_ns, 1000000, 1600000);
    assert_in_range(latency.p99_ns, 100000000, 160000000);
    for (unsigned i = 0; i < 10; i++)
        latency_update(&latency, true);
    latency_update(&latency, true);
    assert_false(latency.known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_has_the_widest_rung_that_keeps_its_promise),
        cmocka_unit_test(a_draw_gives_distinct_drives),
        cmocka_unit_test(empty_drives_are_drawn_more_often),
        cmocka_unit_test(a_drive_in_no_volume_is_in_the_next),
        cmocka_unit_test(percentiles_follow_what_was_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
