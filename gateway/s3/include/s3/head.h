/* The head of an HTTP request as it came off the wire, and the checks that keep it unambiguous.
 *
 * libmicrohttpd 0.9.75 takes the first of two Content-Lengths, ignores Content-Length beside
 * Transfer-Encoding and lets names through that are not tokens; behind a proxy each of these is
 * request smuggling (RFC 9112 §11.2). s3_head_check refuses them before any other work; the answer
 * is 400 and the connection closes, whatever the code. Nothing is copied: a head borrows the bytes
 * of the connection. */
#pragma once
#include "base/slice.h"
#include "s3/error.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    S3_HEAD_BYTES_MAX = 32 << 10,    /* request line and headers */
    S3_HEADER_LINE_BYTES_MAX = 8192, /* name, colon, space, value */
    S3_HEADERS_MAX = 100,
    S3_METHOD_BYTES_MAX = 16,
};

struct s3_header {
    struct slice name;  /* as sent, any letter case */
    struct slice value; /* without spaces around it */
};

struct s3_head {
    struct slice method;
    struct slice target;             /* raw, undecoded: path and query */
    struct slice version;            /* "HTTP/1.1" or "HTTP/1.0" */
    const struct s3_header *headers; /* in wire order, repetitions included */
    uint32_t header_count;
    bool tls;
};

/* How the body is delimited. */
struct s3_framing {
    bool chunked;            /* Transfer-Encoding: chunked */
    bool has_content_length; /* false and not chunked: no body */
    uint64_t content_length;
};

/* Limits and framing: sizes, tokens as names, no control bytes in values, at most one Host,
 * Authorization, Content-Length and Transfer-Encoding, never the last two together, no coding but
 * `chunked`, none at all in HTTP/1.0, a Host in HTTP/1.1.
 *
 * S3_REQUEST_HEADER_SECTION_TOO_LARGE, S3_INVALID_URI, S3_INVALID_REQUEST, S3_METHOD_NOT_ALLOWED,
 * S3_NOT_IMPLEMENTED (another transfer coding): answer 400 (501) and close. */
enum s3_error s3_head_check(const struct s3_head *head, struct s3_failure *failure,
                            struct s3_framing *out_framing);

/* The first header called `name` (compared without case), or NULL. */
const struct s3_header *s3_head_find(const struct s3_head *head, const char *name);
