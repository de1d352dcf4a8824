/* What the files of the HTTP server share: http.c owns connections and the loop, http_request.c
 * what the library asks, http_answer.c what it is told.
 *
 * Each reactor has a daemon of libmicrohttpd and one fiber, the driver, that runs it; the library's
 * callbacks run inside the driver. A request gets a fiber of its own, started by the first callback
 * of the access handler, and the two sides meet in `struct request`:
 *
 *     library (driver fiber)                            handler fiber
 *     on_uri            makes the request
 *     on_access first   copies and checks the head  ->  starts, runs until its first wait
 *     on_access body    copies into `lent`          <-  http_read lends a buffer
 *     on_access final   queues the answer           <-  http_respond, http_send set it
 *     on_answer_read    copies out of `sending`     <-  http_send lends bytes
 *     on_completed      forgets the connection      ->  every later call is ERR_CLOSED
 *
 * The one that ends last frees the request. When the library calls and the fiber has nothing for
 * it, the connection is suspended, else the library would spin; the fiber resumes it (kick). A
 * suspended connection is not watched by the library: the sweep looks for clients that left.
 *
 * Rules of 0.9.75 that shape these files: an answer can be queued in the first call, which closes
 * the connection after it, or in the final call, never between them. After a resume the library
 * repeats the call of the phase in which it was suspended. Resuming only marks; MHD_run does the
 * work. The library has no timeouts of less than a connection's silence, so all deadlines are the
 * sweep's. It misses a FIN that comes in one event with data, so the sweep looks for those, too.
 * Where its own refusals are malformed, http_on_log answers before it. */
#pragma once
#include "certificate.h"
#include "gateway/http.h"
#include "http_address.h"
#include "http_pace.h"
#include "runtime/sync.h"
#include "s3/error.h"

#include <gnutls/gnutls.h>
#include <microhttpd.h>

enum { HTTP_CLASS_COUNT = 6 };

struct http_metrics {
    struct gauge *connections;
    struct counter *connections_total;
    struct counter *requests;
    struct counter *answers[HTTP_CLASS_COUNT]; /* by the first digit of the status */
    struct counter *refused;
    struct counter *aborted;
    struct counter *timed_out;
    struct counter *received_bytes;
    struct counter *sent_bytes;
};

struct reactor {
    struct http_server *server;
    struct io *io;
    struct MHD_Daemon *daemon; /* NULL: not started */
    struct poller *poller;
    int listen_fd; /* -1: closed */
    struct list connections;
    struct list lingering;
    struct list running; /* requests whose handler has not returned */
    struct list heads;   /* requests of which the library has the request line, latest first */
    struct request *in_request_line; /* the library works on it, inside on_uri's caller; or NULL */
    uint32_t watched_skip;           /* of the connections to poll: the last sweep had them */
    _Atomic uint32_t connection_count;
    struct fiber_group driver;
    struct fiber_group handlers;
    struct signal emptied; /* stopping, and the last connection closed */
    uint64_t next_sweep_ns;
    uint64_t next_request_id;
    uint32_t quiet_rounds;
    struct certificate *certificate; /* for the next handshake; NULL: plain HTTP */
    bool stopping;
};

struct http_server {
    struct http_options options;
    struct http_metrics metrics;
    struct http_address address;
    char address_text[HTTP_ADDRESS_TEXT_BYTES_MAX];
    uint64_t sweep_ns;
    uint64_t window_ns;
    struct http_tls *tls; /* NULL: plain HTTP */
    unsigned reactor_count;
    struct reactor reactors[];
};

struct connection {
    struct reactor *reactor;
    struct MHD_Connection *library;
    struct list_node node;
    int fd;
    char peer[HTTP_ADDRESS_TEXT_BYTES_MAX];
    struct request *request; /* the present one */
    uint64_t deadline_ns;    /* of a head or the silence before it; 0 = a request runs */
    bool linger;             /* the client may still be sending: read on a while after the close */
    bool timed_out;
    /* Progress of an answer or of a body that is dropped, while that waits for the client. */
    uint64_t observed_ns; /* 0 = not observed */
    uint64_t observed_bytes;
    gnutls_session_t tls;            /* NULL: plain HTTP */
    struct certificate *certificate; /* of its handshake */
    bool received;                   /* bytes, below TLS */
};

/* A closed connection whose client may still be sending: closing its socket at once would make the
 * kernel answer with RST, upon which the client's kernel drops the answer it has not read yet. */
struct lingering {
    struct list_node node;
    int fd;
    uint64_t deadline_ns;
};

struct request {
    struct exchange exchange;
    struct reactor *reactor;
    struct connection *connection; /* NULL: the library ended the request */
    unsigned references;           /* the library's and the fiber's */
    struct fiber *fiber;           /* NULL: not started or ended */
    struct list_node running_node;
    struct list_node head_node;
    char peer[HTTP_ADDRESS_TEXT_BYTES_MAX];
    char *target; /* as on the wire */
    const char *target_wire;
    void *head_memory;

    bool started;
    bool head_refused; /* its framing is unknown: nothing after the head may be read */
    bool first_done;   /* the first call returned without suspending */
    bool suspended;
    bool waiting; /* the fiber waits in here */
    bool closing; /* the next callback closes the connection */
    bool timed_out;
    bool completed; /* the answer was sent to its end */

    /* Body. */
    bool expects_continue;
    bool body_ended;
    bool reading;
    uint8_t *lent;
    size_t lent_bytes;
    size_t lent_filled;
    uint64_t body_bytes_received;
    uint64_t body_bytes_dropped;
    struct http_pace pace;

    /* Answer. */
    bool answered; /* `response` is or was there */
    bool queued;
    bool begun; /* streamed, and the library is told at the first exchange_send */
    bool streamed;
    struct MHD_Response *response;
    struct slice body;
    void *body_copy;
    struct fiber_group whole; /* one member: the library sends from memory that the handler lent */
    struct slice sending;     /* rest of what http_send lent */
};

static inline struct request *http_request_of(struct exchange *exchange)
{
    return CONTAINER_OF(exchange, struct request, exchange);
}

static inline bool http_is_gone(const struct request *request)
{
    return request->connection == NULL || request->closing;
}

static inline enum err http_gone_error(const struct request *request)
{
    return request->timed_out ? ERR_TIMEOUT : ERR_CLOSED;
}

static inline bool http_has_body(const struct request *request)
{
    const struct s3_framing *framing = &request->exchange.framing;
    return framing->chunked || framing->content_length > 0;
}

/* --- http.c --- */

/* Close the connection without waiting for the client: a socket that was shut down is readable and
 * writable for the library, which then finds the end. */
void http_abort_connection(struct connection *connection);

/* --- http_request.c --- */

/* Let the library call again. */
void http_kick(struct request *request);
/* Have the library forget the connection until the kick. Only inside its callbacks. */
void http_suspend(struct request *request);
void http_wake_handler(struct request *request);
/* Wait in the handler for the library, at most until `deadline_ns` and the fiber's own. */
enum err http_wait_for_library(struct io *io, struct request *request, uint64_t deadline_ns);
/* The library is done with the request. */
void http_end_request(struct request *request, bool completed);

/* The callbacks that libmicrohttpd gets. */
enum MHD_Result http_on_access(void *context, struct MHD_Connection *library, const char *url,
                               const char *method, const char *version, const char *data,
                               size_t *bytes, void **request_context);
void *http_on_uri(void *context, const char *uri, struct MHD_Connection *library);
void http_on_completed(void *context, struct MHD_Connection *library, void **request_context,
                       enum MHD_RequestTerminationCode code);
size_t http_on_unescape(void *context, struct MHD_Connection *library, char *text);
__attribute__((format(printf, 2, 0))) void http_on_log(void *context, const char *format,
                                                       va_list arguments);

/* --- http_answer.c --- */

/* exchange_transport's respond and send. */
enum err http_respond(struct io *io, struct exchange *exchange, struct slice body, bool streamed);
enum err http_send(struct io *io, struct exchange *exchange, struct slice bytes);
/* Answer in S3's form without a handler. */
void http_refuse(struct io *io, struct request *request, enum s3_error error,
                 const struct s3_failure *failure);
/* Answer past the library, while it still reads the body, and close. It has sent nothing for this
 * request but perhaps "100 Continue". */
void http_answer_directly(struct io *io, struct request *request);
/* More body is announced than will be dropped for the sake of the connection. */
bool http_too_much_to_drop(const struct request *request);
