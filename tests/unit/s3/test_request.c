/* Tests of s3/request.h and s3/operation.h. */
#include "head_text.h"
#include "s3/name.h"
#include "s3/request.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static const char *const domains[] = {"s3.example.com", "localhost"};
static const struct s3_config config = {.domains = domains, .domain_count = 2};

/* Parse the head; NULL when refused, with the reason in `out_error`. */
static struct s3_request *parse(struct head_text *text, const char *head, enum s3_error *out_error)
{
    struct s3_request *request = NULL;
    head_text_init(text, head);
    *out_error = s3_request_new(&text->head, &config, NULL, &request);
    return request;
}

static const struct {
    const char *name;
    const char *head;
    const char *bucket;
    const char *key;
    enum s3_error error;
} addresses[] = {
    {"service", "GET / HTTP/1.1\nhost: s3.example.com\n", "", "", S3_OK},
    {"bucket", "GET /abc HTTP/1.1\nhost: s3.example.com\n", "abc", "", S3_OK},
    {"bucket with slash", "GET /abc/ HTTP/1.1\nhost: h\n", "abc", "", S3_OK},
    {"key", "GET /abc/k HTTP/1.1\nhost: h\n", "abc", "k", S3_OK},
    {"virtual host", "GET /k HTTP/1.1\nhost: abc.s3.example.com\n", "abc", "k", S3_OK},
    {"virtual host, bucket", "GET / HTTP/1.1\nhost: abc.localhost\n", "abc", "", S3_OK},
    {"virtual host with port", "GET /k HTTP/1.1\nhost: abc.LOCALHOST:9000\n", "abc", "k", S3_OK},
    {"virtual host with dots", "GET /k HTTP/1.1\nhost: a.b.c.localhost\n", "a.b.c", "k", S3_OK},
    {"host is the domain", "GET /abc/k HTTP/1.1\nhost: localhost:9000\n", "abc", "k", S3_OK},
    {"host ends like the domain", "GET /abc/k HTTP/1.1\nhost: xlocalhost\n", "abc", "k", S3_OK},
    {"IPv6 host", "GET /abc/k HTTP/1.1\nhost: [::1]:9000\n", "abc", "k", S3_OK},
    {"no host", "GET /abc/k HTTP/1.0\n", "abc", "k", S3_OK},
    {"absolute form", "GET http://h:9/abc/k HTTP/1.1\nhost: h:9\n", "abc", "k", S3_OK},
    {"absolute form, another host", "GET http://g/abc/k HTTP/1.1\nhost: h\n", "", "",
     S3_INVALID_URI},
    {"dots and slashes", "GET /abc//../k//.%2e/ HTTP/1.1\nhost: h\n", "abc", "/../k//../", S3_OK},
    {"decoded once", "GET /abc/%252e%2f+ HTTP/1.1\nhost: h\n", "abc", "%2e/+", S3_OK},
    {"escaped bucket", "GET /%61bc/k HTTP/1.1\nhost: h\n", "abc", "k", S3_OK},
    {"escaped question mark", "GET /abc/a%3Fb HTTP/1.1\nhost: h\n", "abc", "a?b", S3_OK},
    {"control bytes", "GET /abc/%01%0A HTTP/1.1\nhost: h\n", "abc", "\x01\n", S3_OK},
    {"NUL", "GET /abc/a%00 HTTP/1.1\nhost: h\n", "", "", S3_INVALID_URI},
    {"not UTF-8", "GET /abc/%ff HTTP/1.1\nhost: h\n", "", "", S3_INVALID_URI},
    {"bad escape", "GET /abc/%f HTTP/1.1\nhost: h\n", "", "", S3_INVALID_URI},
    {"bad bucket", "GET /Abc/k HTTP/1.1\nhost: h\n", "", "", S3_INVALID_BUCKET_NAME},
    {"empty bucket", "GET //k HTTP/1.1\nhost: h\n", "", "", S3_INVALID_BUCKET_NAME},
    {"bad bucket in the host", "GET /k HTTP/1.1\nhost: a_b.localhost\n", "", "",
     S3_INVALID_BUCKET_NAME},
    {"asterisk", "OPTIONS * HTTP/1.1\nhost: h\n", "", "", S3_INVALID_URI},
};

static void bucket_and_key_come_from_path_or_host(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        struct head_text text;
        enum s3_error error = S3_OK;
        AUTO(s3_request) request = parse(&text, addresses[i].head, &error);
        if (error != addresses[i].error)
            fail_msg("%s: error %d", addresses[i].name, error);
        if (error != S3_OK)
            continue;
        if (!slice_equal_text(s3_request_bucket(request), addresses[i].bucket) ||
            !slice_equal_text(s3_request_key(request), addresses[i].key))
            fail_msg("%s: bucket %.*s key %.*s", addresses[i].name,
                     SLICE_PRINT(s3_request_bucket(request)), SLICE_PRINT(s3_request_key(request)));
    }
}

static void a_key_of_1024_bytes_is_the_longest(void **state)
{
    (void)state;
    for (size_t bytes = S3_KEY_BYTES_MAX; bytes <= S3_KEY_BYTES_MAX + 1; bytes++) {
        char key[S3_KEY_BYTES_MAX + 2] = {0};
        char head[2 * S3_KEY_BYTES_MAX];
        struct head_text text;
        enum s3_error error = S3_OK;
        memset(key, 'k', bytes);
        snprintf(head, sizeof head, "GET /abc/%s HTTP/1.1\nhost: h\n", key);
        AUTO(s3_request) request = parse(&text, head, &error);
        assert_int_equal(error, bytes <= S3_KEY_BYTES_MAX ? S3_OK : S3_KEY_TOO_LONG);
        assert_int_equal(request != NULL, error == S3_OK);
    }
}

static const struct {
    const char *head;
    enum s3_operation operation; /* S3_OP_NONE: refused */
    enum s3_error error;
} routes[] = {
    {"GET / HTTP/1.0\n", S3_OP_LIST_BUCKETS, 0},
    {"GET /?x-id=ListBuckets&max-buckets=3 HTTP/1.0\n", S3_OP_LIST_BUCKETS, 0},
    {"PUT / HTTP/1.0\n", 0, S3_METHOD_NOT_ALLOWED},
    {"GET /abc HTTP/1.0\n", S3_OP_LIST_OBJECTS, 0},
    {"GET /abc?prefix=&delimiter=%2F HTTP/1.0\n", S3_OP_LIST_OBJECTS, 0},
    {"GET /abc?list-type=2&prefix HTTP/1.0\n", S3_OP_LIST_OBJECTS_V2, 0},
    {"GET /abc?versions HTTP/1.0\n", S3_OP_LIST_OBJECT_VERSIONS, 0},
    {"GET /abc?versions=&prefix=a HTTP/1.0\n", S3_OP_LIST_OBJECT_VERSIONS, 0},
    {"GET /abc?uploads HTTP/1.0\n", S3_OP_LIST_MULTIPART_UPLOADS, 0},
    {"HEAD /abc HTTP/1.0\n", S3_OP_HEAD_BUCKET, 0},
    {"PUT /abc HTTP/1.0\n", S3_OP_CREATE_BUCKET, 0},
    {"DELETE /abc HTTP/1.0\n", S3_OP_DELETE_BUCKET, 0},
    {"POST /abc?delete HTTP/1.0\n", S3_OP_DELETE_OBJECTS, 0},
    {"POST /abc HTTP/1.0\n", S3_OP_POST_OBJECT, 0},
    {"GET /abc?acl HTTP/1.0\n", S3_OP_GET_BUCKET_ACL, 0},
    {"PUT /abc?acl= HTTP/1.0\n", S3_OP_PUT_BUCKET_ACL, 0},
    {"DELETE /abc?acl HTTP/1.0\n", 0, S3_METHOD_NOT_ALLOWED},
    {"GET /abc?analytics HTTP/1.0\n", S3_OP_LIST_BUCKET_ANALYTICS, 0},
    {"GET /abc?analytics&id=1 HTTP/1.0\n", S3_OP_GET_BUCKET_ANALYTICS, 0},
    {"GET /abc?publicAccessBlock HTTP/1.0\n", S3_OP_GET_PUBLIC_ACCESS_BLOCK, 0},
    {"GET /abc/k HTTP/1.0\n", S3_OP_GET_OBJECT, 0},
    {"GET /abc/k?partNumber=2&versionId=null HTTP/1.0\n", S3_OP_GET_OBJECT, 0},
    {"GET /abc/k?response-content-type=a%2Fb HTTP/1.0\n", S3_OP_GET_OBJECT, 0},
    {"GET /abc/k?mine=1 HTTP/1.0\n", S3_OP_GET_OBJECT, 0},
    {"GET /abc/k?uploadId=u HTTP/1.0\n", S3_OP_LIST_PARTS, 0},
    {"GET /abc/k?attributes HTTP/1.0\n", S3_OP_GET_OBJECT_ATTRIBUTES, 0},
    {"HEAD /abc/k HTTP/1.0\n", S3_OP_HEAD_OBJECT, 0},
    {"PUT /abc/k HTTP/1.0\n", S3_OP_PUT_OBJECT, 0},
    {"PUT /abc/k HTTP/1.0\nX-Amz-Copy-Source: /a/b\n", S3_OP_COPY_OBJECT, 0},
    {"PUT /abc/k?partNumber=1&uploadId=u HTTP/1.0\n", S3_OP_UPLOAD_PART, 0},
    {"PUT /abc/k?partNumber=1&uploadId=u HTTP/1.0\nx-amz-copy-source: a/b\n",
     S3_OP_UPLOAD_PART_COPY, 0},
    {"POST /abc/k?uploads HTTP/1.0\n", S3_OP_CREATE_MULTIPART_UPLOAD, 0},
    {"POST /abc/k?uploadId=u HTTP/1.0\n", S3_OP_COMPLETE_MULTIPART_UPLOAD, 0},
    {"DELETE /abc/k?uploadId=u HTTP/1.0\n", S3_OP_ABORT_MULTIPART_UPLOAD, 0},
    {"DELETE /abc/k?versionId=v HTTP/1.0\n", S3_OP_DELETE_OBJECT, 0},
    {"DELETE /abc/k?tagging HTTP/1.0\n", S3_OP_DELETE_OBJECT_TAGGING, 0},
    {"POST /abc/k?select&select-type=2 HTTP/1.0\n", S3_OP_SELECT_OBJECT_CONTENT, 0},
    {"OPTIONS /abc/k?uploadId=u HTTP/1.0\n", S3_OP_PREFLIGHT_OBJECT, 0},
    /* For a presigned request: what it signs is not here. */
    {"OPTIONS /abc/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2F20261125%2Fr%2Fs3%2F"
     "aws4_request&X-Amz-Date=20261125T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=content-type"
     "&X-Amz-Signature=00 HTTP/1.0\n",
     S3_OP_PREFLIGHT_OBJECT, 0},
    {"POST /abc/k HTTP/1.0\n", 0, S3_METHOD_NOT_ALLOWED},
    {"PATCH /abc/k HTTP/1.0\n", 0, S3_METHOD_NOT_ALLOWED},
    {"get /abc/k HTTP/1.0\n", 0, S3_METHOD_NOT_ALLOWED},
    {"PUT /abc/k?newthing HTTP/1.0\n", 0, S3_NOT_IMPLEMENTED},
    {"PUT /abc/k?newthing= HTTP/1.0\n", 0, S3_NOT_IMPLEMENTED},
    {"GET /abc?acl&policy HTTP/1.0\n", 0, S3_INVALID_ARGUMENT},
    {"GET /abc?prefix=a&prefix=b HTTP/1.0\n", 0, S3_INVALID_ARGUMENT},
    {"GET /abc/k HTTP/1.0\nx-amz-copy-source: a/b\n", 0, S3_INVALID_ARGUMENT},
    {"PUT /abc/k?acl HTTP/1.0\nx-amz-copy-source: a/b\n", 0, S3_INVALID_ARGUMENT},
    /* Only a presigned query stands for headers. */
    {"PUT /abc/k?x-amz-copy-source=a%2Fb HTTP/1.0\n", S3_OP_PUT_OBJECT, 0},
};

static void method_query_and_copy_source_select_the_operation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        struct head_text text;
        enum s3_error error = S3_OK;
        AUTO(s3_request) request = parse(&text, routes[i].head, &error);
        if (error != routes[i].error)
            fail_msg("%s: error %d", routes[i].head, error);
        if (error == S3_OK && s3_request_operation(request) != routes[i].operation)
            fail_msg("%s: %s", routes[i].head, s3_operation_name(s3_request_operation(request)));
    }
}

static void handlers_read_headers_by_lower_case_name(void **state)
{
    (void)state;
    struct head_text text;
    enum s3_error error = S3_OK;
    AUTO(s3_request) request = parse(&text,
                                     "GET /abc/k?versionId=a+b&acl2=1 HTTP/1.1\nHost: h\n"
                                     "RANGE:  bytes=0-9 \nCache-Control: a\ncache-control: b\n"
                                     "empty:\n",
                                     &error);
    assert_int_equal(error, S3_OK);
    assert_false(s3_request_is_verified(request));
    assert_int_equal(s3_request_accept_anonymous(request, NULL), S3_OK);
    assert_true(slice_equal_text(s3_request_header(request, "range"), "bytes=0-9"));
    assert_true(slice_equal_text(s3_request_header(request, "cache-control"), "a,b"));
    assert_null(s3_request_header(request, "if-match").data);
    assert_non_null(s3_request_header(request, "empty").data);
    assert_true(slice_equal_text(s3_request_query(request, "versionId"), "a b"));
    assert_null(s3_request_query(request, "versionid").data);
}

static void repeated_headers_with_meaning_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"range", "If-Match", "content-type", "x-amz-meta-a",
                                        "x-amz-acl"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char head[256];
        struct head_text text;
        enum s3_error error = S3_OK;
        snprintf(head, sizeof head, "PUT /abc/k HTTP/1.0\n%s: 1\n%s: 1\n", names[i], names[i]);
        AUTO(s3_request) request = parse(&text, head, &error);
        assert_int_equal(error, S3_OK);
        assert_int_equal(s3_request_accept_anonymous(request, NULL), S3_INVALID_ARGUMENT);
    }
}

static void metadata_is_bounded_and_printable(void **state)
{
    (void)state;
    static const struct {
        uint32_t value_bytes;
        enum s3_error error;
    } sizes[] = {{2045, S3_OK}, {2046, S3_METADATA_TOO_LARGE}};
    for (size_t i = 0; i < 2; i++) {
        char head[4096];
        char value[2048] = {0};
        struct head_text text;
        enum s3_error error = S3_OK;
        struct slice name = {0};
        struct slice got = {0};
        memset(value, 'v', sizes[i].value_bytes);
        snprintf(head, sizeof head,
                 "PUT /abc/k HTTP/1.0\nX-Amz-Meta-Ab: 1\nfoo: bar\nx-amz-meta-: %s\n", value + 1);
        AUTO(s3_request) request = parse(&text, head, &error);
        assert_int_equal(error, S3_OK);
        assert_int_equal(s3_request_accept_anonymous(request, NULL), S3_OK);
        assert_int_equal(s3_request_metadata_count(request), 2);
        s3_request_metadata_at(request, 0, &name, &got);
        assert_true(slice_equal_text(name, "ab"));
        assert_true(slice_equal_text(got, "1"));
        /* A name without letters cannot be sent back. */
        assert_int_equal(s3_request_metadata_check(request, NULL), S3_INVALID_ARGUMENT);
        text.headers[2].name = SLICE_LITERAL("x-amz-meta-c");
        AUTO(s3_request) again = NULL;
        assert_int_equal(s3_request_new(&text.head, &config, NULL, &again), S3_OK);
        assert_int_equal(s3_request_accept_anonymous(again, NULL), S3_OK);
        assert_int_equal(s3_request_metadata_check(again, NULL), sizes[i].error);
    }
}

static const struct {
    const char *value;
    const char *bucket, *key, *version;
    enum s3_error error;
} sources[] = {
    {"abc/k", "abc", "k", NULL, S3_OK},
    {"/abc/k", "abc", "k", NULL, S3_OK},
    {"/abc/a%2Fb+c%20d", "abc", "a/b+c d", NULL, S3_OK},
    {"abc%2Fk", "abc", "k", NULL, S3_OK},
    {"abc//k", "abc", "/k", NULL, S3_OK},
    {"abc/k?versionId=v1", "abc", "k", "v1", S3_OK},
    {"abc/k%3FversionId=v1", "abc", "k?versionId=v1", NULL, S3_OK},
    {"abc/k?versionId=", "abc", "k", "", S3_OK},
    {"abc/k?other=v1", NULL, NULL, NULL, S3_INVALID_ARGUMENT},
    {"abc", NULL, NULL, NULL, S3_INVALID_ARGUMENT},
    {"abc/", NULL, NULL, NULL, S3_INVALID_ARGUMENT},
    {"", NULL, NULL, NULL, S3_INVALID_ARGUMENT},
    {"/", NULL, NULL, NULL, S3_INVALID_ARGUMENT},
    {"abc/%", NULL, NULL, NULL, S3_INVALID_ARGUMENT},
    {"a_b/k", NULL, NULL, NULL, S3_INVALID_ARGUMENT},
    {"abc/%00", NULL, NULL, NULL, S3_INVALID_URI},
};

static void a_copy_source_names_bucket_key_and_version(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        AUTO_VALUE(bytes) arena = {.max = 64};
        struct s3_copy_source source = {0};
        enum s3_error error =
            s3_copy_source_parse(slice_of_text(sources[i].value), &arena, NULL, &source);
        if (error != sources[i].error)
            fail_msg("%s: error %d", sources[i].value, error);
        if (error != S3_OK)
            continue;
        assert_true(slice_equal_text(source.bucket, sources[i].bucket));
        assert_true(slice_equal_text(source.key, sources[i].key));
        assert_int_equal(source.version_id.data != NULL, sources[i].version != NULL);
        assert_true(slice_equal_text(source.version_id, sources[i].version));
    }
}

static void aws_chunked_is_not_an_encoding_of_the_object(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"aws-chunked", ""},
        {"aws-chunked,gzip", "gzip"},
        {"gzip, aws-chunked", "gzip"},
        {"AWS-Chunked, gzip ,br", "gzip ,br"},
        {"gzip", "gzip"},
        {"aws-chunkedx", "aws-chunkedx"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_true(slice_equal_text(s3_content_encoding(slice_of_text(cases[i][0])), cases[i][1]));
    assert_null(s3_content_encoding((struct slice){0}).data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bucket_and_key_come_from_path_or_host),
        cmocka_unit_test(a_key_of_1024_bytes_is_the_longest),
        cmocka_unit_test(method_query_and_copy_source_select_the_operation),
        cmocka_unit_test(handlers_read_headers_by_lower_case_name),
        cmocka_unit_test(repeated_headers_with_meaning_are_refused),
        cmocka_unit_test(metadata_is_bounded_and_printable),
        cmocka_unit_test(aws_chunked_is_not_an_encoding_of_the_object),
        cmocka_unit_test(a_copy_source_names_bucket_key_and_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
