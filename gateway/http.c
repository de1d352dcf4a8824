/* See gateway/http.h; how it works: http_private.h. Here: connections, the sweep for clients that
 * are slow or left, the driver, start and stop. */
#include "gateway/http.h"

#include "base/log.h"
#include "base/mem.h"
#include "http_tls.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <poll.h>
#include <unistd.h>

enum {
    /* The library zeroes all of it for each request: 32 KiB cost 0.8 us more than 16 KiB. */
    CONNECTION_MEMORY_BYTES = 32 << 10,
    /* Rounds in which the library asks to go on and yet calls nobody. Sending a long answer does
     * that, and so does a client whose chunk line is longer than the connection's memory. */
    QUIET_ROUNDS_MAX = 200,
    /* With TLS sending is no quiet round (http_tls.c), and the library asks to go on all through a
     * handshake that waits for the client. */
    QUIET_ROUNDS_TLS_MAX = 8,
    LINGERING_MAX = 64,
    LINGERING_READ_BYTES = 256 << 10,
    SWEEP_FDS = 256, /* polled in one call */
    /* Connections of one reactor that a sweep polls although the library watches them. */
    SWEEP_WATCHED_MAX = 4096,
};
#define SWEEP_NS_MAX IO_NS_PER_S
#define SWEEP_NS_MIN (10 * IO_NS_PER_MS)
#define LINGER_NS (2 * IO_NS_PER_S)
#define LINGER_POLL_NS (20 * IO_NS_PER_MS)
#define QUIET_NS IO_NS_PER_MS
#define QUIET_TLS_NS (10 * IO_NS_PER_MS)

void http_abort_connection(struct connection *connection)
{
    if (connection->request != NULL) {
        connection->request->closing = true;
        http_kick(connection->request);
    }
    (void)shutdown(connection->fd, SHUT_RDWR); /* ENOTCONN: the client was faster */
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
        if (server->tls != NULL)
            http_tls_attach(connection);
        list_push_back(&reactor->connections, &connection->node);
        atomic_fetch_add_explicit(&reactor->connection_count, 1, memory_order_relaxed);
        gauge_add(server->metrics.connections, 1);
        counter_add(server->metrics.connections_total, 1);
        *socket_context = connection;
        break;
    case MHD_CONNECTION_NOTIFY_CLOSED:
        /* After a second error of its own in one head the library skips on_completed. */
        if (connection->request != NULL)
            http_end_request(connection->request, false);
        if (connection->linger)
            start_lingering(reactor, connection->fd);
        list_remove(&reactor->connections, &connection->node);
        atomic_fetch_sub_explicit(&reactor->connection_count, 1, memory_order_relaxed);
        gauge_add(server->metrics.connections, -1);
        http_tls_detach(connection);
        mem_free(connection);
        *socket_context = NULL;
        break;
    }
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
    http_abort_connection(connection);
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
        http_abort_connection(connection);
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
            http_abort_connection(connection);
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
    return !request->queued && !request->closing && http_has_body(request) && !request->body_ended;
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
    bool tls = reactor->server->tls != NULL;
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
        else if (reactor->quiet_rounds < (tls ? QUIET_ROUNDS_TLS_MAX : QUIET_ROUNDS_MAX))
            (void)io_yield(io);
        else /* news from any client end it at once */
            (void)poller_wait(io, reactor->poller, now_ns + (tls ? QUIET_TLS_NS : QUIET_NS));
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
    static char priorities[] = HTTP_TLS_PRIORITIES;
    struct MHD_OptionItem tls_options[] = {
        {MHD_OPTION_HTTPS_PRIORITIES, 0, priorities},
        {MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)(uintptr_t)http_tls_on_certificate},
        {MHD_OPTION_END, 0, NULL},
    };
    if (reactor->server->tls != NULL)
        flags |= MHD_USE_TLS;
    else
        tls_options[0].option = MHD_OPTION_END;
    /* Strictness 0: what 1 would refuse (a space in the target, no Host) is refused by check_head,
     * in S3's form instead of the library's. */
    /* One option a line. */
    /* clang-format off */
    return MHD_start_daemon(
        flags, 0, NULL, NULL, http_on_access, reactor,
        MHD_OPTION_EXTERNAL_LOGGER, http_on_log, reactor,
        MHD_OPTION_LISTEN_SOCKET, reactor->listen_fd,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, reactor,
        MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, reactor,
        MHD_OPTION_URI_LOG_CALLBACK, http_on_uri, reactor,
        MHD_OPTION_UNESCAPE_CALLBACK, http_on_unescape, reactor,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)options->connections_max,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)options->connections_per_source_max,
        MHD_OPTION_STRICT_FOR_CLIENT, 0,
        MHD_OPTION_ARRAY, tls_options,
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
        http_abort_connection(connection);
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
    http_abort_connection(connection);
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
    for (unsigned i = 1; i < HTTP_CLASS_COUNT; i++) {
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
    assert((options->tls_certificate_path == NULL) == (options->tls_key_path == NULL));
    struct http_address address;
    TRY(http_address_parse(options->address, &address));
    TRY(http_address_check_free(&address));
    unsigned reactor_count = options->only_first_reactor ? 1 : io_reactor_count(io);
    struct http_server *server = server_new(io, options, reactor_count);
    server->address = address;
    enum err result = options->tls_certificate_path != NULL ? http_tls_start(io, server) : OK;
    if (result == OK)
        result = start_all(io, server);
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
    if (server->tls != NULL)
        http_tls_stop(io, server);
    mem_free(server);
}

void http_server_reload(struct io *io, struct http_server *server)
{
    if (server->tls != NULL)
        http_tls_reload(io, server);
}

uint32_t http_server_connections(const struct http_server *server)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < server->reactor_count; i++)
        count += atomic_load_explicit(&server->reactors[i].connection_count, memory_order_relaxed);
    return count;
}
