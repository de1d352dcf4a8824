/* The answer to a refused request (S3 API Reference, "Error Responses", "REST error responses"). */
#include "cross_origin.h"
#include "dispatch.h"

#include "base/text.h"

enum {
    ERROR_DOCUMENT_BYTES_MAX = 256 << 10,
    RETRY_AFTER_SECONDS = 1,
};

static void write_document(struct bytes *document, const struct context *context,
                           enum s3_error error)
{
    struct xml_writer xml = xml_document(document, "Error", false);
    xml_element_text(&xml, "Code", s3_error_code(error));
    xml_element(&xml, "Message", s3_failure_message(&context->failure, error));
    bool has_key = false; /* a copy source that is missing has named its own */
    for (uint32_t i = 0; i < context->failure.detail_count; i++) {
        const struct s3_failure_detail *detail = &context->failure.details[i];
        xml_element(&xml, detail->element, bytes_slice(&detail->text));
        has_key = has_key || strcmp(detail->element, "Key") == 0;
    }
    if (context->request != NULL) {
        if (error == S3_NO_SUCH_KEY && !has_key)
            xml_element(&xml, "Key", s3_request_key(context->request));
        xml_element(&xml, "Resource", s3_request_path(context->request));
    }
    char id[17];
    uint8_t raw[8];
    for (int i = 0; i < 8; i++)
        raw[i] = (uint8_t)(context->exchange->request_id >> (56 - 8 * i));
    text_hex(slice_of(raw, sizeof raw), id);
    xml_element_text(&xml, "RequestId", id);
    xml_element_text(&xml, "HostId", "shale");
    xml_finish(&xml);
}

void error_answer(struct io *io, struct context *context, enum s3_error error)
{
    struct exchange *exchange = context->exchange;
    if (exchange->responded) {
        exchange->close = true;
        return;
    }
    if (error == S3_NOT_MODIFIED) {
        (void)context_respond_empty(io, context, 304);
        return;
    }
    if (error != S3_INVALID_RANGE) {
        exchange_reset_answer(exchange);
        cross_origin_headers(context);
    }
    unsigned status = s3_error_status(error);
    if (status == 503)
        exchange_header_format(exchange, "Retry-After", "%d", RETRY_AFTER_SECONDS);
    AUTO_VALUE(bytes) document = {.max = ERROR_DOCUMENT_BYTES_MAX};
    write_document(&document, context, error);
    (void)context_respond_xml(io, context, status, &document);
}
