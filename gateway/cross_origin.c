/* See cross_origin.h. */
#include "cross_origin.h"

struct slice cross_origin_of(const struct context *context)
{
    const struct s3_header *header = s3_head_find(&context->exchange->head, "origin");
    return header == NULL ? slice_of(NULL, 0) : header->value;
}

enum err cross_origin_rules(struct io *io, struct context *context, bool *out_exists,
                            struct bytes *out_rules)
{
    struct meta_client *meta = context->gateway->options.meta;
    struct bucket bucket;
    *out_exists = false;
    TRY(meta_bucket_find(io, meta, s3_request_bucket(context->request), &bucket));
    *out_exists = true;
    return meta_bucket_config_find(io, meta, bucket.id, BUCKET_CONFIG_CORS, out_rules);
}

void cross_origin_prepare(struct io *io, struct context *context)
{
    struct slice origin = cross_origin_of(context);
    if (origin.data == NULL || s3_request_bucket(context->request).bytes == 0)
        return;
    bool exists;
    context->cors_rules.max = META_BUCKET_CONFIG_BYTES_MAX;
    if (cross_origin_rules(io, context, &exists, &context->cors_rules) != OK)
        return;
    context->has_cors = true;
    struct cors_question question = {
        .origin = origin,
        .method = context->exchange->head.method,
    };
    (void)cors_ask(bytes_slice(&context->cors_rules), &question, &context->cors); /* or nothing */
}

static void header_unless_empty(struct context *context, const char *name, struct slice value)
{
    if (value.bytes > 0)
        exchange_header(context->exchange, name, value);
}

/* Max-Age and the methods say nothing about an answer that is there, but S3 sends them. */
void cross_origin_headers(struct context *context)
{
    const struct cors_grant *grant = &context->cors;
    if (!context->has_cors)
        return;
    exchange_header_text(context->exchange, "Vary",
                         "Origin, Access-Control-Request-Headers, Access-Control-Request-Method");
    if (grant->origin.bytes == 0)
        return;
    exchange_header(context->exchange, "Access-Control-Allow-Origin", grant->origin);
    /* Fetch standard: credentials and "*" exclude each other. */
    if (!slice_equal_text(grant->origin, "*"))
        exchange_header_text(context->exchange, "Access-Control-Allow-Credentials", "true");
    header_unless_empty(context, "Access-Control-Allow-Methods", bytes_slice(&grant->methods));
    header_unless_empty(context, "Access-Control-Expose-Headers", bytes_slice(&grant->exposed));
    header_unless_empty(context, "Access-Control-Max-Age", grant->max_age);
}
