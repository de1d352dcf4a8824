/* A growing byte array that owns its memory and cannot outgrow the maximum given at its birth.
 *
 * Zero-initialised except for `max` is a valid empty array: struct bytes b = {.max = 4096};
 * Appending beyond `max` changes nothing and sets `overflow`, which the owner checks once at the
 * end; so building code has no error branch at each append. */
#pragma once
#include "base/own.h"
#include "base/slice.h"
#include <stdbool.h>

struct bytes {
    uint8_t *data;
    size_t bytes;    /* used */
    size_t capacity; /* allocated */
    size_t max;      /* never more than this; 0 is a programming error when appending */
    bool overflow;   /* an append was refused */
};

void bytes_deinit(struct bytes *bytes);
/* Empty again, memory kept. */
void bytes_clear(struct bytes *bytes);
void bytes_append(struct bytes *bytes, struct slice slice);
void bytes_append_text(struct bytes *bytes, const char *text);
void bytes_append_byte(struct bytes *bytes, uint8_t byte);
void bytes_append_format(struct bytes *bytes, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Room for `count` more bytes, to be filled by the caller, counted as used; NULL on overflow.
 * Not zeroed. */
uint8_t *bytes_extend(struct bytes *bytes, size_t count);
/* Remove the first `count` bytes (<= bytes->bytes). */
void bytes_consume(struct bytes *bytes, size_t count);

static inline struct slice bytes_slice(const struct bytes *bytes)
{
    return slice_of(bytes->data, bytes->bytes);
}
