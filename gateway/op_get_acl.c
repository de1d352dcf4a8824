/* GetBucketAcl, GetObjectAcl: with ACLs off (S3 Object Ownership, bucket owner enforced) the owner
 * has full control and nobody else is named. */
#include "operations.h"
#include "owner.h"

enum s3_error op_get_acl(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    if (s3_request_operation(context->request) == S3_OP_GET_OBJECT_ACL) {
        AUTO(object) object = NULL;
        TRY(context_find_object(io, context, false, &object));
    }
    const char *owner = context->bucket.owner;
    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    struct xml_writer xml = xml_document(&document, "AccessControlPolicy", true);
    owner_element(&xml, "Owner", owner);
    xml_open(&xml, "AccessControlList");
    xml_open(&xml, "Grant");
    xml_open_with(&xml, "Grantee",
                  "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" "
                  "xsi:type=\"CanonicalUser\"");
    xml_element_text(&xml, "ID", owner);
    xml_element_text(&xml, "DisplayName", owner);
    xml_close(&xml);
    xml_element_text(&xml, "Permission", "FULL_CONTROL");
    xml_finish(&xml);
    return context_respond_xml(io, context, 200, &document);
}
