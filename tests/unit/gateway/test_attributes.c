/* Standard headers and user metadata: kept, answered, overridden, copied, refused. */
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define PUT(...)                                                                                   \
    {                                                                                              \
        .method = "PUT", .target = "/bucket/key", .headers = { __VA_ARGS__ }                       \
    }

static void expect_header(const struct memory_exchange *memory, const char *name, const char *value)
{
    struct slice found = memory_exchange_answer_header(memory, name);
    if (!slice_equal_text(found, value == NULL ? "" : value))
        print_error("%s: got '%.*s' want '%s'\n", name, SLICE_PRINT(found), value);
    assert_true(slice_equal_text(found, value == NULL ? "" : value));
    assert_true((found.data != NULL) == (value != NULL));
}

static void expect_get(struct cluster *cluster, const char *target, const char *name,
                       const char *value)
{
    struct call get = {.method = "GET", .target = target};
    struct memory_exchange memory;
    cluster_call(cluster, &get, &memory);
    assert_int_equal(memory.exchange.status, 200);
    expect_header(&memory, name, value);
    memory_exchange_deinit(&memory);
}

static const struct {
    const char *name; /* of the header in request and answer */
    const char *sent; /* NULL: not at all */
    const char *answered;
} kept[] = {
    {"content-type", NULL, "binary/octet-stream"},
    {"content-type", "text/plain; charset=utf-8", "text/plain; charset=utf-8"},
    {"cache-control", "max-age=60", "max-age=60"},
    {"cache-control", NULL, NULL},
    {"content-disposition", "attachment; filename=\"a b\"", "attachment; filename=\"a b\""},
    {"content-encoding", "gzip", "gzip"},
    {"content-encoding", "aws-chunked", NULL},
    {"content-encoding", "aws-chunked,gzip", "gzip"},
    {"content-encoding", "gzip, aws-chunked", "gzip"},
    {"content-language", "de", "de"},
    {"expires", "Thu, 01 Dec 2030 16:00:00 GMT", "Thu, 01 Dec 2030 16:00:00 GMT"},
    {"expires", "tomorrow", "tomorrow"},
    {"x-amz-website-redirect-location", "/elsewhere", "/elsewhere"},
    {"x-amz-meta-color", "blue", "blue"},
    {"x-amz-meta-name", "J\xc3\xbcrgen", "J\xc3\xbcrgen"},
    {"x-amz-storage-class", "STANDARD", NULL},
    {"x-amz-acl", "private", NULL},
};

static void headers_come_back_as_they_were_sent(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        struct call put = PUT(kept[i].sent == NULL ? NULL : kept[i].name, kept[i].sent);
        assert_int_equal(cluster_status(cluster, &put), 200);
        expect_get(cluster, "/bucket/key", kept[i].name, kept[i].answered);
    }
}

static const struct {
    const char *name;
    const char *value;
    unsigned status;
    const char *code;
} refused[] = {
    {"x-amz-website-redirect-location", "elsewhere", 400, "InvalidRedirectLocation"},
    {"x-amz-acl", "public-read", 400, "AccessControlListNotSupported"},
    {"x-amz-grant-read", "id=1", 400, "AccessControlListNotSupported"},
    {"x-amz-storage-class", "GLACIER", 400, "InvalidStorageClass"},
    {"x-amz-server-side-encryption", "AES256", 501, "NotImplemented"},
    {"x-amz-server-side-encryption", "aws:kms", 501, "NotImplemented"},
    {"x-amz-server-side-encryption-customer-algorithm", "AES256", 501, "NotImplemented"},
    {"x-amz-tagging", "a=1&a=2", 400, "InvalidArgument"},
    {"x-amz-tagging", "a=*", 400, "InvalidTag"},
    {"x-amz-object-lock-mode", "GOVERNANCE", 501, "NotImplemented"},
    {"x-amz-expected-bucket-owner", "somebody", 403, "AccessDenied"},
    {"if-none-match", "\"etag\"", 501, "NotImplemented"},
};

static void what_is_not_done_is_refused_before_anything_is_stored(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct call put = PUT(refused[i].name, refused[i].value);
        struct memory_exchange memory;
        char code[64];
        cluster_call(cluster, &put, &memory);
        if (memory.exchange.status != refused[i].status)
            print_error("%s: %s\n", refused[i].name, refused[i].value);
        assert_int_equal(memory.exchange.status, refused[i].status);
        assert_string_equal(cluster_code(&memory, code), refused[i].code);
        memory_exchange_deinit(&memory);
    }
    assert_int_equal(cluster_object_count(cluster), 0);
}

static void metadata_above_two_kibibytes_is_refused(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    static char value[2100];
    memset(value, 'v', sizeof value - 1);
    struct call put = PUT("x-amz-meta-a", value);
    struct memory_exchange memory;
    char code[64];
    cluster_call(cluster, &put, &memory);
    assert_string_equal(cluster_code(&memory, code), "MetadataTooLarge");
    memory_exchange_deinit(&memory);
    value[2047] = '\0';
    assert_int_equal(cluster_status(cluster, &put), 200);
    expect_get(cluster, "/bucket/key", "x-amz-meta-a", value);
}

static void a_query_overrides_what_is_answered_but_not_what_is_kept(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    struct call put = PUT("content-type", "text/plain");
    assert_int_equal(cluster_status(cluster, &put), 200);
    expect_get(cluster, "/bucket/key?response-content-type=image%2Fpng", "content-type",
               "image/png");
    expect_get(cluster, "/bucket/key?response-content-disposition=attachment",
               "content-disposition", "attachment");
    expect_get(cluster, "/bucket/key", "content-type", "text/plain");
    struct call splitting = {.method = "GET",
                             .target = "/bucket/key?response-content-type=a%0d%0aX:%20b"};
    assert_int_equal(cluster_status(cluster, &splitting), 400);
}

static void a_copy_keeps_or_replaces_attributes(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    struct call put = PUT("content-type", "text/plain", "x-amz-meta-a", "1",
                          "x-amz-website-redirect-location", "/there");
    assert_int_equal(cluster_status(cluster, &put), 200);
    struct call copy = {.method = "PUT",
                        .target = "/bucket/kept",
                        .headers = {"x-amz-copy-source", "/bucket/key", "content-type", "x/y"}};
    assert_int_equal(cluster_status(cluster, &copy), 200);
    expect_get(cluster, "/bucket/kept", "content-type", "text/plain");
    expect_get(cluster, "/bucket/kept", "x-amz-meta-a", "1");
    expect_get(cluster, "/bucket/kept", "x-amz-website-redirect-location", NULL);
    struct call replace = {.method = "PUT",
                           .target = "/bucket/replaced",
                           .headers = {"x-amz-copy-source", "bucket/key", "content-type", "x/y",
                                       "x-amz-metadata-directive", "REPLACE"}};
    assert_int_equal(cluster_status(cluster, &replace), 200);
    expect_get(cluster, "/bucket/replaced", "content-type", "x/y");
    expect_get(cluster, "/bucket/replaced", "x-amz-meta-a", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_come_back_as_they_were_sent),
        cmocka_unit_test(what_is_not_done_is_refused_before_anything_is_stored),
        cmocka_unit_test(metadata_above_two_kibibytes_is_refused),
        cmocka_unit_test(a_query_overrides_what_is_answered_but_not_what_is_kept),
        cmocka_unit_test(a_copy_keeps_or_replaces_attributes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
