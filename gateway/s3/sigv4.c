/* Verification: time, coverage, signature, in this order; and the cache of keys. */
#include "s3/sigv4.h"
#include "base/hash.h"
#include "base/text.h"
#include "canonical.h"
#include "chain.h"
#include "hmac.h"
#include "parsed.h"
#include "s3/date.h"
#include <assert.h>
#include <openssl/crypto.h>
#include <stdio.h>

/* Stands in for the secret of an unknown key, so that it costs what a known one costs. */
static const char dummy_secret[] = "no such access key: these bytes sign nothing";

void s3_signing_cache_deinit(struct s3_signing_cache *cache)
{
    explicit_bzero(cache, sizeof *cache);
}

static struct s3_signing_slot *cache_slot(struct s3_signing_cache *cache,
                                          const struct s3_credential *credential)
{
    uint64_t hash = hash64_of(credential->access_key) * 31 + hash64_of(credential->date);
    hash = hash * 31 + hash64_of(credential->region);
    return &cache->slots[hash % S3_SIGNING_CACHE_SLOTS];
}

static bool slot_holds(const struct s3_signing_slot *slot, struct slice secret,
                       const struct s3_credential *credential)
{
    return slot->secret_bytes == secret.bytes &&
           CRYPTO_memcmp(slot->secret, secret.data, secret.bytes) == 0 &&
           slice_equal(slice_of(slot->date, 8), credential->date) &&
           slice_equal(slice_of(slot->region, slot->region_bytes), credential->region);
}

static void signing_key(struct s3_signing_cache *cache, struct slice secret,
                        const struct s3_credential *credential, uint8_t out_key[32])
{
    if (cache == NULL) {
        s3_signing_key_derive(secret, credential->date, credential->region, out_key);
        return;
    }
    struct s3_signing_slot *slot = cache_slot(cache, credential);
    if (!slot_holds(slot, secret, credential)) {
        assert(credential->region.bytes <= S3_REGION_BYTES_MAX);
        explicit_bzero(slot, sizeof *slot);
        slot->secret_bytes = (uint16_t)secret.bytes;
        slot->region_bytes = (uint8_t)credential->region.bytes;
        memcpy(slot->secret, secret.data, secret.bytes);
        memcpy(slot->date, credential->date.data, 8);
        memcpy(slot->region, credential->region.data, credential->region.bytes);
        s3_signing_key_derive(secret, credential->date, credential->region, slot->key);
    }
    memcpy(out_key, slot->key, 32);
}

static void add_time(struct s3_failure *failure, const char *element, uint64_t ms)
{
    char text[S3_DATE_EXTENDED_CHARS + 1];
    s3_date_format_extended(ms, text);
    s3_failure_add(failure, element, slice_of_text(text));
}

static enum s3_error check_skew(const struct s3_request *request, uint64_t now_ms,
                                struct s3_failure *failure)
{
    uint64_t time_ms = request->claim.time_ms;
    uint64_t distance_ms = now_ms > time_ms ? now_ms - time_ms : time_ms - now_ms;
    if (distance_ms <= S3_SKEW_MS_MAX)
        return S3_OK;
    enum s3_error error = S3_FAIL_SAY(failure, S3_REQUEST_TIME_TOO_SKEWED, "%s",
                                      s3_error_message(S3_REQUEST_TIME_TOO_SKEWED));
    s3_failure_add(failure, "RequestTime", request->claim.date);
    add_time(failure, "ServerTime", now_ms);
    s3_failure_add(failure, "MaxAllowedSkewMilliseconds", SLICE_LITERAL("900000"));
    return error;
}

static enum s3_error expired(const struct s3_request *request, struct s3_failure *failure,
                             uint64_t expires_ms, uint64_t now_ms)
{
    enum s3_error error = S3_FAIL_SAY(failure, S3_ACCESS_DENIED, "Request has expired.");
    if (request->credential.kind == S3_AUTH_V4_QUERY) {
        char seconds[24];
        snprintf(seconds, sizeof seconds, "%llu",
                 (unsigned long long)request->claim.expires_seconds);
        s3_failure_add(failure, "X-Amz-Expires", slice_of_text(seconds));
    }
    add_time(failure, "Expires", expires_ms);
    add_time(failure, "ServerTime", now_ms);
    return error;
}

static enum s3_error check_time(const struct s3_request *request, uint64_t now_ms,
                                struct s3_failure *failure)
{
    const struct claim *claim = &request->claim;
    uint64_t expires_ms = claim->expires_seconds * 1000;
    if (request->credential.kind == S3_AUTH_V4_HEADER)
        return check_skew(request, now_ms, failure);
    if (request->credential.kind == S3_AUTH_V2_QUERY)
        return now_ms > expires_ms ? expired(request, failure, expires_ms, now_ms) : S3_OK;
    if (request->credential.kind == S3_AUTH_V2_FORM)
        return S3_OK; /* its policy expires */
    if (claim->time_ms > now_ms + S3_SKEW_MS_MAX)
        return S3_FAIL_SAY(failure, S3_ACCESS_DENIED, "Request is not valid yet.");
    if (request->credential.kind == S3_AUTH_V4_FORM) {
        if (now_ms > claim->time_ms + S3_PRESIGN_SECONDS_MAX * UINT64_C(1000))
            return S3_FAIL_SAY(failure, S3_ACCESS_DENIED,
                               "Invalid according to Policy: Policy expired.");
        return S3_OK;
    }
    if (claim->expires_seconds == 0 || now_ms > claim->time_ms + expires_ms)
        return expired(request, failure, claim->time_ms + expires_ms, now_ms);
    return S3_OK;
}

static enum s3_error not_signed(struct s3_failure *failure, struct slice name)
{
    enum s3_error error =
        S3_FAIL_SAY(failure, S3_ACCESS_DENIED,
                    "There were headers present in the request which were not signed");
    s3_failure_add(failure, "HeadersNotSigned", name);
    return error;
}

/* An x-amz-* header that nobody signed would change what a signed request means (SECURITY.md S1).
 * The payload hash is bound by its own line. */
static enum s3_error check_coverage_v4(const struct s3_request *request, struct s3_failure *failure)
{
    const struct view_header *host = view_find(request, "host");
    if (host == NULL || !host->is_signed)
        return not_signed(failure, SLICE_LITERAL("host"));
    AUTO_VALUE(bytes) names = {.max = S3_FAILURE_DETAIL_BYTES_MAX};
    for (uint32_t i = 0; i < request->header_count; i++) {
        const struct view_header *header = &request->headers[i];
        if (header->is_signed || !slice_starts_with(header->name, SLICE_LITERAL("x-amz-")) ||
            slice_equal_text(header->name, "x-amz-content-sha256"))
            continue;
        if (names.bytes > 0)
            bytes_append_text(&names, ", ");
        bytes_append(&names, header->name);
    }
    return names.bytes > 0 ? not_signed(failure, bytes_slice(&names)) : S3_OK;
}

/* Version 2 leaves most of the query unsigned. Parameters of listings may be, as with S3; what
 * selects another operation may not. */
static enum s3_error check_coverage_v2(const struct s3_request *request, struct s3_failure *failure)
{
    static const char *const unsigned_names[] = {
        "AWSAccessKeyId",
        "Expires",
        "Signature",
        "prefix",
        "marker",
        "delimiter",
        "max-keys",
        "encoding-type",
        "list-type",
        "continuation-token",
        "start-after",
        "key-marker",
        "fetch-owner",
        "max-uploads",
        "upload-id-marker",
        "max-parts",
        "content-md5",
        "content-type",
        "part-number-marker",
        "version-id-marker",
    };
    for (uint32_t i = 0; i < request->query_count; i++) {
        struct slice name = request->query[i].name;
        bool allowed = canonical_v2_signs(name) ||
                       slice_equal_nocase(slice_first(name, 2), SLICE_LITERAL("x-"));
        for (size_t j = 0; j < sizeof unsigned_names / sizeof unsigned_names[0]; j++)
            allowed |= slice_equal_text(name, unsigned_names[j]);
        if (!allowed)
            return S3_FAIL_SAY(failure, S3_ACCESS_DENIED,
                               "A query parameter of the request cannot be signed with version "
                               "2. Please use AWS4-HMAC-SHA256.");
    }
    return S3_OK;
}

static enum s3_error mismatch(const struct s3_request *request, struct slice string_to_sign,
                              struct slice canonical, struct s3_failure *failure)
{
    enum s3_error error = S3_FAIL_SAY(failure, S3_SIGNATURE_DOES_NOT_MATCH, "%s",
                                      s3_error_message(S3_SIGNATURE_DOES_NOT_MATCH));
    s3_failure_add(failure, "AWSAccessKeyId", request->credential.access_key);
    s3_failure_add(failure, "StringToSign", string_to_sign);
    s3_failure_add(failure, "SignatureProvided", request->claim.signature);
    if (canonical.bytes > 0)
        s3_failure_add(failure, "CanonicalRequest", canonical);
    return error;
}

static enum s3_error unknown_key(const struct s3_request *request, struct s3_failure *failure)
{
    enum s3_error error = S3_FAIL_SAY(failure, S3_INVALID_ACCESS_KEY_ID, "%s",
                                      s3_error_message(S3_INVALID_ACCESS_KEY_ID));
    s3_failure_add(failure, "AWSAccessKeyId", request->credential.access_key);
    return error;
}

/* The request's signature starts the chain of its chunks. */
static enum s3_error start_chunk_chain(struct s3_request *request, const uint8_t signature[32],
                                       struct s3_failure *failure)
{
    struct s3_chunk_signing *signing = &request->chunk_signing;
    enum s3_payload_mode mode = request->payload.mode;
    if (mode != S3_PAYLOAD_CHUNKS_SIGNED && mode != S3_PAYLOAD_CHUNKS_SIGNED_TRAILER)
        return S3_OK;
    if (request->claim.date.bytes != S3_DATE_BASIC_CHARS)
        return S3_FAIL_SAY(failure, S3_INVALID_REQUEST,
                           "A signed aws-chunked payload needs the header x-amz-date.");
    assert(request->claim.scope.bytes <= S3_SCOPE_BYTES_MAX);
    memcpy(signing->previous, signature, 32);
    memcpy(signing->date, request->claim.date.data, S3_DATE_BASIC_CHARS);
    memcpy(signing->scope, request->claim.scope.data, request->claim.scope.bytes);
    return S3_OK;
}

static enum s3_error verify_v4(struct s3_request *request, struct slice secret, bool known,
                               struct s3_signing_cache *cache, struct s3_failure *failure)
{
    AUTO_VALUE(bytes) canonical = {.max = CANONICAL_BYTES_MAX};
    AUTO_VALUE(bytes) string_to_sign = {.max = 1024};
    uint8_t *key = request->chunk_signing.key; /* wiped with the request */
    uint8_t expected[32];
    uint8_t provided[32] = {0};
    TRY(check_coverage_v4(request, failure));
    canonical_v4(request, &canonical);
    signing_key(cache, secret, &request->credential, key);
    chain_request(key, request->claim.date, request->claim.scope, bytes_slice(&canonical),
                  &string_to_sign, expected);
    bool is_hex = text_parse_hex(request->claim.signature, provided, sizeof provided) == OK;
    bool equal = CRYPTO_memcmp(expected, provided, sizeof expected) == 0;
    if (!known)
        return unknown_key(request, failure);
    if (!is_hex || !equal)
        return mismatch(request, bytes_slice(&string_to_sign), bytes_slice(&canonical), failure);
    return start_chunk_chain(request, expected, failure);
}

static enum s3_error verify_v2(struct s3_request *request, struct slice secret, bool known,
                               struct s3_failure *failure)
{
    AUTO_VALUE(bytes) text = {.max = CANONICAL_BYTES_MAX};
    uint8_t expected[20];
    uint8_t provided[20] = {0};
    size_t provided_bytes = 0;
    TRY(check_coverage_v2(request, failure));
    canonical_v2(request, &text);
    hmac_sha1(secret, bytes_slice(&text), expected);
    bool is_base64 = text_parse_base64(request->claim.signature, provided, sizeof provided,
                                       &provided_bytes) == OK &&
                     provided_bytes == sizeof provided;
    bool equal = CRYPTO_memcmp(expected, provided, sizeof expected) == 0;
    if (!known)
        return unknown_key(request, failure);
    if (!is_base64 || !equal)
        return mismatch(request, bytes_slice(&text), slice_of(NULL, 0), failure);
    return S3_OK;
}

/* StringToSignBytes of the answer: "65 79 4a ...". */
static void add_bytes(struct s3_failure *failure, struct slice text)
{
    AUTO_VALUE(bytes) shown = {.max = S3_FAILURE_DETAIL_BYTES_MAX};
    for (size_t i = 0; i < text.bytes; i++)
        bytes_append_format(&shown, i == 0 ? "%02x" : " %02x", text.data[i]);
    s3_failure_add(failure, "StringToSignBytes", bytes_slice(&shown));
}

/* What is signed is the policy as it was sent (S3 API Reference, "Authenticating Requests in
 * Browser-Based Uploads Using POST"; version 2: User Guide, "Constructing a signature"). */
static enum s3_error verify_form(struct s3_request *request, struct slice secret, bool known,
                                 struct s3_signing_cache *cache, struct s3_failure *failure)
{
    const struct claim *claim = &request->claim;
    uint8_t expected[32] = {0};
    uint8_t provided[32] = {0};
    bool readable;
    if (request->credential.kind == S3_AUTH_V4_FORM) {
        uint8_t key[S3_SIGNING_KEY_BYTES];
        signing_key(cache, secret, &request->credential, key);
        hmac_sha256(slice_of(key, sizeof key), claim->policy, expected);
        OPENSSL_cleanse(key, sizeof key);
        readable = text_parse_hex(claim->signature, provided, sizeof provided) == OK;
    } else {
        size_t bytes = 0;
        hmac_sha1(secret, claim->policy, expected);
        readable = text_parse_base64(claim->signature, provided, 20, &bytes) == OK && bytes == 20;
    }
    bool equal = CRYPTO_memcmp(expected, provided, sizeof expected) == 0;
    if (!known)
        return unknown_key(request, failure);
    if (readable && equal)
        return S3_OK;
    enum s3_error error = mismatch(request, claim->policy, slice_of(NULL, 0), failure);
    add_bytes(failure, claim->policy);
    return error;
}

static enum s3_error check_unsigned_payload(const struct s3_request *request,
                                            struct s3_failure *failure)
{
    enum s3_payload_mode mode = request->payload.mode;
    bool has_body = request->method == S3_PUT || request->method == S3_POST;
    bool is_unsigned = mode == S3_PAYLOAD_UNSIGNED || mode == S3_PAYLOAD_CHUNKS_UNSIGNED_TRAILER;
    if (request->config->refuse_unsigned_payload && has_body && is_unsigned && !request->head->tls)
        return S3_FAIL_SAY(failure, S3_ACCESS_DENIED,
                           "An unsigned payload is refused without TLS.");
    return S3_OK;
}

enum s3_error s3_auth_verify(struct s3_request *request, struct slice secret,
                             struct s3_signing_cache *cache, uint64_t now_ms,
                             struct s3_failure *failure)
{
    bool known = secret.data != NULL;
    assert(request->credential.kind != S3_AUTH_ANONYMOUS);
    assert(!request->is_verified);
    assert(!known || secret.bytes > 0);
    assert(secret.bytes <= S3_SECRET_BYTES_MAX);
    if (!known)
        secret = slice_of_text(dummy_secret);
    TRY(check_time(request, now_ms, failure));
    if (request->form != NULL)
        TRY(verify_form(request, secret, known, cache, failure));
    else if (request->credential.kind == S3_AUTH_V2_QUERY)
        TRY(verify_v2(request, secret, known, failure));
    else
        TRY(verify_v4(request, secret, known, cache, failure));
    TRY(check_repeated(request, failure));
    TRY(check_unsigned_payload(request, failure));
    request->is_verified = true;
    return S3_OK;
}
