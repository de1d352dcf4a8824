/* What an operation works with: the exchange, the verified request, the gateway, and scratch that dies with the
 * request. One file per operation: `enum s3_error op_<operation>(struct io *io, struct context *context)`; on
 * an error it has not answered and dispatch.c sends the error document. */
#pragma once
#include "gateway/gateway.h"
#include "s3/checksum.h"
#include "s3/error.h"
#include "s3/request.h"
#include "s3/xml.h"

struct gateway {
    struct gateway_options options;
    struct buf_pool *pool;          /* bodies in flight */
    struct digest_methods *methods;
    struct gateway_metrics *counters;
    struct gateway_reactor *reactors; /* signing caches, active counts: one per reactor */
    unsigned reactor_count;
};

struct context {
    struct gateway *gateway;
    struct exchange *exchange;
    struct s3_request *request;
    struct s3_failure failure;
    struct identity identity;  /* who signed */
    struct bucket bucket;      /* filled by context_bucket */
    struct bytes scratch;      /* for texts that live as long as the request; max 256 KiB */
};

typedef enum s3_error operation_fn(struct io *io, struct context *context);

/* The bucket of the request into context->bucket. S3_NO_SUCH_BUCKET. */
enum s3_error context_bucket(struct io *io, struct context *context);

/* The one place where enum err becomes enum s3_error. `what` goes to the log for errors that become 500. */
enum s3_error s3_error_from(enum err err, const char *what);

/* Query parameter or header as a bounded number; `missing` when absent. S3_INVALID_ARGUMENT names the parameter. */
enum s3_error context_query_number(struct context *context, const char *name, uint64_t missing,
                                   uint64_t max, uint64_t *out_value);
