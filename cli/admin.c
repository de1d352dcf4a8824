/* See admin.h. */
#include "admin.h"

#include "admin_storage.h"

enum { METRICS_TEXT_BYTES_MAX = 4 << 20 };

static void respond(struct io *io, struct exchange *exchange, unsigned status, struct slice body)
{
    exchange_header_text(exchange, "Content-Type", "text/plain; version=0.0.4; charset=utf-8");
    (void)exchange_respond(io, exchange, status, body); /* the client left: nobody to tell */
}

static void respond_text(struct io *io, struct exchange *exchange, unsigned status,
                         const char *text)
{
    respond(io, exchange, status, slice_of_text(text));
}

static void serve_metrics(struct io *io, const struct admin *admin, struct exchange *exchange)
{
    AUTO_VALUE(bytes) text = {.max = METRICS_TEXT_BYTES_MAX};
    metrics_render(admin->metrics, &text);
    respond(io, exchange, 200, bytes_slice(&text));
}

static void serve_ready(struct io *io, const struct admin *admin, struct exchange *exchange)
{
    bool ready = admin->node != NULL && node_ready(admin->node);
    respond_text(io, exchange, ready ? 200 : 503, ready ? "ready\n" : "not ready\n");
}

void admin_serve(struct io *io, void *context, struct exchange *exchange)
{
    const struct admin *admin = context;
    size_t mark = slice_find(exchange->head.target, '?');
    struct slice path = slice_first(exchange->head.target, mark);
    bool reads = slice_equal_text(exchange->head.method, "GET") || exchange_is_head(exchange);
    if (admin_storage_serve(io, admin->node, exchange))
        return;
    if (!reads)
        respond_text(io, exchange, 405, "only GET and HEAD\n");
    else if (slice_equal_text(path, "/health/live"))
        respond_text(io, exchange, 200, "live\n");
    else if (slice_equal_text(path, "/health/ready"))
        serve_ready(io, admin, exchange);
    else if (slice_equal_text(path, "/metrics"))
        serve_metrics(io, admin, exchange);
    else
        respond_text(io, exchange, 404,
                     "/health/live, /health/ready, /metrics, /drives or /scrub\n");
}
