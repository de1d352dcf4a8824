/* Signing, written apart from the verifier: it works on raw text, not on a parsed request. */
#include "s3/signer.h"
#include "base/mem.h"
#include "base/text.h"
#include "chain.h"
#include "hmac.h"
#include "s3/date.h"
#include "s3/sigv4.h"
#include "s3/uri.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIGNER_TEXT_BYTES_MAX = 256 << 10 };

static int compare_names(const void *left, const void *right)
{
    const struct s3_header *const *a = left;
    const struct s3_header *const *b = right;
    size_t common = (*a)->name.bytes < (*b)->name.bytes ? (*a)->name.bytes : (*b)->name.bytes;
    for (size_t i = 0; i < common; i++) {
        int x = (*a)->name.data[i] | 0x20;
        int y = (*b)->name.data[i] | 0x20;
        if (x != y)
            return x - y;
    }
    return ((*a)->name.bytes > (*b)->name.bytes) - ((*a)->name.bytes < (*b)->name.bytes);
}

static void append_lower_name(struct bytes *out, struct slice name)
{
    for (size_t i = 0; i < name.bytes; i++) {
        uint8_t c = name.data[i];
        bytes_append_byte(out, c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c);
    }
}

static void sort_headers(const struct s3_head *head, const struct s3_header **sorted)
{
    for (uint32_t i = 0; i < head->header_count; i++)
        sorted[i] = &head->headers[i];
    qsort(sorted, head->header_count, sizeof sorted[0], compare_names);
}

/* Names in order, separated by semicolons. */
static void append_signed_names(const struct s3_head *head, struct bytes *out)
{
    const struct s3_header *sorted[S3_HEADERS_MAX];
    sort_headers(head, sorted);
    for (uint32_t i = 0; i < head->header_count; i++) {
        if (i > 0)
            bytes_append_byte(out, ';');
        append_lower_name(out, sorted[i]->name);
    }
}

static void append_header_lines(const struct s3_head *head, struct bytes *out)
{
    const struct s3_header *sorted[S3_HEADERS_MAX];
    sort_headers(head, sorted);
    for (uint32_t i = 0; i < head->header_count; i++) {
        struct slice value = slice_trim(sorted[i]->value);
        append_lower_name(out, sorted[i]->name);
        bytes_append_byte(out, ':');
        bool in_space = false;
        for (size_t j = 0; j < value.bytes; j++) {
            bool is_space = value.data[j] == ' ' || value.data[j] == '\t';
            if (!is_space || !in_space)
                bytes_append_byte(out, is_space ? ' ' : value.data[j]);
            in_space = is_space;
        }
        bytes_append_byte(out, '\n');
    }
}

static int compare_text(const void *left, const void *right)
{
    const char *const *a = left;
    const char *const *b = right;
    /* '=' must sort below all that may stand in a name: compare names first, then values. */
    size_t a_name = strcspn(*a, "=");
    size_t b_name = strcspn(*b, "=");
    int order = slice_compare(slice_of(*a, a_name), slice_of(*b, b_name));
    return order != 0 ? order : strcmp(*a, *b);
}

static char *encode_pair(struct slice raw_pair)
{
    size_t equals = slice_find(raw_pair, '=');
    AUTO_VALUE(bytes) decoded = {.max = SIGNER_TEXT_BYTES_MAX};
    AUTO_VALUE(bytes) encoded = {.max = SIGNER_TEXT_BYTES_MAX};
    enum s3_error error = s3_uri_decode(&decoded, slice_first(raw_pair, equals), true);
    assert(error == S3_OK);
    s3_uri_encode(&encoded, bytes_slice(&decoded), false);
    bytes_append_byte(&encoded, '=');
    bytes_clear(&decoded);
    error = s3_uri_decode(&decoded, slice_skip(raw_pair, equals + 1), true);
    assert(error == S3_OK);
    s3_uri_encode(&encoded, bytes_slice(&decoded), false);
    return slice_to_text(bytes_slice(&encoded));
}

static void append_canonical_query(struct slice query, struct bytes *out)
{
    char *pairs[S3_QUERY_PAIRS_MAX];
    uint32_t count = 0;
    while (query.bytes > 0) {
        struct slice pair = slice_first(query, slice_find(query, '&'));
        query = slice_skip(query, pair.bytes + 1);
        if (pair.bytes == 0)
            continue;
        assert(count < S3_QUERY_PAIRS_MAX);
        pairs[count++] = encode_pair(pair);
    }
    qsort(pairs, count, sizeof pairs[0], compare_text);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            bytes_append_byte(out, '&');
        bytes_append_text(out, pairs[i]);
        mem_free(pairs[i]);
    }
}

static void append_canonical(const struct s3_head *head, struct slice target,
                             struct slice payload_line, struct bytes *out)
{
    struct slice raw_path = slice_first(target, slice_find(target, '?'));
    AUTO_VALUE(bytes) path = {.max = SIGNER_TEXT_BYTES_MAX};
    enum s3_error error = s3_uri_decode(&path, raw_path, false);
    assert(error == S3_OK);
    bytes_append(out, head->method);
    bytes_append_byte(out, '\n');
    s3_uri_encode(out, bytes_slice(&path), true);
    bytes_append_byte(out, '\n');
    append_canonical_query(slice_skip(target, raw_path.bytes + 1), out);
    bytes_append_byte(out, '\n');
    append_header_lines(head, out);
    bytes_append_byte(out, '\n');
    append_signed_names(head, out);
    bytes_append_byte(out, '\n');
    bytes_append(out, payload_line);
    assert(!out->overflow);
}

/* Start of a chain: key, date and scope of the signer. */
static struct s3_chunk_signing chain_start(const struct s3_signer *signer)
{
    struct s3_chunk_signing signing = {0};
    s3_date_format_basic(signer->now_ms, signing.date);
    struct slice day = slice_of(signing.date, 8);
    int chars = snprintf(signing.scope, sizeof signing.scope, "%.*s/%.*s/s3/aws4_request",
                         SLICE_PRINT(day), SLICE_PRINT(signer->region));
    assert(chars > 0);
    assert((size_t)chars < sizeof signing.scope);
    s3_signing_key_derive(signer->secret, day, signer->region, signing.key);
    return signing;
}

/* Signature of `head` with another target; moves the chain on to it. */
static void sign(struct s3_chunk_signing *signing, const struct s3_head *head, struct slice target,
                 struct slice payload_line)
{
    AUTO_VALUE(bytes) canonical = {.max = SIGNER_TEXT_BYTES_MAX};
    AUTO_VALUE(bytes) text = {.max = 1024};
    append_canonical(head, target, payload_line, &canonical);
    chain_request(signing->key, slice_of_text(signing->date), slice_of_text(signing->scope),
                  bytes_slice(&canonical), &text, signing->previous);
}

static struct slice payload_line_of(const struct s3_head *head)
{
    const struct s3_header *header = s3_head_find(head, "x-amz-content-sha256");
    return header == NULL ? SLICE_LITERAL("UNSIGNED-PAYLOAD") : header->value;
}

void s3_signer_authorize(const struct s3_signer *signer, const struct s3_head *head,
                         struct bytes *out, struct s3_chunk_signing *out_signing)
{
    struct s3_chunk_signing signing = chain_start(signer);
    char hex[65];
    sign(&signing, head, head->target, payload_line_of(head));
    text_hex(slice_of(signing.previous, 32), hex);
    bytes_append_format(out, "AWS4-HMAC-SHA256 Credential=%.*s/%s, SignedHeaders=",
                        SLICE_PRINT(signer->access_key), signing.scope);
    append_signed_names(head, out);
    bytes_append_format(out, ", Signature=%s", hex);
    if (out_signing != NULL)
        *out_signing = signing;
}

void s3_signer_presign(const struct s3_signer *signer, const struct s3_head *head,
                       uint64_t expires_seconds, struct bytes *out)
{
    struct s3_chunk_signing signing = chain_start(signer);
    char hex[65];
    size_t start = out->bytes;
    AUTO_VALUE(bytes) names = {.max = S3_HEAD_BYTES_MAX};
    append_signed_names(head, &names);
    bytes_append(out, head->target);
    bytes_append_byte(out, slice_find(head->target, '?') < head->target.bytes ? '&' : '?');
    bytes_append_text(out, "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=");
    s3_uri_encode(out, signer->access_key, false);
    bytes_append_text(out, "%2F");
    s3_uri_encode(out, slice_of_text(signing.scope), false);
    bytes_append_format(out, "&X-Amz-Date=%s&X-Amz-Expires=%llu&X-Amz-SignedHeaders=", signing.date,
                        (unsigned long long)expires_seconds);
    s3_uri_encode(out, bytes_slice(&names), false);
    sign(&signing, head, slice_skip(bytes_slice(out), start), payload_line_of(head));
    text_hex(slice_of(signing.previous, 32), hex);
    bytes_append_format(out, "&X-Amz-Signature=%s", hex);
}

void s3_signer_presign_v2(const struct s3_signer *signer, const struct s3_head *head,
                          struct slice resource, uint64_t expires_at_seconds, struct bytes *out)
{
    const struct s3_header *md5 = s3_head_find(head, "content-md5");
    const struct s3_header *type = s3_head_find(head, "content-type");
    const struct s3_header *sorted[S3_HEADERS_MAX];
    uint8_t signature[20];
    AUTO_VALUE(bytes) text = {.max = SIGNER_TEXT_BYTES_MAX};
    AUTO_VALUE(bytes) base64 = {.max = 64};
    bytes_append_format(&text, "%.*s\n%.*s\n%.*s\n%llu\n", SLICE_PRINT(head->method),
                        SLICE_PRINT(md5 == NULL ? slice_of(NULL, 0) : md5->value),
                        SLICE_PRINT(type == NULL ? slice_of(NULL, 0) : type->value),
                        (unsigned long long)expires_at_seconds);
    sort_headers(head, sorted);
    for (uint32_t i = 0; i < head->header_count; i++) {
        if (!slice_equal_nocase(slice_first(sorted[i]->name, 6), SLICE_LITERAL("x-amz-")))
            continue;
        append_lower_name(&text, sorted[i]->name);
        bytes_append_format(&text, ":%.*s\n", SLICE_PRINT(slice_trim(sorted[i]->value)));
    }
    bytes_append(&text, resource);
    hmac_sha1(signer->secret, bytes_slice(&text), signature);
    text_base64(&base64, slice_of(signature, sizeof signature));
    bytes_append(out, head->target);
    bytes_append_byte(out, slice_find(head->target, '?') < head->target.bytes ? '&' : '?');
    bytes_append_text(out, "AWSAccessKeyId=");
    s3_uri_encode(out, signer->access_key, false);
    bytes_append_format(out, "&Expires=%llu&Signature=", (unsigned long long)expires_at_seconds);
    s3_uri_encode(out, bytes_slice(&base64), false);
}

void s3_signer_chunk(struct s3_chunk_signing *signing, struct slice payload, struct bytes *out)
{
    bytes_append_format(out, "%zx", payload.bytes);
    if (signing != NULL) {
        uint8_t digest[32];
        uint8_t signature[32];
        char hex[65];
        sha256_of(payload, digest);
        chain_chunk(signing, digest, signature);
        memcpy(signing->previous, signature, sizeof signature);
        text_hex(slice_of(signature, sizeof signature), hex);
        bytes_append_format(out, ";chunk-signature=%s", hex);
    }
    bytes_append_text(out, "\r\n");
    bytes_append(out, payload);
    if (payload.bytes > 0)
        bytes_append_text(out, "\r\n");
}

void s3_signer_trailer(struct s3_chunk_signing *signing, const struct s3_header *trailers,
                       uint32_t count, struct bytes *out)
{
    AUTO_VALUE(bytes) text = {.max = 2 * S3_TRAILER_BYTES_MAX};
    for (uint32_t i = 0; i < count; i++) {
        struct slice name = trailers[i].name;
        struct slice value = trailers[i].value;
        bytes_append_format(&text, "%.*s:%.*s\n", SLICE_PRINT(name), SLICE_PRINT(value));
        bytes_append_format(out, "%.*s:%.*s\r\n", SLICE_PRINT(name), SLICE_PRINT(value));
    }
    if (signing != NULL) {
        char hex[65];
        uint8_t signature[32];
        chain_trailer(signing, bytes_slice(&text), signature);
        memcpy(signing->previous, signature, sizeof signature);
        text_hex(slice_of(signature, sizeof signature), hex);
        bytes_append_format(out, "x-amz-trailer-signature:%s\r\n", hex);
    }
    bytes_append_text(out, "\r\n");
}
