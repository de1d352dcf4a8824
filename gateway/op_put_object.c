/* PutObject: check, stream, verify, make durable, commit, answer. */
#include "attributes.h"
#include "body.h"
#include "operations.h"

/* The checksum to keep: the client's, else S3's default. */
static struct object_checksum checksum_to_keep(const struct body_reader *reader,
                                               const struct digest_values *values)
{
    struct checksum checksum = body_reader_checksum(reader);
    if (checksum.algorithm == CHECKSUM_NONE)
        checksum = digest_checksum(values, CHECKSUM_CRC64NVME);
    return checksum_to_object(&checksum);
}

/* Body into blocks or inline bytes, complete, verified and durable when this returns S3_OK. */
static enum s3_error store_body(struct io *io, struct context *context, struct body_reader *reader,
                                struct object_writer *writer, struct object_put *put)
{
    struct digest_values values;
    TRY(body_to_object(io, context, reader, writer));
    TRY(body_reader_finish(io, reader, &values));
    TRY(object_writer_finish(io, writer, put));
    memcpy(put->etag.md5, values.md5, sizeof put->etag.md5);
    put->checksum = checksum_to_keep(reader, &values);
    return S3_OK;
}

static enum s3_error refuse_early(struct io *io, struct context *context, struct object_put *put)
{
    TRY(context_bucket(io, context));
    TRY(context_refuse_unsupported(context));
    return context_write_conditions(context, &put->conditions);
}

enum s3_error op_put_object(struct io *io, struct context *context)
{
    struct object_put put = {0};
    TRY(refuse_early(io, context, &put));
    AUTO_VALUE(bytes) attributes = {.max = META_ATTRIBUTES_BYTES_MAX};
    TRY(attributes_from_request(context, &attributes));

    AUTO(body_reader) reader = NULL;
    struct body_expectation expectation = {.md5 = true, .checksum = CHECKSUM_CRC64NVME};
    TRY(body_reader_new(io, context, &expectation, &reader));
    AUTO(object_writer) writer = NULL;
    TRY(object_writer_new(io, context, s3_request_key(context->request), 0, 0,
                          body_reader_expected_bytes(reader), &writer));
    TRY(store_body(io, context, reader, writer, &put));

    put.attributes = bytes_slice(&attributes);
    struct object_written written;
    enum err err = meta_object_put(io, context->gateway->options.meta, &put, &written);
    TRY(context_written(context, &put.conditions, err, "object put"));
    object_writer_committed(writer);

    context_etag_header(context, &put.etag);
    context_checksum_headers(context, &put.checksum, 0);
    return context_respond_empty(io, context, 200);
}
