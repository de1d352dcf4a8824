/* Tests of s3/name.h. */
#include "s3/name.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void bucket_names_follow_the_general_purpose_rules(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool valid;
    } cases[] = {
        {"abc", true},
        {"a.b-c", true},
        {"0ab", true},
        {"my-bucket.example.com", true},
        {"192.168.1.x", true},
        {"a23456789012345678901234567890123456789012345678901234567890123", true},
        {"", false},
        {"ab", false},
        {"a234567890123456789012345678901234567890123456789012345678901234", false},
        {"Abc", false},
        {"a_b", false},
        {"-abc", false},
        {"abc-", false},
        {".abc", false},
        {"abc.", false},
        {"a..b", false},
        {"192.168.5.4", false},
        {"a/b", false},
        {"xn--abc", false},
        {"sthree-abc", false},
        {"amzn-s3-demo-abc", false},
        {"abc-s3alias", false},
        {"abc--ol-s3", false},
        {"abc--x-s3", false},
        {"a\xc3\xbcz", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (s3_bucket_name_valid(slice_of_text(cases[i].name)) != cases[i].valid)
            fail_msg("bucket name %s", cases[i].name);
    }
}

static void a_key_is_any_utf8_without_nul(void **state)
{
    (void)state;
    static const char *const good[] = {"a",    "..",       "../..", "//a//", "/",
                                       "a\nb", "\x01\x7f", " ",     "%2F",   "\xc3\xbc"};
    char longest[S3_KEY_BYTES_MAX + 1];
    memset(longest, 'k', sizeof longest);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(s3_key_check(slice_of_text(good[i])), S3_OK);
    assert_int_equal(s3_key_check(slice_of(longest, S3_KEY_BYTES_MAX)), S3_OK);
    assert_int_equal(s3_key_check(slice_of(longest, sizeof longest)), S3_KEY_TOO_LONG);
    assert_int_equal(s3_key_check(slice_of("a\0b", 3)), S3_INVALID_URI);
    assert_int_equal(s3_key_check(SLICE_LITERAL("a\xff")), S3_INVALID_URI);
    assert_int_equal(s3_key_check(SLICE_LITERAL("")), S3_INVALID_URI);
    assert_int_equal(s3_key_prefix_check(SLICE_LITERAL("")), S3_OK);
    assert_int_equal(s3_key_prefix_check(slice_of("\0", 1)), S3_INVALID_ARGUMENT);
}

static void a_header_value_cannot_split_a_response(void **state)
{
    (void)state;
    assert_true(s3_header_value_valid(SLICE_LITERAL("a\tb \xc3\xbc")));
    assert_true(s3_header_value_valid(SLICE_LITERAL("")));
    assert_false(s3_header_value_valid(SLICE_LITERAL("a\r\nb")));
    assert_false(s3_header_value_valid(SLICE_LITERAL("a\nb")));
    assert_false(s3_header_value_valid(slice_of("a\0b", 3)));
    assert_false(s3_header_value_valid(SLICE_LITERAL("\x7f")));
    assert_true(s3_header_name_valid(SLICE_LITERAL("X-Amz-Meta-a_b~1")));
    assert_false(s3_header_name_valid(SLICE_LITERAL("a b")));
    assert_false(s3_header_name_valid(SLICE_LITERAL("a:")));
    assert_false(s3_header_name_valid(SLICE_LITERAL("")));
    assert_false(s3_header_name_valid(slice_of("a\0", 2)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bucket_names_follow_the_general_purpose_rules),
        cmocka_unit_test(a_key_is_any_utf8_without_nul),
        cmocka_unit_test(a_header_value_cannot_split_a_response),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
