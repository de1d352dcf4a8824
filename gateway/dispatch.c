/* See dispatch.h. */
#include "dispatch.h"

#include "operations.h"

static operation_fn *const table[S3_OP_END] = {
    [S3_OP_LIST_BUCKETS] = op_list_buckets,
    [S3_OP_CREATE_BUCKET] = op_create_bucket,
    [S3_OP_HEAD_BUCKET] = op_head_bucket,
    [S3_OP_DELETE_BUCKET] = op_delete_bucket,
    [S3_OP_GET_BUCKET_LOCATION] = op_get_bucket_location,
    [S3_OP_LIST_OBJECTS] = op_list_objects,
    [S3_OP_LIST_OBJECTS_V2] = op_list_objects_v2,
    [S3_OP_LIST_OBJECT_VERSIONS] = op_list_object_versions,
    [S3_OP_PUT_OBJECT] = op_put_object,
    [S3_OP_POST_OBJECT] = op_post_object,
    [S3_OP_GET_OBJECT] = op_get_object,
    [S3_OP_HEAD_OBJECT] = op_get_object,
    [S3_OP_DELETE_OBJECT] = op_delete_object,
    [S3_OP_DELETE_OBJECTS] = op_delete_objects,
    [S3_OP_COPY_OBJECT] = op_copy_object,
    [S3_OP_GET_OBJECT_ATTRIBUTES] = op_get_object_attributes,
    [S3_OP_CREATE_MULTIPART_UPLOAD] = op_create_multipart_upload,
    [S3_OP_UPLOAD_PART] = op_upload_part,
    [S3_OP_UPLOAD_PART_COPY] = op_upload_part_copy,
    [S3_OP_COMPLETE_MULTIPART_UPLOAD] = op_complete_multipart_upload,
    [S3_OP_ABORT_MULTIPART_UPLOAD] = op_abort_multipart_upload,
    [S3_OP_LIST_PARTS] = op_list_parts,
    [S3_OP_LIST_MULTIPART_UPLOADS] = op_list_multipart_uploads,
    [S3_OP_GET_BUCKET_ACL] = op_get_acl,
    [S3_OP_GET_OBJECT_ACL] = op_get_acl,
    [S3_OP_PUT_BUCKET_ACL] = op_put_acl,
    [S3_OP_PUT_OBJECT_ACL] = op_put_acl,
    [S3_OP_GET_OBJECT_TAGGING] = op_get_object_tagging,
    [S3_OP_PUT_OBJECT_TAGGING] = op_put_object_tagging,
    [S3_OP_DELETE_OBJECT_TAGGING] = op_delete_object_tagging,
    [S3_OP_GET_BUCKET_TAGGING] = op_get_bucket_tagging,
    [S3_OP_PUT_BUCKET_TAGGING] = op_put_bucket_tagging,
    [S3_OP_DELETE_BUCKET_TAGGING] = op_delete_bucket_tagging,
    [S3_OP_GET_BUCKET_CORS] = op_get_bucket_cors,
    [S3_OP_PUT_BUCKET_CORS] = op_put_bucket_cors,
    [S3_OP_DELETE_BUCKET_CORS] = op_delete_bucket_cors,
    [S3_OP_PREFLIGHT_SERVICE] = op_preflight,
    [S3_OP_PREFLIGHT_BUCKET] = op_preflight,
    [S3_OP_PREFLIGHT_OBJECT] = op_preflight,
    [S3_OP_GET_BUCKET_VERSIONING] = op_not_configured,
    [S3_OP_GET_BUCKET_POLICY] = op_not_configured,
    [S3_OP_GET_BUCKET_POLICY_STATUS] = op_not_configured,
    [S3_OP_GET_BUCKET_LIFECYCLE] = op_not_configured,
    [S3_OP_GET_BUCKET_ENCRYPTION] = op_not_configured,
    [S3_OP_GET_OBJECT_LOCK] = op_not_configured,
    [S3_OP_GET_OBJECT_RETENTION] = op_not_configured,
    [S3_OP_GET_OBJECT_LEGAL_HOLD] = op_not_configured,
    [S3_OP_GET_BUCKET_WEBSITE] = op_not_configured,
    [S3_OP_GET_BUCKET_REPLICATION] = op_not_configured,
    [S3_OP_GET_PUBLIC_ACCESS_BLOCK] = op_not_configured,
    [S3_OP_GET_BUCKET_OWNERSHIP] = op_not_configured,
    [S3_OP_GET_BUCKET_NOTIFICATION] = op_not_configured,
    [S3_OP_GET_BUCKET_LOGGING] = op_not_configured,
    [S3_OP_GET_BUCKET_REQUEST_PAYMENT] = op_not_configured,
    [S3_OP_GET_BUCKET_ACCELERATE] = op_not_configured,
};

operation_fn *dispatch_find(enum s3_operation operation)
{
    assert(operation < S3_OP_END);
    return table[operation];
}
