/* CopyObject: the copy refers to its source's blocks, no bytes move. Only a checksum of another
 * algorithm than the source has makes it read them. */
#include "attributes.h"
#include "copy_source.h"
#include "elements.h"
#include "object_read.h"
#include "operations.h"
#include "tag_set.h"

#include <inttypes.h>

enum { LOOKUPS_MAX = 5 }; /* of a source that is replaced between the look-up and the copy */
#define COPY_BYTES_MAX (UINT64_C(5) << 30)

struct copy {
    struct copy_source source;
    bool replace_attributes;
    bool replace_tags;
    struct bytes tags;                /* encoded, when they replace */
    enum checksum_algorithm checksum; /* asked for; NONE keeps the source's */
    struct write_conditions conditions;
};

/* COPY (the default) or REPLACE. */
static enum s3_error parse_directive(struct context *context, const char *header,
                                     const char *unknown, bool *out_replace)
{
    struct slice value = s3_request_header(context->request, header);
    *out_replace = slice_equal_text(value, "REPLACE");
    if (value.bytes == 0 || *out_replace || slice_equal_text(value, "COPY"))
        return S3_OK;
    return s3_fail_argument(&context->failure, header, value, unknown);
}

static enum s3_error parse_checksum(struct context *context, enum checksum_algorithm *out_algorithm)
{
    struct slice name = s3_request_header(context->request, "x-amz-checksum-algorithm");
    *out_algorithm = CHECKSUM_NONE;
    if (name.bytes == 0)
        return S3_OK;
    *out_algorithm = checksum_by_name(name);
    if (*out_algorithm == CHECKSUM_NONE)
        return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST, "%s",
                           checksum_unsupported_message);
    return S3_OK;
}

static enum s3_error parse(struct context *context, struct copy *copy)
{
    TRY(context_refuse_unsupported(context));
    TRY(s3_request_metadata_check(context->request, &context->failure)); /* used or not */
    TRY(context_write_conditions(context, &copy->conditions));
    TRY(parse_directive(context, "x-amz-metadata-directive", "Unknown metadata directive.",
                        &copy->replace_attributes));
    TRY(parse_directive(context, "x-amz-tagging-directive", "Unknown tagging directive.",
                        &copy->replace_tags));
    copy->tags.max = TAGS_BYTES_MAX;
    if (copy->replace_tags)
        TRY(tag_set_from_header(context, &copy->tags));
    return parse_checksum(context, &copy->checksum);
}

static bool is_onto_itself(const struct context *context, const struct copy *copy)
{
    return copy->source.bucket.id == context->bucket.id &&
           slice_equal(copy->source.name.key, s3_request_key(context->request));
}

static enum s3_error refuse_no_change(struct context *context, const struct copy *copy)
{
    const struct s3_request *request = context->request;
    bool changes = copy->replace_attributes || copy->checksum != CHECKSUM_NONE ||
                   s3_request_header(request, "x-amz-storage-class").bytes > 0 ||
                   s3_request_header(request, "x-amz-website-redirect-location").bytes > 0;
    if (changes || !is_onto_itself(context, copy))
        return S3_OK;
    return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                       "This copy request is illegal because it is trying to copy an object to "
                       "itself without changing the object's metadata, storage class, website "
                       "redirect location or encryption attributes.");
}

static enum s3_error find_source(struct io *io, struct context *context, const struct copy *copy,
                                 struct object **out_object)
{
    AUTO(object) object = NULL;
    TRY(copy_source_find(io, context, &copy->source, &object));
    if (object->bytes > COPY_BYTES_MAX)
        return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                           "The specified copy source is larger than the maximum allowable size "
                           "for a copy source: %" PRIu64,
                           COPY_BYTES_MAX);
    *out_object = TAKE(object);
    return S3_OK;
}

static enum s3_error digest_piece(struct io *io, void *argument, struct buf *buf, size_t offset,
                                  size_t bytes)
{
    (void)io;
    digest_update(argument, buf_slice(buf, offset, bytes));
    return S3_OK;
}

/* The checksum of the copy; reads the whole source when it has none of the algorithm asked for.
 * *out_stale: the source was replaced. */
static enum s3_error checksum_of_copy(struct io *io, struct context *context,
                                      const struct copy *copy, const struct object *source,
                                      bool *out_stale, struct object_checksum *out_checksum)
{
    *out_checksum = source->checksum;
    if (copy->checksum == CHECKSUM_NONE || copy->checksum == source->checksum.algorithm)
        return S3_OK;
    AUTO(digest) digest = digest_new(context->gateway->methods, digest_bit(copy->checksum));
    AUTO(object_reader) reader = NULL;
    struct range whole = {.offset = 0, .bytes = source->bytes};
    enum err err = object_reader_open(io, context, source, whole, &reader);
    *out_stale = err == ERR_STALE;
    TRY(s3_error_from(err, "copy source extents"));
    TRY(object_reader_run(io, reader, digest_piece, digest));
    struct digest_values values;
    digest_finish(digest, &values);
    struct checksum checksum = digest_checksum(&values, copy->checksum);
    *out_checksum = checksum_to_object(&checksum);
    return S3_OK;
}

static enum s3_error answer(struct io *io, struct context *context, const struct object *source,
                            const struct object_checksum *copied_checksum,
                            const struct object_written *written)
{
    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    struct xml_writer xml = xml_document(&document, "CopyObjectResult", true);
    struct checksum checksum = checksum_of_object(copied_checksum, source->etag.part_count);
    element_time(&xml, "LastModified", written->modified_ms);
    element_object_etag(&xml, &source->etag);
    if (checksum.algorithm != CHECKSUM_NONE)
        xml_element_text(&xml, "ChecksumType", checksum_type_name(checksum.type));
    element_checksum(&xml, &checksum);
    xml_finish(&xml);
    return context_respond_xml(io, context, 200, &document);
}

/* One attempt. *out_stale: the source was replaced since it was looked up, nothing was done. */
static enum s3_error attempt(struct io *io, struct context *context, const struct copy *copy,
                             bool *out_stale)
{
    AUTO(object) source = NULL;
    TRY(find_source(io, context, copy, &source));
    AUTO_VALUE(bytes) attributes = {.max = META_ATTRIBUTES_BYTES_MAX};
    if (copy->replace_attributes)
        TRY(attributes_from_request(context, &attributes));
    else
        TRY(attributes_for_copy(context, source->attributes, &attributes));
    struct object_checksum checksum;
    TRY(checksum_of_copy(io, context, copy, source, out_stale, &checksum));
    struct object_copy order = {
        .source_bucket_id = copy->source.bucket.id,
        .source_key = copy->source.name.key,
        .source_stamp = source->stamp,
        .bucket_id = context->bucket.id,
        .key = s3_request_key(context->request),
        .conditions = copy->conditions,
        .checksum = checksum,
        .attributes = bytes_slice(&attributes),
        .replace_tags = copy->replace_tags,
        .tags = bytes_slice(&copy->tags),
    };
    struct object_written written;
    enum err err = meta_object_copy(io, context->gateway->options.meta, &order, &written);
    *out_stale = err == ERR_STALE;
    TRY(context_written(context, &copy->conditions, err, "object copy"));
    return answer(io, context, source, &checksum, &written);
}

static enum s3_error copy_guarded(struct io *io, struct context *context, const struct copy *copy)
{
    for (int i = 0; i < LOOKUPS_MAX; i++) {
        bool stale = false;
        enum s3_error error = attempt(io, context, copy, &stale);
        if (!stale)
            return error;
    }
    return S3_FAIL(S3_SLOW_DOWN, "source replaced faster than it can be copied");
}

static void copy_deinit(struct copy *copy)
{
    copy_source_deinit(&copy->source);
    bytes_deinit(&copy->tags);
}

enum s3_error op_copy_object(struct io *io, struct context *context)
{
    AUTO_VALUE(copy) copy = {0};
    TRY(context_bucket(io, context));
    TRY(copy_source_open(io, context, &copy.source));
    TRY(parse(context, &copy));
    TRY(refuse_no_change(context, &copy));
    struct read_guard guard;
    read_guard_begin(io, context->gateway->options.storage, &guard);
    enum s3_error error = copy_guarded(io, context, &copy);
    read_guard_end(io, context->gateway->options.storage, &guard);
    return error;
}
