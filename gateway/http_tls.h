/* HTTPS: what http.c adds to a connection, and the fiber that keeps the certificate current.
 *
 * The library runs the handshake and the records with GnuTLS inside the driver. The certificate is
 * chosen per handshake, so a new one needs no restart and touches no connection that is open. The
 * sockets are read and written by functions of ours, for three reasons: the first byte shows a
 * client that speaks plain HTTP, progress that the library does not report counts as progress of
 * the driver, and GnuTLS finds the connection.
 *
 * The two files are read once a second and compared with what is in use. A pair that differs is
 * taken when it was the same at two looks in a row, so that files replaced one after the other are
 * not taken in between; a pair that is not good is reported once and the old one stays. */
#pragma once
#include "http_private.h"

/* TLS 1.3, or 1.2 with forward secrecy; AEAD ciphers only. */
#define HTTP_TLS_PRIORITIES                                                                        \
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:-CIPHER-ALL:"      \
    "+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:-SIGN-RSA-SHA1:-SIGN-ECDSA-SHA1:"                \
    "%SERVER_PRECEDENCE"

/* Load the pair for all reactors and start to watch its files. On reactor 0. ERR_INVALID, logged
 * with what to do. */
enum err http_tls_start(struct io *io, struct http_server *server);
/* Only when no daemon runs. */
void http_tls_stop(struct io *io, struct http_server *server);
/* Look at the files now. On reactor 0. */
void http_tls_reload(struct io *io, struct http_server *server);

/* The library made or ends the connection. */
void http_tls_attach(struct connection *connection);
void http_tls_detach(struct connection *connection);
/* MHD_OPTION_HTTPS_CERT_CALLBACK. */
int http_tls_on_certificate(gnutls_session_t session, const gnutls_datum_t *authorities,
                            int authority_count, const gnutls_pk_algorithm_t *algorithms,
                            int algorithm_count, gnutls_pcert_st **out_chain,
                            unsigned *out_chain_count, gnutls_privkey_t *out_key);
/* Past the library, as much as the socket takes. */
void http_tls_send(struct connection *connection, struct slice bytes);
