/* s3/sigv4.h against the published examples, against s3/signer.h, and fault by fault. */
#include "base/bytes.h"
#include "head_text.h"
#include "s3/date.h"
#include "s3/signer.h"
#include "s3/sigv4.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define KEY "AKIAIOSFODNN7EXAMPLE"
#define SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define SCOPE "20130524/us-east-1/s3/aws4_request"
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define T0 UINT64_C(1369353600000) /* 2013-05-24T00:00:00Z */

static const char *const domains[] = {"s3.amazonaws.com"};
static const struct s3_config config = {.domains = domains, .domain_count = 1};

/* Parse and verify; the request is kept in `out_request` when it was accepted. */
static enum s3_error verify_head(const struct s3_head *head, const struct s3_config *with,
                                 const char *secret, uint64_t now_ms, struct s3_failure *failure,
                                 struct s3_request **out_request)
{
    struct s3_framing framing;
    AUTO(s3_request) request = NULL;
    TRY(s3_head_check(head, failure, &framing));
    TRY(s3_request_new(head, with, failure, &request));
    TRY(s3_auth_verify(request, slice_of_text(secret), NULL, now_ms, failure));
    if (out_request != NULL)
        *out_request = TAKE(request);
    return S3_OK;
}

#define EXAMPLE_HOST "Host: examplebucket.s3.amazonaws.com\n"
#define AUTHORIZATION(names, signature)                                                            \
    "Authorization: AWS4-HMAC-SHA256 Credential=" KEY "/" SCOPE ",SignedHeaders=" names            \
    ",Signature=" signature "\n"
#define STREAM_NAMES                                                                               \
    "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;"                        \
    "x-amz-decoded-content-length;x-amz-storage-class"
#define TRAILER_NAMES                                                                              \
    "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;"          \
    "x-amz-storage-class;x-amz-trailer"

/* The examples of "Signature Calculations for the Authorization Header" and its pages on chunks and
 * trailers, and of "Authenticating Requests: Using Query Parameters". */
static const struct {
    const char *name;
    const char *head;
    enum s3_operation operation;
    enum s3_payload_mode mode;
} examples[] = {
    {"GET Object",
     "GET /test.txt HTTP/1.1\n" EXAMPLE_HOST "Range: bytes=0-9\nx-amz-content-sha256: " EMPTY
     "\nx-amz-date: 20130524T000000Z\n" AUTHORIZATION(
         "host;range;x-amz-content-sha256;x-amz-date",
         "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
     S3_OP_GET_OBJECT, S3_PAYLOAD_SIGNED},
    {"PUT Object",
     "PUT /test%24file.text HTTP/1.1\n" EXAMPLE_HOST
     "Date: Fri, 24 May 2013 00:00:00 GMT\nx-amz-date: 20130524T000000Z\n"
     "x-amz-storage-class: REDUCED_REDUNDANCY\nx-amz-content-sha256: "
     "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072\n" AUTHORIZATION(
         "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
         "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
     S3_OP_PUT_OBJECT, S3_PAYLOAD_SIGNED},
    {"GET Bucket Lifecycle",
     "GET /?lifecycle HTTP/1.1\n" EXAMPLE_HOST
     "x-amz-date: 20130524T000000Z\nx-amz-content-sha256: " EMPTY
     "\n" AUTHORIZATION("host;x-amz-content-sha256;x-amz-date",
                        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
     S3_OP_GET_BUCKET_LIFECYCLE, S3_PAYLOAD_SIGNED},
    {"GET Bucket (List Objects)",
     "GET /?max-keys=2&prefix=J HTTP/1.1\n" EXAMPLE_HOST
     "x-amz-date: 20130524T000000Z\nx-amz-content-sha256: " EMPTY
     "\n" AUTHORIZATION("host;x-amz-content-sha256;x-amz-date",
                        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
     S3_OP_LIST_OBJECTS, S3_PAYLOAD_SIGNED},
    {"PUT Object in chunks",
     "PUT /examplebucket/chunkObject.txt HTTP/1.1\nHost: s3.amazonaws.com\n"
     "x-amz-date: 20130524T000000Z\nx-amz-storage-class: REDUCED_REDUNDANCY\n"
     "x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\nContent-Encoding: aws-chunked\n"
     "x-amz-decoded-content-length: 66560\nContent-Length: 66824\n" AUTHORIZATION(
         STREAM_NAMES, "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"),
     S3_OP_PUT_OBJECT, S3_PAYLOAD_CHUNKS_SIGNED},
    {"PUT Object in chunks with a trailer",
     "PUT /examplebucket/chunkObject.txt HTTP/1.1\nHost: s3.amazonaws.com\n"
     "x-amz-date: 20130524T000000Z\nx-amz-storage-class: REDUCED_REDUNDANCY\n"
     "x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER\n"
     "Content-Encoding: aws-chunked\nx-amz-decoded-content-length: 66560\n"
     "x-amz-trailer: x-amz-checksum-crc32c\nContent-Length: 66946\n" AUTHORIZATION(
         TRAILER_NAMES, "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"),
     S3_OP_PUT_OBJECT, S3_PAYLOAD_CHUNKS_SIGNED_TRAILER},
    {"presigned GET Object",
     "GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" KEY
     "%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"
     "&X-Amz-SignedHeaders=host&X-Amz-Signature="
     "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404 HTTP/1.1\n" EXAMPLE_HOST,
     S3_OP_GET_OBJECT, S3_PAYLOAD_UNSIGNED},
};

static void the_examples_of_aws_verify(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        struct head_text text;
        AUTO(s3_request) request = NULL;
        AUTO_VALUE(s3_failure) failure = {0};
        head_text_init(&text, examples[i].head);
        enum s3_error error = verify_head(&text.head, &config, SECRET, T0, &failure, &request);
        if (error != S3_OK)
            fail_msg("%s: error %d", examples[i].name, error);
        assert_int_equal(s3_request_operation(request), examples[i].operation);
        assert_int_equal(s3_request_payload(request)->mode, examples[i].mode);
        assert_true(slice_equal_text(s3_request_bucket(request), "examplebucket"));
        assert_true(slice_equal_text(s3_request_credential(request)->access_key, KEY));
    }
}

static void the_chunk_chain_starts_at_the_signature(void **state)
{
    (void)state;
    struct head_text text;
    AUTO(s3_request) request = NULL;
    head_text_init(&text, examples[4].head);
    assert_int_equal(verify_head(&text.head, &config, SECRET, T0, NULL, &request), S3_OK);
    const struct s3_chunk_signing *signing = s3_request_chunk_signing(request);
    assert_int_equal(signing->previous[0], 0x4f);
    assert_int_equal(signing->previous[31], 0xa9);
    assert_string_equal(signing->date, "20130524T000000Z");
    assert_string_equal(signing->scope, SCOPE);
    assert_int_equal(s3_request_payload(request)->decoded_bytes, 66560);
}

/* A head that our signer signs: method, target and headers, without Authorization. */
struct signed_head {
    struct head_text text;
    struct bytes extra; /* Authorization value or presigned target */
};

static void signed_head_deinit(struct signed_head *signed_head)
{
    bytes_deinit(&signed_head->extra);
}

static struct s3_signer signer_at(uint64_t now_ms)
{
    return (struct s3_signer){.access_key = SLICE_LITERAL(KEY),
                              .secret = SLICE_LITERAL(SECRET),
                              .region = SLICE_LITERAL("us-east-1"),
                              .now_ms = now_ms};
}

static void add_header(struct head_text *text, const char *name, struct slice value)
{
    text->headers[text->head.header_count++] = (struct s3_header){slice_of_text(name), value};
}

static void sign_head(struct signed_head *signed_head, const char *head)
{
    struct s3_signer signer = signer_at(T0);
    head_text_init(&signed_head->text, head);
    signed_head->extra = (struct bytes){.max = 32768};
    s3_signer_authorize(&signer, &signed_head->text.head, &signed_head->extra, NULL);
    add_header(&signed_head->text, "Authorization", bytes_slice(&signed_head->extra));
}

static void presign_head(struct signed_head *signed_head, const char *head, uint64_t seconds)
{
    struct s3_signer signer = signer_at(T0);
    head_text_init(&signed_head->text, head);
    signed_head->extra = (struct bytes){.max = 32768};
    s3_signer_presign(&signer, &signed_head->text.head, seconds, &signed_head->extra);
    signed_head->text.head.target = bytes_slice(&signed_head->extra);
}

#define BASIC "host: h\nx-amz-date: 20130524T000000Z\nx-amz-content-sha256: UNSIGNED-PAYLOAD\n"

static void what_our_signer_signs_verifies(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "GET / HTTP/1.1\n" BASIC,
        "GET /abc?list-type=2&prefix=a%20b+c/&delimiter=%2f HTTP/1.1\n" BASIC,
        "GET /abc?versions&k-x=2&k.y=3&k0=4&k=1 HTTP/1.1\n" BASIC,
        "PUT /abc/%c3%bc//..%2F+~!*'() HTTP/1.1\n" BASIC "Content-Type: text/plain\n",
        "PUT /abc/k HTTP/1.1\n" BASIC "x-amz-meta-b: a   b \nX-Amz-Meta-A: \xc3\xbc\n",
        "PUT /abc/k HTTP/1.1\n" BASIC "x-amz-copy-source: /a%2Fb/c\n",
    };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        AUTO_VALUE(signed_head) by_header = {0};
        AUTO_VALUE(signed_head) by_query = {0};
        sign_head(&by_header, heads[i]);
        presign_head(&by_query, heads[i], 60);
        assert_int_equal(verify_head(&by_header.text.head, &config, SECRET, T0, NULL, NULL), S3_OK);
        assert_int_equal(verify_head(&by_query.text.head, &config, SECRET, T0, NULL, NULL), S3_OK);
    }
}

static void a_repeated_signed_header_counts_as_one(void **state)
{
    (void)state;
    AUTO_VALUE(signed_head) joined = {0};
    AUTO(s3_request) request = NULL;
    sign_head(&joined, "PUT /abc/k HTTP/1.1\n" BASIC "x-amz-meta-a: 1,2\n");
    /* The same request with the values on two lines. */
    joined.text.headers[3].value = SLICE_LITERAL("1");
    add_header(&joined.text, "X-AMZ-META-A", SLICE_LITERAL("2"));
    assert_int_equal(verify_head(&joined.text.head, &config, SECRET, T0, NULL, &request), S3_OK);
    assert_true(slice_equal_text(s3_request_header(request, "x-amz-meta-a"), "1,2"));
}

static const struct {
    const char *name;
    const char *header; /* replaces the header of that name; NULL value: removed */
    const char *value;
    enum s3_error error;
    const char *message; /* NULL: any */
} header_faults[] = {
    {"nothing", "", NULL, S3_OK, NULL},
    {"no date", "x-amz-date", NULL, S3_ACCESS_DENIED,
     "AWS authentication requires a valid Date or x-amz-date header."},
    {"bad date", "x-amz-date", "2013-05-24T00:00:00Z", S3_ACCESS_DENIED, NULL},
    {"no payload hash", "x-amz-content-sha256", NULL, S3_INVALID_REQUEST,
     "Missing required header for this request: x-amz-content-sha256"},
    {"bad payload hash", "x-amz-content-sha256", "e3b0", S3_INVALID_ARGUMENT, NULL},
    {"ECDSA", "x-amz-content-sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
     S3_NOT_IMPLEMENTED, NULL},
    {"other payload hash", "x-amz-content-sha256", EMPTY, S3_SIGNATURE_DOES_NOT_MATCH, NULL},
    {"other host", "host", "g", S3_SIGNATURE_DOES_NOT_MATCH, NULL},
    {"no host", "host", NULL, S3_SIGNATURE_DOES_NOT_MATCH, NULL},
    {"version 2", "Authorization", "AWS " KEY ":frJIUN8DYpKDtOLCwo//yllqDzg=", S3_INVALID_REQUEST,
     "The authorization mechanism you have provided is not supported. Please use "
     "AWS4-HMAC-SHA256."},
    {"bearer", "Authorization", "Bearer token", S3_INVALID_ARGUMENT,
     "Unsupported Authorization Type"},
    {"one word", "Authorization", "token", S3_INVALID_ARGUMENT, NULL},
    {"empty", "Authorization", "", S3_INVALID_ARGUMENT, NULL},
    {"no components", "Authorization", "AWS4-HMAC-SHA256 x", S3_AUTHORIZATION_HEADER_MALFORMED,
     "The authorization header is malformed; the authorization component \"x\" is malformed."},
    {"two components", "Authorization", "AWS4-HMAC-SHA256 Signature=a,SignedHeaders=host",
     S3_AUTHORIZATION_HEADER_MALFORMED,
     "The authorization header is malformed; the authorization header requires three components: "
     "Credential, SignedHeaders, and Signature."},
    {"no credential", "Authorization", "AWS4-HMAC-SHA256 a=b,Signature=a,SignedHeaders=host",
     S3_AUTHORIZATION_HEADER_MALFORMED,
     "The authorization header is malformed; missing Credential."},
    {"component twice", "Authorization", "AWS4-HMAC-SHA256 Signature=a,Signature=a",
     S3_AUTHORIZATION_HEADER_MALFORMED, NULL},
};

static void replace_header(struct head_text *text, const char *name, const char *value)
{
    for (uint32_t i = 0; i < text->head.header_count; i++) {
        if (!slice_equal_nocase(text->headers[i].name, slice_of_text(name)))
            continue;
        if (value != NULL)
            text->headers[i].value = slice_of_text(value);
        else
            text->headers[i] = text->headers[--text->head.header_count];
    }
}

static void each_fault_of_the_header_has_its_code(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof header_faults / sizeof header_faults[0]; i++) {
        AUTO_VALUE(signed_head) head = {0};
        AUTO_VALUE(s3_failure) failure = {0};
        sign_head(&head, "GET /abc/k HTTP/1.1\n" BASIC);
        head.text.head.version = SLICE_LITERAL("HTTP/1.0"); /* may lack its host */
        replace_header(&head.text, header_faults[i].header, header_faults[i].value);
        enum s3_error error = verify_head(&head.text.head, &config, SECRET, T0, &failure, NULL);
        if (error != header_faults[i].error)
            fail_msg("%s: error %d", header_faults[i].name, error);
        if (header_faults[i].message != NULL)
            assert_true(
                slice_equal_text(s3_failure_message(&failure, error), header_faults[i].message));
    }
}

static const struct {
    const char *credential;
    const char *fault; /* behind the prefix of its place */
} credential_faults[] = {
    {KEY "/20130524/s3/aws4_request", "the Credential is mal-formed; expecting "
                                      "\"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"."},
    {KEY "/20130524/us-east-1/s3/extra/things",
     "the Credential is mal-formed; expecting "
     "\"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"."},
    {"/" SCOPE, "a non-empty Access Key (AKID) must be provided in the credential."},
    {KEY "/2013052/us-east-1/s3/aws4_request",
     "incorrect date format \"2013052\". This date in the credential must be in the format "
     "\"yyyyMMdd\"."},
    {KEY "/20130524/us-west-2/s3/aws4_request",
     "the region \"us-west-2\" is wrong; expecting \"us-east-1\""},
    {KEY "/20130524//s3/aws4_request", "a non-empty region must be provided in the credential."},
    {KEY "/20130524/us-east-1/ec2/aws4_request",
     "incorrect service \"ec2\". This endpoint belongs to \"s3\"."},
    {KEY "/20130524/us-east-1/s3/aws5_request",
     "incorrect terminal \"aws5_request\". This endpoint uses \"aws4_request\"."},
};

static void each_fault_of_the_credential_has_its_message(void **state)
{
    (void)state;
    struct s3_config one_region = config;
    one_region.region = "us-east-1";
    for (size_t i = 0; i < sizeof credential_faults / sizeof credential_faults[0]; i++) {
        char source[1024];
        char expected[512];
        struct head_text text;
        AUTO_VALUE(s3_failure) failure = {0};
        AUTO_VALUE(s3_failure) query_failure = {0};
        snprintf(source, sizeof source,
                 "GET /abc HTTP/1.1\n" BASIC
                 "Authorization: AWS4-HMAC-SHA256 Credential=%s, SignedHeaders=host, "
                 "Signature=00\n",
                 credential_faults[i].credential);
        head_text_init(&text, source);
        assert_int_equal(verify_head(&text.head, &one_region, SECRET, T0, &failure, NULL),
                         S3_AUTHORIZATION_HEADER_MALFORMED);
        snprintf(expected, sizeof expected, "The authorization header is malformed; %s",
                 credential_faults[i].fault);
        assert_true(slice_equal_text(bytes_slice(&failure.message), expected));
        snprintf(source, sizeof source,
                 "GET /abc?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=%s&X-Amz-Date="
                 "20130524T000000Z&X-Amz-Expires=9&X-Amz-SignedHeaders=host&X-Amz-Signature=00 "
                 "HTTP/1.1\nhost: h\n",
                 credential_faults[i].credential);
        head_text_init(&text, source);
        assert_int_equal(verify_head(&text.head, &one_region, SECRET, T0, &query_failure, NULL),
                         S3_AUTHORIZATION_QUERY_PARAMETERS_ERROR);
        snprintf(expected, sizeof expected, "Error parsing the X-Amz-Credential parameter; %s",
                 credential_faults[i].fault);
        assert_true(slice_equal_text(bytes_slice(&query_failure.message), expected));
    }
}

#define PRESIGNED(algorithm, date, expires)                                                        \
    "GET /abc?X-Amz-Algorithm=" algorithm "&X-Amz-Credential=" KEY "/" SCOPE "&X-Amz-Date=" date   \
    "&X-Amz-Expires=" expires "&X-Amz-SignedHeaders=host&X-Amz-Signature=00 HTTP/1.1\nhost: h\n"
#define V4 "AWS4-HMAC-SHA256"
#define D0 "20130524T000000Z"

static const struct {
    const char *head;
    enum s3_error error;
    const char *message;
} query_faults[] = {
    {PRESIGNED("AWS4-HMAC-SHA1", D0, "60"), S3_AUTHORIZATION_QUERY_PARAMETERS_ERROR,
     "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256\""},
    {PRESIGNED("AWS4-ECDSA-P256-SHA256", D0, "60"), S3_AUTHORIZATION_QUERY_PARAMETERS_ERROR,
     "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""},
    {PRESIGNED(V4, "20130524", "60"), S3_AUTHORIZATION_QUERY_PARAMETERS_ERROR,
     "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""},
    {PRESIGNED(V4, "20130525T000000Z", "60"), S3_AUTHORIZATION_QUERY_PARAMETERS_ERROR,
     "Invalid credential date \"20130524\". This date is not the same as X-Amz-Date: "
     "\"20130525\"."},
    {PRESIGNED(V4, D0, "1h"), S3_AUTHORIZATION_QUERY_PARAMETERS_ERROR,
     "X-Amz-Expires should be a number"},
    {PRESIGNED(V4, D0, "-1"), S3_AUTHORIZATION_QUERY_PARAMETERS_ERROR,
     "X-Amz-Expires must be non-negative"},
    {PRESIGNED(V4, D0, "604801"), S3_AUTHORIZATION_QUERY_PARAMETERS_ERROR,
     "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must "
     "be less than 604800 seconds"},
    {PRESIGNED(V4, D0, "0"), S3_ACCESS_DENIED, "Request has expired."},
    {PRESIGNED(V4, D0, "60"), S3_SIGNATURE_DOES_NOT_MATCH, NULL},
    {"GET /abc?X-Amz-Algorithm=" V4 " HTTP/1.1\nhost: h\n", S3_AUTHORIZATION_QUERY_PARAMETERS_ERROR,
     "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, "
     "X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."},
    {PRESIGNED(V4, D0, "60") "authorization: AWS4-HMAC-SHA256 a\n", S3_INVALID_ARGUMENT,
     "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query "
     "string parameter or the Authorization header should be specified"},
    {"GET /abc?X-Amz-Algorithm=" V4 "&Signature=a HTTP/1.1\nhost: h\n", S3_INVALID_ARGUMENT, NULL},
    {PRESIGNED(V4 "&x-amz-algorithm=" V4, D0, "60"), S3_INVALID_ARGUMENT, NULL},
    {PRESIGNED(V4, D0, "60") "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\n",
     S3_INVALID_REQUEST, NULL},
    {"GET /abc?Signature=a&Expires=1 HTTP/1.1\nhost: h\n", S3_ACCESS_DENIED,
     "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters"},
    {"GET /abc?Signature=a&Expires=x&AWSAccessKeyId=a HTTP/1.1\nhost: h\n", S3_ACCESS_DENIED,
     "Invalid date (should be seconds since epoch): x"},
};

static void each_fault_of_the_query_has_its_code(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof query_faults / sizeof query_faults[0]; i++) {
        struct head_text text;
        AUTO_VALUE(s3_failure) failure = {0};
        head_text_init(&text, query_faults[i].head);
        enum s3_error error = verify_head(&text.head, &config, SECRET, T0, &failure, NULL);
        if (error != query_faults[i].error)
            fail_msg("%s: error %d", query_faults[i].head, error);
        if (query_faults[i].message != NULL)
            assert_true(
                slice_equal_text(s3_failure_message(&failure, error), query_faults[i].message));
    }
}

static const struct {
    bool presigned;
    int64_t now_offset_ms;
    enum s3_error error;
} clocks[] = {
    {false, -900000, S3_OK},
    {false, 900000, S3_OK},
    {false, -900001, S3_REQUEST_TIME_TOO_SKEWED},
    {false, 900001, S3_REQUEST_TIME_TOO_SKEWED},
    {true, -900000, S3_OK},
    {true, -900001, S3_ACCESS_DENIED},
    {true, 60000, S3_OK},
    {true, 60001, S3_ACCESS_DENIED},
};

static void signatures_hold_for_a_bounded_time(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof clocks / sizeof clocks[0]; i++) {
        AUTO_VALUE(signed_head) head = {0};
        uint64_t now_ms = T0 + (uint64_t)clocks[i].now_offset_ms;
        if (clocks[i].presigned)
            presign_head(&head, "GET /abc/k HTTP/1.1\nhost: h\n", 60);
        else
            sign_head(&head, "GET /abc/k HTTP/1.1\n" BASIC);
        assert_int_equal(verify_head(&head.text.head, &config, SECRET, now_ms, NULL, NULL),
                         clocks[i].error);
    }
}

static void an_unsigned_amz_header_is_refused(void **state)
{
    (void)state;
    for (int presigned = 0; presigned < 2; presigned++) {
        AUTO_VALUE(signed_head) head = {0};
        AUTO_VALUE(s3_failure) failure = {0};
        if (presigned)
            presign_head(&head, "PUT /abc/k HTTP/1.1\nhost: h\n", 60);
        else
            sign_head(&head, "PUT /abc/k HTTP/1.1\n" BASIC);
        add_header(&head.text, "X-Amz-Copy-Source", SLICE_LITERAL("secret/key"));
        assert_int_equal(verify_head(&head.text.head, &config, SECRET, T0, &failure, NULL),
                         S3_ACCESS_DENIED);
        assert_string_equal(failure.details[0].element, "HeadersNotSigned");
        assert_true(slice_equal_text(bytes_slice(&failure.details[0].text), "x-amz-copy-source"));
    }
}

static void browsers_may_add_headers_that_are_not_amz(void **state)
{
    (void)state;
    AUTO_VALUE(signed_head) head = {0};
    AUTO(s3_request) request = NULL;
    presign_head(&head, "GET /abc/k HTTP/1.1\nhost: h\n", 60);
    add_header(&head.text, "Range", SLICE_LITERAL("bytes=0-1"));
    add_header(&head.text, "Accept", SLICE_LITERAL("a"));
    add_header(&head.text, "Accept", SLICE_LITERAL("b"));
    assert_int_equal(verify_head(&head.text.head, &config, SECRET, T0, NULL, &request), S3_OK);
    assert_true(slice_equal_text(s3_request_header(request, "range"), "bytes=0-1"));
    add_header(&head.text, "Range", SLICE_LITERAL("bytes=2-3"));
    assert_int_equal(verify_head(&head.text.head, &config, SECRET, T0, NULL, NULL),
                     S3_INVALID_ARGUMENT);
}

static void a_presigned_query_stands_for_headers(void **state)
{
    (void)state;
    AUTO_VALUE(signed_head) head = {0};
    AUTO_VALUE(signed_head) copy = {0};
    AUTO_VALUE(signed_head) split = {0};
    AUTO_VALUE(s3_failure) failure = {0};
    AUTO(s3_request) request = NULL;
    struct slice name = {0};
    struct slice value = {0};
    presign_head(&head, "PUT /abc/k?X-Amz-Acl=private&x-amz-meta-Color=red HTTP/1.1\nhost: h\n",
                 60);
    assert_int_equal(verify_head(&head.text.head, &config, SECRET, T0, NULL, &request), S3_OK);
    assert_true(slice_equal_text(s3_request_header(request, "x-amz-acl"), "private"));
    assert_null(s3_request_header(request, "x-amz-signature").data);
    assert_int_equal(s3_request_metadata_count(request), 1);
    s3_request_metadata_at(request, 0, &name, &value);
    assert_true(slice_equal_text(name, "color"));
    assert_true(slice_equal_text(value, "red"));
    /* A header that contradicts it cannot be slipped in. */
    add_header(&head.text, "x-amz-acl", SLICE_LITERAL("public-read"));
    assert_int_equal(verify_head(&head.text.head, &config, SECRET, T0, &failure, NULL),
                     S3_INVALID_ARGUMENT);
    presign_head(&copy, "PUT /abc/k?x-amz-copy-source=a%2Fb HTTP/1.1\nhost: h\n", 60);
    AUTO(s3_request) copy_request = NULL;
    assert_int_equal(verify_head(&copy.text.head, &config, SECRET, T0, NULL, &copy_request), S3_OK);
    assert_int_equal(s3_request_operation(copy_request), S3_OP_COPY_OBJECT);
    presign_head(&split, "PUT /abc/k?x-amz-meta-a=%0D%0Ab HTTP/1.1\nhost: h\n", 60);
    assert_int_equal(verify_head(&split.text.head, &config, SECRET, T0, NULL, NULL),
                     S3_INVALID_ARGUMENT);
}

static void an_unknown_key_is_told_from_a_bad_signature(void **state)
{
    (void)state;
    AUTO_VALUE(signed_head) head = {0};
    AUTO_VALUE(s3_failure) failure = {0};
    sign_head(&head, "GET /abc/k HTTP/1.1\n" BASIC);
    assert_int_equal(verify_head(&head.text.head, &config, NULL, T0, NULL, NULL),
                     S3_INVALID_ACCESS_KEY_ID);
    assert_int_equal(verify_head(&head.text.head, &config, "another", T0, &failure, NULL),
                     S3_SIGNATURE_DOES_NOT_MATCH);
    assert_int_equal(failure.detail_count, 4);
    assert_string_equal(failure.details[1].element, "StringToSign");
    assert_string_equal(failure.details[3].element, "CanonicalRequest");
    assert_true(slice_equal_text(bytes_slice(&failure.details[3].text),
                                 "GET\n/abc/k\n\nhost:h\nx-amz-content-sha256:UNSIGNED-PAYLOAD\n"
                                 "x-amz-date:20130524T000000Z\n\n"
                                 "host;x-amz-content-sha256;x-amz-date\nUNSIGNED-PAYLOAD"));
}

static void unsigned_payloads_can_be_refused_without_tls(void **state)
{
    (void)state;
    struct s3_config strict = config;
    AUTO_VALUE(signed_head) head = {0};
    strict.refuse_unsigned_payload = true;
    sign_head(&head, "PUT /abc/k HTTP/1.1\n" BASIC);
    assert_int_equal(verify_head(&head.text.head, &strict, SECRET, T0, NULL, NULL),
                     S3_ACCESS_DENIED);
    head.text.head.tls = true;
    assert_int_equal(verify_head(&head.text.head, &strict, SECRET, T0, NULL, NULL), S3_OK);
}

static void the_cache_follows_the_secret(void **state)
{
    (void)state;
    static struct s3_signing_cache cache;
    static const struct {
        const char *secret;
        enum s3_error error;
    } steps[] = {
        {SECRET, S3_OK},
        {SECRET, S3_OK},
        {"changed", S3_SIGNATURE_DOES_NOT_MATCH},
        {NULL, S3_INVALID_ACCESS_KEY_ID},
        {SECRET, S3_OK},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        AUTO_VALUE(signed_head) head = {0};
        AUTO(s3_request) request = NULL;
        sign_head(&head, "GET /abc/k HTTP/1.1\n" BASIC);
        assert_int_equal(s3_request_new(&head.text.head, &config, NULL, &request), S3_OK);
        assert_int_equal(s3_auth_verify(request, slice_of_text(steps[i].secret), &cache, T0, NULL),
                         steps[i].error);
    }
    s3_signing_cache_deinit(&cache);
}

/* "Signing and Authenticating REST Requests", query string example of version 2. */
static void the_version_2_example_of_aws_verifies(void **state)
{
    (void)state;
    struct head_text text;
    AUTO(s3_request) request = NULL;
    head_text_init(&text,
                   "GET /photos/puppy.jpg?AWSAccessKeyId=" KEY
                   "&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620 HTTP/1.1\n"
                   "Host: johnsmith.s3.amazonaws.com\n");
    assert_int_equal(
        verify_head(&text.head, &config, SECRET, UINT64_C(1175139620000), NULL, &request), S3_OK);
    assert_int_equal(verify_head(&text.head, &config, SECRET, UINT64_C(1175139620001), NULL, NULL),
                     S3_ACCESS_DENIED);
}

static const struct {
    const char *head;
    const char *resource;
    enum s3_error error;
} v2_cases[] = {
    {"GET /abc/k HTTP/1.1\nhost: h\n", "/abc/k", S3_OK},
    {"GET /abc/a%20b HTTP/1.1\nhost: h\n", "/abc/a%20b", S3_OK},
    {"GET /k HTTP/1.1\nhost: abc.s3.amazonaws.com\n", "/abc/k", S3_OK},
    {"PUT /abc/k HTTP/1.1\nhost: h\ncontent-type: text/plain\nx-amz-meta-b: 2\nX-Amz-Acl: "
     "private\n",
     "/abc/k", S3_OK},
    {"PUT /abc/k?partNumber=1&uploadId=u HTTP/1.1\nhost: h\n", "/abc/k?partNumber=1&uploadId=u",
     S3_OK},
    {"GET /abc?acl HTTP/1.1\nhost: h\n", "/abc?acl", S3_OK},
    {"GET /abc?prefix=a HTTP/1.1\nhost: h\n", "/abc", S3_OK},
    {"GET /abc?encryption HTTP/1.1\nhost: h\n", "/abc", S3_ACCESS_DENIED},
    {"GET /abc?acl HTTP/1.1\nhost: h\n", "/abc", S3_SIGNATURE_DOES_NOT_MATCH},
    {"GET /abc/k HTTP/1.1\nhost: h\n", "/abc/j", S3_SIGNATURE_DOES_NOT_MATCH},
};

static void version_2_signs_resource_and_amz_headers(void **state)
{
    (void)state;
    struct s3_signer signer = signer_at(T0);
    for (size_t i = 0; i < sizeof v2_cases / sizeof v2_cases[0]; i++) {
        struct head_text text;
        AUTO_VALUE(bytes) target = {.max = 4096};
        head_text_init(&text, v2_cases[i].head);
        s3_signer_presign_v2(&signer, &text.head, slice_of_text(v2_cases[i].resource),
                             T0 / 1000 + 60, &target);
        text.head.target = bytes_slice(&target);
        enum s3_error error = verify_head(&text.head, &config, SECRET, T0, NULL, NULL);
        if (error != v2_cases[i].error)
            fail_msg("%s: error %d", v2_cases[i].head, error);
        if (error != S3_OK)
            continue;
        add_header(&text, "x-amz-meta-c", SLICE_LITERAL("slipped in"));
        assert_int_equal(verify_head(&text.head, &config, SECRET, T0, NULL, NULL),
                         S3_SIGNATURE_DOES_NOT_MATCH);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_of_aws_verify),
        cmocka_unit_test(the_chunk_chain_starts_at_the_signature),
        cmocka_unit_test(what_our_signer_signs_verifies),
        cmocka_unit_test(a_repeated_signed_header_counts_as_one),
        cmocka_unit_test(each_fault_of_the_header_has_its_code),
        cmocka_unit_test(each_fault_of_the_credential_has_its_message),
        cmocka_unit_test(each_fault_of_the_query_has_its_code),
        cmocka_unit_test(signatures_hold_for_a_bounded_time),
        cmocka_unit_test(an_unsigned_amz_header_is_refused),
        cmocka_unit_test(browsers_may_add_headers_that_are_not_amz),
        cmocka_unit_test(a_presigned_query_stands_for_headers),
        cmocka_unit_test(an_unknown_key_is_told_from_a_bad_signature),
        cmocka_unit_test(unsigned_payloads_can_be_refused_without_tls),
        cmocka_unit_test(the_cache_follows_the_secret),
        cmocka_unit_test(the_version_2_example_of_aws_verifies),
        cmocka_unit_test(version_2_signs_resource_and_amz_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
