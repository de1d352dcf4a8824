/* DeleteObject: a key that is not there is deleted already, unless a condition says otherwise. */
#include "deletion.h"
#include "operations.h"

enum s3_error op_delete_object(struct io *io, struct context *context)
{
    const struct s3_request *request = context->request;
    TRY(context_bucket(io, context));
    struct deletion deletion = {
        .key = s3_request_key(request),
        .version_id = s3_request_query(request, "versionId"),
        .if_match = s3_request_header(request, "if-match"),
        .last_modified_time = s3_request_header(request, "x-amz-if-match-last-modified-time"),
        .size = s3_request_header(request, "x-amz-if-match-size"),
    };
    TRY(deletion_run(io, context, &deletion, &context->failure));
    return context_respond_empty(io, context, 204);
}
