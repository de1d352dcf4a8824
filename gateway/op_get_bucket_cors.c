/* GetBucketCors: the rules, their elements in the order of the schema. */
#include "bucket_config.h"
#include "operations.h"
#include "s3/cors.h"

static const char *const elements[] = {
    [CORS_RULE] = "CORSRule",
    [CORS_ID] = "ID",
    [CORS_ALLOWED_HEADER] = "AllowedHeader",
    [CORS_ALLOWED_METHOD] = "AllowedMethod",
    [CORS_ALLOWED_ORIGIN] = "AllowedOrigin",
    [CORS_EXPOSE_HEADER] = "ExposeHeader",
    [CORS_MAX_AGE] = "MaxAgeSeconds",
};

static enum s3_error write_rules(struct xml_writer *xml, struct slice rules)
{
    struct cors_reader reader;
    TRY(s3_error_from(cors_read(rules, &reader), "stored CORS rules"));
    struct cors_field field;
    for (bool first = true; cors_next(&reader, &field); first = false) {
        if (field.kind != CORS_RULE) {
            xml_element(xml, elements[field.kind], field.text);
            continue;
        }
        if (!first)
            xml_close(xml);
        xml_open(xml, elements[CORS_RULE]);
    }
    return S3_OK;
}

enum s3_error op_get_bucket_cors(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    AUTO_VALUE(bytes) rules = {.max = META_BUCKET_CONFIG_BYTES_MAX};
    TRY(bucket_config_get(io, context, BUCKET_CONFIG_CORS, S3_NO_SUCH_CORS_CONFIGURATION, &rules));
    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    struct xml_writer xml = xml_document(&document, "CORSConfiguration", true);
    TRY(write_rules(&xml, bytes_slice(&rules)));
    xml_finish(&xml);
    return context_respond_xml(io, context, 200, &document);
}
