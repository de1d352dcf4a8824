/* Target 1 and 2 of the fuzz list: request line, headers, SigV4 in the header and in the query.
 *
 * Input: a head as text, lines ending with LF. It is parsed and verified as it is; then, when it is
 * a head without credentials, our signer signs it, and the verifier must agree and hand out what
 * was sent. */
#include "base/bytes.h"
#include "s3/request.h"
#include "s3/signer.h"
#include "s3/sigv4.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define T0 UINT64_C(1369353600000) /* 2013-05-24T00:00:00Z, as in the examples of AWS */

enum { OWN_HEADERS = 3 };

static const char *const domains[] = {"s3.amazonaws.com"};
static const struct s3_config config = {.domains = domains, .domain_count = 1};

static struct slice take_line(struct slice *rest)
{
    struct slice line = slice_first(*rest, slice_find(*rest, '\n'));
    *rest = slice_skip(*rest, line.bytes + 1);
    return line;
}

static struct s3_head head_of(struct slice text, struct s3_header *headers)
{
    struct s3_head head = {.headers = headers};
    struct slice line = take_line(&text);
    head.method = slice_first(line, slice_find(line, ' '));
    line = slice_skip(line, head.method.bytes + 1);
    head.target = slice_first(line, slice_find(line, ' '));
    head.version = slice_skip(line, head.target.bytes + 1);
    while (text.bytes > 0 && head.header_count < S3_HEADERS_MAX - OWN_HEADERS) {
        line = take_line(&text);
        struct slice name = slice_first(line, slice_find(line, ':'));
        headers[head.header_count++] =
            (struct s3_header){name, slice_trim(slice_skip(line, name.bytes + 1))};
    }
    return head;
}

/* Read all that a handler could read. */
static void read_all(struct s3_request *request)
{
    AUTO_VALUE(bytes) arena = {.max = S3_HEADER_LINE_BYTES_MAX + S3_TARGET_BYTES_MAX};
    struct s3_copy_source source;
    struct slice copy_source = s3_request_header(request, "x-amz-copy-source");
    assert(s3_request_payload(request)->mode != 0);
    assert(s3_operation_name(s3_request_operation(request)) != NULL);
    assert(s3_request_query(request, "x").bytes <= S3_TARGET_BYTES_MAX);
    (void)s3_request_metadata_check(request, NULL); /* the outcome is not of interest */
    if (copy_source.data != NULL)
        (void)s3_copy_source_parse(copy_source, &arena, NULL, &source);
}

static void check_as_sent(const struct s3_head *head)
{
    AUTO(s3_request) request = NULL;
    AUTO_VALUE(s3_failure) failure = {0};
    if (s3_request_new(head, &config, &failure, &request) != S3_OK)
        return;
    enum s3_error error = s3_request_credential(request)->kind == S3_AUTH_ANONYMOUS
                              ? s3_request_accept_anonymous(request, &failure)
                              : s3_auth_verify(request, SLICE_LITERAL(SECRET), NULL, T0, &failure);
    assert((error == S3_OK) == s3_request_is_verified(request));
    if (error == S3_OK)
        read_all(request);
}

static bool has_parameter(struct slice target, const char *name)
{
    struct slice wanted = slice_of_text(name);
    for (size_t i = 0; i + wanted.bytes <= target.bytes; i++) {
        if (slice_equal_nocase(slice_first(slice_skip(target, i), wanted.bytes), wanted))
            return true;
    }
    return false;
}

/* Heads that the signer may sign: it asserts what a client would never send. */
static bool is_signable(const struct s3_head *head)
{
    static const char *const own[] = {"authorization", "x-amz-date", "x-amz-content-sha256",
                                      "x-amz-trailer"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        if (s3_head_find(head, own[i]) != NULL)
            return false;
    }
    for (uint32_t i = 0; i < head->header_count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (slice_equal_nocase(head->headers[i].name, head->headers[j].name))
                return false;
        }
    }
    /* Escapes could spell the names of these; leave all escapes in names out. */
    return s3_head_find(head, "host") != NULL && head->target.bytes > 0 &&
           head->target.data[0] == '/' && !has_parameter(head->target, "amz") &&
           !has_parameter(head->target, "signature") && !has_parameter(head->target, "access") &&
           head->target.bytes < S3_TARGET_BYTES_MAX / 8;
}

static void check_signed(struct s3_head *head, struct s3_header *headers)
{
    const struct s3_signer signer = {.access_key = SLICE_LITERAL("AKIAIOSFODNN7EXAMPLE"),
                                     .secret = SLICE_LITERAL(SECRET),
                                     .region = SLICE_LITERAL("us-east-1"),
                                     .now_ms = T0};
    AUTO_VALUE(bytes) authorization = {.max = 1 << 20};
    AUTO_VALUE(bytes) target = {.max = 1 << 20};
    AUTO(s3_request) plain = NULL;
    AUTO(s3_request) by_header = NULL;
    AUTO(s3_request) by_query = NULL;
    if (!is_signable(head) || s3_request_new(head, &config, NULL, &plain) != S3_OK ||
        s3_request_credential(plain)->kind != S3_AUTH_ANONYMOUS)
        return;
    s3_signer_presign(&signer, head, 60, &target);
    struct s3_head presigned = *head;
    presigned.target = bytes_slice(&target);
    enum s3_error error = s3_request_new(&presigned, &config, NULL, &by_query);
    assert(error == S3_OK);
    error = s3_auth_verify(by_query, SLICE_LITERAL(SECRET), NULL, T0, NULL);
    assert(error == S3_OK);
    assert(slice_equal(s3_request_key(by_query), s3_request_key(plain)));

    headers[head->header_count++] =
        (struct s3_header){SLICE_LITERAL("x-amz-date"), SLICE_LITERAL("20130524T000000Z")};
    headers[head->header_count++] = (struct s3_header){SLICE_LITERAL("x-amz-content-sha256"),
                                                       SLICE_LITERAL("UNSIGNED-PAYLOAD")};
    s3_signer_authorize(&signer, head, &authorization, NULL);
    headers[head->header_count++] =
        (struct s3_header){SLICE_LITERAL("Authorization"), bytes_slice(&authorization)};
    error = s3_request_new(head, &config, NULL, &by_header);
    assert(error == S3_OK);
    error = s3_auth_verify(by_header, SLICE_LITERAL(SECRET), NULL, T0, NULL);
    assert(error == S3_OK);
    assert(s3_request_operation(by_header) == s3_request_operation(plain));
    assert(slice_equal(s3_request_key(by_header), s3_request_key(plain)));
    read_all(by_header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct s3_header headers[S3_HEADERS_MAX];
    struct s3_framing framing;
    struct s3_head head = head_of(slice_of(data, bytes), headers);
    AUTO_VALUE(s3_failure) failure = {0};
    if (s3_head_check(&head, &failure, &framing) != S3_OK)
        return 0;
    check_as_sent(&head);
    check_signed(&head, headers);
    return 0;
}
