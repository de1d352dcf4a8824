/* HTTP/1.1 server over libmicrohttpd, one daemon per reactor in external-epoll mode: turns connections into
 * exchanges. http.c is the only file that knows the library. */
#pragma once
#include "gateway/exchange.h"
#include "runtime/metrics.h"
#include "runtime/runtime.h"

struct http_server;

/* Runs on a fiber of the reactor that owns the connection. The exchange lives until it returns. */
typedef void http_handler_fn(struct io *io, void *context, struct exchange *exchange);

struct http_options {
    const char *address;       /* "HOST:PORT", "[v6]:PORT" or ":PORT"; port 0 = any free one, the same for all reactors */
    http_handler_fn *handler;
    void *context;
    struct metrics *metrics;
    const char *name;          /* "s3" or "admin", for metrics and logs */
    uint32_t connections_max;  /* per reactor, 0 = 10000 */
    uint32_t connections_per_source_max; /* 0 = 512 */
    uint64_t head_timeout_ms;  /* 0 = 10 s for the whole head */
    uint64_t idle_timeout_ms;  /* 0 = 60 s keep-alive */
    uint64_t slow_window_ms;   /* 0 = 30 s: body and answer must move at least 1 KiB/s averaged over it */
    bool only_first_reactor;   /* the admin listener */
};

/* Listen on every reactor. ERR_EXISTS: the address is in use; ERR_INVALID: it cannot be parsed or bound; both logged with what to do. */
enum err http_server_start(struct io *io, const struct http_options *options,
                           struct http_server **out_server);
/* "127.0.0.1:9000" as bound. */
const char *http_server_address(const struct http_server *server);
/* Stop accepting, let running exchanges end until `deadline_ns`, close the rest. Frees it. */
void http_server_stop(struct io *io, struct http_server *server, uint64_t deadline_ns);
uint32_t http_server_connections(const struct http_server *server);
