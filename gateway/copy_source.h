/* The object that x-amz-copy-source names: of CopyObject and UploadPartCopy. */
#pragma once
#include "context.h"

struct copy_source {
    struct s3_copy_source name;
    struct bucket bucket;
    struct bytes arena; /* what `name` points into */
};

/* Parse the header and find the bucket; checks x-amz-source-expected-bucket-owner. `source` is zero
 * before; deinit it also after an error. Errors of s3_copy_source_parse, context_find_bucket and
 * context_check_version; S3_ACCESS_DENIED; S3_NOT_IMPLEMENTED: a bucket of another group. */
enum s3_error copy_source_open(struct io *io, struct context *context, struct copy_source *source);
void copy_source_deinit(struct copy_source *source);

/* Look the object up, with its inline bytes, and check the x-amz-copy-source-if-* conditions. Take
 * a read_guard before when its bytes are to be read. S3_NO_SUCH_KEY, S3_PRECONDITION_FAILED. */
enum s3_error copy_source_find(struct io *io, struct context *context,
                               const struct copy_source *source, struct object **out_object);
