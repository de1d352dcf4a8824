/* Answers to pages of other origins (s3/cors.h): which of them a browser may show to its page. */
#pragma once
#include "context.h"

/* The Origin header of the request; data NULL: none, so nothing of this applies. Before
 * verification: nobody signs it. */
struct slice cross_origin_of(const struct context *context);
/* Look up what the bucket grants the origin of a request that is no preflight, for
 * cross_origin_headers. Before anything can refuse the request: a page is to see its errors too.
 * When the look-up fails the answer goes without those headers. */
void cross_origin_prepare(struct io *io, struct context *context);
/* Add the headers of what was found to the answer; nothing without an Origin header. */
void cross_origin_headers(struct context *context);
/* The rules of a bucket; *out_rules is empty and has room for META_BUCKET_CONFIG_BYTES_MAX.
 * ERR_NOT_FOUND: no such bucket, *out_exists false, or it has none. */
enum err cross_origin_rules(struct io *io, struct context *context, bool *out_exists,
                            struct bytes *out_rules);
