/* See completion.h. */
#include "completion.h"

#include "base/mem.h"
#include "base/text.h"
#include "multipart.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    PART_BYTES_MIN = 5 << 20,
    SHOWN_BYTES_MAX = 64, /* of a value in an answer */
};

void completion_deinit(struct completion *completion)
{
    mem_free(completion->parts);
}

static enum s3_error invalid_part(struct context *context, const struct body_part *part)
{
    char number[16] = {0};
    snprintf(number, sizeof number, "%" PRIu32, part->part_number);
    s3_failure_add(&context->failure, "UploadId", s3_request_query(context->request, "uploadId"));
    s3_failure_add(&context->failure, "PartNumber", slice_of_text(number));
    s3_failure_add(&context->failure, "ETag", part->etag);
    return S3_FAIL(S3_INVALID_PART, "part=%" PRIu32, part->part_number);
}

static enum s3_error too_small(struct context *context, const struct body_part *part,
                               uint64_t part_bytes)
{
    char text[24] = {0};
    snprintf(text, sizeof text, "%" PRIu64, part_bytes);
    s3_failure_add(&context->failure, "ProposedSize", slice_of_text(text));
    s3_failure_add(&context->failure, "MinSizeAllowed", SLICE_LITERAL("5242880"));
    snprintf(text, sizeof text, "%" PRIu32, part->part_number);
    s3_failure_add(&context->failure, "PartNumber", slice_of_text(text));
    s3_failure_add(&context->failure, "ETag", part->etag);
    return S3_FAIL(S3_ENTITY_TOO_SMALL, "part=%" PRIu32, part->part_number);
}

static enum s3_error check_part_checksum(struct context *context, const struct upload *upload,
                                         const struct body_part *named, const struct part *stored)
{
    enum checksum_algorithm algorithm = multipart_algorithm(upload);
    if (named->checksum.algorithm == CHECKSUM_NONE) {
        if (multipart_type(upload) != CHECKSUM_COMPOSITE)
            return S3_OK;
        return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                           "The upload was created using a %s checksum. The complete request must "
                           "include the checksum for each part. It was missing for part %" PRIu32
                           " in the request.",
                           multipart_algorithm_text(algorithm).text, named->part_number);
    }
    if (named->checksum.algorithm != algorithm) {
        /* Verified when the part came, but not what is kept of it. */
        if (!multipart_checksum_asked(upload))
            return S3_OK;
        return S3_FAIL_SAY(
            &context->failure, S3_BAD_DIGEST,
            "The %s you specified for part %" PRIu32 " did not match what we received.",
            multipart_algorithm_text(named->checksum.algorithm).text, named->part_number);
    }
    struct checksum own = checksum_of_object(&stored->checksum, 0);
    return checksum_equal(&own, &named->checksum) ? S3_OK : invalid_part(context, named);
}

static enum s3_error check_part(struct context *context, const struct upload *upload,
                                const struct body_part *named, const struct part *stored)
{
    struct object_etag etag;
    if (stored == NULL || !etag_parse(named->etag, &etag) ||
        !object_etag_equal(&etag, &stored->etag))
        return invalid_part(context, named);
    if (stored->checksum.algorithm != multipart_algorithm(upload))
        return S3_FAIL(S3_INTERNAL_ERROR, "part=%" PRIu32 " has no checksum", stored->number);
    return check_part_checksum(context, upload, named, stored);
}

/* The stored part of that number at or behind *index, which moves there; NULL when there is
 * none. */
static const struct part *find_stored(const struct part_page *stored, uint32_t number,
                                      uint32_t *index)
{
    while (*index < stored->count && stored->parts[*index].number < number)
        (*index)++;
    if (*index == stored->count || stored->parts[*index].number != number)
        return NULL;
    return &stored->parts[*index];
}

static enum s3_error fold(struct context *context, const struct upload *upload,
                          struct completion *completion)
{
    AUTO(multipart_digest) digest = multipart_digest_new(
        context->gateway->methods, multipart_algorithm(upload), multipart_type(upload));
    for (uint32_t i = 0; i < completion->part_count; i++) {
        const struct part *part = &completion->parts[i];
        struct checksum checksum = checksum_of_object(&part->checksum, 0);
        multipart_digest_add(digest, part->etag.md5, &checksum, part->bytes);
    }
    struct etag etag;
    multipart_digest_finish(digest, &etag, &completion->checksum);
    if (!etag_parse(etag_slice(&etag), &completion->etag))
        return S3_FAIL(S3_INTERNAL_ERROR, "etag=%s", etag.text);
    return S3_OK;
}

/* The checksum that the client has for the whole; algorithm NONE when it has none. */
static enum s3_error read_expected(struct context *context, struct checksum *out_expected)
{
    *out_expected = (struct checksum){0};
    for (int i = CHECKSUM_NONE + 1; i < CHECKSUM_ALGORITHM_COUNT; i++) {
        enum checksum_algorithm algorithm = (enum checksum_algorithm)i;
        struct slice text = s3_request_header(context->request, checksum_header(algorithm));
        if (text.data == NULL)
            continue;
        if (out_expected->algorithm != CHECKSUM_NONE)
            return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                               "Expecting a single x-amz-checksum- header. Multiple checksum Types "
                               "are not allowed.");
        if (!checksum_parse(algorithm, text, out_expected))
            return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                               "Value for %s header is invalid.", checksum_header(algorithm));
    }
    return S3_OK;
}

enum s3_error completion_build(struct context *context, const struct upload *upload,
                               const struct body_complete_multipart *list,
                               const struct part_page *stored, struct completion *out_completion)
{
    assert(list->part_count > 0);
    TRY(read_expected(context, &out_completion->expected));
    if (!list->ascending)
        return S3_FAIL(S3_INVALID_PART_ORDER, "parts=%" PRIu32, list->part_count);
    out_completion->parts = mem_alloc_array(list->part_count, sizeof *out_completion->parts);
    uint32_t index = 0;
    for (uint32_t i = 0; i < list->part_count; i++) {
        const struct body_part *named = &list->parts[i];
        const struct part *part = find_stored(stored, named->part_number, &index);
        TRY(check_part(context, upload, named, part));
        if (part->bytes < PART_BYTES_MIN && i + 1 < list->part_count)
            return too_small(context, named, part->bytes);
        out_completion->parts[out_completion->part_count++] = *part;
        out_completion->bytes += part->bytes;
    }
    return fold(context, upload, out_completion);
}

static enum s3_error check_size(struct context *context, const struct completion *completion)
{
    struct slice text = s3_request_header(context->request, "x-amz-mp-object-size");
    if (text.data == NULL)
        return S3_OK;
    uint64_t bytes;
    struct slice shown = slice_first(text, SHOWN_BYTES_MAX);
    bool negative = text.bytes > 1 && text.data[0] == '-' &&
                    text_parse_u64(slice_skip(text, 1), UINT64_MAX, &bytes) == OK;
    if (negative)
        return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                           "Value for x-amz-mp-object-size header is less than zero: '%.*s'",
                           SLICE_PRINT(shown));
    if (text_parse_u64(text, UINT64_MAX, &bytes) != OK)
        return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                           "Value for x-amz-mp-object-size header is invalid: '%.*s'",
                           SLICE_PRINT(shown));
    if (bytes != completion->bytes)
        return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                           "The provided 'x-amz-mp-object-size' header value %" PRIu64
                           " does not match what was computed: %" PRIu64,
                           bytes, completion->bytes);
    return S3_OK;
}

static enum s3_error check_type(struct context *context, const struct upload *upload)
{
    struct slice text = s3_request_header(context->request, "x-amz-checksum-type");
    enum checksum_type type;
    if (text.bytes == 0)
        return S3_OK;
    if (!checksum_type_by_name(text, &type))
        return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                           "Value for x-amz-checksum-type header is invalid.");
    if (type != multipart_type(upload))
        return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                           "The upload was created using the %s checksum mode. The complete "
                           "request must use the same checksum mode.",
                           checksum_type_name(multipart_type(upload)));
    return S3_OK;
}

enum s3_error completion_check(struct context *context, const struct upload *upload,
                               const struct completion *completion)
{
    TRY(check_size(context, completion));
    if (!multipart_checksum_asked(upload))
        return S3_OK; /* S3 ignores them then */
    TRY(check_type(context, upload));
    struct checksum expected = completion->expected;
    if (expected.algorithm == CHECKSUM_NONE)
        return S3_OK;
    /* A composite checksum may be sent without its part count. */
    if (completion->checksum.type == CHECKSUM_COMPOSITE && expected.type == CHECKSUM_FULL_OBJECT) {
        expected.type = CHECKSUM_COMPOSITE;
        expected.part_count = completion->part_count;
    }
    if (!checksum_equal(&expected, &completion->checksum))
        return S3_FAIL_SAY(&context->failure, S3_BAD_DIGEST,
                           "The %s you specified did not match the calculated checksum.",
                           checksum_name(expected.algorithm));
    return S3_OK;
}

bool completion_etag(const struct context *context, const struct body_complete_multipart *list,
                     struct object_etag *out_etag)
{
    AUTO(multipart_digest) digest =
        multipart_digest_new(context->gateway->methods, CHECKSUM_NONE, CHECKSUM_FULL_OBJECT);
    for (uint32_t i = 0; i < list->part_count; i++) {
        struct object_etag etag;
        if (!etag_parse(list->parts[i].etag, &etag))
            return false;
        multipart_digest_add(digest, etag.md5, NULL, 0);
    }
    struct etag etag;
    struct checksum none;
    multipart_digest_finish(digest, &etag, &none);
    return etag_parse(etag_slice(&etag), out_etag);
}
