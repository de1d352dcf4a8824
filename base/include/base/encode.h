/* Encoding of what is stored: little endian fixed width and varints, except in keys, which are big
 * endian so that byte order is number order. Every stored value starts with a version byte.
 *
 * The writer appends to `struct bytes`. The reader walks a slice and never reads past its end:
 * the first short or malformed field sets `failed`, later reads give 0 or empty, and the caller
 * checks once with decode_finish, which also refuses trailing bytes. */
#pragma once
#include "base/bytes.h"
#include "base/err.h"
#include "base/slice.h"
#include <stdint.h>

void encode_u8(struct bytes *out, uint8_t value);
void encode_u16(struct bytes *out, uint16_t value);
void encode_u32(struct bytes *out, uint32_t value);
void encode_u64(struct bytes *out, uint64_t value);
/* LEB128, 1..10 bytes. */
void encode_varint(struct bytes *out, uint64_t value);
/* Varint length, then the bytes. */
void encode_slice(struct bytes *out, struct slice value);
/* The bytes alone, of a length both sides know. */
void encode_raw(struct bytes *out, struct slice value);
/* Big endian, for keys. */
void encode_key_u8(struct bytes *out, uint8_t value);
void encode_key_u32(struct bytes *out, uint32_t value);
void encode_key_u64(struct bytes *out, uint64_t value);

struct decoder {
    struct slice rest;
    bool failed;
};

static inline struct decoder decoder_of(struct slice input)
{
    return (struct decoder){.rest = input};
}

uint8_t decode_u8(struct decoder *decoder);
uint16_t decode_u16(struct decoder *decoder);
uint32_t decode_u32(struct decoder *decoder);
uint64_t decode_u64(struct decoder *decoder);
uint64_t decode_varint(struct decoder *decoder);
/* Borrowed from the input. */
struct slice decode_slice(struct decoder *decoder);
struct slice decode_raw(struct decoder *decoder, size_t bytes);
/* Copy `bytes` raw bytes to `out`; zeroed on failure. */
void decode_copy(struct decoder *decoder, void *out, size_t bytes);
uint8_t decode_key_u8(struct decoder *decoder);
uint32_t decode_key_u32(struct decoder *decoder);
uint64_t decode_key_u64(struct decoder *decoder);
/* ERR_CORRUPT when anything failed or bytes are left; `what` names the thing for the log. */
enum err decode_finish(const struct decoder *decoder, const char *what);

/* Fixed fields of structs with a fixed layout. */
static inline void store_u16(uint8_t *at, uint16_t v)
{
    at[0] = (uint8_t)v, at[1] = (uint8_t)(v >> 8);
}
static inline void store_u32(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> (8 * i));
}
static inline void store_u64(uint8_t *at, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(v >> (8 * i));
}
static inline uint16_t load_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}
static inline uint32_t load_u32(const uint8_t *at)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++)
        v |= (uint32_t)at[i] << (8 * i);
    return v;
}
static inline uint64_t load_u64(const uint8_t *at)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v |= (uint64_t)at[i] << (8 * i);
    return v;
}
