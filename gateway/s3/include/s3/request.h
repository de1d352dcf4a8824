/* One S3 request: what is addressed, what is to be done, and the only view of its headers and query
 * that handlers may read.
 *
 * Life: s3_request_new parses (addressing, operation, credential) -> the caller looks up the secret
 * -> s3_auth_verify (s3/sigv4.h) or s3_request_accept_anonymous -> s3_request_header,
 * s3_request_query. The two accessors assert that the request was verified; what they return took
 * part in the signature or is a header that S3 lets be unsigned (Range, If-*, Content-*,
 * Cache-Control: browsers and presigned URLs). `host` and all `x-amz-*` present are signed, or
 * verification refused the request (SECURITY.md S1).
 *
 * Duplicates: a repeated signed header counts as one with its values joined by commas; a repeated
 * unsigned one that has meaning, and a repeated query parameter, are refused.
 *
 * The request borrows `head`, which must outlive it. */
#pragma once
#include "base/own.h"
#include "base/slice.h"
#include "s3/error.h"
#include "s3/form.h"
#include "s3/head.h"
#include "s3/operation.h"
#include "s3/uri.h"
#include <stdbool.h>
#include <stdint.h>

struct s3_request;

/* What the operator chose; zero is a valid default. Borrowed by each request. */
struct s3_config {
    const char *const *domains; /* bases of virtual-host style: "s3.example.com" */
    uint32_t domain_count;
    const char *region;           /* NULL: any region in a signature is accepted */
    bool refuse_unsigned_payload; /* UNSIGNED-PAYLOAD on plain HTTP is refused */
};

enum s3_method {
    S3_GET = 1,
    S3_HEAD,
    S3_PUT,
    S3_POST,
    S3_DELETE,
    S3_OPTIONS,
};

enum s3_auth_kind {
    S3_AUTH_ANONYMOUS,
    S3_AUTH_V4_HEADER,
    S3_AUTH_V4_QUERY,
    S3_AUTH_V2_QUERY,
    S3_AUTH_V4_FORM, /* fields of a browser's upload; what is signed is their policy */
    S3_AUTH_V2_FORM,
};

/* Who claims to have signed. Not verified; for the look-up of the secret. */
struct s3_credential {
    enum s3_auth_kind kind;
    struct slice access_key;    /* empty when anonymous */
    struct slice date;          /* V4: YYYYMMDD of the scope */
    struct slice region;        /* V4: any, not empty */
    struct slice session_token; /* x-amz-security-token; empty when absent */
};

/* How the body is bound to the signature: x-amz-content-sha256. */
enum s3_payload_mode {
    S3_PAYLOAD_UNSIGNED = 1,            /* UNSIGNED-PAYLOAD, and all anonymous and V2 requests */
    S3_PAYLOAD_SIGNED,                  /* SHA-256 of the whole body, in hex */
    S3_PAYLOAD_CHUNKS_SIGNED,           /* STREAMING-AWS4-HMAC-SHA256-PAYLOAD */
    S3_PAYLOAD_CHUNKS_SIGNED_TRAILER,   /* STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER */
    S3_PAYLOAD_CHUNKS_UNSIGNED_TRAILER, /* STREAMING-UNSIGNED-PAYLOAD-TRAILER */
};

struct s3_payload {
    enum s3_payload_mode mode;
    uint8_t sha256[32];         /* S3_PAYLOAD_SIGNED only */
    uint64_t decoded_bytes;     /* x-amz-decoded-content-length; chunked modes only */
    struct slice trailer_names; /* x-amz-trailer, trailer modes only; empty otherwise */
};

/* Parse target, addressing, operation and credential of a head that passed s3_head_check.
 *
 * Besides codes for malformed credentials (s3/sigv4.h): S3_INVALID_URI, S3_KEY_TOO_LONG,
 * S3_INVALID_BUCKET_NAME, S3_INVALID_ARGUMENT (duplicates, conflicting subresources),
 * S3_METHOD_NOT_ALLOWED, S3_NOT_IMPLEMENTED (unknown subresource). */
enum s3_error s3_request_new(const struct s3_head *head, const struct s3_config *config,
                             struct s3_failure *failure, struct s3_request **out_request);
void s3_request_free(struct s3_request *request);
DEFINE_AUTO(s3_request, s3_request_free)

/* Before verification, for logs, look-ups and error bodies. */
enum s3_method s3_request_method(const struct s3_request *request);
enum s3_operation s3_request_operation(const struct s3_request *request);
struct slice s3_request_bucket(const struct s3_request *request); /* empty: the service */
/* Opaque bytes, decoded once, checked by s3_key_check; empty for bucket and service operations. */
struct slice s3_request_key(const struct s3_request *request);
/* Decoded path, for the Resource element. */
struct slice s3_request_path(const struct s3_request *request);
const struct s3_credential *s3_request_credential(const struct s3_request *request);
const struct s3_head *s3_request_head(const struct s3_request *request);

/* The caller has decided that nobody in particular asks. Kind must be S3_AUTH_ANONYMOUS.
 * S3_ACCESS_DENIED: the payload mode needs a signature. S3_INVALID_ARGUMENT: duplicates. */
enum s3_error s3_request_accept_anonymous(struct s3_request *request, struct s3_failure *failure);
bool s3_request_is_verified(const struct s3_request *request);

/* A browser's upload: its fields, complete, become the request. The key is the field `key`; the
 * headers are `host` and those fields that name headers of PutObject, `acl` as x-amz-acl; the other
 * headers and the query, which nobody signed, are gone. The credential is the one of the fields;
 * kind S3_AUTH_ANONYMOUS when they have none. Takes `form` also when it fails.
 *
 * S3_INVALID_ARGUMENT: no key, a field of the signature is missing or malformed, the head is signed
 * too, repeated headers. S3_KEY_TOO_LONG, S3_INVALID_URI: the key. */
enum s3_error s3_request_take_form(struct s3_request *request, struct s3_form *form,
                                   struct s3_failure *failure);

/* The rest asserts that the request is verified. */

/* The form of a browser's upload, all of whose fields must pass its policy (s3/post_policy.h)
 * before anything is done. */
const struct s3_form *s3_request_form(const struct s3_request *request);

/* Value of a header; `name` in lower case. Presigned: an x-amz-* parameter of the query stands for
 * the header of that name, as SDKs that hoist headers expect. data is NULL when absent, not NULL
 * when empty. */
struct slice s3_request_header(const struct s3_request *request, const char *name);
/* Decoded value of a query parameter (exact letter case); data is NULL when absent. */
struct slice s3_request_query(const struct s3_request *request, const char *name);
/* Number of x-amz-meta-* headers (hoisted ones included), each name once. */
uint32_t s3_request_metadata_count(const struct s3_request *request);
/* `out_name` in lower case without the prefix x-amz-meta-. */
void s3_request_metadata_at(const struct s3_request *request, uint32_t index,
                            struct slice *out_name, struct slice *out_value);
/* Sum of names and values within S3_METADATA_BYTES_MAX, names are tokens, values may be stored:
 * S3_METADATA_TOO_LARGE, S3_INVALID_ARGUMENT. */
enum s3_error s3_request_metadata_check(const struct s3_request *request,
                                        struct s3_failure *failure);
const struct s3_payload *s3_request_payload(const struct s3_request *request);

/* Content-Encoding to store: without the aws-chunked in front or behind, which is an encoding of
 * the transfer. Empty when nothing is left; data stays NULL when `value` has none. */
struct slice s3_content_encoding(struct slice value);

/* x-amz-copy-source: [/]bucket/key[?versionId=id], percent-encoded ("CopyObject"). Decoded into
 * `arena` (max >= value.bytes, empty before). version_id.data is NULL when absent.
 * S3_INVALID_ARGUMENT, S3_INVALID_BUCKET_NAME, S3_KEY_TOO_LONG. */
struct s3_copy_source {
    struct slice bucket;
    struct slice key;
    struct slice version_id;
};
enum s3_error s3_copy_source_parse(struct slice value, struct bytes *arena,
                                   struct s3_failure *failure, struct s3_copy_source *out_source);
