/* PutBucketCors. */
#include "bucket_config.h"
#include "operations.h"
#include "xml_body.h"

enum s3_error op_put_bucket_cors(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    AUTO(body_parser) parser = NULL;
    const struct body *body;
    TRY(xml_body_read(io, context, BODY_CORS, &parser, &body));
    TRY(cors_check(body->cors.fields, body->cors.field_count, &context->failure));
    /* It is shorter than the document, which spends more than a length and a kind on each text. */
    AUTO_VALUE(bytes) rules = {.max = META_BUCKET_CONFIG_BYTES_MAX};
    cors_encode(&rules, body->cors.fields, body->cors.field_count);
    if (rules.overflow)
        return S3_FAIL(S3_MAX_MESSAGE_LENGTH_EXCEEDED, "cors rules");
    TRY(bucket_config_put(io, context, BUCKET_CONFIG_CORS, bytes_slice(&rules)));
    return context_respond_empty(io, context, 200);
}
