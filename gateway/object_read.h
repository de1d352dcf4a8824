/* Reading an object's bytes in order, whatever its layout: in pieces of at most
 * BLOCK_READ_BYTES_MAX, the next one being read while the caller works on the one before.
 *
 * The caller holds a read_guard from before it looked the object up until the last piece. */
#pragma once
#include "context.h"
#include "s3/range.h"

/* One piece: bytes [offset, offset + bytes) of buf, at least one, in order. The buffer is borrowed;
 * buf_ref keeps it. An error ends the reading. */
typedef enum s3_error object_piece_fn(struct io *io, void *argument, struct buf *buf, size_t offset,
                                      size_t bytes);

struct object_reader;

/* Find out where bytes `range` of the object are (range.bytes may be 0). Object and context are
 * borrowed for the reader's life; an inline object must have been looked up with its bytes.
 * ERR_STALE: the version is gone, look it up again. */
enum err object_reader_open(struct io *io, struct context *context, const struct object *object,
                            struct range range, struct object_reader **out_reader);
void object_reader_free(struct object_reader *reader);
DEFINE_AUTO(object_reader, object_reader_free)
/* Give every piece of the range to `piece`; once. When it returns nothing is being read any more.
 * S3_SLOW_DOWN: no memory for bodies, or the version of a very long object was replaced meanwhile;
 * S3_INTERNAL_ERROR: damaged; and the errors of `piece`. */
enum s3_error object_reader_run(struct io *io, struct object_reader *reader, object_piece_fn *piece,
                                void *argument);

/* Answer with the reader's range as the body, as a whole when it is one piece. The answer begins
 * only when the first piece has been read, so that a damaged block is a 500 and not a short body.
 * Also for HEAD, which reads nothing. */
enum s3_error object_send(struct io *io, struct context *context, struct object_reader *reader,
                          unsigned status, uint64_t bytes);
