/* What the listings of objects, versions and uploads have in common. */
#pragma once
#include "context.h"

struct listing {
    struct list_query query;
    const char *max_element; /* "MaxKeys", "MaxUploads" */
    bool url_encode;         /* encoding-type=url */
};

/* prefix, delimiter, encoding-type and the limit called `max_name` of the query of the request,
 * whose bucket was looked up. S3_INVALID_ARGUMENT names what is wrong. */
enum s3_error listing_from_request(struct context *context, const char *max_name,
                                   const char *max_element, struct listing *out_listing);
/* A query parameter that is a key or the start of one; empty when absent. S3_INVALID_ARGUMENT,
 * S3_KEY_TOO_LONG. */
enum s3_error listing_key(struct context *context, const char *name, struct slice *out_key);

/* Begin the answer: the document, Name and Prefix. */
struct xml_writer listing_begin(struct context *context, const struct listing *listing,
                                const char *root, struct bytes *document);
/* Limit, Delimiter, EncodingType and IsTruncated. */
void listing_parameters(struct xml_writer *xml, const struct listing *listing,
                        const struct list_page *page);
/* Key, LastModified, ETag, checksum kind, Size, Owner (unless `owner` is NULL) and StorageClass. */
void listing_object(struct xml_writer *xml, const struct list_entry *entry, const char *owner);
/* The common prefixes of the page, which stand behind its keys. */
void listing_common_prefixes(struct xml_writer *xml, const struct list_page *page);
/* Where the next page begins; data NULL when this is the last. */
struct slice listing_next(const struct list_page *page);
