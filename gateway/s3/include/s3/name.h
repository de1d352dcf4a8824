/* What may be called what: buckets, keys, metadata, header values. */
#pragma once
#include "base/slice.h"
#include "s3/error.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    S3_BUCKET_NAME_BYTES_MIN = 3,
    S3_BUCKET_NAME_BYTES_MAX = 63,
    S3_KEY_BYTES_MAX = 1024,
    S3_HEADER_NAME_BYTES_MAX = 4096, /* metadata names count into the limit below */
    S3_METADATA_BYTES_MAX = 2048,    /* names without x-amz-meta-, plus values */
};

/* "General purpose bucket naming rules": 3-63 of a-z 0-9 . -, letter or digit at both ends, no
 * "..", not an IPv4 address, none of the reserved prefixes and suffixes. */
bool s3_bucket_name_valid(struct slice name);

/* A key is 1..1024 bytes of UTF-8 without NUL; anything else is allowed: "..", "//", a leading '/',
 * control bytes ("Naming Amazon S3 objects").
 * S3_KEY_TOO_LONG; S3_INVALID_URI: empty, NUL, or not UTF-8. */
enum s3_error s3_key_check(struct slice key);

/* Like a key but empty is allowed: prefix, delimiter, marker. S3_INVALID_ARGUMENT,
 * S3_KEY_TOO_LONG. */
enum s3_error s3_key_prefix_check(struct slice prefix);

/* No control bytes except tab: can be stored and sent as a header value without splitting a
 * response. */
bool s3_header_value_valid(struct slice value);
/* An RFC 9110 token, 1..S3_HEADER_NAME_BYTES_MAX bytes. */
bool s3_header_name_valid(struct slice name);
