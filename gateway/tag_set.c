/* See tag_set.h. */
#include "tag_set.h"

#include "xml_body.h"

enum s3_error tag_set_from_header(struct context *context, struct bytes *out)
{
    struct slice header = s3_request_header(context->request, "x-amz-tagging");
    return tags_from_header(header, &context->failure, out);
}

enum s3_error tag_set_from_body(struct io *io, struct context *context, uint32_t count_max,
                                struct bytes *out)
{
    AUTO(body_parser) parser = NULL;
    const struct body *body;
    TRY(xml_body_read(io, context, BODY_TAGGING, &parser, &body));
    const struct body_tagging *tagging = &body->tagging;
    TRY(tags_check(tagging->tags, tagging->tag_count, count_max, &context->failure));
    tags_encode(out, tagging->tags, tagging->tag_count);
    return S3_OK;
}

enum s3_error tag_set_answer(struct io *io, struct context *context, struct slice encoded)
{
    struct tag tags[TAG_BUCKET_COUNT_MAX];
    uint32_t count;
    TRY(s3_error_from(tags_decode(encoded, tags, &count), "stored tags"));
    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    struct xml_writer xml = xml_document(&document, "Tagging", true);
    xml_open(&xml, "TagSet");
    for (uint32_t i = 0; i < count; i++) {
        xml_open(&xml, "Tag");
        xml_element(&xml, "Key", tags[i].key);
        xml_element(&xml, "Value", tags[i].value);
        xml_close(&xml);
    }
    xml_finish(&xml);
    return context_respond_xml(io, context, 200, &document);
}

enum s3_error tag_set_count_header(struct context *context, struct slice encoded)
{
    struct tag tags[TAG_BUCKET_COUNT_MAX];
    uint32_t count;
    TRY(s3_error_from(tags_decode(encoded, tags, &count), "stored tags"));
    if (count > 0)
        exchange_header_format(context->exchange, "x-amz-tagging-count", "%u", count);
    return S3_OK;
}

enum s3_error tag_set_replace(struct io *io, struct context *context, struct slice encoded)
{
    enum err err = meta_object_tag(io, context->gateway->options.meta, context->bucket.id,
                                   s3_request_key(context->request), encoded);
    if (err == ERR_NOT_FOUND)
        return S3_FAIL(S3_NO_SUCH_KEY, "no such key");
    return s3_error_from(err, "object tag");
}
