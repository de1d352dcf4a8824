/* UploadPartCopy: a part made of another object's bytes, which are read and written again. */
#include "body.h"
#include "copy_source.h"
#include "elements.h"
#include "multipart.h"
#include "object_read.h"
#include "operations.h"
#include "s3/chunked.h"

#include <inttypes.h>

enum { LOOKUPS_MAX = 5 }; /* of a source that is replaced between the look-up and the reading */

struct part_copy {
    struct copy_source source;
    const struct upload *upload;
    uint32_t part_number;
    struct object_put put;
    struct object_written written;
};

/* Where the pieces of the source go. */
struct sink {
    struct object_writer *writer;
    struct digest *digest;
};

static enum s3_error take_piece(struct io *io, void *argument, struct buf *buf, size_t offset,
                                size_t bytes)
{
    struct sink *sink = argument;
    digest_update(sink->digest, buf_slice(buf, offset, bytes));
    return object_writer_append(io, sink->writer, buf, offset, bytes);
}

static enum s3_error source_range(struct context *context, const struct object *object,
                                  struct range *out_range)
{
    struct slice header = s3_request_header(context->request, "x-amz-copy-source-range");
    *out_range = (struct range){.bytes = object->bytes};
    if (header.bytes > 0)
        TRY(range_copy_source(header, object->bytes, &context->failure, out_range));
    if (out_range->bytes > S3_BODY_BYTES_MAX)
        return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                           "The specified copy source is larger than the maximum allowable size "
                           "for a copy source: %" PRIu64,
                           (uint64_t)S3_BODY_BYTES_MAX);
    return S3_OK;
}

/* An object that stays readable, and the reader of its range: looked up again when it was replaced
 * in between. */
static enum s3_error open_source(struct io *io, struct context *context,
                                 const struct part_copy *copy, struct object **out_object,
                                 struct range *out_range, struct object_reader **out_reader)
{
    for (int i = 0; i < LOOKUPS_MAX; i++) {
        AUTO(object) object = NULL;
        TRY(copy_source_find(io, context, &copy->source, &object));
        TRY(source_range(context, object, out_range));
        enum err err = object_reader_open(io, context, object, *out_range, out_reader);
        if (err == ERR_STALE)
            continue;
        TRY(s3_error_from(err, "copy source"));
        *out_object = TAKE(object);
        return S3_OK;
    }
    return S3_FAIL(S3_SLOW_DOWN, "copy source changes all the time");
}

/* Durable when this returns S3_OK. */
static enum s3_error store_range(struct io *io, struct context *context, struct part_copy *copy,
                                 struct object_writer *writer, struct object_reader *reader)
{
    enum checksum_algorithm algorithm = multipart_algorithm(copy->upload);
    AUTO(digest) digest = digest_new(context->gateway->methods, DIGEST_MD5 | digest_bit(algorithm));
    TRY(object_reader_run(io, reader, take_piece,
                          &(struct sink){.writer = writer, .digest = digest}));
    TRY(object_writer_finish(io, writer, &copy->put));
    struct digest_values values;
    digest_finish(digest, &values);
    struct checksum checksum = digest_checksum(&values, algorithm);
    memcpy(copy->put.etag.md5, values.md5, sizeof copy->put.etag.md5);
    copy->put.checksum = checksum_to_object(&checksum);
    return S3_OK;
}

static enum s3_error copy_range(struct io *io, struct context *context, struct part_copy *copy)
{
    AUTO(object) object = NULL;
    AUTO(object_reader) reader = NULL;
    struct range range;
    TRY(open_source(io, context, copy, &object, &range, &reader));
    AUTO(object_writer) writer = NULL;
    TRY(object_writer_new(io, context, s3_request_key(context->request), copy->upload->id,
                          copy->part_number, range.bytes, &writer));
    TRY(store_range(io, context, copy, writer, reader));
    enum err err = meta_part_put(io, context->gateway->options.meta, copy->upload->id,
                                 copy->part_number, &copy->put, &copy->written);
    if (err == ERR_NOT_FOUND)
        return multipart_missing(context);
    TRY(s3_error_from(err, "part put"));
    object_writer_committed(writer);
    return S3_OK;
}

static enum s3_error answer(struct io *io, struct context *context, const struct part_copy *copy)
{
    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    struct xml_writer xml = xml_document(&document, "CopyPartResult", true);
    element_time(&xml, "LastModified", copy->written.modified_ms);
    element_object_etag(&xml, &copy->put.etag);
    if (multipart_checksum_asked(copy->upload)) {
        struct checksum checksum = checksum_of_object(&copy->put.checksum, 0);
        element_checksum(&xml, &checksum);
    }
    xml_finish(&xml);
    return context_respond_xml(io, context, 200, &document);
}

static enum s3_error copy_part(struct io *io, struct context *context, struct part_copy *copy)
{
    TRY(copy_source_open(io, context, &copy->source));
    AUTO(upload) upload = NULL;
    TRY(multipart_find(io, context, &upload));
    copy->upload = upload;
    struct read_guard guard;
    read_guard_begin(io, context->gateway->options.storage, &guard);
    enum s3_error error = copy_range(io, context, copy);
    read_guard_end(io, context->gateway->options.storage, &guard);
    TRY(error);
    return answer(io, context, copy);
}

enum s3_error op_upload_part_copy(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    TRY(context_refuse_unsupported(context));
    uint32_t number;
    TRY(multipart_part_number(context, &number));
    struct part_copy copy = {.part_number = number};
    enum s3_error error = copy_part(io, context, &copy);
    copy_source_deinit(&copy.source);
    return error;
}
