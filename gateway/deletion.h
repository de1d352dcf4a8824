/* Deleting one key, as DeleteObject and each entry of DeleteObjects do. */
#pragma once
#include "context.h"
#include "s3/condition.h"

/* Delete from context->bucket; S3_OK also when there was nothing to delete. `version_id` as in
 * context_check_version. S3_PRECONDITION_FAILED, S3_NO_SUCH_KEY (a condition on a missing key),
 * S3_KEY_TOO_LONG, S3_NO_SUCH_VERSION, S3_INVALID_ARGUMENT. */
enum s3_error delete_key(struct io *io, struct context *context, struct slice key,
                         struct slice version_id, const struct delete_condition *condition);
