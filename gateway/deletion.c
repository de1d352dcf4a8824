/* See deletion.h. */
#include "deletion.h"

#include "s3/name.h"

static struct write_conditions to_metadata(const struct delete_condition *condition)
{
    struct write_conditions conditions = {
        .bytes = condition->size,
        .has_bytes = condition->has_size,
    };
    context_write_condition(&condition->match, &conditions);
    /* 0 means no condition; the comparison is in whole seconds. */
    if (condition->has_modified)
        conditions.modified_ms = condition->modified_ms == 0 ? 1 : condition->modified_ms;
    return conditions;
}

enum s3_error delete_key(struct io *io, struct context *context, struct slice key,
                         struct slice version_id, const struct delete_condition *condition)
{
    TRY(s3_key_check(key));
    TRY(context_check_version(context, version_id));
    struct write_conditions conditions = to_metadata(condition);
    bool deleted;
    enum err err = meta_object_delete(io, context->gateway->options.meta, context->bucket.id, key,
                                      &conditions, &deleted);
    return context_written(context, &conditions, err, "object delete");
}
