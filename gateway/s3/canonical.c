/* Canonical request of version 4 and string to sign of version 2. */
#include "canonical.h"
#include <assert.h>
#include <stdlib.h>

/* A pair with its encoded name and value in one arena. */
struct encoded_pair {
    struct slice name;
    struct slice value;
    bool has_equals;
};

static int compare_pairs(const void *left, const void *right)
{
    const struct encoded_pair *a = left;
    const struct encoded_pair *b = right;
    return slice_compare(a->name, b->name);
}

static struct slice append_encoded(struct bytes *arena, struct slice text)
{
    size_t start = arena->bytes;
    s3_uri_encode(arena, text, false);
    assert(!arena->overflow);
    return slice_of(arena->data + start, arena->bytes - start);
}

/* Sorted by encoded name; names are distinct. X-Amz-Signature cannot sign itself. */
static void append_query_v4(const struct s3_request *request, struct bytes *out)
{
    struct encoded_pair pairs[S3_QUERY_PAIRS_MAX];
    uint32_t count = 0;
    size_t encoded_max = 3 * request->query_bytes.bytes + 1;
    AUTO_VALUE(bytes) arena = {.max = encoded_max};
    (void)bytes_extend(&arena, encoded_max); /* room first, so that slices into it stay */
    bytes_clear(&arena);
    for (uint32_t i = 0; i < request->query_count; i++) {
        const struct s3_pair *pair = &request->query[i];
        if (request->credential.kind == S3_AUTH_V4_QUERY &&
            slice_equal_nocase(pair->name, SLICE_LITERAL("x-amz-signature")))
            continue;
        pairs[count].name = append_encoded(&arena, pair->name);
        pairs[count++].value = append_encoded(&arena, pair->value);
    }
    qsort(pairs, count, sizeof pairs[0], compare_pairs);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            bytes_append_byte(out, '&');
        bytes_append(out, pairs[i].name);
        bytes_append_byte(out, '=');
        bytes_append(out, pairs[i].value);
    }
}

/* Runs of spaces count as one. */
static void append_collapsed(struct bytes *out, struct slice value)
{
    size_t i = 0;
    while (i < value.bytes) {
        size_t word = i;
        while (word < value.bytes && value.data[word] != ' ' && value.data[word] != '\t')
            word++;
        bytes_append(out, slice_of(value.data + i, word - i));
        i = word;
        while (i < value.bytes && (value.data[i] == ' ' || value.data[i] == '\t'))
            i++;
        if (i > word)
            bytes_append_byte(out, ' ');
    }
}

/* In the order of SignedHeaders, which credential.c checked against the view. */
static void append_headers_v4(const struct s3_request *request, struct bytes *out)
{
    struct slice rest = request->claim.signed_names;
    while (rest.bytes > 0) {
        struct slice name = slice_first(rest, slice_find(rest, ';'));
        rest = slice_skip(rest, name.bytes + 1);
        for (uint32_t i = 0; i < request->header_count; i++) {
            const struct view_header *header = &request->headers[i];
            if (header->is_hoisted || !slice_equal(header->name, name))
                continue;
            bytes_append(out, name);
            bytes_append_byte(out, ':');
            append_collapsed(out, header->value);
            bytes_append_byte(out, '\n');
        }
    }
}

void canonical_v4(const struct s3_request *request, struct bytes *out)
{
    bytes_append(out, request->head->method);
    bytes_append_byte(out, '\n');
    s3_uri_encode(out, request->path, true);
    bytes_append_byte(out, '\n');
    append_query_v4(request, out);
    bytes_append_byte(out, '\n');
    append_headers_v4(request, out);
    bytes_append_byte(out, '\n');
    bytes_append(out, request->claim.signed_names);
    bytes_append_byte(out, '\n');
    bytes_append(out, request->payload_line);
    assert(!out->overflow);
}

bool canonical_v2_signs(struct slice name)
{
    static const char *const names[] = {
        "accelerate",     "acl",         "analytics",  "cors",        "delete",
        "inventory",      "lifecycle",   "location",   "logging",     "metrics",
        "notification",   "object-lock", "partNumber", "policy",      "replication",
        "requestPayment", "restore",     "select",     "select-type", "storageClass",
        "tagging",        "torrent",     "uploadId",   "uploads",     "versionId",
        "versioning",     "versions",    "website",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (slice_equal_text(name, names[i]))
            return true;
    }
    return slice_starts_with(name, SLICE_LITERAL("response-"));
}

static int compare_headers(const void *left, const void *right)
{
    const struct view_header *const *a = left;
    const struct view_header *const *b = right;
    return slice_compare((*a)->name, (*b)->name);
}

static void append_headers_v2(const struct s3_request *request, struct bytes *out)
{
    const struct view_header *sorted[S3_HEADERS_MAX + S3_QUERY_PAIRS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < request->header_count; i++) {
        if (slice_starts_with(request->headers[i].name, SLICE_LITERAL("x-amz-")))
            sorted[count++] = &request->headers[i];
    }
    qsort(sorted, count, sizeof sorted[0], compare_headers);
    for (uint32_t i = 0; i < count; i++) {
        bytes_append(out, sorted[i]->name);
        bytes_append_byte(out, ':');
        bytes_append(out, sorted[i]->value);
        bytes_append_byte(out, '\n');
    }
}

static void append_resource_v2(const struct s3_request *request, struct bytes *out)
{
    struct encoded_pair pairs[S3_QUERY_PAIRS_MAX];
    uint32_t count = 0;
    if (request->bucket_from_host) {
        bytes_append_byte(out, '/');
        bytes_append(out, request->bucket);
    }
    s3_uri_encode(out, request->path, true);
    for (uint32_t i = 0; i < request->query_count; i++) {
        const struct s3_pair *pair = &request->query[i];
        if (canonical_v2_signs(pair->name))
            pairs[count++] = (struct encoded_pair){pair->name, pair->value, pair->has_equals};
    }
    qsort(pairs, count, sizeof pairs[0], compare_pairs);
    for (uint32_t i = 0; i < count; i++) {
        bytes_append_byte(out, i == 0 ? '?' : '&');
        bytes_append(out, pairs[i].name);
        if (pairs[i].has_equals)
            bytes_append_byte(out, '=');
        bytes_append(out, pairs[i].value);
    }
}

static void append_line(const struct s3_request *request, const char *name, struct bytes *out)
{
    const struct view_header *header = view_find(request, name);
    if (header != NULL)
        bytes_append(out, header->value);
    bytes_append_byte(out, '\n');
}

void canonical_v2(const struct s3_request *request, struct bytes *out)
{
    bytes_append(out, request->head->method);
    bytes_append_byte(out, '\n');
    append_line(request, "content-md5", out);
    append_line(request, "content-type", out);
    bytes_append(out, request->claim.date);
    bytes_append_byte(out, '\n');
    append_headers_v2(request, out);
    append_resource_v2(request, out);
    assert(!out->overflow);
}
