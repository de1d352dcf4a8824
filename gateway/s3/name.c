/* Rules for the names of buckets, keys, metadata and headers. */
#include "s3/name.h"
#include "s3/uri.h"

static bool is_lower_or_digit(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* Four decimal numbers with dots between, of any size: "must not be formatted as an IP address". */
static bool looks_like_ipv4(struct slice name)
{
    uint32_t dots = 0;
    for (size_t i = 0; i < name.bytes; i++) {
        uint8_t c = name.data[i];
        if (c == '.')
            dots++;
        else if (c < '0' || c > '9')
            return false;
    }
    return dots == 3;
}

static bool slice_ends_with(struct slice slice, struct slice suffix)
{
    return slice.bytes >= suffix.bytes &&
           slice_equal(slice_skip(slice, slice.bytes - suffix.bytes), suffix);
}

static bool is_reserved(struct slice name)
{
    static const char *const prefixes[] = {"xn--", "sthree-", "amzn-s3-demo-"};
    static const char *const suffixes[] = {"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        if (slice_starts_with(name, slice_of_text(prefixes[i])))
            return true;
    }
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (slice_ends_with(name, slice_of_text(suffixes[i])))
            return true;
    }
    return false;
}

bool s3_bucket_name_valid(struct slice name)
{
    if (name.bytes < S3_BUCKET_NAME_BYTES_MIN || name.bytes > S3_BUCKET_NAME_BYTES_MAX)
        return false;
    if (!is_lower_or_digit(name.data[0]) || !is_lower_or_digit(name.data[name.bytes - 1]))
        return false;
    for (size_t i = 0; i < name.bytes; i++) {
        uint8_t c = name.data[i];
        if (!is_lower_or_digit(c) && c != '-' && c != '.')
            return false;
        if (c == '.' && name.data[i + 1] == '.') /* the last byte is no dot */
            return false;
    }
    return !looks_like_ipv4(name) && !is_reserved(name);
}

static bool has_nul(struct slice text)
{
    return slice_find(text, 0) < text.bytes;
}

enum s3_error s3_key_check(struct slice key)
{
    if (key.bytes > S3_KEY_BYTES_MAX)
        return S3_FAIL(S3_KEY_TOO_LONG, "key bytes=%zu", key.bytes);
    if (key.bytes == 0 || has_nul(key) || !s3_utf8_valid(key))
        return S3_FAIL(S3_INVALID_URI, "key is empty, holds NUL or is not UTF-8");
    return S3_OK;
}

enum s3_error s3_key_prefix_check(struct slice prefix)
{
    if (prefix.bytes > S3_KEY_BYTES_MAX)
        return S3_FAIL(S3_KEY_TOO_LONG, "prefix bytes=%zu", prefix.bytes);
    if (has_nul(prefix) || !s3_utf8_valid(prefix))
        return S3_FAIL(S3_INVALID_ARGUMENT, "prefix holds NUL or is not UTF-8");
    return S3_OK;
}

bool s3_header_value_valid(struct slice value)
{
    for (size_t i = 0; i < value.bytes; i++) {
        uint8_t c = value.data[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

bool s3_header_name_valid(struct slice name)
{
    if (name.bytes == 0 || name.bytes > S3_HEADER_NAME_BYTES_MAX)
        return false;
    for (size_t i = 0; i < name.bytes; i++) {
        uint8_t c = name.data[i];
        bool alphanumeric = is_lower_or_digit(c) || (c >= 'A' && c <= 'Z');
        if (!alphanumeric && (c == 0 || strchr("!#$%&'*+-.^_`|~", c) == NULL))
            return false;
    }
    return true;
}
