/* What CompleteMultipartUpload makes of the client's list of parts and of the parts that are
 * stored. Pure: no look-ups. */
#pragma once
#include "context.h"
#include "s3/body.h"

struct completion {
    struct part *parts; /* as stored, in the client's order; owned */
    uint32_t part_count;
    uint64_t bytes;
    struct object_etag etag;
    struct checksum checksum; /* of the whole object */
    struct checksum expected; /* the client's; algorithm NONE when it has none */
};
void completion_deinit(struct completion *completion);

/* Match the client's list with the stored parts, which are in the order of their numbers.
 *
 * S3_INVALID_PART_ORDER; S3_INVALID_PART: not there, or another ETag or checksum;
 * S3_ENTITY_TOO_SMALL: a part other than the last below 5 MiB; S3_INVALID_REQUEST: a composite
 * checksum needs one for each part; S3_BAD_DIGEST: a checksum of an algorithm that the part does
 * not have. */
enum s3_error completion_build(struct context *context, const struct upload *upload,
                               const struct body_complete_multipart *list,
                               const struct part_page *stored, struct completion *out_completion);
/* The headers that say what the client expects of the whole: x-amz-mp-object-size,
 * x-amz-checksum-type and x-amz-checksum-*. S3_INVALID_REQUEST, S3_BAD_DIGEST. */
enum s3_error completion_check(struct context *context, const struct upload *upload,
                               const struct completion *completion);
/* The ETag that the list gives by itself: of a retried completion, whose parts are no longer there.
 * False when an ETag of the list is none of ours. */
bool completion_etag(const struct context *context, const struct body_complete_multipart *list,
                     struct object_etag *out_etag);
