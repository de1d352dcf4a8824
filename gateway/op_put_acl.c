/* PutBucketAcl, PutObjectAcl: what says no more than what holds anyway is accepted, everything else
 * is refused as S3 does for a bucket with ACLs off. */
#include "operations.h"
#include "xml_body.h"

static enum s3_error check_policy(struct io *io, struct context *context)
{
    AUTO(body_parser) parser = NULL;
    const struct body *body;
    TRY(xml_body_read(io, context, BODY_ACCESS_CONTROL_POLICY, &parser, &body));
    const struct body_access_control_policy *policy = &body->access_control_policy;
    if (!body_acl_is_owner_only(policy) ||
        !slice_equal_text(policy->owner_id, context->bucket.owner))
        return S3_FAIL(S3_ACCESS_CONTROL_LIST_NOT_SUPPORTED, "grants=%u", policy->grant_count);
    return S3_OK;
}

enum s3_error op_put_acl(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    if (s3_request_operation(context->request) == S3_OP_PUT_OBJECT_ACL) {
        AUTO(object) object = NULL;
        TRY(context_find_object(io, context, false, &object));
    }
    TRY(context_refuse_unsupported(context)); /* other canned ACLs and all grants */
    bool canned = s3_request_header(context->request, "x-amz-acl").bytes > 0;
    bool has_body = xml_body_present(context);
    if (canned && has_body)
        return S3_FAIL(S3_UNEXPECTED_CONTENT, "canned ACL and a body");
    if (!canned && !has_body)
        return S3_FAIL(S3_MISSING_SECURITY_HEADER, "neither ACL header nor body");
    if (has_body)
        TRY(check_policy(io, context));
    return context_respond_empty(io, context, 200);
}
