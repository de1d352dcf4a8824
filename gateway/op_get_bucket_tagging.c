/* GetBucketTagging. */
#include "bucket_config.h"
#include "operations.h"
#include "tag_set.h"

enum s3_error op_get_bucket_tagging(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    AUTO_VALUE(bytes) tags = {.max = META_BUCKET_CONFIG_BYTES_MAX};
    TRY(bucket_config_get(io, context, BUCKET_CONFIG_TAGS, S3_NO_SUCH_TAG_SET, &tags));
    return tag_set_answer(io, context, bytes_slice(&tags));
}
