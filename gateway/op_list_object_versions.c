/* ListObjectVersions of a bucket that never had versioning: each object is its own latest version,
 * called "null". */
#include "listing.h"
#include "operations.h"

/* The only version of a key is behind no other, so that a marker of "null" means what the key alone
 * does. */
static enum s3_error check_version_marker(struct context *context, struct slice key_marker,
                                          struct slice version)
{
    const char *name = "version-id-marker";
    if (version.bytes == 0)
        return S3_OK;
    if (key_marker.bytes == 0)
        return s3_fail_argument(&context->failure, name, version,
                                "A version-id marker cannot be specified without a key marker.");
    if (!slice_equal_text(version, "null"))
        return s3_fail_argument(&context->failure, name, version, "Invalid version id specified");
    return S3_OK;
}

static void write_answer(struct context *context, const struct listing *listing,
                         struct slice version_marker, const struct list_page *page,
                         struct bytes *document)
{
    struct xml_writer xml = listing_begin(context, listing, "ListVersionsResult", document);
    xml_element_key(&xml, "KeyMarker", listing->query.after);
    xml_element(&xml, "VersionIdMarker", version_marker);
    struct slice next = listing_next(page);
    if (next.data != NULL) {
        xml_element_key(&xml, "NextKeyMarker", next);
        if (!page->entries[page->count - 1].is_prefix)
            xml_element_text(&xml, "NextVersionIdMarker", "null");
    }
    listing_parameters(&xml, listing, page);
    for (uint32_t i = 0; i < page->count; i++) {
        if (page->entries[i].is_prefix)
            continue;
        xml_open(&xml, "Version");
        xml_element_text(&xml, "VersionId", "null");
        xml_element_bool(&xml, "IsLatest", true);
        listing_object(&xml, &page->entries[i], context->bucket.owner);
        xml_close(&xml);
    }
    listing_common_prefixes(&xml, page);
    xml_finish(&xml);
}

enum s3_error op_list_object_versions(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    struct listing listing;
    TRY(listing_from_request(context, "max-keys", "MaxKeys", &listing));
    TRY(listing_key(context, "key-marker", &listing.query.after));
    struct slice version_marker = s3_request_query(context->request, "version-id-marker");
    TRY(check_version_marker(context, listing.query.after, version_marker));

    AUTO(list_page) page = NULL;
    TRY(s3_error_from(meta_object_list(io, context->gateway->options.meta, &listing.query, &page),
                      "version list"));

    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    write_answer(context, &listing, version_marker, page, &document);
    return context_respond_xml(io, context, 200, &document);
}
