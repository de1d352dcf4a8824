/* Tests of s3/uri.h. */
#include "base/bytes.h"
#include "s3/uri.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void a_percent_escape_is_decoded_once(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool plus_is_space;
        const char *decoded; /* NULL: refused */
    } cases[] = {
        {"/a%20b", false, "/a b"},
        {"%252F", false, "%2F"},
        {"%2f%2F", false, "//"},
        {"a+b", false, "a+b"},
        {"a+b%2B", true, "a b+"},
        {"..//./", false, "..//./"},
        {"%", false, NULL},
        {"%2", false, NULL},
        {"a%2", false, NULL},
        {"%zz", false, NULL},
        {"%+1", false, NULL},
        {"", false, ""},
        {"%C3%BC%c3%bc", false, "\xc3\xbc\xc3\xbc"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AUTO_VALUE(bytes) out = {.max = 64};
        enum s3_error error =
            s3_uri_decode(&out, slice_of_text(cases[i].text), cases[i].plus_is_space);
        assert_int_equal(error, cases[i].decoded == NULL ? S3_INVALID_URI : S3_OK);
        if (cases[i].decoded != NULL)
            assert_true(slice_equal_text(bytes_slice(&out), cases[i].decoded));
    }
}

static void all_but_unreserved_bytes_are_encoded(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        uint8_t byte = (uint8_t)c;
        AUTO_VALUE(bytes) out = {.max = 64};
        AUTO_VALUE(bytes) back = {.max = 64};
        bool unreserved = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || (c != 0 && strchr("-._~", c) != NULL);
        s3_uri_encode(&out, slice_of(&byte, 1), false);
        assert_int_equal(out.bytes, unreserved ? 1 : 3);
        assert_int_equal(s3_uri_decode(&back, bytes_slice(&out), true), S3_OK);
        assert_int_equal(back.bytes, 1);
        assert_int_equal(back.data[0], byte);
    }
    AUTO_VALUE(bytes) path = {.max = 64};
    s3_uri_encode(&path, SLICE_LITERAL("/a b/"), true);
    assert_true(slice_equal_text(bytes_slice(&path), "/a%20b/"));
}

static void a_query_splits_into_decoded_pairs(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) arena = {.max = 64};
    struct s3_pair pairs[4];
    uint32_t count = 0;
    assert_int_equal(
        s3_uri_split_query(SLICE_LITERAL("acl&&a%26=b%3D=c&x="), &arena, pairs, 4, &count), S3_OK);
    assert_int_equal(count, 3);
    assert_true(slice_equal_text(pairs[0].name, "acl"));
    assert_false(pairs[0].has_equals);
    assert_non_null(pairs[0].value.data);
    assert_int_equal(pairs[0].value.bytes, 0);
    assert_true(slice_equal_text(pairs[1].name, "a&"));
    assert_true(slice_equal_text(pairs[1].value, "b==c"));
    assert_true(slice_equal_text(pairs[2].name, "x"));
    assert_true(pairs[2].has_equals);
}

static void a_query_of_too_many_pairs_is_refused(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) arena = {.max = 64};
    struct s3_pair pairs[2];
    uint32_t count = 0;
    assert_int_equal(s3_uri_split_query(SLICE_LITERAL("a&b&c"), &arena, pairs, 2, &count),
                     S3_INVALID_ARGUMENT);
}

static void only_well_formed_utf8_is_valid(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"", true},
        {"plain", true},
        {"\x01\x1f\x7f", true},
        {"\xc3\xbc", true},
        {"\xe4\xb8\xad", true},
        {"\xf0\x9f\x98\x80", true},
        {"\xf4\x8f\xbf\xbf", true},
        {"\x80", false},
        {"\xc3", false},
        {"\xc0\x80", false},         /* overlong */
        {"\xe0\x9f\xbf", false},     /* overlong */
        {"\xf0\x8f\xbf\xbf", false}, /* overlong */
        {"\xed\xa0\x80", false},     /* surrogate */
        {"\xf4\x90\x80\x80", false}, /* above U+10FFFF */
        {"\xf8\x88\x80\x80\x80", false},
        {"\xff", false},
        {"a\xe4\xb8", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(s3_utf8_valid(slice_of_text(cases[i].text)), cases[i].valid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_percent_escape_is_decoded_once),
        cmocka_unit_test(all_but_unreserved_bytes_are_encoded),
        cmocka_unit_test(a_query_splits_into_decoded_pairs),
        cmocka_unit_test(a_query_of_too_many_pairs_is_refused),
        cmocka_unit_test(only_well_formed_utf8_is_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
