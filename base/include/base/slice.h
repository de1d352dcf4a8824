/* A borrowed range of bytes: never owns, never outlives what it points into. For pure code; I/O
 * takes `struct buf` (base/buf.h). Not NUL-terminated. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *data; /* may be NULL when bytes is 0 */
    size_t bytes;
};

#define SLICE_LITERAL(text)                                                                        \
    ((struct slice){.data = (const uint8_t *)("" text), .bytes = sizeof(text) - 1})
/* For printf with "%.*s". */
#define SLICE_PRINT(slice) (int)(slice).bytes, (const char *)(slice).data

static inline struct slice slice_of(const void *data, size_t bytes)
{
    return (struct slice){.data = (const uint8_t *)data, .bytes = bytes};
}

/* The bytes of a C string without its NUL; NULL gives an empty slice. */
static inline struct slice slice_of_text(const char *text)
{
    return slice_of(text, text == NULL ? 0 : strlen(text));
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

static inline bool slice_equal_text(struct slice a, const char *text)
{
    return slice_equal(a, slice_of_text(text));
}

/* Unsigned byte order, a prefix sorts first: < 0, 0, > 0. */
static inline int slice_compare(struct slice a, struct slice b)
{
    size_t common = a.bytes < b.bytes ? a.bytes : b.bytes;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0)
        return order;
    return a.bytes < b.bytes ? -1 : a.bytes > b.bytes;
}

static inline bool slice_starts_with(struct slice slice, struct slice prefix)
{
    return slice.bytes >= prefix.bytes &&
           (prefix.bytes == 0 || memcmp(slice.data, prefix.data, prefix.bytes) == 0);
}

/* Without the first `count` bytes; `count` beyond the end gives an empty slice. */
static inline struct slice slice_skip(struct slice slice, size_t count)
{
    if (count >= slice.bytes)
        return slice_of(slice.data, 0);
    return slice_of(slice.data + count, slice.bytes - count);
}

/* The first `count` bytes, or all when there are fewer. */
static inline struct slice slice_first(struct slice slice, size_t count)
{
    return slice_of(slice.data, count < slice.bytes ? count : slice.bytes);
}

/* Index of the first `byte`, or slice.bytes when there is none. */
static inline size_t slice_find(struct slice slice, uint8_t byte)
{
    const void *hit = slice.bytes == 0 ? NULL : memchr(slice.data, byte, slice.bytes);
    return hit == NULL ? slice.bytes : (size_t)((const uint8_t *)hit - slice.data);
}

/* ASCII letters compare without case; for header names. */
bool slice_equal_nocase(struct slice a, struct slice b);
/* Without leading and trailing spaces and tabs. */
struct slice slice_trim(struct slice slice);
/* NUL-terminated copy; release with mem_free. */
char *slice_to_text(struct slice slice);
