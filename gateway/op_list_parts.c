/* ListParts. */
#include "base/mem.h"
#include "elements.h"
#include "multipart.h"
#include "operations.h"
#include "owner.h"
#include "upload_text.h"

enum { PARTS_MAX = 1000 }; /* of one answer, S3's limit too */

struct part_query {
    uint32_t after;
    uint32_t max;
};

static enum s3_error query_read(struct context *context, struct part_query *out_query)
{
    uint64_t max;
    uint64_t after;
    TRY(context_query_number(context, "max-parts", PARTS_MAX, INT32_MAX, &max));
    TRY(context_query_number(context, "part-number-marker", 0, INT32_MAX, &after));
    out_query->max = max < PARTS_MAX ? (uint32_t)max : PARTS_MAX;
    out_query->after = (uint32_t)after;
    return S3_OK;
}

static void write_part(struct xml_writer *xml, const struct upload *upload, const struct part *part)
{
    xml_open(xml, "Part");
    xml_element_u64(xml, "PartNumber", part->number);
    element_time(xml, "LastModified", part->modified_ms);
    element_object_etag(xml, &part->etag);
    xml_element_u64(xml, "Size", part->bytes);
    if (multipart_checksum_asked(upload)) {
        struct checksum checksum = checksum_of_object(&part->checksum, 0);
        element_checksum(xml, &checksum);
    }
    xml_close(xml);
}

static void write_answer(struct context *context, const struct upload *upload,
                         const struct part_query *query, const struct part_page *page,
                         struct bytes *document)
{
    struct xml_writer xml = xml_document(document, "ListPartsResult", true);
    xml_element_text(&xml, "Bucket", context->bucket.name);
    xml_element(&xml, "Key", upload->key);
    xml_element_text(&xml, "UploadId", upload_text_of(upload->id).text);
    owner_element(&xml, "Initiator", context->bucket.owner);
    owner_element(&xml, "Owner", context->bucket.owner);
    xml_element_text(&xml, "StorageClass", "STANDARD");
    element_checksum_kind(&xml, upload->checksum_algorithm, upload->checksum_type);
    xml_element_u64(&xml, "PartNumberMarker", query->after);
    xml_element_u64(&xml, "NextPartNumberMarker",
                    page->count == 0 ? 0 : page->parts[page->count - 1].number);
    xml_element_u64(&xml, "MaxParts", query->max);
    xml_element_bool(&xml, "IsTruncated", page->truncated);
    for (uint32_t i = 0; i < page->count; i++)
        write_part(&xml, upload, &page->parts[i]);
    xml_finish(&xml);
}

enum s3_error op_list_parts(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    struct part_query query;
    TRY(query_read(context, &query));
    AUTO(upload) upload = NULL;
    TRY(multipart_find(io, context, &upload));

    AUTO(part_page) page = NULL;
    if (query.max == 0 || query.after >= META_PARTS_MAX)
        page = mem_new(struct part_page);
    else {
        enum err err = meta_part_list(io, context->gateway->options.meta, context->bucket.id,
                                      upload->key, upload->id, query.after, query.max, &page);
        if (err == ERR_NOT_FOUND)
            return multipart_missing(context);
        TRY(s3_error_from(err, "part list"));
    }
    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    write_answer(context, upload, &query, page, &document);
    return context_respond_xml(io, context, 200, &document);
}
