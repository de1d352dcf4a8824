/* s3/post_policy.h, and forms as requests (s3/request.h, s3/sigv4.h): Amazon's own example, each
 * condition and each fault. */
#include "base/bytes.h"
#include "base/mem.h"
#include "base/text.h"
#include "s3/date.h"
#include "s3/post_policy.h"
#include "s3/request.h"
#include "s3/sigv4.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NOW "2015-12-29T12:00:00.000Z"
#define LATER "\"expiration\": \"2015-12-30T12:00:00.000Z\""

static uint64_t at(const char *text)
{
    uint64_t ms = 0;
    assert_true(s3_date_parse_extended(slice_of_text(text), &ms));
    return ms;
}

/* A form of name and value pairs until NULL, read up to its file. */
static struct s3_form *form_of(const char *const *pairs)
{
    AUTO_VALUE(bytes) body = {.max = 1 << 16};
    struct s3_form *form = NULL;
    for (; pairs[0] != NULL; pairs += 2)
        bytes_append_format(&body,
                            "--b\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n",
                            pairs[0], pairs[1]);
    bytes_append_text(&body, "--b\r\nContent-Disposition: form-data; name=\"file\"; "
                             "filename=\"photo.jpg\"\r\n\r\n");
    struct slice input = bytes_slice(&body);
    enum s3_form_event event;
    struct slice content;
    assert_int_equal(s3_form_new(SLICE_LITERAL("multipart/form-data; boundary=b"), NULL, &form),
                     S3_OK);
    assert_int_equal(s3_form_next(form, &input, &event, &content, NULL), S3_OK);
    assert_int_equal(event, S3_FORM_FILE);
    return form;
}

static enum s3_error read_policy(const char *json, struct s3_failure *failure,
                                 struct s3_post_policy **out_policy)
{
    AUTO_VALUE(bytes) base64 = {.max = 1 << 16};
    text_base64(&base64, slice_of_text(json));
    return s3_post_policy_new(bytes_slice(&base64), failure, out_policy);
}

static void check_message(const char *name, const struct s3_failure *failure, enum s3_error error,
                          const char *expected)
{
    if (expected == NULL)
        return;
    struct slice message = s3_failure_message(failure, error);
    if (!slice_equal_text(message, expected))
        print_error("case %s: %.*s\n", name, SLICE_PRINT(message));
    assert_true(slice_equal_text(message, expected));
}

#define CONDITIONS(list) "{" LATER ", \"conditions\": [" list "]}"
#define P "Invalid Policy: "

static const struct {
    const char *name;
    const char *json;
    const char *message; /* NULL: it is one */
} documents[] = {
    {"no condition", CONDITIONS(""), NULL},
    {"all forms",
     CONDITIONS("{\"bucket\": \"b\"}, [\"eq\", \"$key\", \"k\"], [\"Starts-With\", \"$a\", \"\"], "
                "[\"content-length-range\", 1, \"20\"]"),
     NULL},
    {"escapes of JavaScript", CONDITIONS("[\"eq\", \"\\$key\", \"\\$\\v\\u0041\"]"), NULL},
    {"expiration alone", "{\"expiration\": \"2015-12-30\", \"conditions\": []}", NULL},
    {"empty", "", P "Expecting '{' but found End-of-Input"},
    {"no JSON", "invalid json", P "Invalid JSON."},
    {"trailing bytes", CONDITIONS("") " x", P "Invalid JSON."},
    {"a list", "[]", P "Invalid JSON."},
    {"NUL", CONDITIONS("{\"key\": \"\\u0000\"}"), P "Invalid JSON."},
    {"name twice", CONDITIONS("{\"key\": \"a\", \"key\": \"b\"}"), P "Invalid JSON."},
    {"too deep", CONDITIONS("[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]"), P "Invalid JSON."},
    {"closed too often", "]]]]", P "Invalid JSON."},
    {"ends in an escape", "{\"a\\", P "Invalid JSON."},
    {"no expiration", "{\"conditions\": []}", P "Policy missing expiration."},
    {"expiration in capitals", "{\"EXPIRATION\": \"2015-12-30T12:00:00Z\", \"conditions\": []}",
     P "Unexpected: \"EXPIRATION\""},
    {"expiration is no string", "{\"expiration\": true, \"conditions\": []}", P "Invalid JSON."},
    {"expiration is no date", "{\"expiration\": \"soon\", \"conditions\": []}",
     P "Invalid 'expiration' value: 'soon'"},
    {"no conditions", "{" LATER "}", P "Policy missing conditions."},
    {"conditions are no list", "{" LATER ", \"conditions\": true}",
     P "Invalid 'conditions' value: must be a List."},
    {"something else", "{" LATER ", \"conditions\": [], \"extra\": 1}", P "Unexpected: \"extra\""},
    {"condition is a word", CONDITIONS("true"),
     P "Invalid condition test: must be a List or Object."},
    {"empty object", CONDITIONS("{}"),
     P "Invalid Simple-Condition: Simple-Conditions must have exactly one property specified."},
    {"two properties", CONDITIONS("{\"a\": \"1\", \"b\": \"2\"}"),
     P "Invalid Simple-Condition: Simple-Conditions must have exactly one property specified."},
    {"value is no string", CONDITIONS("{\"a\": true}"),
     P "Invalid Simple-Condition: value must be a string."},
    {"empty list", CONDITIONS("[]"), P "Invalid Condition: missing operation identifier."},
    {"operation is no string", CONDITIONS("[1, \"$key\", \"k\"]"), P "Invalid JSON."},
    {"unknown operation", CONDITIONS("[\"ends-with\", \"$key\", \"k\"]"),
     P "Invalid Condition: unknown operation 'ends-with'."},
    {"too many arguments", CONDITIONS("[\"eq\", \"$key\", \"k\", \"l\"]"),
     P "Invalid eq: wrong number of arguments."},
    {"too few arguments", CONDITIONS("[\"content-length-range\", 0]"),
     P "Invalid content-length-range: wrong number of arguments."},
    {"name is no string", CONDITIONS("[\"eq\", false, \"k\"]"), P "Invalid JSON."},
    {"negative length", CONDITIONS("[\"content-length-range\", -1, 0]"), P "Invalid JSON."},
    {"length is no number", CONDITIONS("[\"content-length-range\", 1, \"x\"]"), P "Invalid JSON."},
    {"length with a fraction", CONDITIONS("[\"content-length-range\", 1.5, 2]"), P "Invalid JSON."},
};

static void a_document_is_a_policy_or_says_why_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++) {
        AUTO_VALUE(s3_failure) failure = {0};
        AUTO(s3_post_policy) policy = NULL;
        enum s3_error error = read_policy(documents[i].json, &failure, &policy);
        enum s3_error expected = documents[i].message == NULL ? S3_OK : S3_INVALID_POLICY_DOCUMENT;
        if (error != expected)
            print_error("case %s\n", documents[i].name);
        assert_int_equal(error, expected);
        check_message(documents[i].name, &failure, error, documents[i].message);
    }
}

static void a_policy_is_base64(void **state)
{
    (void)state;
    static const char *const texts[] = {"invalid_base64", "e30", "e3 0=", "e30=\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        AUTO_VALUE(s3_failure) failure = {0};
        AUTO(s3_post_policy) policy = NULL;
        enum s3_error error = s3_post_policy_new(slice_of_text(texts[i]), &failure, &policy);
        assert_int_equal(error, S3_INVALID_POLICY_DOCUMENT);
        check_message(texts[i], &failure, error, P "invalid Base64 encoding.");
    }
}

#define FAILED "Invalid according to Policy: Policy Condition failed: "
#define EXTRA "Invalid according to Policy: Extra input fields: "
#define BUCKET "{\"bucket\": \"photos\"}"
#define KEY "[\"starts-with\", \"$key\", \"user/\"]"

static const struct {
    const char *name;
    const char *conditions;
    const char *fields[9]; /* beside key = user/${filename} */
    const char *message;   /* NULL: allowed */
} forms[] = {
    {"prefix", BUCKET "," KEY, {NULL}, NULL},
    {"the expanded key", BUCKET ", [\"eq\", \"$key\", \"user/photo.jpg\"]", {NULL}, NULL},
    {"letter case of names",
     "{\"bUcKeT\": \"photos\"}, [\"StArTs-WiTh\", \"$KeY\", \"user\"]",
     {NULL},
     NULL},
    {"any value",
     BUCKET "," KEY ", [\"starts-with\", \"$x-amz-meta-a\", \"\"]",
     {"x-amz-meta-a", "1"},
     NULL},
    {"what cannot be covered",
     BUCKET "," KEY,
     {"policy", "p", "x-amz-signature", "s", "AWSAccessKeyId", "k", "x-ignore-me", "1"},
     NULL},
    {"types in a list",
     BUCKET "," KEY ", [\"starts-with\", \"$Content-Type\", \"text/\"]",
     {"Content-Type", "text/plain, text/html"},
     NULL},
    {"no bucket", KEY, {NULL}, EXTRA "bucket"},
    {"no bucket but a field of that name", KEY, {"bucket", "photos"}, EXTRA "bucket"},
    {"another bucket",
     "{\"bucket\": \"others\"}," KEY,
     {NULL},
     FAILED "[\"eq\", \"$bucket\", \"others\"]"},
    {"a field lies about the bucket",
     "{\"bucket\": \"others\"}," KEY,
     {"bucket", "others"},
     FAILED "[\"eq\", \"$bucket\", \"others\"]"},
    {"no key", BUCKET, {NULL}, EXTRA "key"},
    {"another key",
     BUCKET ", [\"eq\", \"$key\", \"user/${filename}\"]",
     {NULL},
     FAILED "[\"eq\",\"$key\",\"user/${filename}\"]"},
    {"another prefix",
     BUCKET ", [\"starts-with\", \"$key\", \"User/\"]",
     {NULL},
     FAILED "[\"starts-with\",\"$key\",\"User/\"]"},
    {"a field without condition", BUCKET "," KEY, {"x-amz-meta-a", "1"}, EXTRA "x-amz-meta-a"},
    {"the credential too", BUCKET "," KEY, {"X-Amz-Date", "1"}, EXTRA "x-amz-date"},
    {"a condition without field",
     BUCKET "," KEY ", [\"starts-with\", \"$acl\", \"\"]",
     {NULL},
     FAILED "[\"starts-with\",\"$acl\",\"\"]"},
    {"no dollar",
     BUCKET "," KEY ", [\"eq\", \"acl\", \"private\"]",
     {"acl", "private"},
     FAILED "[\"eq\",\"acl\",\"private\"]"},
    {"one of a list of types",
     BUCKET "," KEY ", [\"starts-with\", \"$content-type\", \"text/\"]",
     {"content-type", "text/plain, image/jpeg"},
     FAILED "[\"starts-with\",\"$content-type\",\"text/\"]"},
    {"an empty value",
     BUCKET "," KEY ", [\"eq\", \"$x-amz-meta-a\", \"\"]",
     {"x-amz-meta-a", "1"},
     FAILED "[\"eq\",\"$x-amz-meta-a\",\"\"]"},
    {"two conditions on one field",
     BUCKET "," KEY ", [\"eq\", \"$key\", \"other\"]",
     {NULL},
     FAILED "[\"eq\",\"$key\",\"other\"]"},
    {"a range covers nothing",
     BUCKET "," KEY ", [\"content-length-range\", 1, 2]",
     {"content-length-range", "1"},
     EXTRA "content-length-range"},
};

static void a_policy_allows_what_it_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        AUTO_VALUE(s3_failure) failure = {0};
        AUTO(s3_post_policy) policy = NULL;
        const char *pairs[12] = {"key", "user/${filename}"};
        memcpy(pairs + 2, forms[i].fields, sizeof forms[i].fields);
        AUTO(s3_form) form = form_of(pairs);
        AUTO_STRING json = mem_format(CONDITIONS("%s"), forms[i].conditions);
        assert_int_equal(read_policy(json, NULL, &policy), S3_OK);
        enum s3_error error =
            s3_post_policy_check(policy, form, SLICE_LITERAL("photos"), at(NOW), &failure);
        if (error != (forms[i].message == NULL ? S3_OK : S3_ACCESS_DENIED))
            print_error("case %s\n", forms[i].name);
        assert_int_equal(error, forms[i].message == NULL ? S3_OK : S3_ACCESS_DENIED);
        if (forms[i].message != NULL)
            check_message(forms[i].name, &failure, error, forms[i].message);
    }
}

static void a_policy_expires(void **state)
{
    (void)state;
    const char *const pairs[] = {"key", "user/x", NULL};
    AUTO_VALUE(s3_failure) failure = {0};
    AUTO(s3_post_policy) policy = NULL;
    AUTO(s3_form) form = form_of(pairs);
    struct slice bucket = SLICE_LITERAL("photos");
    uint64_t end_ms = at("2015-12-30T12:00:00.000Z");
    assert_int_equal(read_policy(CONDITIONS(BUCKET "," KEY), NULL, &policy), S3_OK);
    assert_int_equal(s3_post_policy_check(policy, form, bucket, end_ms, NULL), S3_OK);
    enum s3_error error = s3_post_policy_check(policy, form, bucket, end_ms + 1, &failure);
    assert_int_equal(error, S3_ACCESS_DENIED);
    check_message("expired", &failure, error, "Invalid according to Policy: Policy expired.");
}

static void all_ranges_hold_together(void **state)
{
    (void)state;
    AUTO(s3_post_policy) none = NULL;
    AUTO(s3_post_policy) two = NULL;
    uint64_t min = 1;
    uint64_t max = 1;
    assert_int_equal(read_policy(CONDITIONS(""), NULL, &none), S3_OK);
    s3_post_policy_range(none, &min, &max);
    assert_int_equal(min, 0);
    assert_true(max == UINT64_MAX);
    assert_int_equal(read_policy(CONDITIONS("[\"content-length-range\", 5, 100], "
                                            "[\"Content-Length-Range\", \"1\", \"20\"]"),
                                 NULL, &two),
                     S3_OK);
    s3_post_policy_range(two, &min, &max);
    assert_int_equal(min, 5);
    assert_int_equal(max, 20);
}

/* The request of a form, its signature verified with `secret`. */
struct posted {
    struct s3_head head;
    struct s3_header headers[3];
    struct s3_failure failure;
    struct s3_request *request;
};

static void posted_deinit(struct posted *posted)
{
    s3_request_free(posted->request);
    s3_failure_deinit(&posted->failure);
}

static enum s3_error post(struct posted *posted, const char *const *pairs, const char *secret,
                          const char *now)
{
    static const struct s3_config config = {.region = "us-east-1"};
    posted->headers[0] = (struct s3_header){SLICE_LITERAL("Host"), SLICE_LITERAL("s3.test")};
    posted->headers[1] =
        (struct s3_header){SLICE_LITERAL("Content-Type"), SLICE_LITERAL("multipart/form-data")};
    posted->headers[2] = (struct s3_header){SLICE_LITERAL("x-amz-acl"), SLICE_LITERAL("public")};
    posted->head = (struct s3_head){
        .method = SLICE_LITERAL("POST"),
        .target = SLICE_LITERAL("/sigv4examplebucket?versionId=1"),
        .version = SLICE_LITERAL("HTTP/1.1"),
        .headers = posted->headers,
        .header_count = 3,
    };
    TRY(s3_request_new(&posted->head, &config, &posted->failure, &posted->request));
    TRY(s3_request_take_form(posted->request, form_of(pairs), &posted->failure));
    return s3_auth_verify(posted->request,
                          secret == NULL ? slice_of(NULL, 0) : slice_of_text(secret), NULL, at(now),
                          &posted->failure);
}

#define SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
/* "Example: Browser-Based Upload using HTTP POST (Using AWS Signature Version 4)". */
#define EXAMPLE_POLICY                                                                             \
    "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7" \
    "ImJ1Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91" \
    "c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3Qi" \
    "OiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwi" \
    "fSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRh" \
    "LXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVT" \
    "MjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNy" \
    "ZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9" \
    "LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAi" \
    "MjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9"
#define EXAMPLE_SIGNATURE "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e"
#define CREDENTIAL "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"

static const char *const example[] = {
    "key",
    "user/user1/${filename}",
    "acl",
    "public-read",
    "success_action_redirect",
    "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html",
    "Content-Type",
    "image/jpeg",
    "x-amz-meta-uuid",
    "14365123651274",
    "x-amz-server-side-encryption",
    "AES256",
    "X-Amz-Credential",
    CREDENTIAL,
    "X-Amz-Algorithm",
    "AWS4-HMAC-SHA256",
    "X-Amz-Date",
    "20151229T000000Z",
    "x-amz-meta-tag",
    "",
    "Policy",
    EXAMPLE_POLICY,
    "X-Amz-Signature",
    EXAMPLE_SIGNATURE,
    NULL};

static void the_example_of_aws_is_accepted_and_becomes_the_request(void **state)
{
    (void)state;
    AUTO_VALUE(posted) posted = {0};
    AUTO(s3_post_policy) policy = NULL;
    assert_int_equal(post(&posted, example, SECRET, NOW), S3_OK);
    const struct s3_form *form = s3_request_form(posted.request);
    assert_int_equal(s3_post_policy_new(s3_form_field(form, "policy"), NULL, &policy), S3_OK);
    assert_int_equal(
        s3_post_policy_check(policy, form, s3_request_bucket(posted.request), at(NOW), NULL),
        S3_OK);
    assert_true(slice_equal_text(s3_request_key(posted.request), "user/user1/photo.jpg"));
    assert_true(slice_equal_text(s3_request_header(posted.request, "content-type"), "image/jpeg"));
    assert_true(slice_equal_text(s3_request_header(posted.request, "x-amz-acl"), "public-read"));
    assert_true(slice_equal_text(s3_request_header(posted.request, "host"), "s3.test"));
    assert_null(s3_request_header(posted.request, "x-amz-date").data);
    assert_null(s3_request_query(posted.request, "versionId").data);
    assert_int_equal(s3_request_metadata_count(posted.request), 2);
    assert_int_equal(s3_request_payload(posted.request)->mode, S3_PAYLOAD_UNSIGNED);
}

#define V2_POLICY "eyJjb25kaXRpb25zIjpbXX0="
/* openssl dgst -sha1 -hmac SECRET -binary | base64 */
#define V2_SIGNATURE "gMrwfreebYA3kuYKuHo5ds1C9HM="

static const struct {
    const char *name;
    const char *fields[15];
    const char *secret;
    const char *now;
    enum s3_error error;
    const char *message;
} signatures[] = {
    {"version 2",
     {"key", "k", "AWSAccessKeyId", "A", "policy", V2_POLICY, "signature", V2_SIGNATURE},
     SECRET,
     NOW,
     S3_OK,
     NULL},
    {"version 2, another secret",
     {"key", "k", "AWSAccessKeyId", "A", "policy", V2_POLICY, "signature", V2_SIGNATURE},
     "other",
     NOW,
     S3_SIGNATURE_DOES_NOT_MATCH,
     NULL},
    {"version 2, another policy",
     {"key", "k", "AWSAccessKeyId", "A", "policy", "e30=", "signature", V2_SIGNATURE},
     SECRET,
     NOW,
     S3_SIGNATURE_DOES_NOT_MATCH,
     NULL},
    {"version 2, no base64",
     {"key", "k", "AWSAccessKeyId", "A", "policy", V2_POLICY, "signature", "?"},
     SECRET,
     NOW,
     S3_SIGNATURE_DOES_NOT_MATCH,
     NULL},
    {"version 2, unknown key",
     {"key", "k", "AWSAccessKeyId", "A", "policy", V2_POLICY, "signature", V2_SIGNATURE},
     NULL,
     NOW,
     S3_INVALID_ACCESS_KEY_ID,
     NULL},
    {"version 2, empty key",
     {"key", "k", "AWSAccessKeyId", "", "policy", V2_POLICY, "signature", V2_SIGNATURE},
     SECRET,
     NOW,
     S3_INVALID_ACCESS_KEY_ID,
     NULL},
    {"version 2 without signature",
     {"key", "k", "AWSAccessKeyId", "A", "policy", V2_POLICY},
     SECRET,
     NOW,
     S3_INVALID_ARGUMENT,
     "Bucket POST must contain a field named 'signature'.  If it is specified, please check the "
     "order of the fields."},
    {"version 2 without policy",
     {"key", "k", "AWSAccessKeyId", "A", "signature", V2_SIGNATURE},
     SECRET,
     NOW,
     S3_INVALID_ARGUMENT,
     NULL},
    {"both versions",
     {"key", "k", "AWSAccessKeyId", "A", "policy", V2_POLICY, "signature", V2_SIGNATURE,
      "x-amz-signature", EXAMPLE_SIGNATURE},
     SECRET,
     NOW,
     S3_INVALID_ARGUMENT,
     "Only one auth mechanism allowed"},
    {"a policy alone", {"key", "k", "policy", V2_POLICY}, SECRET, NOW, S3_INVALID_ARGUMENT, NULL},
    {"no key",
     {"policy", V2_POLICY},
     SECRET,
     NOW,
     S3_INVALID_ARGUMENT,
     "Bucket POST must contain a field named 'key'.  If it is specified, please check the order "
     "of the fields."},
    {"empty key", {"key", ""}, SECRET, NOW, S3_INVALID_ARGUMENT, NULL},
    {"version 4, another signature",
     {"key", "k", "x-amz-algorithm", "AWS4-HMAC-SHA256", "x-amz-credential", CREDENTIAL,
      "x-amz-date", "20151229T000000Z", "policy", "e30=", "x-amz-signature", EXAMPLE_SIGNATURE},
     SECRET,
     NOW,
     S3_SIGNATURE_DOES_NOT_MATCH,
     NULL},
    {"version 4, another algorithm",
     {"key", "k", "x-amz-algorithm", "AWS4", "x-amz-credential", CREDENTIAL, "x-amz-date",
      "20151229T000000Z", "policy", "e30=", "x-amz-signature", EXAMPLE_SIGNATURE},
     SECRET,
     NOW,
     S3_INVALID_ARGUMENT,
     "Only AWS4-HMAC-SHA256 is supported"},
    {"version 4, another day",
     {"key", "k", "x-amz-algorithm", "AWS4-HMAC-SHA256", "x-amz-credential", CREDENTIAL,
      "x-amz-date", "20151230T000000Z", "policy", "e30=", "x-amz-signature", EXAMPLE_SIGNATURE},
     SECRET,
     NOW,
     S3_INVALID_ARGUMENT,
     NULL},
    {"version 4, no date",
     {"key", "k", "x-amz-algorithm", "AWS4-HMAC-SHA256", "x-amz-credential", CREDENTIAL,
      "x-amz-date", "2015", "policy", "e30=", "x-amz-signature", EXAMPLE_SIGNATURE},
     SECRET,
     NOW,
     S3_INVALID_ARGUMENT,
     "X-Amz-Date must be formated via ISO8601 Long format"},
    {"version 4, no scope",
     {"key", "k", "x-amz-algorithm", "AWS4-HMAC-SHA256", "x-amz-credential", "A", "x-amz-date",
      "20151229T000000Z", "policy", "e30=", "x-amz-signature", EXAMPLE_SIGNATURE},
     SECRET,
     NOW,
     S3_INVALID_ARGUMENT,
     NULL},
};

static void a_signature_is_of_the_policy_and_of_one_version(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof signatures / sizeof signatures[0]; i++) {
        AUTO_VALUE(posted) posted = {0};
        enum s3_error error =
            post(&posted, signatures[i].fields, signatures[i].secret, signatures[i].now);
        if (error != signatures[i].error)
            print_error("case %s: %s\n", signatures[i].name,
                        error == S3_OK ? "OK" : s3_error_code(error));
        assert_int_equal(error, signatures[i].error);
        check_message(signatures[i].name, &posted.failure, error, signatures[i].message);
    }
}

static void a_signature_of_version_4_is_good_for_seven_days(void **state)
{
    (void)state;
    static const struct {
        const char *now;
        enum s3_error error;
    } times[] = {
        {"2015-12-28T23:45:00.000Z", S3_OK},
        {"2015-12-28T23:44:59.000Z", S3_ACCESS_DENIED},
        {"2016-01-05T00:00:00.000Z", S3_OK},
        {"2016-01-05T00:00:01.000Z", S3_ACCESS_DENIED},
    };
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        AUTO_VALUE(posted) posted = {0};
        assert_int_equal(post(&posted, example, SECRET, times[i].now), times[i].error);
    }
}

static void a_form_without_signature_is_anonymous(void **state)
{
    (void)state;
    const char *const pairs[] = {"key", "k", "x-amz-meta-a", "1", NULL};
    AUTO_VALUE(posted) posted = {0};
    static const struct s3_config config = {0};
    posted.head = (struct s3_head){.method = SLICE_LITERAL("POST"),
                                   .target = SLICE_LITERAL("/bucket"),
                                   .version = SLICE_LITERAL("HTTP/1.0")};
    assert_int_equal(s3_request_new(&posted.head, &config, NULL, &posted.request), S3_OK);
    assert_int_equal(s3_request_take_form(posted.request, form_of(pairs), NULL), S3_OK);
    assert_int_equal(s3_request_credential(posted.request)->kind, S3_AUTH_ANONYMOUS);
    assert_int_equal(s3_request_accept_anonymous(posted.request, NULL), S3_OK);
    assert_true(slice_equal_text(s3_request_header(posted.request, "x-amz-meta-a"), "1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_document_is_a_policy_or_says_why_not),
        cmocka_unit_test(a_policy_is_base64),
        cmocka_unit_test(a_policy_allows_what_it_says),
        cmocka_unit_test(a_policy_expires),
        cmocka_unit_test(all_ranges_hold_together),
        cmocka_unit_test(the_example_of_aws_is_accepted_and_becomes_the_request),
        cmocka_unit_test(a_signature_is_of_the_policy_and_of_one_version),
        cmocka_unit_test(a_signature_of_version_4_is_good_for_seven_days),
        cmocka_unit_test(a_form_without_signature_is_anonymous),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
