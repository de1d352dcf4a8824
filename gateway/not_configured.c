/* Settings that nobody can have made, because their PUT is answered 501: what S3 says of a bucket
 * or an object without them (S3 API Reference, the Get action of each). */
#include "operations.h"

static const struct setting {
    enum s3_operation operation;
    enum s3_error error; /* S3_OK: a document is the answer */
    const char *message; /* in place of the error's own, or NULL */
    const char *root;    /* of the document */
    const char *content; /* of the root: a literal, already XML */
} settings[] = {
    {S3_OP_GET_BUCKET_VERSIONING, S3_OK, NULL, "VersioningConfiguration", ""},
    {S3_OP_GET_BUCKET_NOTIFICATION, S3_OK, NULL, "NotificationConfiguration", ""},
    {S3_OP_GET_BUCKET_LOGGING, S3_OK, NULL, "BucketLoggingStatus", ""},
    {S3_OP_GET_BUCKET_ACCELERATE, S3_OK, NULL, "AccelerateConfiguration", ""},
    {S3_OP_GET_BUCKET_REQUEST_PAYMENT, S3_OK, NULL, "RequestPaymentConfiguration",
     "<Payer>BucketOwner</Payer>"},
    {S3_OP_GET_BUCKET_OWNERSHIP, S3_OK, NULL, "OwnershipControls",
     "<Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>"},
    {S3_OP_GET_BUCKET_POLICY, S3_NO_SUCH_BUCKET_POLICY, NULL, NULL, NULL},
    {S3_OP_GET_BUCKET_POLICY_STATUS, S3_NO_SUCH_BUCKET_POLICY, NULL, NULL, NULL},
    {S3_OP_GET_BUCKET_LIFECYCLE, S3_NO_SUCH_LIFECYCLE_CONFIGURATION, NULL, NULL, NULL},
    {S3_OP_GET_BUCKET_ENCRYPTION, S3_SERVER_SIDE_ENCRYPTION_CONFIGURATION_NOT_FOUND, NULL, NULL,
     NULL},
    {S3_OP_GET_BUCKET_WEBSITE, S3_NO_SUCH_WEBSITE_CONFIGURATION, NULL, NULL, NULL},
    {S3_OP_GET_BUCKET_REPLICATION, S3_REPLICATION_CONFIGURATION_NOT_FOUND, NULL, NULL, NULL},
    {S3_OP_GET_PUBLIC_ACCESS_BLOCK, S3_NO_SUCH_PUBLIC_ACCESS_BLOCK, NULL, NULL, NULL},
    {S3_OP_GET_OBJECT_LOCK, S3_OBJECT_LOCK_CONFIGURATION_NOT_FOUND, NULL, NULL, NULL},
    {S3_OP_GET_OBJECT_RETENTION, S3_INVALID_REQUEST, "Bucket is missing Object Lock Configuration",
     NULL, NULL},
    {S3_OP_GET_OBJECT_LEGAL_HOLD, S3_INVALID_REQUEST, "Bucket is missing Object Lock Configuration",
     NULL, NULL},
};

static const struct setting *setting_find(enum s3_operation operation)
{
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        if (settings[i].operation == operation)
            return &settings[i];
    return NULL;
}

enum s3_error op_not_configured(struct io *io, struct context *context)
{
    const struct setting *setting = setting_find(s3_request_operation(context->request));
    assert(setting != NULL);
    TRY(context_bucket(io, context));
    if (s3_request_key(context->request).bytes > 0) {
        AUTO(object) object = NULL;
        TRY(context_find_object(io, context, false, &object));
    }
    if (setting->message != NULL)
        return S3_FAIL_SAY(&context->failure, setting->error, "%s", setting->message);
    if (setting->error != S3_OK) {
        s3_failure_add(&context->failure, "BucketName", slice_of_text(context->bucket.name));
        return S3_FAIL(setting->error, "bucket=%s", context->bucket.name);
    }
    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    struct xml_writer xml = xml_document(&document, setting->root, true);
    bytes_append_text(&document, setting->content);
    xml_finish(&xml);
    return context_respond_xml(io, context, 200, &document);
}
