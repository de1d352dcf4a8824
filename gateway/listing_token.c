/* See listing_token.h. */
#include "listing_token.h"

#include "base/encode.h"
#include "base/hash.h"
#include "base/text.h"

#include <assert.h>

enum {
    TOKEN_FORMAT = 1,
    TOKEN_HEAD_BYTES = 1 + 8,
    TOKEN_BYTES_MAX = TOKEN_HEAD_BYTES + LISTING_TOKEN_NAME_BYTES_MAX,
};

static uint64_t check_of(struct slice name)
{
    uint8_t input[1 + LISTING_TOKEN_NAME_BYTES_MAX] = {TOKEN_FORMAT};
    assert(name.bytes <= LISTING_TOKEN_NAME_BYTES_MAX);
    memcpy(input + 1, name.data, name.bytes);
    return hash64_of(slice_of(input, 1 + name.bytes));
}

void listing_token_append(struct bytes *out, struct slice name)
{
    assert(name.bytes > 0);
    AUTO_VALUE(bytes) raw = {.max = TOKEN_BYTES_MAX};
    encode_u8(&raw, TOKEN_FORMAT);
    encode_u64(&raw, check_of(name));
    encode_raw(&raw, name);
    text_base64(out, bytes_slice(&raw));
}

bool listing_token_parse(struct slice text, struct bytes *out)
{
    uint8_t raw[TOKEN_BYTES_MAX];
    size_t raw_bytes = 0;
    if (text.bytes > LISTING_TOKEN_CHARS_MAX ||
        text_parse_base64(text, raw, sizeof raw, &raw_bytes) != OK || raw_bytes <= TOKEN_HEAD_BYTES)
        return false;
    struct decoder decoder = decoder_of(slice_of(raw, raw_bytes));
    uint8_t format = decode_u8(&decoder);
    uint64_t check = decode_u64(&decoder);
    if (format != TOKEN_FORMAT || check != check_of(decoder.rest))
        return false;
    bytes_append(out, decoder.rest);
    return true;
}
