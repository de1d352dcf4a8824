/* HeadBucket. */
#include "bucket_region.h"
#include "operations.h"

enum s3_error op_head_bucket(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    exchange_header_format(context->exchange, "x-amz-bucket-arn", "arn:aws:s3:::%s",
                           context->bucket.name);
    exchange_header_text(context->exchange, "x-amz-bucket-region", bucket_region(&context->bucket));
    return context_respond_empty(io, context, 200);
}
