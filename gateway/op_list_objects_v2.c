/* ListObjectsV2. */
#include "listing.h"
#include "listing_token.h"
#include "operations.h"

struct position {
    struct slice start_after;
    struct slice token; /* data NULL: none */
    struct bytes name;  /* of the token */
};

/* Both may be sent: the further one counts, since paginators repeat start-after on every page. */
static enum s3_error read_position(struct context *context, struct position *position,
                                   struct slice *out_after)
{
    TRY(listing_key(context, "start-after", &position->start_after));
    position->token = s3_request_query(context->request, "continuation-token");
    if (position->token.data != NULL && !listing_token_parse(position->token, &position->name))
        return s3_fail_argument(&context->failure, "continuation-token", position->token,
                                "The continuation token provided is incorrect");
    struct slice name = bytes_slice(&position->name);
    *out_after = slice_compare(name, position->start_after) > 0 ? name : position->start_after;
    return S3_OK;
}

static enum s3_error read_owner_wanted(struct context *context, const char **out_owner)
{
    struct slice text = s3_request_query(context->request, "fetch-owner");
    *out_owner = slice_equal_text(text, "true") ? context->bucket.owner : NULL;
    if (text.bytes > 0 && *out_owner == NULL && !slice_equal_text(text, "false"))
        return s3_fail_argument(&context->failure, "fetch-owner", text,
                                "Argument fetch-owner must be true or false");
    return S3_OK;
}

/* RestoreStatus may be asked for; nothing here was ever archived, so there is none to show. */
static enum s3_error check_optional_attributes(struct context *context)
{
    const char *name = "x-amz-optional-object-attributes";
    struct slice text = s3_request_header(context->request, name);
    if (text.bytes > 0 && !slice_equal_text(text, "RestoreStatus"))
        return s3_fail_argument(&context->failure, name, text, "Invalid attribute name specified.");
    return S3_OK;
}

static void write_answer(struct context *context, const struct listing *listing,
                         const struct position *position, const char *owner,
                         const struct list_page *page, struct bytes *document)
{
    struct xml_writer xml = listing_begin(context, listing, "ListBucketResult", document);
    if (position->start_after.bytes > 0)
        xml_element_key(&xml, "StartAfter", position->start_after);
    if (position->token.data != NULL)
        xml_element(&xml, "ContinuationToken", position->token);
    struct slice next = listing_next(page);
    if (next.data != NULL) {
        AUTO_VALUE(bytes) token = {.max = LISTING_TOKEN_CHARS_MAX};
        listing_token_append(&token, next);
        xml_element(&xml, "NextContinuationToken", bytes_slice(&token));
    }
    xml_element_u64(&xml, "KeyCount", page->count);
    listing_parameters(&xml, listing, page);
    for (uint32_t i = 0; i < page->count; i++) {
        if (page->entries[i].is_prefix)
            continue;
        xml_open(&xml, "Contents");
        listing_object(&xml, &page->entries[i], owner);
        xml_close(&xml);
    }
    listing_common_prefixes(&xml, page);
    xml_finish(&xml);
}

static enum s3_error list(struct io *io, struct context *context, struct position *position)
{
    struct listing listing;
    const char *owner;
    TRY(listing_from_request(context, "max-keys", "MaxKeys", &listing));
    TRY(read_position(context, position, &listing.query.after));
    TRY(read_owner_wanted(context, &owner));
    TRY(check_optional_attributes(context));

    AUTO(list_page) page = NULL;
    TRY(s3_error_from(meta_object_list(io, context->gateway->options.meta, &listing.query, &page),
                      "object list"));

    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    write_answer(context, &listing, position, owner, page, &document);
    return context_respond_xml(io, context, 200, &document);
}

enum s3_error op_list_objects_v2(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    struct position position = {.name = {.max = LISTING_TOKEN_NAME_BYTES_MAX}};
    enum s3_error error = list(io, context, &position);
    bytes_deinit(&position.name);
    return error;
}
