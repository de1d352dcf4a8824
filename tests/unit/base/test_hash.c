/* XXH3 values and streaming. */
#include "base/hash.h"
#include "base/text.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void known_values(void **state)
{
    (void)state;
    struct hash128 empty = hash128_of(slice_of(NULL, 0));
    char hex[33];
    text_hex(slice_of(empty.bytes, sizeof empty.bytes), hex);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
    assert_true(hash64_of(slice_of(NULL, 0)) == 0x2d06800538d394c2);
}

static void streaming_equals_one_shot_at_every_cut(void **state)
{
    (void)state;
    uint8_t data[1500];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * i / 7);
    struct slice all = slice_of(data, sizeof data);
    for (size_t cut = 0; cut <= sizeof data; cut += 13) {
        AUTO(hasher) hasher = hasher_new();
        hasher_update(hasher, slice_first(all, cut));
        struct hash128 first = hasher_value(hasher);
        struct hash128 expected = hash128_of(slice_first(all, cut));
        assert_true(hash128_equal(&first, &expected));
        hasher_update(hasher, slice_skip(all, cut));
        struct hash128 whole = hasher_value(hasher);
        expected = hash128_of(all);
        assert_true(hash128_equal(&whole, &expected));
    }
    hasher_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values),
        cmocka_unit_test(streaming_equals_one_shot_at_every_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
