/* GetObjectTagging. */
#include "operations.h"
#include "tag_set.h"

enum s3_error op_get_object_tagging(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    AUTO(object) object = NULL;
    TRY(context_find_object(io, context, false, &object));
    return tag_set_answer(io, context, object->tags);
}
