/* Direct mapped by the hash of the name. */
#include "bucket_cache.h"
#include "base/hash.h"
#include <assert.h>

static bool is_settled(uint64_t version)
{
    return version % 2 == 0;
}

static struct bucket_cache_slot *slot_of(struct bucket_cache *cache, struct slice name)
{
    return &cache->slots[hash64_of(name) % BUCKET_CACHE_SLOTS];
}

static bool slot_take(struct bucket_cache_slot *slot)
{
    return !atomic_flag_test_and_set_explicit(&slot->taken, memory_order_acquire);
}

static void slot_give(struct bucket_cache_slot *slot)
{
    atomic_flag_clear_explicit(&slot->taken, memory_order_release);
}

void bucket_cache_init(struct bucket_cache *cache)
{
    atomic_init(&cache->version, 2);
    for (unsigned i = 0; i < BUCKET_CACHE_SLOTS; i++)
        atomic_flag_clear_explicit(&cache->slots[i].taken, memory_order_relaxed);
}

uint64_t bucket_cache_version(const struct bucket_cache *cache)
{
    return atomic_load_explicit(&cache->version, memory_order_acquire);
}

bool bucket_cache_get(struct bucket_cache *cache, uint64_t version, struct slice name,
                      struct bucket_row *out_row)
{
    struct bucket_cache_slot *slot = slot_of(cache, name);
    if (!is_settled(version) || !slot_take(slot))
        return false;
    bool found = slot->version == version && slice_equal_text(name, slot->row.bucket.name);
    if (found)
        *out_row = slot->row;
    slot_give(slot);
    return found;
}

void bucket_cache_put(struct bucket_cache *cache, uint64_t version, const struct bucket_row *row)
{
    struct bucket_cache_slot *slot = slot_of(cache, slice_of_text(row->bucket.name));
    if (!is_settled(version) || !slot_take(slot))
        return;
    if (slot->version <= version) {
        slot->version = version;
        slot->row = *row;
    }
    slot_give(slot);
}

void bucket_cache_write_begin(struct bucket_cache *cache)
{
    uint64_t before = atomic_fetch_add_explicit(&cache->version, 1, memory_order_acq_rel);
    assert(is_settled(before));
}

void bucket_cache_write_end(struct bucket_cache *cache)
{
    uint64_t before = atomic_fetch_add_explicit(&cache->version, 1, memory_order_acq_rel);
    assert(!is_settled(before));
}
