/* Reading a request's body in any of the five payload modes, with every digest that the request
 * needs computed on the way, and nothing declared complete before the last chunk and the trailer
 * verify. */
#pragma once
#include "context.h"

struct body_reader;
struct form_body;

struct body_expectation {
    bool md5;                         /* always compute MD5 (ETag) */
    enum checksum_algorithm checksum; /* compute this one too even if the client sent none */
    struct form_body *form;           /* the payload is the file of this form; NULL: the body */
};

/* Reads the headers (Content-Length, Content-MD5, x-amz-checksum-*, x-amz-sdk-checksum-algorithm,
 * x-amz-trailer, x-amz-content-sha256, x-amz-decoded-content-length). S3_MISSING_CONTENT_LENGTH,
 * S3_INVALID_DIGEST, S3_INVALID_REQUEST (two checksums ...), S3_ENTITY_TOO_LARGE (> 5 GiB). */
enum s3_error body_reader_new(struct io *io, struct context *context,
                              const struct body_expectation *expectation,
                              struct body_reader **out_reader);
void body_reader_free(struct body_reader *reader);
DEFINE_AUTO(body_reader, body_reader_free)
/* Payload length when known before reading (of a form: the most it can be), else UINT64_MAX. */
uint64_t body_reader_expected_bytes(const struct body_reader *reader);
/* Fill buf at `offset` with up to `bytes` payload bytes, fewer only at the end (0 = ended). Digests
 * are fed. */
enum s3_error body_reader_fill(struct io *io, struct body_reader *reader, struct buf *buf,
                               size_t offset, size_t bytes, size_t *out_bytes);
/* After fill returned 0: all signatures, lengths and digests agree, else the S3 error. Only then
 * may the caller commit. */
enum s3_error body_reader_finish(struct io *io, struct body_reader *reader,
                                 struct digest_values *out_values);
/* After finish: the checksum the client gave, by header or trailer; algorithm NONE when none. */
struct checksum body_reader_checksum(const struct body_reader *reader);

/* Errors of exchange_read, as a client hears them that still listens. */
enum s3_error body_transport_error(enum err err);

/* Read a whole small body (XML) of at most `max` bytes into `out`, verified.
 * S3_MAX_MESSAGE_LENGTH_EXCEEDED. */
enum s3_error body_read_all(struct io *io, struct context *context, size_t max, struct bytes *out);

/* Where the bytes of an object or part go: inline up to META_INLINE_BYTES_MAX, else blocks, staged
 * as they finish. */
struct object_writer;
enum s3_error object_writer_new(struct io *io, struct context *context, struct slice key,
                                uint64_t upload_id, uint32_t part_number, uint64_t bytes_expected,
                                struct object_writer **out_writer);
/* Gives staged blocks up when it was not committed; never waits (a fiber of its own does it). */
void object_writer_free(struct object_writer *writer);
DEFINE_AUTO(object_writer, object_writer_free)
/* Takes a reference to buf; the caller does not change those bytes afterwards. */
enum s3_error object_writer_append(struct io *io, struct object_writer *writer, struct buf *buf,
                                   size_t offset, size_t bytes);
/* All bytes durable; fills bytes, inline_bytes or blocks, leases, intent of `put` (owned by the
 * writer). */
enum s3_error object_writer_finish(struct io *io, struct object_writer *writer,
                                   struct object_put *put);
/* The put was committed: staged blocks belong to the object now. */
void object_writer_committed(struct object_writer *writer);

/* Pump the request's body into a writer: the loop of PutObject and UploadPart. */
enum s3_error body_to_object(struct io *io, struct context *context, struct body_reader *reader,
                             struct object_writer *writer);
/* All of PutObject and PostObject between head and commit: the body is complete, verified and
 * durable; fills what object_writer_finish fills, the ETag, and the checksum to keep: the client's,
 * else S3's default, which `reader` was made to expect. */
enum s3_error body_store(struct io *io, struct context *context, struct body_reader *reader,
                         struct object_writer *writer, struct object_put *put);
