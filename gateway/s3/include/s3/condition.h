/* Conditional requests: RFC 9110 §13 for reads, S3's rules for copies, writes and deletes.
 *
 * Header values come in as they were sent, absent ones without bytes. The quotes of an
 * entity tag may be missing, as many S3 clients send it. Dates compare in whole seconds, because
 * HTTP dates have no more; an invalid date is as if the header were absent (RFC 9110 §13.1.3).
 * The order of evaluation is RFC 9110 §13.2.2, which gives S3's documented cases: a true
 * If-Match beats If-Unmodified-Since, a false If-None-Match beats If-Modified-Since. */
#pragma once
#include "base/slice.h"
#include "s3/error.h"
#include <stdbool.h>
#include <stdint.h>

/* What the conditions are judged against; a delete marker or no object: exists = false. */
struct condition_target {
    bool exists;
    struct slice etag;    /* without quotes */
    uint64_t modified_ms; /* since 1970, as s3/date.h */
    uint64_t size;
};

/* The four headers of a read, or the four x-amz-copy-source-if-* of a copy. */
struct read_conditions {
    struct slice if_match;
    struct slice if_none_match;
    struct slice if_modified_since;
    struct slice if_unmodified_since;
};

/* For GET and HEAD of an existing object. `failure` may be NULL here and below.
 *
 * S3_NOT_MODIFIED: answer 304 with ETag, Last-Modified and Cache-Control, no body.
 * S3_PRECONDITION_FAILED: with the element Condition. */
enum s3_error read_conditions_check(const struct read_conditions *conditions,
                                    const struct condition_target *target,
                                    struct s3_failure *failure);
/* For the source of a copy: as above, but a copy has no 304, it fails (S3 CopyObject). */
enum s3_error copy_conditions_check(const struct read_conditions *conditions,
                                    const struct condition_target *target,
                                    struct s3_failure *failure);

enum write_condition_kind {
    WRITE_ALWAYS,
    WRITE_IF_ABSENT, /* If-None-Match: * */
    WRITE_IF_EXISTS, /* If-Match: * */
    WRITE_IF_MATCH,  /* If-Match: etag */
};
struct write_condition {
    enum write_condition_kind kind;
    struct slice etag; /* WRITE_IF_MATCH: without quotes, points into the header */
};
/* For PutObject, CopyObject's target and CompleteMultipartUpload.
 *
 * S3_NOT_IMPLEMENTED: If-None-Match other than "*", or both headers, as S3 says.
 * S3_INVALID_ARGUMENT: an If-Match that is not one entity tag. */
enum s3_error write_condition_parse(struct slice if_match, struct slice if_none_match,
                                    struct s3_failure *failure,
                                    struct write_condition *out_condition);
/* S3_NO_SUCH_KEY: If-Match and there is no object. S3_PRECONDITION_FAILED: it does not hold. */
enum s3_error write_condition_check(const struct write_condition *condition,
                                    const struct condition_target *target,
                                    struct s3_failure *failure);

/* Conditions of DeleteObject and of each entry of DeleteObjects. */
struct delete_condition {
    struct write_condition match; /* ALWAYS, IF_EXISTS or IF_MATCH */
    bool has_modified;
    uint64_t modified_ms; /* x-amz-if-match-last-modified-time */
    bool has_size;
    uint64_t size; /* x-amz-if-match-size */
};
/* Texts as sent, absent when without bytes. S3_INVALID_ARGUMENT: one of them is malformed. */
enum s3_error delete_condition_parse(struct slice if_match, struct slice last_modified_time,
                                     struct slice size, struct s3_failure *failure,
                                     struct delete_condition *out_condition);
/* S3_NO_SUCH_KEY: there is a condition and no object. S3_PRECONDITION_FAILED: it does not hold. */
enum s3_error delete_condition_check(const struct delete_condition *condition,
                                     const struct condition_target *target,
                                     struct s3_failure *failure);

/* Whether `list` (entity tags with or without quotes, weak or not, separated by commas, or "*")
 * names `etag`. The weak comparison of RFC 9110 §8.8.3.2 ignores W/; the strong one never
 * matches a weak tag. */
bool etag_list_contains(struct slice list, struct slice etag, bool weak_comparison);
/* The opaque tag without W/ and quotes, trimmed; what is not quoted stays as it is. */
struct slice etag_unquote(struct slice text);
