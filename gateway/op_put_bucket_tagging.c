/* PutBucketTagging; an empty set leaves the bucket as one that was never tagged. */
#include "bucket_config.h"
#include "operations.h"
#include "tag_set.h"

enum s3_error op_put_bucket_tagging(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    AUTO_VALUE(bytes) tags = {.max = TAGS_BYTES_MAX};
    TRY(tag_set_from_body(io, context, TAG_BUCKET_COUNT_MAX, &tags));
    TRY(bucket_config_put(io, context, BUCKET_CONFIG_TAGS, bytes_slice(&tags)));
    return context_respond_empty(io, context, 204);
}
