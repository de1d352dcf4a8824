/* runtime/metrics.h: what a scrape returns. */
#include "runtime/metrics.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_rendered(struct metrics *metrics, const char *expected)
{
    AUTO_VALUE(bytes) out = {.max = 1 << 20};
    metrics_render(metrics, &out);
    bytes_append_byte(&out, '\0');
    assert_false(out.overflow);
    assert_string_equal((const char *)out.data, expected);
}

static void families_have_help_and_type_once(void **state)
{
    (void)state;
    AUTO(metrics) metrics = metrics_new();
    struct counter *puts =
        metrics_counter(metrics, "shale_requests_total", "operation=\"Put\"", "Requests answered.");
    struct gauge *up = metrics_gauge(metrics, "shale_up", NULL, "Back\\slash and\nline.");
    struct counter *gets =
        metrics_counter(metrics, "shale_requests_total", "operation=\"Get\"", "Requests answered.");
    assert_ptr_equal(puts, metrics_counter(metrics, "shale_requests_total", "operation=\"Put\"",
                                           "Requests answered."));
    counter_add(puts, 3);
    counter_add(gets, UINT64_MAX);
    gauge_set(up, 1);
    gauge_add(up, -6);
    assert_int_equal(counter_value(puts), 3);
    assert_int_equal(gauge_value(up), -5);
    assert_rendered(metrics, "# HELP shale_requests_total Requests answered.\n"
                             "# TYPE shale_requests_total counter\n"
                             "shale_requests_total{operation=\"Put\"} 3\n"
                             "shale_requests_total{operation=\"Get\"} 18446744073709551615\n"
                             "# HELP shale_up Back\\\\slash and\\nline.\n"
                             "# TYPE shale_up gauge\n"
                             "shale_up -5\n");
}

static void histogram_buckets_are_cumulative_and_inclusive(void **state)
{
    (void)state;
    AUTO(metrics) metrics = metrics_new();
    struct histogram *latency =
        metrics_histogram(metrics, "shale_latency_seconds", "verb=\"GET\"", "Time to answer.");
    static const uint64_t recorded_ns[] = {0,
                                           1,
                                           64000,
                                           64001,
                                           128000,
                                           128001,
                                           1000000000,
                                           UINT64_C(16777216000),
                                           UINT64_C(16777216001)};
    for (size_t i = 0; i < sizeof recorded_ns / sizeof *recorded_ns; i++)
        histogram_record_ns(latency, recorded_ns[i]);
    AUTO_VALUE(bytes) out = {.max = 1 << 20};
    metrics_render(metrics, &out);
    bytes_append_byte(&out, '\0');
    static const char *const lines[] = {
        "# TYPE shale_latency_seconds histogram\n",
        "shale_latency_seconds_bucket{verb=\"GET\",le=\"0.000064\"} 3\n",
        "shale_latency_seconds_bucket{verb=\"GET\",le=\"0.000128\"} 5\n",
        "shale_latency_seconds_bucket{verb=\"GET\",le=\"0.000256\"} 6\n",
        "shale_latency_seconds_bucket{verb=\"GET\",le=\"0.524288\"} 6\n",
        "shale_latency_seconds_bucket{verb=\"GET\",le=\"1.048576\"} 7\n",
        "shale_latency_seconds_bucket{verb=\"GET\",le=\"8.388608\"} 7\n",
        "shale_latency_seconds_bucket{verb=\"GET\",le=\"16.777216\"} 8\n",
        "shale_latency_seconds_bucket{verb=\"GET\",le=\"+Inf\"} 9\n",
        "shale_latency_seconds_sum{verb=\"GET\"} 34.554816004\n",
        "shale_latency_seconds_count{verb=\"GET\"} 9\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        assert_non_null(strstr((const char *)out.data, lines[i]));
}

static void set_gauge(void *context)
{
    gauge_set(context, 42);
}

static void collectors_run_before_each_render(void **state)
{
    (void)state;
    AUTO(metrics) metrics = metrics_new();
    struct gauge *gauge = metrics_gauge(metrics, "shale_fibers", "", "Fibers alive.");
    metrics_on_collect(metrics, set_gauge, gauge);
    assert_rendered(metrics, "# HELP shale_fibers Fibers alive.\n"
                             "# TYPE shale_fibers gauge\n"
                             "shale_fibers 42\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_have_help_and_type_once),
        cmocka_unit_test(histogram_buckets_are_cumulative_and_inclusive),
        cmocka_unit_test(collectors_run_before_each_render),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
