/* See latency.h. */
#include "latency.h"

#include <assert.h>

static unsigned bucket_of(uint64_t ns)
{
    uint64_t us = ns / 1000;
    if (us == 0)
        return 0;
    unsigned log2 = 63 - (unsigned)__builtin_clzll(us);
    /* The upper half of [2^n, 2^(n+1)), about: 3/2 for the square root of two. */
    unsigned half = log2 > 0 && (us >> (log2 - 1) & 1) != 0;
    unsigned bucket = 2 * log2 + half;
    return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

/* The upper end. */
static uint64_t bucket_ns(unsigned bucket)
{
    uint64_t us = UINT64_C(1) << (bucket / 2);
    return (bucket % 2 == 0 ? us * 3 / 2 + 1 : us * 2) * 1000;
}

void latency_record(struct latency *latency, uint64_t ns)
{
    atomic_fetch_add_explicit(&latency->buckets[bucket_of(ns)], 1, memory_order_relaxed);
}

static uint64_t percentile(const uint32_t *counts, uint64_t total, uint64_t percent)
{
    uint64_t above = total - total * percent / 100;
    uint64_t seen = 0;
    for (unsigned i = LATENCY_BUCKETS; i > 0; i--) {
        seen += counts[i - 1];
        if (seen >= above && seen > 0)
            return bucket_ns(i - 1);
    }
    return 0;
}

void latency_update(struct latency *latency, bool ages)
{
    uint32_t counts[LATENCY_BUCKETS];
    uint64_t total = 0;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
        counts[i] = atomic_load_explicit(&latency->buckets[i], memory_order_relaxed);
        total += counts[i];
        if (ages)
            atomic_fetch_sub_explicit(&latency->buckets[i], counts[i] - counts[i] / 2,
                                      memory_order_relaxed);
    }
    atomic_store(&latency->p95_ns, percentile(counts, total, 95));
    atomic_store(&latency->p99_ns, percentile(counts, total, 99));
    atomic_store(&latency->known, total >= LATENCY_SAMPLES_MIN);
}
