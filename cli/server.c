/* See server.h. Order of start: admin listener (live), node, S3 listener (ready); of the end:
 * S3 listener, node, admin. */
#include "server.h"

#include "admin.h"
#include "base/log.h"
#include "cli/node.h"
#include "gateway/http.h"
#include "runtime/runtime.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { DRAIN_SECONDS_MAX = 20 };

struct server {
    const struct server_options *options;
    struct runtime *runtime;
    struct metrics *metrics;
    struct admin admin;
    struct gauge *fibers;
    struct gauge *pool_used;
    struct gauge *active;
    sigset_t signals; /* read from signal_fd */
    int signal_fd;
    int exit_status;
};

static void serve_s3(struct io *io, void *context, struct exchange *exchange)
{
    gateway_serve(io, node_gateway(context), exchange);
}

static void collect(void *context)
{
    struct server *server = context;
    gauge_set(server->fibers, runtime_fiber_count(server->runtime));
    if (server->admin.node != NULL) {
        struct gateway *gateway = node_gateway(server->admin.node);
        gauge_set(server->pool_used, (int64_t)gateway_body_bytes(gateway));
        gauge_set(server->active, gateway_active(gateway));
    }
}

static void register_metrics(struct server *server)
{
    server->fibers = metrics_gauge(server->metrics, "shale_fibers", NULL, "Fibers alive.");
    server->pool_used = metrics_gauge(server->metrics, "shale_pool_used_bytes", NULL,
                                      "Bytes of request and answer bodies in memory.");
    server->active =
        metrics_gauge(server->metrics, "shale_s3_requests_active", NULL, "Requests being handled.");
    metrics_on_collect(server->metrics, collect, server);
}

static void announce(const struct server *server, const struct http_server *s3,
                     const struct http_server *admin, const struct node *node)
{
    printf("s3: %s://%s\nadmin: http://%s\naccess key: %s\n",
           server->options->tls_cert != NULL ? "https" : "http", http_server_address(s3),
           http_server_address(admin), node_root_user(node));
    if (node_credentials_path(node)[0] != '\0')
        printf("secret key: in %s\n", node_credentials_path(node));
    else
        printf("secret key: as given by SHALE_ROOT_PASSWORD\n");
    printf("ready\n");
    fflush(stdout);
}

/* Take the signals that came. False: one of them ends the server. */
static bool handle_signals(struct io *io, const struct server *server, struct http_server *s3)
{
    bool go_on = true;
    struct signalfd_siginfo taken;
    while (read(server->signal_fd, &taken, sizeof taken) == sizeof taken) {
        if (taken.ssi_signo == SIGHUP)
            http_server_reload(io, s3);
        else
            go_on = false;
    }
    return go_on;
}

/* Until SIGTERM or SIGINT. */
static void wait_for_signal(struct io *io, const struct server *server, struct http_server *s3)
{
    struct poller *poller = NULL;
    if (poller_new(io, server->signal_fd, &poller) != OK)
        return;
    do {
        while (poller_wait(io, poller, io_now_ns(io) + 3600 * IO_NS_PER_S) == ERR_TIMEOUT)
            ;
    } while (handle_signals(io, server, s3));
    poller_free(io, poller);
    /* A second signal ends the process at once. */
    pthread_sigmask(SIG_UNBLOCK, &server->signals, NULL);
    log_info("server: stopping");
}

static enum err serve(struct io *io, struct server *server, struct node *node,
                      const struct http_server *admin)
{
    struct http_options options = {
        .address = server->options->address,
        .handler = serve_s3,
        .context = node,
        .metrics = server->metrics,
        .name = "s3",
        .tls_certificate_path = server->options->tls_cert,
        .tls_key_path = server->options->tls_key,
    };
    struct http_server *s3 = NULL;
    TRY(http_server_start(io, &options, &s3));
    announce(server, s3, admin, node);
    wait_for_signal(io, server, s3);
    http_server_stop(io, s3, io_now_ns(io) + DRAIN_SECONDS_MAX * IO_NS_PER_S);
    return OK;
}

static enum err run_node(struct io *io, struct server *server, const struct http_server *admin)
{
    const struct server_options *options = server->options;
    struct node_options node_options = {
        .directories = options->directories,
        .directory_count = options->directory_count,
        .kv = kv_provider_rocks(),
        .metrics = server->metrics,
        .root_user = options->root_user,
        .root_password = options->root_password,
        .s3 = {.domains = options->domains,
               .domain_count = options->domain_count,
               .region = options->region,
               .refuse_unsigned_payload = options->refuse_unsigned_payload},
        .body_budget_bytes = options->body_budget_mib << 20,
        .checks_mounts = true,
        .redundancy = {options->data_shards, options->parity_shards},
        .accepts_loss = options->accept_loss,
        .auto_recover = options->auto_recover,
    };
    struct node *node = NULL;
    TRY(node_start(io, &node_options, &node));
    server->admin.node = node;
    enum err err = serve(io, server, node, admin);
    server->admin.node = NULL;
    node_stop(io, node);
    return err;
}

static void server_fiber(struct io *io, void *argument)
{
    struct server *server = argument;
    struct http_options options = {
        .address = server->options->admin_address,
        .handler = admin_serve,
        .context = &server->admin,
        .metrics = server->metrics,
        .name = "admin",
        .only_first_reactor = true,
    };
    struct http_server *admin = NULL;
    enum err err = http_server_start(io, &options, &admin);
    if (err == OK) {
        err = run_node(io, server, admin);
        http_server_stop(io, admin, io_now_ns(io) + IO_NS_PER_S);
    }
    if (err != OK)
        fprintf(stderr, "shale: not started: %s (the log line above says why)\n", err_text(err));
    server->exit_status = err == OK ? 0 : 1;
}

/* All threads inherit the mask; the signals are read from the descriptor. SIGHUP is one of them
 * where there is something to reload, else it keeps its meaning: the terminal is gone. */
static int signals_to_descriptor(bool reloads, sigset_t *out_signals)
{
    sigemptyset(out_signals);
    sigaddset(out_signals, SIGTERM);
    sigaddset(out_signals, SIGINT);
    if (reloads)
        sigaddset(out_signals, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, out_signals, NULL);
    return signalfd(-1, out_signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log_warn("server: open file limit stays at its soft value");
}

int server_main(const struct server_options *options)
{
    struct server server = {.options = options, .exit_status = 1};
    log_set_level(options->log_level);
    raise_file_limit();
    server.signal_fd = signals_to_descriptor(options->tls_cert != NULL, &server.signals);
    if (server.signal_fd < 0) {
        fprintf(stderr, "shale: signalfd failed\n");
        return 1;
    }
    struct runtime_options runtime_options = {.reactor_count = options->reactor_count};
    if (runtime_new(&runtime_options, &server.runtime) == OK) {
        server.metrics = metrics_new();
        server.admin.metrics = server.metrics;
        register_metrics(&server);
        runtime_run(server.runtime, server_fiber, &server);
        metrics_free(server.metrics);
        runtime_free(server.runtime);
    }
    close(server.signal_fd);
    return server.exit_status;
}
