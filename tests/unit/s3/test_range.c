/* Range, If-Range, x-amz-copy-source-range and Content-Range. */
#include "s3/date.h"
#include "s3/range.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void a_range_is_resolved_as_s3_does(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        uint64_t object_bytes;
        enum range_outcome outcome;
        uint64_t offset, bytes;
    } cases[] = {
        {"bytes=0-0", 100, RANGE_SATISFIABLE, 0, 1},
        {"bytes=0-99", 100, RANGE_SATISFIABLE, 0, 100},
        {"bytes=0-100", 100, RANGE_SATISFIABLE, 0, 100},
        {"bytes=50-", 100, RANGE_SATISFIABLE, 50, 50},
        {"bytes=99-99", 100, RANGE_SATISFIABLE, 99, 1},
        {"bytes=00-01", 100, RANGE_SATISFIABLE, 0, 2},
        {"BYTES=0-1", 100, RANGE_SATISFIABLE, 0, 2},
        {"bytes=5-99999999999999999999999", 100, RANGE_SATISFIABLE, 5, 95},
        {"bytes=5-18446744073709551615", 100, RANGE_SATISFIABLE, 5, 95},
        {"bytes=-1", 100, RANGE_SATISFIABLE, 99, 1},
        {"bytes=-100", 100, RANGE_SATISFIABLE, 0, 100},
        {"bytes=-101", 100, RANGE_SATISFIABLE, 0, 100},
        {"bytes=-99999999999999999999999", 100, RANGE_SATISFIABLE, 0, 100},
        {"bytes=-0", 100, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-0", 0, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-", 0, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=100-", 100, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=100-110", 100, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=18446744073709551616-", 100, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-5", 0, RANGE_NONE, 0, 0},
        {NULL, 100, RANGE_NONE, 0, 0},
        {"", 100, RANGE_NONE, 0, 0},
        {"bytes", 100, RANGE_NONE, 0, 0},
        {"bytes=", 100, RANGE_NONE, 0, 0},
        {"bytes=-", 100, RANGE_NONE, 0, 0},
        {"bytes=,", 100, RANGE_NONE, 0, 0},
        {"bytes= -1", 100, RANGE_NONE, 0, 0},
        {"bytes=--1", 100, RANGE_NONE, 0, 0},
        {"bytes=0 -1", 100, RANGE_NONE, 0, 0},
        {"bytes=0--1", 100, RANGE_NONE, 0, 0},
        {"bytes=10-5", 100, RANGE_NONE, 0, 0},
        {"bytes=102-0", 100, RANGE_NONE, 0, 0},
        {"bytes=abc", 100, RANGE_NONE, 0, 0},
        {"bytes=a-z", 100, RANGE_NONE, 0, 0},
        {"bytes=100-x", 100, RANGE_NONE, 0, 0},
        {"bytes=+1-2", 100, RANGE_NONE, 0, 0},
        {"foo=0-1", 100, RANGE_NONE, 0, 0},
        {"bytes=0-0,1-2", 100, RANGE_NONE, 0, 0},
        {"bytes=0-0, -1", 100, RANGE_NONE, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct range range = {0};
        print_message("%s of %u\n", cases[i].header, (unsigned)cases[i].object_bytes);
        assert_int_equal(
            range_resolve(slice_of_text(cases[i].header), cases[i].object_bytes, &range),
            cases[i].outcome);
        assert_int_equal(range.offset, cases[i].offset);
        assert_int_equal(range.bytes, cases[i].bytes);
    }
}

static void if_range_takes_the_strong_tag_or_the_exact_date(void **state)
{
    (void)state;
    uint64_t modified_ms = 0;
    assert_true(s3_date_parse_http(SLICE_LITERAL("Mon, 12 Oct 2009 17:50:30 GMT"), &modified_ms));
    static const struct {
        const char *header;
        bool holds;
    } cases[] = {
        {NULL, true},
        {"\"abc\"", true},
        {"abc", true},
        {"W/\"abc\"", false},
        {"\"abd\"", false},
        {"*", false},
        {"Mon, 12 Oct 2009 17:50:30 GMT", true},
        {"Mon, 12 Oct 2009 17:50:31 GMT", false},
        {"Mon, 12 Oct 2009 17:50:29 GMT", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        print_message("%s\n", cases[i].header);
        assert_int_equal(range_if_range_holds(slice_of_text(cases[i].header), SLICE_LITERAL("abc"),
                                              modified_ms + 250),
                         cases[i].holds);
    }
}

static void a_copy_range_is_strict(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        enum s3_error error;
        uint64_t offset, bytes;
    } cases[] = {
        {"bytes=0-999", S3_OK, 0, 1000},
        {"bytes=100-200", S3_OK, 100, 101},
        {"bytes=0-1000", S3_INVALID_ARGUMENT, 0, 0},
        {"bytes=1000-1000", S3_INVALID_ARGUMENT, 0, 0},
        {"bytes=0-18446744073709551616", S3_INVALID_ARGUMENT, 0, 0},
        {"byte=100-200", S3_INVALID_ARGUMENT, 0, 0},
        {"bytes=invalid-range", S3_INVALID_ARGUMENT, 0, 0},
        {"bytes=200-100", S3_INVALID_ARGUMENT, 0, 0},
        {"bytes=-2-300", S3_INVALID_ARGUMENT, 0, 0},
        {"bytes=12-aa", S3_INVALID_ARGUMENT, 0, 0},
        {"bytes=12-", S3_INVALID_ARGUMENT, 0, 0},
        {"bytes=-12", S3_INVALID_ARGUMENT, 0, 0},
        {"", S3_INVALID_ARGUMENT, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct range range = {0};
        print_message("%s\n", cases[i].header);
        assert_int_equal(range_copy_source(slice_of_text(cases[i].header), 1000, NULL, &range),
                         cases[i].error);
        assert_int_equal(range.offset, cases[i].offset);
        assert_int_equal(range.bytes, cases[i].bytes);
    }
}

static void a_refused_copy_range_names_the_argument(void **state)
{
    (void)state;
    AUTO_VALUE(s3_failure) failure = {0};
    struct range range;
    assert_int_equal(range_copy_source(SLICE_LITERAL("bytes=5-1000"), 1000, &failure, &range),
                     S3_INVALID_ARGUMENT);
    assert_true(slice_equal_text(s3_failure_message(&failure, S3_INVALID_ARGUMENT),
                                 "Range specified is not valid for source object of size: 1000"));
    assert_string_equal(failure.details[0].element, "ArgumentName");
    assert_true(slice_equal_text(bytes_slice(&failure.details[0].text), "x-amz-copy-source-range"));
}

static void content_range_counts_inclusively(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) out = {.max = 128};
    range_append_content_range(&out, (struct range){.offset = 99, .bytes = 1}, 100);
    bytes_append_byte(&out, ' ');
    range_append_unsatisfied(&out, 100);
    assert_true(slice_equal_text(bytes_slice(&out), "bytes 99-99/100 bytes */100"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_is_resolved_as_s3_does),
        cmocka_unit_test(if_range_takes_the_strong_tag_or_the_exact_date),
        cmocka_unit_test(a_copy_range_is_strict),
        cmocka_unit_test(a_refused_copy_range_names_the_argument),
        cmocka_unit_test(content_range_counts_inclusively),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
