/* See form_body.h. */
#include "form_body.h"

#include "base/mem.h"
#include "body.h"
#include "s3/chunked.h"

#include <inttypes.h>
#include <stdio.h>

enum { STAGING_BYTES = 64 << 10 };

struct form_body {
    struct context *context;
    struct s3_form *form;
    struct buf *staging;
    struct slice raw;        /* in `staging`, not parsed yet */
    struct slice content;    /* a run of the file, not taken yet */
    uint64_t expected_bytes; /* of the file, at most */
    uint64_t bytes;          /* of the file, so far */
    uint64_t bytes_min;
    uint64_t bytes_max;
};

void form_body_free(struct form_body *body)
{
    if (body == NULL)
        return;
    if (body->staging != NULL)
        buf_unref(body->staging);
    mem_free(body);
}

static void add_number(struct form_body *body, const char *element, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, number);
    s3_failure_add(&body->context->failure, element, slice_of_text(text));
}

static enum s3_error too_large(struct form_body *body, uint64_t proposed_bytes)
{
    add_number(body, "ProposedSize", proposed_bytes);
    add_number(body, "MaxSizeAllowed", body->bytes_max);
    return S3_FAIL(S3_ENTITY_TOO_LARGE, "file of a form");
}

enum s3_error form_body_new(struct io *io, struct context *context, struct s3_form *form,
                            struct form_body **out_body)
{
    const struct s3_framing *framing = &context->exchange->framing;
    AUTO(form_body) body = mem_new(struct form_body);
    body->context = context;
    body->form = form;
    body->bytes_max = S3_BODY_BYTES_MAX;
    if (!framing->has_content_length)
        return S3_FAIL(S3_MISSING_CONTENT_LENGTH, "no Content-Length");
    if (framing->content_length > S3_BODY_BYTES_MAX + S3_FORM_BYTES_MAX)
        return too_large(body, framing->content_length);
    TRY(context_buf(io, context, STAGING_BYTES, &body->staging));
    *out_body = TAKE(body);
    return S3_OK;
}

/* The next event of the form, reading as needed. */
static enum s3_error next_event(struct io *io, struct form_body *body,
                                enum s3_form_event *out_event)
{
    struct context *context = body->context;
    for (;;) {
        TRY(s3_form_next(body->form, &body->raw, out_event, &body->content, &context->failure));
        if (*out_event != S3_FORM_MORE)
            return S3_OK;
        size_t got = 0;
        TRY(body_transport_error(
            exchange_read(io, context->exchange, body->staging->data, STAGING_BYTES, &got)));
        if (got == 0)
            return s3_form_finish(body->form, &context->failure);
        body->raw = slice_of(body->staging->data, got);
    }
}

enum s3_error form_body_read_fields(struct io *io, struct form_body *body)
{
    enum s3_form_event event = S3_FORM_MORE;
    TRY(next_event(io, body, &event));
    assert(event == S3_FORM_FILE);
    uint64_t before = body->context->exchange->body_bytes_read - body->raw.bytes;
    uint64_t rest = body->context->exchange->framing.content_length - before;
    uint32_t close_bytes = s3_form_close_bytes(body->form);
    body->expected_bytes = rest > close_bytes ? rest - close_bytes : 0;
    return S3_OK;
}

void form_body_limit(struct form_body *body, uint64_t min, uint64_t max)
{
    body->bytes_min = min;
    if (max < body->bytes_max)
        body->bytes_max = max;
}

uint64_t form_body_expected_bytes(const struct form_body *body)
{
    return body->expected_bytes;
}

static enum s3_error check_content(struct form_body *body)
{
    body->bytes += body->content.bytes;
    if (body->bytes <= body->bytes_max)
        return S3_OK;
    /* How long it would have become, if the form ends behind it as all clients end it: CRLF. */
    uint64_t proposed_bytes = body->expected_bytes - (body->expected_bytes >= 2 ? 2 : 0);
    return too_large(body, proposed_bytes > body->bytes ? proposed_bytes : body->bytes);
}

static enum s3_error check_end(struct form_body *body)
{
    if (body->bytes >= body->bytes_min)
        return S3_OK;
    add_number(body, "ProposedSize", body->bytes);
    add_number(body, "MinSizeAllowed", body->bytes_min);
    return S3_FAIL(S3_ENTITY_TOO_SMALL, "file of a form");
}

enum s3_error form_body_fill(struct io *io, struct form_body *body, uint8_t *dst, size_t bytes,
                             size_t *out_bytes)
{
    if (body->content.bytes == 0) {
        enum s3_form_event event = S3_FORM_MORE;
        TRY(next_event(io, body, &event));
        assert(event == S3_FORM_CONTENT || event == S3_FORM_END);
        TRY(event == S3_FORM_END ? check_end(body) : check_content(body));
    }
    struct slice piece = slice_first(body->content, bytes);
    if (piece.bytes > 0)
        memcpy(dst, piece.data, piece.bytes);
    body->content = slice_skip(body->content, piece.bytes);
    *out_bytes = piece.bytes;
    return S3_OK;
}
