/* ListBuckets. Who may sign may see every bucket: there are no policies that would part them. */
#include "base/text.h"
#include "bucket_region.h"
#include "elements.h"
#include "listing_token.h"
#include "operations.h"
#include "owner.h"

enum { BUCKETS_MAX = 10000 }; /* of one answer; S3's limit too */

struct bucket_query {
    struct slice prefix;
    struct slice region; /* empty: all */
    struct slice token;  /* data NULL: none */
    struct bytes after;  /* of the token */
    uint32_t max;
    bool show_region; /* when anything was asked for, as S3 does */
};

static enum s3_error query_read(struct context *context, struct bucket_query *query)
{
    uint64_t max;
    const char *name = "max-buckets";
    struct slice text = s3_request_query(context->request, name);
    if (text.bytes == 0)
        max = BUCKETS_MAX;
    else if (text_parse_u64(text, BUCKETS_MAX, &max) != OK || max == 0)
        return s3_fail_argument(&context->failure, name, text,
                                "Argument max-buckets must be an integer between 1 and 10000.");
    query->max = (uint32_t)max;
    query->prefix = s3_request_query(context->request, "prefix");
    query->region = s3_request_query(context->request, "bucket-region");
    query->token = s3_request_query(context->request, "continuation-token");
    query->show_region = query->prefix.data != NULL || query->region.data != NULL ||
                         query->token.data != NULL ||
                         s3_request_query(context->request, name).data != NULL;
    if (query->token.bytes > 0 && !listing_token_parse(query->token, &query->after))
        return s3_fail_argument(&context->failure, "continuation-token", query->token,
                                "The continuation token provided is incorrect");
    return S3_OK;
}

static void write_bucket(struct xml_writer *xml, const struct bucket_query *query,
                         const struct bucket *bucket)
{
    xml_open(xml, "Bucket");
    xml_element_text(xml, "Name", bucket->name);
    element_time(xml, "CreationDate", bucket->created_ms);
    if (query->show_region)
        xml_element_text(xml, "BucketRegion", bucket_region(bucket));
    xml_close(xml);
}

/* Up to query->max buckets, over as many pages as the filter for a region takes. query->after moves
 * on; when nothing follows it is empty. */
static enum s3_error write_buckets(struct io *io, struct context *context, struct xml_writer *xml,
                                   struct bucket_query *query)
{
    uint32_t written = 0;
    for (bool more = true; more && written < query->max;) {
        AUTO(bucket_page) page = NULL;
        TRY(s3_error_from(meta_bucket_list(io, context->gateway->options.meta, query->prefix,
                                           bytes_slice(&query->after), query->max - written, &page),
                          "bucket list"));
        for (uint32_t i = 0; i < page->count; i++) {
            const struct bucket *bucket = &page->buckets[i];
            if (query->region.bytes > 0 && !slice_equal_text(query->region, bucket_region(bucket)))
                continue;
            write_bucket(xml, query, bucket);
            written++;
        }
        more = page->truncated && page->count > 0;
        bytes_clear(&query->after);
        if (more)
            bytes_append_text(&query->after, page->buckets[page->count - 1].name);
    }
    return S3_OK;
}

static enum s3_error list(struct io *io, struct context *context, struct bucket_query *query)
{
    TRY(query_read(context, query));
    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    struct xml_writer xml = xml_document(&document, "ListAllMyBucketsResult", true);
    struct owner owner = owner_of_request(context);
    owner_element(&xml, "Owner", owner.id);
    xml_open(&xml, "Buckets");
    TRY(write_buckets(io, context, &xml, query));
    xml_close(&xml);
    if (query->after.bytes > 0) {
        AUTO_VALUE(bytes) token = {.max = LISTING_TOKEN_CHARS_MAX};
        listing_token_append(&token, bytes_slice(&query->after));
        xml_element(&xml, "ContinuationToken", bytes_slice(&token));
    }
    if (query->prefix.bytes > 0)
        xml_element(&xml, "Prefix", query->prefix);
    xml_finish(&xml);
    return context_respond_xml(io, context, 200, &document);
}

enum s3_error op_list_buckets(struct io *io, struct context *context)
{
    struct bucket_query query = {.after = {.max = LISTING_TOKEN_NAME_BYTES_MAX}};
    enum s3_error error = list(io, context, &query);
    bytes_deinit(&query.after);
    return error;
}
