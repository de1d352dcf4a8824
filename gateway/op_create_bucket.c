/* CreateBucket. */
#include "base/mem.h"
#include "bucket_config.h"
#include "operations.h"
#include "owner.h"
#include "tag_set.h"
#include "xml_body.h"

enum {
    REGION_BYTES_MAX = 64,
    SHOWN_BYTES_MAX = 64, /* of a value in an answer */
};
static_assert(REGION_BYTES_MAX < sizeof(((struct bucket *)NULL)->region));

static enum s3_error refuse(struct context *context, const char *header, enum s3_error error)
{
    s3_failure_add(&context->failure, "Header", slice_of_text(header));
    return S3_FAIL(error, "header=%s", header);
}

/* S3's canned ACLs of a bucket: those but "private" contradict the ownership that all buckets
 * have. */
static enum s3_error check_acl(struct context *context)
{
    static const char *const canned[] = {"public-read", "public-read-write", "authenticated-read",
                                         "log-delivery-write", "aws-exec-read"};
    const char *header = "x-amz-acl";
    struct slice value = s3_request_header(context->request, header);
    if (value.bytes == 0 || slice_equal_text(value, "private") ||
        slice_equal_text(value, "bucket-owner-full-control"))
        return S3_OK;
    for (size_t i = 0; i < sizeof canned / sizeof canned[0]; i++)
        if (slice_equal_text(value, canned[i]))
            return refuse(context, header, S3_INVALID_BUCKET_ACL_WITH_OBJECT_OWNERSHIP);
    return s3_fail_argument(&context->failure, header, value, "The canned ACL is not valid.");
}

/* A bucket is owned as "bucket owner enforced" says, and has no object lock. */
static enum s3_error check_headers(struct context *context)
{
    TRY(check_acl(context));
    TRY(context_refuse_unsupported(context));
    const char *lock = "x-amz-bucket-object-lock-enabled";
    struct slice value = s3_request_header(context->request, lock);
    if (value.bytes > 0 && !slice_equal_nocase(value, SLICE_LITERAL("false")))
        return refuse(context, lock, S3_NOT_IMPLEMENTED);
    const char *ownership = "x-amz-object-ownership";
    value = s3_request_header(context->request, ownership);
    if (value.bytes == 0 || slice_equal_text(value, "BucketOwnerEnforced"))
        return S3_OK;
    if (slice_equal_text(value, "BucketOwnerPreferred") || slice_equal_text(value, "ObjectWriter"))
        return refuse(context, ownership, S3_NOT_IMPLEMENTED);
    AUTO_STRING message = mem_format("Invalid x-amz-object-ownership header: %.*s",
                                     SLICE_PRINT(slice_first(value, SHOWN_BYTES_MAX)));
    return s3_fail_argument(&context->failure, ownership, slice_of(NULL, 0), message);
}

/* The region that the bucket keeps. Any is accepted unless the operator named the one that there
 * is. */
static enum s3_error check_region(struct context *context, struct slice constraint,
                                  struct slice *out_region)
{
    struct slice own = slice_of_text(context->gateway->options.s3.region);
    if (slice_equal_text(constraint, "EU")) /* the oldest name of it */
        constraint = SLICE_LITERAL("eu-west-1");
    if (constraint.bytes == 0)
        constraint = own;
    bool fits = own.bytes == 0 || slice_equal(constraint, own);
    for (size_t i = 0; i < constraint.bytes; i++)
        fits = fits && constraint.data[i] > ' ' && constraint.data[i] < 0x7f;
    if (!fits || constraint.bytes > REGION_BYTES_MAX)
        return S3_FAIL_SAY(&context->failure, S3_ILLEGAL_LOCATION_CONSTRAINT,
                           "The %.*s location constraint is incompatible for the region specific "
                           "endpoint this request was sent to.",
                           SLICE_PRINT(slice_first(constraint, REGION_BYTES_MAX)));
    *out_region = constraint;
    return S3_OK;
}

static enum s3_error create(struct io *io, struct context *context, struct slice region)
{
    struct owner owner = owner_of_request(context);
    struct slice name = s3_request_bucket(context->request);
    enum err err = meta_bucket_create(io, context->gateway->options.meta, name,
                                      slice_of_text(owner.id), region, &context->bucket);
    if (err == ERR_EXISTS) {
        s3_failure_add(&context->failure, "BucketName", name);
        return S3_FAIL(owner_has(context, &context->bucket) ? S3_BUCKET_ALREADY_OWNED_BY_YOU
                                                            : S3_BUCKET_ALREADY_EXISTS,
                       "bucket=%.*s", SLICE_PRINT(name));
    }
    if (err == ERR_LIMIT)
        return S3_FAIL(S3_TOO_MANY_BUCKETS, "bucket create");
    return s3_error_from(err, "bucket create");
}

enum s3_error op_create_bucket(struct io *io, struct context *context)
{
    TRY(check_headers(context));
    AUTO(body_parser) parser = NULL;
    AUTO_VALUE(bytes) tags = {.max = TAGS_BYTES_MAX};
    struct slice constraint = slice_of(NULL, 0);
    if (xml_body_present(context)) {
        const struct body *body;
        TRY(xml_body_read(io, context, BODY_CREATE_BUCKET, &parser, &body));
        constraint = body->create_bucket.location_constraint;
        const struct body_tagging *tagging = &body->create_bucket.tagging;
        TRY(tags_check(tagging->tags, tagging->tag_count, TAG_BUCKET_COUNT_MAX, &context->failure));
        tags_encode(&tags, tagging->tags, tagging->tag_count);
    }
    struct slice region;
    TRY(check_region(context, constraint, &region));
    TRY(create(io, context, region));
    if (tags.bytes > 0)
        TRY(bucket_config_put(io, context, BUCKET_CONFIG_TAGS, bytes_slice(&tags)));
    exchange_header_format(context->exchange, "Location", "/%s", context->bucket.name);
    exchange_header_format(context->exchange, "x-amz-bucket-arn", "arn:aws:s3:::%s",
                           context->bucket.name);
    return context_respond_empty(io, context, 200);
}
