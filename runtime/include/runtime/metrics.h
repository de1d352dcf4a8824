/* Metrics registry, rendered in the Prometheus text format. Updates are relaxed atomics, safe from
 * all threads; the registry is built at start and passed to whoever registers. Names follow
 * Prometheus' naming practices (shale_ prefix, base units, _total for counters). */
#pragma once
#include "base/bytes.h"
#include "base/own.h"
#include <stdint.h>

struct metrics;
struct counter;
struct gauge;
struct histogram;

struct metrics *metrics_new(void);
void metrics_free(struct metrics *metrics);
DEFINE_AUTO(metrics, metrics_free)

/* `labels`: text inside the braces, e.g. "operation=\"PutObject\"", or NULL. Registering the same
 * name and labels again returns the same metric. Owned by the registry. */
struct counter *metrics_counter(struct metrics *metrics, const char *name, const char *labels,
                                const char *help);
struct gauge *metrics_gauge(struct metrics *metrics, const char *name, const char *labels,
                            const char *help);
/* Latency in seconds, buckets of powers of two from 64 us to 16 s. */
struct histogram *metrics_histogram(struct metrics *metrics, const char *name, const char *labels,
                                    const char *help);

void counter_add(struct counter *counter, uint64_t value);
uint64_t counter_value(const struct counter *counter);
void gauge_set(struct gauge *gauge, int64_t value);
void gauge_add(struct gauge *gauge, int64_t value);
int64_t gauge_value(const struct gauge *gauge);
void histogram_record_ns(struct histogram *histogram, uint64_t ns);

/* Called before each render, to set gauges that are computed on demand. */
typedef void metrics_collect_fn(void *context);
void metrics_on_collect(struct metrics *metrics, metrics_collect_fn *fn, void *context);
/* Exposition format 0.0.4. */
void metrics_render(struct metrics *metrics, struct bytes *out);
