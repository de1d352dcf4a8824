/* The continuation token of ListObjectsV2: round trip, and what is refused. */
#include "listing_token.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

static void a_name_survives_its_token(void **state)
{
    (void)state;
    uint8_t name[LISTING_TOKEN_NAME_BYTES_MAX];
    for (size_t bytes = 1; bytes <= sizeof name; bytes += bytes < 16 ? 1 : 63) {
        for (size_t i = 0; i < bytes; i++)
            name[i] = (uint8_t)(i * 37 + bytes);
        AUTO_VALUE(bytes) token = {.max = LISTING_TOKEN_CHARS_MAX};
        AUTO_VALUE(bytes) back = {.max = LISTING_TOKEN_NAME_BYTES_MAX};
        listing_token_append(&token, slice_of(name, bytes));
        assert_false(token.overflow);
        assert_true(listing_token_parse(bytes_slice(&token), &back));
        assert_true(slice_equal(bytes_slice(&back), slice_of(name, bytes)));
    }
}

static void the_longest_name_fits(void **state)
{
    (void)state;
    uint8_t name[LISTING_TOKEN_NAME_BYTES_MAX] = {1};
    AUTO_VALUE(bytes) token = {.max = LISTING_TOKEN_CHARS_MAX};
    AUTO_VALUE(bytes) back = {.max = LISTING_TOKEN_NAME_BYTES_MAX};
    listing_token_append(&token, slice_of(name, sizeof name));
    assert_false(token.overflow);
    assert_true(listing_token_parse(bytes_slice(&token), &back));
    assert_int_equal(back.bytes, sizeof name);
}

static void a_changed_token_is_refused(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) token = {.max = LISTING_TOKEN_CHARS_MAX};
    listing_token_append(&token, SLICE_LITERAL("photos/2026/"));
    for (size_t i = 0; i < token.bytes; i++) {
        AUTO_VALUE(bytes) back = {.max = LISTING_TOKEN_NAME_BYTES_MAX};
        uint8_t kept = token.data[i];
        token.data[i] = kept == 'A' ? 'B' : 'A';
        assert_false(listing_token_parse(bytes_slice(&token), &back));
        assert_int_equal(back.bytes, 0);
        token.data[i] = kept;
    }
}

static void garbage_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"",           "A", "====", "photos/2026/", "AQAAAAAAAAAA",
                                        "not base64!"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        AUTO_VALUE(bytes) back = {.max = LISTING_TOKEN_NAME_BYTES_MAX};
        assert_false(listing_token_parse(slice_of_text(texts[i]), &back));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_survives_its_token),
        cmocka_unit_test(the_longest_name_fits),
        cmocka_unit_test(a_changed_token_is_refused),
        cmocka_unit_test(garbage_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
