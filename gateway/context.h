/* What an operation works with: the exchange, the verified request, the gateway, and scratch that
 * dies with the request. One file per operation: `enum s3_error op_<operation>(struct io *io,
 * struct context *context)`. It answers and returns S3_OK, or returns an error and has not
 * answered; dispatch then sends the error document. An error after exchange_begin (the client left,
 * a block is damaged) also returns: the connection closes, the answer stays short. */
#pragma once
#include "gateway/gateway.h"
#include "s3/checksum.h"
#include "s3/condition.h"
#include "s3/cors.h"
#include "s3/error.h"
#include "s3/request.h"
#include "s3/xml.h"

struct gateway_reactor;
struct request_metrics;

struct gateway {
    struct gateway_options options;
    struct buf_pool *pool; /* bodies in flight */
    struct digest_methods *methods;
    struct request_metrics *requests;
    struct gateway_reactor *reactors;
    unsigned reactor_count;
};

enum {
    CONTEXT_SCRATCH_BYTES_MAX = 256 << 10,
    CONTEXT_DOCUMENT_BYTES_MAX = 16 << 20,
    CONTEXT_INTENTS_MAX = 2,
    CONTEXT_PIECE_BYTES_MAX = 1 << 20,
};

struct context {
    struct gateway *gateway;
    struct exchange *exchange;
    struct s3_request *request;
    struct s3_failure failure;
    struct identity identity; /* who signed */
    struct bucket bucket;     /* filled by context_bucket */
    /* For a page of another origin: filled by cross_origin_prepare. The grant borrows from the
     * rules. */
    bool has_cors; /* the bucket has rules */
    struct bytes cors_rules;
    struct cors_grant cors;
    /* For texts that live as long as the request; grows by moving: copy before appending. */
    struct bytes scratch;
    /* Staged blocks of writers that were not committed; given up after the answer. */
    uint64_t abandoned_intents[CONTEXT_INTENTS_MAX];
    uint32_t abandoned_intent_count;
};

typedef enum s3_error operation_fn(struct io *io, struct context *context);

/* Who asks: verify the request's signature. Nobody without one gets further: there are no bucket
 * policies yet. Operations but PostObject, whose form holds it, find it done. */
enum s3_error context_authenticate(struct io *io, struct context *context);

/* The bucket of the request into context->bucket; also checks x-amz-expected-bucket-owner.
 * S3_NO_SUCH_BUCKET, S3_ACCESS_DENIED (another owner). */
enum s3_error context_bucket(struct io *io, struct context *context);
/* Any bucket, e.g. of a copy source. S3_NO_SUCH_BUCKET. */
enum s3_error context_find_bucket(struct io *io, struct context *context, struct slice name,
                                  struct bucket *out_bucket);

/* The one place where enum err becomes enum s3_error. `what` goes to the log with errors that
 * become 500. Errors with a meaning of their own for an operation (ERR_NOT_FOUND, ERR_PRECONDITION)
 * are handled before. */
enum s3_error s3_error_from(enum err err, const char *what);

/* Query parameter as a number up to `max`; `missing` when absent. S3_INVALID_ARGUMENT names the
 * parameter. */
enum s3_error context_query_number(struct context *context, const char *name, uint64_t missing,
                                   uint64_t max, uint64_t *out_value);

/* The same for a header; `name` in lower case. */
enum s3_error context_header_number(struct context *context, const char *name, uint64_t missing,
                                    uint64_t max, uint64_t *out_value);

/* Headers that ask for what Shale does not do, refused before anything is written: server-side
 * encryption, object lock, ACL grants other than the owner's, storage classes other than
 * STANDARD. */
enum s3_error context_refuse_unsupported(struct context *context);

/* A buffer for body bytes, charged to the gateway's budget; waits while that is used up.
 * S3_SLOW_DOWN. */
enum s3_error context_buf(struct io *io, struct context *context, size_t bytes,
                          struct buf **out_buf);

/* How much body to hold at once: CONTEXT_PIECE_BYTES_MAX, less while many slow clients hold half of
 * the budget. */
size_t context_piece_bytes(const struct context *context);

/* Answer with an XML document (Content-Type application/xml). */
enum s3_error context_respond_xml(struct io *io, struct context *context, unsigned status,
                                  const struct bytes *document);
/* Answer without a body. */
enum s3_error context_respond_empty(struct io *io, struct context *context, unsigned status);

/* The version of an object that the request names: the current one, or `versionId=null`, which is
 * the same in a bucket without versioning. S3_NO_SUCH_KEY; S3_NO_SUCH_VERSION: a version id that
 * cannot exist here; S3_INVALID_ARGUMENT: not a version id. */
enum s3_error context_find_object(struct io *io, struct context *context, bool inline_too,
                                  struct object **out_object);

/* A version id that a request names; data NULL when it names none. "null" is the version id of
 * every object of a bucket without versioning. S3_NO_SUCH_VERSION, S3_INVALID_ARGUMENT. */
enum s3_error context_check_version(struct context *context, struct slice version);

/* ETag without quotes. */
struct etag etag_of_object(const struct object_etag *etag);
/* The other way; false when `text` (without quotes) is no ETag of Shale's. */
bool etag_parse(struct slice text, struct object_etag *out_etag);
/* ETag header with quotes. */
void context_etag_header(struct context *context, const struct object_etag *etag);
/* x-amz-checksum-* and x-amz-checksum-type headers; nothing for none. */
void context_checksum_headers(struct context *context, const struct object_checksum *checksum,
                              uint32_t part_count);
/* Between the metadata's and the API's form. */
struct checksum checksum_of_object(const struct object_checksum *checksum, uint32_t part_count);
struct object_checksum checksum_to_object(const struct checksum *checksum);
/* If-Match / If-None-Match of a write as conditions of the metadata. S3_NOT_IMPLEMENTED,
 * S3_INVALID_ARGUMENT. */
enum s3_error context_write_conditions(struct context *context,
                                       struct write_conditions *out_conditions);
/* The same for a condition that was parsed elsewhere: sets kind and etag. */
void context_write_condition(const struct write_condition *condition,
                             struct write_conditions *conditions);
/* What the client hears of meta_object_put and its kin: S3_NO_SUCH_KEY for a condition on a missing
 * key, S3_NO_SUCH_BUCKET, S3_PRECONDITION_FAILED, else as s3_error_from. */
enum s3_error context_written(struct context *context, const struct write_conditions *conditions,
                              enum err err, const char *what);
