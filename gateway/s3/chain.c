/* Key derivation and the strings to sign of requests, chunks and trailers. */
#include "chain.h"
#include "base/text.h"
#include "hmac.h"
#include "s3/sigv4.h"
#include <assert.h>
#include <stdio.h>

#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

void s3_signing_key_derive(struct slice secret, struct slice date, struct slice region,
                           uint8_t out_key[S3_SIGNING_KEY_BYTES])
{
    uint8_t first[4 + S3_SECRET_BYTES_MAX] = "AWS4";
    uint8_t step[32];
    assert(secret.bytes > 0);
    assert(secret.bytes <= S3_SECRET_BYTES_MAX);
    memcpy(first + 4, secret.data, secret.bytes);
    hmac_sha256(slice_of(first, 4 + secret.bytes), date, step);
    hmac_sha256(slice_of(step, 32), region, step);
    hmac_sha256(slice_of(step, 32), SLICE_LITERAL("s3"), step);
    hmac_sha256(slice_of(step, 32), SLICE_LITERAL("aws4_request"), out_key);
    explicit_bzero(first, sizeof first);
    explicit_bzero(step, sizeof step);
}

void chain_chunk(const struct s3_chunk_signing *signing, const uint8_t payload_sha256[32],
                 uint8_t out_signature[32])
{
    char previous[65];
    char payload[65];
    char text[512];
    text_hex(slice_of(signing->previous, 32), previous);
    text_hex(slice_of(payload_sha256, 32), payload);
    int chars = snprintf(text, sizeof text, "AWS4-HMAC-SHA256-PAYLOAD\n%s\n%s\n%s\n%s\n%s",
                         signing->date, signing->scope, previous, EMPTY_SHA256, payload);
    assert(chars > 0);
    assert((size_t)chars < sizeof text);
    hmac_sha256(slice_of(signing->key, 32), slice_of(text, (size_t)chars), out_signature);
}

void chain_trailer(const struct s3_chunk_signing *signing, struct slice trailer,
                   uint8_t out_signature[32])
{
    uint8_t digest[32];
    char previous[65];
    char hex[65];
    char text[512];
    sha256_of(trailer, digest);
    text_hex(slice_of(signing->previous, 32), previous);
    text_hex(slice_of(digest, 32), hex);
    int chars = snprintf(text, sizeof text, "AWS4-HMAC-SHA256-TRAILER\n%s\n%s\n%s\n%s",
                         signing->date, signing->scope, previous, hex);
    assert(chars > 0);
    assert((size_t)chars < sizeof text);
    hmac_sha256(slice_of(signing->key, 32), slice_of(text, (size_t)chars), out_signature);
}

void chain_request(const uint8_t key[32], struct slice date, struct slice scope,
                   struct slice canonical, struct bytes *out_string, uint8_t out_signature[32])
{
    uint8_t digest[32];
    char hex[65];
    sha256_of(canonical, digest);
    text_hex(slice_of(digest, 32), hex);
    bytes_append_text(out_string, "AWS4-HMAC-SHA256\n");
    bytes_append(out_string, date);
    bytes_append_byte(out_string, '\n');
    bytes_append(out_string, scope);
    bytes_append_byte(out_string, '\n');
    bytes_append_text(out_string, hex);
    assert(!out_string->overflow);
    hmac_sha256(slice_of(key, 32), bytes_slice(out_string), out_signature);
}
