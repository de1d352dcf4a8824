/* See xml_body.h. */
#include "xml_body.h"

#include "body.h"

bool xml_body_present(const struct context *context)
{
    const struct s3_framing *framing = &context->exchange->framing;
    return framing->chunked || (framing->has_content_length && framing->content_length > 0);
}

enum s3_error xml_body_read(struct io *io, struct context *context, enum body_kind kind,
                            struct body_parser **out_parser, const struct body **out_body)
{
    AUTO_VALUE(bytes) text = {.max = body_bytes_max(kind)};
    TRY(body_read_all(io, context, text.max, &text));
    AUTO(body_parser) parser = body_parser_new(kind, &context->failure);
    TRY(body_parser_feed(parser, bytes_slice(&text)));
    TRY(body_parser_finish(parser, out_body));
    *out_parser = TAKE(parser);
    return S3_OK;
}
