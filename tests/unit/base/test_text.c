/* Strict text conversions. */
#include "base/text.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void decimal_numbers_are_strict(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t max;
        enum err err;
        uint64_t value;
    } cases[] = {
        {"0", 0, OK, 0},
        {"7", 7, OK, 7},
        {"007", 7, OK, 7},
        {"8", 7, ERR_INVALID, 0},
        {"18446744073709551615", UINT64_MAX, OK, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, ERR_INVALID, 0},
        {"99999999999999999999999", UINT64_MAX, ERR_INVALID, 0},
        {"", 9, ERR_INVALID, 0},
        {"+1", 9, ERR_INVALID, 0},
        {"-1", UINT64_MAX, ERR_INVALID, 0},
        {" 1", 9, ERR_INVALID, 0},
        {"1 ", 9, ERR_INVALID, 0},
        {"0x1", 9, ERR_INVALID, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t value = 0;
        assert_int_equal(text_parse_u64(slice_of_text(cases[i].text), cases[i].max, &value),
                         cases[i].err);
        assert_true(value == cases[i].value);
    }
}

static void hex_goes_both_ways(void **state)
{
    (void)state;
    static const uint8_t raw[] = {0x00, 0x9a, 0xff, 0x10};
    char hex[9];
    text_hex(slice_of(raw, sizeof raw), hex);
    assert_string_equal(hex, "009aff10");
    uint8_t back[4] = {0};
    assert_int_equal(text_parse_hex(SLICE_LITERAL("009AfF10"), back, 4), OK);
    assert_memory_equal(back, raw, sizeof raw);
    static const char *const bad[] = {"",          "009aff1",  "009aff1g",
                                      "009aff100", "009aff1 ", "0x9aff10"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(text_parse_hex(slice_of_text(bad[i]), back, 4), ERR_INVALID);
    assert_int_equal(text_parse_hex(slice_of(NULL, 0), back, 0), OK);
}

static void base64_is_that_of_rfc_4648(void **state)
{
    (void)state;
    static const struct {
        const char *plain, *encoded;
    } cases[] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xff\xef\xbe", "/+++"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AUTO_VALUE(bytes) out = {.max = 100};
        text_base64(&out, slice_of_text(cases[i].plain));
        assert_true(slice_equal_text(bytes_slice(&out), cases[i].encoded));
        uint8_t back[8];
        size_t bytes = 99;
        size_t exact = strlen(cases[i].plain);
        assert_int_equal(text_parse_base64(slice_of_text(cases[i].encoded), back, exact, &bytes),
                         OK);
        assert_true(slice_equal_text(slice_of(back, bytes), cases[i].plain));
        if (exact > 0)
            assert_int_equal(
                text_parse_base64(slice_of_text(cases[i].encoded), back, exact - 1, &bytes),
                ERR_INVALID);
    }
}

static void malformed_base64_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "Z",        "Zg",   "Zg=",   "Zg===",     "Zh==",  "Zm9=", "====", "Z===",
        "Zg==Zg==", "Zm=v", "Zm9\n", "Zm9vYg\n=", " Zm9v", "Zm-_", "=Zm9", "Zg= ",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint8_t out[16];
        size_t bytes = 0;
        assert_int_equal(text_parse_base64(slice_of_text(bad[i]), out, sizeof out, &bytes),
                         ERR_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decimal_numbers_are_strict),
        cmocka_unit_test(hex_goes_both_ways),
        cmocka_unit_test(base64_is_that_of_rfc_4648),
        cmocka_unit_test(malformed_base64_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
