/* The checks that refuse an ambiguous or oversized head. */
#include "s3/head.h"
#include "base/text.h"
#include "s3/name.h"
#include "s3/uri.h"
#include <assert.h>

const struct s3_header *s3_head_find(const struct s3_head *head, const char *name)
{
    struct slice wanted = slice_of_text(name);
    for (uint32_t i = 0; i < head->header_count; i++) {
        if (slice_equal_nocase(head->headers[i].name, wanted))
            return &head->headers[i];
    }
    return NULL;
}

static uint32_t count_of(const struct s3_head *head, const char *name)
{
    struct slice wanted = slice_of_text(name);
    uint32_t count = 0;
    for (uint32_t i = 0; i < head->header_count; i++)
        count += slice_equal_nocase(head->headers[i].name, wanted);
    return count;
}

static enum s3_error check_request_line(const struct s3_head *head, struct s3_failure *failure)
{
    if (head->method.bytes > S3_METHOD_BYTES_MAX || !s3_header_name_valid(head->method))
        return S3_FAIL_SAY(failure, S3_METHOD_NOT_ALLOWED, "The method is not valid.");
    if (!slice_equal_text(head->version, "HTTP/1.1") &&
        !slice_equal_text(head->version, "HTTP/1.0"))
        return S3_FAIL_SAY(failure, S3_INVALID_REQUEST, "The HTTP version is not supported.");
    if (head->target.bytes == 0 || head->target.bytes > S3_TARGET_BYTES_MAX)
        return S3_FAIL(S3_INVALID_URI, "target bytes=%zu", head->target.bytes);
    for (size_t i = 0; i < head->target.bytes; i++) {
        uint8_t c = head->target.data[i];
        if (c <= 0x20 || c == 0x7f || c == '#')
            return S3_FAIL(S3_INVALID_URI, "target holds byte=%u", c);
    }
    return S3_OK;
}

static enum s3_error check_headers(const struct s3_head *head, struct s3_failure *failure)
{
    size_t bytes = head->method.bytes + head->target.bytes + head->version.bytes + 4;
    if (head->header_count > S3_HEADERS_MAX)
        return S3_FAIL(S3_REQUEST_HEADER_SECTION_TOO_LARGE, "header_count=%u", head->header_count);
    for (uint32_t i = 0; i < head->header_count; i++) {
        const struct s3_header *header = &head->headers[i];
        size_t line_bytes = header->name.bytes + header->value.bytes + 4;
        if (line_bytes > S3_HEADER_LINE_BYTES_MAX)
            return S3_FAIL(S3_REQUEST_HEADER_SECTION_TOO_LARGE, "header bytes=%zu", line_bytes);
        bytes += line_bytes;
        if (!s3_header_name_valid(header->name))
            return S3_FAIL_SAY(failure, S3_INVALID_REQUEST, "A header name is not valid.");
        if (!s3_header_value_valid(header->value))
            return S3_FAIL_SAY(failure, S3_INVALID_REQUEST, "A header value is not valid.");
    }
    if (bytes > S3_HEAD_BYTES_MAX)
        return S3_FAIL(S3_REQUEST_HEADER_SECTION_TOO_LARGE, "head bytes=%zu", bytes);
    return S3_OK;
}

static enum s3_error check_once(const struct s3_head *head, struct s3_failure *failure)
{
    static const char *const once[] = {"host", "authorization", "content-length",
                                       "transfer-encoding"};
    for (size_t i = 0; i < sizeof once / sizeof once[0]; i++) {
        if (count_of(head, once[i]) > 1)
            return S3_FAIL_SAY(failure, S3_INVALID_REQUEST, "The header %s is repeated.", once[i]);
    }
    const struct s3_header *host = s3_head_find(head, "host");
    if (slice_equal_text(head->version, "HTTP/1.1") && (host == NULL || host->value.bytes == 0))
        return S3_FAIL_SAY(failure, S3_INVALID_REQUEST, "The header host is missing.");
    return S3_OK;
}

static enum s3_error check_framing(const struct s3_head *head, struct s3_failure *failure,
                                   struct s3_framing *out_framing)
{
    const struct s3_header *length = s3_head_find(head, "content-length");
    const struct s3_header *coding = s3_head_find(head, "transfer-encoding");
    struct s3_framing framing = {.chunked = coding != NULL, .has_content_length = length != NULL};
    if (length != NULL && coding != NULL)
        return S3_FAIL_SAY(failure, S3_INVALID_REQUEST,
                           "Content-Length and Transfer-Encoding exclude each other.");
    if (coding != NULL && slice_equal_text(head->version, "HTTP/1.0"))
        return S3_FAIL_SAY(failure, S3_INVALID_REQUEST,
                           "Transfer-Encoding does not exist in HTTP/1.0.");
    if (coding != NULL && !slice_equal_nocase(coding->value, SLICE_LITERAL("chunked")))
        return S3_FAIL(S3_NOT_IMPLEMENTED, "transfer coding other than chunked");
    if (length != NULL && text_parse_u64(length->value, INT64_MAX, &framing.content_length) != OK)
        return S3_FAIL_SAY(failure, S3_INVALID_REQUEST, "Content-Length is not a number.");
    *out_framing = framing;
    return S3_OK;
}

enum s3_error s3_head_check(const struct s3_head *head, struct s3_failure *failure,
                            struct s3_framing *out_framing)
{
    assert(head->headers != NULL || head->header_count == 0);
    TRY(check_request_line(head, failure));
    TRY(check_headers(head, failure));
    TRY(check_once(head, failure));
    return check_framing(head, failure, out_framing);
}
