/* The S3 API over exchanges: authenticate, authorise, admit, run the operation, answer. Stateless
 * but for caches and limits; any number of gateways serve the same cluster. */
#pragma once
#include "base/buf.h"
#include "gateway/exchange.h"
#include "meta/client.h"
#include "runtime/metrics.h"
#include "s3/request.h"
#include "storaged/client.h"

struct gateway;

struct gateway_options {
    struct meta_client *meta;
    struct storage_client *storage;
    struct metrics *metrics;
    struct s3_config s3; /* borrowed strings */
    size_t
        body_budget_bytes; /* for bodies in flight, 0 = 256 MiB; used up: wait, then 503 SlowDown */
    uint32_t requests_max; /* running at once per reactor, 0 = 1000; beyond: 503 SlowDown */
    bool (*ready)(
        void *context); /* false: 503 ServiceUnavailable-like SlowDown for every request */
    void *ready_context;
};

/* One for the process, shared by all reactors. */
struct gateway *gateway_new(struct io *io, const struct gateway_options *options);
void gateway_free(struct gateway *gateway);
DEFINE_AUTO(gateway, gateway_free)

/* Handle one exchange to its end, on the calling fiber. Always answers unless the client left. */
void gateway_serve(struct io *io, struct gateway *gateway, struct exchange *exchange);

/* Running requests and charged body bytes: 0 and 0 when idle. */
uint32_t gateway_active(const struct gateway *gateway);
size_t gateway_body_bytes(const struct gateway *gateway);
