/* Encoding of stored values and keys. */
#include "base/encode.h"

enum { VARINT_BYTES_MAX = 10 };

void encode_u8(struct bytes *out, uint8_t value)
{
    bytes_append_byte(out, value);
}

void encode_u16(struct bytes *out, uint16_t value)
{
    uint8_t raw[2];
    store_u16(raw, value);
    bytes_append(out, slice_of(raw, sizeof raw));
}

void encode_u32(struct bytes *out, uint32_t value)
{
    uint8_t raw[4];
    store_u32(raw, value);
    bytes_append(out, slice_of(raw, sizeof raw));
}

void encode_u64(struct bytes *out, uint64_t value)
{
    uint8_t raw[8];
    store_u64(raw, value);
    bytes_append(out, slice_of(raw, sizeof raw));
}

void encode_varint(struct bytes *out, uint64_t value)
{
    uint8_t raw[VARINT_BYTES_MAX];
    size_t bytes = 0;
    for (; value >= 0x80; value >>= 7)
        raw[bytes++] = (uint8_t)(value | 0x80);
    raw[bytes++] = (uint8_t)value;
    bytes_append(out, slice_of(raw, bytes));
}

void encode_slice(struct bytes *out, struct slice value)
{
    encode_varint(out, value.bytes);
    bytes_append(out, value);
}

void encode_raw(struct bytes *out, struct slice value)
{
    bytes_append(out, value);
}

void encode_key_u8(struct bytes *out, uint8_t value)
{
    bytes_append_byte(out, value);
}

void encode_key_u32(struct bytes *out, uint32_t value)
{
    uint32_t big = __builtin_bswap32(value);
    encode_u32(out, big);
}

void encode_key_u64(struct bytes *out, uint64_t value)
{
    uint64_t big = __builtin_bswap64(value);
    encode_u64(out, big);
}

/* The next `bytes` bytes, or NULL after marking the failure. */
static const uint8_t *take(struct decoder *decoder, size_t bytes)
{
    if (decoder->failed || bytes > decoder->rest.bytes) {
        decoder->failed = true;
        return NULL;
    }
    const uint8_t *at = decoder->rest.data;
    decoder->rest = slice_skip(decoder->rest, bytes);
    return at;
}

uint8_t decode_u8(struct decoder *decoder)
{
    const uint8_t *at = take(decoder, 1);
    return at == NULL ? 0 : *at;
}

uint16_t decode_u16(struct decoder *decoder)
{
    const uint8_t *at = take(decoder, 2);
    return at == NULL ? 0 : load_u16(at);
}

uint32_t decode_u32(struct decoder *decoder)
{
    const uint8_t *at = take(decoder, 4);
    return at == NULL ? 0 : load_u32(at);
}

uint64_t decode_u64(struct decoder *decoder)
{
    const uint8_t *at = take(decoder, 8);
    return at == NULL ? 0 : load_u64(at);
}

/* Only the shortest form is accepted: equal values have equal bytes, so hashes over them agree. */
uint64_t decode_varint(struct decoder *decoder)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < VARINT_BYTES_MAX; i++) {
        const uint8_t *at = take(decoder, 1);
        if (at == NULL)
            return 0;
        bool too_large = i == VARINT_BYTES_MAX - 1 && *at > 1;
        bool not_shortest = i > 0 && *at == 0;
        if (too_large || not_shortest)
            break;
        value |= (uint64_t)(*at & 0x7f) << (7 * i);
        if (*at < 0x80)
            return value;
    }
    decoder->failed = true;
    return 0;
}

struct slice decode_slice(struct decoder *decoder)
{
    uint64_t bytes = decode_varint(decoder);
    if (bytes > SIZE_MAX)
        decoder->failed = true;
    return decode_raw(decoder, (size_t)bytes);
}

struct slice decode_raw(struct decoder *decoder, size_t bytes)
{
    const uint8_t *at = take(decoder, bytes);
    return decoder->failed ? slice_of(NULL, 0) : slice_of(at, bytes);
}

void decode_copy(struct decoder *decoder, void *out, size_t bytes)
{
    const uint8_t *at = take(decoder, bytes);
    if (bytes == 0)
        return;
    if (at == NULL)
        memset(out, 0, bytes);
    else
        memcpy(out, at, bytes);
}

uint8_t decode_key_u8(struct decoder *decoder)
{
    return decode_u8(decoder);
}

uint32_t decode_key_u32(struct decoder *decoder)
{
    return __builtin_bswap32(decode_u32(decoder));
}

uint64_t decode_key_u64(struct decoder *decoder)
{
    return __builtin_bswap64(decode_u64(decoder));
}

enum err decode_finish(const struct decoder *decoder, const char *what)
{
    if (decoder->failed)
        return FAIL(ERR_CORRUPT, "%s: short or malformed", what);
    if (decoder->rest.bytes > 0)
        return FAIL(ERR_CORRUPT, "%s: trailing bytes=%zu", what, decoder->rest.bytes);
    return OK;
}
