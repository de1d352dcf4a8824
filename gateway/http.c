/* See gateway/http.h.
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
 * Rules of 0.9.75 that shape this file: an answer can be queued in the first call, which closes the
 * connection after it, or in the final call, never between them. After a resume the library repeats
 * the call of the phase in which it was suspended. Resuming only marks; MHD_run does the work. The
 * library has no timeouts of less than a connection's silence, so all deadlines are the sweep's. It
 * misses a FIN that comes in one event with data, so the sweep looks for those, too. Where its own
 * refusals are malformed, on_log answers before it. */
#include "gateway/http.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "http_address.h"
#include "http_head.h"
#include "http_pace.h"
#include "runtime/sync.h"
#include "s3/date.h"
#include "s3/name.h"
#include "s3/xml.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/tcp.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    /* The library zeroes all of it for each request: 32 KiB cost 0.8 us more than 16 KiB. */
    CONNECTION_MEMORY_BYTES = 32 << 10,
    /* Request and answer heads share the connection's memory. */
    REQUEST_HEAD_BYTES_MAX = 20 << 10,
    ANSWER_HEAD_BYTES_MAX = 10 << 10,
    LIBRARY_HEADER_BYTES = 64, /* its list node per header and query argument */
    /* Shorter bodies are copied, which costs less than the handler's wait for their end. */
    COPIED_BODY_BYTES_MAX = 16 << 10,
    /* Below malloc's threshold for mmap: 128 KiB blocks took twice the time. */
    STREAM_BLOCK_BYTES = 120 << 10,
    DIRECT_ANSWER_BYTES_MAX = 128 << 10,
    REFUSAL_BYTES_MAX = 4 << 10,
    /* Rounds in which the library asks to go on and yet calls nobody. Sending a long answer does
     * that, and so does a client whose chunk line is longer than the connection's memory. */
    QUIET_ROUNDS_MAX = 200,
    LINGERING_MAX = 64,
    LINGERING_READ_BYTES = 256 << 10,
    SWEEP_FDS = 256, /* polled in one call */
    /* Connections of one reactor that a sweep polls although the library watches them. */
    SWEEP_WATCHED_MAX = 4096,
    CLASS_COUNT = 6,
};
#define SWEEP_NS_MAX IO_NS_PER_S
#define SWEEP_NS_MIN (10 * IO_NS_PER_MS)
#define LINGER_NS (2 * IO_NS_PER_S)
#define LINGER_POLL_NS (20 * IO_NS_PER_MS)

struct http_metrics {
    struct gauge *connections;
    struct counter *connections_total;
    struct counter *requests;
    struct counter *answers[CLASS_COUNT]; /* by the first digit of the status */
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
    bool stopping;
};

struct http_server {
    struct http_options options;
    struct http_metrics metrics;
    struct http_address address;
    char address_text[HTTP_ADDRESS_TEXT_BYTES_MAX];
    uint64_t sweep_ns;
    uint64_t window_ns;
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

static struct request *request_of(struct exchange *exchange)
{
    return CONTAINER_OF(exchange, struct request, exchange);
}

static void request_unref(struct request *request)
{
    assert(request->references > 0);
    if (--request->references > 0)
        return;
    assert(request->connection == NULL);
    assert(request->fiber == NULL);
    if (request->response != NULL)
        MHD_destroy_response(request->response);
    bytes_deinit(&request->exchange.headers);
    mem_free(request->body_copy);
    mem_free(request->head_memory);
    mem_free(request->target);
    mem_free(request);
}

static bool is_gone(const struct request *request)
{
    return request->connection == NULL || request->closing;
}

static enum err gone_error(const struct request *request)
{
    return request->timed_out ? ERR_TIMEOUT : ERR_CLOSED;
}

static bool has_body(const struct request *request)
{
    const struct s3_framing *framing = &request->exchange.framing;
    return framing->chunked || framing->content_length > 0;
}

/* Let the library call again. */
static void kick(struct request *request)
{
    if (!request->suspended || request->connection == NULL)
        return;
    request->suspended = false;
    MHD_resume_connection(request->connection->library);
    poller_wake(request->reactor->io, request->reactor->poller);
}

static void suspend(struct request *request)
{
    assert(!request->suspended);
    request->suspended = true;
    MHD_suspend_connection(request->connection->library);
}

static void wake_fiber(struct request *request)
{
    if (request->fiber != NULL && request->waiting)
        io_wake(request->reactor->io, request->fiber);
}

/* Wait in the fiber for the library, at most until `deadline_ns` and the fiber's own. */
static enum err wait_for_library(struct io *io, struct request *request, uint64_t deadline_ns)
{
    uint64_t own_ns = io_deadline(io);
    if (own_ns != 0 && own_ns < deadline_ns)
        deadline_ns = own_ns;
    request->waiting = true;
    enum err result = io_park(io, deadline_ns);
    request->waiting = false;
    return result;
}

/* Close the connection without waiting for the client: a socket that was shut down is readable and
 * writable for the library, which then finds the end. */
static void abort_connection(struct connection *connection)
{
    if (connection->request != NULL) {
        connection->request->closing = true;
        kick(connection->request);
    }
    (void)shutdown(connection->fd, SHUT_RDWR); /* ENOTCONN: the client was faster */
}

/* --- answers --- */

static void request_id_text(const struct request *request, char out[17])
{
    int written = snprintf(out, 17, "%016" PRIx64, request->exchange.request_id);
    assert(written == 16);
}

/* The framing is the transport's; a second length would split the answer. */
static bool is_framing_header(const char *name)
{
    return strcasecmp(name, "Content-Length") == 0 || strcasecmp(name, "Transfer-Encoding") == 0 ||
           strcasecmp(name, "Connection") == 0;
}

/* Call fn for each header of the answer, ours included. Values are C strings. */
static void each_answer_header(struct request *request,
                               void (*fn)(void *context, const char *name, const char *value),
                               void *context)
{
    char id[17];
    request_id_text(request, id);
    if (request->exchange.close || request->reactor->stopping)
        fn(context, "Connection", "close");
    fn(context, "x-amz-request-id", id);
    fn(context, "x-amz-id-2", "shale");
    fn(context, "Server", "Shale");
    size_t offset = 0;
    struct slice name;
    struct slice value;
    while (exchange_next_header(&request->exchange, &offset, &name, &value)) {
        char name_text[S3_HEADER_NAME_BYTES_MAX + 1];
        assert(name.bytes < sizeof name_text);
        memcpy(name_text, name.data, name.bytes);
        name_text[name.bytes] = 0;
        /* exchange_header ends each value with a NUL. */
        if (!is_framing_header(name_text))
            fn(context, name_text, (const char *)value.data);
    }
}

static void add_response_header(void *context, const char *name, const char *value)
{
    /* The library refuses empty values; clients drop the spaces around one. */
    if (MHD_add_response_header(context, name, *value == 0 ? " " : value) != MHD_YES)
        log_warn("http: answer header dropped by the library name=%s", name);
}

static void set_response(struct request *request, struct MHD_Response *response)
{
    if (response == NULL) {
        log_error("http: no memory for an answer");
        abort();
    }
    each_answer_header(request, add_response_header, response);
    request->response = response;
    request->answered = true;
}

static ssize_t on_answer_read(void *context, uint64_t offset, char *block, size_t bytes)
{
    (void)offset;
    struct request *request = context;
    request->reactor->quiet_rounds = 0;
    size_t count = request->sending.bytes < bytes ? request->sending.bytes : bytes;
    if (count > 0) {
        memcpy(block, request->sending.data, count);
        request->sending = slice_skip(request->sending, count);
        if (request->sending.bytes == 0)
            wake_fiber(request);
        return (ssize_t)count;
    }
    if (request->closing || request->fiber == NULL)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    suspend(request);
    return 0;
}

static void set_streamed_response(struct request *request)
{
    /* The answer to HEAD is the length alone: the library never asks for a byte. */
    size_t block_bytes = exchange_is_head(&request->exchange) ? 1 : STREAM_BLOCK_BYTES;
    request->streamed = true;
    set_response(request,
                 MHD_create_response_from_callback(request->exchange.content_bytes, block_bytes,
                                                   on_answer_read, request, NULL));
}

static void append_header_line(void *context, const char *name, const char *value)
{
    bytes_append_format(context, "%s: %s\r\n", name, value);
}

/* Answer past the library, while it still reads the body, and close. It has sent nothing for this
 * request but perhaps "100 Continue". */
static void answer_directly(struct io *io, struct request *request)
{
    struct exchange *exchange = &request->exchange;
    request->closing = true;
    if (request->streamed || request->body.bytes > DIRECT_ANSWER_BYTES_MAX / 2)
        return;
    exchange->close = true;
    char date[S3_DATE_HTTP_CHARS + 1];
    s3_date_format_http(io_wall_ms(io), date);
    AUTO_VALUE(bytes) text = {.max = DIRECT_ANSWER_BYTES_MAX};
    bytes_append_format(&text, "HTTP/1.1 %u %s\r\nDate: %s\r\nContent-Length: %zu\r\n",
                        exchange->status, MHD_get_reason_phrase_for(exchange->status), date,
                        request->body.bytes);
    each_answer_header(request, append_header_line, &text);
    bytes_append_text(&text, "\r\n");
    if (!exchange_is_head(exchange))
        bytes_append(&text, request->body);
    assert(!text.overflow);
    /* The send buffer is empty, so it takes all; if not, the connection closes all the same. */
    (void)send(request->connection->fd, text.data, text.bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    request->connection->linger = true;
}

/* More body is announced than will be dropped for the sake of the connection. */
static bool too_much_to_drop(const struct request *request)
{
    const struct s3_framing *framing = &request->exchange.framing;
    return framing->content_length > request->body_bytes_received &&
           framing->content_length - request->body_bytes_received > EXCHANGE_DRAIN_BYTES_MAX;
}

/* The answer is there: bring it to the client, past a body that is still coming if there is one. */
static void announce_answer(struct io *io, struct request *request)
{
    bool in_body = request->first_done && has_body(request) && !request->body_ended;
    if (in_body && (request->exchange.close || request->timed_out || too_much_to_drop(request)))
        answer_directly(io, request);
    kick(request);
}

static enum err answer_whole(struct io *io, struct request *request, struct slice body)
{
    bool lent = body.bytes > COPIED_BODY_BYTES_MAX;
    if (!lent && body.bytes > 0)
        request->body_copy = mem_copy(body.data, body.bytes);
    request->body = lent ? body : slice_of(request->body_copy, body.bytes);
    /* The library takes a pointer to what it may change, and changes nothing. */
    void *data = (void *)(uintptr_t)request->body.data;
    set_response(request, MHD_create_response_from_buffer(request->body.bytes, data,
                                                          MHD_RESPMEM_PERSISTENT));
    announce_answer(io, request);
    if (!lent)
        return OK;
    if (request->connection != NULL) {
        /* Not ended by cancel: the library reads the handler's memory until on_completed. */
        request->whole.running = 1;
        fiber_group_wait(io, &request->whole);
    }
    return request->completed ? OK : gone_error(request);
}

static enum err http_respond(struct io *io, struct exchange *exchange, struct slice body,
                             bool streamed)
{
    struct request *request = request_of(exchange);
    if (is_gone(request))
        return gone_error(request);
    if (exchange->headers.bytes > ANSWER_HEAD_BYTES_MAX) {
        log_error("http: answer head is too long bytes=%zu", exchange->headers.bytes);
        request->closing = true;
        kick(request);
        return ERR_LIMIT;
    }
    if (exchange_is_head(exchange)) {
        set_streamed_response(request);
        announce_answer(io, request);
        return OK;
    }
    if (!streamed || exchange->content_bytes == 0)
        return answer_whole(io, request, body);
    if (exchange->content_bytes <= EXCHANGE_SEND_BYTES_MAX) {
        /* It may come in one piece, which costs half of a streamed answer. */
        request->begun = true;
        return OK;
    }
    set_streamed_response(request);
    announce_answer(io, request);
    return OK;
}

static enum err http_send(struct io *io, struct exchange *exchange, struct slice bytes)
{
    struct request *request = request_of(exchange);
    if (is_gone(request))
        return gone_error(request);
    if (request->begun) {
        request->begun = false;
        if (bytes.bytes == exchange->content_bytes)
            return answer_whole(io, request, bytes);
        set_streamed_response(request);
        announce_answer(io, request);
    }
    assert(request->streamed);
    assert(request->sending.bytes == 0);
    request->sending = bytes;
    kick(request);
    while (request->sending.bytes > 0 && !is_gone(request)) {
        enum err result = wait_for_library(io, request, UINT64_MAX);
        if (result != OK && request->sending.bytes > 0 && !is_gone(request)) {
            /* A hole in the answer cannot be mended. */
            request->sending = slice_of(NULL, 0);
            request->closing = true;
            kick(request);
            return result;
        }
    }
    bool sent = request->sending.bytes == 0;
    request->sending = slice_of(NULL, 0);
    return sent ? OK : gone_error(request);
}

/* --- bodies --- */

static enum err wait_for_body(struct io *io, struct request *request)
{
    while (request->lent_filled == 0 && !request->body_ended && !is_gone(request)) {
        uint64_t start_ns = io_now_ns(io);
        uint64_t rest_ns = http_pace_rest_ns(&request->pace);
        enum err result = wait_for_library(io, request, start_ns + rest_ns);
        uint64_t waited_ns = io_now_ns(io) - start_ns;
        bool in_time = http_pace_move(&request->pace, waited_ns, request->lent_filled);
        if (request->lent_filled > 0)
            return OK;
        if (!in_time) {
            request->timed_out = true;
            counter_add(request->reactor->server->metrics.timed_out, 1);
            return FAIL(ERR_TIMEOUT, "body is too slow bytes=%" PRIu64,
                        request->body_bytes_received);
        }
        if (result != OK && waited_ns < rest_ns)
            return result; /* canceled, or the fiber's own deadline */
    }
    if (request->lent_filled == 0 && !request->body_ended)
        return gone_error(request);
    return OK;
}

static enum err http_read(struct io *io, struct exchange *exchange, uint8_t *dst, size_t bytes,
                          size_t *out_bytes)
{
    struct request *request = request_of(exchange);
    if (request->body_ended || !has_body(request)) {
        *out_bytes = 0;
        return OK;
    }
    if (is_gone(request) || request->timed_out)
        return gone_error(request);
    request->lent = dst;
    request->lent_bytes = bytes;
    request->lent_filled = 0;
    request->reading = true;
    kick(request);
    enum err result = wait_for_body(io, request);
    request->reading = false;
    request->lent = NULL;
    if (result == OK)
        *out_bytes = request->lent_filled;
    return result;
}

static const struct exchange_transport http_transport = {
    .read = http_read,
    .respond = http_respond,
    .send = http_send,
};

/* --- the handler's fiber --- */

static void run_handler(struct io *io, void *argument)
{
    struct request *request = argument;
    struct http_server *server = request->reactor->server;
    request->fiber = io_self(io);
    list_push_back(&request->reactor->running, &request->running_node);
    io_set_request(io, request->exchange.request_id);
    server->options.handler(io, server->options.context, &request->exchange);
    list_remove(&request->reactor->running, &request->running_node);
    request->fiber = NULL;
    bool cut = request->streamed && !exchange_is_head(&request->exchange) &&
               request->exchange.body_bytes_sent < request->exchange.content_bytes;
    if (!request->answered || cut)
        request->closing = true;
    kick(request);
    request_unref(request);
}

/* Answer in S3's form without a handler. */
static void refuse(struct io *io, struct request *request, enum s3_error error,
                   const struct s3_failure *failure)
{
    char id[17];
    request_id_text(request, id);
    AUTO_VALUE(bytes) document = {.max = REFUSAL_BYTES_MAX};
    struct xml_writer xml = xml_document(&document, "Error", false);
    xml_element_text(&xml, "Code", s3_error_code(error));
    xml_element(&xml, "Message", s3_failure_message(failure, error));
    xml_element_text(&xml, "RequestId", id);
    xml_element_text(&xml, "HostId", "shale");
    xml_finish(&xml);
    assert(!document.overflow);
    exchange_header_text(&request->exchange, "Content-Type", "application/xml");
    uint16_t status = s3_error_status(error);
    if (status == 503)
        exchange_header_text(&request->exchange, "Retry-After", "1");
    (void)exchange_respond(io, &request->exchange, status,
                           bytes_slice(&document)); /* short, so it does not wait */
}

/* --- the library's callbacks --- */

static enum MHD_Result add_line(void *context, enum MHD_ValueKind kind, const char *name,
                                size_t name_bytes, const char *value, size_t value_bytes)
{
    (void)kind;
    struct http_raw_head *raw = context;
    if (raw->line_count == S3_HEADERS_MAX + 1)
        return MHD_NO; /* refused anyway */
    raw->lines[raw->line_count++] = (struct http_line){.name = slice_of(name, name_bytes),
                                                       .value = slice_of(value, value_bytes)};
    return MHD_YES;
}

static enum s3_error check_head(struct request *request, struct s3_failure *failure,
                                const struct http_raw_head *raw)
{
    struct MHD_Connection *library = request->connection->library;
    int arguments = MHD_get_connection_values(library, MHD_GET_ARGUMENT_KIND, NULL, NULL);
    size_t nodes = raw->line_count + (size_t)(arguments < 0 ? 0 : arguments);
    if (raw->bytes + nodes * LIBRARY_HEADER_BYTES > REQUEST_HEAD_BYTES_MAX)
        return S3_FAIL(S3_REQUEST_HEADER_SECTION_TOO_LARGE, "head bytes=%zu", raw->bytes);
    TRY(s3_head_check(&request->exchange.head, failure, &request->exchange.framing));
    /* After the named reasons, since most of what they find also moves the strings. */
    if (!http_head_is_plain(raw))
        return S3_FAIL_SAY(failure, S3_INVALID_REQUEST, "The request head is ambiguous.");
    return S3_OK;
}

static bool expects_continue(const struct s3_head *head)
{
    const struct s3_header *expect = s3_head_find(head, "expect");
    return expect != NULL && slice_equal_text(head->version, "HTTP/1.1") &&
           slice_equal_nocase(expect->value, SLICE_LITERAL("100-continue"));
}

/* The head ends here, complete or refused. */
static void end_head(struct request *request)
{
    assert(!request->started);
    request->started = true;
    request->connection->deadline_ns = 0;
    request->exchange.started_ns = io_now_ns(request->reactor->io);
    list_remove(&request->reactor->heads, &request->head_node);
    counter_add(request->reactor->server->metrics.requests, 1);
}

/* Nothing after the head may be read. */
static void refuse_head(struct request *request, enum s3_error error,
                        const struct s3_failure *failure)
{
    request->head_refused = true;
    request->exchange.close = true;
    counter_add(request->reactor->server->metrics.refused, 1);
    refuse(request->reactor->io, request, error, failure);
}

/* The head is complete: copy it, check it, start the handler. */
static void start_request(struct request *request, const char *method, const char *version)
{
    struct reactor *reactor = request->reactor;
    struct connection *connection = request->connection;
    struct exchange *exchange = &request->exchange;
    const union MHD_ConnectionInfo *size =
        MHD_get_connection_info(connection->library, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    struct http_raw_head raw; /* 3 KiB, of which line_count lines are set */
    raw.method = slice_of_text(method);
    raw.target = slice_of_text(request->target);
    raw.target_wire = request->target_wire;
    raw.version = slice_of_text(version);
    raw.bytes = size->header_size;
    raw.line_count = 0;
    (void)MHD_get_connection_values_n(connection->library, MHD_HEADER_KIND, add_line,
                                      &raw); /* the count is in raw */
    end_head(request);
    request->head_memory = http_head_copy(&raw, &exchange->head);
    request->expects_continue = expects_continue(&exchange->head);
    AUTO_VALUE(s3_failure) failure = {0};
    enum s3_error refused = check_head(request, &failure, &raw);
    if (refused != S3_OK) {
        refuse_head(request, refused, &failure);
        return;
    }
    request->references++;
    if (fiber_group_spawn(reactor->io, &reactor->handlers, run_handler, request) != OK) {
        request->references--;
        refuse(reactor->io, request, S3_SLOW_DOWN, NULL);
    }
}

static enum MHD_Result queue_answer(struct request *request)
{
    assert(!request->queued);
    request->queued = true;
    unsigned class = request->exchange.status / 100;
    if (class < CLASS_COUNT)
        counter_add(request->reactor->server->metrics.answers[class], 1);
    return MHD_queue_response(request->connection->library, request->exchange.status,
                              request->response);
}

static enum MHD_Result first_call(struct request *request)
{
    bool body = has_body(request);
    bool ask_first = body && request->expects_continue;
    if (request->answered && (request->head_refused || ask_first ||
                              (body && (request->exchange.close || too_much_to_drop(request))))) {
        request->connection->linger = true;
        return queue_answer(request);
    }
    if (ask_first && !request->reading && !request->answered) {
        suspend(request);
        return MHD_YES;
    }
    request->first_done = true;
    return MHD_YES;
}

static enum MHD_Result body_call(struct request *request, const char *data, size_t *bytes)
{
    size_t used = 0;
    if (request->answered) {
        used = *bytes;
        request->body_bytes_dropped += used;
        if (request->body_bytes_dropped > EXCHANGE_DRAIN_BYTES_MAX) {
            answer_directly(request->reactor->io, request);
            return MHD_NO;
        }
    } else if (request->reading) {
        size_t room = request->lent_bytes - request->lent_filled;
        used = *bytes < room ? *bytes : room;
        memcpy(request->lent + request->lent_filled, data, used);
        request->lent_filled += used;
        wake_fiber(request);
    }
    request->body_bytes_received += used;
    counter_add(request->reactor->server->metrics.received_bytes, used);
    *bytes -= used;
    if (*bytes > 0)
        suspend(request);
    return MHD_YES;
}

static enum MHD_Result final_call(struct request *request)
{
    if (!request->body_ended) {
        request->body_ended = true;
        wake_fiber(request);
    }
    if (request->answered)
        return queue_answer(request);
    suspend(request);
    return MHD_YES;
}

static enum MHD_Result on_access(void *context, struct MHD_Connection *library, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *bytes, void **request_context)
{
    (void)context;
    (void)library;
    (void)url;
    struct request *request = *request_context;
    request->reactor->quiet_rounds = 0;
    if (!request->started)
        start_request(request, method, version);
    if (request->closing)
        return MHD_NO;
    if (!request->first_done)
        return first_call(request);
    if (*bytes > 0)
        return body_call(request, data, bytes);
    return final_call(request);
}

/* The request line is complete; what is returned comes back as *request_context. */
static void *on_uri(void *context, const char *uri, struct MHD_Connection *library)
{
    struct reactor *reactor = context;
    struct connection *connection =
        MHD_get_connection_info(library, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    struct http_server *server = reactor->server;
    struct request *request = mem_new(struct request);
    request->reactor = reactor;
    request->connection = connection;
    request->references = 1;
    request->target_wire = uri;
    request->target = mem_copy(uri == NULL ? "" : uri, uri == NULL ? 0 : strlen(uri));
    request->pace.window_ns = server->window_ns;
    fiber_group_init(&request->whole);
    memcpy(request->peer, connection->peer, sizeof request->peer);
    request->exchange.transport = &http_transport;
    request->exchange.peer = slice_of_text(request->peer);
    request->exchange.request_id = reactor->next_request_id;
    reactor->next_request_id += server->reactor_count;
    uint64_t head_ns = io_now_ns(reactor->io) + server->options.head_timeout_ms * IO_NS_PER_MS;
    if (head_ns < connection->deadline_ns)
        connection->deadline_ns = head_ns;
    connection->observed_ns = 0;
    connection->request = request;
    list_push_front(&reactor->heads, &request->head_node);
    reactor->in_request_line = request;
    return request;
}

/* The library is done with the request. */
static void end_request(struct request *request, bool completed)
{
    struct reactor *reactor = request->reactor;
    struct http_metrics *metrics = &reactor->server->metrics;
    struct connection *connection = request->connection;
    request->completed = request->queued && completed;
    request->timed_out |= connection->timed_out;
    if (request->completed && !exchange_is_head(&request->exchange))
        counter_add(metrics->sent_bytes, request->exchange.content_bytes);
    else if (request->started && !request->completed)
        counter_add(metrics->aborted, 1);
    if (!request->started)
        list_remove(&reactor->heads, &request->head_node);
    if (reactor->in_request_line == request)
        reactor->in_request_line = NULL;
    request->connection = NULL;
    connection->request = NULL;
    connection->deadline_ns =
        io_now_ns(reactor->io) + reactor->server->options.idle_timeout_ms * IO_NS_PER_MS;
    if (reactor->stopping)
        connection->deadline_ns = 1; /* the next sweep closes it */
    wake_fiber(request);
    if (request->whole.running > 0) {
        request->whole.running = 0;
        signal_wake_all(reactor->io, &request->whole.ended);
    }
    request_unref(request);
}

static void on_completed(void *context, struct MHD_Connection *library, void **request_context,
                         enum MHD_RequestTerminationCode code)
{
    (void)context;
    (void)library;
    struct request *request = *request_context;
    *request_context = NULL;
    if (request != NULL) /* else the library answered before there was a request line */
        end_request(request, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

static size_t on_unescape(void *context, struct MHD_Connection *library, char *text)
{
    struct reactor *reactor = context;
    (void)library;
    /* After the query's parts comes the whole target: the request line is done. */
    if (reactor->in_request_line != NULL && text == reactor->in_request_line->target_wire)
        reactor->in_request_line = NULL;
    return strlen(text); /* as it is: decoding is s3/uri.h's */
}

static void start_lingering(struct reactor *reactor, int fd)
{
    if (reactor->lingering.count == LINGERING_MAX || reactor->stopping)
        return;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return;
    struct lingering *lingering = mem_new(struct lingering);
    lingering->fd = copy;
    lingering->deadline_ns = io_now_ns(reactor->io) + LINGER_NS;
    list_push_back(&reactor->lingering, &lingering->node);
}

static void on_connection(void *context, struct MHD_Connection *library, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct reactor *reactor = context;
    struct http_server *server = reactor->server;
    struct connection *connection = *socket_context;
    switch (code) {
    case MHD_CONNECTION_NOTIFY_STARTED:
        connection = mem_new(struct connection);
        connection->reactor = reactor;
        connection->library = library;
        connection->fd =
            MHD_get_connection_info(library, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        http_address_format(
            MHD_get_connection_info(library, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr,
            connection->peer);
        connection->deadline_ns =
            io_now_ns(reactor->io) + server->options.head_timeout_ms * IO_NS_PER_MS;
        list_push_back(&reactor->connections, &connection->node);
        atomic_fetch_add_explicit(&reactor->connection_count, 1, memory_order_relaxed);
        gauge_add(server->metrics.connections, 1);
        counter_add(server->metrics.connections_total, 1);
        *socket_context = connection;
        break;
    case MHD_CONNECTION_NOTIFY_CLOSED:
        /* After a second error of its own in one head the library skips on_completed. */
        if (connection->request != NULL)
            end_request(connection->request, false);
        if (connection->linger)
            start_lingering(reactor, connection->fd);
        list_remove(&reactor->connections, &connection->node);
        atomic_fetch_sub_explicit(&reactor->connection_count, 1, memory_order_relaxed);
        gauge_add(server->metrics.connections, -1);
        mem_free(connection);
        *socket_context = NULL;
        break;
    }
}

/* The request whose head the library judges at this moment and has not answered; NULL: none, or
 * it is still reading header lines. */
static struct request *judged_request(struct reactor *reactor)
{
    if (reactor->in_request_line != NULL)
        return reactor->in_request_line->started ? NULL : reactor->in_request_line;
    LIST_EACH(struct request, request, &reactor->heads, head_node)
    {
        /* Both are NULL before the end of the head, and the second until an answer is queued. From
         * the end of the head the library goes on to on_access or to its refusal without a pause,
         * so at most one request is between the two. */
        struct MHD_Connection *library = request->connection->library;
        if (MHD_get_connection_info(library, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE) != NULL &&
            MHD_get_connection_info(library, MHD_CONNECTION_INFO_HTTP_STATUS) == NULL)
            return request;
    }
    return NULL;
}

/* The library is about to refuse a head, and would go wrong: to a bad Content-Length it sends the
 * head of its answer twice, and when the query's arguments fill the connection's memory it forgets
 * its answer. So ours goes out first, and the library finds the socket shut. It does not tell the
 * method, so the answer to HEAD has a body, too; the connection ends with it. */
static void refuse_before_library(struct request *request)
{
    const char *value = NULL;
    size_t bytes = 0;
    uint64_t length = 0;
    bool bad_length = MHD_lookup_connection_value_n(request->connection->library, MHD_HEADER_KIND,
                                                    MHD_HTTP_HEADER_CONTENT_LENGTH,
                                                    strlen(MHD_HTTP_HEADER_CONTENT_LENGTH), &value,
                                                    &bytes) == MHD_YES &&
                      text_parse_u64(slice_trim(slice_of(value, bytes)), INT64_MAX, &length) != OK;
    AUTO_VALUE(s3_failure) failure = {0};
    enum s3_error error =
        bad_length
            ? S3_FAIL_SAY(&failure, S3_INVALID_REQUEST, "Content-Length is not a number.")
            : S3_FAIL(S3_REQUEST_HEADER_SECTION_TOO_LARGE, "head fills the connection's memory");
    end_head(request);
    refuse_head(request, error, &failure);
    answer_directly(request->reactor->io, request);
    (void)shutdown(request->connection->fd, SHUT_WR); /* ENOTCONN: the client was faster */
}

/* What the library tells here while it judges a head is a reason to refuse it. */
__attribute__((format(printf, 2, 0))) static void on_log(void *context, const char *format,
                                                         va_list arguments)
{
    struct request *judged = judged_request(context);
    if (judged != NULL)
        refuse_before_library(judged);
    if (!log_enabled(LOG_DEBUG))
        return; /* mostly clients that left */
    char line[512];
    int bytes = vsnprintf(line, sizeof line, format, arguments);
    size_t end = bytes < 0 ? 0 : strcspn(line, "\n");
    line[end] = 0;
    log_debug("libmicrohttpd: %s", line);
}

/* --- the sweep: deadlines and clients that left --- */

/* Bytes that the client acknowledged and sent, as its kernel told ours. */
static uint64_t moved_bytes(const struct connection *connection)
{
    struct tcp_info info = {0};
    socklen_t bytes = sizeof info;
    if (getsockopt(connection->fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0)
        return connection->observed_bytes; /* being closed */
    return info.tcpi_bytes_acked + info.tcpi_bytes_received;
}

static void time_out(struct connection *connection, const char *what)
{
    log_debug("http: connection closed, %s peer=%s", what, connection->peer);
    counter_add(connection->reactor->server->metrics.timed_out, 1);
    connection->timed_out = true;
    abort_connection(connection);
}

/* The rule of http_pace.h for what the library does without the fiber: send an answer, drop a
 * body. */
static void observe_pace(struct connection *connection, uint64_t now_ns)
{
    struct request *request = connection->request;
    if (!request->answered || request->suspended) {
        connection->observed_ns = 0; /* the client waits for us, or http_read watches it */
        return;
    }
    if (connection->observed_ns == 0) {
        connection->observed_ns = now_ns;
        connection->observed_bytes = moved_bytes(connection);
        return;
    }
    uint64_t waited_ns = now_ns - connection->observed_ns;
    struct http_pace pace = {.window_ns = connection->reactor->server->window_ns};
    if (waited_ns < pace.window_ns)
        return;
    uint64_t moved = moved_bytes(connection);
    if (!http_pace_move(&pace, waited_ns, moved - connection->observed_bytes)) {
        time_out(connection, "too slow");
        return;
    }
    connection->observed_ns = now_ns;
    connection->observed_bytes = moved;
}

static void sweep_connection(struct connection *connection, uint64_t now_ns)
{
    struct request *request = connection->request;
    if (connection->timed_out)
        return;
    if (connection->deadline_ns != 0 && now_ns >= connection->deadline_ns) {
        time_out(connection, request != NULL ? "head is too slow" : "idle");
        return;
    }
    if (request == NULL || !request->started)
        return;
    if (request->closing) /* by a fiber, and no callback came since */
        abort_connection(connection);
    else
        observe_pace(connection, now_ns);
}

/* Nothing but the end is left to read. */
static bool at_end(const struct connection *connection)
{
    uint8_t byte;
    return recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* Connections of a sweep that are polled together. */
struct sweep_batch {
    unsigned count;
    struct pollfd fds[SWEEP_FDS];
    struct connection *connections[SWEEP_FDS];
};

static void batch_poll(struct sweep_batch *batch)
{
    unsigned count = batch->count;
    batch->count = 0;
    if (poll(batch->fds, count, 0) <= 0)
        return;
    for (unsigned i = 0; i < count; i++) {
        struct connection *connection = batch->connections[i];
        if ((batch->fds[i].revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) == 0)
            continue;
        /* What a half-closed client sent is still read and answered, unless we wait anyway. */
        if ((connection->request != NULL && connection->request->suspended) || at_end(connection))
            abort_connection(connection);
    }
}

static void batch_add(struct sweep_batch *batch, struct connection *connection)
{
    batch->fds[batch->count] = (struct pollfd){.fd = connection->fd, .events = POLLRDHUP};
    batch->connections[batch->count++] = connection;
    if (batch->count == SWEEP_FDS)
        batch_poll(batch);
}

/* The library waits for the client to send. */
static bool waits_for_client(const struct connection *connection)
{
    const struct request *request = connection->request;
    if (request == NULL || !request->started)
        return true;
    return !request->queued && !request->closing && has_body(request) && !request->body_ended;
}

static void sweep(struct reactor *reactor, uint64_t now_ns)
{
    struct sweep_batch batch;
    batch.count = 0;
    uint32_t watched_index = 0;
    uint32_t watched_end = reactor->watched_skip + SWEEP_WATCHED_MAX;
    LIST_EACH(struct connection, connection, &reactor->connections, node)
    {
        sweep_connection(connection, now_ns);
        if (connection->request != NULL && connection->request->suspended) {
            batch_add(&batch, connection);
        } else if (waits_for_client(connection)) {
            if (watched_index >= reactor->watched_skip && watched_index < watched_end)
                batch_add(&batch, connection);
            watched_index++;
        }
    }
    batch_poll(&batch);
    reactor->watched_skip = watched_index > watched_end ? watched_end : 0;
}

static void drop_lingering(struct reactor *reactor, struct lingering *lingering)
{
    list_remove(&reactor->lingering, &lingering->node);
    (void)close(lingering->fd); /* the library shut it down */
    mem_free(lingering);
}

static void sweep_lingering(struct reactor *reactor, uint64_t now_ns)
{
    LIST_EACH(struct lingering, lingering, &reactor->lingering, node)
    {
        /* MSG_TRUNC throws the bytes away in the kernel (tcp(7)). */
        ssize_t bytes = recv(lingering->fd, NULL, LINGERING_READ_BYTES, MSG_DONTWAIT | MSG_TRUNC);
        bool ended = bytes == 0 || (bytes < 0 && errno != EAGAIN && errno != EINTR);
        if (ended || now_ns >= lingering->deadline_ns)
            drop_lingering(reactor, lingering);
    }
}

/* --- the driver --- */

static uint64_t driver_wake_ns(const struct reactor *reactor, uint64_t now_ns)
{
    if (!list_empty(&reactor->lingering))
        return now_ns + LINGER_POLL_NS;
    return list_empty(&reactor->connections) ? UINT64_MAX : reactor->next_sweep_ns;
}

static void drive(struct io *io, void *argument)
{
    struct reactor *reactor = argument;
    for (;;) {
        enum MHD_Result ran = MHD_run(reactor->daemon);
        assert(ran == MHD_YES);
        uint64_t now_ns = io_now_ns(io);
        if (now_ns >= reactor->next_sweep_ns) {
            reactor->next_sweep_ns = now_ns + reactor->server->sweep_ns;
            sweep(reactor, now_ns);
        }
        sweep_lingering(reactor, now_ns);
        if (reactor->stopping && list_empty(&reactor->connections))
            break;
        MHD_UNSIGNED_LONG_LONG timeout_ms = 0;
        bool more = MHD_get_timeout(reactor->daemon, &timeout_ms) == MHD_YES && timeout_ms == 0;
        reactor->quiet_rounds = more ? reactor->quiet_rounds + 1 : 0;
        /* Nothing cancels the driver, so the waits need no check. */
        if (!more)
            (void)poller_wait(io, reactor->poller, driver_wake_ns(reactor, now_ns));
        else if (reactor->quiet_rounds < QUIET_ROUNDS_MAX)
            (void)io_yield(io);
        else
            (void)io_sleep_ms(io, 1);
    }
    signal_wake_all(io, &reactor->emptied);
}

/* --- start and stop --- */

struct start {
    struct reactor *reactor;
    enum err result;
};

static struct MHD_Daemon *start_daemon(struct reactor *reactor)
{
    const struct http_options *options = &reactor->server->options;
    /* Without the inter-thread channel a resume costs no system call. */
    unsigned flags = MHD_USE_EPOLL | MHD_USE_ERROR_LOG |
                     ((unsigned)MHD_ALLOW_SUSPEND_RESUME & ~(unsigned)MHD_USE_ITC);
    /* Strictness 0: what 1 would refuse (a space in the target, no Host) is refused by check_head,
     * in S3's form instead of the library's. */
    /* One option a line. */
    /* clang-format off */
    return MHD_start_daemon(
        flags, 0, NULL, NULL, on_access, reactor,
        MHD_OPTION_EXTERNAL_LOGGER, on_log, reactor,
        MHD_OPTION_LISTEN_SOCKET, reactor->listen_fd,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, reactor,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, reactor,
        MHD_OPTION_URI_LOG_CALLBACK, on_uri, reactor,
        MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, reactor,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)options->connections_max,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)options->connections_per_source_max,
        MHD_OPTION_STRICT_FOR_CLIENT, 0,
        MHD_OPTION_END);
    /* clang-format on */
}

static void start_reactor(struct io *io, void *argument)
{
    struct start *start = argument;
    struct reactor *reactor = start->reactor;
    reactor->io = io;
    reactor->daemon = start_daemon(reactor);
    if (reactor->daemon == NULL) {
        start->result = FAIL(ERR_BUSY, "libmicrohttpd does not start");
        return;
    }
    int fd = MHD_get_daemon_info(reactor->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    start->result = poller_new(io, fd, &reactor->poller);
    if (start->result == OK)
        start->result = fiber_group_spawn(io, &reactor->driver, drive, reactor);
}

/* Close the listener and the connections that wait for a request. */
static void quiesce_reactor(struct io *io, void *argument)
{
    struct reactor *reactor = argument;
    reactor->stopping = true;
    if (reactor->daemon != NULL)
        (void)MHD_quiesce_daemon(reactor->daemon); /* returns listen_fd */
    if (reactor->listen_fd >= 0)
        (void)close(reactor->listen_fd); /* nothing was written */
    reactor->listen_fd = -1;
    LIST_EACH(struct connection, connection, &reactor->connections, node)
    if (connection->request == NULL)
        abort_connection(connection);
    if (reactor->poller != NULL)
        poller_wake(io, reactor->poller);
}

struct stop {
    struct reactor *reactor;
    uint64_t deadline_ns;
};

static void stop_reactor(struct io *io, void *argument)
{
    const struct stop *stop = argument;
    struct reactor *reactor = stop->reactor;
    if (reactor->daemon == NULL)
        return;
    enum err result = OK;
    while (reactor->driver.running > 0 && result == OK)
        result = signal_wait(io, &reactor->emptied, stop->deadline_ns);
    if (reactor->driver.running > 0)
        log_info("http: stop deadline passed, connections closed server=%s connections=%u",
                 reactor->server->options.name, reactor->connections.count);
    LIST_EACH(struct connection, connection, &reactor->connections, node)
    abort_connection(connection);
    fiber_group_wait(io, &reactor->driver);
    assert(list_empty(&reactor->connections));
    LIST_EACH(struct request, request, &reactor->running, running_node)
    io_cancel(io, request->fiber);
    fiber_group_wait(io, &reactor->handlers);
    LIST_EACH(struct lingering, lingering, &reactor->lingering, node)
    drop_lingering(reactor, lingering);
    poller_free(io, reactor->poller);
    MHD_stop_daemon(reactor->daemon);
    reactor->daemon = NULL;
}

static void register_metrics(struct http_server *server)
{
    struct metrics *registry = server->options.metrics;
    struct http_metrics *metrics = &server->metrics;
    AUTO_STRING labels = mem_format("server=\"%s\"", server->options.name);
    metrics->connections =
        metrics_gauge(registry, "shale_http_connections", labels, "Open client connections.");
    metrics->connections_total = metrics_counter(registry, "shale_http_connections_total", labels,
                                                 "Client connections accepted.");
    metrics->requests =
        metrics_counter(registry, "shale_http_requests_total", labels, "Request heads received.");
    metrics->refused = metrics_counter(registry, "shale_http_heads_refused_total", labels,
                                       "Request heads refused as ambiguous or too large.");
    metrics->aborted = metrics_counter(registry, "shale_http_requests_aborted_total", labels,
                                       "Requests that ended before their answer was sent.");
    metrics->timed_out = metrics_counter(registry, "shale_http_timeouts_total", labels,
                                         "Clients that were too slow or idle for too long.");
    metrics->received_bytes = metrics_counter(registry, "shale_http_received_bytes_total", labels,
                                              "Bytes of request bodies.");
    metrics->sent_bytes = metrics_counter(registry, "shale_http_sent_bytes_total", labels,
                                          "Bytes of answer bodies sent completely.");
    for (unsigned i = 1; i < CLASS_COUNT; i++) {
        AUTO_STRING class_labels =
            mem_format("server=\"%s\",class=\"%uxx\"", server->options.name, i);
        metrics->answers[i] = metrics_counter(registry, "shale_http_answers_total", class_labels,
                                              "Answers by class of status.");
    }
}

static void apply_defaults(struct http_options *options)
{
    if (options->connections_max == 0)
        options->connections_max = 10000;
    if (options->connections_per_source_max == 0)
        options->connections_per_source_max = 512;
    if (options->head_timeout_ms == 0)
        options->head_timeout_ms = 10000;
    if (options->idle_timeout_ms == 0)
        options->idle_timeout_ms = 60000;
    if (options->slow_window_ms == 0)
        options->slow_window_ms = 30000;
}

static struct http_server *server_new(struct io *io, const struct http_options *options,
                                      unsigned reactor_count)
{
    struct http_server *server =
        mem_alloc(sizeof(struct http_server) + reactor_count * sizeof(struct reactor));
    server->options = *options;
    apply_defaults(&server->options);
    server->options.address = NULL; /* not borrowed */
    register_metrics(server);
    server->window_ns = server->options.slow_window_ms * IO_NS_PER_MS;
    uint64_t shortest_ms = server->options.slow_window_ms;
    if (server->options.head_timeout_ms < shortest_ms)
        shortest_ms = server->options.head_timeout_ms;
    if (server->options.idle_timeout_ms < shortest_ms)
        shortest_ms = server->options.idle_timeout_ms;
    uint64_t sweep_ns = shortest_ms * IO_NS_PER_MS / 4;
    sweep_ns = sweep_ns < SWEEP_NS_MIN ? SWEEP_NS_MIN : sweep_ns;
    server->sweep_ns = sweep_ns > SWEEP_NS_MAX ? SWEEP_NS_MAX : sweep_ns;
    server->reactor_count = reactor_count;
    uint64_t first_id = 0;
    io_random(io, &first_id, sizeof first_id);
    for (unsigned i = 0; i < reactor_count; i++) {
        struct reactor *reactor = &server->reactors[i];
        reactor->server = server;
        reactor->listen_fd = -1;
        reactor->next_request_id = first_id + i;
        list_init(&reactor->connections);
        list_init(&reactor->lingering);
        list_init(&reactor->running);
        list_init(&reactor->heads);
        fiber_group_init(&reactor->driver);
        fiber_group_init(&reactor->handlers);
        signal_init(&reactor->emptied);
    }
    return server;
}

static enum err start_all(struct io *io, struct http_server *server)
{
    for (unsigned i = 0; i < server->reactor_count; i++)
        TRY(http_address_listen(&server->address, &server->reactors[i].listen_fd));
    for (unsigned i = 0; i < server->reactor_count; i++) {
        struct start start = {.reactor = &server->reactors[i]};
        io_call(io, io_reactor(io, i), start_reactor, &start);
        TRY(start.result);
    }
    return OK;
}

enum err http_server_start(struct io *io, const struct http_options *options,
                           struct http_server **out_server)
{
    assert(options->handler != NULL);
    struct http_address address;
    TRY(http_address_parse(options->address, &address));
    TRY(http_address_check_free(&address));
    unsigned reactor_count = options->only_first_reactor ? 1 : io_reactor_count(io);
    struct http_server *server = server_new(io, options, reactor_count);
    server->address = address;
    enum err result = start_all(io, server);
    if (result != OK) {
        http_server_stop(io, server, 1);
        return result;
    }
    http_address_format((const struct sockaddr *)&server->address.storage, server->address_text);
    *out_server = server;
    return OK;
}

const char *http_server_address(const struct http_server *server)
{
    return server->address_text;
}

void http_server_stop(struct io *io, struct http_server *server, uint64_t deadline_ns)
{
    for (unsigned i = 0; i < server->reactor_count; i++)
        io_call(io, io_reactor(io, i), quiesce_reactor, &server->reactors[i]);
    for (unsigned i = 0; i < server->reactor_count; i++) {
        struct stop stop = {.reactor = &server->reactors[i], .deadline_ns = deadline_ns};
        io_call(io, io_reactor(io, i), stop_reactor, &stop);
    }
    mem_free(server);
}

uint32_t http_server_connections(const struct http_server *server)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < server->reactor_count; i++)
        count += atomic_load_explicit(&server->reactors[i].connection_count, memory_order_relaxed);
    return count;
}
