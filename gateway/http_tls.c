/* See http_tls.h. */
#include "http_tls.h"

#include "base/log.h"
#include "base/mem.h"
#include "certificate.h"

#include <assert.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define LOOK_NS IO_NS_PER_S

enum {
    DIGEST_BYTES = 32,
    PLAIN_ANSWER_BYTES_MAX = 1 << 10,
    UNREADABLE_LOOKS_MAX = 2, /* a file may be away for a moment while it is replaced */
};

/* What both files held. */
struct digests {
    uint8_t chain[DIGEST_BYTES];
    uint8_t key[DIGEST_BYTES];
};

struct http_tls {
    char *chain_path;
    char *key_path;
    struct buf *chain_pem;
    struct buf *key_pem;
    struct digests used;
    struct digests seen;    /* at the last look */
    struct digests refused; /* reported already */
    uint32_t unreadable_looks;
    bool asked; /* to look now */
    bool stopping;
    struct signal wake;
    struct fiber_group watcher;
    struct gauge *expiry;
    struct counter *reloads;
    struct counter *reloads_refused;
};

/* --- the transport of GnuTLS --- */

/* A request line, where a TLS record would begin with its type (22). */
static bool is_plain_http(const uint8_t *data)
{
    return data[0] >= 'A' && data[0] <= 'Z';
}

static void refuse_plain_http(struct connection *connection)
{
    struct reactor *reactor = connection->reactor;
    uint64_t request_id = reactor->next_request_id;
    reactor->next_request_id += reactor->server->reactor_count;
    AUTO_VALUE(bytes) body = {.max = PLAIN_ANSWER_BYTES_MAX / 2};
    bytes_append_format(&body,
                        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                        "<Error><Code>InvalidRequest</Code><Message>This port speaks HTTPS only."
                        "</Message><RequestId>%016" PRIx64 "</RequestId></Error>",
                        request_id);
    AUTO_VALUE(bytes) text = {.max = PLAIN_ANSWER_BYTES_MAX};
    bytes_append_format(&text,
                        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"
                        "Content-Type: application/xml\r\nContent-Length: %zu\r\n"
                        "x-amz-request-id: %016" PRIx64 "\r\n\r\n",
                        body.bytes, request_id);
    bytes_append(&text, bytes_slice(&body));
    assert(!text.overflow);
    counter_add(reactor->server->metrics.refused, 1);
    log_debug("http: plain HTTP to the HTTPS port peer=%s", connection->peer);
    /* The first bytes of the connection, so the socket takes them all. */
    (void)send(connection->fd, text.data, text.bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    connection->linger = true;
}

static ssize_t pull(gnutls_transport_ptr_t context, void *data, size_t bytes)
{
    struct connection *connection = context;
    ssize_t count = recv(connection->fd, data, bytes, MSG_DONTWAIT);
    if (count <= 0)
        return count;
    connection->reactor->quiet_rounds = 0;
    bool first = !connection->received;
    connection->received = true;
    if (first && is_plain_http(data)) {
        refuse_plain_http(connection);
        errno = ECONNRESET;
        return -1;
    }
    return count;
}

static int pull_timeout(gnutls_transport_ptr_t context, unsigned timeout_ms)
{
    (void)timeout_ms; /* the driver never waits */
    const struct connection *connection = context;
    struct pollfd poll_fd = {.fd = connection->fd, .events = POLLIN};
    return poll(&poll_fd, 1, 0);
}

static ssize_t push(gnutls_transport_ptr_t context, const giovec_t *parts, int part_count)
{
    struct connection *connection = context;
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts,
                             .msg_iovlen = (size_t)part_count};
    ssize_t count = sendmsg(connection->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count > 0)
        connection->reactor->quiet_rounds = 0;
    return count;
}

void http_tls_attach(struct connection *connection)
{
    gnutls_session_t session =
        MHD_get_connection_info(connection->library, MHD_CONNECTION_INFO_GNUTLS_SESSION)
            ->tls_session;
    connection->tls = session;
    gnutls_transport_set_ptr(session, connection);
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_pull_timeout_function(session, pull_timeout);
    gnutls_transport_set_vec_push_function(session, push);
}

void http_tls_detach(struct connection *connection)
{
    connection->tls = NULL;
    certificate_unref(connection->certificate);
    connection->certificate = NULL;
}

int http_tls_on_certificate(gnutls_session_t session, const gnutls_datum_t *authorities,
                            int authority_count, const gnutls_pk_algorithm_t *algorithms,
                            int algorithm_count, gnutls_pcert_st **out_chain,
                            unsigned *out_chain_count, gnutls_privkey_t *out_key)
{
    (void)authorities;
    (void)authority_count;
    (void)algorithms;
    (void)algorithm_count;
    struct connection *connection = gnutls_transport_get_ptr(session);
    /* GnuTLS may ask more than once in a handshake and must get the same. */
    if (connection->certificate == NULL)
        connection->certificate = certificate_ref(connection->reactor->certificate);
    *out_chain = certificate_chain(connection->certificate, out_chain_count);
    *out_key = certificate_key(connection->certificate);
    return 0;
}

void http_tls_send(struct connection *connection, struct slice bytes)
{
    while (bytes.bytes > 0) {
        ssize_t count = gnutls_record_send(connection->tls, bytes.data, bytes.bytes);
        if (count <= 0)
            return;
        bytes = slice_skip(bytes, (size_t)count);
    }
}

/* --- the files --- */

static enum err read_file(struct io *io, const char *path, struct buf *buf, size_t *out_bytes,
                          uint8_t out_digest[DIGEST_BYTES])
{
    AUTO(file) file = NULL;
    TRY(io_open(io, path, 0, &file));
    TRY(io_read(io, file, buf, 0, CERTIFICATE_FILE_BYTES_MAX + 1, 0, out_bytes));
    if (*out_bytes > CERTIFICATE_FILE_BYTES_MAX)
        return FAIL(ERR_LIMIT, "file of a certificate or key is too long path=%s", path);
    int code = gnutls_hash_fast(GNUTLS_DIG_SHA256, buf->data, *out_bytes, out_digest);
    assert(code == 0);
    return OK;
}

static enum err read_pair(struct io *io, struct http_tls *tls, struct slice *out_chain,
                          struct slice *out_key, struct digests *out_digests)
{
    size_t chain_bytes = 0;
    size_t key_bytes = 0;
    const char *path = tls->chain_path;
    enum err err = read_file(io, path, tls->chain_pem, &chain_bytes, out_digests->chain);
    if (err == OK) {
        path = tls->key_path;
        err = read_file(io, path, tls->key_pem, &key_bytes, out_digests->key);
    }
    if (err != OK) {
        bool reported = tls->unreadable_looks >= UNREADABLE_LOOKS_MAX;
        tls->unreadable_looks = tls->asked ? UNREADABLE_LOOKS_MAX : tls->unreadable_looks + 1;
        if (tls->asked || (!reported && tls->unreadable_looks == UNREADABLE_LOOKS_MAX)) {
            counter_add(tls->reloads_refused, 1);
            log_error("tls: file cannot be read; it must exist, be readable by this user and hold "
                      "at most 64 KiB path=%s: %s",
                      path, err_text(err));
        }
        return err;
    }
    tls->unreadable_looks = 0;
    *out_chain = buf_slice(tls->chain_pem, 0, chain_bytes);
    *out_key = buf_slice(tls->key_pem, 0, key_bytes);
    return OK;
}

static bool digests_equal(const struct digests *a, const struct digests *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

struct install {
    struct reactor *reactor;
    struct certificate *certificate;
};

static void install_on(struct io *io, void *argument)
{
    (void)io;
    struct install *install = argument;
    certificate_unref(install->reactor->certificate);
    install->reactor->certificate = certificate_ref(install->certificate);
}

static void install(struct io *io, struct http_server *server, struct certificate *certificate)
{
    for (unsigned i = 0; i < server->reactor_count; i++) {
        struct install install = {.reactor = &server->reactors[i], .certificate = certificate};
        io_call(io, io_reactor(io, i), install_on, &install);
    }
    int64_t begins_s = certificate_begins_s(certificate);
    int64_t expires_s = certificate_expires_s(certificate);
    int64_t now_s = (int64_t)(io_wall_ms(io) / 1000);
    gauge_set(server->tls->expiry, expires_s);
    log_info("tls: certificate in use serial=%s days_left=%" PRId64,
             certificate_serial(certificate), (expires_s - now_s) / (24 * 3600));
    if (expires_s <= now_s)
        log_warn("tls: the certificate has expired, clients will refuse it path=%s",
                 server->tls->chain_path);
    if (begins_s > now_s)
        log_warn("tls: the certificate is not valid yet, clients will refuse it path=%s",
                 server->tls->chain_path);
}

/* Parse what was read and take it. */
static enum err take_pair(struct io *io, struct http_server *server, struct slice chain,
                          struct slice key, const struct digests *digests)
{
    struct http_tls *tls = server->tls;
    AUTO(certificate) certificate = NULL;
    const char *why = NULL;
    enum err err = certificate_parse(chain, key, &certificate, &why);
    if (err != OK) {
        tls->refused = *digests;
        counter_add(tls->reloads_refused, 1);
        log_error("tls: %s certificate=%s key=%s", why, tls->chain_path, tls->key_path);
        return err;
    }
    tls->used = *digests;
    install(io, server, certificate);
    return OK;
}

static void look(struct io *io, struct http_server *server)
{
    struct http_tls *tls = server->tls;
    struct digests found;
    struct slice chain;
    struct slice key;
    if (read_pair(io, tls, &chain, &key, &found) == OK) {
        bool settled = digests_equal(&found, &tls->seen) && !digests_equal(&found, &tls->refused);
        tls->seen = found;
        if (digests_equal(&found, &tls->used)) {
            if (tls->asked)
                log_info("tls: asked to reload, the files are unchanged");
        } else if (tls->asked || settled) {
            if (take_pair(io, server, chain, key, &found) == OK)
                counter_add(tls->reloads, 1);
            else
                log_error("tls: the certificate in use stays");
        }
    }
    explicit_bzero(tls->key_pem->data, CERTIFICATE_FILE_BYTES_MAX + 1);
}

static void watch(struct io *io, void *argument)
{
    struct http_server *server = argument;
    struct http_tls *tls = server->tls;
    while (!tls->stopping) {
        /* Nothing cancels the watcher. */
        if (!tls->asked)
            (void)signal_wait(io, &tls->wake, io_now_ns(io) + LOOK_NS);
        if (tls->stopping)
            break;
        bool asked = tls->asked;
        look(io, server);
        if (asked)
            tls->asked = false;
    }
}

/* --- start and stop --- */

static struct http_tls *tls_new(const struct http_options *options)
{
    struct http_tls *tls = mem_new(struct http_tls);
    tls->chain_path = mem_format("%s", options->tls_certificate_path);
    tls->key_path = mem_format("%s", options->tls_key_path);
    tls->chain_pem = buf_new(CERTIFICATE_FILE_BYTES_MAX + 1);
    tls->key_pem = buf_new(CERTIFICATE_FILE_BYTES_MAX + 1);
    signal_init(&tls->wake);
    fiber_group_init(&tls->watcher);
    AUTO_STRING labels = mem_format("server=\"%s\"", options->name);
    AUTO_STRING taken = mem_format("server=\"%s\",result=\"taken\"", options->name);
    AUTO_STRING refused = mem_format("server=\"%s\",result=\"refused\"", options->name);
    const char *help = "Changed certificate files that were taken, or were refused and left the "
                       "old certificate in use.";
    tls->expiry =
        metrics_gauge(options->metrics, "shale_tls_certificate_expiry_seconds", labels,
                      "When the certificate in use expires, in seconds since 1970-01-01 UTC.");
    tls->reloads = metrics_counter(options->metrics, "shale_tls_reloads_total", taken, help);
    tls->reloads_refused =
        metrics_counter(options->metrics, "shale_tls_reloads_total", refused, help);
    return tls;
}

enum err http_tls_start(struct io *io, struct http_server *server)
{
    struct http_tls *tls = tls_new(&server->options);
    server->tls = tls;
    server->options.tls_certificate_path = NULL; /* not borrowed */
    server->options.tls_key_path = NULL;
    struct slice chain;
    struct slice key;
    struct digests found;
    tls->asked = true; /* report at once */
    enum err err = read_pair(io, tls, &chain, &key, &found);
    if (err == OK)
        err = take_pair(io, server, chain, key, &found);
    explicit_bzero(tls->key_pem->data, CERTIFICATE_FILE_BYTES_MAX + 1);
    tls->asked = false;
    if (err != OK)
        return ERR_INVALID;
    return fiber_group_spawn(io, &tls->watcher, watch, server);
}

void http_tls_stop(struct io *io, struct http_server *server)
{
    struct http_tls *tls = server->tls;
    tls->stopping = true;
    signal_wake_all(io, &tls->wake);
    fiber_group_wait(io, &tls->watcher);
    for (unsigned i = 0; i < server->reactor_count; i++)
        certificate_unref(server->reactors[i].certificate);
    buf_unref(tls->chain_pem);
    buf_unref(tls->key_pem);
    mem_free(tls->chain_path);
    mem_free(tls->key_path);
    mem_free(tls);
    server->tls = NULL;
}

void http_tls_reload(struct io *io, struct http_server *server)
{
    server->tls->asked = true;
    signal_wake_all(io, &server->tls->wake);
}
