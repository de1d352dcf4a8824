/* Dates of the S3 API, without the C library's locale or time zone.
 *
 * A time is u64 milliseconds since 1970-01-01T00:00:00Z; the printable range ends with the year
 * 9999. Parsers are strict (no spaces around, day and weekday must exist) and return false for
 * anything that is not a date of their form; `out_ms` is then untouched. */
#pragma once
#include "base/slice.h"
#include <stdbool.h>
#include <stdint.h>

#define S3_DATE_MS_MAX UINT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */

enum {
    S3_DATE_EXTENDED_CHARS = 24, /* 2009-10-12T17:50:30.000Z */
    S3_DATE_BASIC_CHARS = 16,    /* 20091012T175030Z */
    S3_DATE_HTTP_CHARS = 29,     /* Mon, 12 Oct 2009 17:50:30 GMT */
};

/* Milliseconds written out: LastModified in XML. `out` gets the characters and a NUL. */
void s3_date_format_extended(uint64_t ms, char out[S3_DATE_EXTENDED_CHARS + 1]);
/* x-amz-date. */
void s3_date_format_basic(uint64_t ms, char out[S3_DATE_BASIC_CHARS + 1]);
/* Last-Modified, Expires, Date: IMF-fixdate of RFC 9110 §5.6.7. */
void s3_date_format_http(uint64_t ms, char out[S3_DATE_HTTP_CHARS + 1]);

/* 20091012T175030Z */
[[nodiscard]] bool s3_date_parse_basic(struct slice text, uint64_t *out_ms);
/* 2009-10-12T17:50:30[.fraction](Z|+hh:mm|-hh:mm) and the bare date 2009-10-12 (midnight UTC).
 * Digits of the fraction beyond milliseconds are cut. */
[[nodiscard]] bool s3_date_parse_extended(struct slice text, uint64_t *out_ms);
/* The three forms of RFC 9110 §5.6.7: IMF-fixdate, RFC 850, asctime. A two-digit year is the one
 * from 1970 to 2069. */
[[nodiscard]] bool s3_date_parse_http(struct slice text, uint64_t *out_ms);
