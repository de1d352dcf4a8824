/* The XML body of a request. */
#pragma once
#include "context.h"
#include "s3/body.h"

/* Whether the request has a body that is not empty, as far as its head says. */
bool xml_body_present(const struct context *context);
/* Read, verify and parse it. *out_body lives as long as the parser. Errors of body_read_all and
 * body_parser_feed. */
enum s3_error xml_body_read(struct io *io, struct context *context, enum body_kind kind,
                            struct body_parser **out_parser, const struct body **out_body);
