/* Registry of counters, gauges and histograms, rendered for Prometheus. */
#include "runtime/metrics.h"
#include "base/list.h"
#include "base/mem.h"
#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

enum {
    BUCKET_COUNT = 19, /* 64 us << 0 .. 64 us << 18, 16.8 s; one more for what is above */
    NS_PER_US = 1000,
};
static const uint64_t bucket_ns_min = UINT64_C(64) * NS_PER_US;

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct counter {
    _Atomic uint64_t value;
};

struct gauge {
    _Atomic int64_t value;
};

struct histogram {
    _Atomic uint64_t buckets[BUCKET_COUNT + 1];
    _Atomic uint64_t sum_ns;
};

struct metric {
    struct list_node node;
    char *labels; /* "" = none */
    union {
        struct counter counter;
        struct gauge gauge;
        struct histogram histogram;
    };
};

/* All metrics of one name; HELP and TYPE are said once for them. */
struct family {
    struct list_node node;
    char *name;
    char *help;
    enum metric_type type;
    struct list metrics;
};

struct collector {
    struct list_node node;
    metrics_collect_fn *fn;
    void *context;
};

struct metrics {
    pthread_mutex_t mutex; /* of the lists; values are atomics */
    struct list families;  /* in the order of registration */
    struct list collectors;
};

struct metrics *metrics_new(void)
{
    struct metrics *metrics = mem_new(struct metrics);
    pthread_mutex_init(&metrics->mutex, NULL);
    list_init(&metrics->families);
    list_init(&metrics->collectors);
    return metrics;
}

static void family_free(struct family *family)
{
    LIST_EACH(struct metric, metric, &family->metrics, node)
    {
        mem_free(metric->labels);
        mem_free(metric);
    }
    mem_free(family->name);
    mem_free(family->help);
    mem_free(family);
}

void metrics_free(struct metrics *metrics)
{
    if (metrics == NULL)
        return;
    LIST_EACH(struct family, family, &metrics->families, node)
    {
        family_free(family);
    }
    LIST_EACH(struct collector, collector, &metrics->collectors, node)
    {
        mem_free(collector);
    }
    pthread_mutex_destroy(&metrics->mutex);
    mem_free(metrics);
}

/* [a-zA-Z_:][a-zA-Z0-9_:]* as the exposition format wants it. */
static bool name_is_valid(const char *name)
{
    for (const char *at = name; *at != '\0'; at++) {
        bool letter =
            (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || *at == '_' || *at == ':';
        bool digit = *at >= '0' && *at <= '9';
        if (!letter && (!digit || at == name))
            return false;
    }
    return *name != '\0';
}

static struct family *find_family(struct metrics *metrics, const char *name, enum metric_type type,
                                  const char *help)
{
    LIST_EACH(struct family, family, &metrics->families, node)
    {
        if (strcmp(family->name, name) == 0) {
            assert(family->type == type);
            return family;
        }
    }
    struct family *family = mem_new(struct family);
    family->name = mem_format("%s", name);
    family->help = mem_format("%s", help);
    family->type = type;
    list_init(&family->metrics);
    list_push_back(&metrics->families, &family->node);
    return family;
}

static struct metric *find_metric(struct metrics *metrics, const char *name, const char *labels,
                                  enum metric_type type, const char *help)
{
    assert(name_is_valid(name));
    const char *text = labels == NULL ? "" : labels;
    struct metric *found = NULL;
    pthread_mutex_lock(&metrics->mutex);
    struct family *family = find_family(metrics, name, type, help);
    LIST_EACH(struct metric, metric, &family->metrics, node)
    {
        if (strcmp(metric->labels, text) == 0)
            found = metric;
    }
    if (found == NULL) {
        found = mem_new(struct metric);
        found->labels = mem_format("%s", text);
        list_push_back(&family->metrics, &found->node);
    }
    pthread_mutex_unlock(&metrics->mutex);
    return found;
}

struct counter *metrics_counter(struct metrics *metrics, const char *name, const char *labels,
                                const char *help)
{
    return &find_metric(metrics, name, labels, METRIC_COUNTER, help)->counter;
}

struct gauge *metrics_gauge(struct metrics *metrics, const char *name, const char *labels,
                            const char *help)
{
    return &find_metric(metrics, name, labels, METRIC_GAUGE, help)->gauge;
}

struct histogram *metrics_histogram(struct metrics *metrics, const char *name, const char *labels,
                                    const char *help)
{
    return &find_metric(metrics, name, labels, METRIC_HISTOGRAM, help)->histogram;
}

void counter_add(struct counter *counter, uint64_t value)
{
    atomic_fetch_add_explicit(&counter->value, value, memory_order_relaxed);
}

uint64_t counter_value(const struct counter *counter)
{
    return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

void gauge_set(struct gauge *gauge, int64_t value)
{
    atomic_store_explicit(&gauge->value, value, memory_order_relaxed);
}

void gauge_add(struct gauge *gauge, int64_t value)
{
    atomic_fetch_add_explicit(&gauge->value, value, memory_order_relaxed);
}

int64_t gauge_value(const struct gauge *gauge)
{
    return atomic_load_explicit(&gauge->value, memory_order_relaxed);
}

/* Index of the first bucket whose bound is not below `ns`; BUCKET_COUNT when none is. */
static unsigned bucket_of(uint64_t ns)
{
    if (ns <= bucket_ns_min)
        return 0;
    uint64_t multiple = (ns - 1) / bucket_ns_min; /* >= 1 */
    unsigned index = 64u - (unsigned)__builtin_clzll(multiple);
    return index < BUCKET_COUNT ? index : BUCKET_COUNT;
}

void histogram_record_ns(struct histogram *histogram, uint64_t ns)
{
    atomic_fetch_add_explicit(&histogram->buckets[bucket_of(ns)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_ns, ns, memory_order_relaxed);
}

void metrics_on_collect(struct metrics *metrics, metrics_collect_fn *fn, void *context)
{
    struct collector *collector = mem_new(struct collector);
    collector->fn = fn;
    collector->context = context;
    pthread_mutex_lock(&metrics->mutex);
    list_push_back(&metrics->collectors, &collector->node);
    pthread_mutex_unlock(&metrics->mutex);
}

/* --- exposition format 0.0.4 --- */

static const char *type_text(enum metric_type type)
{
    switch (type) {
    case METRIC_COUNTER:
        return "counter";
    case METRIC_GAUGE:
        return "gauge";
    case METRIC_HISTOGRAM:
        return "histogram";
    }
    return "untyped";
}

static void render_help(const struct family *family, struct bytes *out)
{
    bytes_append_format(out, "# HELP %s ", family->name);
    for (const char *at = family->help; *at != '\0'; at++) {
        if (*at == '\\')
            bytes_append_text(out, "\\\\");
        else if (*at == '\n')
            bytes_append_text(out, "\\n");
        else
            bytes_append_byte(out, (uint8_t)*at);
    }
    bytes_append_format(out, "\n# TYPE %s %s\n", family->name, type_text(family->type));
}

/* Name, suffix and the labels in braces, with `le` behind them unless it is NULL. */
static void render_name(const struct family *family, const struct metric *metric,
                        const char *suffix, const char *le, struct bytes *out)
{
    bytes_append_format(out, "%s%s", family->name, suffix);
    bool has_labels = metric->labels[0] != '\0';
    if (has_labels || le != NULL)
        bytes_append_format(out, "{%s", metric->labels);
    if (le != NULL)
        bytes_append_format(out, "%sle=\"%s\"", has_labels ? "," : "", le);
    if (has_labels || le != NULL)
        bytes_append_byte(out, '}');
    bytes_append_byte(out, ' ');
}

static void render_histogram(const struct family *family, const struct metric *metric,
                             struct bytes *out)
{
    const struct histogram *histogram = &metric->histogram;
    uint64_t count = 0;
    for (unsigned i = 0; i <= BUCKET_COUNT; i++) {
        count += atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
        char le[32] = "+Inf";
        uint64_t bound_us = (bucket_ns_min << i) / NS_PER_US;
        if (i < BUCKET_COUNT)
            (void)snprintf(le, sizeof le, "%" PRIu64 ".%06" PRIu64, bound_us / 1000000,
                           bound_us % 1000000);
        render_name(family, metric, "_bucket", le, out);
        bytes_append_format(out, "%" PRIu64 "\n", count);
    }
    uint64_t sum_ns = atomic_load_explicit(&histogram->sum_ns, memory_order_relaxed);
    render_name(family, metric, "_sum", NULL, out);
    bytes_append_format(out, "%" PRIu64 ".%09" PRIu64 "\n", sum_ns / 1000000000,
                        sum_ns % 1000000000);
    render_name(family, metric, "_count", NULL, out);
    bytes_append_format(out, "%" PRIu64 "\n", count);
}

static void render_metric(const struct family *family, const struct metric *metric,
                          struct bytes *out)
{
    switch (family->type) {
    case METRIC_COUNTER:
        render_name(family, metric, "", NULL, out);
        bytes_append_format(out, "%" PRIu64 "\n", counter_value(&metric->counter));
        break;
    case METRIC_GAUGE:
        render_name(family, metric, "", NULL, out);
        bytes_append_format(out, "%" PRId64 "\n", gauge_value(&metric->gauge));
        break;
    case METRIC_HISTOGRAM:
        render_histogram(family, metric, out);
        break;
    }
}

void metrics_render(struct metrics *metrics, struct bytes *out)
{
    /* Collectors are only ever appended at start; they may register metrics, so no lock is held. */
    LIST_EACH(struct collector, collector, &metrics->collectors, node)
    {
        collector->fn(collector->context);
    }
    pthread_mutex_lock(&metrics->mutex);
    LIST_EACH(struct family, family, &metrics->families, node)
    {
        render_help(family, out);
        LIST_EACH(struct metric, metric, &family->metrics, node)
        {
            render_metric(family, metric, out);
        }
    }
    pthread_mutex_unlock(&metrics->mutex);
}
