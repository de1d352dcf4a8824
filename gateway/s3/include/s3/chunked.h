/* Decoder of the aws-chunked body encoding in its three modes.
 *
 * Source: S3 API Reference, "Signature Calculations for the Authorization Header: Transferring
 * Payload in Multiple Chunks (Chunked Upload)" and "... Including Trailing Headers".
 *
 *     body     = chunk* last end
 *     chunk    = size [signature] CRLF payload CRLF
 *     last     = "0" [signature] CRLF
 *     signature = ";chunk-signature=" 64 hex digits, in the two signed modes
 *     end      = CRLF, or with a trailer: (name ":" value CRLF)* [trailer signature] CRLF
 *     trailer signature = "x-amz-trailer-signature:" 64 hex digits CRLF
 *
 * Payload passes through as it arrives, before its chunk's signature is known: nothing may be
 * committed before s3_chunked_finish says OK. The result depends on the bytes only, never on how
 * they were split. */
#pragma once
#include "base/own.h"
#include "base/slice.h"
#include "s3/error.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    S3_CHUNK_LINE_BYTES_MAX = 256,
    S3_CHUNK_BYTES_MIN = 8 << 10, /* of all but the last */
    S3_CHUNK_SIGNED_BYTES_MAX = 16 << 20,
    S3_TRAILER_BYTES_MAX = 8192,
    S3_TRAILERS_MAX = 8,
    S3_SCOPE_BYTES_MAX = 128,
};
/* The largest body of one request (PutObject, UploadPart). */
#define S3_BODY_BYTES_MAX (UINT64_C(5) << 30)

enum s3_chunked_mode {
    S3_CHUNKED_SIGNED = 1,
    S3_CHUNKED_SIGNED_TRAILER,
    S3_CHUNKED_UNSIGNED_TRAILER,
};

/* The chain of chunk signatures: each signs the one before it; the first chains on the request's
 * own. */
struct s3_chunk_signing {
    uint8_t key[32];
    uint8_t previous[32];
    char date[17];                      /* text of x-amz-date, NUL-terminated */
    char scope[S3_SCOPE_BYTES_MAX + 1]; /* YYYYMMDD/region/s3/aws4_request */
};

struct s3_chunked_options {
    enum s3_chunked_mode mode;
    const struct s3_chunk_signing *signing; /* copied; NULL for the unsigned mode only */
    bool has_decoded_bytes;
    uint64_t decoded_bytes;     /* x-amz-decoded-content-length; must match */
    struct slice trailer_names; /* value of x-amz-trailer, copied: comma-separated */
};

struct s3_chunked;

/* S3_INVALID_REQUEST: names announced in a mode without trailer, too many or not tokens.
 * S3_ENTITY_TOO_LARGE: decoded_bytes above S3_BODY_BYTES_MAX. */
enum s3_error s3_chunked_new(const struct s3_chunked_options *options, struct s3_failure *failure,
                             struct s3_chunked **out_chunked);
void s3_chunked_free(struct s3_chunked *chunked);
DEFINE_AUTO(s3_chunked, s3_chunked_free)

/* Consume from the front of `*input` until a run of payload is found or the input is used up.
 * `*out_payload` points into the input; empty means all input was consumed. An error is final.
 *
 * S3_INCOMPLETE_BODY            payload longer than decoded_bytes
 * S3_INVALID_CHUNK_SIZE         chunk above the limit, or below the least and not the last
 * S3_ENTITY_TOO_LARGE           above S3_BODY_BYTES_MAX
 * S3_SIGNATURE_DOES_NOT_MATCH   at the end of a chunk or of the trailer
 * S3_MALFORMED_TRAILER          not announced, missing, repeated, or too large
 * S3_INVALID_REQUEST            bytes after the end */
enum s3_error s3_chunked_next(struct s3_chunked *chunked, struct slice *input,
                              struct slice *out_payload, struct s3_failure *failure);
/* The body has ended. S3_INCOMPLETE_BODY: in the middle of something, or shorter than
 * decoded_bytes. */
enum s3_error s3_chunked_finish(struct s3_chunked *chunked, struct s3_failure *failure);

uint64_t s3_chunked_payload_bytes(const struct s3_chunked *chunked);
/* After finish. Value of the trailer called `name` (lower case), data NULL when it was not sent. */
struct slice s3_chunked_trailer(const struct s3_chunked *chunked, const char *name);
uint32_t s3_chunked_trailer_count(const struct s3_chunked *chunked);
void s3_chunked_trailer_at(const struct s3_chunked *chunked, uint32_t index, struct slice *out_name,
                           struct slice *out_value);
