/* HTTP/1.1 server over libmicrohttpd, one daemon per reactor in external-epoll mode: turns
 * connections into exchanges. http.c is the only file that knows the library.
 *
 * A head that is ambiguous or too large is answered with 400 (501 for a transfer coding but
 * `chunked`) in S3's XML and the connection closes, without the handler. The same goes for 503
 * SlowDown when no fiber is to be had. Every answer carries x-amz-request-id, x-amz-id-2, Server
 * and Date. A client that closes its sending side while its request is handled counts as gone.
 *
 * The library answers by itself, in HTML and without a request id, and closes, when: the request
 * line is malformed (400) or its version is not 1.x (505); a header line has no colon (400); the
 * head does not fit in the memory of a connection, 32 KiB (414, 431) or its Content-Length is not a
 * number (400) or too large (413); the chunked framing of a body breaks (400, 413).
 *
 * With a certificate the listener speaks HTTPS only, and answers plain HTTP with 400. A handshake
 * counts to the time of the head that follows it. */
#pragma once
#include "gateway/exchange.h"
#include "runtime/metrics.h"
#include "runtime/runtime.h"

struct http_server;

/* Runs on a fiber of the reactor that owns the connection. The exchange lives until it returns. A
 * handler that returns without an answer, or in the middle of one, closes the connection. */
typedef void http_handler_fn(struct io *io, void *context, struct exchange *exchange);

struct http_options {
    const char *address; /* "HOST:PORT", "[v6]:PORT" or ":PORT"; port 0 = any free one, the same for
                            all reactors */
    http_handler_fn *handler;
    void *context;
    struct metrics *metrics;
    const char *name;                    /* "s3" or "admin", for metrics and logs */
    uint32_t connections_max;            /* per reactor, 0 = 10000; more wait in the backlog */
    uint32_t connections_per_source_max; /* per reactor, 0 = 512; more are closed at once */
    uint64_t head_timeout_ms;            /* 0 = 10 s for the whole head; on a connection that is
                                            kept alive it counts from the request line */
    uint64_t idle_timeout_ms;            /* 0 = 60 s keep-alive, the request line included */
    uint64_t slow_window_ms; /* 0 = 30 s: body and answer must move at least 1 KiB/s averaged over
                                  it */
    bool only_first_reactor; /* the admin listener */
    /* PEM files; both: HTTPS only, TLS 1.2 or 1.3. NULL: plain HTTP. */
    const char *tls_certificate_path; /* with its chain */
    const char *tls_key_path;
};

/* Listen on every reactor. `options` is copied, `name` and `context` are borrowed until the stop.
 * Called on reactor 0.
 *
 * ERR_EXISTS: the address is in use; ERR_INVALID: it cannot be parsed or bound, or the certificate
 * and its key cannot be used; all logged with what to do. */
enum err http_server_start(struct io *io, const struct http_options *options,
                           struct http_server **out_server);
/* Look at the certificate's files now; a change is taken by itself within about two seconds, too.
 * New handshakes get the new certificate, open connections go on. A pair that is not good is logged
 * and the old one stays. Called on reactor 0; nothing without TLS. */
void http_server_reload(struct io *io, struct http_server *server);
/* "127.0.0.1:9000" as bound. */
const char *http_server_address(const struct http_server *server);
/* Stop accepting, let running exchanges end until `deadline_ns`, close the rest, cancel the
 * handlers that still run and wait for them. Frees it. */
void http_server_stop(struct io *io, struct http_server *server, uint64_t deadline_ns);
/* Open now, on all reactors. */
uint32_t http_server_connections(const struct http_server *server);
