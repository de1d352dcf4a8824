/* GetObjectTagging: objects have no tags yet. */
#include "operations.h"

enum s3_error op_get_object_tagging(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    AUTO(object) object = NULL;
    TRY(context_find_object(io, context, false, &object));
    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    struct xml_writer xml = xml_document(&document, "Tagging", true);
    xml_open(&xml, "TagSet");
    xml_finish(&xml);
    return context_respond_xml(io, context, 200, &document);
}
