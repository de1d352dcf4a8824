/* Growing byte arrays with a maximum. */
#include "base/bytes.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void appends_join(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) bytes = {.max = 100};
    bytes_append(&bytes, SLICE_LITERAL("ab"));
    bytes_append(&bytes, slice_of(NULL, 0));
    bytes_append_text(&bytes, "cd");
    bytes_append_byte(&bytes, 'e');
    bytes_append_format(&bytes, "-%03d", 7);
    memcpy(bytes_extend(&bytes, 2), "xy", 2);
    assert_non_null(bytes_extend(&bytes, 0));
    assert_true(slice_equal_text(bytes_slice(&bytes), "abcde-007xy"));
    assert_false(bytes.overflow);
    bytes_consume(&bytes, 5);
    assert_true(slice_equal_text(bytes_slice(&bytes), "-007xy"));
    bytes_consume(&bytes, 6);
    assert_int_equal(bytes.bytes, 0);
}

static void exactly_the_maximum_fits(void **state)
{
    (void)state;
    for (size_t max = 1; max < 300; max++) {
        AUTO_VALUE(bytes) bytes = {.max = max};
        for (size_t i = 0; i < max; i++)
            bytes_append_byte(&bytes, (uint8_t)i);
        assert_false(bytes.overflow);
        assert_true(bytes.capacity <= max || max < 64);
        bytes_append_byte(&bytes, 0);
        assert_true(bytes.overflow);
        assert_int_equal(bytes.bytes, max);
    }
}

static void formatting_fills_to_the_last_byte(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) bytes = {.max = 70};
    bytes_append_format(&bytes, "%070d", 1);
    assert_false(bytes.overflow);
    assert_int_equal(bytes.bytes, 70);
    bytes_clear(&bytes);
    bytes_append_format(&bytes, "%071d", 1);
    assert_true(bytes.overflow);
    assert_int_equal(bytes.bytes, 0);
}

static void after_a_refusal_the_content_stays_a_prefix(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) bytes = {.max = 4};
    bytes_append_text(&bytes, "abc");
    bytes_append_text(&bytes, "de");
    bytes_append_text(&bytes, "f");
    assert_null(bytes_extend(&bytes, SIZE_MAX));
    assert_true(slice_equal_text(bytes_slice(&bytes), "abc"));
    assert_true(bytes.overflow);
    bytes_clear(&bytes);
    bytes_append_text(&bytes, "wxyz");
    assert_false(bytes.overflow);
    assert_true(slice_equal_text(bytes_slice(&bytes), "wxyz"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_join),
        cmocka_unit_test(exactly_the_maximum_fits),
        cmocka_unit_test(formatting_fills_to_the_last_byte),
        cmocka_unit_test(after_a_refusal_the_content_stays_a_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
