/* x-amz-content-sha256 and what belongs to it. */
#include "base/text.h"
#include "parsed.h"

static const struct {
    const char *text;
    enum s3_payload_mode mode;
} payload_words[] = {
    {"UNSIGNED-PAYLOAD", S3_PAYLOAD_UNSIGNED},
    {"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", S3_PAYLOAD_CHUNKS_SIGNED},
    {"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", S3_PAYLOAD_CHUNKS_SIGNED_TRAILER},
    {"STREAMING-UNSIGNED-PAYLOAD-TRAILER", S3_PAYLOAD_CHUNKS_UNSIGNED_TRAILER},
};

static enum s3_error parse_mode(struct s3_payload *payload, struct slice line,
                                struct s3_failure *failure)
{
    for (size_t i = 0; i < sizeof payload_words / sizeof payload_words[0]; i++) {
        if (slice_equal_text(line, payload_words[i].text)) {
            payload->mode = payload_words[i].mode;
            return S3_OK;
        }
    }
    if (slice_starts_with(line, SLICE_LITERAL("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD")))
        return S3_FAIL(S3_NOT_IMPLEMENTED, "ECDSA payload signatures");
    payload->mode = S3_PAYLOAD_SIGNED;
    if (text_parse_hex(line, payload->sha256, sizeof payload->sha256) != OK)
        return s3_fail_argument(
            failure, "x-amz-content-sha256", line,
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, "
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD, "
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER or a valid sha256 value.");
    return S3_OK;
}

static bool is_chunked(enum s3_payload_mode mode)
{
    return mode == S3_PAYLOAD_CHUNKS_SIGNED || mode == S3_PAYLOAD_CHUNKS_SIGNED_TRAILER ||
           mode == S3_PAYLOAD_CHUNKS_UNSIGNED_TRAILER;
}

static enum s3_error parse_decoded_length(const struct s3_request *request,
                                          struct s3_payload *payload)
{
    const struct view_header *header = view_find(request, "x-amz-decoded-content-length");
    if (!is_chunked(payload->mode))
        return S3_OK;
    /* Required of every aws-chunked request: S3 API Reference, "Signature Calculations for the
     * Authorization Header: Transferring Payload in Multiple Chunks". */
    if (header == NULL)
        return S3_FAIL(S3_MISSING_CONTENT_LENGTH, "no x-amz-decoded-content-length");
    if (text_parse_u64(header->value, INT64_MAX, &payload->decoded_bytes) != OK)
        return S3_FAIL(S3_MISSING_CONTENT_LENGTH, "x-amz-decoded-content-length is no number");
    return S3_OK;
}

enum s3_error payload_parse(struct s3_request *request, struct s3_failure *failure)
{
    const struct view_header *header = view_find(request, "x-amz-content-sha256");
    const struct view_header *trailer = view_find(request, "x-amz-trailer");
    enum s3_auth_kind kind = request->credential.kind;
    struct s3_payload payload = {0};
    request->payload_line = header == NULL ? SLICE_LITERAL("UNSIGNED-PAYLOAD") : header->value;
    TRY(parse_mode(&payload, request->payload_line, failure));
    if (is_chunked(payload.mode) && (kind == S3_AUTH_V4_QUERY || kind == S3_AUTH_V2_QUERY))
        return S3_FAIL_SAY(failure, S3_INVALID_REQUEST,
                           "A presigned URL cannot be used with an aws-chunked payload.");
    TRY(parse_decoded_length(request, &payload));
    bool has_trailer = payload.mode == S3_PAYLOAD_CHUNKS_SIGNED_TRAILER ||
                       payload.mode == S3_PAYLOAD_CHUNKS_UNSIGNED_TRAILER;
    if (trailer != NULL && !has_trailer)
        return S3_FAIL(S3_MALFORMED_TRAILER, "x-amz-trailer without a trailer");
    if (trailer != NULL)
        payload.trailer_names = trailer->value;
    request->payload = payload;
    return S3_OK;
}
