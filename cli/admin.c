/* See admin.h. */
#include "admin.h"

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

void admin_serve(struct io *io, void *context, struct exchange *exchange)
{
    const struct admin *admin = context;
    struct slice path = slice_first(exchange->head.target, slice_find(exchange->head.target, '?'));
    bool reads = slice_equal_text(exchange->head.method, "GET") || exchange_is_head(exchange);
    if (!reads) {
        respond_text(io, exchange, 405, "only GET and HEAD\n");
    } else if (slice_equal_text(path, "/health/live")) {
        respond_text(io, exchange, 200, "live\n");
    } else if (slice_equal_text(path, "/health/ready")) {
        bool ready = admin->node != NULL && node_ready(admin->node);
        respond_text(io, exchange, ready ? 200 : 503, ready ? "ready\n" : "not ready\n");
    } else if (slice_equal_text(path, "/metrics")) {
        AUTO_VALUE(bytes) text = {.max = METRICS_TEXT_BYTES_MAX};
        metrics_render(admin->metrics, &text);
        respond(io, exchange, 200, bytes_slice(&text));
    } else {
        respond_text(io, exchange, 404, "/health/live, /health/ready or /metrics\n");
    }
}
