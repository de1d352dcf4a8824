/* The parts of slices that are too long to be inline. */
#include "base/slice.h"
#include "base/mem.h"

static uint8_t lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + 32) : byte;
}

bool slice_equal_nocase(struct slice a, struct slice b)
{
    if (a.bytes != b.bytes)
        return false;
    for (size_t i = 0; i < a.bytes; i++) {
        if (lower(a.data[i]) != lower(b.data[i]))
            return false;
    }
    return true;
}

static bool blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

struct slice slice_trim(struct slice slice)
{
    while (slice.bytes > 0 && blank(slice.data[0]))
        slice = slice_skip(slice, 1);
    while (slice.bytes > 0 && blank(slice.data[slice.bytes - 1]))
        slice.bytes--;
    return slice;
}

char *slice_to_text(struct slice slice)
{
    return mem_copy(slice.data, slice.bytes);
}
