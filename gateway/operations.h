/* Every operation that Shale has, one file each (op_<name>.c); contracts in context.h. */
#pragma once
#include "context.h"

operation_fn op_list_buckets;
operation_fn op_create_bucket;
operation_fn op_head_bucket;
operation_fn op_delete_bucket;
operation_fn op_get_bucket_location;
operation_fn op_list_objects;
operation_fn op_list_objects_v2;
operation_fn op_list_object_versions;
operation_fn op_put_object;
operation_fn op_post_object; /* a browser's upload; verifies its signature itself */
operation_fn op_get_object;  /* HEAD too */
operation_fn op_delete_object;
operation_fn op_delete_objects;
operation_fn op_copy_object;
operation_fn op_get_object_attributes;
operation_fn op_create_multipart_upload;
operation_fn op_upload_part;
operation_fn op_upload_part_copy;
operation_fn op_complete_multipart_upload;
operation_fn op_abort_multipart_upload;
operation_fn op_list_parts;
operation_fn op_list_multipart_uploads;
operation_fn op_get_acl; /* bucket and object */
operation_fn op_put_acl;
operation_fn op_get_object_tagging;
operation_fn op_put_object_tagging;
operation_fn op_delete_object_tagging;
operation_fn op_get_bucket_tagging;
operation_fn op_put_bucket_tagging;
operation_fn op_delete_bucket_tagging;
operation_fn op_get_bucket_cors;
operation_fn op_put_bucket_cors;
operation_fn op_delete_bucket_cors;
operation_fn op_preflight; /* bucket, object and service; not verified */
/* Settings that cannot be made yet: the documented answer of a bucket or object without them
 * (not_configured.c). */
operation_fn op_not_configured;
