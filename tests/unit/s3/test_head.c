/* Tests of s3/head.h. */
#include "head_text.h"
#include "s3/uri.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define LINE "PUT /b/k HTTP/1.1\nhost: h\n"

static const struct {
    const char *name;
    const char *head;
    enum s3_error error;
} cases[] = {
    {"no body", LINE, S3_OK},
    {"length", LINE "content-length: 5\n", S3_OK},
    {"chunked", LINE "Transfer-Encoding: Chunked\n", S3_OK},
    {"1.0 without host", "GET / HTTP/1.0\n", S3_OK},
    {"both framings", LINE "content-length: 5\ntransfer-encoding: chunked\n", S3_INVALID_REQUEST},
    {"two lengths", LINE "content-length: 5\nContent-Length: 5\n", S3_INVALID_REQUEST},
    {"two codings", LINE "transfer-encoding: chunked\ntransfer-encoding: chunked\n",
     S3_INVALID_REQUEST},
    {"another coding", LINE "transfer-encoding: gzip, chunked\n", S3_NOT_IMPLEMENTED},
    {"identity", LINE "transfer-encoding: identity\n", S3_NOT_IMPLEMENTED},
    {"signed length", LINE "content-length: +5\n", S3_INVALID_REQUEST},
    {"list of lengths", LINE "content-length: 5, 5\n", S3_INVALID_REQUEST},
    {"empty length", LINE "content-length:\n", S3_INVALID_REQUEST},
    {"length above 2^63", LINE "content-length: 9223372036854775808\n", S3_INVALID_REQUEST},
    {"two hosts", LINE "Host: h\n", S3_INVALID_REQUEST},
    {"two authorizations", LINE "authorization: a\nAuthorization: a\n", S3_INVALID_REQUEST},
    {"no host", "GET / HTTP/1.1\n", S3_INVALID_REQUEST},
    {"coding in 1.0", "PUT / HTTP/1.0\ntransfer-encoding: chunked\n", S3_INVALID_REQUEST},
    {"HTTP/2.0", "GET / HTTP/2.0\nhost: h\n", S3_INVALID_REQUEST},
    {"space before the colon", LINE "content-length : 5\n", S3_INVALID_REQUEST},
    {"empty name", LINE ": 5\n", S3_INVALID_REQUEST},
    {"folded line", LINE " transfer-encoding: chunked\n", S3_INVALID_REQUEST},
    {"control byte in a value", LINE "a: b\rc\n", S3_INVALID_REQUEST},
    {"empty target", "GET  HTTP/1.1\nhost: h\n", S3_INVALID_URI},
    {"control byte in the target", "GET /\x01 HTTP/1.1\nhost: h\n", S3_INVALID_URI},
    {"fragment", "GET /a#b HTTP/1.1\nhost: h\n", S3_INVALID_URI},
    {"strange method", "G(T / HTTP/1.1\nhost: h\n", S3_METHOD_NOT_ALLOWED},
    {"long method", "AAAAAAAAAAAAAAAAA / HTTP/1.1\nhost: h\n", S3_METHOD_NOT_ALLOWED},
};

static void ambiguous_heads_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct head_text text;
        struct s3_framing framing = {0};
        head_text_init(&text, cases[i].head);
        enum s3_error error = s3_head_check(&text.head, NULL, &framing);
        if (error != cases[i].error)
            fail_msg("%s: got %d", cases[i].name, error);
    }
}

static void framing_says_how_the_body_ends(void **state)
{
    (void)state;
    struct head_text text;
    struct s3_framing framing = {0};
    head_text_init(&text, LINE "content-length: 42\n");
    assert_int_equal(s3_head_check(&text.head, NULL, &framing), S3_OK);
    assert_true(framing.has_content_length);
    assert_false(framing.chunked);
    assert_int_equal(framing.content_length, 42);
    head_text_init(&text, LINE "transfer-encoding: chunked\n");
    assert_int_equal(s3_head_check(&text.head, NULL, &framing), S3_OK);
    assert_false(framing.has_content_length);
    assert_true(framing.chunked);
}

static void sizes_have_limits(void **state)
{
    (void)state;
    static char long_text[S3_HEAD_BYTES_MAX];
    struct head_text text;
    struct s3_framing framing = {0};
    memset(long_text, 'a', sizeof long_text);
    head_text_init(&text, LINE "x: y\n");
    text.headers[1].value = slice_of(long_text, S3_HEADER_LINE_BYTES_MAX);
    assert_int_equal(s3_head_check(&text.head, NULL, &framing),
                     S3_REQUEST_HEADER_SECTION_TOO_LARGE);
    text.head.header_count = 6;
    for (int i = 1; i < 6; i++)
        text.headers[i] = (struct s3_header){SLICE_LITERAL("x"), slice_of(long_text, 8000)};
    assert_int_equal(s3_head_check(&text.head, NULL, &framing),
                     S3_REQUEST_HEADER_SECTION_TOO_LARGE);
    text.head.header_count = 4;
    assert_int_equal(s3_head_check(&text.head, NULL, &framing), S3_OK);
    text.head.header_count = S3_HEADERS_MAX + 1;
    for (int i = 1; i <= S3_HEADERS_MAX; i++)
        text.headers[i] = (struct s3_header){SLICE_LITERAL("x"), SLICE_LITERAL("y")};
    assert_int_equal(s3_head_check(&text.head, NULL, &framing),
                     S3_REQUEST_HEADER_SECTION_TOO_LARGE);
    text.head.header_count = 1;
    text.head.target = slice_of(long_text, S3_TARGET_BYTES_MAX + 1);
    assert_int_equal(s3_head_check(&text.head, NULL, &framing), S3_INVALID_URI);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ambiguous_heads_are_refused),
        cmocka_unit_test(framing_says_how_the_body_ends),
        cmocka_unit_test(sizes_have_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
