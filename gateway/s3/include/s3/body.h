/* Request bodies in XML: fed in slices of any size, typed when finished.
 *
 * The parser refuses a DOCTYPE, any entity but XML's five, nesting deeper than BODY_DEPTH_MAX,
 * documents that are not UTF-8, bodies above body_bytes_max, elements in the wrong place or
 * twice, and values that cannot be. Like S3 it does not look at namespaces and skips elements it
 * does not know. Its memory is at most a small multiple of body_bytes_max(kind). The result does
 * not depend on how the body was split. */
#pragma once
#include "base/own.h"
#include "base/slice.h"
#include "s3/checksum.h"
#include "s3/cors.h"
#include "s3/error.h"
#include "s3/tagging.h"
#include <stdbool.h>
#include <stdint.h>

enum body_kind {
    BODY_DELETE,                /* DeleteObjects */
    BODY_COMPLETE_MULTIPART,    /* CompleteMultipartUpload */
    BODY_CREATE_BUCKET,         /* CreateBucket; an empty body is an empty configuration */
    BODY_ACCESS_CONTROL_POLICY, /* PutBucketAcl, PutObjectAcl */
    BODY_TAGGING,               /* PutBucketTagging, PutObjectTagging */
    BODY_CORS,                  /* PutBucketCors */
};

enum {
    BODY_KIND_COUNT = 6,
    BODY_DEPTH_MAX = 16,
    BODY_DELETE_COUNT_MAX = 1000,
    BODY_PART_COUNT_MAX = 10000,
    BODY_GRANT_COUNT_MAX = 100,
    BODY_TEXT_BYTES_MAX = 4096, /* one value: above it the body is malformed */
};

/* All slices of a result point into the parser and live as long as it does. Optional ones that
 * were not in the body, or were empty, have bytes == 0. Entity tags have lost their quotes. */
struct body_delete_object {
    struct slice key;                /* 1..BODY_TEXT_BYTES_MAX bytes: KeyTooLong is for each key */
    struct slice version_id;         /* "null" is passed on as it is */
    struct slice etag;               /* delete only if it is this one, or "*" */
    struct slice last_modified_time; /* text as sent */
    bool has_size;
    uint64_t size;
};
struct body_delete {
    bool quiet;
    uint32_t object_count; /* 1..BODY_DELETE_COUNT_MAX */
    const struct body_delete_object *objects;
};

struct body_part {
    uint32_t part_number; /* 1..UINT32_MAX: above 10000 no such part exists */
    struct slice etag;
    struct checksum checksum; /* algorithm NONE when none was sent */
};
struct body_complete_multipart {
    uint32_t part_count; /* 1..BODY_PART_COUNT_MAX */
    bool ascending;      /* part numbers grow strictly; if not: InvalidPartOrder */
    const struct body_part *parts;
};

struct body_tagging {
    uint32_t tag_count; /* any that fits into the body: see tags_check */
    const struct tag *tags;
};

struct body_create_bucket {
    struct slice location_constraint;
    struct body_tagging tagging;
};

struct body_cors {
    uint32_t field_count; /* at least one rule: see cors_check */
    const struct cors_field *fields;
};

enum body_grantee_type { BODY_GRANTEE_USER, BODY_GRANTEE_GROUP, BODY_GRANTEE_EMAIL };
enum body_permission {
    BODY_PERMISSION_FULL_CONTROL,
    BODY_PERMISSION_READ,
    BODY_PERMISSION_WRITE,
    BODY_PERMISSION_READ_ACP,
    BODY_PERMISSION_WRITE_ACP,
};
struct body_grant {
    enum body_grantee_type type;
    struct slice grantee; /* canonical user id, group URI or email address */
    enum body_permission permission;
};
struct body_access_control_policy {
    struct slice owner_id; /* not empty */
    uint32_t grant_count;  /* 0..BODY_GRANT_COUNT_MAX */
    const struct body_grant *grants;
};
/* Whether the policy says no more than what holds when ACLs are off: the owner, and nobody else,
 * has FULL_CONTROL (S3 Object Ownership, bucket owner enforced). */
bool body_acl_is_owner_only(const struct body_access_control_policy *policy);

struct body {
    enum body_kind kind;
    union {
        struct body_delete delete;
        struct body_complete_multipart complete;
        struct body_create_bucket create_bucket;
        struct body_access_control_policy access_control_policy;
        struct body_tagging tagging;
        struct body_cors cors;
    };
};

/* Most bytes a body of this kind may have; a longer Content-Length can be refused before
 * reading. */
uint32_t body_bytes_max(enum body_kind kind);

/* Prepare libxml2: once in main, before the first thread. */
void body_library_init(void);

struct body_parser;
/* `failure` (may be NULL) outlives the parser and gets what the answer to an error should say. */
struct body_parser *body_parser_new(enum body_kind kind, struct s3_failure *failure);
void body_parser_free(struct body_parser *parser);
/* The next bytes, any number of them. The first error stays: every later call returns it too.
 *
 * S3_MALFORMED_XML (S3_MALFORMED_ACL for an access control policy): see above.
 * S3_MAX_MESSAGE_LENGTH_EXCEEDED: more than body_bytes_max.
 * S3_INVALID_ARGUMENT: a part number below 1; a part's checksum that is not base64 of the right
 * length, or more than one checksum in a part. */
enum s3_error body_parser_feed(struct body_parser *parser, struct slice data);
/* The body is complete. Errors as body_parser_feed. */
enum s3_error body_parser_finish(struct body_parser *parser, const struct body **out_body);
DEFINE_AUTO(body_parser, body_parser_free)
