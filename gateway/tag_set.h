/* Tags in requests and answers; what they may be and how they are stored: s3/tagging.h. */
#pragma once
#include "context.h"
#include "s3/tagging.h"

static_assert(2 + TAG_OBJECT_COUNT_MAX * TAG_ENCODED_BYTES_MAX <= META_TAGS_BYTES_MAX);

/* The x-amz-tagging header, encoded; nothing without it. `out` as for tags_from_header. */
enum s3_error tag_set_from_header(struct context *context, struct bytes *out);
/* The Tagging document in the body, at most `count_max` tags, encoded. Errors of xml_body_read and
 * tags_check. */
enum s3_error tag_set_from_body(struct io *io, struct context *context, uint32_t count_max,
                                struct bytes *out);
/* Answer with the Tagging document of encoded tags. */
enum s3_error tag_set_answer(struct io *io, struct context *context, struct slice encoded);
/* x-amz-tagging-count; nothing when there are none. */
enum s3_error tag_set_count_header(struct context *context, struct slice encoded);
/* Replace the tags of the object that the request names. S3_NO_SUCH_KEY. */
enum s3_error tag_set_replace(struct io *io, struct context *context, struct slice encoded);
