/* What the HTTP server costs: requests a second and processor time of the server's thread for each.
 *
 * usage: bench_http [CONNECTIONS [SECONDS]]     (default 32 connections, 2 s for each line)
 *
 * One reactor; the client runs on a thread of its own and keeps one request under way on each
 * connection. Printed for people, never a test: shared machines make the rates vary by a factor of
 * two, the processor time by a quarter. */
#include "base/mem.h"
#include "gateway/http.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 4096, RECEIVE_BYTES = 256 << 10 };

struct bench {
    unsigned connections;
    unsigned seconds;
    char address[64];
    _Atomic bool running;
    _Atomic bool done;
    struct buf *data;
};

struct load {
    const char *name;
    const char *request;
    size_t body_bytes;   /* sent behind the request */
    size_t answer_bytes; /* of the body */
};

static const struct load loads[] = {
    {"GET, empty answer", "GET /0 HTTP/1.1\r\nHost: a\r\n\r\n", 0, 0},
    {"GET 4 KiB", "GET /4096 HTTP/1.1\r\nHost: a\r\n\r\n", 0, 4096},
    {"GET 4 KiB, handler waits", "GET /w/4096 HTTP/1.1\r\nHost: a\r\n\r\n", 0, 4096},
    {"GET 1 MiB, one piece", "GET /1048576 HTTP/1.1\r\nHost: a\r\n\r\n", 0, 1 << 20},
    {"GET 4 MiB, streamed", "GET /4194304 HTTP/1.1\r\nHost: a\r\n\r\n", 0, 4 << 20},
    {"PUT 4 KiB", "PUT /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 4096\r\n\r\n", 4096, 0},
    {"PUT 1 MiB", "PUT /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n", 1 << 20, 0},
};

/* --- server --- */

static void serve(struct io *io, void *context, struct exchange *exchange)
{
    struct bench *bench = context;
    const char *target = (const char *)exchange->head.target.data;
    bool wait = target[1] == 'w';
    size_t bytes = strtoull(target + (wait ? 3 : 1), NULL, 10);
    if (exchange->framing.has_content_length) {
        AUTO(buf) buf = buf_new(256 << 10);
        size_t count = 1;
        while (count > 0)
            if (exchange_read(io, exchange, buf->data, buf->capacity, &count) != OK)
                return;
    }
    if (wait)
        (void)io_yield(io);
    exchange_header_text(exchange, "Content-Type", "binary/octet-stream");
    exchange_header_text(exchange, "ETag", "\"9b2cf535f27731c974343645a3985328\"");
    exchange_header_text(exchange, "Last-Modified", "Mon, 12 Oct 2009 17:50:30 GMT");
    if (bytes == 0) {
        (void)exchange_respond(io, exchange, 200, slice_of(NULL, 0));
        return;
    }
    enum err err = exchange_begin(io, exchange, 200, bytes);
    for (size_t offset = 0; offset < bytes && err == OK; offset += EXCHANGE_SEND_BYTES_MAX) {
        size_t rest = bytes - offset;
        if (rest > EXCHANGE_SEND_BYTES_MAX)
            rest = EXCHANGE_SEND_BYTES_MAX;
        err = exchange_send(io, exchange, buf_slice(bench->data, 0, rest));
    }
}

static void run_server(struct io *io, void *argument)
{
    struct bench *bench = argument;
    AUTO(metrics) metrics = metrics_new();
    struct http_options options = {.address = "127.0.0.1:0",
                                   .handler = serve,
                                   .context = bench,
                                   .metrics = metrics,
                                   .name = "bench",
                                   .connections_per_source_max = CONNECTIONS_MAX};
    struct http_server *server = NULL;
    if (http_server_start(io, &options, &server) != OK)
        exit(1);
    (void)snprintf(bench->address, sizeof bench->address, "%s", http_server_address(server));
    bench->running = true;
    while (!bench->done)
        (void)io_sleep_ms(io, 10);
    http_server_stop(io, server, 0);
}

static void *server_thread(void *argument)
{
    struct runtime_options options = {.reactor_count = 1};
    AUTO(runtime) runtime = NULL;
    if (runtime_new(&options, &runtime) != OK)
        exit(1);
    runtime_run(runtime, run_server, argument);
    return NULL;
}

/* --- client --- */

struct client {
    int fd;
    size_t to_send; /* of the body */
    size_t to_receive;
    bool head_received;
};

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    perror(what);
    exit(1);
}

static int connect_to(const char *address)
{
    char host[64];
    (void)snprintf(host, sizeof host, "%s", address);
    char *colon = strrchr(host, ':');
    *colon = 0;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10))};
    require(inet_pton(AF_INET, host, &to.sin_addr) == 1, "address");
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    require(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0, "setsockopt");
    require(connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    return fd;
}

static void send_body(struct client *client, const uint8_t *data)
{
    while (client->to_send > 0) {
        ssize_t count = send(client->fd, data, client->to_send, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count <= 0)
            return;
        client->to_send -= (size_t)count;
    }
}

static void start_request(struct client *client, const struct load *load, const uint8_t *data)
{
    size_t bytes = strlen(load->request);
    require(send(client->fd, load->request, bytes, MSG_NOSIGNAL) == (ssize_t)bytes, "send");
    client->to_send = load->body_bytes;
    client->to_receive = load->answer_bytes;
    client->head_received = false;
    send_body(client, data);
}

/* True when the answer is complete. */
static bool receive(struct client *client, uint8_t *memory)
{
    ssize_t count = recv(client->fd, memory, RECEIVE_BYTES, MSG_DONTWAIT);
    require(count > 0, "recv");
    size_t body = (size_t)count;
    if (!client->head_received) {
        const uint8_t *end = memmem(memory, (size_t)count, "\r\n\r\n", 4);
        require(end != NULL, "head");
        body = (size_t)(memory + count - (end + 4));
        client->head_received = true;
    }
    require(body <= client->to_receive, "body");
    client->to_receive -= body;
    return client->to_receive == 0;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    require(clock_gettime(clock, &now) == 0, "clock");
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void run_load(struct bench *bench, const struct load *load, clockid_t server_clock)
{
    static struct client clients[CONNECTIONS_MAX];
    static struct pollfd fds[CONNECTIONS_MAX];
    uint8_t *memory = malloc(RECEIVE_BYTES);
    for (unsigned i = 0; i < bench->connections; i++) {
        clients[i].fd = connect_to(bench->address);
        start_request(&clients[i], load, bench->data->data);
    }
    uint64_t count = 0;
    uint64_t start_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t server_ns = clock_ns(server_clock);
    uint64_t end_ns = start_ns + bench->seconds * UINT64_C(1000000000);
    while (clock_ns(CLOCK_MONOTONIC) < end_ns) {
        for (unsigned i = 0; i < bench->connections; i++)
            fds[i] = (struct pollfd){.fd = clients[i].fd,
                                     .events = clients[i].to_send > 0 ? POLLIN | POLLOUT : POLLIN};
        require(poll(fds, bench->connections, 1000) > 0, "poll");
        for (unsigned i = 0; i < bench->connections; i++) {
            if (fds[i].revents & POLLOUT)
                send_body(&clients[i], bench->data->data);
            if (!(fds[i].revents & POLLIN) || !receive(&clients[i], memory))
                continue;
            count++;
            start_request(&clients[i], load, bench->data->data);
        }
    }
    double seconds = (double)(clock_ns(CLOCK_MONOTONIC) - start_ns) / 1e9;
    double busy_us = (double)(clock_ns(server_clock) - server_ns) / 1e3;
    (void)printf("%-28s %9.0f requests/s %8.1f us of the server each\n", load->name,
                 (double)count / seconds, busy_us / (double)count);
    for (unsigned i = 0; i < bench->connections; i++)
        close(clients[i].fd);
    free(memory);
}

int main(int argc, char **argv)
{
    struct bench bench = {.connections = 32, .seconds = 2, .data = buf_new(1 << 20)};
    if (argc > 1)
        bench.connections = (unsigned)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        bench.seconds = (unsigned)strtoul(argv[2], NULL, 10);
    require(bench.connections > 0 && bench.connections <= CONNECTIONS_MAX, "connections");
    memset(bench.data->data, 'x', bench.data->capacity);
    pthread_t thread;
    require(pthread_create(&thread, NULL, server_thread, &bench) == 0, "thread");
    while (!bench.running)
        usleep(1000);
    clockid_t server_clock;
    require(pthread_getcpuclockid(thread, &server_clock) == 0, "clock");
    for (size_t i = 0; i < sizeof loads / sizeof loads[0]; i++)
        run_load(&bench, &loads[i], server_clock);
    bench.done = true;
    require(pthread_join(thread, NULL) == 0, "join");
    buf_unref(bench.data);
    return 0;
}
