/* Deleting one key, as DeleteObject and each entry of DeleteObjects ask for it. */
#pragma once
#include "context.h"

/* Texts as sent; absent ones have no bytes (version_id: data is NULL). */
struct deletion {
    struct slice key;
    struct slice version_id;
    struct slice if_match;
    struct slice last_modified_time;
    struct slice size;
};
/* From context->bucket. OK also when there was nothing to delete. `failure` may be NULL.
 * S3_PRECONDITION_FAILED, S3_NO_SUCH_KEY (a condition on a missing key), S3_KEY_TOO_LONG,
 * S3_NO_SUCH_VERSION, S3_INVALID_ARGUMENT. */
enum s3_error deletion_run(struct io *io, struct context *context, const struct deletion *deletion,
                           struct s3_failure *failure);
