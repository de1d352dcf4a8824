/* CompleteMultipartUpload: match the parts, fold their digests, commit. No bytes move. */
#include "completion.h"
#include "elements.h"
#include "multipart.h"
#include "operations.h"
#include "s3/uri.h"
#include "xml_body.h"

/* Where the object can be found: as the client addressed it. */
static void write_location(struct xml_writer *xml, const struct context *context)
{
    struct slice host = s3_request_header(context->request, "host");
    AUTO_VALUE(bytes) location = {.max = S3_HEADER_LINE_BYTES_MAX + 3 * S3_TARGET_BYTES_MAX};
    if (host.bytes > 0) { /* HTTP/1.0 may have none */
        bytes_append_text(&location, context->exchange->head.tls ? "https://" : "http://");
        bytes_append(&location, host);
    }
    s3_uri_encode(&location, s3_request_path(context->request), true);
    xml_element(xml, "Location", bytes_slice(&location));
}

static enum s3_error answer(struct io *io, struct context *context, const struct object_etag *etag,
                            const struct checksum *checksum)
{
    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    struct xml_writer xml = xml_document(&document, "CompleteMultipartUploadResult", true);
    write_location(&xml, context);
    xml_element_text(&xml, "Bucket", context->bucket.name);
    xml_element(&xml, "Key", s3_request_key(context->request));
    element_object_etag(&xml, etag);
    element_checksum(&xml, checksum);
    if (checksum->algorithm != CHECKSUM_NONE)
        xml_element_text(&xml, "ChecksumType", checksum_type_name(checksum->type));
    xml_finish(&xml);
    return context_respond_xml(io, context, 200, &document);
}

/* The upload is gone. When it made the object that is there, of these parts, the client did not
 * hear the answer and asks again: it gets the same one. */
static enum s3_error answer_again(struct io *io, struct context *context,
                                  const struct body_complete_multipart *list)
{
    uint64_t id;
    struct object_etag etag;
    TRY(multipart_id(context, &id));
    AUTO(object) object = NULL;
    enum err err = meta_object_find(io, context->gateway->options.meta, context->bucket.id,
                                    s3_request_key(context->request), false, &object);
    if (err == ERR_NOT_FOUND)
        return multipart_missing(context);
    TRY(s3_error_from(err, "object lookup"));
    if (object->upload_id != id || !completion_etag(context, list, &etag) ||
        !object_etag_equal(&etag, &object->etag))
        return multipart_missing(context);
    struct checksum checksum = checksum_of_object(&object->checksum, object->etag.part_count);
    return answer(io, context, &object->etag, &checksum);
}

/* A missing key is an error for a condition, a missing upload for everybody. */
static enum s3_error not_found(struct io *io, struct context *context,
                               const struct write_conditions *conditions)
{
    AUTO(upload) upload = NULL;
    TRY(multipart_find(io, context, &upload));
    return context_written(context, conditions, ERR_NOT_FOUND, "upload complete");
}

static enum s3_error commit(struct io *io, struct context *context, const struct upload *upload,
                            const struct completion *completion)
{
    struct upload_complete complete = {
        .bucket_id = context->bucket.id,
        .key = upload->key,
        .upload_id = upload->id,
        .parts = completion->parts,
        .part_count = completion->part_count,
        .etag = completion->etag,
        .checksum = checksum_to_object(&completion->checksum),
    };
    TRY(context_write_conditions(context, &complete.conditions));
    struct object_written written;
    enum err err = meta_upload_complete(io, context->gateway->options.meta, &complete, &written);
    if (err == ERR_NOT_FOUND)
        return not_found(io, context, &complete.conditions);
    if (err == ERR_INVALID)
        return S3_FAIL(S3_INVALID_PART, "a part was replaced meanwhile");
    return context_written(context, &complete.conditions, err, "upload complete");
}

static enum s3_error complete(struct io *io, struct context *context, const struct upload *upload,
                              const struct body_complete_multipart *list,
                              struct completion *completion)
{
    AUTO(part_page) stored = NULL;
    enum err err = meta_part_list(io, context->gateway->options.meta, context->bucket.id,
                                  upload->key, upload->id, 0, META_PARTS_MAX, &stored);
    if (err == ERR_NOT_FOUND) /* completed or aborted since the look-up */
        return answer_again(io, context, list);
    TRY(s3_error_from(err, "part list"));
    TRY(completion_build(context, upload, list, stored, completion));
    TRY(completion_check(context, upload, completion));
    TRY(commit(io, context, upload, completion));
    return answer(io, context, &completion->etag, &completion->checksum);
}

enum s3_error op_complete_multipart_upload(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    AUTO(body_parser) parser = NULL;
    const struct body *body;
    TRY(xml_body_read(io, context, BODY_COMPLETE_MULTIPART, &parser, &body));

    uint64_t id;
    TRY(multipart_id(context, &id));
    AUTO(upload) upload = NULL;
    enum err err = meta_upload_find(io, context->gateway->options.meta, context->bucket.id,
                                    s3_request_key(context->request), id, &upload);
    if (err == ERR_NOT_FOUND)
        return answer_again(io, context, &body->complete);
    TRY(s3_error_from(err, "upload lookup"));

    struct completion completion = {0};
    enum s3_error error = complete(io, context, upload, &body->complete, &completion);
    completion_deinit(&completion);
    return error;
}
