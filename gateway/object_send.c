/* See object_read.h. */
#include "object_read.h"

struct sending {
    struct context *context;
    unsigned status;
    uint64_t bytes; /* of the whole answer */
};

/* Nobody hears of errors of the transport: the client left. */
static enum s3_error from_transport(enum err err)
{
    return err == OK ? S3_OK : S3_FAIL(S3_REQUEST_TIMEOUT, "answer: %s", err_text(err));
}

static enum s3_error send_piece(struct io *io, void *argument, struct buf *buf, size_t offset,
                                size_t bytes)
{
    const struct sending *sending = argument;
    struct exchange *exchange = sending->context->exchange;
    struct slice piece = buf_slice(buf, offset, bytes);
    if (!exchange->responded) {
        if (bytes == sending->bytes)
            return from_transport(exchange_respond(io, exchange, sending->status, piece));
        TRY(from_transport(exchange_begin(io, exchange, sending->status, sending->bytes)));
    }
    return from_transport(exchange_send(io, exchange, piece));
}

enum s3_error object_send(struct io *io, struct context *context, struct object_reader *reader,
                          unsigned status, uint64_t bytes)
{
    struct exchange *exchange = context->exchange;
    if (exchange_is_head(exchange))
        return from_transport(exchange_begin(io, exchange, status, bytes));
    if (bytes == 0)
        return from_transport(exchange_respond(io, exchange, status, slice_of(NULL, 0)));
    struct sending sending = {.context = context, .status = status, .bytes = bytes};
    return object_reader_run(io, reader, send_piece, &sending);
}
