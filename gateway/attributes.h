/* An object's own headers, stored as one blob: standard ones and user metadata (S3 User Guide,
 * "Working with object metadata").
 *
 *     version u8 (1) | count varint | count x { name slice, value slice }
 *
 * Names are lower case. Values are stored as they were sent. */
#pragma once
#include "context.h"

/* The headers of the request that become attributes. Content-Type defaults to binary/octet-stream;
 * aws-chunked is no content encoding. `out` is cleared first. S3_METADATA_TOO_LARGE,
 * S3_INVALID_ARGUMENT. */
enum s3_error attributes_from_request(struct context *context, struct bytes *out);
/* What a copy gets when it keeps its source's attributes: all but the redirect location, which is
 * the request's own (S3 CopyObject). Errors as above. */
enum s3_error attributes_for_copy(struct context *context, struct slice source, struct bytes *out);
/* Add the attributes as answer headers, with the response-* overrides of the query (GetObject,
 * HeadObject). S3_INVALID_ARGUMENT: an override that cannot be sent; S3_INVALID_REQUEST: overrides
 * on an anonymous request. */
enum s3_error attributes_to_answer(struct context *context, struct slice attributes);
/* One attribute by its lower-case name; data NULL when absent. */
struct slice attributes_find(struct slice attributes, const char *name);
