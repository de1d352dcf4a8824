/* From method, address and query to the name of the operation. */
#include "parsed.h"
#include <assert.h>

struct route {
    const char *text;
    enum s3_method method;
    enum s3_scope scope;
    const char *subresource;
    const char *requires;
};

static const struct route routes[S3_OP_END] = {
    [S3_OP_NONE] = {.text = "None", .subresource = "", .requires = ""},
#define X(name, text, method, scope, subresource, requires)                                        \
    [name] = {text, method, scope, subresource, requires},
    S3_OPERATION_LIST(X)
#undef X
};

/* Parameters that may come with an empty value and select nothing. */
static const char *const plain_parameters[] = {
    "allow-unordered",
    "bucket-region",
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "id",
    "key-marker",
    "list-type",
    "marker",
    "max-buckets",
    "max-keys",
    "max-parts",
    "max-uploads",
    "part-number-marker",
    "partNumber",
    "prefix",
    "select-type",
    "start-after",
    "upload-id-marker",
    "versionId",
    "version-id-marker",
    "AWSAccessKeyId",
    "Expires",
    "Signature",
};

const char *s3_operation_name(enum s3_operation operation)
{
    assert(operation < S3_OP_END);
    return routes[operation].text;
}

enum s3_scope s3_operation_scope(enum s3_operation operation)
{
    assert(operation > S3_OP_NONE);
    assert(operation < S3_OP_END);
    return routes[operation].scope;
}

static bool is_subresource(struct slice name)
{
    for (int op = S3_OP_NONE + 1; op < S3_OP_END; op++) {
        if (name.bytes > 0 && slice_equal_text(name, routes[op].subresource))
            return true;
    }
    return false;
}

static bool is_plain_parameter(struct slice name)
{
    for (size_t i = 0; i < sizeof plain_parameters / sizeof plain_parameters[0]; i++) {
        if (slice_equal_text(name, plain_parameters[i]))
            return true;
    }
    return slice_equal_nocase(slice_first(name, 2), SLICE_LITERAL("x-")) ||
           slice_starts_with(name, SLICE_LITERAL("response-"));
}

/* The one subresource of the query, empty when there is none. An unknown parameter without value
 * looks like a subresource of a newer API; one with a value is the client's own and ignored, as S3
 * does. */
static enum s3_error find_subresource(const struct s3_request *request, struct s3_failure *failure,
                                      struct slice *out_name)
{
    struct slice found = {0};
    for (uint32_t i = 0; i < request->query_count; i++) {
        const struct s3_pair *pair = &request->query[i];
        if (is_subresource(pair->name)) {
            if (found.bytes > 0)
                return S3_FAIL_SAY(failure, S3_INVALID_ARGUMENT,
                                   "Conflicting query string parameters: %.*s, %.*s",
                                   SLICE_PRINT(found), SLICE_PRINT(pair->name));
            found = pair->name;
        } else if (pair->value.bytes == 0 && !is_plain_parameter(pair->name)) {
            return S3_FAIL(S3_NOT_IMPLEMENTED, "unknown subresource name_bytes=%zu",
                           pair->name.bytes);
        }
    }
    *out_name = found;
    return S3_OK;
}

static bool requirement_met(const struct s3_request *request, const char *requires)
{
    if (requires[0] == '\0')
        return true;
    if (strncmp(requires, "x-amz-", 6) == 0)
        return view_find(request, requires) != NULL;
    return query_find(request, requires) != NULL;
}

static enum s3_operation find_operation(const struct s3_request *request, struct slice subresource)
{
    enum s3_scope scope = request->key.bytes > 0      ? S3_SCOPE_OBJECT
                          : request->bucket.bytes > 0 ? S3_SCOPE_BUCKET
                                                      : S3_SCOPE_SERVICE;
    /* A preflight asks about another request and carries the query of that one. */
    if (request->method == S3_OPTIONS)
        subresource = slice_of(NULL, 0);
    for (int op = S3_OP_NONE + 1; op < S3_OP_END; op++) {
        const struct route *route = &routes[op];
        if (route->method == request->method && route->scope == scope &&
            slice_equal_text(subresource, route->subresource) &&
            requirement_met(request, route->requires))
            return (enum s3_operation)op;
    }
    return S3_OP_NONE;
}

enum s3_error route_request(struct s3_request *request, struct s3_failure *failure)
{
    struct slice subresource = {0};
    TRY(find_subresource(request, failure, &subresource));
    enum s3_operation operation = find_operation(request, subresource);
    if (operation == S3_OP_NONE)
        return S3_FAIL(S3_METHOD_NOT_ALLOWED, "no operation method=%d", request->method);
    if (view_find(request, "x-amz-copy-source") != NULL && operation != S3_OP_COPY_OBJECT &&
        operation != S3_OP_UPLOAD_PART_COPY)
        return S3_FAIL_SAY(failure, S3_INVALID_ARGUMENT,
                           "You can only specify a copy source header for copy requests.");
    request->operation = operation;
    return S3_OK;
}
