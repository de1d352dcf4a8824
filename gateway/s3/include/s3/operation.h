/* The whole S3 API by name, and what selects each operation: so that one that Shale lacks is
 * answered 501 under its own name, and a subresource never falls through to the plain operation (a
 * PUT ?newthing must not overwrite the object).
 *
 * Source: S3 API Reference, "Actions", Amazon S3 part, without directory-bucket sessions. */
#pragma once
#include <stdint.h>

enum s3_scope {
    S3_SCOPE_SERVICE,
    S3_SCOPE_BUCKET,
    S3_SCOPE_OBJECT,
};

/* X(name, text, method, scope, subresource, requires)
 *
 * subresource  query parameter that selects it, "" for none
 * requires     "" or a further query parameter or x-amz-* header that must be present; rows that
 *              require something stand before the plain row */
#define S3_OPERATION_LIST(X)                                                                       \
    X(S3_OP_LIST_BUCKETS, "ListBuckets", S3_GET, S3_SCOPE_SERVICE, "", "")                         \
    X(S3_OP_PREFLIGHT_SERVICE, "OptionsService", S3_OPTIONS, S3_SCOPE_SERVICE, "", "")             \
    X(S3_OP_LIST_OBJECTS_V2, "ListObjectsV2", S3_GET, S3_SCOPE_BUCKET, "", "list-type")            \
    X(S3_OP_LIST_OBJECTS, "ListObjects", S3_GET, S3_SCOPE_BUCKET, "", "")                          \
    X(S3_OP_LIST_OBJECT_VERSIONS, "ListObjectVersions", S3_GET, S3_SCOPE_BUCKET, "versions", "")   \
    X(S3_OP_LIST_MULTIPART_UPLOADS, "ListMultipartUploads", S3_GET, S3_SCOPE_BUCKET, "uploads",    \
      "")                                                                                          \
    X(S3_OP_HEAD_BUCKET, "HeadBucket", S3_HEAD, S3_SCOPE_BUCKET, "", "")                           \
    X(S3_OP_CREATE_BUCKET, "CreateBucket", S3_PUT, S3_SCOPE_BUCKET, "", "")                        \
    X(S3_OP_DELETE_BUCKET, "DeleteBucket", S3_DELETE, S3_SCOPE_BUCKET, "", "")                     \
    X(S3_OP_DELETE_OBJECTS, "DeleteObjects", S3_POST, S3_SCOPE_BUCKET, "delete", "")               \
    X(S3_OP_POST_OBJECT, "PostObject", S3_POST, S3_SCOPE_BUCKET, "", "")                           \
    X(S3_OP_PREFLIGHT_BUCKET, "OptionsBucket", S3_OPTIONS, S3_SCOPE_BUCKET, "", "")                \
    X(S3_OP_GET_BUCKET_LOCATION, "GetBucketLocation", S3_GET, S3_SCOPE_BUCKET, "location", "")     \
    X(S3_OP_GET_BUCKET_ABAC, "GetBucketAbac", S3_GET, S3_SCOPE_BUCKET, "abac", "")                 \
    X(S3_OP_PUT_BUCKET_ABAC, "PutBucketAbac", S3_PUT, S3_SCOPE_BUCKET, "abac", "")                 \
    X(S3_OP_GET_BUCKET_ACCELERATE, "GetBucketAccelerateConfiguration", S3_GET, S3_SCOPE_BUCKET,    \
      "accelerate", "")                                                                            \
    X(S3_OP_PUT_BUCKET_ACCELERATE, "PutBucketAccelerateConfiguration", S3_PUT, S3_SCOPE_BUCKET,    \
      "accelerate", "")                                                                            \
    X(S3_OP_GET_BUCKET_ACL, "GetBucketAcl", S3_GET, S3_SCOPE_BUCKET, "acl", "")                    \
    X(S3_OP_PUT_BUCKET_ACL, "PutBucketAcl", S3_PUT, S3_SCOPE_BUCKET, "acl", "")                    \
    X(S3_OP_GET_BUCKET_ANALYTICS, "GetBucketAnalyticsConfiguration", S3_GET, S3_SCOPE_BUCKET,      \
      "analytics", "id")                                                                           \
    X(S3_OP_LIST_BUCKET_ANALYTICS, "ListBucketAnalyticsConfigurations", S3_GET, S3_SCOPE_BUCKET,   \
      "analytics", "")                                                                             \
    X(S3_OP_PUT_BUCKET_ANALYTICS, "PutBucketAnalyticsConfiguration", S3_PUT, S3_SCOPE_BUCKET,      \
      "analytics", "")                                                                             \
    X(S3_OP_DELETE_BUCKET_ANALYTICS, "DeleteBucketAnalyticsConfiguration", S3_DELETE,              \
      S3_SCOPE_BUCKET, "analytics", "")                                                            \
    X(S3_OP_GET_BUCKET_CORS, "GetBucketCors", S3_GET, S3_SCOPE_BUCKET, "cors", "")                 \
    X(S3_OP_PUT_BUCKET_CORS, "PutBucketCors", S3_PUT, S3_SCOPE_BUCKET, "cors", "")                 \
    X(S3_OP_DELETE_BUCKET_CORS, "DeleteBucketCors", S3_DELETE, S3_SCOPE_BUCKET, "cors", "")        \
    X(S3_OP_GET_BUCKET_ENCRYPTION, "GetBucketEncryption", S3_GET, S3_SCOPE_BUCKET, "encryption",   \
      "")                                                                                          \
    X(S3_OP_PUT_BUCKET_ENCRYPTION, "PutBucketEncryption", S3_PUT, S3_SCOPE_BUCKET, "encryption",   \
      "")                                                                                          \
    X(S3_OP_DELETE_BUCKET_ENCRYPTION, "DeleteBucketEncryption", S3_DELETE, S3_SCOPE_BUCKET,        \
      "encryption", "")                                                                            \
    X(S3_OP_GET_BUCKET_INTELLIGENT_TIERING, "GetBucketIntelligentTieringConfiguration", S3_GET,    \
      S3_SCOPE_BUCKET, "intelligent-tiering", "id")                                                \
    X(S3_OP_LIST_BUCKET_INTELLIGENT_TIERING, "ListBucketIntelligentTieringConfigurations", S3_GET, \
      S3_SCOPE_BUCKET, "intelligent-tiering", "")                                                  \
    X(S3_OP_PUT_BUCKET_INTELLIGENT_TIERING, "PutBucketIntelligentTieringConfiguration", S3_PUT,    \
      S3_SCOPE_BUCKET, "intelligent-tiering", "")                                                  \
    X(S3_OP_DELETE_BUCKET_INTELLIGENT_TIERING, "DeleteBucketIntelligentTieringConfiguration",      \
      S3_DELETE, S3_SCOPE_BUCKET, "intelligent-tiering", "")                                       \
    X(S3_OP_GET_BUCKET_INVENTORY, "GetBucketInventoryConfiguration", S3_GET, S3_SCOPE_BUCKET,      \
      "inventory", "id")                                                                           \
    X(S3_OP_LIST_BUCKET_INVENTORY, "ListBucketInventoryConfigurations", S3_GET, S3_SCOPE_BUCKET,   \
      "inventory", "")                                                                             \
    X(S3_OP_PUT_BUCKET_INVENTORY, "PutBucketInventoryConfiguration", S3_PUT, S3_SCOPE_BUCKET,      \
      "inventory", "")                                                                             \
    X(S3_OP_DELETE_BUCKET_INVENTORY, "DeleteBucketInventoryConfiguration", S3_DELETE,              \
      S3_SCOPE_BUCKET, "inventory", "")                                                            \
    X(S3_OP_GET_BUCKET_LIFECYCLE, "GetBucketLifecycleConfiguration", S3_GET, S3_SCOPE_BUCKET,      \
      "lifecycle", "")                                                                             \
    X(S3_OP_PUT_BUCKET_LIFECYCLE, "PutBucketLifecycleConfiguration", S3_PUT, S3_SCOPE_BUCKET,      \
      "lifecycle", "")                                                                             \
    X(S3_OP_DELETE_BUCKET_LIFECYCLE, "DeleteBucketLifecycle", S3_DELETE, S3_SCOPE_BUCKET,          \
      "lifecycle", "")                                                                             \
    X(S3_OP_GET_BUCKET_LOGGING, "GetBucketLogging", S3_GET, S3_SCOPE_BUCKET, "logging", "")        \
    X(S3_OP_PUT_BUCKET_LOGGING, "PutBucketLogging", S3_PUT, S3_SCOPE_BUCKET, "logging", "")        \
    X(S3_OP_CREATE_BUCKET_METADATA, "CreateBucketMetadataConfiguration", S3_POST, S3_SCOPE_BUCKET, \
      "metadataConfiguration", "")                                                                 \
    X(S3_OP_GET_BUCKET_METADATA, "GetBucketMetadataConfiguration", S3_GET, S3_SCOPE_BUCKET,        \
      "metadataConfiguration", "")                                                                 \
    X(S3_OP_DELETE_BUCKET_METADATA, "DeleteBucketMetadataConfiguration", S3_DELETE,                \
      S3_SCOPE_BUCKET, "metadataConfiguration", "")                                                \
    X(S3_OP_CREATE_BUCKET_METADATA_TABLE, "CreateBucketMetadataTableConfiguration", S3_POST,       \
      S3_SCOPE_BUCKET, "metadataTable", "")                                                        \
    X(S3_OP_GET_BUCKET_METADATA_TABLE, "GetBucketMetadataTableConfiguration", S3_GET,              \
      S3_SCOPE_BUCKET, "metadataTable", "")                                                        \
    X(S3_OP_DELETE_BUCKET_METADATA_TABLE, "DeleteBucketMetadataTableConfiguration", S3_DELETE,     \
      S3_SCOPE_BUCKET, "metadataTable", "")                                                        \
    X(S3_OP_UPDATE_BUCKET_METADATA_INVENTORY, "UpdateBucketMetadataInventoryTableConfiguration",   \
      S3_PUT, S3_SCOPE_BUCKET, "metadataInventoryTable", "")                                       \
    X(S3_OP_UPDATE_BUCKET_METADATA_JOURNAL, "UpdateBucketMetadataJournalTableConfiguration",       \
      S3_PUT, S3_SCOPE_BUCKET, "metadataJournalTable", "")                                         \
    X(S3_OP_GET_BUCKET_METRICS, "GetBucketMetricsConfiguration", S3_GET, S3_SCOPE_BUCKET,          \
      "metrics", "id")                                                                             \
    X(S3_OP_LIST_BUCKET_METRICS, "ListBucketMetricsConfigurations", S3_GET, S3_SCOPE_BUCKET,       \
      "metrics", "")                                                                               \
    X(S3_OP_PUT_BUCKET_METRICS, "PutBucketMetricsConfiguration", S3_PUT, S3_SCOPE_BUCKET,          \
      "metrics", "")                                                                               \
    X(S3_OP_DELETE_BUCKET_METRICS, "DeleteBucketMetricsConfiguration", S3_DELETE, S3_SCOPE_BUCKET, \
      "metrics", "")                                                                               \
    X(S3_OP_GET_BUCKET_NOTIFICATION, "GetBucketNotificationConfiguration", S3_GET,                 \
      S3_SCOPE_BUCKET, "notification", "")                                                         \
    X(S3_OP_PUT_BUCKET_NOTIFICATION, "PutBucketNotificationConfiguration", S3_PUT,                 \
      S3_SCOPE_BUCKET, "notification", "")                                                         \
    X(S3_OP_GET_OBJECT_LOCK, "GetObjectLockConfiguration", S3_GET, S3_SCOPE_BUCKET, "object-lock", \
      "")                                                                                          \
    X(S3_OP_PUT_OBJECT_LOCK, "PutObjectLockConfiguration", S3_PUT, S3_SCOPE_BUCKET, "object-lock", \
      "")                                                                                          \
    X(S3_OP_GET_BUCKET_OWNERSHIP, "GetBucketOwnershipControls", S3_GET, S3_SCOPE_BUCKET,           \
      "ownershipControls", "")                                                                     \
    X(S3_OP_PUT_BUCKET_OWNERSHIP, "PutBucketOwnershipControls", S3_PUT, S3_SCOPE_BUCKET,           \
      "ownershipControls", "")                                                                     \
    X(S3_OP_DELETE_BUCKET_OWNERSHIP, "DeleteBucketOwnershipControls", S3_DELETE, S3_SCOPE_BUCKET,  \
      "ownershipControls", "")                                                                     \
    X(S3_OP_GET_BUCKET_POLICY, "GetBucketPolicy", S3_GET, S3_SCOPE_BUCKET, "policy", "")           \
    X(S3_OP_PUT_BUCKET_POLICY, "PutBucketPolicy", S3_PUT, S3_SCOPE_BUCKET, "policy", "")           \
    X(S3_OP_DELETE_BUCKET_POLICY, "DeleteBucketPolicy", S3_DELETE, S3_SCOPE_BUCKET, "policy", "")  \
    X(S3_OP_GET_BUCKET_POLICY_STATUS, "GetBucketPolicyStatus", S3_GET, S3_SCOPE_BUCKET,            \
      "policyStatus", "")                                                                          \
    X(S3_OP_GET_PUBLIC_ACCESS_BLOCK, "GetPublicAccessBlock", S3_GET, S3_SCOPE_BUCKET,              \
      "publicAccessBlock", "")                                                                     \
    X(S3_OP_PUT_PUBLIC_ACCESS_BLOCK, "PutPublicAccessBlock", S3_PUT, S3_SCOPE_BUCKET,              \
      "publicAccessBlock", "")                                                                     \
    X(S3_OP_DELETE_PUBLIC_ACCESS_BLOCK, "DeletePublicAccessBlock", S3_DELETE, S3_SCOPE_BUCKET,     \
      "publicAccessBlock", "")                                                                     \
    X(S3_OP_GET_BUCKET_REPLICATION, "GetBucketReplication", S3_GET, S3_SCOPE_BUCKET,               \
      "replication", "")                                                                           \
    X(S3_OP_PUT_BUCKET_REPLICATION, "PutBucketReplication", S3_PUT, S3_SCOPE_BUCKET,               \
      "replication", "")                                                                           \
    X(S3_OP_DELETE_BUCKET_REPLICATION, "DeleteBucketReplication", S3_DELETE, S3_SCOPE_BUCKET,      \
      "replication", "")                                                                           \
    X(S3_OP_GET_BUCKET_REQUEST_PAYMENT, "GetBucketRequestPayment", S3_GET, S3_SCOPE_BUCKET,        \
      "requestPayment", "")                                                                        \
    X(S3_OP_PUT_BUCKET_REQUEST_PAYMENT, "PutBucketRequestPayment", S3_PUT, S3_SCOPE_BUCKET,        \
      "requestPayment", "")                                                                        \
    X(S3_OP_CREATE_SESSION, "CreateSession", S3_GET, S3_SCOPE_BUCKET, "session", "")               \
    X(S3_OP_GET_BUCKET_TAGGING, "GetBucketTagging", S3_GET, S3_SCOPE_BUCKET, "tagging", "")        \
    X(S3_OP_PUT_BUCKET_TAGGING, "PutBucketTagging", S3_PUT, S3_SCOPE_BUCKET, "tagging", "")        \
    X(S3_OP_DELETE_BUCKET_TAGGING, "DeleteBucketTagging", S3_DELETE, S3_SCOPE_BUCKET, "tagging",   \
      "")                                                                                          \
    X(S3_OP_GET_BUCKET_VERSIONING, "GetBucketVersioning", S3_GET, S3_SCOPE_BUCKET, "versioning",   \
      "")                                                                                          \
    X(S3_OP_PUT_BUCKET_VERSIONING, "PutBucketVersioning", S3_PUT, S3_SCOPE_BUCKET, "versioning",   \
      "")                                                                                          \
    X(S3_OP_GET_BUCKET_WEBSITE, "GetBucketWebsite", S3_GET, S3_SCOPE_BUCKET, "website", "")        \
    X(S3_OP_PUT_BUCKET_WEBSITE, "PutBucketWebsite", S3_PUT, S3_SCOPE_BUCKET, "website", "")        \
    X(S3_OP_DELETE_BUCKET_WEBSITE, "DeleteBucketWebsite", S3_DELETE, S3_SCOPE_BUCKET, "website",   \
      "")                                                                                          \
    X(S3_OP_GET_OBJECT, "GetObject", S3_GET, S3_SCOPE_OBJECT, "", "")                              \
    X(S3_OP_HEAD_OBJECT, "HeadObject", S3_HEAD, S3_SCOPE_OBJECT, "", "")                           \
    X(S3_OP_COPY_OBJECT, "CopyObject", S3_PUT, S3_SCOPE_OBJECT, "", "x-amz-copy-source")           \
    X(S3_OP_PUT_OBJECT, "PutObject", S3_PUT, S3_SCOPE_OBJECT, "", "")                              \
    X(S3_OP_DELETE_OBJECT, "DeleteObject", S3_DELETE, S3_SCOPE_OBJECT, "", "")                     \
    X(S3_OP_PREFLIGHT_OBJECT, "OptionsObject", S3_OPTIONS, S3_SCOPE_OBJECT, "", "")                \
    X(S3_OP_CREATE_MULTIPART_UPLOAD, "CreateMultipartUpload", S3_POST, S3_SCOPE_OBJECT, "uploads", \
      "")                                                                                          \
    X(S3_OP_UPLOAD_PART_COPY, "UploadPartCopy", S3_PUT, S3_SCOPE_OBJECT, "uploadId",               \
      "x-amz-copy-source")                                                                         \
    X(S3_OP_UPLOAD_PART, "UploadPart", S3_PUT, S3_SCOPE_OBJECT, "uploadId", "")                    \
    X(S3_OP_LIST_PARTS, "ListParts", S3_GET, S3_SCOPE_OBJECT, "uploadId", "")                      \
    X(S3_OP_COMPLETE_MULTIPART_UPLOAD, "CompleteMultipartUpload", S3_POST, S3_SCOPE_OBJECT,        \
      "uploadId", "")                                                                              \
    X(S3_OP_ABORT_MULTIPART_UPLOAD, "AbortMultipartUpload", S3_DELETE, S3_SCOPE_OBJECT,            \
      "uploadId", "")                                                                              \
    X(S3_OP_GET_OBJECT_ACL, "GetObjectAcl", S3_GET, S3_SCOPE_OBJECT, "acl", "")                    \
    X(S3_OP_PUT_OBJECT_ACL, "PutObjectAcl", S3_PUT, S3_SCOPE_OBJECT, "acl", "")                    \
    X(S3_OP_GET_OBJECT_ATTRIBUTES, "GetObjectAttributes", S3_GET, S3_SCOPE_OBJECT, "attributes",   \
      "")                                                                                          \
    X(S3_OP_GET_OBJECT_LEGAL_HOLD, "GetObjectLegalHold", S3_GET, S3_SCOPE_OBJECT, "legal-hold",    \
      "")                                                                                          \
    X(S3_OP_PUT_OBJECT_LEGAL_HOLD, "PutObjectLegalHold", S3_PUT, S3_SCOPE_OBJECT, "legal-hold",    \
      "")                                                                                          \
    X(S3_OP_GET_OBJECT_RETENTION, "GetObjectRetention", S3_GET, S3_SCOPE_OBJECT, "retention", "")  \
    X(S3_OP_PUT_OBJECT_RETENTION, "PutObjectRetention", S3_PUT, S3_SCOPE_OBJECT, "retention", "")  \
    X(S3_OP_GET_OBJECT_TAGGING, "GetObjectTagging", S3_GET, S3_SCOPE_OBJECT, "tagging", "")        \
    X(S3_OP_PUT_OBJECT_TAGGING, "PutObjectTagging", S3_PUT, S3_SCOPE_OBJECT, "tagging", "")        \
    X(S3_OP_DELETE_OBJECT_TAGGING, "DeleteObjectTagging", S3_DELETE, S3_SCOPE_OBJECT, "tagging",   \
      "")                                                                                          \
    X(S3_OP_GET_OBJECT_TORRENT, "GetObjectTorrent", S3_GET, S3_SCOPE_OBJECT, "torrent", "")        \
    X(S3_OP_RENAME_OBJECT, "RenameObject", S3_PUT, S3_SCOPE_OBJECT, "renameObject", "")            \
    X(S3_OP_RESTORE_OBJECT, "RestoreObject", S3_POST, S3_SCOPE_OBJECT, "restore", "")              \
    X(S3_OP_SELECT_OBJECT_CONTENT, "SelectObjectContent", S3_POST, S3_SCOPE_OBJECT, "select", "")  \
    X(S3_OP_UPDATE_OBJECT_ENCRYPTION, "UpdateObjectEncryption", S3_PUT, S3_SCOPE_OBJECT,           \
      "encryption", "")

enum s3_operation {
    S3_OP_NONE = 0,
#define X(name, text, method, scope, subresource, requires) name,
    S3_OPERATION_LIST(X)
#undef X
        S3_OP_END,
};

/* "PutObject"; static. "None" for S3_OP_NONE. */
const char *s3_operation_name(enum s3_operation operation);
/* `operation` is a real one. */
enum s3_scope s3_operation_scope(enum s3_operation operation);
