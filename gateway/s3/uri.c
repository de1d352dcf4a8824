/* Percent encoding, query splitting and the check for UTF-8. */
#include "s3/uri.h"
#include <assert.h>

/* -1 when `c` is not a hex digit. */
static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

enum s3_error s3_uri_decode(struct bytes *out, struct slice text, bool plus_is_space)
{
    size_t i = 0;
    while (i < text.bytes) {
        size_t run = i;
        while (run < text.bytes && text.data[run] != '%' && text.data[run] != '+')
            run++;
        bytes_append(out, slice_of(text.data + i, run - i));
        i = run;
        if (i == text.bytes)
            break;
        if (text.data[i] == '+') {
            bytes_append_byte(out, plus_is_space ? ' ' : '+');
            i++;
            continue;
        }
        int high = i + 2 < text.bytes ? hex_digit(text.data[i + 1]) : -1;
        int low = i + 2 < text.bytes ? hex_digit(text.data[i + 2]) : -1;
        if (high < 0 || low < 0)
            return S3_FAIL(S3_INVALID_URI, "bad percent escape offset=%zu", i);
        bytes_append_byte(out, (uint8_t)(high << 4 | low));
        i += 3;
    }
    assert(!out->overflow);
    return S3_OK;
}

static bool is_unreserved(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

void s3_uri_encode(struct bytes *out, struct slice data, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t start = 0; /* of the run that stays as it is */
    for (size_t i = 0; i < data.bytes; i++) {
        uint8_t c = data.data[i];
        if (is_unreserved(c) || (c == '/' && keep_slash))
            continue;
        bytes_append(out, slice_of(data.data + start, i - start));
        start = i + 1;
        const uint8_t escape[] = {'%', (uint8_t)digits[c >> 4], (uint8_t)digits[c & 15]};
        bytes_append(out, slice_of(escape, sizeof escape));
    }
    bytes_append(out, slice_skip(data, start));
}

/* Where a decoded piece of a pair lies in the arena, which may move while it grows. */
struct span {
    size_t offset, bytes;
};

static enum s3_error decode_span(struct bytes *arena, struct slice text, struct span *out_span)
{
    size_t start = arena->bytes;
    TRY(s3_uri_decode(arena, text, true));
    *out_span = (struct span){.offset = start, .bytes = arena->bytes - start};
    return S3_OK;
}

static struct slice span_slice(const struct bytes *arena, struct span span)
{
    /* An empty value is not an absent one: never NULL. */
    static const uint8_t empty[1] = {0};
    return span.bytes == 0 ? slice_of(empty, 0) : slice_of(arena->data + span.offset, span.bytes);
}

enum s3_error s3_uri_split_query(struct slice query, struct bytes *arena, struct s3_pair *pairs,
                                 uint32_t pairs_max, uint32_t *out_count)
{
    struct span names[S3_QUERY_PAIRS_MAX];
    struct span values[S3_QUERY_PAIRS_MAX];
    uint32_t count = 0;
    assert(pairs_max <= S3_QUERY_PAIRS_MAX);
    while (query.bytes > 0) {
        struct slice pair = slice_first(query, slice_find(query, '&'));
        query = slice_skip(query, pair.bytes + 1);
        if (pair.bytes == 0)
            continue;
        if (count == pairs_max)
            return S3_FAIL(S3_INVALID_ARGUMENT, "too many query parameters max=%u", pairs_max);
        size_t equals = slice_find(pair, '=');
        TRY(decode_span(arena, slice_first(pair, equals), &names[count]));
        TRY(decode_span(arena, slice_skip(pair, equals + 1), &values[count]));
        pairs[count++].has_equals = equals < pair.bytes;
    }
    for (uint32_t i = 0; i < count; i++) {
        pairs[i].name = span_slice(arena, names[i]);
        pairs[i].value = span_slice(arena, values[i]);
    }
    *out_count = count;
    return S3_OK;
}

/* Length of the sequence that `lead` starts and the smallest code point it may encode; 0: not a
 * lead byte. */
static uint32_t sequence_bytes(uint8_t lead, uint32_t *out_min, uint32_t *out_bits)
{
    if (lead < 0x80) {
        *out_min = 0, *out_bits = lead;
        return 1;
    }
    if ((lead & 0xe0) == 0xc0) {
        *out_min = 0x80, *out_bits = lead & 0x1f;
        return 2;
    }
    if ((lead & 0xf0) == 0xe0) {
        *out_min = 0x800, *out_bits = lead & 0x0f;
        return 3;
    }
    if ((lead & 0xf8) == 0xf0) {
        *out_min = 0x10000, *out_bits = lead & 0x07;
        return 4;
    }
    return 0;
}

bool s3_utf8_valid(struct slice text)
{
    for (size_t i = 0; i < text.bytes;) {
        uint32_t min = 0;
        uint32_t point = 0;
        uint32_t length = sequence_bytes(text.data[i], &min, &point);
        if (length == 0 || length > text.bytes - i)
            return false;
        for (uint32_t j = 1; j < length; j++) {
            if ((text.data[i + j] & 0xc0) != 0x80)
                return false;
            point = point << 6 | (text.data[i + j] & 0x3f);
        }
        if (point < min || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
            return false;
        i += length;
    }
    return true;
}
