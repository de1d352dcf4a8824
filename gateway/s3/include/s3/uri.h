/* Percent encoding of paths and queries, done once in each direction.
 *
 * Sources: RFC 3986 §2; "Create a signed AWS API request", UriEncode; "Signature Calculations for
 * the Authorization Header". The path keeps every byte (S3 does not normalise dots or slashes); in
 * a query '+' stands for a space. */
#pragma once
#include "base/bytes.h"
#include "base/slice.h"
#include "s3/error.h"
#include <stdbool.h>

enum {
    S3_TARGET_BYTES_MAX = 8192, /* path and query as sent */
    S3_QUERY_PAIRS_MAX = 128,
};

/* One decoded pair of a query. */
struct s3_pair {
    struct slice name;
    struct slice value;
    bool has_equals; /* false: `?acl`, true: `?acl=` */
};

/* Decode `%xx` and append to `out`; with `plus_is_space` also '+'.
 * S3_INVALID_URI: a '%' without two hex digits. */
enum s3_error s3_uri_decode(struct bytes *out, struct slice text, bool plus_is_space);

/* Append `data` with everything but A-Z a-z 0-9 - . _ ~ as `%XX`; '/' stays when `keep_slash`. */
void s3_uri_encode(struct bytes *out, struct slice data, bool keep_slash);

/* Split a raw query (without its '?') at '&' and decode each pair into `arena`; empty pairs are
 * skipped.
 *
 * arena      must have room for query.bytes without growing beyond `max`; pairs point into it, so
 *            nothing may be appended to it afterwards
 * S3_INVALID_URI       bad escape
 * S3_INVALID_ARGUMENT  more than `pairs_max` pairs */
enum s3_error s3_uri_split_query(struct slice query, struct bytes *arena, struct s3_pair *pairs,
                                 uint32_t pairs_max, uint32_t *out_count);

/* True for well-formed UTF-8 without overlong forms, surrogates or code points above U+10FFFF. */
bool s3_utf8_valid(struct slice text);
