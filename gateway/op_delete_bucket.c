/* DeleteBucket. Open uploads do not keep a bucket, objects do. */
#include "operations.h"

enum s3_error op_delete_bucket(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    struct slice name = s3_request_bucket(context->request);
    enum err err = meta_bucket_delete(io, context->gateway->options.meta, name);
    if (err == ERR_NOT_FOUND || err == ERR_NOT_EMPTY)
        s3_failure_add(&context->failure, "BucketName", name);
    if (err == ERR_NOT_FOUND)
        return S3_FAIL(S3_NO_SUCH_BUCKET, "deleted meanwhile");
    TRY(s3_error_from(err, "bucket delete"));
    return context_respond_empty(io, context, 204);
}
