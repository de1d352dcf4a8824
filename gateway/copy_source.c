/* See copy_source.h. */
#include "copy_source.h"

#include "s3/condition.h"

void copy_source_deinit(struct copy_source *source)
{
    bytes_deinit(&source->arena);
}

enum s3_error copy_source_open(struct io *io, struct context *context, struct copy_source *source)
{
    struct slice header = s3_request_header(context->request, "x-amz-copy-source");
    assert(source->arena.bytes == 0);
    source->arena.max = header.bytes + 1;
    TRY(s3_copy_source_parse(header, &source->arena, &context->failure, &source->name));
    TRY(context_check_version(context, source->name.version_id));
    TRY(context_find_bucket(io, context, source->name.bucket, &source->bucket));
    struct slice owner = s3_request_header(context->request, "x-amz-source-expected-bucket-owner");
    if (owner.data != NULL && !slice_equal_text(owner, source->bucket.owner))
        return S3_FAIL(S3_ACCESS_DENIED, "expected another owner of the source bucket");
    if (source->bucket.group != context->bucket.group)
        return S3_FAIL_SAY(&context->failure, S3_NOT_IMPLEMENTED,
                           "Copies between buckets of different groups are not implemented.");
    return S3_OK;
}

static enum s3_error check_conditions(struct context *context, const struct object *object)
{
    const struct s3_request *request = context->request;
    struct etag etag = etag_of_object(&object->etag);
    struct read_conditions conditions = {
        .if_match = s3_request_header(request, "x-amz-copy-source-if-match"),
        .if_none_match = s3_request_header(request, "x-amz-copy-source-if-none-match"),
        .if_modified_since = s3_request_header(request, "x-amz-copy-source-if-modified-since"),
        .if_unmodified_since = s3_request_header(request, "x-amz-copy-source-if-unmodified-since"),
    };
    struct condition_target target = {
        .exists = true,
        .etag = etag_slice(&etag),
        .modified_ms = object->modified_ms,
        .size = object->bytes,
    };
    return copy_conditions_check(&conditions, &target, &context->failure);
}

enum s3_error copy_source_find(struct io *io, struct context *context,
                               const struct copy_source *source, struct object **out_object)
{
    AUTO(object) object = NULL;
    enum err err = meta_object_find(io, context->gateway->options.meta, source->bucket.id,
                                    source->name.key, true, &object);
    if (err == ERR_NOT_FOUND) {
        s3_failure_add(&context->failure, "Key", source->name.key);
        return S3_FAIL(S3_NO_SUCH_KEY, "copy source");
    }
    TRY(s3_error_from(err, "copy source lookup"));
    TRY(check_conditions(context, object));
    *out_object = TAKE(object);
    return S3_OK;
}
