/* What may be set for the bucket of the request (meta/client.h), as one value of each kind. */
#pragma once
#include "context.h"

/* Set it; an empty value takes it away. S3_NO_SUCH_BUCKET. */
enum s3_error bucket_config_put(struct io *io, struct context *context,
                                enum bucket_config_kind kind, struct slice value);
/* `out` is empty before, and has room for META_BUCKET_CONFIG_BYTES_MAX. `missing`, with the name of
 * the bucket: not set. */
enum s3_error bucket_config_get(struct io *io, struct context *context,
                                enum bucket_config_kind kind, enum s3_error missing,
                                struct bytes *out);
