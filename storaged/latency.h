/* How long the recent reads of a drive took: counts by powers of the square root of two, halved
 * every few seconds. Safe from all reactors; a count lost in a race does no harm. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { LATENCY_BUCKETS = 56, LATENCY_SAMPLES_MIN = 32 };

struct latency {
    _Atomic uint32_t buckets[LATENCY_BUCKETS]; /* from 1 us to some minutes */
    /* Computed by latency_update: */
    _Atomic uint64_t p95_ns, p99_ns;
    _Atomic bool known; /* from enough samples */
};

void latency_record(struct latency *latency, uint64_t ns);
/* Compute the percentiles of what was recorded; `ages`: older samples count half from now on. One
 * caller at a time. */
void latency_update(struct latency *latency, bool ages);
