/* See request_metrics.h. */
#include "request_metrics.h"

#include "base/mem.h"

#include <assert.h>
#include <stdatomic.h>

enum {
#define X(name, code, status, message) +1
    ERROR_COUNT = 1 S3_ERROR_LIST(X), /* with S3_OK */
#undef X
};

struct operation_metrics {
    _Atomic(struct histogram *) seconds;
    _Atomic(struct counter *) answers[ERROR_COUNT];
};

struct request_metrics {
    struct metrics *metrics;
    struct gauge *active;
    struct counter *received_bytes;
    struct counter *sent_bytes;
    struct operation_metrics operations[S3_OP_END];
};

struct request_metrics *request_metrics_new(struct metrics *metrics)
{
    struct request_metrics *requests = mem_new(struct request_metrics);
    requests->metrics = metrics;
    requests->active =
        metrics_gauge(metrics, "shale_s3_requests_active", NULL, "Requests being handled.");
    requests->received_bytes = metrics_counter(metrics, "shale_s3_received_bytes_total", NULL,
                                               "Bytes of request bodies received.");
    requests->sent_bytes =
        metrics_counter(metrics, "shale_s3_sent_bytes_total", NULL, "Bytes of answers sent.");
    return requests;
}

void request_metrics_free(struct request_metrics *requests)
{
    mem_free(requests);
}

void request_metrics_begin(struct request_metrics *requests)
{
    gauge_add(requests->active, 1);
}

/* Two threads may both find a slot empty: registering twice gives the same metric. */
static struct histogram *seconds_of(struct request_metrics *requests, enum s3_operation operation)
{
    _Atomic(struct histogram *) *slot = &requests->operations[operation].seconds;
    struct histogram *histogram = atomic_load_explicit(slot, memory_order_acquire);
    if (histogram == NULL) {
        AUTO_STRING labels = mem_format("operation=\"%s\"", s3_operation_name(operation));
        histogram = metrics_histogram(requests->metrics, "shale_s3_request_seconds", labels,
                                      "Time from the head to the end of the answer.");
        atomic_store_explicit(slot, histogram, memory_order_release);
    }
    return histogram;
}

static struct counter *answers_of(struct request_metrics *requests, enum s3_operation operation,
                                  enum s3_error error)
{
    _Atomic(struct counter *) *slot = &requests->operations[operation].answers[error];
    struct counter *counter = atomic_load_explicit(slot, memory_order_acquire);
    if (counter == NULL) {
        AUTO_STRING labels =
            mem_format("operation=\"%s\",code=\"%s\"", s3_operation_name(operation),
                       error == S3_OK ? "OK" : s3_error_code(error));
        counter = metrics_counter(requests->metrics, "shale_s3_requests_total", labels,
                                  "Requests answered.");
        atomic_store_explicit(slot, counter, memory_order_release);
    }
    return counter;
}

void request_metrics_end(struct request_metrics *requests, const struct request_outcome *outcome)
{
    assert(outcome->operation < S3_OP_END);
    gauge_add(requests->active, -1);
    histogram_record_ns(seconds_of(requests, outcome->operation), outcome->ns);
    counter_add(answers_of(requests, outcome->operation, outcome->error), 1);
    counter_add(requests->received_bytes, outcome->received_bytes);
    counter_add(requests->sent_bytes, outcome->sent_bytes);
}
