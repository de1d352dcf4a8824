/* ListObjects, the first version. */
#include "listing.h"
#include "operations.h"

static void write_answer(struct context *context, const struct listing *listing,
                         const struct list_page *page, struct bytes *document)
{
    struct xml_writer xml = listing_begin(context, listing, "ListBucketResult", document);
    xml_element_key(&xml, "Marker", listing->query.after);
    listing_parameters(&xml, listing, page);
    /* S3 gives it for listings with a delimiter only; others go on from their last key. */
    struct slice next = listing_next(page);
    if (next.data != NULL && listing->query.delimiter.bytes > 0)
        xml_element_key(&xml, "NextMarker", next);
    for (uint32_t i = 0; i < page->count; i++) {
        if (page->entries[i].is_prefix)
            continue;
        xml_open(&xml, "Contents");
        listing_object(&xml, &page->entries[i], context->bucket.owner);
        xml_close(&xml);
    }
    listing_common_prefixes(&xml, page);
    xml_finish(&xml);
}

enum s3_error op_list_objects(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    struct listing listing;
    TRY(listing_from_request(context, "max-keys", "MaxKeys", &listing));
    TRY(listing_key(context, "marker", &listing.query.after));

    AUTO(list_page) page = NULL;
    TRY(s3_error_from(meta_object_list(io, context->gateway->options.meta, &listing.query, &page),
                      "object list"));

    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    write_answer(context, &listing, page, &document);
    return context_respond_xml(io, context, 200, &document);
}
