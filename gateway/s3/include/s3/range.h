/* Byte ranges of reads and copies (RFC 9110 §14, S3 GetObject and UploadPartCopy). */
#pragma once
#include "base/bytes.h"
#include "base/slice.h"
#include "s3/error.h"
#include <stdbool.h>
#include <stdint.h>

struct range {
    uint64_t offset;
    uint64_t bytes; /* at least 1; offset + bytes <= object size */
};

enum range_outcome {
    RANGE_NONE,          /* no usable Range: answer 200 with the whole object */
    RANGE_SATISFIABLE,   /* answer 206 with Content-Range */
    RANGE_UNSATISFIABLE, /* answer InvalidRange (416) with Content-Range: bytes * / size */
};
/* Resolve a Range header (no bytes: absent) against an object of `object_bytes`. As S3 does,
 * several ranges, other units and malformed values are ignored; a range that reaches beyond the
 * end is cut. */
enum range_outcome range_resolve(struct slice header, uint64_t object_bytes,
                                 struct range *out_range);
/* Whether Range may be used at all: If-Range (no bytes: absent) names the object's current
 * entity tag by strong comparison, or exactly its date of modification (RFC 9110 §13.1.5).
 * `etag` without quotes. */
bool range_if_range_holds(struct slice if_range, struct slice etag, uint64_t modified_ms);

/* x-amz-copy-source-range: exactly "bytes=first-last", inside the source. `failure` may be NULL.
 *
 * S3_INVALID_ARGUMENT: another form, or it reaches beyond the source. */
enum s3_error range_copy_source(struct slice header, uint64_t source_bytes,
                                struct s3_failure *failure, struct range *out_range);

/* "bytes first-last/size". */
void range_append_content_range(struct bytes *out, struct range range, uint64_t object_bytes);
/* "bytes * / size" (without the spaces), for 416. */
void range_append_unsatisfied(struct bytes *out, uint64_t object_bytes);
