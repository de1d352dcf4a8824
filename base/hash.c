/* XXH3 behind names of our own. */
#define XXH_STATIC_LINKING_ONLY /* the size of the state, for an allocation that cannot fail */
#include "base/hash.h"
#include "heap.h"
#include <assert.h>
#include <stdlib.h>
#include <xxhash.h>

struct hasher {
    XXH3_state_t state;
};

static_assert(sizeof(struct hasher) % 64 == 0);

static struct hash128 canonical(XXH128_hash_t value)
{
    XXH128_canonical_t form;
    XXH128_canonicalFromHash(&form, value);
    struct hash128 hash;
    static_assert(sizeof hash.bytes == sizeof form.digest);
    memcpy(hash.bytes, form.digest, sizeof hash.bytes);
    return hash;
}

struct hash128 hash128_of(struct slice data)
{
    return canonical(XXH3_128bits(data.data, data.bytes));
}

uint64_t hash64_of(struct slice data)
{
    return XXH3_64bits(data.data, data.bytes);
}

struct hasher *hasher_new(void)
{
    struct hasher *hasher = heap_aligned(64, sizeof *hasher);
    XXH3_INITSTATE(&hasher->state);
    XXH_errorcode result = XXH3_128bits_reset(&hasher->state);
    assert(result == XXH_OK);
    return hasher;
}

void hasher_free(struct hasher *hasher)
{
    free(hasher);
}

void hasher_update(struct hasher *hasher, struct slice data)
{
    if (data.bytes == 0)
        return;
    XXH_errorcode result = XXH3_128bits_update(&hasher->state, data.data, data.bytes);
    assert(result == XXH_OK);
}

struct hash128 hasher_value(const struct hasher *hasher)
{
    return canonical(XXH3_128bits_digest(&hasher->state));
}
