/* DeleteObject: a key that is not there is deleted already, unless a condition says otherwise. */
#include "deletion.h"
#include "operations.h"

enum s3_error op_delete_object(struct io *io, struct context *context)
{
    const struct s3_request *request = context->request;
    TRY(context_bucket(io, context));
    struct delete_condition condition;
    TRY(delete_condition_parse(s3_request_header(request, "if-match"),
                               s3_request_header(request, "x-amz-if-match-last-modified-time"),
                               s3_request_header(request, "x-amz-if-match-size"), &context->failure,
                               &condition));
    TRY(delete_key(io, context, s3_request_key(request), s3_request_query(request, "versionId"),
                   &condition));
    return context_respond_empty(io, context, 204);
}
