/* See context.h. */
#include "context.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#include <inttypes.h>

enum {
    BUF_WAIT_MS = 5,
    PIECE_BYTES_SCARCE = 256 << 10,
    SHOWN_NUMBER_BYTES_MAX = 64,
    BUF_WAIT_NS_MAX = 5 * 1000000000ll,
};

enum s3_error s3_error_from(enum err err, const char *what)
{
    switch (err) {
    case OK:
        return S3_OK;
    case ERR_BUSY:
    case ERR_TIMEOUT:
    case ERR_NOT_LEADER:
    case ERR_MOVED:
    case ERR_STALE_EPOCH:
    case ERR_STALE:
    case ERR_CANCELED:
        return S3_FAIL(S3_SLOW_DOWN, "%s: %s", what, err_text(err));
    case ERR_NO_SPACE:
        return S3_FAIL(S3_INSUFFICIENT_STORAGE, "%s: %s", what, err_text(err));
    case ERR_FENCED:
        log_error("gateway: %s: %s", what, err_text(err));
        return S3_FAIL(S3_SERVICE_UNAVAILABLE, "%s: %s", what, err_text(err));
    case ERR_PRECONDITION:
        return S3_FAIL(S3_PRECONDITION_FAILED, "%s", what);
    case ERR_NOT_EMPTY:
        return S3_FAIL(S3_BUCKET_NOT_EMPTY, "%s", what);
    case ERR_CLOSED:
        return S3_FAIL(S3_INCOMPLETE_BODY, "%s: client left", what);
    case ERR_LIMIT:
        return S3_FAIL(S3_ENTITY_TOO_LARGE, "%s: %s", what, err_text(err));
    case ERR_OUTCOME_UNKNOWN:
    case ERR_IO:
    case ERR_CORRUPT:
    case ERR_NOT_FOUND:
    case ERR_EXISTS:
    case ERR_INVALID:
    case ERR_UNSUPPORTED:
    case ERR_COMPACTED:
    case ERR_WOULD_BLOCK:
    case ERR_LOCKED:
    case ERR_MISMATCH:
        break;
    }
    log_error("gateway: %s: %s", what, err_text(err));
    return S3_FAIL(S3_INTERNAL_ERROR, "%s: %s", what, err_text(err));
}

enum s3_error context_find_bucket(struct io *io, struct context *context, struct slice name,
                                  struct bucket *out_bucket)
{
    enum err err = meta_bucket_find(io, context->gateway->options.meta, name, out_bucket);
    if (err == ERR_NOT_FOUND) {
        s3_failure_add(&context->failure, "BucketName", name);
        return S3_FAIL(S3_NO_SUCH_BUCKET, "bucket=%.*s", SLICE_PRINT(name));
    }
    return s3_error_from(err, "bucket lookup");
}

enum s3_error context_bucket(struct io *io, struct context *context)
{
    TRY(context_find_bucket(io, context, s3_request_bucket(context->request), &context->bucket));
    struct slice owner = s3_request_header(context->request, "x-amz-expected-bucket-owner");
    if (owner.data != NULL && !slice_equal_text(owner, context->bucket.owner))
        return S3_FAIL(S3_ACCESS_DENIED, "expected another bucket owner");
    return S3_OK;
}

static enum s3_error parse_number(struct context *context, const char *name, struct slice text,
                                  uint64_t missing, uint64_t max, uint64_t *out_value)
{
    if (text.bytes == 0) {
        *out_value = missing;
        return S3_OK;
    }
    if (text_parse_u64(text, max, out_value) == OK)
        return S3_OK;
    uint64_t ignored;
    bool negative =
        text.data[0] == '-' && text_parse_u64(slice_skip(text, 1), UINT64_MAX, &ignored) == OK;
    struct slice shown = slice_first(text, SHOWN_NUMBER_BYTES_MAX);
    AUTO_STRING message =
        negative ? mem_format("Argument %.*s must be an integer between 0 and %" PRIu64,
                              SLICE_PRINT(shown), max)
                 : mem_format("Provided %.*s not an integer or within integer range",
                              SLICE_PRINT(shown));
    return s3_fail_argument(&context->failure, name, text, message);
}

enum s3_error context_query_number(struct context *context, const char *name, uint64_t missing,
                                   uint64_t max, uint64_t *out_value)
{
    return parse_number(context, name, s3_request_query(context->request, name), missing, max,
                        out_value);
}

enum s3_error context_header_number(struct context *context, const char *name, uint64_t missing,
                                    uint64_t max, uint64_t *out_value)
{
    return parse_number(context, name, s3_request_header(context->request, name), missing, max,
                        out_value);
}

/* A header and the one value, if any, that means what Shale does anyway. */
static const struct unsupported {
    const char *header;
    const char *accepted[2];
    enum s3_error error;
} unsupported[] = {
    {"x-amz-acl", {"private", "bucket-owner-full-control"}, S3_ACCESS_CONTROL_LIST_NOT_SUPPORTED},
    {"x-amz-grant-read", {NULL}, S3_ACCESS_CONTROL_LIST_NOT_SUPPORTED},
    {"x-amz-grant-write", {NULL}, S3_ACCESS_CONTROL_LIST_NOT_SUPPORTED},
    {"x-amz-grant-read-acp", {NULL}, S3_ACCESS_CONTROL_LIST_NOT_SUPPORTED},
    {"x-amz-grant-write-acp", {NULL}, S3_ACCESS_CONTROL_LIST_NOT_SUPPORTED},
    {"x-amz-grant-full-control", {NULL}, S3_ACCESS_CONTROL_LIST_NOT_SUPPORTED},
    {"x-amz-storage-class", {"STANDARD"}, S3_INVALID_STORAGE_CLASS},
    {"x-amz-server-side-encryption", {NULL}, S3_NOT_IMPLEMENTED},
    {"x-amz-server-side-encryption-customer-algorithm", {NULL}, S3_NOT_IMPLEMENTED},
    {"x-amz-server-side-encryption-aws-kms-key-id", {NULL}, S3_NOT_IMPLEMENTED},
    {"x-amz-copy-source-server-side-encryption-customer-algorithm", {NULL}, S3_NOT_IMPLEMENTED},
    {"x-amz-object-lock-mode", {NULL}, S3_NOT_IMPLEMENTED},
    {"x-amz-object-lock-retain-until-date", {NULL}, S3_NOT_IMPLEMENTED},
    {"x-amz-object-lock-legal-hold", {"OFF"}, S3_NOT_IMPLEMENTED},
    {"x-amz-write-offset-bytes", {NULL}, S3_NOT_IMPLEMENTED},
};

enum s3_error context_refuse_unsupported(struct context *context)
{
    for (unsigned i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++) {
        const struct unsupported *row = &unsupported[i];
        struct slice value = s3_request_header(context->request, row->header);
        if (value.bytes == 0)
            continue;
        bool accepted = false;
        for (unsigned k = 0; k < 2 && row->accepted[k] != NULL; k++)
            accepted = accepted || slice_equal_text(value, row->accepted[k]);
        if (accepted)
            continue;
        s3_failure_add(&context->failure, "Header", slice_of_text(row->header));
        return S3_FAIL(row->error, "header=%s", row->header);
    }
    struct slice version = s3_request_query(context->request, "versionId");
    if (version.data != NULL)
        return s3_fail_argument(&context->failure, "versionId", version,
                                "This operation does not accept a version-id.");
    return S3_OK;
}

enum s3_error context_buf(struct io *io, struct context *context, size_t bytes,
                          struct buf **out_buf)
{
    uint64_t until_ns = io_now_ns(io) + BUF_WAIT_NS_MAX;
    for (;;) {
        enum err err = buf_pool_get(context->gateway->pool, bytes, out_buf);
        if (err != ERR_BUSY)
            return s3_error_from(err, "body memory");
        if (io_now_ns(io) >= until_ns || io_sleep_ms(io, BUF_WAIT_MS) != OK)
            return S3_FAIL(S3_SLOW_DOWN, "body memory is used up");
    }
}

size_t context_piece_bytes(const struct context *context)
{
    const struct buf_pool *pool = context->gateway->pool;
    bool scarce = buf_pool_used_bytes(pool) > buf_pool_budget_bytes(pool) / 2;
    return scarce ? PIECE_BYTES_SCARCE : CONTEXT_PIECE_BYTES_MAX;
}

enum s3_error context_respond_xml(struct io *io, struct context *context, unsigned status,
                                  const struct bytes *document)
{
    if (document->overflow)
        return S3_FAIL(S3_INTERNAL_ERROR, "answer larger than %zu bytes", document->max);
    exchange_header_text(context->exchange, "Content-Type", "application/xml");
    (void)exchange_respond(io, context->exchange, status, bytes_slice(document)); /* or it left */
    return S3_OK;
}

enum s3_error context_respond_empty(struct io *io, struct context *context, unsigned status)
{
    (void)exchange_respond(io, context->exchange, status, slice_of(NULL, 0)); /* or it left */
    return S3_OK;
}

enum s3_error context_check_version(struct context *context, struct slice version)
{
    if (version.data == NULL || slice_equal_text(version, "null"))
        return S3_OK;
    bool plausible = version.bytes > 0 && version.bytes <= 1024;
    if (!plausible)
        return s3_fail_argument(&context->failure, "versionId", version,
                                "Version id cannot be the empty string");
    s3_failure_add(&context->failure, "VersionId", version);
    return S3_FAIL(S3_NO_SUCH_VERSION, "versionId=%.*s", SLICE_PRINT(version));
}

enum s3_error context_find_object(struct io *io, struct context *context, bool inline_too,
                                  struct object **out_object)
{
    struct slice key = s3_request_key(context->request);
    TRY(context_check_version(context, s3_request_query(context->request, "versionId")));
    enum err err = meta_object_find(io, context->gateway->options.meta, context->bucket.id, key,
                                    inline_too, out_object);
    if (err == ERR_NOT_FOUND)
        return S3_FAIL(S3_NO_SUCH_KEY, "no such key");
    return s3_error_from(err, "object lookup");
}

struct etag etag_of_object(const struct object_etag *etag)
{
    struct etag text = etag_of_md5(etag->md5);
    if (etag->part_count > 0) {
        struct bytes suffix = {.max = ETAG_TEXT_BYTES_MAX};
        bytes_append_format(&suffix, "-%u", etag->part_count);
        memcpy(text.text + 2 * DIGEST_MD5_BYTES, suffix.data, suffix.bytes);
        text.text[2 * DIGEST_MD5_BYTES + suffix.bytes] = '\0';
        bytes_deinit(&suffix);
    }
    return text;
}

bool etag_parse(struct slice text, struct object_etag *out_etag)
{
    struct object_etag etag = {0};
    if (text.bytes < 2 * sizeof etag.md5 ||
        text_parse_hex(slice_first(text, 2 * sizeof etag.md5), etag.md5, sizeof etag.md5) != OK)
        return false;
    struct slice rest = slice_skip(text, 2 * sizeof etag.md5);
    if (rest.bytes > 0) {
        uint64_t count;
        if (rest.data[0] != '-' ||
            text_parse_u64(slice_skip(rest, 1), META_PARTS_MAX, &count) != OK || count == 0)
            return false;
        etag.part_count = (uint32_t)count;
    }
    *out_etag = etag;
    return true;
}

void context_etag_header(struct context *context, const struct object_etag *etag)
{
    struct etag text = etag_of_object(etag);
    exchange_header_format(context->exchange, "ETag", "\"%s\"", text.text);
}

struct checksum checksum_of_object(const struct object_checksum *checksum, uint32_t part_count)
{
    struct checksum result = {
        .algorithm = (enum checksum_algorithm)checksum->algorithm,
        .type = (enum checksum_type)checksum->type,
    };
    if (result.type == CHECKSUM_COMPOSITE)
        result.part_count = part_count;
    memcpy(result.value, checksum->value, checksum->bytes);
    return result;
}

struct object_checksum checksum_to_object(const struct checksum *checksum)
{
    struct object_checksum result = {
        .algorithm = (uint8_t)checksum->algorithm,
        .type = (uint8_t)checksum->type,
        .bytes = (uint8_t)checksum_bytes(checksum->algorithm),
    };
    static_assert(sizeof result.value >= sizeof checksum->value);
    memcpy(result.value, checksum->value, result.bytes);
    return result;
}

void context_checksum_headers(struct context *context, const struct object_checksum *checksum,
                              uint32_t part_count)
{
    struct checksum value = checksum_of_object(checksum, part_count);
    if (value.algorithm == CHECKSUM_NONE)
        return;
    AUTO_VALUE(bytes) text = {.max = CHECKSUM_TEXT_BYTES_MAX};
    checksum_append(&text, &value);
    exchange_header(context->exchange, checksum_header(value.algorithm), bytes_slice(&text));
    exchange_header_text(context->exchange, "x-amz-checksum-type", checksum_type_name(value.type));
}

void context_write_condition(const struct write_condition *condition,
                             struct write_conditions *conditions)
{
    switch (condition->kind) {
    case WRITE_ALWAYS:
        break;
    case WRITE_IF_ABSENT:
        conditions->kind = CONDITION_ABSENT;
        break;
    case WRITE_IF_EXISTS:
        conditions->kind = CONDITION_PRESENT;
        break;
    case WRITE_IF_MATCH:
        conditions->kind = CONDITION_ETAG;
        /* What is no ETag of ours matches no object: nobody has parts with an MD5 of zeros. */
        if (!etag_parse(condition->etag, &conditions->etag))
            conditions->etag = (struct object_etag){.part_count = META_PARTS_MAX};
        break;
    }
}

enum s3_error context_write_conditions(struct context *context,
                                       struct write_conditions *out_conditions)
{
    struct write_condition condition;
    TRY(write_condition_parse(s3_request_header(context->request, "if-match"),
                              s3_request_header(context->request, "if-none-match"),
                              &context->failure, &condition));
    *out_conditions = (struct write_conditions){0};
    context_write_condition(&condition, out_conditions);
    return S3_OK;
}

enum s3_error context_written(struct context *context, const struct write_conditions *conditions,
                              enum err err, const char *what)
{
    bool conditional =
        conditions->kind != CONDITION_NONE || conditions->modified_ms != 0 || conditions->has_bytes;
    if (err == ERR_NOT_FOUND && conditional)
        return S3_FAIL(S3_NO_SUCH_KEY, "%s: condition on a missing key", what);
    if (err == ERR_NOT_FOUND) {
        s3_failure_add(&context->failure, "BucketName", slice_of_text(context->bucket.name));
        return S3_FAIL(S3_NO_SUCH_BUCKET, "%s: the bucket is gone", what);
    }
    if (err == ERR_PRECONDITION)
        s3_failure_add(
            &context->failure, "Condition",
            slice_of_text(conditions->kind == CONDITION_ABSENT ? "If-None-Match" : "If-Match"));
    return s3_error_from(err, what);
}
