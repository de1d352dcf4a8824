/* The inside of a request, shared by the files that parse, route and verify it. */
#pragma once
#include "base/bytes.h"
#include "s3/chunked.h"
#include "s3/request.h"
#include "s3/sigv4.h"

/* All headers of one name. Signatures are computed from this table and handlers read from it, so
 * the two cannot see different requests. */
struct view_header {
    struct slice name;  /* lower case */
    struct slice value; /* of repeated headers: joined by commas in wire order */
    bool is_repeated;
    bool is_signed;  /* named by SignedHeaders; V2: part of its string to sign */
    bool is_hoisted; /* an x-amz-* parameter of a presigned URL that stands for a header */
};

/* The signature that the request claims to carry; slices point into the head or the decoded
 * query. */
struct claim {
    struct slice scope;        /* YYYYMMDD/region/s3/aws4_request */
    struct slice signed_names; /* SignedHeaders as sent */
    struct slice signature;    /* as sent */
    struct slice date;         /* the text that was signed: X-Amz-Date, x-amz-date or Date */
    uint64_t time_ms;          /* `date` as a time */
    uint64_t expires_seconds;  /* V4 query: after `date`; V2 query: since 1970 */
    struct slice policy;       /* forms: the string to sign */
};

struct s3_request {
    const struct s3_head *head;
    const struct s3_config *config;
    enum s3_method method;
    enum s3_operation operation;
    struct bytes path_bytes;
    struct bytes query_bytes;
    struct bytes header_bytes;
    struct slice path; /* decoded, starts with '/' */
    struct slice bucket;
    bool bucket_from_host; /* virtual-host style */
    struct slice key;
    struct s3_pair query[S3_QUERY_PAIRS_MAX]; /* names are distinct */
    uint32_t query_count;
    struct view_header headers[S3_HEADERS_MAX + S3_QUERY_PAIRS_MAX]; /* names are distinct */
    uint32_t header_count;
    struct s3_credential credential;
    struct claim claim;
    struct s3_payload payload;
    struct slice payload_line; /* last line of the canonical request */
    struct s3_chunk_signing chunk_signing;
    struct s3_form *form; /* of a browser's upload; the view above is made of it */
    bool is_verified;
};

/* NULL when absent. */
const struct view_header *view_find(const struct s3_request *request, const char *name);
const struct s3_pair *query_find(const struct s3_request *request, const char *name);
/* For X-Amz-* parameters, whose letter case S3 ignores. */
const struct s3_pair *query_find_nocase(const struct s3_request *request, const char *name);
/* Lower-case copy in an arena that has room for it. */
struct slice append_lower(struct bytes *arena, struct slice text);

/* route.c: set request->operation. */
enum s3_error route_request(struct s3_request *request, struct s3_failure *failure);
/* credential.c: set credential, claim, payload; mark the signed headers. */
enum s3_error credential_parse(struct s3_request *request, struct s3_failure *failure);
/* post_request.c: the field is there; `name` in S3's letter case. S3_INVALID_ARGUMENT names it. */
enum s3_error form_require(const struct s3_form *form, const char *name,
                           struct s3_failure *failure);
/* The same from the fields of a browser's upload; leaves the credential anonymous when there are
 * none. */
enum s3_error credential_parse_form(struct s3_request *request, const struct s3_form *form,
                                    struct s3_failure *failure);
/* payload.c: set payload and payload_line. */
enum s3_error payload_parse(struct s3_request *request, struct s3_failure *failure);
/* request.c: refuse repeated headers that are unsigned and have meaning. */
enum s3_error check_repeated(const struct s3_request *request, struct s3_failure *failure);
