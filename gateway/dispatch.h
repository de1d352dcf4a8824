/* From operation to function. */
#pragma once
#include "context.h"
#include "s3/operation.h"

/* NULL: Shale does not have it, the answer is 501 NotImplemented. */
operation_fn *dispatch_find(enum s3_operation operation);

/* Send the error document of `error`; keeps headers set so far for 304 and 416 only,
 * beside those for pages of other origins. */
void error_answer(struct io *io, struct context *context, enum s3_error error);
