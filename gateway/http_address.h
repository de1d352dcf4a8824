/* Addresses to listen on: from text to bound sockets and back. */
#pragma once
#include "base/err.h"
#include "base/slice.h"
#include <netinet/in.h>
#include <sys/socket.h>

enum { HTTP_ADDRESS_TEXT_BYTES_MAX = INET6_ADDRSTRLEN + 10 }; /* "[v6]:65535" and a NUL */

struct http_address {
    struct sockaddr_storage storage;
    socklen_t bytes;
};

/* "HOST:PORT", "[v6]:PORT" or ":PORT" (all addresses, IPv6 and IPv4 where the host has both). A
 * name is looked up, which blocks: only for the start. ERR_INVALID, logged. */
enum err http_address_parse(const char *text, struct http_address *out_address);
/* A listening socket that shares its port with the others of this process (SO_REUSEPORT). Port 0
 * is replaced by the one that was given. ERR_EXISTS, ERR_INVALID, logged. */
enum err http_address_listen(struct http_address *address, int *out_fd);
/* ERR_EXISTS when another process listens there, which SO_REUSEPORT alone would let pass. */
enum err http_address_check_free(const struct http_address *address);
/* "127.0.0.1:80", "[::1]:80"; an IPv4 address inside IPv6 as IPv4. */
void http_address_format(const struct sockaddr *address, char out[HTTP_ADDRESS_TEXT_BYTES_MAX]);
