/* PutObjectTagging: one entry replaces the tags of the current version and nothing else. */
#include "operations.h"
#include "tag_set.h"

enum s3_error op_put_object_tagging(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    TRY(context_check_version(context, s3_request_query(context->request, "versionId")));
    AUTO_VALUE(bytes) tags = {.max = TAGS_BYTES_MAX};
    TRY(tag_set_from_body(io, context, TAG_OBJECT_COUNT_MAX, &tags));
    TRY(tag_set_replace(io, context, bytes_slice(&tags)));
    return context_respond_empty(io, context, 200);
}
