/* PostObject: a browser's form through the gateway, signed with version 2 so that no clock is
 * needed. What a form makes of an object, what is answered, and that a form that is refused or ends
 * early leaves nothing. */
#include "cluster.h"

#include "base/mem.h"
#include "base/text.h"
#include "hmac.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { BIG_BYTES = 3 << 20 };

static uint8_t big[BIG_BYTES];
static const struct slice hello = SLICE_LITERAL("hello world");
#define HELLO_ETAG "\"5eb63bbbe01eeed093cb22bb8f5acdc3\""
#define TYPE "multipart/form-data; boundary=b"
#define BUCKET "{\"bucket\": \"bucket\"}, "
#define ANY(name) "[\"starts-with\", \"$" name "\", \"\"]"

static struct form_case {
    const char *name;
    const char *conditions;
    const char *fields[10]; /* beside key and the signature */
    unsigned status;
    const char *code;
    const char *header; /* of the answer, with its value (NULL: absent) */
    const char *value;
} cases[] = {
    {"plain",
     BUCKET ANY("key"),
     {NULL},
     204,
     "",
     "Location",
     "http://127.0.0.1:9000/bucket/dir%2Fa%20b"},
    {"etag", BUCKET ANY("key"), {NULL}, 204, "", "ETag", HELLO_ETAG},
    {"status 200",
     BUCKET ANY("key") "," ANY("success_action_status"),
     {"success_action_status", "200"},
     200,
     "",
     NULL,
     NULL},
    {"status 201",
     BUCKET ANY("key") "," ANY("success_action_status"),
     {"success_action_status", "201"},
     201,
     "",
     "Content-Type",
     "application/xml"},
    {"another status",
     BUCKET ANY("key") "," ANY("success_action_status"),
     {"success_action_status", "404"},
     204,
     "",
     NULL,
     NULL},
    {"redirect",
     BUCKET ANY("key") "," ANY("success_action_redirect"),
     {"success_action_redirect", "https://a.test/done?x=1#top"},
     303,
     "",
     "Location",
     "https://a.test/done?x=1&bucket=bucket&key=dir%2Fa%20b&etag="
     "%225eb63bbbe01eeed093cb22bb8f5acdc3%22#top"},
    {"redirect by its old name",
     BUCKET ANY("key") "," ANY("redirect"),
     {"redirect", "http://a.test"},
     303,
     "",
     "Location",
     "http://a.test?bucket=bucket&key=dir%2Fa%20b&etag=%225eb63bbbe01eeed093cb22bb8f5acdc3%22"},
    {"redirect to no URL",
     BUCKET ANY("key") "," ANY("success_action_redirect"),
     {"success_action_redirect", "javascript:alert(1)"},
     204,
     "",
     NULL,
     NULL},
    {"redirect with a line end",
     BUCKET ANY("key") "," ANY("success_action_redirect"),
     {"success_action_redirect", "http://a.test/\r\nX: y"},
     204,
     "",
     "X",
     NULL},
    {"the longest that is allowed",
     BUCKET ANY("key") ", [\"content-length-range\", 11, 11]",
     {NULL},
     204,
     "",
     NULL,
     NULL},
    {"too large",
     BUCKET ANY("key") ", [\"content-length-range\", 0, 10]",
     {NULL},
     400,
     "EntityTooLarge",
     NULL,
     NULL},
    {"too small",
     BUCKET ANY("key") ", [\"content-length-range\", 12, 99]",
     {NULL},
     400,
     "EntityTooSmall",
     NULL,
     NULL},
    {"not allowed",
     BUCKET "[\"eq\", \"$key\", \"other\"]",
     {NULL},
     403,
     "AccessDenied",
     NULL,
     NULL},
    {"no policy document", "1", {NULL}, 400, "InvalidPolicyDocument", NULL, NULL},
    {"MD5",
     BUCKET ANY("key") "," ANY("content-md5"),
     {"Content-MD5", "XrY7u+Ae7tCTyyK7j1rNww=="},
     204,
     "",
     NULL,
     NULL},
    {"wrong MD5",
     BUCKET ANY("key") "," ANY("content-md5"),
     {"Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg=="},
     400,
     "BadDigest",
     NULL,
     NULL},
    {"checksum",
     BUCKET ANY("key") "," ANY("x-amz-checksum-crc32"),
     {"x-amz-checksum-crc32", "DUoRhQ=="},
     204,
     "",
     "x-amz-checksum-crc32",
     "DUoRhQ=="},
    {"wrong checksum",
     BUCKET ANY("key") "," ANY("x-amz-checksum-crc32"),
     {"x-amz-checksum-crc32", "DUoRhA=="},
     400,
     "BadDigest",
     NULL,
     NULL},
    {"unknown checksum",
     BUCKET ANY("key") "," ANY("x-amz-checksum-new"),
     {"x-amz-checksum-new", "DUoRhQ=="},
     400,
     "InvalidRequest",
     NULL,
     NULL},
    {"private", BUCKET ANY("key") "," ANY("acl"), {"acl", "private"}, 204, "", NULL, NULL},
    {"public",
     BUCKET ANY("key") "," ANY("acl"),
     {"acl", "public-read"},
     400,
     "AccessControlListNotSupported",
     NULL,
     NULL},
    {"storage class",
     BUCKET ANY("key") "," ANY("x-amz-storage-class"),
     {"x-amz-storage-class", "GLACIER"},
     400,
     "InvalidStorageClass",
     NULL,
     NULL},
    {"tags are no XML",
     BUCKET ANY("key") "," ANY("tagging"),
     {"tagging", "a=b"},
     400,
     "MalformedXML",
     NULL,
     NULL},
    {"metadata with a line end",
     BUCKET ANY("key") "," ANY("x-amz-meta-a"),
     {"x-amz-meta-a", "1\r\nX: y"},
     400,
     "InvalidArgument",
     NULL,
     NULL},
    {"session token",
     BUCKET ANY("key") "," ANY("x-amz-security-token"),
     {"x-amz-security-token", "t"},
     400,
     "InvalidToken",
     NULL,
     NULL},
};

static void add_field(struct bytes *body, const char *name, struct slice value)
{
    bytes_append_format(body, "--b\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n", name);
    bytes_append(body, value);
    bytes_append_text(body, "\r\n");
}

static void add_signature(struct bytes *body, const char *conditions)
{
    AUTO_STRING json =
        mem_format("{\"expiration\": \"9999-12-31T00:00:00Z\", \"conditions\": [%s]}", conditions);
    AUTO_VALUE(bytes) policy = {.max = 1 << 16};
    AUTO_VALUE(bytes) signature = {.max = 1 << 16};
    uint8_t digest[20];
    text_base64(&policy, slice_of_text(json));
    hmac_sha1(SLICE_LITERAL("the-secret-of-the-test"), bytes_slice(&policy), digest);
    text_base64(&signature, slice_of(digest, sizeof digest));
    add_field(body, "AWSAccessKeyId", SLICE_LITERAL("AKTEST"));
    add_field(body, "policy", bytes_slice(&policy));
    add_field(body, "signature", bytes_slice(&signature));
}

/* The body of a form. `conditions` NULL: not signed. */
static void build(struct bytes *body, const char *conditions, const char *const *fields,
                  struct slice file)
{
    add_field(body, "key", SLICE_LITERAL("dir/${filename}"));
    if (conditions != NULL)
        add_signature(body, conditions);
    for (; fields != NULL && fields[0] != NULL; fields += 2)
        add_field(body, fields[0], slice_of_text(fields[1]));
    bytes_append_text(body, "--b\r\nContent-Disposition: form-data; name=\"file\"; "
                            "filename=\"C:\\fakepath\\a b\"\r\nContent-Type: a/b\r\n\r\n");
    bytes_append(body, file);
    bytes_append_text(body, "\r\n--b--\r\n");
}

static struct call form_call(const struct bytes *body)
{
    return (struct call){
        .method = "POST",
        .target = "/bucket",
        .headers = {"content-type", TYPE},
        .body = bytes_slice(body),
        .anonymous = true,
    };
}

static void expect(struct cluster *cluster, const char *name, const struct call *call,
                   unsigned status, const char *code)
{
    struct memory_exchange memory;
    char got[64];
    cluster_call(cluster, call, &memory);
    cluster_code(&memory, got);
    if (memory.exchange.status != status || strcmp(got, code) != 0)
        print_error("case %s: %u %s\n", name, memory.exchange.status, got);
    assert_int_equal(memory.exchange.status, status);
    assert_string_equal(got, code);
    memory_exchange_deinit(&memory);
}

static void check_case(const struct form_case *row)
{
    AUTO(cluster) cluster = cluster_new();
    AUTO_VALUE(bytes) body = {.max = 1 << 20};
    struct memory_exchange memory;
    char code[64];
    build(&body, row->conditions, row->fields, hello);
    struct call call = form_call(&body);
    cluster_call(cluster, &call, &memory);
    cluster_code(&memory, code);
    struct slice value = {0};
    if (row->header != NULL)
        value = memory_exchange_answer_header(&memory, row->header);
    bool fits = memory.exchange.status == row->status && strcmp(code, row->code) == 0 &&
                slice_equal(value, slice_of_text(row->value));
    if (!fits)
        print_error("case %s: %u %s %.*s\n", row->name, memory.exchange.status, code,
                    SLICE_PRINT(value));
    assert_true(fits);
    assert_int_equal(cluster_object_count(cluster), row->status < 400 ? 1 : 0);
    memory_exchange_deinit(&memory);
}

static void a_form_is_stored_or_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_case(&cases[i]);
}

static void an_object_has_what_its_form_said(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    AUTO_VALUE(bytes) body = {.max = 1 << 20};
    static const char *const fields[] = {"Content-Type", "image/png", "x-amz-meta-Tag", "1", NULL};
    struct memory_exchange memory;
    build(&body, BUCKET ANY("key") "," ANY("content-type") "," ANY("x-amz-meta-tag"), fields,
          hello);
    struct call call = form_call(&body);
    call.headers[2] = "x-amz-meta-head"; /* nobody signed it */
    call.headers[3] = "1";
    expect(cluster, "post", &call, 204, "");
    struct call get = {.method = "GET", .target = "/bucket/dir/a%20b"};
    cluster_call(cluster, &get, &memory);
    assert_true(slice_equal(bytes_slice(&memory.answer), hello));
    assert_true(
        slice_equal_text(memory_exchange_answer_header(&memory, "content-type"), "image/png"));
    assert_true(slice_equal_text(memory_exchange_answer_header(&memory, "x-amz-meta-tag"), "1"));
    assert_null(memory_exchange_answer_header(&memory, "x-amz-meta-head").data);
    memory_exchange_deinit(&memory);
}

static void a_large_file_arrives_in_any_pieces(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    AUTO_VALUE(bytes) body = {.max = 8 << 20};
    static const size_t reads[] = {0, 997, 65536};
    for (size_t i = 0; i < BIG_BYTES; i++) /* many line ends, some of them like a boundary */
        big[i] = (uint8_t) "\r\n--ab\r\n-"[cluster_pattern(i) % 9];
    build(&body, BUCKET ANY("key"), NULL, slice_of(big, sizeof big));
    for (size_t i = 0; i < sizeof reads / sizeof reads[0]; i++) {
        struct memory_exchange memory;
        struct call call = form_call(&body);
        call.read_bytes_max = reads[i];
        expect(cluster, "post", &call, 204, "");
        struct call get = {.method = "GET", .target = "/bucket/dir/a%20b"};
        cluster_call(cluster, &get, &memory);
        assert_true(slice_equal(bytes_slice(&memory.answer), slice_of(big, sizeof big)));
        memory_exchange_deinit(&memory);
    }
}

static void a_form_that_ends_early_leaves_nothing(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    AUTO_VALUE(bytes) body = {.max = 8 << 20};
    build(&body, BUCKET ANY("key"), NULL, slice_of(big, sizeof big));
    struct call call = form_call(&body);
    for (size_t missing = 3; missing < 12; missing++) { /* of the closing boundary */
        call.body = slice_first(bytes_slice(&body), body.bytes - missing);
        expect(cluster, "closing boundary", &call, 400, "MalformedPOSTRequest");
    }
    call.body = bytes_slice(&body);
    call.client_leaves = true;
    struct memory_exchange memory;
    cluster_call(cluster, &call, &memory);
    memory_exchange_deinit(&memory);
    assert_int_equal(cluster_object_count(cluster), 0);
}

static void a_failing_service_leaves_nothing(void **state)
{
    (void)state;
    static const enum service_call calls[] = {CALL_BLOCK_OPEN, CALL_BLOCK_APPEND, CALL_BLOCK_FINISH,
                                              CALL_OBJECT_PUT};
    AUTO_VALUE(bytes) body = {.max = 8 << 20};
    build(&body, BUCKET ANY("key"), NULL, slice_of(big, sizeof big));
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        AUTO(cluster) cluster = cluster_new();
        struct call call = form_call(&body);
        cluster_fail(cluster, calls[i], 0, 1, ERR_NO_SPACE);
        expect(cluster, "no space", &call, 507, "InsufficientStorage");
        assert_int_equal(cluster_object_count(cluster), 0);
    }
}

static void who_is_not_signed_for_gets_nothing(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    AUTO_VALUE(bytes) unsigned_body = {.max = 1 << 20};
    AUTO_VALUE(bytes) signed_body = {.max = 1 << 20};
    build(&unsigned_body, NULL, NULL, hello);
    build(&signed_body, BUCKET ANY("key"), NULL, hello);
    struct call call = form_call(&unsigned_body);
    expect(cluster, "anonymous", &call, 403, "AccessDenied");
    call.anonymous = false;
    expect(cluster, "a signature in the head alone", &call, 400, "InvalidArgument");
    call = form_call(&signed_body);
    call.anonymous = false;
    expect(cluster, "two signatures", &call, 400, "InvalidArgument");
    call = form_call(&signed_body);
    call.target = "/other";
    expect(cluster, "another bucket", &call, 403, "AccessDenied");
    call = form_call(&signed_body);
    call.headers[1] = "application/json";
    expect(cluster, "no form", &call, 412, "PreconditionFailed");
    call = form_call(&signed_body);
    call.without_length = true;
    expect(cluster, "no length", &call, 411, "MissingContentLength");
    assert_int_equal(cluster_object_count(cluster), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_form_is_stored_or_refused),
        cmocka_unit_test(an_object_has_what_its_form_said),
        cmocka_unit_test(a_large_file_arrives_in_any_pieces),
        cmocka_unit_test(a_form_that_ends_early_leaves_nothing),
        cmocka_unit_test(a_failing_service_leaves_nothing),
        cmocka_unit_test(who_is_not_signed_for_gets_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
