/* OPTIONS: a browser asks, without a signature, whether a page of another origin may send a
 * request (S3 API Reference, "OPTIONS object"; Fetch standard, "CORS-preflight request"). */
#include "cross_origin.h"
#include "operations.h"
#include "s3/name.h"

enum { SHOWN_BYTES_MAX = 256 }; /* of a value in a message */

static struct slice header_of(const struct context *context, const char *name)
{
    const struct s3_header *header = s3_head_find(&context->exchange->head, name);
    return header == NULL ? slice_of(NULL, 0) : header->value;
}

static enum s3_error refuse(struct context *context, struct slice method, const char *why)
{
    enum s3_error error =
        S3_FAIL_SAY(&context->failure, S3_ACCESS_FORBIDDEN, "CORSResponse: %s", why);
    s3_failure_add(&context->failure, "Method", method);
    s3_failure_add(&context->failure, "ResourceType",
                   s3_request_key(context->request).bytes > 0 ? SLICE_LITERAL("OBJECT")
                                                              : SLICE_LITERAL("BUCKET"));
    return error;
}

static enum s3_error check_method(struct context *context, struct slice method)
{
    if (cors_method_valid(method))
        return S3_OK;
    struct slice shown = method.bytes == 0 ? SLICE_LITERAL("null") : method;
    return S3_FAIL_SAY(&context->failure, S3_BAD_REQUEST,
                       "Invalid Access-Control-Request-Method: %.*s",
                       SLICE_PRINT(slice_first(shown, SHOWN_BYTES_MAX)));
}

static enum s3_error check_headers(struct context *context, struct slice headers)
{
    struct slice name;
    while (cors_next_name(&headers, &name))
        if (!s3_header_name_valid(name))
            return S3_FAIL_SAY(
                &context->failure, S3_BAD_REQUEST,
                "Access-Control-Request-Headers \"%.*s\" contains invalid character.",
                SLICE_PRINT(slice_first(name, SHOWN_BYTES_MAX)));
    return S3_OK;
}

/* The names asked for, all of which are allowed. */
static void allow_headers(struct context *context, struct slice headers)
{
    AUTO_VALUE(bytes) list = {.max = 2 * S3_HEADER_LINE_BYTES_MAX};
    struct slice name;
    while (cors_next_name(&headers, &name)) {
        if (list.bytes > 0)
            bytes_append_text(&list, ", ");
        bytes_append(&list, name);
    }
    for (size_t i = 0; i < list.bytes; i++)
        if (list.data[i] >= 'A' && list.data[i] <= 'Z')
            list.data[i] = (uint8_t)(list.data[i] - 'A' + 'a');
    if (list.bytes > 0 && !list.overflow)
        exchange_header(context->exchange, "Access-Control-Allow-Headers", bytes_slice(&list));
}

enum s3_error op_preflight(struct io *io, struct context *context)
{
    struct cors_question question = {
        .origin = cross_origin_of(context),
        .method = header_of(context, "access-control-request-method"),
        .headers = header_of(context, "access-control-request-headers"),
    };
    if (question.origin.bytes == 0)
        return S3_FAIL_SAY(&context->failure, S3_BAD_REQUEST,
                           "Insufficient information. Origin request header needed.");
    bool exists = false;
    enum err err = ERR_NOT_FOUND;
    context->cors_rules.max = META_BUCKET_CONFIG_BYTES_MAX;
    if (s3_request_bucket(context->request).bytes > 0)
        err = cross_origin_rules(io, context, &exists, &context->cors_rules);
    if (err == ERR_NOT_FOUND && !exists)
        return refuse(context, question.method, "Bucket not found");
    TRY(check_method(context, question.method));
    TRY(check_headers(context, question.headers));
    if (err == ERR_NOT_FOUND)
        return refuse(context, question.method, "CORS is not enabled for this bucket.");
    TRY(s3_error_from(err, "CORS lookup"));
    if (!cors_ask(bytes_slice(&context->cors_rules), &question, &context->cors))
        return refuse(context, question.method,
                      "This CORS request is not allowed. This is usually because the evalution of "
                      "Origin, request method / Access-Control-Request-Method or "
                      "Access-Control-Request-Headers are not whitelisted by the resource's CORS "
                      "spec.");
    context->has_cors = true;
    cross_origin_headers(context);
    allow_headers(context, question.headers);
    return context_respond_empty(io, context, 200);
}
