/* Borrowed ranges of bytes. */
#include "base/mem.h"
#include "base/slice.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct slice text(const char *text)
{
    return slice_of_text(text);
}

static int sign(int order)
{
    return (order > 0) - (order < 0);
}

static void order_is_unsigned_bytes_then_length(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        int order;
    } cases[] = {
        {"", "", 0},    {"", "a", -1},  {"a", "", 1},         {"a", "a", 0},    {"a", "ab", -1},
        {"ab", "a", 1}, {"b", "ab", 1}, {"\x7f", "\x80", -1}, {"\xff", "a", 1}, {"abc", "abd", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slice a = text(cases[i].a), b = text(cases[i].b);
        assert_int_equal(sign(slice_compare(a, b)), cases[i].order);
        assert_int_equal(slice_equal(a, b), cases[i].order == 0);
    }
    assert_true(slice_equal(slice_of(NULL, 0), SLICE_LITERAL("")));
    assert_true(slice_equal(text(NULL), SLICE_LITERAL("")));
}

static void parts_never_leave_the_slice(void **state)
{
    (void)state;
    struct slice abc = SLICE_LITERAL("abc");
    assert_true(slice_equal_text(slice_skip(abc, 0), "abc"));
    assert_true(slice_equal_text(slice_skip(abc, 2), "c"));
    assert_true(slice_equal_text(slice_skip(abc, 3), ""));
    assert_true(slice_equal_text(slice_skip(abc, SIZE_MAX), ""));
    assert_true(slice_equal_text(slice_first(abc, 2), "ab"));
    assert_true(slice_equal_text(slice_first(abc, 9), "abc"));
    assert_int_equal(slice_find(abc, 'c'), 2);
    assert_int_equal(slice_find(abc, 'x'), 3);
    assert_int_equal(slice_find(slice_of(NULL, 0), 'x'), 0);
    assert_true(slice_starts_with(abc, SLICE_LITERAL("ab")));
    assert_true(slice_starts_with(abc, slice_of(NULL, 0)));
    assert_false(slice_starts_with(abc, SLICE_LITERAL("abcd")));
    assert_false(slice_starts_with(abc, SLICE_LITERAL("b")));
}

static void only_ascii_letters_ignore_case(void **state)
{
    (void)state;
    assert_true(
        slice_equal_nocase(SLICE_LITERAL("Content-LENGTH"), SLICE_LITERAL("content-length")));
    assert_false(slice_equal_nocase(SLICE_LITERAL("a"), SLICE_LITERAL("ab")));
    /* '@' and '`', '[' and '{' differ by the same bit as letters do. */
    assert_false(slice_equal_nocase(SLICE_LITERAL("@"), SLICE_LITERAL("`")));
    assert_false(slice_equal_nocase(SLICE_LITERAL("["), SLICE_LITERAL("{")));
    assert_false(slice_equal_nocase(SLICE_LITERAL("\xc4"), SLICE_LITERAL("\xe4")));
}

static void trim_takes_spaces_and_tabs_only(void **state)
{
    (void)state;
    static const struct {
        const char *input, *output;
    } cases[] = {
        {"", ""}, {" ", ""}, {" \t \t", ""}, {"a", "a"}, {" a b\t", "a b"}, {"\na\r", "\na\r"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_true(slice_equal_text(slice_trim(text(cases[i].input)), cases[i].output));
    AUTO_STRING copy = slice_to_text(slice_trim(SLICE_LITERAL(" ab ")));
    assert_string_equal(copy, "ab");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_unsigned_bytes_then_length),
        cmocka_unit_test(parts_never_leave_the_slice),
        cmocka_unit_test(only_ascii_letters_ignore_case),
        cmocka_unit_test(trim_takes_spaces_and_tabs_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
