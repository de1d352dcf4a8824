/* See upload_text.h. */
#include "upload_text.h"

#include "base/bytes.h"
#include "base/encode.h"
#include "base/hash.h"
#include "base/text.h"

#include <assert.h>

enum { UPLOAD_TEXT_FORMAT = 1 };

static uint64_t check_of(uint64_t id)
{
    uint8_t input[1 + sizeof id] = {UPLOAD_TEXT_FORMAT};
    store_u64(input + 1, id);
    return hash64_of(slice_of(input, sizeof input));
}

struct upload_text upload_text_of(uint64_t id)
{
    assert(id != 0);
    struct upload_text text;
    struct bytes raw = {.max = UPLOAD_TEXT_CHARS / 2};
    uint64_t check = check_of(id);
    encode_key_u64(&raw, check);
    encode_key_u64(&raw, id ^ check);
    text_hex(bytes_slice(&raw), text.text);
    bytes_deinit(&raw);
    return text;
}

bool upload_text_parse(struct slice text, uint64_t *out_id)
{
    uint8_t raw[UPLOAD_TEXT_CHARS / 2];
    if (text.bytes != UPLOAD_TEXT_CHARS || text_parse_hex(text, raw, sizeof raw) != OK)
        return false;
    struct decoder decoder = decoder_of(slice_of(raw, sizeof raw));
    uint64_t check = decode_key_u64(&decoder);
    uint64_t id = decode_key_u64(&decoder) ^ check;
    if (id == 0 || check != check_of(id))
        return false;
    *out_id = id;
    return true;
}
