/* Tags of objects and buckets: which ones S3 accepts, and how they are stored.
 *
 *     version u8 (1) | count varint | count x { key slice, value slice }
 *
 * No tags at all are no bytes at all. Sources: S3 User Guide, "Categorizing your objects using
 * tags"; S3 API Reference, PutObjectTagging, PutBucketTagging. */
#pragma once
#include "base/bytes.h"
#include "base/err.h"
#include "base/slice.h"
#include "s3/error.h"
#include <stdint.h>

enum {
    TAG_KEY_CHARACTERS_MAX = 128,
    TAG_VALUE_CHARACTERS_MAX = 256,
    TAG_OBJECT_COUNT_MAX = 10,
    TAG_BUCKET_COUNT_MAX = 50,
    /* Encoded: 4 bytes a character and two lengths a tag. */
    TAG_ENCODED_BYTES_MAX = 4 * (TAG_KEY_CHARACTERS_MAX + TAG_VALUE_CHARACTERS_MAX) + 4,
    TAGS_BYTES_MAX = 2 + TAG_BUCKET_COUNT_MAX * TAG_ENCODED_BYTES_MAX,
};

struct tag {
    struct slice key;
    struct slice value;
};

/* Whether S3 accepts the tags, also those of the x-amz-tagging header: at most `count_max`
 * (TAG_OBJECT_COUNT_MAX or TAG_BUCKET_COUNT_MAX), lengths in characters, keys not empty, distinct
 * and not starting with "aws:", of ASCII only letters, digits, space and + - = . _ : / @.
 * `failure` may be NULL.
 *
 * S3_BAD_REQUEST: too many. S3_INVALID_TAG: the rest. */
enum s3_error tags_check(const struct tag *tags, uint32_t tag_count, uint32_t count_max,
                         struct s3_failure *failure);

/* Tags as in the x-amz-tagging header, a query of key=value pairs, checked and encoded into `out`
 * (max >= TAGS_BYTES_MAX, cleared first).
 *
 * S3_INVALID_ARGUMENT: no such query, not UTF-8, an empty key or one given twice. The others as
 * tags_check. */
enum s3_error tags_from_header(struct slice header, struct s3_failure *failure, struct bytes *out);

/* Append the tags, which passed tags_check; nothing for none. */
void tags_encode(struct bytes *out, const struct tag *tags, uint32_t tag_count);
/* `tags` has room for TAG_BUCKET_COUNT_MAX; they borrow from `encoded`. ERR_CORRUPT,
 * ERR_UNSUPPORTED. */
enum err tags_decode(struct slice encoded, struct tag *tags, uint32_t *out_count);
