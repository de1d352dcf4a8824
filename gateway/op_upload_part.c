/* UploadPart: as PutObject, but what is committed is a part. */
#include "body.h"
#include "multipart.h"
#include "operations.h"

/* The checksum that the client names must be the upload's. A composite checksum is made of what
 * clients vouch for, so there each part must have one (S3 User Guide, "Checking object
 * integrity"). */
static enum s3_error check_algorithm(struct context *context, const struct upload *upload,
                                     enum checksum_algorithm sent)
{
    if (!multipart_checksum_asked(upload) || sent == multipart_algorithm(upload))
        return S3_OK;
    if (sent == CHECKSUM_NONE && multipart_type(upload) == CHECKSUM_FULL_OBJECT)
        return S3_OK;
    return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                       "Checksum Type mismatch occurred, expected checksum Type: %s, actual "
                       "checksum Type: %s",
                       checksum_name(multipart_algorithm(upload)),
                       sent == CHECKSUM_NONE ? "null" : checksum_name(sent));
}

/* Verified and durable when this returns S3_OK. *out_shown is the checksum to answer with. */
static enum s3_error store_body(struct io *io, struct context *context, const struct upload *upload,
                                struct body_reader *reader, struct object_writer *writer,
                                struct object_put *put, struct checksum *out_shown)
{
    struct digest_values values;
    TRY(body_to_object(io, context, reader, writer));
    TRY(body_reader_finish(io, reader, &values));
    struct checksum sent = body_reader_checksum(reader);
    TRY(check_algorithm(context, upload, sent.algorithm));
    struct checksum kept = digest_checksum(&values, multipart_algorithm(upload));
    TRY(object_writer_finish(io, writer, put));
    memcpy(put->etag.md5, values.md5, sizeof put->etag.md5);
    put->checksum = checksum_to_object(&kept);
    *out_shown = sent.algorithm != CHECKSUM_NONE ? sent : kept;
    return S3_OK;
}

static enum s3_error answer(struct io *io, struct context *context, const struct object_put *put,
                            const struct checksum *shown)
{
    AUTO_VALUE(bytes) text = {.max = CHECKSUM_TEXT_BYTES_MAX};
    checksum_append(&text, shown);
    context_etag_header(context, &put->etag);
    exchange_header(context->exchange, checksum_header(shown->algorithm), bytes_slice(&text));
    return context_respond_empty(io, context, 200);
}

enum s3_error op_upload_part(struct io *io, struct context *context)
{
    uint32_t number;
    TRY(context_bucket(io, context));
    TRY(context_refuse_unsupported(context));
    TRY(multipart_part_number(context, &number));
    AUTO(upload) upload = NULL;
    TRY(multipart_find(io, context, &upload));

    AUTO(body_reader) reader = NULL;
    struct body_expectation expectation = {.md5 = true, .checksum = multipart_algorithm(upload)};
    TRY(body_reader_new(io, context, &expectation, &reader));
    enum checksum_algorithm sent = body_reader_checksum(reader).algorithm;
    if (sent != CHECKSUM_NONE) /* else a trailer may still tell */
        TRY(check_algorithm(context, upload, sent));
    AUTO(object_writer) writer = NULL;
    TRY(object_writer_new(io, context, s3_request_key(context->request), upload->id, number,
                          body_reader_expected_bytes(reader), &writer));
    struct object_put put = {0};
    struct checksum shown;
    TRY(store_body(io, context, upload, reader, writer, &put, &shown));

    struct object_written written;
    enum err err =
        meta_part_put(io, context->gateway->options.meta, upload->id, number, &put, &written);
    if (err == ERR_NOT_FOUND)
        return multipart_missing(context);
    TRY(s3_error_from(err, "part put"));
    object_writer_committed(writer);
    return answer(io, context, &put, &shown);
}
