/* GetObject and HeadObject: conditions, then the range or part, then headers, then bytes. */
#include "attributes.h"
#include "multipart.h"
#include "object_read.h"
#include "operations.h"
#include "s3/condition.h"
#include "s3/date.h"
#include "tag_set.h"

#include <inttypes.h>

enum {
    LOOKUPS_MAX = 5, /* of an object that is replaced between the look-up and the first byte */
    CONTENT_RANGE_BYTES_MAX = 80,
};

/* What of the object is answered. */
struct selection {
    unsigned status;
    struct range range;
    struct object_checksum checksum; /* of the range; none when nobody knows it */
    uint32_t part_count;             /* 0: no part was asked for, or the object has none */
};

static void validator_headers(struct context *context, const struct object *object)
{
    char modified[S3_DATE_HTTP_CHARS + 1];
    s3_date_format_http(object->modified_ms, modified);
    exchange_header_text(context->exchange, "Last-Modified", modified);
    context_etag_header(context, &object->etag);
}

static enum s3_error check_conditions(struct context *context, const struct object *object)
{
    const struct s3_request *request = context->request;
    struct etag etag = etag_of_object(&object->etag);
    struct read_conditions conditions = {
        .if_match = s3_request_header(request, "if-match"),
        .if_none_match = s3_request_header(request, "if-none-match"),
        .if_modified_since = s3_request_header(request, "if-modified-since"),
        .if_unmodified_since = s3_request_header(request, "if-unmodified-since"),
    };
    struct condition_target target = {
        .exists = true,
        .etag = etag_slice(&etag),
        .modified_ms = object->modified_ms,
        .size = object->bytes,
    };
    enum s3_error error = read_conditions_check(&conditions, &target, &context->failure);
    if (error == S3_NOT_MODIFIED) {
        /* RFC 9110 §15.4.5: what a cache needs to update the copy it has. */
        validator_headers(context, object);
        struct slice cache_control = attributes_find(object->attributes, "cache-control");
        if (cache_control.bytes > 0)
            exchange_header(context->exchange, "Cache-Control", cache_control);
    }
    return error;
}

static struct selection select_whole(const struct object *object)
{
    return (struct selection){
        .status = 200,
        .range = {.offset = 0, .bytes = object->bytes},
        .checksum = object->checksum,
    };
}

static enum s3_error refuse_range(struct context *context, const struct object *object,
                                  struct slice header)
{
    AUTO_VALUE(bytes) text = {.max = CONTENT_RANGE_BYTES_MAX};
    range_append_unsatisfied(&text, object->bytes);
    exchange_header(context->exchange, "Content-Range", bytes_slice(&text));
    s3_failure_add(&context->failure, "RangeRequested", header);
    bytes_clear(&text);
    bytes_append_format(&text, "%" PRIu64, object->bytes);
    s3_failure_add(&context->failure, "ActualObjectSize", bytes_slice(&text));
    return S3_FAIL(S3_INVALID_RANGE, "object bytes=%" PRIu64, object->bytes);
}

static enum s3_error select_range(struct context *context, const struct object *object,
                                  struct selection *out_selection)
{
    *out_selection = select_whole(object);
    struct slice header = s3_request_header(context->request, "range");
    struct etag etag = etag_of_object(&object->etag);
    if (!range_if_range_holds(s3_request_header(context->request, "if-range"), etag_slice(&etag),
                              object->modified_ms))
        return S3_OK;
    struct range range;
    switch (range_resolve(header, object->bytes, &range)) {
    case RANGE_NONE:
        return S3_OK;
    case RANGE_UNSATISFIABLE:
        return refuse_range(context, object, header);
    case RANGE_SATISFIABLE:
        break;
    }
    *out_selection = (struct selection){
        .status = 206,
        .range = range,
    };
    if (range.bytes == object->bytes)
        out_selection->checksum = object->checksum;
    return S3_OK;
}

/* The part numbered `number` of a multipart object, where it starts. ERR_NOT_FOUND. */
static enum err find_part(struct io *io, struct context *context, const struct object *object,
                          uint32_t number, struct part *out_part, uint64_t *out_offset)
{
    uint64_t offset = 0;
    uint32_t after = 0;
    for (;;) {
        AUTO(part_page) page = NULL;
        TRY(meta_object_parts(io, context->gateway->options.meta, object, after, META_LIST_MAX,
                              &page));
        for (uint32_t i = 0; i < page->count && page->parts[i].number <= number; i++) {
            *out_part = page->parts[i];
            *out_offset = offset;
            if (out_part->number == number)
                return OK;
            offset += out_part->bytes;
        }
        if (page->count == 0 || !page->truncated || page->parts[page->count - 1].number > number)
            return FAIL(ERR_NOT_FOUND, "part=%u", number);
        after = page->parts[page->count - 1].number;
    }
}

/* GetObject's partNumber. An object that was put in one request is its own part 1. */
static enum err select_part(struct io *io, struct context *context, const struct object *object,
                            uint32_t number, struct selection *out_selection)
{
    *out_selection = select_whole(object);
    if (object->layout != LAYOUT_PARTS) {
        /* An empty body has no Content-Range, so it is not partial. */
        out_selection->status = object->bytes == 0 ? 200 : 206;
        return number == 1 ? OK : FAIL(ERR_NOT_FOUND, "part=%u", number);
    }
    struct part part = {0};
    uint64_t offset = 0;
    TRY(find_part(io, context, object, number, &part, &offset));
    if (part.bytes > object->bytes || offset > object->bytes - part.bytes)
        return FAIL(ERR_CORRUPT, "parts are longer than the object");
    *out_selection = (struct selection){
        .status = part.bytes == 0 ? 200 : 206,
        .range = {.offset = offset, .bytes = part.bytes},
        .part_count = object->etag.part_count,
    };
    /* Others were not asked for part by part, and S3 does not answer them. */
    if (object->checksum.type == CHECKSUM_COMPOSITE)
        out_selection->checksum = part.checksum;
    return OK;
}

static enum s3_error select_bytes(struct io *io, struct context *context,
                                  const struct object *object, bool *out_stale,
                                  struct selection *out_selection)
{
    if (s3_request_query(context->request, "partNumber").data == NULL)
        return select_range(context, object, out_selection);
    uint32_t number;
    TRY(multipart_part_number(context, &number));
    if (s3_request_header(context->request, "range").data != NULL)
        return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                           "Cannot specify both Range header and partNumber query parameter");
    enum err err = select_part(io, context, object, number, out_selection);
    *out_stale = err == ERR_STALE;
    if (err == ERR_NOT_FOUND)
        return S3_FAIL(S3_INVALID_PART_NUMBER, "part=%" PRIu32, number);
    return s3_error_from(err, "part lookup");
}

static enum s3_error answer_headers(struct context *context, const struct object *object,
                                    const struct selection *selection)
{
    validator_headers(context, object);
    TRY(attributes_to_answer(context, object->attributes));
    TRY(tag_set_count_header(context, object->tags));
    exchange_header_text(context->exchange, "Accept-Ranges", "bytes");
    if (selection->status == 206) {
        AUTO_VALUE(bytes) text = {.max = CONTENT_RANGE_BYTES_MAX};
        range_append_content_range(&text, selection->range, object->bytes);
        exchange_header(context->exchange, "Content-Range", bytes_slice(&text));
    }
    if (selection->part_count > 0)
        exchange_header_format(context->exchange, "x-amz-mp-parts-count", "%u",
                               selection->part_count);
    struct slice mode = s3_request_header(context->request, "x-amz-checksum-mode");
    if (slice_equal_nocase(mode, SLICE_LITERAL("ENABLED")))
        context_checksum_headers(context, &selection->checksum, object->etag.part_count);
    return S3_OK;
}

/* One attempt. *out_stale: the version was replaced since the look-up, nothing is answered. */
static enum s3_error get(struct io *io, struct context *context, bool *out_stale)
{
    bool head = exchange_is_head(context->exchange);
    AUTO(object) object = NULL;
    TRY(context_find_object(io, context, !head, &object));
    TRY(check_conditions(context, object));
    struct selection selection;
    TRY(select_bytes(io, context, object, out_stale, &selection));
    AUTO(object_reader) reader = NULL;
    if (!head) {
        enum err err = object_reader_open(io, context, object, selection.range, &reader);
        *out_stale = err == ERR_STALE;
        TRY(s3_error_from(err, "object extents"));
    }
    TRY(answer_headers(context, object, &selection));
    return object_send(io, context, reader, selection.status, selection.range.bytes);
}

/* SSE-C headers of a read name a key: nothing here was encrypted with one. */
static enum s3_error refuse_customer_key(struct context *context)
{
    struct slice value =
        s3_request_header(context->request, "x-amz-server-side-encryption-customer-algorithm");
    if (value.data == NULL)
        return S3_OK;
    return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                       "The encryption parameters are not applicable to this object.");
}

static enum s3_error get_guarded(struct io *io, struct context *context)
{
    for (int i = 0; i < LOOKUPS_MAX; i++) {
        bool stale = false;
        enum s3_error error = get(io, context, &stale);
        if (!stale)
            return error;
    }
    return S3_FAIL(S3_SLOW_DOWN, "replaced faster than it can be looked up");
}

enum s3_error op_get_object(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    TRY(refuse_customer_key(context));
    uint32_t part_number;
    if (s3_request_query(context->request, "partNumber").data != NULL)
        TRY(multipart_part_number(context, &part_number)); /* whether or not there is an object */
    struct read_guard guard;
    read_guard_begin(io, context->gateway->options.storage, &guard);
    enum s3_error error = get_guarded(io, context);
    read_guard_end(io, context->gateway->options.storage, &guard);
    return error;
}
