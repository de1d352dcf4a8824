/* Tests of s3/tagging.h: which tags are accepted, from a body or a header, and how they come
 * back. */
#include "s3/tagging.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void tags_are_checked(void **state)
{
    (void)state;
    static char long_text[2 * TAG_VALUE_CHARACTERS_MAX + 3];
    for (size_t i = 0; i < TAG_VALUE_CHARACTERS_MAX + 1; i++)
        memcpy(long_text + 2 * i, "\xc3\xa9", 2);
    struct slice e128 = slice_of(long_text, 2 * TAG_KEY_CHARACTERS_MAX);
    struct slice e129 = slice_of(long_text, 2 * TAG_KEY_CHARACTERS_MAX + 2);
    struct slice e256 = slice_of(long_text, 2 * TAG_VALUE_CHARACTERS_MAX);
    struct slice e257 = slice_of(long_text, 2 * TAG_VALUE_CHARACTERS_MAX + 2);
    const struct {
        struct tag tags[2];
        enum s3_error error;
    } cases[] = {
        {{{SLICE_LITERAL("a"), SLICE_LITERAL("")}, {SLICE_LITERAL("A"), SLICE_LITERAL("x")}},
         S3_OK},
        {{{SLICE_LITERAL("a +-=._:/@9Z"), e256}, {e128, SLICE_LITERAL("")}}, S3_OK},
        {{{SLICE_LITERAL("a"), SLICE_LITERAL("1")}, {SLICE_LITERAL("a"), SLICE_LITERAL("2")}},
         S3_INVALID_TAG},
        {{{SLICE_LITERAL("a"), SLICE_LITERAL("")}, {SLICE_LITERAL(""), SLICE_LITERAL("")}},
         S3_INVALID_TAG},
        {{{SLICE_LITERAL("a"), SLICE_LITERAL("")}, {e129, SLICE_LITERAL("")}}, S3_INVALID_TAG},
        {{{SLICE_LITERAL("a"), SLICE_LITERAL("")}, {SLICE_LITERAL("b"), e257}}, S3_INVALID_TAG},
        {{{SLICE_LITERAL("a"), SLICE_LITERAL("")}, {SLICE_LITERAL("b\n"), SLICE_LITERAL("")}},
         S3_INVALID_TAG},
        {{{SLICE_LITERAL("a"), SLICE_LITERAL("")}, {SLICE_LITERAL("b"), SLICE_LITERAL("\0")}},
         S3_INVALID_TAG},
        {{{SLICE_LITERAL("a"), SLICE_LITERAL("")}, {SLICE_LITERAL("b"), SLICE_LITERAL("a,b")}},
         S3_INVALID_TAG},
        {{{SLICE_LITERAL("a"), SLICE_LITERAL("")}, {SLICE_LITERAL("AWS:x"), SLICE_LITERAL("")}},
         S3_INVALID_TAG},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(tags_check(cases[i].tags, 2, TAG_OBJECT_COUNT_MAX, NULL), cases[i].error);
    struct tag many[TAG_BUCKET_COUNT_MAX + 1] = {0};
    assert_int_equal(tags_check(many, TAG_OBJECT_COUNT_MAX + 1, TAG_OBJECT_COUNT_MAX, NULL),
                     S3_BAD_REQUEST);
    assert_int_equal(tags_check(many, TAG_BUCKET_COUNT_MAX + 1, TAG_BUCKET_COUNT_MAX, NULL),
                     S3_BAD_REQUEST);
    assert_int_equal(tags_check(NULL, 0, TAG_OBJECT_COUNT_MAX, NULL), S3_OK);
}

static void a_header_is_a_query_of_tags(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        enum s3_error error;
        const char *tags; /* key=value; ... */
    } cases[] = {
        {"", S3_OK, ""},
        {"&", S3_OK, ""},
        {"a=1", S3_OK, "a=1;"},
        {"a", S3_OK, "a=;"},
        {"a=&", S3_OK, "a=;"},
        {"a=1&b=2&&c=", S3_OK, "a=1;b=2;c=;"},
        {"a+b=c%20d", S3_OK, "a b=c d;"},
        {"a=b=c", S3_OK, "a=b=c;"},
        {"%C3%A9=%2B%2f", S3_OK, "\xc3\xa9=+/;"},
        {"a=1&A=2", S3_OK, "a=1;A=2;"},
        {"1&2&3&4&5&6&7&8&9&10", S3_OK, "1=;2=;3=;4=;5=;6=;7=;8=;9=;10=;"},
        {"1&2&3&4&5&6&7&8&9&10&11", S3_BAD_REQUEST, NULL},
        {"=", S3_INVALID_ARGUMENT, NULL},
        {"=v", S3_INVALID_ARGUMENT, NULL},
        {"a%", S3_INVALID_ARGUMENT, NULL},
        {"a=%zz", S3_INVALID_ARGUMENT, NULL},
        {"a=1&a=2", S3_INVALID_ARGUMENT, NULL},
        {"a=%FF", S3_INVALID_ARGUMENT, NULL},
        {"%C3=a", S3_INVALID_ARGUMENT, NULL},
        {"a!=1", S3_INVALID_TAG, NULL},
        {"a=(", S3_INVALID_TAG, NULL},
        {"aws%3Ax=1", S3_INVALID_TAG, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AUTO_VALUE(bytes) encoded = {.max = TAGS_BYTES_MAX};
        enum s3_error error = tags_from_header(slice_of_text(cases[i].header), NULL, &encoded);
        if (error != cases[i].error)
            print_error("%s\n", cases[i].header);
        assert_int_equal(error, cases[i].error);
        if (error != S3_OK)
            continue;
        struct tag tags[TAG_BUCKET_COUNT_MAX];
        uint32_t count;
        assert_int_equal(tags_decode(bytes_slice(&encoded), tags, &count), OK);
        AUTO_VALUE(bytes) text = {.max = 1024};
        for (uint32_t k = 0; k < count; k++)
            bytes_append_format(&text, "%.*s=%.*s;", SLICE_PRINT(tags[k].key),
                                SLICE_PRINT(tags[k].value));
        assert_true(slice_equal_text(bytes_slice(&text), cases[i].tags));
    }
    AUTO_VALUE(bytes) many = {.max = 4096};
    AUTO_VALUE(bytes) encoded = {.max = TAGS_BYTES_MAX};
    for (int i = 0; i < 129; i++)
        bytes_append_format(&many, "%d&", i);
    assert_int_equal(tags_from_header(bytes_slice(&many), NULL, &encoded), S3_INVALID_ARGUMENT);
}

static void the_largest_set_fits_its_encoding(void **state)
{
    (void)state;
    static char text[4 * TAG_VALUE_CHARACTERS_MAX];
    for (size_t i = 0; i < TAG_VALUE_CHARACTERS_MAX; i++)
        memcpy(text + 4 * i, "\xf0\x9f\x98\x80", 4);
    struct tag tags[TAG_BUCKET_COUNT_MAX];
    for (size_t i = 0; i < TAG_BUCKET_COUNT_MAX; i++)
        tags[i] = (struct tag){.key = slice_of(text, 4 * TAG_KEY_CHARACTERS_MAX),
                               .value = slice_of(text, sizeof text)};
    assert_int_equal(tags_check(tags, 1, TAG_OBJECT_COUNT_MAX, NULL), S3_OK);
    AUTO_VALUE(bytes) encoded = {.max = TAGS_BYTES_MAX};
    tags_encode(&encoded, tags, TAG_BUCKET_COUNT_MAX);
    assert_false(encoded.overflow);
    assert_int_equal(encoded.bytes, TAGS_BYTES_MAX);
}

static void what_cannot_be_tags_is_not_read(void **state)
{
    (void)state;
    struct tag tags[TAG_BUCKET_COUNT_MAX];
    uint32_t count = 7;
    assert_int_equal(tags_decode(slice_of(NULL, 0), tags, &count), OK);
    assert_int_equal(count, 0);
    assert_int_equal(tags_decode(SLICE_LITERAL("\x02\x01\x01k\x01v"), tags, &count),
                     ERR_UNSUPPORTED);
    static const char one[] = "\x01\x01\x01k\x01v";
    assert_int_equal(tags_decode(slice_of(one, 6), tags, &count), OK);
    assert_int_equal(count, 1);
    for (size_t cut = 1; cut < 6; cut++)
        assert_int_equal(tags_decode(slice_of(one, cut), tags, &count), ERR_CORRUPT);
    assert_int_equal(tags_decode(slice_of(one, 7), tags, &count), ERR_CORRUPT);
    assert_int_equal(tags_decode(SLICE_LITERAL("\x01\x33"), tags, &count), ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_are_checked),
        cmocka_unit_test(a_header_is_a_query_of_tags),
        cmocka_unit_test(the_largest_set_fits_its_encoding),
        cmocka_unit_test(what_cannot_be_tags_is_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
