/* See s3/tagging.h. */
#include "s3/tagging.h"
#include "base/encode.h"
#include "s3/uri.h"
#include <assert.h>
#include <string.h>

enum { TAGS_VERSION = 1 };

static uint32_t character_count(struct slice text)
{
    uint32_t count = 0;
    for (size_t i = 0; i < text.bytes; i++)
        count += (text.data[i] & 0xc0) != 0x80; /* bytes that do not continue a character */
    return count;
}

static bool tag_text_valid(struct slice text, uint32_t characters_max)
{
    for (size_t i = 0; i < text.bytes; i++) {
        uint8_t byte = text.data[i];
        bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
        bool digit = byte >= '0' && byte <= '9';
        if (byte < 0x80 && !letter && !digit && (byte == 0 || !strchr(" +-=._:/@", byte)))
            return false;
    }
    return character_count(text) <= characters_max;
}

static enum s3_error fail_tag(struct s3_failure *failure, const struct tag *tag, const char *why)
{
    enum s3_error error = S3_FAIL_SAY(failure, S3_INVALID_TAG, "%s", why);
    s3_failure_add(failure, "TagKey", tag->key);
    s3_failure_add(failure, "TagValue", tag->value);
    return error;
}

static bool key_seen(const struct tag *tags, uint32_t before, struct slice key)
{
    for (uint32_t i = 0; i < before; i++)
        if (slice_equal(tags[i].key, key))
            return true;
    return false;
}

enum s3_error tags_check(const struct tag *tags, uint32_t tag_count, uint32_t count_max,
                         struct s3_failure *failure)
{
    assert(count_max == TAG_OBJECT_COUNT_MAX || count_max == TAG_BUCKET_COUNT_MAX);
    if (tag_count > count_max)
        return S3_FAIL_SAY(failure, S3_BAD_REQUEST, "%s",
                           count_max == TAG_OBJECT_COUNT_MAX
                               ? "Object tags cannot be greater than 10"
                               : "Bucket tag count cannot be greater than 50");
    for (uint32_t i = 0; i < tag_count; i++) {
        if (tags[i].key.bytes == 0 || !tag_text_valid(tags[i].key, TAG_KEY_CHARACTERS_MAX))
            return fail_tag(failure, &tags[i], "The TagKey you have provided is invalid");
        if (!tag_text_valid(tags[i].value, TAG_VALUE_CHARACTERS_MAX))
            return fail_tag(failure, &tags[i], "The TagValue you have provided is invalid");
        if (slice_equal_nocase(slice_first(tags[i].key, 4), SLICE_LITERAL("aws:")))
            return fail_tag(failure, &tags[i], "System tags cannot be added/updated by requester");
        if (key_seen(tags, i, tags[i].key))
            return fail_tag(failure, &tags[i], "Cannot provide multiple Tags with the same key");
    }
    return S3_OK;
}

/* --- the header --- */

static enum s3_error fail_header(struct s3_failure *failure, struct slice header)
{
    return s3_fail_argument(failure, "x-amz-tagging", header,
                            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded "
                            "URL query parameters without tag name duplicates.");
}

static enum s3_error parse_header(struct slice header, struct bytes *arena, struct tag *tags,
                                  struct s3_failure *failure, uint32_t *out_count)
{
    struct s3_pair pairs[S3_QUERY_PAIRS_MAX];
    uint32_t count;
    if (s3_uri_split_query(header, arena, pairs, S3_QUERY_PAIRS_MAX, &count) != S3_OK)
        return fail_header(failure, header);
    for (uint32_t i = 0; i < count; i++) {
        tags[i] = (struct tag){.key = pairs[i].name, .value = pairs[i].value};
        if (tags[i].key.bytes == 0 || !s3_utf8_valid(tags[i].key) ||
            !s3_utf8_valid(tags[i].value) || key_seen(tags, i, tags[i].key))
            return fail_header(failure, header);
    }
    *out_count = count;
    return S3_OK;
}

enum s3_error tags_from_header(struct slice header, struct s3_failure *failure, struct bytes *out)
{
    bytes_clear(out);
    AUTO_VALUE(bytes) arena = {.max = header.bytes + 1};
    struct tag tags[S3_QUERY_PAIRS_MAX];
    uint32_t count = 0;
    TRY(parse_header(header, &arena, tags, failure, &count));
    TRY(tags_check(tags, count, TAG_OBJECT_COUNT_MAX, failure));
    tags_encode(out, tags, count);
    return S3_OK;
}

/* --- as stored --- */

void tags_encode(struct bytes *out, const struct tag *tags, uint32_t tag_count)
{
    assert(tag_count <= TAG_BUCKET_COUNT_MAX);
    if (tag_count == 0)
        return;
    encode_u8(out, TAGS_VERSION);
    encode_varint(out, tag_count);
    for (uint32_t i = 0; i < tag_count; i++) {
        encode_slice(out, tags[i].key);
        encode_slice(out, tags[i].value);
    }
}

enum err tags_decode(struct slice encoded, struct tag *tags, uint32_t *out_count)
{
    *out_count = 0;
    if (encoded.bytes == 0)
        return OK;
    struct decoder decoder = decoder_of(encoded);
    if (decode_u8(&decoder) != TAGS_VERSION)
        return FAIL(ERR_UNSUPPORTED, "tags: version of another release");
    uint64_t count = decode_varint(&decoder);
    if (count > TAG_BUCKET_COUNT_MAX)
        return FAIL(ERR_CORRUPT, "tags: too many");
    for (uint64_t i = 0; i < count; i++) {
        tags[i].key = decode_slice(&decoder);
        tags[i].value = decode_slice(&decoder);
    }
    TRY(decode_finish(&decoder, "tags"));
    *out_count = (uint32_t)count;
    return OK;
}
