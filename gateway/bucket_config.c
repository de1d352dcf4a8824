/* See bucket_config.h. */
#include "bucket_config.h"

enum s3_error bucket_config_put(struct io *io, struct context *context,
                                enum bucket_config_kind kind, struct slice value)
{
    enum err err =
        meta_bucket_config_put(io, context->gateway->options.meta, context->bucket.id, kind, value);
    return context_written(context, &(struct write_conditions){0}, err, "bucket config put");
}

enum s3_error bucket_config_get(struct io *io, struct context *context,
                                enum bucket_config_kind kind, enum s3_error missing,
                                struct bytes *out)
{
    enum err err =
        meta_bucket_config_find(io, context->gateway->options.meta, context->bucket.id, kind, out);
    if (err == ERR_NOT_FOUND) {
        s3_failure_add(&context->failure, "BucketName", slice_of_text(context->bucket.name));
        return S3_FAIL(missing, "bucket=%s", context->bucket.name);
    }
    return s3_error_from(err, "bucket config lookup");
}
