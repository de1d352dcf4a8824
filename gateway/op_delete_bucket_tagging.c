/* DeleteBucketTagging. */
#include "bucket_config.h"
#include "operations.h"

enum s3_error op_delete_bucket_tagging(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    TRY(bucket_config_put(io, context, BUCKET_CONFIG_TAGS, slice_of(NULL, 0)));
    return context_respond_empty(io, context, 204);
}
