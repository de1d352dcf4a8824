/* GetBucketLocation. us-east-1 is the empty constraint, for historical reasons of S3's. */
#include "bucket_region.h"
#include "operations.h"

enum s3_error op_get_bucket_location(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    struct slice region = slice_of_text(bucket_region(&context->bucket));
    if (slice_equal_text(region, "us-east-1"))
        region = slice_of(NULL, 0);
    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    struct xml_writer xml = xml_document(&document, "LocationConstraint", true);
    xml_append_escaped(&document, region);
    xml_finish(&xml);
    return context_respond_xml(io, context, 200, &document);
}
