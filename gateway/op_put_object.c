/* PutObject: check, stream, verify, make durable, commit, answer. */
#include "attributes.h"
#include "body.h"
#include "operations.h"
#include "tag_set.h"

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
    AUTO_VALUE(bytes) tags = {.max = TAGS_BYTES_MAX};
    TRY(tag_set_from_header(context, &tags));

    AUTO(body_reader) reader = NULL;
    struct body_expectation expectation = {.md5 = true, .checksum = CHECKSUM_CRC64NVME};
    TRY(body_reader_new(io, context, &expectation, &reader));
    AUTO(object_writer) writer = NULL;
    TRY(object_writer_new(io, context, s3_request_key(context->request), 0, 0,
                          body_reader_expected_bytes(reader), &writer));
    TRY(body_store(io, context, reader, writer, &put));

    put.attributes = bytes_slice(&attributes);
    put.tags = bytes_slice(&tags);
    struct object_written written;
    enum err err = meta_object_put(io, context->gateway->options.meta, &put, &written);
    TRY(context_written(context, &put.conditions, err, "object put"));
    object_writer_committed(writer);

    context_etag_header(context, &put.etag);
    context_checksum_headers(context, &put.checksum, 0);
    return context_respond_empty(io, context, 200);
}
