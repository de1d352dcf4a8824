/* Fields of stored values, for both directions. */
#include "codec.h"
#include <assert.h>

static void walk_repair(struct codec *codec, struct volume_repair *repair, unsigned slots)
{
    codec_number(codec, &repair->id, UINT64_MAX);
    if (repair->id == 0)
        return;
    codec_number(codec, &repair->epoch, UINT64_MAX);
    CODEC_NUMBER(codec, repair->slots, UINT32_MAX);
    for (unsigned slot = 0; slot < slots; slot++)
        if ((repair->slots >> slot & 1) != 0)
            codec_raw(codec, repair->drives[slot].bytes, sizeof repair->drives[slot].bytes);
}

void codec_volume(struct codec *codec, struct volume *volume)
{
    codec_number(codec, &volume->id, UINT64_MAX);
    codec_number(codec, &volume->epoch, UINT64_MAX);
    CODEC_NUMBER(codec, volume->state, VOLUME_RETIRED);
    CODEC_NUMBER(codec, volume->data_shards, META_SHARDS_MAX);
    CODEC_NUMBER(codec, volume->parity_shards, META_SHARDS_MAX);
    unsigned slots = (unsigned)volume->data_shards + volume->parity_shards;
    if (slots > META_SHARDS_MAX) {
        codec_fail(codec);
        return;
    }
    for (unsigned slot = 0; slot < slots; slot++) {
        codec_raw(codec, volume->slots[slot].bytes, sizeof volume->slots[slot].bytes);
        codec_number(codec, &volume->slot_epochs[slot], UINT64_MAX);
    }
    walk_repair(codec, &volume->repair, slots);
}

void codec_fail(struct codec *codec)
{
    assert(codec_reading(codec));
    codec->in.failed = true;
}

void codec_version(struct codec *codec, uint8_t version)
{
    if (!codec_reading(codec)) {
        encode_u8(codec->out, version);
        return;
    }
    uint8_t found = decode_u8(&codec->in);
    if (!codec->in.failed && found != version) {
        codec->other_version = true;
        codec_fail(codec);
    }
}

void codec_number(struct codec *codec, uint64_t *value, uint64_t max)
{
    if (!codec_reading(codec)) {
        assert(*value <= max);
        encode_varint(codec->out, *value);
        return;
    }
    *value = decode_varint(&codec->in);
    if (*value > max) {
        *value = 0;
        codec_fail(codec);
    }
}

void codec_u64(struct codec *codec, uint64_t *value)
{
    if (codec_reading(codec))
        *value = decode_u64(&codec->in);
    else
        encode_u64(codec->out, *value);
}

void codec_raw(struct codec *codec, void *data, size_t bytes)
{
    if (codec_reading(codec))
        decode_copy(&codec->in, data, bytes);
    else
        encode_raw(codec->out, slice_of(data, bytes));
}

void codec_slice(struct codec *codec, struct slice *value, size_t bytes_max)
{
    if (!codec_reading(codec)) {
        assert(value->bytes <= bytes_max);
        encode_slice(codec->out, *value);
        return;
    }
    *value = decode_slice(&codec->in);
    if (value->bytes > bytes_max) {
        *value = slice_of(NULL, 0);
        codec_fail(codec);
    }
}

void codec_text(struct codec *codec, char *text, size_t size)
{
    struct slice value = slice_of(text, codec_reading(codec) ? 0 : strnlen(text, size));
    codec_slice(codec, &value, size - 1);
    if (!codec_reading(codec))
        return;
    memset(text, 0, size);
    if (slice_find(value, 0) < value.bytes)
        codec_fail(codec);
    else if (value.bytes > 0)
        memcpy(text, value.data, value.bytes);
}

void codec_count(struct codec *codec, uint32_t *count, uint32_t max, size_t element_bytes_min)
{
    assert(element_bytes_min > 0);
    CODEC_NUMBER(codec, *count, max);
    if (codec_reading(codec) && *count > codec->in.rest.bytes / element_bytes_min) {
        *count = 0;
        codec_fail(codec);
    }
}

void codec_block_ref(struct codec *codec, struct block_ref *ref)
{
    uint8_t raw[BLOCK_REF_BYTES];
    if (!codec_reading(codec))
        block_ref_store(raw, ref);
    codec_raw(codec, raw, sizeof raw);
    if (!codec_reading(codec))
        return;
    *ref = block_ref_load(raw);
    if (ref->bytes == 0 || ref->bytes > META_BLOCK_BYTES_MAX)
        codec_fail(codec);
}

void codec_etag(struct codec *codec, struct object_etag *etag)
{
    codec_raw(codec, etag->md5, sizeof etag->md5);
    CODEC_NUMBER(codec, etag->part_count, META_PARTS_MAX);
}

void codec_checksum(struct codec *codec, struct object_checksum *checksum)
{
    CODEC_NUMBER(codec, checksum->algorithm, UINT8_MAX);
    CODEC_NUMBER(codec, checksum->type, UINT8_MAX);
    CODEC_NUMBER(codec, checksum->bytes, META_CHECKSUM_BYTES_MAX);
    codec_raw(codec, checksum->value, checksum->bytes);
}

enum err codec_finish(const struct codec *codec, const char *what)
{
    if (!codec_reading(codec))
        return codec->out->overflow ? FAIL(ERR_LIMIT, "%s: too long", what) : OK;
    if (codec->other_version)
        return FAIL(ERR_UNSUPPORTED, "%s: version of another release", what);
    return decode_finish(&codec->in, what);
}

void block_ref_store(uint8_t *at, const struct block_ref *ref)
{
    store_u64(at, ref->id.volume);
    store_u64(at + 8, ref->id.sequence);
    memcpy(at + 16, ref->hash.bytes, sizeof ref->hash.bytes);
    store_u32(at + 32, ref->bytes);
    store_u32(at + 36, ref->missing);
}

struct block_ref block_ref_load(const uint8_t *at)
{
    struct block_ref ref = {
        .id = {.volume = load_u64(at), .sequence = load_u64(at + 8)},
        .bytes = load_u32(at + 32),
        .missing = load_u32(at + 36),
    };
    memcpy(ref.hash.bytes, at + 16, sizeof ref.hash.bytes);
    return ref;
}
