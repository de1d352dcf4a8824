/* See http_address.h. */
#include "http_address.h"

#include "base/log.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    HOST_BYTES_MAX = 253, /* of a DNS name */
    LISTEN_BACKLOG = 4096,
};

static bool host_has_ipv6(void)
{
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    bool works = bind(fd, (const struct sockaddr *)&any, sizeof any) == 0;
    (void)close(fd); /* nothing was written */
    return works;
}

static void any_address(uint16_t port, struct http_address *out_address)
{
    *out_address = (struct http_address){0};
    if (host_has_ipv6()) {
        struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        memcpy(&out_address->storage, &any, sizeof any);
        out_address->bytes = sizeof any;
    } else {
        struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&out_address->storage, &any, sizeof any);
        out_address->bytes = sizeof any;
    }
}

static enum err look_up(const char *host, const char *port, struct http_address *out_address)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int number = getaddrinfo(host, port, &hints, &found);
    if (number != 0) {
        log_error("http: cannot find the address to listen on host=%s: %s", host,
                  gai_strerror(number));
        return ERR_INVALID;
    }
    assert(found->ai_addrlen <= sizeof out_address->storage);
    *out_address = (struct http_address){.bytes = found->ai_addrlen};
    memcpy(&out_address->storage, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return OK;
}

/* The host's characters, without brackets; false when it is malformed. */
static bool split_host(struct slice text, char out[HOST_BYTES_MAX + 1])
{
    bool bracketed = text.bytes >= 2 && text.data[0] == '[' && text.data[text.bytes - 1] == ']';
    if (bracketed)
        text = slice_of(text.data + 1, text.bytes - 2);
    /* A bare IPv6 address is ambiguous: is the last group the port? */
    if (text.bytes > HOST_BYTES_MAX || (!bracketed && slice_find(text, ':') < text.bytes))
        return false;
    memcpy(out, text.data, text.bytes);
    out[text.bytes] = 0;
    return true;
}

enum err http_address_parse(const char *text, struct http_address *out_address)
{
    const char *colon = strrchr(text, ':');
    uint64_t port = 0;
    char host[HOST_BYTES_MAX + 1] = "";
    if (colon == NULL || text_parse_u64(slice_of_text(colon + 1), UINT16_MAX, &port) != OK ||
        !split_host(slice_of(text, (size_t)(colon - text)), host)) {
        log_error("http: address is not HOST:PORT, [IPV6]:PORT or :PORT address=%s", text);
        return ERR_INVALID;
    }
    if (colon != text)
        return look_up(host, colon + 1, out_address);
    any_address((uint16_t)port, out_address);
    return OK;
}

static enum err bind_failed(const struct http_address *address, int number)
{
    char text[HTTP_ADDRESS_TEXT_BYTES_MAX];
    http_address_format((const struct sockaddr *)&address->storage, text);
    if (number == EADDRINUSE) {
        log_error("http: address is in use, stop the other program or choose another port "
                  "address=%s",
                  text);
        return ERR_EXISTS;
    }
    log_error("http: cannot listen address=%s: %s", text, strerrordesc_np(number));
    return ERR_INVALID;
}

static int open_socket(const struct http_address *address, bool share_port)
{
    int family = address->storage.ss_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int on = 1;
    int off = 0;
    int failed = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (share_port)
        failed |= setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (family == AF_INET6)
        failed |= setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (failed == 0 && bind(fd, (const struct sockaddr *)&address->storage, address->bytes) == 0)
        return fd;
    int number = errno;
    (void)close(fd); /* nothing was written */
    errno = number;
    return -1;
}

enum err http_address_check_free(const struct http_address *address)
{
    int fd = open_socket(address, false);
    if (fd < 0)
        return bind_failed(address, errno);
    (void)close(fd); /* nothing was written */
    return OK;
}

enum err http_address_listen(struct http_address *address, int *out_fd)
{
    int fd = open_socket(address, true);
    if (fd < 0)
        return bind_failed(address, errno);
    socklen_t bytes = sizeof address->storage;
    if (listen(fd, LISTEN_BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&address->storage, &bytes) != 0) {
        int number = errno;
        (void)close(fd); /* nothing was written */
        return bind_failed(address, number);
    }
    *out_fd = fd;
    return OK;
}

void http_address_format(const struct sockaddr *address, char out[HTTP_ADDRESS_TEXT_BYTES_MAX])
{
    char host[INET6_ADDRSTRLEN] = "?";
    uint16_t port = 0;
    bool brackets = false;
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        port = ntohs(v4.sin_port);
        (void)inet_ntop(AF_INET, &v4.sin_addr, host, sizeof host); /* the family is known */
    } else if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof v6);
        port = ntohs(v6.sin6_port);
        brackets = !IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr);
        if (brackets)
            (void)inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof host); /* as above */
        else
            (void)inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], host, sizeof host); /* as above */
    }
    int written =
        snprintf(out, HTTP_ADDRESS_TEXT_BYTES_MAX, brackets ? "[%s]:%u" : "%s:%u", host, port);
    assert(written > 0 && written < HTTP_ADDRESS_TEXT_BYTES_MAX);
}
