/* ListMultipartUploads: by key, uploads of one key in the order of their beginning. */
#include "elements.h"
#include "listing.h"
#include "operations.h"
#include "owner.h"
#include "upload_text.h"

/* Strictly behind upload-id-marker within key-marker; S3 ignores the former without the latter. */
static enum s3_error read_markers(struct context *context, struct list_query *query,
                                  struct slice *out_upload_marker)
{
    struct slice text = s3_request_query(context->request, "upload-id-marker");
    TRY(listing_key(context, "key-marker", &query->after));
    *out_upload_marker = text;
    if (text.bytes == 0 || query->after.bytes == 0)
        return S3_OK;
    if (!upload_text_parse(text, &query->after_upload))
        return s3_fail_argument(&context->failure, "upload-id-marker", text,
                                "Invalid uploadId marker");
    return S3_OK;
}

static void write_upload(struct xml_writer *xml, const struct context *context,
                         const struct list_entry *entry)
{
    xml_open(xml, "Upload");
    xml_element_key(xml, "Key", entry->key);
    xml_element_text(xml, "UploadId", upload_text_of(entry->upload_id).text);
    owner_element(xml, "Initiator", context->bucket.owner);
    owner_element(xml, "Owner", context->bucket.owner);
    xml_element_text(xml, "StorageClass", "STANDARD");
    element_time(xml, "Initiated", entry->modified_ms);
    element_checksum_kind(xml, entry->checksum_algorithm, entry->checksum_type);
    xml_close(xml);
}

static void write_answer(struct context *context, const struct listing *listing,
                         struct slice upload_marker, const struct list_page *page,
                         struct bytes *document)
{
    struct xml_writer xml = xml_document(document, "ListMultipartUploadsResult", true);
    xml.url_encode = listing->url_encode;
    xml_element_text(&xml, "Bucket", context->bucket.name);
    xml_element_key(&xml, "KeyMarker", listing->query.after);
    xml_element(&xml, "UploadIdMarker", upload_marker);
    struct slice next = listing_next(page);
    if (next.data != NULL) {
        const struct list_entry *last = &page->entries[page->count - 1];
        xml_element_key(&xml, "NextKeyMarker", next);
        xml_element_text(&xml, "NextUploadIdMarker",
                         last->is_prefix ? "" : upload_text_of(last->upload_id).text);
    }
    xml_element_key(&xml, "Prefix", listing->query.prefix);
    listing_parameters(&xml, listing, page);
    for (uint32_t i = 0; i < page->count; i++)
        if (!page->entries[i].is_prefix)
            write_upload(&xml, context, &page->entries[i]);
    listing_common_prefixes(&xml, page);
    xml_finish(&xml);
}

enum s3_error op_list_multipart_uploads(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    struct listing listing;
    struct slice upload_marker;
    TRY(listing_from_request(context, "max-uploads", "MaxUploads", &listing));
    TRY(read_markers(context, &listing.query, &upload_marker));

    AUTO(list_page) page = NULL;
    TRY(s3_error_from(meta_upload_list(io, context->gateway->options.meta, &listing.query, &page),
                      "upload list"));

    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    write_answer(context, &listing, upload_marker, page, &document);
    return context_respond_xml(io, context, 200, &document);
}
