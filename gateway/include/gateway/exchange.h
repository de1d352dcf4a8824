/* One HTTP request and its answer, without HTTP: what operations and the simulator know. http.c
 * makes exchanges from libmicrohttpd; tests make them from memory.
 *
 * Life: the transport fills the head and runs gateway_serve on a fiber of its own; the handler
 * reads the body or not, and answers exactly once: exchange_respond, or exchange_begin +
 * exchange_send until content_bytes were sent. A body that was not read when the answer is given is
 * drained by the transport up to EXCHANGE_DRAIN_BYTES_MAX, beyond which the connection closes. */
#pragma once
#include "base/buf.h"
#include "base/bytes.h"
#include "runtime/io.h"
#include "s3/head.h"

enum {
    EXCHANGE_DRAIN_BYTES_MAX = 8 << 20,
    EXCHANGE_HEADERS_MAX = 128,           /* of an answer */
    EXCHANGE_HEADER_BYTES_MAX = 24 << 10, /* names and values of an answer */
    EXCHANGE_BODY_BYTES_MAX = 16 << 20,   /* of an answer given as a whole */
    EXCHANGE_SEND_BYTES_MAX = 1 << 20,
};

struct exchange;

struct exchange_transport {
    /* Body bytes into dst: at least one, 0 when the body has ended. Waits at most for the slow-
     * client rule. ERR_CLOSED: the client left; ERR_TIMEOUT: too slow; ERR_INVALID: the framing
     * broke. */
    enum err (*read)(struct io *io, struct exchange *exchange, uint8_t *dst, size_t bytes,
                     size_t *out_bytes);
    /* Send status, headers and either the whole `body` (content_bytes == body.bytes) or the start
     * of a streamed one. */
    enum err (*respond)(struct io *io, struct exchange *exchange, struct slice body, bool streamed);
    /* Next bytes of a streamed body: waits until the transport took them all. ERR_CLOSED,
     * ERR_TIMEOUT. */
    enum err (*send)(struct io *io, struct exchange *exchange, struct slice bytes);
};

struct exchange {
    const struct exchange_transport *transport;
    struct s3_head head;
    struct s3_framing framing;
    struct slice peer;   /* address as text, for logs */
    uint64_t request_id; /* unique in the process; x-amz-request-id is its hex form */
    uint64_t started_ns;
    uint64_t body_bytes_read;

    /* The answer, filled by the handler before exchange_respond or exchange_begin. */
    unsigned status;
    struct bytes headers; /* "name: value\0" pairs as exchange_header writes them */
    uint32_t header_count;
    uint64_t content_bytes;
    uint64_t body_bytes_sent; /* or given to the transport */
    bool responded;
    bool close; /* close the connection after the answer */
};

/* Add an answer header; the value is checked (no control bytes: one that has some is dropped with a
 * warning). */
void exchange_header(struct exchange *exchange, const char *name, struct slice value);
void exchange_header_text(struct exchange *exchange, const char *name, const char *value);
void exchange_header_format(struct exchange *exchange, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Walk the answer's headers: *offset starts at 0; false at the end. */
bool exchange_next_header(const struct exchange *exchange, size_t *offset, struct slice *out_name,
                          struct slice *out_value);
/* Forget status and headers set so far (before an error answer). */
void exchange_reset_answer(struct exchange *exchange);

enum err exchange_read(struct io *io, struct exchange *exchange, uint8_t *dst, size_t bytes,
                       size_t *out_bytes);
/* Answer as a whole. For HEAD the body is not sent, only its length. */
enum err exchange_respond(struct io *io, struct exchange *exchange, unsigned status,
                          struct slice body);
/* Begin a streamed answer of exactly `content_bytes`; for HEAD this ends it. */
enum err exchange_begin(struct io *io, struct exchange *exchange, unsigned status,
                        uint64_t content_bytes);
enum err exchange_send(struct io *io, struct exchange *exchange, struct slice bytes);
bool exchange_is_head(const struct exchange *exchange);
