/* Metrics of S3 requests. A series is registered when its operation and code first occur; finding
 * it again is one atomic load. */
#pragma once
#include "runtime/metrics.h"
#include "s3/error.h"
#include "s3/operation.h"

struct request_metrics;

/* Both from any thread once made. `metrics` outlives it. */
struct request_metrics *request_metrics_new(struct metrics *metrics);
void request_metrics_free(struct request_metrics *requests);
DEFINE_AUTO(request_metrics, request_metrics_free)

void request_metrics_begin(struct request_metrics *requests);
struct request_outcome {
    enum s3_operation operation;
    enum s3_error error; /* S3_OK: answered as asked */
    uint64_t ns;         /* from the head to the end of the answer */
    uint64_t received_bytes;
    uint64_t sent_bytes;
};
void request_metrics_end(struct request_metrics *requests, const struct request_outcome *outcome);
