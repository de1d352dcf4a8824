/* PostObject, a browser's upload: read the fields, check who signed their policy and that it allows
 * them, then do what PutObject does with the file, whose end must be seen before it is there. */
#include "attributes.h"
#include "body.h"
#include "elements.h"
#include "form_body.h"
#include "operations.h"
#include "s3/body.h"
#include "s3/name.h"
#include "s3/post_policy.h"
#include "s3/uri.h"
#include "tag_set.h"

enum { LOCATION_BYTES_MAX = S3_HEADER_LINE_BYTES_MAX + 3 * S3_KEY_BYTES_MAX };

static struct slice field(const struct context *context, const char *name)
{
    return s3_form_field(s3_request_form(context->request), name);
}

static enum s3_error form_of_head(struct context *context, struct s3_form **out_form)
{
    const struct s3_header *type = s3_head_find(s3_request_head(context->request), "content-type");
    return s3_form_new(type == NULL ? slice_of(NULL, 0) : type->value, &context->failure, out_form);
}

/* Read what stands before the file, and let nobody further whom the policy does not let. */
static enum s3_error authorize(struct io *io, struct context *context, struct s3_form **form,
                               struct form_body **out_body)
{
    struct s3_form *fields = *form;
    AUTO(form_body) body = NULL;
    TRY(form_body_new(io, context, fields, &body));
    TRY(form_body_read_fields(io, body));
    TRY(s3_request_take_form(context->request, TAKE(*form), &context->failure));
    TRY(context_authenticate(io, context));

    AUTO(s3_post_policy) policy = NULL;
    TRY(s3_post_policy_new(s3_form_field(fields, "policy"), &context->failure, &policy));
    TRY(s3_post_policy_check(policy, fields, s3_request_bucket(context->request), io_wall_ms(io),
                             &context->failure));
    uint64_t min;
    uint64_t max;
    s3_post_policy_range(policy, &min, &max);
    form_body_limit(body, min, max);
    *out_body = TAKE(body);
    return S3_OK;
}

/* A checksum whose algorithm is not known must not pass as none. */
static enum s3_error check_checksum_names(struct context *context)
{
    const struct s3_form *form = s3_request_form(context->request);
    for (uint32_t i = 0; i < s3_form_field_count(form); i++) {
        struct slice name;
        struct slice value;
        s3_form_field_at(form, i, &name, &value);
        if (slice_starts_with(name, SLICE_LITERAL("x-amz-checksum-")) &&
            !slice_equal_text(name, "x-amz-checksum-algorithm") &&
            checksum_by_header(name) == CHECKSUM_NONE)
            return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                               "The algorithm type you specified in x-amz-checksum- header is "
                               "invalid.");
    }
    return S3_OK;
}

/* The field `tagging` holds the document of PutObjectTagging. */
static enum s3_error read_tags(struct context *context, struct bytes *out)
{
    struct slice text = field(context, "tagging");
    if (text.bytes == 0)
        return tag_set_from_header(context, out);
    AUTO(body_parser) parser = body_parser_new(BODY_TAGGING, &context->failure);
    const struct body *document;
    TRY(body_parser_feed(parser, text));
    TRY(body_parser_finish(parser, &document));
    const struct body_tagging *tagging = &document->tagging;
    TRY(tags_check(tagging->tags, tagging->tag_count, TAG_OBJECT_COUNT_MAX, &context->failure));
    tags_encode(out, tagging->tags, tagging->tag_count);
    return S3_OK;
}

/* Where the object can be found: as the client addressed its bucket. S3 writes the key of a form
 * without slashes. */
static void append_location(struct bytes *location, const struct context *context)
{
    struct slice host = s3_request_header(context->request, "host");
    struct slice path = s3_request_path(context->request);
    if (host.bytes > 0) { /* HTTP/1.0 may have none */
        bytes_append_text(location, context->exchange->head.tls ? "https://" : "http://");
        bytes_append(location, host);
    }
    bytes_append(location, path);
    if (path.data[path.bytes - 1] != '/')
        bytes_append_byte(location, '/');
    s3_uri_encode(location, s3_request_key(context->request), false);
}

/* A URL that a browser can be sent to; S3 does as if any other were not there. */
static bool is_redirect(struct slice url)
{
    return url.bytes <= S3_HEADER_LINE_BYTES_MAX / 2 && s3_header_value_valid(url) &&
           (slice_starts_with(url, SLICE_LITERAL("http://")) ||
            slice_starts_with(url, SLICE_LITERAL("https://")));
}

/* bucket, key and etag join the query of the URL. */
static enum s3_error answer_redirect(struct io *io, struct context *context, struct slice url,
                                     const struct object_etag *etag)
{
    AUTO_VALUE(bytes) location = {.max = S3_HEADER_LINE_BYTES_MAX};
    struct slice base = slice_first(url, slice_find(url, '#'));
    struct etag text = etag_of_object(etag);
    bytes_append(&location, base);
    bytes_append_text(&location, slice_find(base, '?') < base.bytes ? "&bucket=" : "?bucket=");
    s3_uri_encode(&location, s3_request_bucket(context->request), false);
    bytes_append_text(&location, "&key=");
    s3_uri_encode(&location, s3_request_key(context->request), false);
    bytes_append_format(&location, "&etag=%%22%s%%22", text.text);
    bytes_append(&location, slice_skip(url, base.bytes));
    exchange_header(context->exchange, "Location", bytes_slice(&location));
    return context_respond_empty(io, context, 303);
}

static enum s3_error answer_document(struct io *io, struct context *context, struct slice location,
                                     const struct object_etag *etag)
{
    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    struct xml_writer xml = xml_document(&document, "PostResponse", false);
    xml_element(&xml, "Location", location);
    xml_element_text(&xml, "Bucket", context->bucket.name);
    xml_element(&xml, "Key", s3_request_key(context->request));
    element_object_etag(&xml, etag);
    xml_finish(&xml);
    return context_respond_xml(io, context, 201, &document);
}

static enum s3_error answer(struct io *io, struct context *context, const struct object_put *put)
{
    struct slice redirect = field(context, "success_action_redirect");
    struct slice status = field(context, "success_action_status");
    if (redirect.data == NULL)
        redirect = field(context, "redirect"); /* its former name */
    context_etag_header(context, &put->etag);
    context_checksum_headers(context, &put->checksum, 0);
    if (is_redirect(redirect))
        return answer_redirect(io, context, redirect, &put->etag);
    AUTO_VALUE(bytes) location = {.max = LOCATION_BYTES_MAX};
    append_location(&location, context);
    exchange_header(context->exchange, "Location", bytes_slice(&location));
    if (slice_equal_text(status, "201"))
        return answer_document(io, context, bytes_slice(&location), &put->etag);
    return context_respond_empty(io, context, slice_equal_text(status, "200") ? 200 : 204);
}

static enum s3_error refuse_early(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    TRY(context_refuse_unsupported(context));
    return check_checksum_names(context);
}

enum s3_error op_post_object(struct io *io, struct context *context)
{
    AUTO(s3_form) form = NULL;
    TRY(form_of_head(context, &form));
    AUTO(form_body) body = NULL;
    TRY(authorize(io, context, &form, &body));
    TRY(refuse_early(io, context));
    AUTO_VALUE(bytes) attributes = {.max = META_ATTRIBUTES_BYTES_MAX};
    TRY(attributes_from_request(context, &attributes));
    AUTO_VALUE(bytes) tags = {.max = TAGS_BYTES_MAX};
    TRY(read_tags(context, &tags));

    AUTO(body_reader) reader = NULL;
    struct body_expectation expectation = {
        .md5 = true,
        .checksum = CHECKSUM_CRC64NVME,
        .form = body,
    };
    TRY(body_reader_new(io, context, &expectation, &reader));
    AUTO(object_writer) writer = NULL;
    TRY(object_writer_new(io, context, s3_request_key(context->request), 0, 0,
                          body_reader_expected_bytes(reader), &writer));
    struct object_put put = {0};
    TRY(body_store(io, context, reader, writer, &put));

    put.attributes = bytes_slice(&attributes);
    put.tags = bytes_slice(&tags);
    struct object_written written;
    enum err err = meta_object_put(io, context->gateway->options.meta, &put, &written);
    TRY(context_written(context, &put.conditions, err, "object post"));
    object_writer_committed(writer);
    return answer(io, context, &put);
}
