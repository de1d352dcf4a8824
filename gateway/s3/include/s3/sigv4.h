/* Verification of signatures.
 *
 * Sources: S3 API Reference, "Authenticating Requests (AWS Signature Version 4)": "Using an
 * Authorization Header", "Using Query Parameters", "Signature Calculations for the Authorization
 * Header"; User Guide, "Signing and authenticating REST requests (AWS signature version 2)", query
 * form only.
 *
 * The canonical request is made from the same parse that handlers read: path and query are decoded
 * once and encoded again. Signatures compare in constant time; an unknown access key costs the same
 * HMACs on a dummy secret and fails after them. Pure: the time comes in as a parameter. */
#pragma once
#include "base/slice.h"
#include "s3/chunked.h"
#include "s3/error.h"
#include "s3/request.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    S3_SKEW_MS_MAX = 15 * 60 * 1000,
    S3_PRESIGN_SECONDS_MAX = 7 * 24 * 3600,
    S3_SIGNING_KEY_BYTES = 32,
    S3_SIGNING_CACHE_SLOTS = 128,
    S3_SECRET_BYTES_MAX = 128,
    S3_ACCESS_KEY_BYTES_MAX = 128,
    S3_REGION_BYTES_MAX = 64,
};

/* Signing key of one secret, day and region for service s3: four HMACs. */
void s3_signing_key_derive(struct slice secret, struct slice date, struct slice region,
                           uint8_t out_key[S3_SIGNING_KEY_BYTES]);

/* Derived keys, direct mapped, one cache per reactor. A slot holds the secret it was made from, so
 * a changed secret simply misses. Memory is wiped on replacement and by deinit. Zero is empty. */
struct s3_signing_cache {
    struct s3_signing_slot {
        uint16_t secret_bytes; /* 0: empty */
        uint8_t region_bytes;
        uint8_t secret[S3_SECRET_BYTES_MAX];
        uint8_t region[S3_REGION_BYTES_MAX];
        uint8_t date[8];
        uint8_t key[S3_SIGNING_KEY_BYTES];
    } slots[S3_SIGNING_CACHE_SLOTS];
};
void s3_signing_cache_deinit(struct s3_signing_cache *cache);

/* Verify the signature of a request that is not anonymous; on OK the accessors of s3/request.h
 * open.
 *
 * secret   of the credential's access key, 1..S3_SECRET_BYTES_MAX bytes; data NULL when there is no
 *          such key or it is disabled
 * cache    may be NULL
 * now_ms   the server's clock
 *
 * S3_REQUEST_TIME_TOO_SKEWED   header: more than 15 minutes away
 * S3_ACCESS_DENIED             presigned: expired or not yet valid; an x-amz-* header or host is
 *                              not signed; unsigned payload refused by the configuration; form:
 *                              signed more than 7 days ago or in the future
 * S3_INVALID_ACCESS_KEY_ID     no secret
 * S3_SIGNATURE_DOES_NOT_MATCH  with StringToSign and CanonicalRequest in `failure`
 * S3_INVALID_ARGUMENT          repeated unsigned header that has meaning
 * Malformed credentials were refused by s3_request_new already: S3_AUTHORIZATION_HEADER_MALFORMED,
 * S3_AUTHORIZATION_QUERY_PARAMETERS_ERROR, S3_INVALID_REQUEST, S3_INVALID_ARGUMENT. */
enum s3_error s3_auth_verify(struct s3_request *request, struct slice secret,
                             struct s3_signing_cache *cache, uint64_t now_ms,
                             struct s3_failure *failure);

/* What the chunk signatures of the verified request chain on; its payload mode is
 * S3_PAYLOAD_CHUNKS_SIGNED or S3_PAYLOAD_CHUNKS_SIGNED_TRAILER. */
const struct s3_chunk_signing *s3_request_chunk_signing(const struct s3_request *request);
