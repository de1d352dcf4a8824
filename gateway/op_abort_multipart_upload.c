/* AbortMultipartUpload. */
#include "multipart.h"
#include "operations.h"

enum s3_error op_abort_multipart_upload(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    uint64_t id;
    TRY(multipart_id(context, &id));
    enum err err = meta_upload_abort(io, context->gateway->options.meta, context->bucket.id,
                                     s3_request_key(context->request), id);
    if (err == ERR_NOT_FOUND)
        return multipart_missing(context);
    TRY(s3_error_from(err, "upload abort"));
    return context_respond_empty(io, context, 204);
}
