/* Bucket rows that readers of any thread found lately: every request asks for one.
 *
 * A row is good as long as no entry wrote a bucket row. `version` is even then; it is made odd
 * before such a batch is written and even again, a new number, afterwards, both before anybody is
 * told of the entry. Who sees the batch in the store therefore sees an odd or a later version, and
 * no later reader gets an older row from here: reads stay linearizable.
 *
 * No reader ever waits: a slot in use by another thread counts as a miss. */
#pragma once
#include "rows.h"
#include <stdatomic.h>

enum { BUCKET_CACHE_SLOTS = 64 };

struct bucket_cache_slot {
    atomic_flag taken;
    uint64_t version; /* under which the row was read; 0: empty */
    struct bucket_row row;
};
struct bucket_cache {
    _Atomic uint64_t version; /* from 2 */
    struct bucket_cache_slot slots[BUCKET_CACHE_SLOTS];
};

void bucket_cache_init(struct bucket_cache *cache);
/* Before the cache or the store is asked; passed to both functions below. */
uint64_t bucket_cache_version(const struct bucket_cache *cache);
bool bucket_cache_get(struct bucket_cache *cache, uint64_t version, struct slice name,
                      struct bucket_row *out_row);
/* A row read from the store after `version` was. */
void bucket_cache_put(struct bucket_cache *cache, uint64_t version, const struct bucket_row *row);

/* Around the write of a batch with bucket rows, by the thread that applies. */
void bucket_cache_write_begin(struct bucket_cache *cache);
void bucket_cache_write_end(struct bucket_cache *cache);
