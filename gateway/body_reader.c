/* See body.h: one state machine for the five payload modes. */
#include "body.h"

#include "base/mem.h"
#include "base/text.h"
#include "form_body.h"
#include "s3/chunked.h"
#include "s3/sigv4.h"

enum { STAGING_BYTES = 64 << 10 };

struct body_reader {
    struct context *context;
    struct digest *digest;
    struct s3_chunked *chunked; /* with `form` NULL too: the payload is the body as it is */
    struct form_body *form;     /* of a browser's upload, borrowed */
    uint8_t *staging;           /* raw aws-chunked bytes */
    struct slice raw;           /* of them, not decoded yet */
    uint64_t expected_bytes;    /* UINT64_MAX: unknown */
    uint64_t payload_bytes;
    struct checksum declared; /* by header; the algorithm alone when a trailer follows */
    bool declared_value;      /* `declared` holds a value of the client's */
    bool has_md5;
    uint8_t md5[DIGEST_MD5_BYTES];
    bool ended;
};

void body_reader_free(struct body_reader *reader)
{
    if (reader == NULL)
        return;
    digest_free(reader->digest);
    s3_chunked_free(reader->chunked);
    mem_free(reader->staging);
    mem_free(reader);
}

static struct slice header(const struct body_reader *reader, const char *name)
{
    return s3_request_header(reader->context->request, name);
}

static enum s3_error read_md5_header(struct body_reader *reader)
{
    struct slice text = header(reader, "content-md5");
    if (text.data == NULL)
        return S3_OK;
    size_t bytes = 0;
    if (text_parse_base64(text, reader->md5, sizeof reader->md5, &bytes) != OK ||
        bytes != sizeof reader->md5) {
        s3_failure_add(&reader->context->failure, "Content-MD5", text);
        return S3_FAIL(S3_INVALID_DIGEST, "Content-MD5");
    }
    reader->has_md5 = true;
    return S3_OK;
}

/* The algorithm that x-amz-trailer announces, NONE when none. */
static enum checksum_algorithm trailer_algorithm(const struct body_reader *reader)
{
    struct slice names = s3_request_payload(reader->context->request)->trailer_names;
    while (names.bytes > 0) {
        size_t comma = slice_find(names, ',');
        enum checksum_algorithm algorithm =
            checksum_by_header(slice_trim(slice_first(names, comma)));
        if (algorithm != CHECKSUM_NONE)
            return algorithm;
        names = slice_skip(names, comma + 1);
    }
    return CHECKSUM_NONE;
}

/* The algorithm whose header is there; more than one is an error whatever they hold. */
static enum s3_error find_checksum_header(const struct body_reader *reader,
                                          enum checksum_algorithm *out_algorithm)
{
    *out_algorithm = CHECKSUM_NONE;
    for (int i = CHECKSUM_NONE + 1; i < CHECKSUM_ALGORITHM_COUNT; i++) {
        enum checksum_algorithm algorithm = (enum checksum_algorithm)i;
        if (header(reader, checksum_header(algorithm)).data == NULL)
            continue;
        if (*out_algorithm != CHECKSUM_NONE)
            return S3_FAIL_SAY(&reader->context->failure, S3_INVALID_REQUEST,
                               "Expecting a single x-amz-checksum- header. Multiple checksum Types "
                               "are not allowed.");
        *out_algorithm = algorithm;
    }
    return S3_OK;
}

static enum s3_error read_checksum_value(struct body_reader *reader)
{
    enum checksum_algorithm algorithm;
    TRY(find_checksum_header(reader, &algorithm));
    if (algorithm == CHECKSUM_NONE)
        return S3_OK;
    const char *name = checksum_header(algorithm);
    if (!checksum_parse(algorithm, header(reader, name), &reader->declared) ||
        reader->declared.type != CHECKSUM_FULL_OBJECT)
        return S3_FAIL_SAY(&reader->context->failure, S3_INVALID_REQUEST,
                           "Value for %s header is invalid.", name);
    reader->declared_value = true;
    return S3_OK;
}

static enum s3_error read_checksum_headers(struct body_reader *reader)
{
    struct s3_failure *failure = &reader->context->failure;
    /* There they speak of the object, not of the body (S3 CompleteMultipartUpload). */
    if (s3_request_operation(reader->context->request) == S3_OP_COMPLETE_MULTIPART_UPLOAD)
        return S3_OK;
    TRY(read_checksum_value(reader));
    enum checksum_algorithm trailer = trailer_algorithm(reader);
    if (trailer != CHECKSUM_NONE && reader->declared_value)
        return S3_FAIL_SAY(failure, S3_INVALID_REQUEST,
                           "Expecting a single x-amz-checksum- header. Multiple checksum Types are "
                           "not allowed.");
    if (trailer != CHECKSUM_NONE)
        reader->declared.algorithm = trailer;
    struct slice name = header(reader, "x-amz-sdk-checksum-algorithm");
    if (name.bytes == 0)
        return S3_OK;
    enum checksum_algorithm wanted = checksum_by_name(name);
    if (wanted == CHECKSUM_NONE)
        return S3_FAIL_SAY(failure, S3_INVALID_REQUEST,
                           "Value for x-amz-sdk-checksum-algorithm header is invalid.");
    if (reader->declared.algorithm == CHECKSUM_NONE && !reader->has_md5)
        return S3_FAIL_SAY(failure, S3_INVALID_REQUEST,
                           "x-amz-sdk-checksum-algorithm specified, but no corresponding "
                           "x-amz-checksum-* or x-amz-trailer headers were found.");
    if (reader->declared.algorithm != CHECKSUM_NONE && reader->declared.algorithm != wanted)
        return S3_FAIL_SAY(failure, S3_INVALID_REQUEST,
                           "Value for x-amz-sdk-checksum-algorithm header is invalid.");
    return S3_OK;
}

static enum s3_error start_chunked(struct body_reader *reader, enum s3_chunked_mode mode)
{
    const struct s3_payload *payload = s3_request_payload(reader->context->request);
    struct s3_chunked_options options = {
        .mode = mode,
        .signing = mode == S3_CHUNKED_UNSIGNED_TRAILER
                       ? NULL
                       : s3_request_chunk_signing(reader->context->request),
        .has_decoded_bytes = true,
        .decoded_bytes = payload->decoded_bytes,
        .trailer_names = payload->trailer_names,
    };
    reader->expected_bytes = payload->decoded_bytes;
    reader->staging = mem_alloc(STAGING_BYTES);
    return s3_chunked_new(&options, &reader->context->failure, &reader->chunked);
}

static enum s3_error start_payload(struct body_reader *reader)
{
    const struct s3_framing *framing = &reader->context->exchange->framing;
    reader->expected_bytes = UINT64_MAX;
    if (reader->form != NULL) {
        reader->expected_bytes = form_body_expected_bytes(reader->form);
        return S3_OK;
    }
    switch (s3_request_payload(reader->context->request)->mode) {
    case S3_PAYLOAD_CHUNKS_SIGNED:
        TRY(start_chunked(reader, S3_CHUNKED_SIGNED));
        break;
    case S3_PAYLOAD_CHUNKS_SIGNED_TRAILER:
        TRY(start_chunked(reader, S3_CHUNKED_SIGNED_TRAILER));
        break;
    case S3_PAYLOAD_CHUNKS_UNSIGNED_TRAILER:
        TRY(start_chunked(reader, S3_CHUNKED_UNSIGNED_TRAILER));
        break;
    case S3_PAYLOAD_UNSIGNED:
    case S3_PAYLOAD_SIGNED:
        if (!framing->has_content_length)
            return S3_FAIL(S3_MISSING_CONTENT_LENGTH, "no Content-Length");
        reader->expected_bytes = framing->content_length;
        break;
    }
    if (reader->chunked != NULL && !framing->has_content_length && !framing->chunked)
        return S3_FAIL(S3_MISSING_CONTENT_LENGTH, "no Content-Length and not chunked");
    if (reader->expected_bytes != UINT64_MAX && reader->expected_bytes > S3_BODY_BYTES_MAX) {
        s3_failure_add(&reader->context->failure, "MaxSizeAllowed", SLICE_LITERAL("5368709120"));
        return S3_FAIL(S3_ENTITY_TOO_LARGE, "body");
    }
    return S3_OK;
}

static enum s3_error start(struct body_reader *reader, const struct body_expectation *expectation)
{
    TRY(read_md5_header(reader));
    TRY(read_checksum_headers(reader));
    TRY(start_payload(reader));
    uint32_t set = digest_bit(reader->declared.algorithm) | digest_bit(expectation->checksum);
    if (expectation->md5 || reader->has_md5)
        set |= DIGEST_MD5;
    if (s3_request_payload(reader->context->request)->mode == S3_PAYLOAD_SIGNED)
        set |= DIGEST_SHA256;
    reader->digest = digest_new(reader->context->gateway->methods, set);
    return S3_OK;
}

enum s3_error body_reader_new(struct io *io, struct context *context,
                              const struct body_expectation *expectation,
                              struct body_reader **out_reader)
{
    (void)io;
    AUTO(body_reader) reader = mem_new(struct body_reader);
    reader->context = context;
    reader->form = expectation->form;
    TRY(start(reader, expectation));
    *out_reader = TAKE(reader);
    return S3_OK;
}

uint64_t body_reader_expected_bytes(const struct body_reader *reader)
{
    return reader->expected_bytes;
}

enum s3_error body_transport_error(enum err err)
{
    if (err == ERR_TIMEOUT)
        return S3_FAIL(S3_REQUEST_TIMEOUT, "client too slow");
    if (err == ERR_INVALID)
        return S3_FAIL(S3_INVALID_REQUEST, "body framing");
    return s3_error_from(err, "body");
}

static enum s3_error fill_plain(struct io *io, struct body_reader *reader, uint8_t *dst,
                                size_t bytes, size_t *out_bytes)
{
    uint64_t rest = reader->expected_bytes - reader->payload_bytes;
    size_t want = bytes < rest ? bytes : (size_t)rest;
    *out_bytes = 0;
    if (want == 0)
        return S3_OK;
    TRY(body_transport_error(exchange_read(io, reader->context->exchange, dst, want, out_bytes)));
    if (*out_bytes == 0)
        return S3_FAIL(S3_INCOMPLETE_BODY, "body ended early");
    return S3_OK;
}

/* One run of decoded payload, or 0 at the end of the body. */
static enum s3_error fill_chunked(struct io *io, struct body_reader *reader, uint8_t *dst,
                                  size_t bytes, size_t *out_bytes)
{
    struct context *context = reader->context;
    for (;;) {
        /* The decoder gives a run as long as its input allows: offer no more than fits. */
        struct slice offered = slice_first(reader->raw, bytes);
        struct slice payload;
        size_t before = offered.bytes;
        TRY(s3_chunked_next(reader->chunked, &offered, &payload, &context->failure));
        reader->raw = slice_skip(reader->raw, before - offered.bytes);
        if (payload.bytes > 0) {
            memcpy(dst, payload.data, payload.bytes);
            *out_bytes = payload.bytes;
            return S3_OK;
        }
        if (reader->raw.bytes > 0)
            continue;
        size_t got = 0;
        TRY(body_transport_error(
            exchange_read(io, context->exchange, reader->staging, STAGING_BYTES, &got)));
        if (got == 0) {
            *out_bytes = 0;
            return s3_chunked_finish(reader->chunked, &context->failure);
        }
        reader->raw = slice_of(reader->staging, got);
    }
}

enum s3_error body_reader_fill(struct io *io, struct body_reader *reader, struct buf *buf,
                               size_t offset, size_t bytes, size_t *out_bytes)
{
    assert(offset + bytes <= buf->capacity);
    size_t filled = 0;
    while (filled < bytes && !reader->ended) {
        uint8_t *dst = buf->data + offset + filled;
        size_t got = 0;
        if (reader->form != NULL)
            TRY(form_body_fill(io, reader->form, dst, bytes - filled, &got));
        else if (reader->chunked == NULL)
            TRY(fill_plain(io, reader, dst, bytes - filled, &got));
        else
            TRY(fill_chunked(io, reader, dst, bytes - filled, &got));
        if (got == 0)
            reader->ended = true;
        digest_update(reader->digest, slice_of(dst, got));
        filled += got;
        reader->payload_bytes += got;
        if (reader->payload_bytes > S3_BODY_BYTES_MAX)
            return S3_FAIL(S3_ENTITY_TOO_LARGE, "body");
    }
    *out_bytes = filled;
    return S3_OK;
}

static enum s3_error take_trailer(struct body_reader *reader)
{
    if (reader->declared_value || reader->declared.algorithm == CHECKSUM_NONE)
        return S3_OK;
    const char *name = checksum_header(reader->declared.algorithm);
    struct slice text = s3_chunked_trailer(reader->chunked, name);
    if (!checksum_parse(reader->declared.algorithm, text, &reader->declared) ||
        reader->declared.type != CHECKSUM_FULL_OBJECT)
        return S3_FAIL_SAY(&reader->context->failure, S3_INVALID_REQUEST,
                           "Value for %s trailing header is invalid.", name);
    reader->declared_value = true;
    return S3_OK;
}

/* S3 shows the computed digest in base64 and the client's in hexadecimal. */
static enum s3_error wrong_md5(struct context *context, const uint8_t md5[DIGEST_MD5_BYTES],
                               const uint8_t computed[DIGEST_MD5_BYTES])
{
    enum s3_error error = S3_FAIL_SAY(&context->failure, S3_BAD_DIGEST,
                                      "The Content-MD5 you specified did not match what we "
                                      "received.");
    AUTO_VALUE(bytes) text = {.max = CHECKSUM_TEXT_BYTES_MAX};
    text_base64(&text, slice_of(computed, DIGEST_MD5_BYTES));
    struct etag sent = etag_of_md5(md5);
    s3_failure_add(&context->failure, "CalculatedDigest", bytes_slice(&text));
    s3_failure_add(&context->failure, "ExpectedDigest", etag_slice(&sent));
    return error;
}

enum s3_error body_reader_finish(struct io *io, struct body_reader *reader,
                                 struct digest_values *out_values)
{
    (void)io;
    assert(reader->ended);
    struct context *context = reader->context;
    if (reader->chunked != NULL)
        TRY(take_trailer(reader));
    digest_finish(reader->digest, out_values);
    const struct s3_payload *payload = s3_request_payload(context->request);
    if (payload->mode == S3_PAYLOAD_SIGNED &&
        memcmp(payload->sha256, out_values->sha256, sizeof payload->sha256) != 0)
        return S3_FAIL(S3_X_AMZ_CONTENT_SHA256_MISMATCH, "payload hash");
    if (reader->has_md5 && memcmp(reader->md5, out_values->md5, sizeof reader->md5) != 0)
        return wrong_md5(context, reader->md5, out_values->md5);
    if (reader->declared_value && !digest_matches(out_values, &reader->declared))
        return S3_FAIL_SAY(&context->failure, S3_BAD_DIGEST,
                           "The %s you specified did not match the calculated checksum.",
                           checksum_name(reader->declared.algorithm));
    return S3_OK;
}

struct checksum body_reader_checksum(const struct body_reader *reader)
{
    if (!reader->declared_value)
        return (struct checksum){.algorithm = CHECKSUM_NONE};
    return reader->declared;
}

enum s3_error body_read_all(struct io *io, struct context *context, size_t max, struct bytes *out)
{
    AUTO(body_reader) reader = NULL;
    TRY(body_reader_new(io, context, &(struct body_expectation){0}, &reader));
    if (reader->expected_bytes != UINT64_MAX && reader->expected_bytes > max)
        return S3_FAIL(S3_MAX_MESSAGE_LENGTH_EXCEEDED, "body");
    AUTO(buf) buf = NULL;
    TRY(context_buf(io, context, STAGING_BYTES, &buf));
    size_t got = 0;
    do {
        TRY(body_reader_fill(io, reader, buf, 0, STAGING_BYTES, &got));
        if (out->bytes + got > max)
            return S3_FAIL(S3_MAX_MESSAGE_LENGTH_EXCEEDED, "body");
        bytes_append(out, buf_slice(buf, 0, got));
    } while (got > 0 && !reader->ended);
    struct digest_values values;
    return body_reader_finish(io, reader, &values);
}
