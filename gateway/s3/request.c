/* From a head to a request: target, addressing, the table of headers, and the accessors. */
#include "s3/request.h"
#include "base/mem.h"
#include "parsed.h"
#include "s3/name.h"
#include <assert.h>

struct slice append_lower(struct bytes *arena, struct slice text)
{
    assert(arena->capacity - arena->bytes >= text.bytes);
    uint8_t *lower = bytes_extend(arena, text.bytes);
    for (size_t i = 0; i < text.bytes; i++) {
        uint8_t c = text.data[i];
        lower[i] = c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
    }
    return slice_of(lower, text.bytes);
}

/* Room for `bytes` bytes that will not move: slices into the arena stay valid while it fills. */
static void reserve(struct bytes *arena, size_t bytes)
{
    arena->max = bytes + 1;
    (void)bytes_extend(arena, bytes + 1); /* within max: cannot overflow */
    bytes_clear(arena);
}

const struct view_header *view_find(const struct s3_request *request, const char *name)
{
    struct slice wanted = slice_of_text(name);
    for (uint32_t i = 0; i < request->header_count; i++) {
        if (slice_equal(request->headers[i].name, wanted))
            return &request->headers[i];
    }
    return NULL;
}

const struct s3_pair *query_find(const struct s3_request *request, const char *name)
{
    struct slice wanted = slice_of_text(name);
    for (uint32_t i = 0; i < request->query_count; i++) {
        if (slice_equal(request->query[i].name, wanted))
            return &request->query[i];
    }
    return NULL;
}

const struct s3_pair *query_find_nocase(const struct s3_request *request, const char *name)
{
    struct slice wanted = slice_of_text(name);
    for (uint32_t i = 0; i < request->query_count; i++) {
        if (slice_equal_nocase(request->query[i].name, wanted))
            return &request->query[i];
    }
    return NULL;
}

static enum s3_error parse_method(struct s3_request *request)
{
    static const char *const names[] = {
        [S3_GET] = "GET",   [S3_HEAD] = "HEAD",     [S3_PUT] = "PUT",
        [S3_POST] = "POST", [S3_DELETE] = "DELETE", [S3_OPTIONS] = "OPTIONS",
    };
    for (int i = S3_GET; i <= S3_OPTIONS; i++) {
        if (slice_equal_text(request->head->method, names[i])) {
            request->method = (enum s3_method)i;
            return S3_OK;
        }
    }
    return S3_FAIL(S3_METHOD_NOT_ALLOWED, "method unknown");
}

/* The origin form of the target. The absolute form (RFC 9112 §3.2.2) must name the host that is
 * signed. */
static enum s3_error origin_form(const struct s3_head *head, struct slice *out_target)
{
    struct slice target = head->target;
    bool is_http = slice_equal_nocase(slice_first(target, 7), SLICE_LITERAL("http://"));
    bool is_https = slice_equal_nocase(slice_first(target, 8), SLICE_LITERAL("https://"));
    if (is_http || is_https) {
        const struct s3_header *host = s3_head_find(head, "host");
        target = slice_skip(target, is_http ? 7 : 8);
        size_t authority_bytes = slice_find(target, '/');
        if (host == NULL || !slice_equal_nocase(slice_first(target, authority_bytes), host->value))
            return S3_FAIL(S3_INVALID_URI, "authority of the target is not the host");
        target = slice_skip(target, authority_bytes);
    }
    if (target.bytes == 0 || target.data[0] != '/')
        return S3_FAIL(S3_INVALID_URI, "target does not start with a slash");
    *out_target = target;
    return S3_OK;
}

static enum s3_error check_query(const struct s3_request *request, struct s3_failure *failure)
{
    for (uint32_t i = 0; i < request->query_count; i++) {
        struct slice name = request->query[i].name;
        bool is_amz = slice_equal_nocase(slice_first(name, 6), SLICE_LITERAL("x-amz-"));
        for (uint32_t j = 0; j < i; j++) {
            struct slice other = request->query[j].name;
            if (is_amz ? slice_equal_nocase(name, other) : slice_equal(name, other))
                return s3_fail_argument(failure, "query", name,
                                        "A query parameter must not be repeated.");
        }
    }
    return S3_OK;
}

static enum s3_error parse_target(struct s3_request *request, struct s3_failure *failure)
{
    struct slice target = {0};
    TRY(origin_form(request->head, &target));
    struct slice raw_path = slice_first(target, slice_find(target, '?'));
    struct slice raw_query = slice_skip(target, raw_path.bytes + 1);
    reserve(&request->path_bytes, raw_path.bytes);
    reserve(&request->query_bytes, raw_query.bytes);
    TRY(s3_uri_decode(&request->path_bytes, raw_path, false));
    request->path = bytes_slice(&request->path_bytes);
    TRY(s3_uri_split_query(raw_query, &request->query_bytes, request->query, S3_QUERY_PAIRS_MAX,
                           &request->query_count));
    return check_query(request, failure);
}

/* Every byte of the headers once, a comma for each repetition; a parameter may become a header. */
static size_t view_bytes(const struct s3_head *head)
{
    size_t bytes = head->target.bytes;
    for (uint32_t i = 0; i < head->header_count; i++)
        bytes += head->headers[i].name.bytes + head->headers[i].value.bytes + 1;
    return bytes;
}

static bool seen_before(const struct s3_head *head, uint32_t index)
{
    for (uint32_t i = 0; i < index; i++) {
        if (slice_equal_nocase(head->headers[i].name, head->headers[index].name))
            return true;
    }
    return false;
}

/* The values of all headers called like the one at `first`, joined by commas. */
static struct slice joined_value(const struct s3_head *head, uint32_t first, struct bytes *arena,
                                 bool *out_repeated)
{
    size_t start = arena->bytes;
    uint32_t count = 0;
    for (uint32_t i = first; i < head->header_count; i++) {
        if (!slice_equal_nocase(head->headers[i].name, head->headers[first].name))
            continue;
        if (count++ > 0)
            bytes_append_byte(arena, ',');
        bytes_append(arena, slice_trim(head->headers[i].value));
    }
    *out_repeated = count > 1;
    return slice_of(arena->data + start, arena->bytes - start);
}

static void build_view(struct s3_request *request)
{
    const struct s3_head *head = request->head;
    reserve(&request->header_bytes, view_bytes(head));
    for (uint32_t i = 0; i < head->header_count; i++) {
        if (seen_before(head, i))
            continue;
        struct view_header *view = &request->headers[request->header_count++];
        view->name = append_lower(&request->header_bytes, head->headers[i].name);
        view->value = joined_value(head, i, &request->header_bytes, &view->is_repeated);
    }
    assert(!request->header_bytes.overflow);
}

/* Host without port; brackets of an IPv6 address stay. */
static struct slice host_name(struct slice host)
{
    for (size_t i = host.bytes; i > 0; i--) {
        uint8_t c = host.data[i - 1];
        if (c == ':')
            return slice_first(host, i - 1);
        if (c < '0' || c > '9')
            break;
    }
    return host;
}

/* The bucket in front of one of the configured domains, or empty. */
static struct slice bucket_of_host(const struct s3_request *request)
{
    const struct s3_config *config = request->config;
    const struct view_header *host = view_find(request, "host");
    struct slice name = host == NULL ? (struct slice){0} : host_name(host->value);
    for (uint32_t i = 0; i < config->domain_count; i++) {
        struct slice domain = slice_of_text(config->domains[i]);
        if (name.bytes <= domain.bytes + 1)
            continue;
        size_t label_bytes = name.bytes - domain.bytes - 1;
        if (name.data[label_bytes] == '.' &&
            slice_equal_nocase(slice_skip(name, label_bytes + 1), domain))
            return slice_first(name, label_bytes);
    }
    return (struct slice){0};
}

static enum s3_error parse_address(struct s3_request *request)
{
    struct slice rest = slice_skip(request->path, 1);
    request->bucket = bucket_of_host(request);
    request->bucket_from_host = request->bucket.bytes > 0;
    if (!request->bucket_from_host) {
        request->bucket = slice_first(rest, slice_find(rest, '/'));
        if (request->bucket.bytes == 0 && rest.bytes > 0)
            return S3_FAIL(S3_INVALID_BUCKET_NAME, "path has an empty bucket");
        rest = slice_skip(rest, request->bucket.bytes + 1);
    }
    request->key = rest;
    if (request->bucket.bytes > 0 && !s3_bucket_name_valid(request->bucket))
        return S3_FAIL(S3_INVALID_BUCKET_NAME, "bucket name bytes=%zu", request->bucket.bytes);
    return request->key.bytes == 0 ? S3_OK : s3_key_check(request->key);
}

static enum s3_error parse(struct s3_request *request, struct s3_failure *failure)
{
    TRY(parse_method(request));
    TRY(parse_target(request, failure));
    build_view(request);
    TRY(parse_address(request));
    /* A preflight has the target of the request that it asks for, so perhaps a signature over
     * headers that it does not have. */
    if (request->method != S3_OPTIONS)
        TRY(credential_parse(request, failure));
    TRY(payload_parse(request, failure));
    return route_request(request, failure);
}

enum s3_error s3_request_new(const struct s3_head *head, const struct s3_config *config,
                             struct s3_failure *failure, struct s3_request **out_request)
{
    assert(head->header_count <= S3_HEADERS_MAX);
    assert(head->target.bytes <= S3_TARGET_BYTES_MAX);
    AUTO(s3_request) request = mem_new(struct s3_request);
    request->head = head;
    request->config = config;
    TRY(parse(request, failure));
    *out_request = TAKE(request);
    return S3_OK;
}

void s3_request_free(struct s3_request *request)
{
    if (request == NULL)
        return;
    bytes_deinit(&request->path_bytes);
    bytes_deinit(&request->query_bytes);
    bytes_deinit(&request->header_bytes);
    s3_form_free(request->form);
    explicit_bzero(&request->chunk_signing, sizeof request->chunk_signing);
    mem_free(request);
}

enum s3_method s3_request_method(const struct s3_request *request)
{
    return request->method;
}

enum s3_operation s3_request_operation(const struct s3_request *request)
{
    return request->operation;
}

struct slice s3_request_bucket(const struct s3_request *request)
{
    return request->bucket;
}

struct slice s3_request_key(const struct s3_request *request)
{
    return request->key;
}

struct slice s3_request_path(const struct s3_request *request)
{
    return request->path;
}

const struct s3_credential *s3_request_credential(const struct s3_request *request)
{
    return &request->credential;
}

const struct s3_head *s3_request_head(const struct s3_request *request)
{
    return request->head;
}

bool s3_request_is_verified(const struct s3_request *request)
{
    return request->is_verified;
}

static bool has_meaning(struct slice name)
{
    static const char *const names[] = {"range", "date", "expires", "authorization", "host"};
    static const char *const prefixes[] = {"if-", "content-", "x-amz-"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (slice_equal_text(name, names[i]))
            return true;
    }
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        if (slice_starts_with(name, slice_of_text(prefixes[i])))
            return true;
    }
    return false;
}

enum s3_error check_repeated(const struct s3_request *request, struct s3_failure *failure)
{
    for (uint32_t i = 0; i < request->header_count; i++) {
        const struct view_header *header = &request->headers[i];
        if (header->is_repeated && !header->is_signed && has_meaning(header->name))
            return s3_fail_argument(failure, "header", header->name,
                                    "A header must not be repeated.");
    }
    return S3_OK;
}

enum s3_error s3_request_accept_anonymous(struct s3_request *request, struct s3_failure *failure)
{
    assert(request->credential.kind == S3_AUTH_ANONYMOUS);
    enum s3_payload_mode mode = request->payload.mode;
    if (mode == S3_PAYLOAD_CHUNKS_SIGNED || mode == S3_PAYLOAD_CHUNKS_SIGNED_TRAILER)
        return S3_FAIL(S3_ACCESS_DENIED, "signed chunks in an unsigned request");
    TRY(check_repeated(request, failure));
    request->is_verified = true;
    return S3_OK;
}

struct slice s3_request_header(const struct s3_request *request, const char *name)
{
    assert(request->is_verified);
    const struct view_header *header = view_find(request, name);
    return header == NULL ? (struct slice){0} : header->value;
}

struct slice s3_request_query(const struct s3_request *request, const char *name)
{
    assert(request->is_verified);
    const struct s3_pair *pair = query_find(request, name);
    return pair == NULL ? (struct slice){0} : pair->value;
}

static bool is_metadata(const struct view_header *header)
{
    return slice_starts_with(header->name, SLICE_LITERAL("x-amz-meta-"));
}

uint32_t s3_request_metadata_count(const struct s3_request *request)
{
    assert(request->is_verified);
    uint32_t count = 0;
    for (uint32_t i = 0; i < request->header_count; i++)
        count += is_metadata(&request->headers[i]);
    return count;
}

void s3_request_metadata_at(const struct s3_request *request, uint32_t index,
                            struct slice *out_name, struct slice *out_value)
{
    uint32_t i = 0;
    assert(index < s3_request_metadata_count(request));
    for (uint32_t left = index; !is_metadata(&request->headers[i]) || left-- > 0;)
        i++;
    *out_name = slice_skip(request->headers[i].name, strlen("x-amz-meta-"));
    *out_value = request->headers[i].value;
}

enum s3_error s3_request_metadata_check(const struct s3_request *request,
                                        struct s3_failure *failure)
{
    uint32_t count = s3_request_metadata_count(request);
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct slice name = {0};
        struct slice value = {0};
        s3_request_metadata_at(request, i, &name, &value);
        if (!s3_header_name_valid(name) || !s3_header_value_valid(value))
            return s3_fail_argument(failure, "x-amz-meta-", name,
                                    "The name or the value of a metadata entry is not valid.");
        bytes += name.bytes + value.bytes;
    }
    if (bytes > S3_METADATA_BYTES_MAX)
        return S3_FAIL(S3_METADATA_TOO_LARGE, "metadata bytes=%zu", bytes);
    return S3_OK;
}

const struct s3_payload *s3_request_payload(const struct s3_request *request)
{
    assert(request->is_verified);
    return &request->payload;
}

const struct s3_chunk_signing *s3_request_chunk_signing(const struct s3_request *request)
{
    assert(request->is_verified);
    assert(request->payload.mode == S3_PAYLOAD_CHUNKS_SIGNED ||
           request->payload.mode == S3_PAYLOAD_CHUNKS_SIGNED_TRAILER);
    return &request->chunk_signing;
}

struct slice s3_content_encoding(struct slice value)
{
    const struct slice chunked = SLICE_LITERAL("aws-chunked");
    struct slice first = slice_first(value, slice_find(value, ','));
    if (slice_equal_nocase(slice_trim(first), chunked))
        value = slice_trim(slice_skip(value, first.bytes + 1));
    for (size_t i = value.bytes; i > 0; i--) {
        if (value.data[i - 1] != ',')
            continue;
        if (slice_equal_nocase(slice_trim(slice_skip(value, i)), chunked))
            value = slice_trim(slice_first(value, i - 1));
        break;
    }
    return value;
}

enum s3_error s3_copy_source_parse(struct slice value, struct bytes *arena,
                                   struct s3_failure *failure, struct s3_copy_source *out_source)
{
    static const char *const header = "x-amz-copy-source";
    struct s3_copy_source source = {0};
    size_t question = slice_find(value, '?');
    struct slice raw_version = slice_skip(value, question + 1);
    struct slice path = slice_first(value, question);
    assert(arena->bytes == 0);
    assert(arena->max >= value.bytes);
    reserve(arena, value.bytes);
    if (s3_uri_decode(arena, path, false) != S3_OK)
        return s3_fail_argument(failure, header, value, "Invalid copy source encoding");
    path = bytes_slice(arena);
    if (question < value.bytes) {
        if (!slice_starts_with(raw_version, SLICE_LITERAL("versionId=")))
            return s3_fail_argument(failure, header, value, "Invalid copy source object key");
        size_t start = arena->bytes;
        if (s3_uri_decode(arena, slice_skip(raw_version, 10), true) != S3_OK)
            return s3_fail_argument(failure, header, value, "Invalid copy source encoding");
        source.version_id = slice_of(arena->data + start, arena->bytes - start);
    }
    if (path.bytes > 0 && path.data[0] == '/')
        path = slice_skip(path, 1);
    source.bucket = slice_first(path, slice_find(path, '/'));
    source.key = slice_skip(path, source.bucket.bytes + 1);
    if (!s3_bucket_name_valid(source.bucket))
        return s3_fail_argument(failure, header, value, "Invalid copy source bucket name");
    if (source.key.bytes == 0)
        return s3_fail_argument(failure, header, source.key, "Invalid copy source object key");
    TRY(s3_key_check(source.key));
    *out_source = source;
    return S3_OK;
}
