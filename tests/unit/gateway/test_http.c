/* The HTTP server against raw bytes on loopback sockets. The server's reactors run on a thread of
 * their own, the client is the test's thread. After each test all connections, file descriptors and
 * fibers are gone (memory: the address sanitizer). */
#include "base/mem.h"
#include "gateway/http.h"

#include "pair.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    BLOCK_BYTES = 96 << 10,
    ANSWER_BYTES_MAX = 20 << 20,
};

/* With --tls all tests run through TLS. */
static bool over_tls;
static char pair_directory[64];
static char certificate_path[128];
static char key_path[128];
static gnutls_certificate_credentials_t credentials; /* of the clients; they trust anyone */

/* --- the server --- */

struct server {
    struct http_options options;
    unsigned reactor_count;
    pthread_t thread;
    char address[64];
    _Atomic bool running;
    _Atomic bool stop;
    _Atomic bool reload; /* asked for */
    uint64_t stop_after_ms;
    struct metrics *metrics;
    _Atomic unsigned started; /* handlers */
    _Atomic unsigned ended;
    _Atomic unsigned closed_reads; /* exchange_read answered ERR_CLOSED, ERR_TIMEOUT */
    _Atomic unsigned timed_out_reads;
    _Atomic unsigned failed_sends;
    _Atomic unsigned timed_out_sends;
    _Atomic unsigned fibers_left;
};

static uint8_t pattern(uint64_t offset)
{
    return (uint8_t)('a' + offset % 23);
}

static void fill(uint8_t *data, uint64_t offset, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        data[i] = pattern(offset + i);
}

static uint64_t number_after(struct slice target, const char *prefix)
{
    char text[32] = "";
    struct slice rest = slice_first(slice_skip(target, strlen(prefix)), sizeof text - 1);
    memcpy(text, rest.data, rest.bytes);
    return strtoull(text, NULL, 10);
}

static bool is_route(const struct exchange *exchange, const char *prefix)
{
    return slice_starts_with(exchange->head.target, slice_of_text(prefix));
}

static void count_read_error(struct server *server, enum err err)
{
    if (err == ERR_CLOSED)
        server->closed_reads++;
    if (err == ERR_TIMEOUT)
        server->timed_out_reads++;
}

static void answer_text(struct io *io, struct exchange *exchange, unsigned status,
                        const char *format, ...) __attribute__((format(printf, 4, 5)));
static void answer_text(struct io *io, struct exchange *exchange, unsigned status,
                        const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    exchange_header_text(exchange, "x-empty", "");
    (void)exchange_respond(io, exchange, status, slice_of_text(text));
}

static void serve_sink(struct io *io, struct server *server, struct exchange *exchange,
                       size_t piece_bytes, bool slow)
{
    AUTO(buf) buf = buf_new(piece_bytes);
    uint64_t total = 0;
    bool matches = true;
    for (;;) {
        size_t bytes = 0;
        enum err err = exchange_read(io, exchange, buf->data, piece_bytes, &bytes);
        count_read_error(server, err);
        if (err == ERR_TIMEOUT)
            answer_text(io, exchange, 400, "too slow");
        if (err != OK)
            return;
        if (bytes == 0)
            break;
        for (size_t i = 0; i < bytes; i++)
            matches &= buf->data[i] == pattern(total + i);
        total += bytes;
        if (slow)
            (void)io_sleep_ms(io, 1);
    }
    answer_text(io, exchange, 200, "%" PRIu64 " %s", total, matches ? "good" : "bad");
}

static void serve_stream(struct io *io, struct server *server, struct exchange *exchange,
                         uint64_t total, size_t piece_bytes, uint64_t stop_at, uint64_t pause_ms)
{
    AUTO(buf) buf = buf_new(piece_bytes);
    exchange_header_text(exchange, "Content-Type", "text/plain");
    if (exchange_begin(io, exchange, 200, total) != OK || exchange_is_head(exchange))
        return;
    for (uint64_t offset = 0; offset < total && offset < stop_at;) {
        size_t bytes = total - offset < piece_bytes ? total - offset : piece_bytes;
        fill(buf->data, offset, bytes);
        enum err err = exchange_send(io, exchange, slice_of(buf->data, bytes));
        if (err == ERR_TIMEOUT)
            server->timed_out_sends++;
        if (err != OK) {
            server->failed_sends++;
            return;
        }
        memset(buf->data, '#', bytes); /* the transport must have taken them */
        offset += bytes;
        if (pause_ms > 0)
            (void)io_sleep_ms(io, pause_ms);
    }
}

static void serve_whole(struct io *io, struct server *server, struct exchange *exchange,
                        size_t bytes)
{
    AUTO(buf) buf = buf_new(bytes + 1);
    fill(buf->data, 0, bytes);
    enum err err = exchange_respond(io, exchange, 200, slice_of(buf->data, bytes));
    if (err == ERR_TIMEOUT)
        server->timed_out_sends++;
    if (err != OK)
        server->failed_sends++;
    memset(buf->data, '#', bytes);
}

static void serve(struct io *io, void *context, struct exchange *exchange)
{
    struct server *server = context;
    struct slice target = exchange->head.target;
    server->started++;
    uint8_t small[1000];
    size_t bytes = 0;
    if (is_route(exchange, "/sink/"))
        serve_sink(io, server, exchange, number_after(target, "/sink/"), false);
    else if (is_route(exchange, "/slowsink"))
        serve_sink(io, server, exchange, 64 << 10, true);
    else if (is_route(exchange, "/deny"))
        answer_text(io, exchange, 403, "denied");
    else if (is_route(exchange, "/late")) {
        enum err err = exchange_read(io, exchange, small, sizeof small, &bytes);
        count_read_error(server, err);
        answer_text(io, exchange, 403, "denied late");
    } else if (is_route(exchange, "/stream/"))
        serve_stream(io, server, exchange, number_after(target, "/stream/"), BLOCK_BYTES,
                     number_after(target, "/stream/"), 0);
    else if (is_route(exchange, "/one/"))
        serve_stream(io, server, exchange, number_after(target, "/one/"), 1 << 20, 1, 0);
    else if (is_route(exchange, "/cut/"))
        serve_stream(io, server, exchange, number_after(target, "/cut/"), BLOCK_BYTES, 300000, 0);
    else if (is_route(exchange, "/paused/"))
        serve_stream(io, server, exchange, number_after(target, "/paused/"), BLOCK_BYTES,
                     number_after(target, "/paused/"), 1);
    else if (is_route(exchange, "/whole/"))
        serve_whole(io, server, exchange, number_after(target, "/whole/"));
    else if (is_route(exchange, "/sleep/")) {
        (void)io_sleep_ms(io, number_after(target, "/sleep/"));
        answer_text(io, exchange, 200, "slept");
    } else if (is_route(exchange, "/hang")) {
        (void)io_sleep_ms(io, 60000);
        answer_text(io, exchange, 200, "woke");
    } else if (is_route(exchange, "/close")) {
        exchange->close = true;
        answer_text(io, exchange, 200, "bye");
    } else if (is_route(exchange, "/silent"))
        (void)io_sleep_ms(io, 1);
    else
        answer_text(io, exchange, 200, "%.*s %.*s", SLICE_PRINT(exchange->head.method),
                    (int)(target.bytes < 200 ? target.bytes : 200), (const char *)target.data);
    server->ended++;
}

static void run_server(struct io *io, void *argument)
{
    struct server *server = argument;
    struct http_server *http = NULL;
    enum err err = http_server_start(io, &server->options, &http);
    if (err != OK)
        abort();
    (void)snprintf(server->address, sizeof server->address, "%s", http_server_address(http));
    server->running = true;
    while (!server->stop) {
        (void)io_sleep_ms(io, 1);
        if (server->reload)
            http_server_reload(io, http);
        server->reload = false;
    }
    http_server_stop(io, http, io_now_ns(io) + server->stop_after_ms * IO_NS_PER_MS);
}

static void *server_thread(void *argument)
{
    struct server *server = argument;
    struct runtime_options options = {.reactor_count = server->reactor_count};
    AUTO(runtime) runtime = NULL;
    if (runtime_new(&options, &runtime) != OK)
        abort();
    runtime_run(runtime, run_server, server);
    server->fibers_left = runtime_fiber_count(runtime);
    return NULL;
}

static void wait_ms(unsigned ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&pause, NULL);
}

static void start_server(struct server *server)
{
    server->metrics = metrics_new();
    server->options.address = "127.0.0.1:0";
    server->options.handler = serve;
    server->options.context = server;
    server->options.metrics = server->metrics;
    server->options.name = "test";
    if (over_tls) {
        server->options.tls_certificate_path = certificate_path;
        server->options.tls_key_path = key_path;
    }
    if (server->reactor_count == 0)
        server->reactor_count = 1;
    if (server->stop_after_ms == 0)
        server->stop_after_ms = 2000;
    assert_int_equal(pthread_create(&server->thread, NULL, server_thread, server), 0);
    while (!server->running)
        wait_ms(1);
}

static int64_t open_connections(struct server *server)
{
    return gauge_value(
        metrics_gauge(server->metrics, "shale_http_connections", "server=\"test\"", ""));
}

/* True when the condition holds within 5 s. */
#define EVENTUALLY(condition)                                                                      \
    ({                                                                                             \
        unsigned tries_ = 0;                                                                       \
        while (!(condition) && ++tries_ < 5000)                                                    \
            wait_ms(1);                                                                            \
        (condition);                                                                               \
    })

static void stop_server(struct server *server)
{
    server->stop = true;
    assert_int_equal(pthread_join(server->thread, NULL), 0);
    assert_int_equal(server->fibers_left, 0);
    assert_int_equal(open_connections(server), 0);
    metrics_free(server->metrics);
}

static unsigned count_fds(void)
{
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    unsigned count = 0;
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

/* --- the client --- */

struct client {
    int fd;
    gnutls_session_t tls; /* NULL: plain */
    uint8_t *data;        /* received and not yet consumed */
    size_t bytes;
    bool ended;
};

struct answer {
    unsigned status; /* 0: none, the connection ended */
    char head[8192];
    uint8_t *body;
    size_t body_bytes;
    uint64_t content_length;
};

/* A client whose handshake fails finds the connection ended. */
static void client_handshake(struct client *client)
{
    assert_int_equal(gnutls_init(&client->tls, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL), 0);
    assert_int_equal(gnutls_set_default_priority(client->tls), 0);
    assert_int_equal(gnutls_credentials_set(client->tls, GNUTLS_CRD_CERTIFICATE, credentials), 0);
    gnutls_transport_set_int(client->tls, client->fd);
    int code;
    do {
        code = gnutls_handshake(client->tls);
    } while (code < 0 && gnutls_error_is_fatal(code) == 0 && code != GNUTLS_E_AGAIN);
    client->ended = code != 0;
}

static void client_connect(struct client *client, const char *address)
{
    char host[64];
    (void)snprintf(host, sizeof host, "%s", address);
    char *colon = strrchr(host, ':');
    *colon = 0;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10))};
    assert_int_equal(inet_pton(AF_INET, host, &to.sin_addr), 1);
    *client = (struct client){.fd = socket(AF_INET, SOCK_STREAM, 0)};
    assert_true(client->fd >= 0);
    struct timeval patience = {.tv_sec = 20};
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    int on = 1;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    assert_int_equal(connect(client->fd, (struct sockaddr *)&to, sizeof to), 0);
}

static void client_open_at(struct client *client, const char *address)
{
    client_connect(client, address);
    if (over_tls)
        client_handshake(client);
}

static void client_open(struct client *client, struct server *server)
{
    client_open_at(client, server->address);
}

static void client_close(struct client *client)
{
    if (client->tls != NULL)
        gnutls_deinit(client->tls);
    client->tls = NULL;
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
    free(client->data);
    client->data = NULL;
}

static void client_half_close(struct client *client)
{
    if (client->tls != NULL)
        assert_int_equal(gnutls_bye(client->tls, GNUTLS_SHUT_WR), 0);
    assert_int_equal(shutdown(client->fd, SHUT_WR), 0);
}

static void client_reset(struct client *client)
{
    struct linger none = {.l_onoff = 1};
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    client_close(client);
}

/* Bytes that the kernel took; less than asked when the server closed. */
static size_t send_bytes(struct client *client, const void *data, size_t bytes)
{
    size_t sent = 0;
    while (sent < bytes) {
        const uint8_t *rest = (const uint8_t *)data + sent;
        ssize_t count = client->tls != NULL ? gnutls_record_send(client->tls, rest, bytes - sent)
                                            : send(client->fd, rest, bytes - sent, MSG_NOSIGNAL);
        if (count <= 0)
            break;
        sent += (size_t)count;
    }
    return sent;
}

static void send_text(struct client *client, const char *text)
{
    (void)send_bytes(client, text, strlen(text));
}

static void send_format(struct client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void send_format(struct client *client, const char *format, ...)
{
    char text[16384];
    va_list arguments;
    va_start(arguments, format);
    int bytes = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    (void)send_bytes(client, text, (size_t)bytes);
}

static size_t send_pattern(struct client *client, uint64_t offset, uint64_t bytes)
{
    static uint8_t block[23 * 4096];
    if (block[0] == 0)
        fill(block, 0, sizeof block);
    uint64_t sent = 0;
    while (sent < bytes) {
        size_t start = (offset + sent) % 23;
        size_t count = sizeof block - start;
        if (count > bytes - sent)
            count = bytes - sent;
        size_t taken = send_bytes(client, block + start, count);
        sent += taken;
        if (taken < count)
            break;
    }
    return sent;
}

static bool receive_more(struct client *client)
{
    if (client->ended)
        return false;
    if (client->data == NULL)
        client->data = malloc(ANSWER_BYTES_MAX);
    uint8_t *rest = client->data + client->bytes;
    size_t room = ANSWER_BYTES_MAX - client->bytes;
    bool silent = false;
    ssize_t count = 0;
    if (client->tls != NULL) {
        count = gnutls_record_recv(client->tls, rest, room);
        silent = count == GNUTLS_E_AGAIN;
    } else {
        count = recv(client->fd, rest, room, 0);
        silent = count < 0 && errno == EAGAIN;
    }
    if (silent)
        fail_msg("the server neither sends nor closes");
    if (count <= 0) {
        client->ended = true;
        return false;
    }
    client->bytes += (size_t)count;
    return true;
}

static void consume(struct client *client, size_t bytes)
{
    memmove(client->data, client->data + bytes, client->bytes - bytes);
    client->bytes -= bytes;
}

/* The next answer; its body is missing for a HEAD. */
static struct answer receive(struct client *client, bool head_only)
{
    struct answer answer = {0};
    const uint8_t *end = NULL;
    while (client->bytes == 0 || (end = memmem(client->data, client->bytes, "\r\n\r\n", 4)) == NULL)
        if (!receive_more(client))
            return answer;
    size_t head_bytes = (size_t)(end - client->data) + 4;
    assert_true(head_bytes < sizeof answer.head);
    memcpy(answer.head, client->data, head_bytes);
    consume(client, head_bytes);
    assert_int_equal(sscanf(answer.head, "HTTP/1.1 %u ", &answer.status), 1);
    const char *length = strcasestr(answer.head, "\r\ncontent-length: ");
    if (length != NULL)
        answer.content_length = strtoull(length + 18, NULL, 10);
    if (head_only || answer.status < 200)
        return answer;
    while (client->bytes < answer.content_length)
        if (!receive_more(client))
            break;
    answer.body_bytes =
        client->bytes < answer.content_length ? client->bytes : answer.content_length;
    answer.body = malloc(answer.body_bytes + 1);
    if (answer.body_bytes > 0)
        memcpy(answer.body, client->data, answer.body_bytes);
    answer.body[answer.body_bytes] = 0;
    if (client->bytes > 0)
        consume(client, answer.body_bytes);
    return answer;
}

static void answer_free(struct answer *answer)
{
    free(answer->body);
    answer->body = NULL;
}

static bool closed_by_server(struct client *client)
{
    while (receive_more(client))
        ;
    return client->bytes == 0;
}

static void expect_answer(struct client *client, unsigned status, const char *body)
{
    struct answer answer = receive(client, false);
    assert_int_equal(answer.status, status);
    if (body != NULL)
        assert_string_equal((const char *)answer.body, body);
    assert_non_null(strstr(answer.head, "\r\nx-amz-request-id: "));
    assert_non_null(strstr(answer.head, "\r\nx-amz-id-2: "));
    assert_non_null(strstr(answer.head, "\r\nServer: Shale\r\n"));
    assert_non_null(strstr(answer.head, "\r\nDate: "));
    answer_free(&answer);
}

/* The connection is usable: nothing of an earlier request is left in it. */
static void expect_reusable(struct client *client)
{
    send_text(client, "GET /again HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_answer(client, 200, "GET /again");
}

static void expect_pattern(const struct answer *answer, uint64_t bytes)
{
    assert_int_equal(answer->status, 200);
    assert_int_equal(answer->content_length, bytes);
    assert_int_equal(answer->body_bytes, bytes);
    for (uint64_t i = 0; i < bytes; i++)
        if (answer->body[i] != pattern(i))
            fail_msg("byte %" PRIu64 " is wrong", i);
}

/* Run `test` with a server, and see that it leaves nothing behind. */
static void with_server(struct server *server, void (*test)(struct server *server))
{
    start_server(server);
    unsigned fds = count_fds();
    test(server);
    assert_true(EVENTUALLY(open_connections(server) == 0));
    assert_true(EVENTUALLY(count_fds() <= fds));
    stop_server(server);
}

/* --- tests --- */

static void keep_alive(struct server *server)
{
    struct client client;
    client_open(&client, server);
    for (unsigned i = 0; i < 20; i++)
        expect_reusable(&client);
    assert_int_equal(open_connections(server), 1);
    send_text(&client, "GET /close HTTP/1.1\r\nHost: a\r\n\r\n");
    struct answer answer = receive(&client, false);
    assert_non_null(strstr(answer.head, "\r\nConnection: close\r\n"));
    answer_free(&answer);
    assert_true(closed_by_server(&client));
    client_close(&client);
}

static void a_connection_serves_many_requests(void **state)
{
    (void)state;
    struct server server = {0};
    with_server(&server, keep_alive);
}

static void pipelined(struct server *server)
{
    struct client client;
    client_open(&client, server);
    char text[50 * 200] = "";
    size_t bytes = 0;
    for (unsigned i = 0; i < 50; i++)
        bytes +=
            (size_t)snprintf(text + bytes, sizeof text - bytes,
                             "PUT /sink/%u HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde"
                             "GET /%u HTTP/1.1\r\nHost: a\r\n\r\n",
                             1 + i % 7, i);
    send_bytes(&client, text, bytes);
    for (unsigned i = 0; i < 50; i++) {
        char expected[32];
        (void)snprintf(expected, sizeof expected, "GET /%u", i);
        expect_answer(&client, 200, "5 good");
        expect_answer(&client, 200, expected);
    }
    client_close(&client);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    struct server server = {0};
    with_server(&server, pipelined);
}

static void raw_targets(struct server *server)
{
    static const char *const targets[] = {
        "/a%2Fb", "/%00", "//x//",         "/../x", "/a?b=%26&c", "/?",        "/a%zz",
        "/%",     "*",    "http://host/x", "/+",    "/a?b?c",     "/\xc3\xa4",
    };
    struct client client;
    client_open(&client, server);
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        char expected[64];
        (void)snprintf(expected, sizeof expected, "GET %s", targets[i]);
        send_format(&client, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", targets[i]);
        expect_answer(&client, 200, expected);
    }
    client_close(&client);
}

static void the_target_arrives_undecoded(void **state)
{
    (void)state;
    struct server server = {0};
    with_server(&server, raw_targets);
}

static void uploads(struct server *server)
{
    static const struct {
        const char *name;
        uint64_t bytes;
        uint64_t piece_bytes; /* of the handler */
    } cases[] = {
        {"empty", 0, 100},
        {"one byte", 1, 1},
        {"small pieces", 5000, 7},
        {"a page", 4096, 4096},
        {"a block", 1 << 20, 65536},
        {"in one", 1 << 20, 1 << 20},
        {"big", (16 << 20) + 3, 1 << 20},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct client client;
        client_open(&client, server);
        send_format(&client,
                    "PUT /sink/%" PRIu64 " HTTP/1.1\r\nHost: a\r\nContent-Length: %" PRIu64
                    "\r\n\r\n",
                    cases[i].piece_bytes, cases[i].bytes);
        assert_int_equal(send_pattern(&client, 0, cases[i].bytes), cases[i].bytes);
        char expected[64];
        (void)snprintf(expected, sizeof expected, "%" PRIu64 " good", cases[i].bytes);
        expect_answer(&client, 200, expected);
        expect_reusable(&client);
        client_close(&client);
    }
}

static void bodies_arrive_whole(void **state)
{
    (void)state;
    struct server server = {0};
    with_server(&server, uploads);
}

static void slow_handler(struct server *server)
{
    struct client client;
    client_open(&client, server);
    send_text(&client, "PUT /slowsink HTTP/1.1\r\nHost: a\r\nContent-Length: 6000000\r\n\r\n");
    assert_int_equal(send_pattern(&client, 0, 6000000), 6000000);
    expect_answer(&client, 200, "6000000 good");
    expect_reusable(&client);
    client_close(&client);
}

static void a_slow_handler_holds_the_client_back(void **state)
{
    (void)state;
    struct server server = {0};
    with_server(&server, slow_handler);
}

static void chunked(struct server *server)
{
    static const size_t sizes[] = {1, 2, 3, 17, 255, 4096, 16383, 16384, 16385, 70000};
    struct client client;
    client_open(&client, server);
    for (unsigned round = 0; round < 2; round++) {
        send_format(&client,
                    "PUT /sink/%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                    round == 0 ? 50000 : 11);
        uint64_t total = 0;
        for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            send_format(&client, i % 2 == 0 ? "%zx\r\n" : "%zX;name=\"value\"\r\n", sizes[i]);
            send_pattern(&client, total, sizes[i]);
            send_text(&client, "\r\n");
            total += sizes[i];
        }
        send_text(&client, "0\r\nx-trailer: value\r\n\r\n");
        char expected[64];
        (void)snprintf(expected, sizeof expected, "%" PRIu64 " good", total);
        expect_answer(&client, 200, expected);
    }
    expect_reusable(&client);
    client_close(&client);
}

static void chunked_bodies_of_odd_sizes_arrive_whole(void **state)
{
    (void)state;
    struct server server = {0};
    with_server(&server, chunked);
}

static void byte_by_byte(struct server *server)
{
    static const char text[] = "PUT /sink/100 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde"
                               "PUT /sink/100 HTTP/1.1\r\nHost: a\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    struct client client;
    client_open(&client, server);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        send_bytes(&client, text + i, 1);
        if (i % 8 == 0)
            wait_ms(1);
    }
    expect_answer(&client, 200, "5 good");
    expect_answer(&client, 200, "3 good");
    client_close(&client);
}

static void requests_may_come_byte_by_byte(void **state)
{
    (void)state;
    struct server server = {0};
    with_server(&server, byte_by_byte);
}

static void continue_accepted(struct server *server)
{
    struct client client;
    client_open(&client, server);
    for (unsigned i = 0; i < 3; i++) {
        send_text(&client, "PUT /sink/1000 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                           "Content-Length: 70000\r\n\r\n");
        struct answer answer = receive(&client, false);
        assert_int_equal(answer.status, 100);
        send_pattern(&client, 0, 70000);
        expect_answer(&client, 200, "70000 good");
    }
    /* Refused: no 100, the answer at once, and the connection closes since the body may come. */
    send_text(&client, "PUT /deny HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                       "Content-Length: 70000\r\n\r\n");
    struct answer answer = receive(&client, false);
    assert_int_equal(answer.status, 403);
    assert_non_null(strstr(answer.head, "\r\nConnection: close\r\n"));
    answer_free(&answer);
    assert_true(closed_by_server(&client));
    client_close(&client);
}

static void expect_continue_waits_for_the_handler(void **state)
{
    (void)state;
    struct server server = {0};
    with_server(&server, continue_accepted);
}

static void early_errors(struct server *server)
{
    static const struct {
        const char *name;
        const char *route;
        uint64_t body_bytes;
        bool reused;
    } cases[] = {
        {"drained", "/deny", 7 << 20, true},
        {"drained after a part was read", "/late", 7 << 20, true},
        {"too long to drain", "/deny", 64 << 20, false},
        {"too long to drain after a part", "/late", 64 << 20, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct client client;
        client_open(&client, server);
        send_format(&client, "PUT %s HTTP/1.1\r\nHost: a\r\nContent-Length: %" PRIu64 "\r\n\r\n",
                    cases[i].route, cases[i].body_bytes);
        uint64_t sent = send_pattern(&client, 0, cases[i].body_bytes);
        if (cases[i].reused) {
            assert_int_equal(sent, cases[i].body_bytes);
            expect_answer(&client, 403, NULL);
            expect_reusable(&client);
        } else {
            assert_true(sent < cases[i].body_bytes);
            struct answer answer = receive(&client, false);
            assert_int_equal(answer.status, 403);
            assert_non_null(strstr(answer.head, "\r\nConnection: close\r\n"));
            answer_free(&answer);
        }
        client_close(&client);
    }
}

static void an_early_error_keeps_the_connection_when_the_body_is_short(void **state)
{
    (void)state;
    struct server server = {0};
    with_server(&server, early_errors);
}

static void endless_chunks(struct server *server)
{
    struct client client;
    client_open(&client, server);
    send_text(&client, "PUT /deny HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    unsigned chunks = 0;
    for (; chunks < 1000; chunks++) {
        send_text(&client, "10000\r\n");
        if (send_pattern(&client, 0, 0x10000) < 0x10000)
            break;
        send_text(&client, "\r\n");
    }
    assert_true(chunks < 1000);
    expect_answer(&client, 403, "denied");
    client_close(&client);
}

static void draining_a_chunked_body_is_bounded(void **state)
{
    (void)state;
    struct server server = {0};
    with_server(&server, endless_chunks);
}

static uint64_t processor_ms(pthread_t thread)
{
    clockid_t clock;
    struct timespec used;
    assert_int_equal(pthread_getcpuclockid(thread, &clock), 0);
    assert_int_equal(clock_gettime(clock, &used), 0);
    return (uint64_t)used.tv_sec * 1000 + (uint64_t)used.tv_nsec / 1000000;
}

static void endless_chunk_line(struct server *server)
{
    char extension[40000];
    memset(extension, 'x', sizeof extension);
    struct client client;
    client_open(&client, server);
    send_text(&client, "PUT /sink/9 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;");
    send_bytes(&client, extension, sizeof extension);
    wait_ms(100);
    uint64_t start_ms = processor_ms(server->thread);
    wait_ms(400);
    uint64_t used_ms = processor_ms(server->thread) - start_ms;
    assert_true(used_ms < 60);
    assert_true(closed_by_server(&client) || client.ended);
    client_close(&client);
}

static void a_chunk_line_without_end_does_not_keep_the_server_busy(void **state)
{
    (void)state;
    struct server server = {.options = {.slow_window_ms = 800}};
    with_server(&server, endless_chunk_line);
    assert_int_equal(server.timed_out_reads, 1);
}

static void downloads(struct server *server)
{
    static const char *const routes[] = {"/whole/", "/stream/", "/one/"};
    static const uint64_t sizes[] = {0, 1, 4096, 16384, 16385, 100000, 1 << 20, (1 << 20) + 1};
    struct client client;
    client_open(&client, server);
    for (size_t r = 0; r < 3; r++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            if (r == 2 && sizes[i] > 1 << 20)
                continue;
            send_format(&client, "HEAD %s%" PRIu64 " HTTP/1.1\r\nHost: a\r\n\r\n", routes[r],
                        sizes[i]);
            struct answer answer = receive(&client, true);
            assert_int_equal(answer.status, 200);
            assert_int_equal(answer.content_length, sizes[i]);
            send_format(&client, "GET %s%" PRIu64 " HTTP/1.1\r\nHost: a\r\n\r\n", routes[r],
                        sizes[i]);
            answer = receive(&client, false);
            expect_pattern(&answer, sizes[i]);
            answer_free(&answer);
        }
    send_text(&client, "GET /stream/15000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    struct answer answer = receive(&client, false);
    expect_pattern(&answer, 15000000);
    answer_free(&answer);
    send_text(&client, "GET /paused/1500000 HTTP/1.1\r\nHost: a\r\n\r\n");
    answer = receive(&client, false);
    expect_pattern(&answer, 1500000);
    answer_free(&answer);
    expect_reusable(&client);
    client_close(&client);
}

static void answers_arrive_whole_and_head_has_none(void **state)
{
    (void)state;
    struct server server = {0};
    with_server(&server, downloads);
    assert_int_equal(server.failed_sends, 0);
}

static void cut_answers(struct server *server)
{
    struct client client;
    client_open(&client, server);
    send_text(&client, "GET /cut/3000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    struct answer answer = receive(&client, false);
    assert_int_equal(answer.content_length, 3000000);
    assert_true(answer.body_bytes < 3000000);
    answer_free(&answer);
    client_close(&client);
    client_open(&client, server);
    send_text(&client, "GET /silent HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(closed_by_server(&client));
    client_close(&client);
}

static void an_answer_that_is_not_finished_closes_the_connection(void **state)
{
    (void)state;
    struct server server = {0};
    with_server(&server, cut_answers);
}

static void leaving_clients(struct server *server)
{
    static const struct {
        const char *name;
        const char *request;
        uint64_t body_bytes;   /* sent */
        uint64_t answer_bytes; /* read */
    } cases[] = {
        {"after connect", "", 0, 0},
        {"in the request line", "GET /x", 0, 0},
        {"in the head", "GET /x HTTP/1.1\r\nHost: ", 0, 0},
        {"before the body", "PUT /sink/100 HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n", 0,
         0},
        {"in the body", "PUT /sink/100 HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\n",
         70000, 0},
        {"in a body that is read slowly",
         "PUT /slowsink HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 3000000, 0},
        {"in a chunk",
         "PUT /sink/100 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n", 9, 0},
        {"before 100",
         "PUT /hang HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
         "Content-Length: 9\r\n\r\n",
         0, 0},
        {"in a body that is dropped",
         "PUT /deny HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\n", 70000, 0},
        {"while the handler thinks", "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n", 0, 0},
        {"in a streamed answer", "GET /stream/99999999 HTTP/1.1\r\nHost: a\r\n\r\n", 0, 100000},
        {"in a paused answer", "GET /paused/99999999 HTTP/1.1\r\nHost: a\r\n\r\n", 0, 100000},
        {"in a whole answer", "GET /whole/15000000 HTTP/1.1\r\nHost: a\r\n\r\n", 0, 100000},
    };
    for (unsigned reset = 0; reset < 2; reset++)
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            struct client client;
            client_open(&client, server);
            unsigned started = server->started;
            send_text(&client, cases[i].request);
            send_pattern(&client, 0, cases[i].body_bytes);
            if (strstr(cases[i].request, "\r\n\r\n") != NULL)
                assert_true(EVENTUALLY(server->started == started + 1));
            while (client.bytes < cases[i].answer_bytes)
                assert_true(receive_more(&client));
            wait_ms(5);
            if (reset == 1)
                client_reset(&client);
            else
                client_close(&client);
            if (!EVENTUALLY(open_connections(server) == 0))
                fail_msg("connection left: %s, reset=%u", cases[i].name, reset);
        }
}

static void clients_that_leave_are_noticed_at_every_stage(void **state)
{
    (void)state;
    struct server server = {.options = {.slow_window_ms = 400}};
    with_server(&server, leaving_clients);
    assert_true(server.closed_reads >= 6);
    assert_true(server.failed_sends >= 6);
}

/* The library takes a FIN that comes in one event with data for no news. */
static void half_closing_clients(struct server *server)
{
    static const struct {
        const char *request;
        unsigned answers;
    } cases[] = {
        {"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", 1},
        {"GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n", 2},
        {"PUT /sink/10 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 1},
        {"GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\n", 1},
        {"PUT /sink/10 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabc", 0},
        {"PUT /deny HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabc", 0},
        {"GET /x HTTP/1.1\r\nHost", 0},
        {"GE", 0},
        {"", 0},
    };
    for (unsigned i = 0; i < 20 * sizeof cases / sizeof cases[0]; i++) {
        unsigned at = i % (sizeof cases / sizeof cases[0]);
        struct client client;
        client_open(&client, server);
        send_text(&client, cases[at].request);
        client_half_close(&client);
        /* Through TLS the end of the client may overtake the answer to its last request. */
        for (unsigned k = 0; k < cases[at].answers && !over_tls; k++) {
            struct answer answer = receive(&client, false);
            if (answer.status != 200)
                fail_msg("%s: status %u", cases[at].request, answer.status);
            answer_free(&answer);
        }
        if (!closed_by_server(&client) && !over_tls)
            fail_msg("%s: not closed", cases[at].request);
        client_close(&client);
    }
}

static void a_client_that_half_closes_is_answered_and_let_go(void **state)
{
    (void)state;
    /* The window makes a sweep each 50 ms; the timeouts are beyond the client's patience. */
    struct server server = {
        .options = {.head_timeout_ms = 60000, .idle_timeout_ms = 60000, .slow_window_ms = 200}};
    with_server(&server, half_closing_clients);
}

static void slow_clients(struct server *server)
{
    struct client client;
    /* Nothing at all, half a head, a head that trickles. */
    client_open(&client, server);
    assert_true(closed_by_server(&client));
    client_close(&client);
    client_open(&client, server);
    send_text(&client, "GET / HTTP/1.1\r\nHost: ");
    assert_true(closed_by_server(&client));
    client_close(&client);
    client_open(&client, server);
    for (unsigned i = 0; i < 200 && send_bytes(&client, "G", 1) == 1; i++)
        wait_ms(5);
    assert_true(closed_by_server(&client));
    client_close(&client);
    /* Idle after a request. */
    client_open(&client, server);
    expect_reusable(&client);
    assert_true(closed_by_server(&client));
    client_close(&client);
    assert_int_equal(server->timed_out_reads, 0);
    /* No body, a trickle of a body. */
    for (unsigned trickle = 0; trickle < 2; trickle++) {
        client_open(&client, server);
        send_text(&client, "PUT /sink/100 HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n");
        for (unsigned i = 0; i < 30 && trickle == 1; i++) {
            if (send_bytes(&client, "a", 1) == 0)
                break;
            wait_ms(10);
        }
        expect_answer(&client, 400, "too slow");
        assert_true(closed_by_server(&client));
        client_close(&client);
    }
    assert_int_equal(server->timed_out_reads, 2);
    /* A body that is dropped and does not come. */
    client_open(&client, server);
    send_text(&client, "PUT /deny HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n");
    assert_true(closed_by_server(&client));
    client_close(&client);
}

static void slow_requests_are_ended(void **state)
{
    (void)state;
    struct server server = {
        .options = {.head_timeout_ms = 150, .idle_timeout_ms = 200, .slow_window_ms = 200}};
    with_server(&server, slow_clients);
}

static void deaf_clients(struct server *server)
{
    static const char *const routes[] = {"/whole/16000000", "/stream/99000000"};
    for (unsigned i = 0; i < 2; i++) {
        struct client client;
        client_open(&client, server);
        send_format(&client, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", routes[i]);
        assert_true(EVENTUALLY(server->timed_out_sends == i + 1));
        assert_true(EVENTUALLY(open_connections(server) == 0));
        client_close(&client);
    }
}

static void a_client_that_reads_nothing_is_ended(void **state)
{
    (void)state;
    struct server server = {.options = {.slow_window_ms = 200}};
    with_server(&server, deaf_clients);
}

static void patient(struct server *server)
{
    struct client client;
    client_open(&client, server);
    send_text(&client, "GET /sleep/600 HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_answer(&client, 200, "slept");
    send_text(&client, "PUT /sink/100000 HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n");
    for (unsigned i = 0; i < 40; i++) { /* 25 KiB/s: slow, but within the rule */
        send_pattern(&client, i * 1000, 1000);
        wait_ms(15);
    }
    expect_answer(&client, 200, "40000 good");
    client_close(&client);
}

static void who_waits_for_the_server_is_not_slow(void **state)
{
    (void)state;
    struct server server = {
        .options = {.head_timeout_ms = 150, .idle_timeout_ms = 200, .slow_window_ms = 200}};
    with_server(&server, patient);
}

/* --- heads --- */

struct head_case {
    const char *name;
    const char *head;
    size_t bytes; /* 0 = strlen */
    unsigned status;
    const char *code; /* NULL: the library's own page */
};

#define HEAD_WITH_NUL(text) text, sizeof(text) - 1

static const struct head_case head_cases[] = {
    {"plain", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, 200, NULL},
    {"no spaces before values", "GET / HTTP/1.1\r\nHost:a\r\nX:\r\n\r\n", 0, 200, NULL},
    {"spaces around values", "GET / HTTP/1.1\r\nHost: \t a \t\r\nX:  \r\n\r\n", 0, 200, NULL},
    {"HTTP/1.0 without headers", "GET / HTTP/1.0\r\n\r\n", 0, 200, NULL},
    {"an empty line before", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, 200, NULL},
    {"both lengths",
     "PUT /sink/9 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
     "0\r\n\r\n",
     0, 400, "InvalidRequest"},
    {"both lengths, other order",
     "PUT /sink/9 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"
     "0\r\n\r\n",
     0, 400, "InvalidRequest"},
    {"two lengths",
     "PUT /sink/9 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 0,
     400, "InvalidRequest"},
    {"the same length twice",
     "PUT /sink/9 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde", 0,
     400, "InvalidRequest"},
    {"a space before the colon",
     "PUT /sink/9 HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nabcde", 0, 400,
     "InvalidRequest"},
    {"a folded coding",
     "PUT /sink/9 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 0, 400,
     "InvalidRequest"},
    {"a folded length", "PUT /sink/9 HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\t5\r\n\r\nabcde", 0,
     400, "InvalidRequest"},
    {"a folded value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 0, 400, "InvalidRequest"},
    {"a fold of spaces, last", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n  \r\n\r\n", 0, 400,
     "InvalidRequest"},
    {"a fold at the start", "GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n", 0, 400, "InvalidRequest"},
    {"an unknown coding",
     "PUT /sink/9 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 0, 501,
     "NotImplemented"},
    {"a coding twice",
     "PUT /sink/9 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
     "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     0, 400, "InvalidRequest"},
    {"a coding in HTTP/1.0", "PUT /sink/9 HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     0, 400, "InvalidRequest"},
    {"bare LF after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 0, 400, "InvalidRequest"},
    {"bare LF after a header", "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 0, 400, "InvalidRequest"},
    {"bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\nabcd", 0, 400, "InvalidRequest"},
    {"bare LF twice at the end", "GET / HTTP/1.1\r\nHost: a\n\nabcd", 0, 400, "InvalidRequest"},
    {"NUL in a value", HEAD_WITH_NUL("GET / HTTP/1.1\r\nHost: a\0b\r\nX: y\r\n\r\n"), 400,
     "InvalidRequest"},
    {"NULs in the last value", HEAD_WITH_NUL("GET / HTTP/1.1\r\nHost: a\0\0\0\0b\r\n\r\n"), 400,
     "InvalidRequest"},
    {"NUL in the target", HEAD_WITH_NUL("GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n"), 400,
     "InvalidRequest"},
    {"two spaces before the target", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 0, 400,
     "InvalidRequest"},
    {"a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 0, 400, "InvalidURI"},
    {"a space after the version", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 0, 400, NULL},
    {"no Host", "GET / HTTP/1.1\r\nX: y\r\n\r\n", 0, 400, "InvalidRequest"},
    {"no header at all", "GET / HTTP/1.1\r\n\r\n", 0, 400, "InvalidRequest"},
    {"two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 0, 400, "InvalidRequest"},
    {"a name that is no token", "GET / HTTP/1.1\r\nHost: a\r\nX(y): b\r\n\r\n", 0, 400,
     "InvalidRequest"},
    {"a control byte in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 0, 400,
     "InvalidRequest"},
    {"a method that is no token", "G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 0, 405, "MethodNotAllowed"},
    {"no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", 0, 400, NULL},
    {"no version", "GET /\r\nHost: a\r\n\r\n", 0, 400, NULL},
    {"HTTP/2", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 0, 505, NULL},
    {"a line without a colon", "GET / HTTP/1.1\r\nHost: a\r\nabc\r\n\r\n", 0, 400, NULL},
    {"a length that is no number", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 0, 400,
     "InvalidRequest"},
    {"a negative length", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 0, 400,
     "InvalidRequest"},
    {"a length with a sign", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 0, 400,
     "InvalidRequest"},
    {"a length list", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", 0, 400,
     "InvalidRequest"},
    {"a hexadecimal length, then a body",
     "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nabcde", 0, 400, "InvalidRequest"},
    {"an empty length", "PUT / HTTP/1.1\r\nContent-Length:\r\nHost: a\r\n\r\n", 0, 400,
     "InvalidRequest"},
    {"a length beyond 64 bits, in HTTP/1.0",
     "PUT /?a=b HTTP/1.0\r\nContent-Length: 99999999999999999999\r\n\r\n", 0, 400,
     "InvalidRequest"},
    {"a bad length after a bare LF",
     "PUT / HTTP/1.1\nHost: a\nContent-Length: -\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, 400,
     "InvalidRequest"},
    {"a chunk size that is no number",
     "PUT /sink/9 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 0, 400, NULL},
    {"a chunk without its end",
     "PUT /sink/9 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 0, 400,
     NULL},
};

static void heads(struct server *server)
{
    for (size_t i = 0; i < sizeof head_cases / sizeof head_cases[0]; i++) {
        const struct head_case *it = &head_cases[i];
        struct client client;
        client_open(&client, server);
        send_bytes(&client, it->head, it->bytes == 0 ? strlen(it->head) : it->bytes);
        unsigned before = server->started;
        struct answer answer = receive(&client, false);
        if (answer.status != it->status)
            fail_msg("%s: status %u, not %u", it->name, answer.status, it->status);
        char code[64] = "";
        if (it->code != NULL)
            (void)snprintf(code, sizeof code, "<Code>%s</Code>", it->code);
        if (strstr((const char *)answer.body, code) == NULL)
            fail_msg("%s: body %s", it->name, (const char *)answer.body);
        if (it->code != NULL && (strstr(answer.head, "\r\nx-amz-request-id: ") == NULL ||
                                 strstr(answer.head, "\r\nConnection: close\r\n") == NULL))
            fail_msg("%s: head %s", it->name, answer.head);
        if (it->status != 200 && !closed_by_server(&client))
            fail_msg("%s: more than one answer", it->name);
        assert_true(it->code == NULL || server->started == before);
        answer_free(&answer);
        client_close(&client);
    }
}

/* Whose answer it is must not depend on what other connections wait for. */
static void heads_among_halves(struct server *server)
{
    static const char *const halves[] = {
        "GET /half HTTP/1.1\r\nHost: a\r\n",
        "PUT /half?a=b&c HTTP/1.1\r\nContent-Length: 5\r\n",
        "PUT /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
    };
    struct client clients[3];
    for (unsigned i = 0; i < 3; i++) {
        client_open(&clients[i], server);
        send_text(&clients[i], halves[i]);
    }
    struct client trickled;
    client_open(&trickled, server);
    send_text(&trickled, "PUT / HTTP/1.1\r\nHost: a\r\n");
    wait_ms(5);
    heads(server);
    send_text(&trickled, "Content-Length: -5\r\n\r\n");
    struct answer answer = receive(&trickled, false);
    assert_int_equal(answer.status, 400);
    assert_non_null(strstr((const char *)answer.body, "<Code>InvalidRequest</Code>"));
    answer_free(&answer);
    assert_true(closed_by_server(&trickled));
    client_close(&trickled);
    send_text(&clients[0], "\r\n");
    expect_answer(&clients[0], 200, "GET /half");
    send_text(&clients[1], "Host: a\r\n\r\nabcde");
    expect_answer(&clients[1], 200, "PUT /half?a=b&c");
    for (unsigned i = 0; i < 3; i++)
        client_close(&clients[i]);
}

static void ambiguous_heads_are_refused(void **state)
{
    (void)state;
    struct server server = {0};
    with_server(&server, heads);
    struct server busy = {0};
    with_server(&busy, heads_among_halves);
}

static void big_head(struct server *server, unsigned headers, unsigned value_bytes,
                     unsigned target_bytes, unsigned status, const char *code)
{
    char *text = malloc(1 << 20);
    size_t bytes = (size_t)sprintf(text, "GET /%0*d HTTP/1.1\r\nHost: a\r\n", (int)target_bytes, 0);
    for (unsigned i = 0; i < headers; i++)
        bytes += (size_t)sprintf(text + bytes, "x-%u: %0*d\r\n", i, (int)value_bytes, 0);
    bytes += (size_t)sprintf(text + bytes, "\r\n");
    struct client client;
    client_open(&client, server);
    send_bytes(&client, text, bytes);
    struct answer answer = receive(&client, false);
    if (answer.status != status ||
        (code != NULL && strstr((const char *)answer.body, code) == NULL))
        fail_msg("headers=%u value_bytes=%u target_bytes=%u: status %u %s", headers, value_bytes,
                 target_bytes, answer.status, (const char *)answer.body);
    answer_free(&answer);
    client_close(&client);
    free(text);
}

/* The library keeps 64 bytes of a connection's 32 KiB for each argument of the query. */
static void many_arguments(struct server *server, unsigned count, unsigned body_bytes,
                           unsigned status)
{
    char text[48000];
    int bytes = sprintf(text, "PUT /?0");
    for (unsigned i = 1; i < count; i++)
        bytes += sprintf(text + bytes, "&%u", i % 10);
    bytes +=
        sprintf(text + bytes, " HTTP/1.1\r\nHost: a\r\nContent-Length: %u\r\n\r\n", body_bytes);
    fill((uint8_t *)text + bytes, 0, body_bytes);
    struct client client;
    client_open(&client, server);
    send_bytes(&client, text, (size_t)bytes + body_bytes);
    struct answer answer = receive(&client, false);
    if (answer.status != status)
        fail_msg("arguments=%u body_bytes=%u: status %u", count, body_bytes, answer.status);
    if (status != 200) {
        assert_non_null(strstr((const char *)answer.body, "RequestHeaderSectionTooLarge"));
        assert_true(closed_by_server(&client));
    }
    answer_free(&answer);
    client_close(&client);
}

static void big_heads(struct server *server)
{
    many_arguments(server, 250, 0, 200);
    many_arguments(server, 250, 30000, 200);
    many_arguments(server, 320, 0, 400);
    many_arguments(server, 320, 30000, 400);
    many_arguments(server, 450, 0, 400);
    many_arguments(server, 500, 0, 400);
    many_arguments(server, 600, 100, 400);
    many_arguments(server, 4000, 0, 400);
    big_head(server, 99, 10, 10, 200, NULL);
    big_head(server, 100, 10, 10, 400, "RequestHeaderSectionTooLarge");
    big_head(server, 150, 10, 10, 400, "RequestHeaderSectionTooLarge");
    big_head(server, 2, 8000, 10, 200, NULL);
    big_head(server, 1, 8200, 10, 400, "RequestHeaderSectionTooLarge");
    big_head(server, 3, 8000, 10, 400, "RequestHeaderSectionTooLarge");
    big_head(server, 0, 0, 8100, 200, NULL);
    big_head(server, 0, 0, 8200, 400, "InvalidURI");
    big_head(server, 10, 8000, 10, 431, NULL);
    big_head(server, 0, 0, 60000, 414, NULL);
}

static void long_heads_are_refused(void **state)
{
    (void)state;
    struct server server = {0};
    with_server(&server, big_heads);
}

/* --- many connections, stopping --- */

enum { IDLE_COUNT = 5000, IDLE_TLS_COUNT = 500 };

static void idle_crowd(struct server *server)
{
    static struct client crowd[IDLE_COUNT];
    unsigned count = over_tls ? IDLE_TLS_COUNT : IDLE_COUNT; /* a handshake costs milliseconds */
    for (unsigned i = 0; i < count; i++) {
        client_open(&crowd[i], server);
        if (i % 50 == 0) /* some have been used */
            expect_reusable(&crowd[i]);
    }
    assert_true(EVENTUALLY(open_connections(server) == count));
    struct client client;
    client_open(&client, server);
    for (unsigned i = 0; i < 100; i++)
        expect_reusable(&client);
    client_close(&client);
    for (unsigned i = 0; i < count; i++)
        client_close(&crowd[i]);
}

static void thousands_of_idle_connections_do_not_disturb(void **state)
{
    (void)state;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < 2 * IDLE_COUNT + 100)
        skip();
    struct server server = {
        .reactor_count = 2,
        .options = {.connections_per_source_max = 2 * IDLE_COUNT, .head_timeout_ms = 60000}};
    with_server(&server, idle_crowd);
}

static void too_many(struct server *server)
{
    struct client clients[6];
    for (unsigned i = 0; i < 6; i++)
        client_open(&clients[i], server);
    for (unsigned i = 0; i < 4; i++)
        expect_reusable(&clients[i]);
    assert_true(closed_by_server(&clients[4]));
    assert_true(closed_by_server(&clients[5]));
    for (unsigned i = 0; i < 6; i++)
        client_close(&clients[i]);
}

static void connections_of_one_source_are_limited(void **state)
{
    (void)state;
    struct server server = {.options = {.connections_per_source_max = 4}};
    with_server(&server, too_many);
}

static void stopping_finishes_what_runs(void **state)
{
    (void)state;
    struct server server = {.reactor_count = 2};
    start_server(&server);
    struct client idle;
    struct client sleeper;
    struct client reader;
    client_open(&idle, &server);
    client_open(&sleeper, &server);
    client_open(&reader, &server);
    expect_reusable(&idle);
    send_text(&sleeper, "GET /sleep/300 HTTP/1.1\r\nHost: a\r\n\r\n");
    send_text(&reader, "GET /paused/9000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(EVENTUALLY(server.started == 3));
    server.stop = true;
    assert_true(closed_by_server(&idle));
    struct answer answer = receive(&sleeper, false);
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.head, "\r\nConnection: close\r\n"));
    answer_free(&answer);
    answer = receive(&reader, false);
    expect_pattern(&answer, 9000000);
    answer_free(&answer);
    stop_server(&server);
    client_close(&idle);
    client_close(&sleeper);
    client_close(&reader);
}

static void stopping_cuts_what_does_not_end(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /stream/99999999 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /whole/15000000 HTTP/1.1\r\nHost: a\r\n\r\n",
        "PUT /sink/100 HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nab",
        "PUT /deny HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nab",
        "PUT /hang HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost:",
    };
    struct server server = {.reactor_count = 2, .stop_after_ms = 100};
    start_server(&server);
    struct client clients[7];
    for (unsigned i = 0; i < 7; i++) {
        client_open(&clients[i], &server);
        send_text(&clients[i], requests[i]);
    }
    assert_true(EVENTUALLY(server.started == 6));
    wait_ms(50);
    struct timespec start;
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    stop_server(&server);
    clock_gettime(CLOCK_MONOTONIC, &end);
    assert_true(end.tv_sec - start.tv_sec < 2);
    for (unsigned i = 0; i < 7; i++)
        client_close(&clients[i]);
}

static void many_clients(struct server *server)
{
    enum { CLIENTS = 40 };
    struct client clients[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++)
        client_open(&clients[i], server);
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < CLIENTS; i++) {
            send_format(&clients[i],
                        "PUT /sink/5000 HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n");
            send_pattern(&clients[i], 0, 30000);
            send_format(&clients[i], "GET /paused/%u HTTP/1.1\r\nHost: a\r\n\r\n", 1000 * i + 1);
        }
        for (unsigned i = 0; i < CLIENTS; i++) {
            expect_answer(&clients[i], 200, "30000 good");
            struct answer answer = receive(&clients[i], false);
            expect_pattern(&answer, 1000 * i + 1);
            answer_free(&answer);
        }
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        client_close(&clients[i]);
}

static void reactors_share_the_port(void **state)
{
    (void)state;
    struct server server = {.reactor_count = 2};
    with_server(&server, many_clients);
}

/* --- addresses --- */

static void try_addresses(struct io *io, void *argument)
{
    static const struct {
        const char *address;
        enum err err;
        const char *bound; /* prefix */
    } cases[] = {
        {"127.0.0.1:0", OK, "127.0.0.1:"},
        {"[::1]:0", OK, "[::1]:"},
        {":0", OK, ""},
        {"localhost:0", OK, ""},
        {"127.0.0.1", ERR_INVALID, ""},
        {"127.0.0.1:", ERR_INVALID, ""},
        {"127.0.0.1:x", ERR_INVALID, ""},
        {"127.0.0.1:65536", ERR_INVALID, ""},
        {"::1:80", ERR_INVALID, ""},
        {"192.0.2.1:0", ERR_INVALID, ""},
        {"", ERR_INVALID, ""},
        {"no such host:80", ERR_INVALID, ""},
    };
    struct server *server = argument;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        server->options.address = cases[i].address;
        struct http_server *http = NULL;
        enum err err = http_server_start(io, &server->options, &http);
        if (err != cases[i].err)
            fail_msg("%s: %s", cases[i].address, err_text(err));
        if (err != OK)
            continue;
        assert_int_equal(strncmp(http_server_address(http), cases[i].bound, strlen(cases[i].bound)),
                         0);
        assert_int_equal(http_server_connections(http), 0);
        /* The port is taken. */
        struct http_server *other = NULL;
        server->options.address = http_server_address(http);
        assert_int_equal(http_server_start(io, &server->options, &other), ERR_EXISTS);
        http_server_stop(io, http, 0);
    }
}

static void addresses_are_parsed_and_exclusive(void **state)
{
    (void)state;
    struct server server = {.metrics = metrics_new()};
    server.options = (struct http_options){
        .handler = serve, .context = &server, .metrics = server.metrics, .name = "test"};
    unsigned fds = count_fds();
    {
        struct runtime_options options = {.reactor_count = 2};
        AUTO(runtime) runtime = NULL;
        assert_int_equal(runtime_new(&options, &runtime), OK);
        runtime_run(runtime, try_addresses, &server);
        assert_int_equal(runtime_fiber_count(runtime), 0);
    }
    assert_int_equal(count_fds(), fds);
    metrics_free(server.metrics);
}

/* --- TLS alone --- */

static int64_t reloads(struct server *server, const char *result)
{
    char labels[64];
    (void)snprintf(labels, sizeof labels, "server=\"test\",result=\"%s\"", result);
    return (int64_t)counter_value(
        metrics_counter(server->metrics, "shale_tls_reloads_total", labels, ""));
}

/* The first bytes of a ClientHello, and then nothing: other clients are served, the processor
 * rests, and the connection ends at the deadline of a head. */
static void half_handshakes(struct server *server)
{
    static const uint8_t start[] = {22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3};
    struct client halves[20];
    for (unsigned i = 0; i < 20; i++) {
        client_connect(&halves[i], server->address);
        assert_int_equal(send(halves[i].fd, start, i % sizeof start, MSG_NOSIGNAL),
                         i % sizeof start);
    }
    struct client client;
    client_open(&client, server);
    expect_reusable(&client);
    wait_ms(50);
    uint64_t start_ms = processor_ms(server->thread);
    wait_ms(400);
    uint64_t used_ms = processor_ms(server->thread) - start_ms;
    if (used_ms > 80)
        fail_msg("%" PRIu64 " ms of processor time in 400 ms of waiting", used_ms);
    for (unsigned i = 0; i < 20; i++) {
        assert_true(closed_by_server(&halves[i]));
        client_close(&halves[i]);
    }
    expect_reusable(&client);
    client_close(&client);
}

static void a_handshake_that_stalls_is_ended(void **state)
{
    (void)state;
    struct server server = {.options = {.head_timeout_ms = 1000}};
    with_server(&server, half_handshakes);
}

static void plain_clients(struct server *server)
{
    static const struct {
        const char *text;
        bool answered;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
        {"P", true},
        {"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde", true},
        {"\r\n", false},
        {"\x16\x03\x01zzzzzzzzzzzzzzzzzzzzzzzzzzzzz", false},
        {"\x15\x03\x01", false},
        {"", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct client client;
        client_connect(&client, server->address);
        send_text(&client, cases[i].text);
        if (cases[i].answered) {
            struct answer answer = receive(&client, false);
            assert_int_equal(answer.status, 400);
            assert_non_null(strstr(answer.head, "\r\nx-amz-request-id: "));
            assert_non_null(strstr((const char *)answer.body, "HTTPS only"));
            answer_free(&answer);
        } else {
            (void)shutdown(client.fd, SHUT_WR); /* unless the server was faster */
        }
        while (receive_more(&client)) /* an alert, perhaps */
            ;
        client_close(&client);
    }
    assert_int_equal(server->started, 0);
}

static void plain_http_is_answered_and_closed(void **state)
{
    (void)state;
    struct server server = {0};
    with_server(&server, plain_clients);
}

static void handshakes(struct server *server)
{
    static const struct {
        const char *priorities;
        gnutls_protocol_t version; /* 0: refused */
    } cases[] = {
        {"NORMAL", GNUTLS_TLS1_3},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.3", GNUTLS_TLS1_3},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.2", GNUTLS_TLS1_2},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.1:+VERS-TLS1.0", 0},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA", 0},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC:+AES-256-CBC", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct client client;
        client_connect(&client, server->address);
        assert_int_equal(gnutls_init(&client.tls, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL), 0);
        assert_int_equal(gnutls_priority_set_direct(client.tls, cases[i].priorities, NULL), 0);
        gnutls_credentials_set(client.tls, GNUTLS_CRD_CERTIFICATE, credentials);
        static char protocols[2][9] = {"h2", "http/1.1"};
        gnutls_datum_t offered[2] = {{(unsigned char *)protocols[0], 2},
                                     {(unsigned char *)protocols[1], 8}};
        gnutls_alpn_set_protocols(client.tls, offered, 2, 0);
        gnutls_transport_set_int(client.tls, client.fd);
        int code;
        do {
            code = gnutls_handshake(client.tls);
        } while (code < 0 && gnutls_error_is_fatal(code) == 0);
        if ((code == 0) != (cases[i].version != 0))
            fail_msg("%s: %s", cases[i].priorities, gnutls_strerror(code));
        if (code == 0) {
            assert_int_equal(gnutls_protocol_get_version(client.tls), cases[i].version);
            gnutls_datum_t chosen;
            assert_int_equal(gnutls_alpn_get_selected_protocol(client.tls, &chosen), 0);
            assert_int_equal(chosen.size, 8);
            expect_reusable(&client);
        }
        client_close(&client);
    }
}

static void versions_and_ciphers_of_today_only(void **state)
{
    (void)state;
    struct server server = {0};
    with_server(&server, handshakes);
}

/* Last byte of the serial that a new connection sees. */
static unsigned serial_seen(struct server *server)
{
    struct client client;
    client_open(&client, server);
    assert_false(client.ended);
    unsigned count = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(client.tls, &count);
    assert_int_equal(count, 1);
    gnutls_x509_crt_t crt;
    uint8_t serial[32];
    size_t bytes = sizeof serial;
    assert_int_equal(gnutls_x509_crt_init(&crt), 0);
    assert_int_equal(gnutls_x509_crt_import(crt, chain, GNUTLS_X509_FMT_DER), 0);
    assert_int_equal(gnutls_x509_crt_get_serial(crt, serial, &bytes), 0);
    gnutls_x509_crt_deinit(crt);
    expect_reusable(&client);
    client_close(&client);
    return serial[bytes - 1];
}

static void replaced(struct server *server)
{
    struct pair three = pair_make(&(struct pair_wish){.serial = 3, .key = PAIR_RSA});
    struct pair four = pair_make(&(struct pair_wish){.serial = 4, .lasts_s = -1});
    struct client old;
    client_open(&old, server);
    expect_reusable(&old);
    assert_int_equal(serial_seen(server), 2);
    /* By itself: half of the pair is not taken, the whole is. */
    pair_write(certificate_path, three.certificate);
    assert_true(EVENTUALLY(reloads(server, "refused") == 1));
    assert_int_equal(serial_seen(server), 2);
    pair_write(key_path, three.key);
    assert_true(EVENTUALLY(reloads(server, "taken") == 1));
    assert_int_equal(serial_seen(server), 3);
    expect_reusable(&old);
    /* Asked for: a bad pair, no file, an expired one. */
    pair_write(key_path, four.key_encrypted);
    server->reload = true;
    assert_true(EVENTUALLY(reloads(server, "refused") == 2));
    assert_int_equal(unlink(key_path), 0);
    server->reload = true;
    assert_true(EVENTUALLY(reloads(server, "refused") == 3));
    assert_int_equal(serial_seen(server), 3);
    pair_write(certificate_path, four.certificate);
    pair_write(key_path, four.key);
    server->reload = true;
    assert_true(EVENTUALLY(reloads(server, "taken") == 2));
    assert_int_equal(serial_seen(server), 4);
    expect_reusable(&old);
    client_close(&old);
    pair_free(&three);
    pair_free(&four);
}

static void write_pair(uint32_t serial)
{
    struct pair pair = pair_make(&(struct pair_wish){.serial = serial});
    pair_write(certificate_path, pair.certificate);
    pair_write(key_path, pair.key);
    pair_free(&pair);
}

static void a_new_certificate_is_for_new_connections(void **state)
{
    (void)state;
    write_pair(2);
    struct server server = {.reactor_count = 2};
    with_server(&server, replaced);
    write_pair(1);
}

static void try_pairs(struct io *io, void *argument)
{
    struct server *server = argument;
    struct http_server *http = NULL;
    server->options.address = "127.0.0.1:0";
    server->options.tls_certificate_path = certificate_path;
    server->options.tls_key_path = certificate_path; /* holds no key */
    assert_int_equal(http_server_start(io, &server->options, &http), ERR_INVALID);
    server->options.tls_key_path = "/nonexistent/key.pem";
    assert_int_equal(http_server_start(io, &server->options, &http), ERR_INVALID);
}

static void a_bad_pair_does_not_start(void **state)
{
    (void)state;
    struct server server = {.metrics = metrics_new()};
    server.options = (struct http_options){
        .handler = serve, .context = &server, .metrics = server.metrics, .name = "test"};
    {
        struct runtime_options options = {.reactor_count = 2};
        AUTO(runtime) runtime = NULL;
        assert_int_equal(runtime_new(&options, &runtime), OK);
        runtime_run(runtime, try_pairs, &server);
    }
    metrics_free(server.metrics);
}

static void tls_begin(void)
{
    (void)snprintf(pair_directory, sizeof pair_directory, "/tmp/shale-test-https.XXXXXX");
    assert_non_null(mkdtemp(pair_directory));
    (void)snprintf(certificate_path, sizeof certificate_path, "%s/certificate.pem", pair_directory);
    (void)snprintf(key_path, sizeof key_path, "%s/key.pem", pair_directory);
    write_pair(1);
    assert_int_equal(gnutls_certificate_allocate_credentials(&credentials), 0);
    over_tls = true;
}

static void tls_end(void)
{
    gnutls_certificate_free_credentials(credentials);
    (void)unlink(certificate_path);
    (void)unlink(key_path);
    (void)rmdir(pair_directory);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_serves_many_requests),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(the_target_arrives_undecoded),
        cmocka_unit_test(bodies_arrive_whole),
        cmocka_unit_test(a_slow_handler_holds_the_client_back),
        cmocka_unit_test(chunked_bodies_of_odd_sizes_arrive_whole),
        cmocka_unit_test(requests_may_come_byte_by_byte),
        cmocka_unit_test(expect_continue_waits_for_the_handler),
        cmocka_unit_test(an_early_error_keeps_the_connection_when_the_body_is_short),
        cmocka_unit_test(draining_a_chunked_body_is_bounded),
        cmocka_unit_test(a_chunk_line_without_end_does_not_keep_the_server_busy),
        cmocka_unit_test(answers_arrive_whole_and_head_has_none),
        cmocka_unit_test(an_answer_that_is_not_finished_closes_the_connection),
        cmocka_unit_test(clients_that_leave_are_noticed_at_every_stage),
        cmocka_unit_test(a_client_that_half_closes_is_answered_and_let_go),
        cmocka_unit_test(slow_requests_are_ended),
        cmocka_unit_test(a_client_that_reads_nothing_is_ended),
        cmocka_unit_test(who_waits_for_the_server_is_not_slow),
        cmocka_unit_test(ambiguous_heads_are_refused),
        cmocka_unit_test(long_heads_are_refused),
        cmocka_unit_test(thousands_of_idle_connections_do_not_disturb),
        cmocka_unit_test(connections_of_one_source_are_limited),
        cmocka_unit_test(stopping_finishes_what_runs),
        cmocka_unit_test(stopping_cuts_what_does_not_end),
        cmocka_unit_test(reactors_share_the_port),
        cmocka_unit_test(addresses_are_parsed_and_exclusive),
    };
    const struct CMUnitTest tls_tests[] = {
        cmocka_unit_test(a_handshake_that_stalls_is_ended),
        cmocka_unit_test(plain_http_is_answered_and_closed),
        cmocka_unit_test(versions_and_ciphers_of_today_only),
        cmocka_unit_test(a_new_certificate_is_for_new_connections),
        cmocka_unit_test(a_bad_pair_does_not_start),
    };
    if (argc < 2 || strcmp(argv[1], "--tls") != 0)
        return cmocka_run_group_tests(tests, NULL, NULL);
    tls_begin();
    int failed = cmocka_run_group_tests(tls_tests, NULL, NULL);
    failed += cmocka_run_group_tests(tests, NULL, NULL);
    tls_end();
    return failed;
}
