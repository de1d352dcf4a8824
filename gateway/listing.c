/* See listing.h. */
#include "listing.h"

#include "elements.h"
#include "owner.h"
#include "s3/name.h"

enum s3_error listing_key(struct context *context, const char *name, struct slice *out_key)
{
    struct slice key = s3_request_query(context->request, name);
    TRY(s3_key_prefix_check(key));
    *out_key = key;
    return S3_OK;
}

enum s3_error listing_from_request(struct context *context, const char *max_name,
                                   const char *max_element, struct listing *out_listing)
{
    struct listing listing = {.max_element = max_element};
    listing.query.bucket_id = context->bucket.id;
    TRY(listing_key(context, "prefix", &listing.query.prefix));
    TRY(listing_key(context, "delimiter", &listing.query.delimiter));
    struct slice encoding = s3_request_query(context->request, "encoding-type");
    if (encoding.bytes > 0 && !slice_equal_text(encoding, "url"))
        return s3_fail_argument(&context->failure, "encoding-type", encoding,
                                "Invalid Encoding Method specified in Request");
    listing.url_encode = encoding.bytes > 0;
    uint64_t max;
    TRY(context_query_number(context, max_name, META_LIST_MAX, INT32_MAX, &max));
    listing.query.max = max < META_LIST_MAX ? (uint32_t)max : META_LIST_MAX;
    *out_listing = listing;
    return S3_OK;
}

struct xml_writer listing_begin(struct context *context, const struct listing *listing,
                                const char *root, struct bytes *document)
{
    struct xml_writer xml = xml_document(document, root, true);
    xml.url_encode = listing->url_encode;
    xml_element_text(&xml, "Name", context->bucket.name);
    xml_element_key(&xml, "Prefix", listing->query.prefix);
    return xml;
}

void listing_parameters(struct xml_writer *xml, const struct listing *listing,
                        const struct list_page *page)
{
    xml_element_u64(xml, listing->max_element, listing->query.max);
    if (listing->query.delimiter.bytes > 0)
        xml_element_key(xml, "Delimiter", listing->query.delimiter);
    if (listing->url_encode)
        xml_element_text(xml, "EncodingType", "url");
    xml_element_bool(xml, "IsTruncated", page->truncated);
}

void listing_object(struct xml_writer *xml, const struct list_entry *entry, const char *owner)
{
    xml_element_key(xml, "Key", entry->key);
    element_time(xml, "LastModified", entry->modified_ms);
    element_object_etag(xml, &entry->etag);
    element_checksum_kind(xml, entry->checksum_algorithm, entry->checksum_type);
    xml_element_u64(xml, "Size", entry->bytes);
    if (owner != NULL)
        owner_element(xml, "Owner", owner);
    xml_element_text(xml, "StorageClass", "STANDARD");
}

void listing_common_prefixes(struct xml_writer *xml, const struct list_page *page)
{
    for (uint32_t i = 0; i < page->count; i++) {
        if (!page->entries[i].is_prefix)
            continue;
        xml_open(xml, "CommonPrefixes");
        xml_element_key(xml, "Prefix", page->entries[i].key);
        xml_close(xml);
    }
}

struct slice listing_next(const struct list_page *page)
{
    if (!page->truncated || page->count == 0)
        return slice_of(NULL, 0);
    return page->entries[page->count - 1].key;
}
