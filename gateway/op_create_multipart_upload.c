/* CreateMultipartUpload. */
#include "attributes.h"
#include "multipart.h"
#include "operations.h"
#include "tag_set.h"
#include "upload_text.h"

struct kind {
    enum checksum_algorithm algorithm;
    enum checksum_type type;
};

static enum s3_error refuse_kind(struct context *context, const struct kind *kind)
{
    return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                       "The %s checksum type cannot be used with the %s checksum algorithm.",
                       checksum_type_name(kind->type),
                       multipart_algorithm_text(kind->algorithm).text);
}

/* The checksum that the whole object is to have; algorithm NONE when none is named. */
static enum s3_error read_kind(struct context *context, struct kind *out_kind)
{
    struct kind kind = {0};
    struct slice algorithm = s3_request_header(context->request, "x-amz-checksum-algorithm");
    struct slice type = s3_request_header(context->request, "x-amz-checksum-type");
    if (algorithm.bytes > 0) {
        kind.algorithm = checksum_by_name(algorithm);
        if (kind.algorithm == CHECKSUM_NONE)
            return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST, "%s",
                               checksum_unsupported_message);
        kind.type = checksum_type_default(kind.algorithm);
    }
    if (type.bytes > 0 && !checksum_type_by_name(type, &kind.type))
        return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                           "Value for x-amz-checksum-type header is invalid.");
    if (type.bytes > 0 && kind.algorithm == CHECKSUM_NONE)
        return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                           "The x-amz-checksum-type header can only be used with the "
                           "x-amz-checksum-algorithm header.");
    if (kind.algorithm != CHECKSUM_NONE && !checksum_type_allowed(kind.algorithm, kind.type))
        return refuse_kind(context, &kind);
    *out_kind = kind;
    return S3_OK;
}

static enum s3_error answer(struct io *io, struct context *context, const struct kind *kind,
                            uint64_t upload_id)
{
    if (kind->algorithm != CHECKSUM_NONE) {
        exchange_header_text(context->exchange, "x-amz-checksum-algorithm",
                             checksum_name(kind->algorithm));
        exchange_header_text(context->exchange, "x-amz-checksum-type",
                             checksum_type_name(kind->type));
    }
    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    struct upload_text text = upload_text_of(upload_id);
    struct xml_writer xml = xml_document(&document, "InitiateMultipartUploadResult", true);
    xml_element_text(&xml, "Bucket", context->bucket.name);
    xml_element(&xml, "Key", s3_request_key(context->request));
    xml_element_text(&xml, "UploadId", text.text);
    xml_finish(&xml);
    return context_respond_xml(io, context, 200, &document);
}

enum s3_error op_create_multipart_upload(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    TRY(context_refuse_unsupported(context));
    struct kind kind = {0};
    TRY(read_kind(context, &kind));
    AUTO_VALUE(bytes) attributes = {.max = META_ATTRIBUTES_BYTES_MAX};
    TRY(attributes_from_request(context, &attributes));
    AUTO_VALUE(bytes) tags = {.max = TAGS_BYTES_MAX};
    TRY(tag_set_from_header(context, &tags));

    uint64_t id;
    struct upload_create create = {
        .bucket_id = context->bucket.id,
        .key = s3_request_key(context->request),
        .attributes = bytes_slice(&attributes),
        .tags = bytes_slice(&tags),
        .checksum_algorithm = (uint8_t)kind.algorithm,
        .checksum_type = (uint8_t)kind.type,
    };
    enum err err = meta_upload_create(io, context->gateway->options.meta, &create, &id);
    TRY(context_written(context, &(struct write_conditions){0}, err, "upload create"));
    return answer(io, context, &kind, id);
}
