/* Strict conversions between text and values. */
#include "base/text.h"
#include <assert.h>

enum err text_parse_u64(struct slice text, uint64_t max, uint64_t *out_value)
{
    if (text.bytes == 0)
        return FAIL(ERR_INVALID, "number is empty");
    uint64_t value = 0;
    for (size_t i = 0; i < text.bytes; i++) {
        uint8_t digit = (uint8_t)(text.data[i] - '0');
        if (digit > 9)
            return FAIL(ERR_INVALID, "not a decimal digit at=%zu", i);
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)digit, &value) || value > max)
            return FAIL(ERR_INVALID, "number too large");
    }
    *out_value = value;
    return OK;
}

void text_hex(struct slice data, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < data.bytes; i++) {
        out[2 * i] = digits[data.data[i] >> 4];
        out[2 * i + 1] = digits[data.data[i] & 15];
    }
    out[2 * data.bytes] = '\0';
}

/* Without branches on the digits, which nothing predicts. */
static int hex_value(uint8_t character)
{
    unsigned digit = (unsigned)character - '0';
    unsigned letter = (character | 0x20u) - 'a'; /* of either case */
    int value = letter < 6 ? (int)letter + 10 : -1;
    return digit < 10 ? (int)digit : value;
}

enum err text_parse_hex(struct slice text, void *out, size_t bytes)
{
    assert(bytes <= SIZE_MAX / 2);
    if (text.bytes != 2 * bytes)
        return FAIL(ERR_INVALID, "hex digits=%zu expected=%zu", text.bytes, 2 * bytes);
    int values = 0; /* negative when one is */
    for (size_t i = 0; i < text.bytes; i++)
        values |= hex_value(text.data[i]);
    if (values < 0)
        return FAIL(ERR_INVALID, "not a hex digit bytes=%zu", text.bytes);
    uint8_t *to = out;
    for (size_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)(hex_value(text.data[2 * i]) << 4 | hex_value(text.data[2 * i + 1]));
    return OK;
}

void text_base64(struct bytes *out, struct slice data)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < data.bytes; i += 3) {
        size_t left = data.bytes - i;
        uint32_t group = (uint32_t)data.data[i] << 16;
        group |= left > 1 ? (uint32_t)data.data[i + 1] << 8 : 0;
        group |= left > 2 ? (uint32_t)data.data[i + 2] : 0;
        char four[4] = {
            alphabet[group >> 18],
            alphabet[group >> 12 & 63],
            left > 1 ? alphabet[group >> 6 & 63] : '=',
            left > 2 ? alphabet[group & 63] : '=',
        };
        bytes_append(out, slice_of(four, sizeof four));
    }
}

static int base64_value(uint8_t character)
{
    if (character >= 'A' && character <= 'Z')
        return character - 'A';
    if (character >= 'a' && character <= 'z')
        return character - 'a' + 26;
    if (character >= '0' && character <= '9')
        return character - '0' + 52;
    if (character == '+')
        return 62;
    return character == '/' ? 63 : -1;
}

/* Decode four characters of which the last `padding` (0..2) are '='; false when they are not that,
 * or when bits that carry nothing are set (two texts must not mean the same bytes). */
static bool base64_group(const uint8_t *text, int padding, uint32_t *out_group)
{
    uint32_t group = 0;
    for (int i = 0; i < 4 - padding; i++) {
        int value = base64_value(text[i]);
        if (value < 0)
            return false;
        group |= (uint32_t)value << (18 - 6 * i);
    }
    *out_group = group;
    return (group & ((1u << 8 * padding) - 1)) == 0;
}

enum err text_parse_base64(struct slice text, uint8_t *out, size_t max, size_t *out_bytes)
{
    if (text.bytes % 4 != 0)
        return FAIL(ERR_INVALID, "base64 characters=%zu", text.bytes);
    size_t used = 0;
    for (size_t i = 0; i < text.bytes; i += 4) {
        const uint8_t *four = text.data + i;
        int padding = 0;
        if (i + 4 == text.bytes && four[3] == '=')
            padding = four[2] == '=' ? 2 : 1;
        uint32_t group = 0;
        if (!base64_group(four, padding, &group))
            return FAIL(ERR_INVALID, "base64 malformed at=%zu", i);
        size_t count = 3 - (size_t)padding;
        if (count > max - used)
            return FAIL(ERR_INVALID, "base64 of more than bytes=%zu", max);
        for (size_t j = 0; j < count; j++)
            out[used++] = (uint8_t)(group >> (16 - 8 * j));
    }
    *out_bytes = used;
    return OK;
}
