/* The body of a browser's upload as it arrives: its fields, then the content of its file, whose
 * length is held to what the policy allows. */
#pragma once
#include "context.h"
#include "s3/form.h"

struct form_body;

/* Borrows `form`. Charges a small buffer to the gateway's budget.
 * S3_MISSING_CONTENT_LENGTH, S3_ENTITY_TOO_LARGE, S3_SLOW_DOWN. */
enum s3_error form_body_new(struct io *io, struct context *context, struct s3_form *form,
                            struct form_body **out_body);
void form_body_free(struct form_body *body);
DEFINE_AUTO(form_body, form_body_free)
/* Read up to the file: the fields of the form are complete. Errors as s3_form_next. */
enum s3_error form_body_read_fields(struct io *io, struct form_body *body);
/* Bytes that the file may have, both included. */
void form_body_limit(struct form_body *body, uint64_t min, uint64_t max);
/* After form_body_read_fields: the longest file that Content-Length leaves room for. */
uint64_t form_body_expected_bytes(const struct form_body *body);
/* Up to `bytes` of the file into dst; 0 when the closing boundary was seen.
 * S3_ENTITY_TOO_LARGE, S3_ENTITY_TOO_SMALL, and errors as s3_form_next. */
enum s3_error form_body_fill(struct io *io, struct form_body *body, uint8_t *dst, size_t bytes,
                             size_t *out_bytes);
