/* The client's side of s3/sigv4.h: signs requests, presigned URLs, chunks and trailers. For tests,
 * the simulator and the tools; shares only the HMAC chain with the verifier, so that each checks
 * the other. */
#pragma once
#include "base/bytes.h"
#include "base/slice.h"
#include "s3/chunked.h"
#include "s3/head.h"
#include <stdint.h>

struct s3_signer {
    struct slice access_key;
    struct slice secret;
    struct slice region;
    uint64_t now_ms;
};

/* Value of the Authorization header for `head`, whose headers must hold host, x-amz-date (of
 * now_ms) and x-amz-content-sha256; every header given is signed. Appended to `out`. `out_signing`
 * (may be NULL) gets the start of the chunk chain. */
void s3_signer_authorize(const struct s3_signer *signer, const struct s3_head *head,
                         struct bytes *out, struct s3_chunk_signing *out_signing);

/* The raw target of `head` with X-Amz-Algorithm ... X-Amz-Signature added, valid for
 * `expires_seconds`; every header given is signed (host at least). */
void s3_signer_presign(const struct s3_signer *signer, const struct s3_head *head,
                       uint64_t expires_seconds, struct bytes *out);

/* The raw target with AWSAccessKeyId, Expires and Signature (version 2). `resource` is the
 * canonical resource path: "/bucket/key", percent-encoded as sent. */
void s3_signer_presign_v2(const struct s3_signer *signer, const struct s3_head *head,
                          struct slice resource, uint64_t expires_at_seconds, struct bytes *out);

/* Append one aws-chunked chunk ("size;chunk-signature=...\r\n" payload "\r\n"); for an empty
 * payload only the line, since a trailer or the last CRLF follows. `signing` NULL: unsigned. Moves
 * the chain on. */
void s3_signer_chunk(struct s3_chunk_signing *signing, struct slice payload, struct bytes *out);
/* Append the trailer lines, with `signing` also x-amz-trailer-signature, and the CRLF that ends the
 * body. */
void s3_signer_trailer(struct s3_chunk_signing *signing, const struct s3_header *trailers,
                       uint32_t count, struct bytes *out);
