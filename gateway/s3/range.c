/* See s3/range.h. */
#include "s3/range.h"
#include "s3/condition.h"
#include "s3/date.h"
#include <assert.h>
#include <inttypes.h>

/* Digits only, at least one. A number too large for 64 bits is beyond any object, so it
 * saturates. */
static bool parse_position(struct slice text, uint64_t *out_position)
{
    uint64_t position = 0;
    for (size_t i = 0; i < text.bytes; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        uint64_t digit = text.data[i] - '0';
        position = position > (UINT64_MAX - digit) / 10 ? UINT64_MAX : position * 10 + digit;
    }
    *out_position = position;
    return text.bytes > 0;
}

/* Split "bytes=A-B" into A and B, either of which may be empty; false for another unit or shape. */
static bool split_range(struct slice header, struct slice *out_first, struct slice *out_last)
{
    static const struct slice unit = {.data = (const uint8_t *)"bytes=", .bytes = 6};
    if (!slice_equal_nocase(slice_first(header, unit.bytes), unit))
        return false;
    struct slice spec = slice_skip(header, unit.bytes);
    size_t dash = slice_find(spec, '-');
    if (dash == spec.bytes)
        return false;
    *out_first = slice_first(spec, dash);
    *out_last = slice_skip(spec, dash + 1);
    return true;
}

static enum range_outcome resolve_suffix(uint64_t suffix_bytes, uint64_t object_bytes,
                                         struct range *out_range)
{
    if (suffix_bytes == 0)
        return RANGE_UNSATISFIABLE;
    /* Satisfiable by RFC 9110 §14.1.2, but no Content-Range can say it: as S3, ignore. */
    if (object_bytes == 0)
        return RANGE_NONE;
    uint64_t bytes = suffix_bytes < object_bytes ? suffix_bytes : object_bytes;
    *out_range = (struct range){.offset = object_bytes - bytes, .bytes = bytes};
    return RANGE_SATISFIABLE;
}

enum range_outcome range_resolve(struct slice header, uint64_t object_bytes,
                                 struct range *out_range)
{
    assert(out_range != NULL);
    struct slice first_text, last_text;
    if (!split_range(header, &first_text, &last_text))
        return RANGE_NONE;
    uint64_t last = UINT64_MAX;
    if (last_text.bytes > 0 && !parse_position(last_text, &last))
        return RANGE_NONE;
    if (first_text.bytes == 0)
        return last_text.bytes == 0 ? RANGE_NONE : resolve_suffix(last, object_bytes, out_range);
    uint64_t first;
    if (!parse_position(first_text, &first) || first > last)
        return RANGE_NONE;
    if (first >= object_bytes)
        return RANGE_UNSATISFIABLE;
    if (last >= object_bytes)
        last = object_bytes - 1;
    *out_range = (struct range){.offset = first, .bytes = last - first + 1};
    return RANGE_SATISFIABLE;
}

bool range_if_range_holds(struct slice if_range, struct slice etag, uint64_t modified_ms)
{
    if_range = slice_trim(if_range);
    if (if_range.bytes == 0)
        return true;
    uint64_t date_ms;
    if (s3_date_parse_http(if_range, &date_ms))
        return date_ms / 1000 == modified_ms / 1000;
    /* "*" is a list, which If-Range does not take. */
    return !slice_equal_text(if_range, "*") && etag_list_contains(if_range, etag, false);
}

enum s3_error range_copy_source(struct slice header, uint64_t source_bytes,
                                struct s3_failure *failure, struct range *out_range)
{
    static const char name[] = "x-amz-copy-source-range";
    assert(out_range != NULL);
    struct slice first_text, last_text;
    uint64_t first, last;
    if (!split_range(header, &first_text, &last_text) || !parse_position(first_text, &first) ||
        !parse_position(last_text, &last) || first > last)
        return s3_fail_argument(failure, name, header,
                                "The x-amz-copy-source-range value must be of the form "
                                "bytes=first-last where first and last are the zero-based offsets "
                                "of the first and last bytes to copy");
    if (last >= source_bytes) {
        AUTO_VALUE(bytes) message = {.max = 128};
        bytes_append_format(&message,
                            "Range specified is not valid for source object of size: %" PRIu64,
                            source_bytes);
        bytes_append_byte(&message, '\0');
        return s3_fail_argument(failure, name, header, (const char *)message.data);
    }
    *out_range = (struct range){.offset = first, .bytes = last - first + 1};
    return S3_OK;
}

void range_append_content_range(struct bytes *out, struct range range, uint64_t object_bytes)
{
    assert(range.bytes > 0);
    assert(range.offset < object_bytes && range.bytes <= object_bytes - range.offset);
    bytes_append_format(out, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, range.offset,
                        range.offset + range.bytes - 1, object_bytes);
}

void range_append_unsatisfied(struct bytes *out, uint64_t object_bytes)
{
    bytes_append_format(out, "bytes */%" PRIu64, object_bytes);
}
