/* Ranges in directory arguments. */
#include "expand.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct collected {
    char text[1024];
    size_t bytes;
};

static enum err collect(void *context, const char *text)
{
    struct collected *collected = context;
    collected->bytes += (size_t)snprintf(collected->text + collected->bytes,
                                         sizeof collected->text - collected->bytes, "%s ", text);
    return OK;
}

static void ranges_take_all_their_values_in_order(void **unused)
{
    (void)unused;
    static const struct {
        const char *pattern, *strings;
    } cases[] = {
        {"/data", "/data "},
        {"/d{1...3}", "/d1 /d2 /d3 "},
        {"/d{9...11}/x", "/d9/x /d10/x /d11/x "},
        {"/d{08...10}", "/d08 /d09 /d10 "},
        {"/{1...2}/{0...1}", "/1/0 /1/1 /2/0 /2/1 "},
        {"{5...5}", "5 "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct collected collected = {.bytes = 0};
        assert_int_equal(expand_ranges(cases[i].pattern, 24, collect, &collected), OK);
        assert_string_equal(collected.text, cases[i].strings);
    }
}

static void malformed_or_too_many_are_refused(void **unused)
{
    (void)unused;
    static const char *const patterns[] = {"/d{1..3}",   "/d{1...",           "/d{3...1}",
                                           "/d{a...b}",  "/d{...3}",          "/d{1}",
                                           "/d{1...25}", "/d{1...9999999999}"};
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        struct collected collected = {.bytes = 0};
        assert_int_equal(expand_ranges(patterns[i], 24, collect, &collected), ERR_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_take_all_their_values_in_order),
        cmocka_unit_test(malformed_or_too_many_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
