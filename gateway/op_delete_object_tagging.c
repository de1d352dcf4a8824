/* DeleteObjectTagging. */
#include "operations.h"
#include "tag_set.h"

enum s3_error op_delete_object_tagging(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    TRY(context_check_version(context, s3_request_query(context->request, "versionId")));
    TRY(tag_set_replace(io, context, slice_of(NULL, 0)));
    return context_respond_empty(io, context, 204);
}
