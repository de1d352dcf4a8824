/* One description of a layout, walked by the writer and by the reader, so that the two cannot
 * differ.
 *
 * A codec either appends to `out` or reads from `in`. Reading checks every bound; the first bad
 * field marks the codec failed, later fields read as zero, and codec_finish reports once.
 * Numbers are varints unless the function says otherwise. */
#pragma once
#include "base/encode.h"
#include "base/mem.h"
#include "meta/types.h"

struct codec {
    struct bytes *out; /* NULL: reading */
    struct decoder in;
    bool other_version;
};

static inline struct codec codec_writer(struct bytes *out)
{
    return (struct codec){.out = out};
}

static inline struct codec codec_reader(struct slice in)
{
    return (struct codec){.in = decoder_of(in)};
}

static inline bool codec_reading(const struct codec *codec)
{
    return codec->out == NULL;
}

/* The version byte that every value starts with; reading another one fails with ERR_UNSUPPORTED. */
void codec_version(struct codec *codec, uint8_t version);
/* A number 0..max. */
void codec_number(struct codec *codec, uint64_t *value, uint64_t max);
/* The same for a field of any integer or enum type. */
#define CODEC_NUMBER(codec, field, number_max)                                                     \
    do {                                                                                           \
        uint64_t number_ = (uint64_t)(field);                                                      \
        codec_number((codec), &number_, (number_max));                                             \
        (field) = (__typeof__(field))number_;                                                      \
    } while (0)
/* Any 64-bit number, fixed width. */
void codec_u64(struct codec *codec, uint64_t *value);
/* `bytes` raw bytes. */
void codec_raw(struct codec *codec, void *data, size_t bytes);
/* Length and bytes; reading borrows from the input. */
void codec_slice(struct codec *codec, struct slice *value, size_t bytes_max);
/* A C string in an array of `size` chars; no NUL inside. */
void codec_text(struct codec *codec, char *text, size_t size);
/* The element count of an array, 0..max: an element takes `element_bytes_min` encoded bytes at
 * least, so a count that the rest of the input cannot hold fails before anything is allocated
 * for it. */
void codec_count(struct codec *codec, uint32_t *count, uint32_t max, size_t element_bytes_min);
void codec_block_ref(struct codec *codec, struct block_ref *ref);
void codec_etag(struct codec *codec, struct object_etag *etag);
void codec_checksum(struct codec *codec, struct object_checksum *checksum);
void codec_volume(struct codec *codec, struct volume *volume);
/* Mark the input as bad: a value that no field check covers. */
void codec_fail(struct codec *codec);
/* Reading: ERR_UNSUPPORTED for another version, ERR_CORRUPT for bad or trailing bytes. Writing:
 * ERR_LIMIT on overflow. */
enum err codec_finish(const struct codec *codec, const char *what);

enum { BLOCK_REF_BYTES = 40 };
/* Fixed form of a block reference: volume u64, sequence u64, hash 16 bytes, bytes u32, missing
 * u32. */
void block_ref_store(uint8_t *at, const struct block_ref *ref);
struct block_ref block_ref_load(const uint8_t *at);
