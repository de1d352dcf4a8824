/* XXH3-128: the hash of every block's plain bytes, and a fast 64-bit hash for tables. Not
 * cryptographic. */
#pragma once
#include "base/own.h"
#include "base/slice.h"
#include <stdint.h>

struct hash128 {
    uint8_t bytes[16]; /* canonical (big endian) form, as xxhsum prints it */
};

struct hash128 hash128_of(struct slice data);
uint64_t hash64_of(struct slice data);

static inline int hash128_equal(const struct hash128 *a, const struct hash128 *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/* Streaming form. */
struct hasher;
struct hasher *hasher_new(void);
void hasher_free(struct hasher *hasher);
void hasher_update(struct hasher *hasher, struct slice data);
/* The hash of everything so far; more may follow. */
struct hash128 hasher_value(const struct hasher *hasher);
DEFINE_AUTO(hasher, hasher_free)
