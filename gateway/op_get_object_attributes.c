/* GetObjectAttributes. */
#include "elements.h"
#include "operations.h"
#include "s3/date.h"

static const char *const names[] = {"ETag", "Checksum", "ObjectParts", "StorageClass",
                                    "ObjectSize"};
enum wanted_bits {
    WANTED_ETAG = 1,
    WANTED_CHECKSUM = 2,
    WANTED_PARTS = 4,
    WANTED_STORAGE_CLASS = 8,
    WANTED_SIZE = 16,
};
enum { NAME_COUNT = sizeof names / sizeof names[0] };

/* What to answer, of which parts. */
struct query {
    unsigned wanted;
    uint64_t parts_max;
    uint64_t part_marker;
};

static enum s3_error parse_wanted(struct context *context, unsigned *out_wanted)
{
    static const char *const header = "x-amz-object-attributes";
    struct slice list = s3_request_header(context->request, header);
    *out_wanted = 0;
    for (struct slice rest = list; rest.bytes > 0;) {
        size_t comma = slice_find(rest, ',');
        struct slice name = slice_trim(slice_first(rest, comma));
        rest = slice_skip(rest, comma + 1);
        unsigned bit = 0;
        for (unsigned i = 0; i < NAME_COUNT; i++)
            if (slice_equal_text(name, names[i]))
                bit = 1u << i;
        if (bit == 0)
            return s3_fail_argument(&context->failure, header, name,
                                    "Invalid attribute name specified.");
        *out_wanted |= bit;
    }
    if (*out_wanted == 0)
        return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                           "The x-amz-object-attributes header specifying the attributes to be "
                           "retrieved is either missing or empty");
    return S3_OK;
}

static enum s3_error parse_query(struct context *context, struct query *out_query)
{
    TRY(parse_wanted(context, &out_query->wanted));
    TRY(context_header_number(context, "x-amz-max-parts", META_LIST_MAX, INT32_MAX,
                              &out_query->parts_max));
    if (out_query->parts_max > META_LIST_MAX)
        out_query->parts_max = META_LIST_MAX;
    return context_header_number(context, "x-amz-part-number-marker", 0, INT32_MAX,
                                 &out_query->part_marker);
}

static void write_checksum(struct xml_writer *xml, const struct object *object)
{
    struct checksum checksum = checksum_of_object(&object->checksum, object->etag.part_count);
    if (checksum.algorithm == CHECKSUM_NONE)
        return;
    xml_open(xml, "Checksum");
    element_checksum(xml, &checksum);
    xml_element_text(xml, "ChecksumType", checksum_type_name(checksum.type));
    xml_close(xml);
}

static void write_part(struct xml_writer *xml, const struct part *part)
{
    struct checksum checksum = checksum_of_object(&part->checksum, 0);
    xml_open(xml, "Part");
    element_checksum(xml, &checksum);
    xml_element_u64(xml, "PartNumber", part->number);
    xml_element_u64(xml, "Size", part->bytes);
    xml_close(xml);
}

static void write_parts(struct xml_writer *xml, const struct query *query,
                        const struct object *object, const struct part_page *page)
{
    uint64_t last = page->count == 0 ? query->part_marker : page->parts[page->count - 1].number;
    xml_open(xml, "ObjectParts");
    xml_element_u64(xml, "PartsCount", object->etag.part_count);
    xml_element_u64(xml, "PartNumberMarker", query->part_marker);
    xml_element_u64(xml, "NextPartNumberMarker", last);
    xml_element_u64(xml, "MaxParts", query->parts_max);
    xml_element_bool(xml, "IsTruncated", page->truncated);
    for (uint32_t i = 0; i < page->count; i++)
        write_part(xml, &page->parts[i]);
    xml_close(xml);
}

static enum s3_error find_parts(struct io *io, struct context *context, const struct query *query,
                                const struct object *object, struct part_page **out_page)
{
    uint32_t after =
        query->part_marker > META_PARTS_MAX ? META_PARTS_MAX : (uint32_t)query->part_marker;
    return s3_error_from(meta_object_parts(io, context->gateway->options.meta, object, after,
                                           (uint32_t)query->parts_max, out_page),
                         "object parts");
}

static enum s3_error answer(struct io *io, struct context *context, const struct query *query,
                            const struct object *object, const struct part_page *parts)
{
    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    struct xml_writer xml = xml_document(&document, "GetObjectAttributesResponse", true);
    struct etag etag = etag_of_object(&object->etag);
    if (query->wanted & WANTED_ETAG)
        xml_element_text(&xml, "ETag", etag.text); /* here S3 leaves the quotes out */
    if (query->wanted & WANTED_CHECKSUM)
        write_checksum(&xml, object);
    if (parts != NULL)
        write_parts(&xml, query, object, parts);
    if (query->wanted & WANTED_STORAGE_CLASS)
        xml_element_text(&xml, "StorageClass", "STANDARD");
    if (query->wanted & WANTED_SIZE)
        xml_element_u64(&xml, "ObjectSize", object->bytes);
    xml_finish(&xml);
    char modified[S3_DATE_HTTP_CHARS + 1];
    s3_date_format_http(object->modified_ms, modified);
    exchange_header_text(context->exchange, "Last-Modified", modified);
    return context_respond_xml(io, context, 200, &document);
}

enum s3_error op_get_object_attributes(struct io *io, struct context *context)
{
    struct query query;
    TRY(context_bucket(io, context));
    TRY(parse_query(context, &query));
    AUTO(object) object = NULL;
    TRY(context_find_object(io, context, false, &object));
    AUTO(part_page) parts = NULL;
    if ((query.wanted & WANTED_PARTS) && object->layout == LAYOUT_PARTS)
        TRY(find_parts(io, context, &query, object, &parts));
    return answer(io, context, &query, object, parts);
}
