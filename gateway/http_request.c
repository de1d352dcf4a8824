/* From the head of a request to its exchange and its handler's fiber, and the body into what the
 * handler lends. See http_private.h. */
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "http_head.h"
#include "http_private.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

enum {
    /* Request and answer heads share the connection's memory. */
    REQUEST_HEAD_BYTES_MAX = 20 << 10,
    LIBRARY_HEADER_BYTES = 64, /* its list node per header and query argument */
};

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

void http_kick(struct request *request)
{
    if (!request->suspended || request->connection == NULL)
        return;
    request->suspended = false;
    MHD_resume_connection(request->connection->library);
    poller_wake(request->reactor->io, request->reactor->poller);
}

void http_suspend(struct request *request)
{
    assert(!request->suspended);
    request->suspended = true;
    MHD_suspend_connection(request->connection->library);
}

void http_wake_handler(struct request *request)
{
    if (request->fiber != NULL && request->waiting)
        io_wake(request->reactor->io, request->fiber);
}

enum err http_wait_for_library(struct io *io, struct request *request, uint64_t deadline_ns)
{
    uint64_t own_ns = io_deadline(io);
    if (own_ns != 0 && own_ns < deadline_ns)
        deadline_ns = own_ns;
    request->waiting = true;
    enum err result = io_park(io, deadline_ns);
    request->waiting = false;
    return result;
}

/* --- bodies --- */

static enum err wait_for_body(struct io *io, struct request *request)
{
    while (request->lent_filled == 0 && !request->body_ended && !http_is_gone(request)) {
        uint64_t start_ns = io_now_ns(io);
        uint64_t rest_ns = http_pace_rest_ns(&request->pace);
        enum err result = http_wait_for_library(io, request, start_ns + rest_ns);
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
        return http_gone_error(request);
    return OK;
}

static enum err http_read(struct io *io, struct exchange *exchange, uint8_t *dst, size_t bytes,
                          size_t *out_bytes)
{
    struct request *request = http_request_of(exchange);
    if (request->body_ended || !http_has_body(request)) {
        *out_bytes = 0;
        return OK;
    }
    if (http_is_gone(request) || request->timed_out)
        return http_gone_error(request);
    request->lent = dst;
    request->lent_bytes = bytes;
    request->lent_filled = 0;
    request->reading = true;
    http_kick(request);
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
    http_kick(request);
    request_unref(request);
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
    http_refuse(request->reactor->io, request, error, failure);
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
    exchange->head.tls = connection->tls != NULL;
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
        http_refuse(reactor->io, request, S3_SLOW_DOWN, NULL);
    }
}

static enum MHD_Result queue_answer(struct request *request)
{
    assert(!request->queued);
    request->queued = true;
    unsigned class = request->exchange.status / 100;
    if (class < HTTP_CLASS_COUNT)
        counter_add(request->reactor->server->metrics.answers[class], 1);
    return MHD_queue_response(request->connection->library, request->exchange.status,
                              request->response);
}

static enum MHD_Result first_call(struct request *request)
{
    bool body = http_has_body(request);
    bool ask_first = body && request->expects_continue;
    if (request->answered &&
        (request->head_refused || ask_first ||
         (body && (request->exchange.close || http_too_much_to_drop(request))))) {
        request->connection->linger = true;
        return queue_answer(request);
    }
    if (ask_first && !request->reading && !request->answered) {
        http_suspend(request);
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
            http_answer_directly(request->reactor->io, request);
            return MHD_NO;
        }
    } else if (request->reading) {
        size_t room = request->lent_bytes - request->lent_filled;
        used = *bytes < room ? *bytes : room;
        memcpy(request->lent + request->lent_filled, data, used);
        request->lent_filled += used;
        http_wake_handler(request);
    }
    request->body_bytes_received += used;
    counter_add(request->reactor->server->metrics.received_bytes, used);
    *bytes -= used;
    if (*bytes > 0)
        http_suspend(request);
    return MHD_YES;
}

static enum MHD_Result final_call(struct request *request)
{
    if (!request->body_ended) {
        request->body_ended = true;
        http_wake_handler(request);
    }
    if (request->answered)
        return queue_answer(request);
    http_suspend(request);
    return MHD_YES;
}

enum MHD_Result http_on_access(void *context, struct MHD_Connection *library, const char *url,
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
void *http_on_uri(void *context, const char *uri, struct MHD_Connection *library)
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

void http_end_request(struct request *request, bool completed)
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
    http_wake_handler(request);
    if (request->whole.running > 0)
        fiber_group_leave(reactor->io, &request->whole);
    request_unref(request);
}

void http_on_completed(void *context, struct MHD_Connection *library, void **request_context,
                       enum MHD_RequestTerminationCode code)
{
    (void)context;
    (void)library;
    struct request *request = *request_context;
    *request_context = NULL;
    if (request != NULL) /* else the library answered before there was a request line */
        http_end_request(request, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

size_t http_on_unescape(void *context, struct MHD_Connection *library, char *text)
{
    struct reactor *reactor = context;
    (void)library;
    /* After the query's parts comes the whole target: the request line is done. */
    if (reactor->in_request_line != NULL && text == reactor->in_request_line->target_wire)
        reactor->in_request_line = NULL;
    return strlen(text); /* as it is: decoding is s3/uri.h's */
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
    http_answer_directly(request->reactor->io, request);
    if (request->connection->tls != NULL)
        (void)gnutls_bye(request->connection->tls, GNUTLS_SHUT_WR); /* the end follows anyway */
    (void)shutdown(request->connection->fd, SHUT_WR); /* ENOTCONN: the client was faster */
}

/* What the library tells here while it judges a head is a reason to refuse it. */
__attribute__((format(printf, 2, 0))) void http_on_log(void *context, const char *format,
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
