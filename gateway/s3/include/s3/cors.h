/* Cross-origin resource sharing of a bucket: its rules, which of them lets a page of another origin
 * do what it asks, and how they are stored.
 *
 * Rules are a flat list of fields; CORS_RULE begins the next rule. Stored, the fields of a rule are
 * in the order of their kinds:
 *
 *     version u8 (1) | count varint | count x { kind u8, text slice }
 *
 * Sources: S3 API Reference, PutBucketCors and CORSRule; S3 User Guide, "Elements of a CORS
 * configuration"; Fetch standard, "HTTP CORS protocol". */
#pragma once
#include "base/bytes.h"
#include "base/encode.h"
#include "base/err.h"
#include "base/slice.h"
#include "s3/error.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    CORS_RULE_COUNT_MAX = 100,
    CORS_ID_CHARACTERS_MAX = 255,
    CORS_REQUEST_HEADERS_MAX = 100,  /* names that a preflight asks for */
    CORS_ORIGIN_BYTES_MAX = 1024,    /* of a request: a longer one matches nothing */
    CORS_HEADER_BYTES_MAX = 4 << 10, /* of a list in an answer: a longer one is left out */
};

/* Numbers are stored: append only. */
enum cors_field_kind {
    CORS_RULE = 1, /* no text */
    CORS_ID = 2,
    CORS_ALLOWED_HEADER = 3,
    CORS_ALLOWED_METHOD = 4,
    CORS_ALLOWED_ORIGIN = 5,
    CORS_EXPOSE_HEADER = 6,
    CORS_MAX_AGE = 7,
};
enum { CORS_FIELD_KIND_MAX = CORS_MAX_AGE };
struct cors_field {
    enum cors_field_kind kind;
    struct slice text;
};

/* Whether S3 accepts the rules; the first field is CORS_RULE. `failure` may be NULL.
 *
 * S3_MALFORMED_XML: a rule without method or origin, a MaxAgeSeconds that is no 32-bit integer.
 * S3_INVALID_REQUEST: too many rules, more than one wildcard in an origin or header, a wildcard in
 * an exposed header, a header that cannot be, another method than GET, PUT, HEAD, POST, DELETE, an
 * ID that is too long or used twice. */
enum s3_error cors_check(const struct cors_field *fields, uint32_t field_count,
                         struct s3_failure *failure);

/* Append the rules, which passed cors_check; empty IDs and headers are left out. */
void cors_encode(struct bytes *out, const struct cors_field *fields, uint32_t field_count);

/* The fields as stored. */
struct cors_reader {
    struct decoder decoder;
    uint64_t left;
};
/* ERR_CORRUPT, ERR_UNSUPPORTED. */
enum err cors_read(struct slice encoded, struct cors_reader *out_reader);
/* False at the end, and at what cannot be a field. The text is borrowed from the encoding. */
bool cors_next(struct cors_reader *reader, struct cors_field *out_field);

bool cors_method_valid(struct slice method);

struct cors_question {
    struct slice origin;
    struct slice method;
    /* Access-Control-Request-Headers of a preflight, each a valid name; empty otherwise. */
    struct slice headers;
};
/* What the page may do; zero-initialised is nothing. */
struct cors_grant {
    struct slice origin;  /* "*", or the one of the question; borrowed from there */
    struct slice max_age; /* empty: not said; borrowed from the rules */
    struct bytes methods; /* "GET, PUT" */
    struct bytes exposed; /* likewise; empty: none, or too many */
};
void cors_grant_deinit(struct cors_grant *grant);
/* By the first rule of which origin, method and all headers match; false when there is none.
 * *out_grant is empty before. */
bool cors_ask(struct slice encoded, const struct cors_question *question,
              struct cors_grant *out_grant);

/* The next name of a comma-separated list, which moves behind it; false at the end. Blanks around
 * names are not part of them. */
bool cors_next_name(struct slice *list, struct slice *out_name);
