/* The HMAC chains of version 4: secret -> signing key -> request -> chunks -> trailer. */
#pragma once
#include "base/slice.h"
#include "s3/chunked.h"
#include <stdint.h>

/* Signature of one chunk whose payload has the given SHA-256, chained on signing->previous. */
void chain_chunk(const struct s3_chunk_signing *signing, const uint8_t payload_sha256[32],
                 uint8_t out_signature[32]);
/* Signature of the trailer text: "name:value\n" for each trailer. */
void chain_trailer(const struct s3_chunk_signing *signing, struct slice text,
                   uint8_t out_signature[32]);
/* Signature of a request: `canonical` is its canonical request; the string to sign goes to
 * `out_string` (empty before, max at least 1024). */
void chain_request(const uint8_t key[32], struct slice date, struct slice scope,
                   struct slice canonical, struct bytes *out_string, uint8_t out_signature[32]);
