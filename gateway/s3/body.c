/* See s3/body.h. */
#include "s3/body.h"
#include "base/mem.h"
#include "base/text.h"
#include "s3/condition.h"
#include <assert.h>
#include <libxml/parser.h>
#include <libxml/parserInternals.h>

enum {
    /* libxml2 always gets the body in the same pieces, so nothing can depend on how it arrived. */
    PIECE_BYTES = 4096,
    /* libxml2 2.9 compares each attribute of a tag with all others: bound the tag before it sees
     * it. */
    TAG_BYTES_MAX = 1024,
    CHUNK_BYTES = 16 << 10,
    ITEMS_MIN = 16,
};

/* What the elements of the documents are. */
enum node {
    NODE_NONE,
    NODE_DELETE,
    NODE_QUIET,
    NODE_OBJECT,
    NODE_OBJECT_KEY,
    NODE_OBJECT_VERSION,
    NODE_OBJECT_ETAG,
    NODE_OBJECT_MODIFIED,
    NODE_OBJECT_SIZE,
    NODE_COMPLETE,
    NODE_PART,
    NODE_PART_NUMBER,
    NODE_PART_ETAG,
    NODE_PART_CRC32,
    NODE_PART_CRC32C,
    NODE_PART_CRC64NVME,
    NODE_PART_SHA1,
    NODE_PART_SHA256,
    NODE_PART_SHA512,
    NODE_PART_MD5,
    NODE_PART_XXHASH64,
    NODE_PART_XXHASH3,
    NODE_PART_XXHASH128,
    NODE_CREATE_BUCKET,
    NODE_LOCATION_CONSTRAINT,
    NODE_TAGGING,
    NODE_TAG_SET,
    NODE_TAG,
    NODE_TAG_KEY,
    NODE_TAG_VALUE,
    NODE_CORS,
    NODE_CORS_RULE,
    NODE_CORS_ID,
    NODE_CORS_ALLOWED_HEADER,
    NODE_CORS_ALLOWED_METHOD,
    NODE_CORS_ALLOWED_ORIGIN,
    NODE_CORS_EXPOSE_HEADER,
    NODE_CORS_MAX_AGE,
    NODE_ACL,
    NODE_OWNER,
    NODE_OWNER_ID,
    NODE_GRANTS,
    NODE_GRANT,
    NODE_GRANTEE,
    NODE_GRANTEE_ID,
    NODE_GRANTEE_URI,
    NODE_GRANTEE_EMAIL,
    NODE_PERMISSION,
    NODE_COUNT,
};
static_assert(NODE_COUNT <= 64); /* sets of nodes are 64-bit masks */

/* Which element means what inside which; `text` elements hold a value and no elements, the
 * others hold elements and only white space between them. Elements not listed are skipped. */
static const struct rule {
    enum node parent;
    const char *name;
    enum node node;
    bool text;
    bool repeats;
} rules[] = {
    {NODE_NONE, "Delete", NODE_DELETE, false, false},
    {NODE_DELETE, "Quiet", NODE_QUIET, true, false},
    {NODE_DELETE, "Object", NODE_OBJECT, false, true},
    {NODE_OBJECT, "Key", NODE_OBJECT_KEY, true, false},
    {NODE_OBJECT, "VersionId", NODE_OBJECT_VERSION, true, false},
    {NODE_OBJECT, "ETag", NODE_OBJECT_ETAG, true, false},
    {NODE_OBJECT, "LastModifiedTime", NODE_OBJECT_MODIFIED, true, false},
    {NODE_OBJECT, "Size", NODE_OBJECT_SIZE, true, false},
    {NODE_NONE, "CompleteMultipartUpload", NODE_COMPLETE, false, false},
    {NODE_COMPLETE, "Part", NODE_PART, false, true},
    {NODE_PART, "PartNumber", NODE_PART_NUMBER, true, false},
    {NODE_PART, "ETag", NODE_PART_ETAG, true, false},
    {NODE_PART, "ChecksumCRC32", NODE_PART_CRC32, true, false},
    {NODE_PART, "ChecksumCRC32C", NODE_PART_CRC32C, true, false},
    {NODE_PART, "ChecksumCRC64NVME", NODE_PART_CRC64NVME, true, false},
    {NODE_PART, "ChecksumSHA1", NODE_PART_SHA1, true, false},
    {NODE_PART, "ChecksumSHA256", NODE_PART_SHA256, true, false},
    {NODE_PART, "ChecksumSHA512", NODE_PART_SHA512, true, false},
    {NODE_PART, "ChecksumMD5", NODE_PART_MD5, true, false},
    {NODE_PART, "ChecksumXXHASH64", NODE_PART_XXHASH64, true, false},
    {NODE_PART, "ChecksumXXHASH3", NODE_PART_XXHASH3, true, false},
    {NODE_PART, "ChecksumXXHASH128", NODE_PART_XXHASH128, true, false},
    {NODE_NONE, "CreateBucketConfiguration", NODE_CREATE_BUCKET, false, false},
    {NODE_CREATE_BUCKET, "LocationConstraint", NODE_LOCATION_CONSTRAINT, true, false},
    {NODE_CREATE_BUCKET, "Tags", NODE_TAG_SET, false, false},
    {NODE_NONE, "Tagging", NODE_TAGGING, false, false},
    {NODE_TAGGING, "TagSet", NODE_TAG_SET, false, false},
    {NODE_TAG_SET, "Tag", NODE_TAG, false, true},
    {NODE_TAG, "Key", NODE_TAG_KEY, true, false},
    {NODE_TAG, "Value", NODE_TAG_VALUE, true, false},
    {NODE_NONE, "CORSConfiguration", NODE_CORS, false, false},
    {NODE_CORS, "CORSRule", NODE_CORS_RULE, false, true},
    {NODE_CORS_RULE, "ID", NODE_CORS_ID, true, false},
    {NODE_CORS_RULE, "AllowedHeader", NODE_CORS_ALLOWED_HEADER, true, true},
    {NODE_CORS_RULE, "AllowedMethod", NODE_CORS_ALLOWED_METHOD, true, true},
    {NODE_CORS_RULE, "AllowedOrigin", NODE_CORS_ALLOWED_ORIGIN, true, true},
    {NODE_CORS_RULE, "ExposeHeader", NODE_CORS_EXPOSE_HEADER, true, true},
    {NODE_CORS_RULE, "MaxAgeSeconds", NODE_CORS_MAX_AGE, true, false},
    {NODE_NONE, "AccessControlPolicy", NODE_ACL, false, false},
    {NODE_ACL, "Owner", NODE_OWNER, false, false},
    {NODE_OWNER, "ID", NODE_OWNER_ID, true, false},
    {NODE_ACL, "AccessControlList", NODE_GRANTS, false, false},
    {NODE_GRANTS, "Grant", NODE_GRANT, false, true},
    {NODE_GRANT, "Grantee", NODE_GRANTEE, false, false},
    {NODE_GRANTEE, "ID", NODE_GRANTEE_ID, true, false},
    {NODE_GRANTEE, "URI", NODE_GRANTEE_URI, true, false},
    {NODE_GRANTEE, "EmailAddress", NODE_GRANTEE_EMAIL, true, false},
    {NODE_GRANT, "Permission", NODE_PERMISSION, true, false},
};
enum { RULE_COUNT = sizeof rules / sizeof rules[0] };

static const struct document {
    enum node root;
    enum s3_error malformed;
    uint32_t bytes_max;
} documents[BODY_KIND_COUNT] = {
    [BODY_DELETE] = {NODE_DELETE, S3_MALFORMED_XML, 2 << 20},
    [BODY_COMPLETE_MULTIPART] = {NODE_COMPLETE, S3_MALFORMED_XML, 2 << 20},
    [BODY_CREATE_BUCKET] = {NODE_CREATE_BUCKET, S3_MALFORMED_XML, 64 << 10},
    [BODY_ACCESS_CONTROL_POLICY] = {NODE_ACL, S3_MALFORMED_ACL, 64 << 10},
    [BODY_TAGGING] = {NODE_TAGGING, S3_MALFORMED_XML, 64 << 10},
    [BODY_CORS] = {NODE_CORS, S3_MALFORMED_XML, 64 << 10},
};

/* Texts live in chunks that never move, so slices into them stay good. */
struct chunk {
    struct chunk *next;
    size_t used;
    uint8_t data[CHUNK_BYTES];
};
static_assert((int)BODY_TEXT_BYTES_MAX <= (int)CHUNK_BYTES);

/* Where the scan ahead of libxml2 is: it only measures tags. */
struct tag_scan {
    uint32_t tag_bytes; /* since '<', 0 outside a tag */
    uint8_t quote;      /* inside an attribute value: the quote that ends it */
};

struct body_parser {
    struct body body;
    const struct document *document;
    struct s3_failure *failure;
    enum s3_error error; /* the first one */
    bool finished;
    uint64_t total_bytes;
    xmlParserCtxtPtr xml;
    uint8_t piece[PIECE_BYTES];
    uint32_t piece_bytes;
    struct tag_scan scan;

    const struct rule *path[BODY_DEPTH_MAX]; /* of the open elements that are known */
    uint32_t depth;                          /* open elements that are known */
    uint32_t skip_depth;                     /* open elements inside and with an unknown one */
    uint64_t seen;                           /* nodes seen in the open elements */
    struct bytes text;                       /* of the open text element */
    struct chunk *chunks;

    void *items; /* objects, parts, tags, CORS fields or grants, as the kind has them */
    uint32_t item_count;
    uint32_t item_capacity;
    bool has_grantee_type;
};

uint32_t body_bytes_max(enum body_kind kind)
{
    return documents[kind].bytes_max;
}

void body_library_init(void)
{
    xmlInitParser();
}

/* Keep the first error and stop libxml2 if it is what called us. */
static void body_fail(struct body_parser *parser, enum s3_error error)
{
    assert(error != S3_OK);
    if (parser->error != S3_OK)
        return;
    parser->error = error;
    xmlStopParser(parser->xml);
}

static void body_malformed(struct body_parser *parser, const char *why)
{
    if (parser->error == S3_OK)
        body_fail(parser, S3_FAIL(parser->document->malformed, "request body: %s", why));
}

static bool has_seen(const struct body_parser *parser, enum node node)
{
    return (parser->seen & UINT64_C(1) << node) != 0;
}

/* Copy of the current text that lives as long as the parser. */
static struct slice keep_text(struct body_parser *parser, struct slice text)
{
    assert(text.bytes <= CHUNK_BYTES);
    if (parser->chunks == NULL || CHUNK_BYTES - parser->chunks->used < text.bytes) {
        struct chunk *chunk = mem_new(struct chunk);
        chunk->next = parser->chunks;
        parser->chunks = chunk;
    }
    struct chunk *chunk = parser->chunks;
    uint8_t *at = chunk->data + chunk->used;
    if (text.bytes > 0)
        memcpy(at, text.data, text.bytes);
    chunk->used += text.bytes;
    return slice_of(at, text.bytes);
}

/* A new zeroed item at the end of the list; malformed when there are `count_max`. */
static void item_add(struct body_parser *parser, size_t item_bytes, uint32_t count_max)
{
    if (parser->item_count == count_max)
        return body_malformed(parser, "too many entries");
    if (parser->item_count == parser->item_capacity) {
        parser->item_capacity = parser->item_capacity == 0 ? ITEMS_MIN : 2 * parser->item_capacity;
        parser->items = mem_resize(parser->items, parser->item_capacity * item_bytes);
    }
    memset((uint8_t *)parser->items + parser->item_count++ * item_bytes, 0, item_bytes);
}

static struct body_delete_object *last_object(struct body_parser *parser)
{
    assert(parser->body.kind == BODY_DELETE && parser->item_count > 0);
    return (struct body_delete_object *)parser->items + parser->item_count - 1;
}

static struct body_part *last_part(struct body_parser *parser)
{
    assert(parser->body.kind == BODY_COMPLETE_MULTIPART && parser->item_count > 0);
    return (struct body_part *)parser->items + parser->item_count - 1;
}

static struct tag *last_tag(struct body_parser *parser)
{
    assert(parser->item_count > 0);
    return (struct tag *)parser->items + parser->item_count - 1;
}

static struct body_grant *last_grant(struct body_parser *parser)
{
    assert(parser->body.kind == BODY_ACCESS_CONTROL_POLICY && parser->item_count > 0);
    return (struct body_grant *)parser->items + parser->item_count - 1;
}

static void add_cors_field(struct body_parser *parser, enum cors_field_kind kind, struct slice text)
{
    assert(parser->body.kind == BODY_CORS);
    item_add(parser, sizeof(struct cors_field), UINT32_MAX); /* the body's size bounds them */
    struct cors_field *fields = parser->items;
    fields[parser->item_count - 1] =
        (struct cors_field){.kind = kind, .text = keep_text(parser, text)};
}

/* Values */

static bool parse_bool(struct slice text, bool *out_value)
{
    text = slice_trim(text);
    bool yes = slice_equal_nocase(text, SLICE_LITERAL("true")) || slice_equal_text(text, "1");
    bool no = slice_equal_nocase(text, SLICE_LITERAL("false")) || slice_equal_text(text, "0");
    *out_value = yes;
    return yes || no;
}

/* White space of XML, which slice_trim knows only in part. */
static struct slice trim_lines(struct slice text)
{
    while (text.bytes > 0 && strchr(" \t\r\n", text.data[0]) != NULL)
        text = slice_skip(text, 1);
    while (text.bytes > 0 && strchr(" \t\r\n", text.data[text.bytes - 1]) != NULL)
        text.bytes--;
    return text;
}

static void set_part_number(struct body_parser *parser, struct slice text)
{
    struct slice digits = text;
    bool negative = slice_starts_with(digits, SLICE_LITERAL("-"));
    uint64_t number;
    if (negative)
        digits = slice_skip(digits, 1);
    if (text_parse_u64(digits, UINT32_MAX, &number) != OK)
        return body_malformed(parser, "PartNumber is not a number");
    if (negative || number == 0)
        return body_fail(parser, s3_fail_argument(parser->failure, "PartNumber", text,
                                                  "PartNumber must be >= 1"));
    last_part(parser)->part_number = (uint32_t)number;
}

static void set_part_checksum(struct body_parser *parser, enum checksum_algorithm algorithm,
                              struct slice text)
{
    struct checksum *checksum = &last_part(parser)->checksum;
    if (text.bytes == 0)
        return;
    bool second = checksum->algorithm != CHECKSUM_NONE;
    if (second || !checksum_parse(algorithm, text, checksum) ||
        checksum->type != CHECKSUM_FULL_OBJECT)
        body_fail(parser,
                  s3_fail_argument(parser->failure, "Checksum", text,
                                   "Invalid Base64 or multiple checksums present in request"));
}

static void set_object_size(struct body_parser *parser, struct slice text)
{
    struct body_delete_object *object = last_object(parser);
    if (text_parse_u64(text, UINT64_MAX, &object->size) != OK)
        return body_malformed(parser, "Size is not a number");
    object->has_size = true;
}

static bool parse_permission(struct slice text, enum body_permission *out_permission)
{
    static const char *const names[] = {
        [BODY_PERMISSION_FULL_CONTROL] = "FULL_CONTROL",
        [BODY_PERMISSION_READ] = "READ",
        [BODY_PERMISSION_WRITE] = "WRITE",
        [BODY_PERMISSION_READ_ACP] = "READ_ACP",
        [BODY_PERMISSION_WRITE_ACP] = "WRITE_ACP",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (slice_equal_text(text, names[i])) {
            *out_permission = (enum body_permission)i;
            return true;
        }
    return false;
}

/* The grantee is told by its child; a type attribute may confirm it but not contradict. */
static void set_grantee(struct body_parser *parser, enum body_grantee_type type, struct slice text)
{
    struct body_grant *grant = last_grant(parser);
    if (parser->has_grantee_type && grant->type != type)
        return; /* S3 ignores an ID beside a URI that the type asks for */
    if (grant->grantee.bytes > 0 || text.bytes == 0)
        return body_malformed(parser, "Grantee names nobody or several");
    grant->type = type;
    grant->grantee = keep_text(parser, text);
}

static void set_permission(struct body_parser *parser, struct slice text)
{
    if (!parse_permission(text, &last_grant(parser)->permission))
        body_malformed(parser, "unknown Permission");
}

static void set_quiet(struct body_parser *parser, struct slice text)
{
    if (!parse_bool(text, &parser->body.delete.quiet))
        body_malformed(parser, "Quiet is not a boolean");
}

/* The text element `node` ended. Keys and tags keep their white space, other values do not. */
static void text_ended(struct body_parser *parser, enum node node)
{
    struct slice text = bytes_slice(&parser->text);
    struct slice trimmed = trim_lines(text);
    switch (node) {
    case NODE_QUIET:
        return set_quiet(parser, trimmed);
    case NODE_OBJECT_KEY:
        last_object(parser)->key = keep_text(parser, text);
        return;
    case NODE_OBJECT_VERSION:
        last_object(parser)->version_id = keep_text(parser, trimmed);
        return;
    case NODE_OBJECT_ETAG:
        last_object(parser)->etag = keep_text(parser, etag_unquote(trimmed));
        return;
    case NODE_OBJECT_MODIFIED:
        last_object(parser)->last_modified_time = keep_text(parser, trimmed);
        return;
    case NODE_OBJECT_SIZE:
        return set_object_size(parser, trimmed);
    case NODE_PART_NUMBER:
        return set_part_number(parser, trimmed);
    case NODE_PART_ETAG:
        last_part(parser)->etag = keep_text(parser, etag_unquote(trimmed));
        return;
    case NODE_PART_CRC32:
        return set_part_checksum(parser, CHECKSUM_CRC32, trimmed);
    case NODE_PART_CRC32C:
        return set_part_checksum(parser, CHECKSUM_CRC32C, trimmed);
    case NODE_PART_CRC64NVME:
        return set_part_checksum(parser, CHECKSUM_CRC64NVME, trimmed);
    case NODE_PART_SHA1:
        return set_part_checksum(parser, CHECKSUM_SHA1, trimmed);
    case NODE_PART_SHA256:
        return set_part_checksum(parser, CHECKSUM_SHA256, trimmed);
    case NODE_PART_SHA512:
        return set_part_checksum(parser, CHECKSUM_SHA512, trimmed);
    case NODE_PART_MD5:
        return set_part_checksum(parser, CHECKSUM_MD5, trimmed);
    case NODE_PART_XXHASH64:
        return set_part_checksum(parser, CHECKSUM_XXHASH64, trimmed);
    case NODE_PART_XXHASH3:
        return set_part_checksum(parser, CHECKSUM_XXHASH3, trimmed);
    case NODE_PART_XXHASH128:
        return set_part_checksum(parser, CHECKSUM_XXHASH128, trimmed);
    case NODE_LOCATION_CONSTRAINT:
        parser->body.create_bucket.location_constraint = keep_text(parser, trimmed);
        return;
    case NODE_TAG_KEY:
        last_tag(parser)->key = keep_text(parser, text);
        return;
    case NODE_TAG_VALUE:
        last_tag(parser)->value = keep_text(parser, text);
        return;
    case NODE_CORS_ID:
        return add_cors_field(parser, CORS_ID, trimmed);
    case NODE_CORS_ALLOWED_HEADER:
        return add_cors_field(parser, CORS_ALLOWED_HEADER, trimmed);
    case NODE_CORS_ALLOWED_METHOD:
        return add_cors_field(parser, CORS_ALLOWED_METHOD, trimmed);
    case NODE_CORS_ALLOWED_ORIGIN:
        return add_cors_field(parser, CORS_ALLOWED_ORIGIN, trimmed);
    case NODE_CORS_EXPOSE_HEADER:
        return add_cors_field(parser, CORS_EXPOSE_HEADER, trimmed);
    case NODE_CORS_MAX_AGE:
        return add_cors_field(parser, CORS_MAX_AGE, trimmed);
    case NODE_OWNER_ID:
        parser->body.access_control_policy.owner_id = keep_text(parser, trimmed);
        return;
    case NODE_GRANTEE_ID:
        return set_grantee(parser, BODY_GRANTEE_USER, trimmed);
    case NODE_GRANTEE_URI:
        return set_grantee(parser, BODY_GRANTEE_GROUP, trimmed);
    case NODE_GRANTEE_EMAIL:
        return set_grantee(parser, BODY_GRANTEE_EMAIL, trimmed);
    case NODE_PERMISSION:
        return set_permission(parser, trimmed);
    case NODE_NONE:
    case NODE_DELETE:
    case NODE_OBJECT:
    case NODE_COMPLETE:
    case NODE_PART:
    case NODE_CREATE_BUCKET:
    case NODE_TAGGING:
    case NODE_TAG_SET:
    case NODE_TAG:
    case NODE_CORS:
    case NODE_CORS_RULE:
    case NODE_ACL:
    case NODE_OWNER:
    case NODE_GRANTS:
    case NODE_GRANT:
    case NODE_GRANTEE:
    case NODE_COUNT:
        break;
    }
    assert(false && "not a text element");
}

/* Elements */

/* The value of xsi:type, whatever its prefix is bound to. */
static void grantee_type_read(struct body_parser *parser, int attribute_count,
                              const xmlChar **attributes)
{
    static const struct {
        const char *name;
        enum body_grantee_type type;
    } types[] = {
        {"CanonicalUser", BODY_GRANTEE_USER},
        {"Group", BODY_GRANTEE_GROUP},
        {"AmazonCustomerByEmail", BODY_GRANTEE_EMAIL},
    };
    parser->has_grantee_type = false;
    for (int i = 0; i < attribute_count; i++) {
        /* libxml2 gives five pointers: local name, prefix, namespace, value, end of value. */
        const xmlChar **attribute = attributes + 5 * i;
        if (!slice_equal_text(slice_of_text((const char *)attribute[0]), "type"))
            continue;
        struct slice value = slice_of(attribute[3], (size_t)(attribute[4] - attribute[3]));
        for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
            if (slice_equal_text(value, types[t].name)) {
                last_grant(parser)->type = types[t].type;
                parser->has_grantee_type = true;
            }
        if (!parser->has_grantee_type)
            body_malformed(parser, "unknown type of Grantee");
        return;
    }
}

static void container_started(struct body_parser *parser, enum node node, int attribute_count,
                              const xmlChar **attributes)
{
    if (node == NODE_OBJECT)
        item_add(parser, sizeof(struct body_delete_object), BODY_DELETE_COUNT_MAX);
    else if (node == NODE_PART)
        item_add(parser, sizeof(struct body_part), BODY_PART_COUNT_MAX);
    else if (node == NODE_TAG)
        item_add(parser, sizeof(struct tag), UINT32_MAX); /* the body's size bounds them */
    else if (node == NODE_CORS_RULE)
        add_cors_field(parser, CORS_RULE, slice_of(NULL, 0));
    else if (node == NODE_GRANT)
        item_add(parser, sizeof(struct body_grant), BODY_GRANT_COUNT_MAX);
    else if (node == NODE_GRANTEE)
        grantee_type_read(parser, attribute_count, attributes);
}

static void require(struct body_parser *parser, enum node node, const char *what)
{
    if (!has_seen(parser, node))
        body_malformed(parser, what);
}

static void container_ended(struct body_parser *parser, enum node node)
{
    if (node == NODE_OBJECT) {
        if (last_object(parser)->key.bytes == 0)
            body_malformed(parser, "Object without Key");
    } else if (node == NODE_PART) {
        require(parser, NODE_PART_NUMBER, "Part without PartNumber");
        require(parser, NODE_PART_ETAG, "Part without ETag");
    } else if (node == NODE_TAG) {
        require(parser, NODE_TAG_KEY, "Tag without Key");
        require(parser, NODE_TAG_VALUE, "Tag without Value");
    } else if (node == NODE_TAGGING) {
        require(parser, NODE_TAG_SET, "Tagging without TagSet");
    } else if (node == NODE_GRANT) {
        require(parser, NODE_PERMISSION, "Grant without Permission");
        if (last_grant(parser)->grantee.bytes == 0)
            body_malformed(parser, "Grant without Grantee");
    } else if (node == NODE_ACL) {
        require(parser, NODE_GRANTS, "AccessControlPolicy without AccessControlList");
        if (parser->body.access_control_policy.owner_id.bytes == 0)
            body_malformed(parser, "AccessControlPolicy without Owner");
    } else if ((node == NODE_DELETE || node == NODE_COMPLETE || node == NODE_CORS) &&
               parser->item_count == 0) {
        body_malformed(parser, "no entries");
    }
}

static const struct rule *find_rule(enum node parent, const char *name)
{
    for (size_t i = 0; i < RULE_COUNT; i++)
        if (rules[i].parent == parent && strcmp(rules[i].name, name) == 0)
            return &rules[i];
    return NULL;
}

/* The elements inside `node` have not been seen in this one yet. */
static void forget_children(struct body_parser *parser, enum node node)
{
    for (size_t i = 0; i < RULE_COUNT; i++)
        if (rules[i].parent == node)
            parser->seen &= ~(UINT64_C(1) << rules[i].node);
}

static void element_started(void *context, const xmlChar *name, const xmlChar *prefix,
                            const xmlChar *uri, int namespace_count, const xmlChar **namespaces,
                            int attribute_count, int default_count, const xmlChar **attributes)
{
    (void)prefix, (void)uri, (void)namespace_count, (void)namespaces, (void)default_count;
    struct body_parser *parser = context;
    if (parser->error != S3_OK)
        return;
    if (parser->depth + parser->skip_depth == BODY_DEPTH_MAX)
        return body_malformed(parser, "nested too deep");
    const struct rule *parent = parser->depth == 0 ? NULL : parser->path[parser->depth - 1];
    if (parser->skip_depth == 0 && parent != NULL && parent->text)
        return body_malformed(parser, "element inside a value");
    const struct rule *rule =
        parser->skip_depth > 0
            ? NULL
            : find_rule(parent == NULL ? NODE_NONE : parent->node, (const char *)name);
    if (parent == NULL && (rule == NULL || rule->node != parser->document->root))
        return body_malformed(parser, "another root element");
    if (rule == NULL) {
        parser->skip_depth++;
        return;
    }
    if (has_seen(parser, rule->node) && !rule->repeats)
        return body_malformed(parser, "element given twice");
    parser->seen |= UINT64_C(1) << rule->node;
    parser->path[parser->depth++] = rule;
    bytes_clear(&parser->text);
    forget_children(parser, rule->node);
    if (!rule->text)
        container_started(parser, rule->node, attribute_count, attributes);
}

static void element_ended(void *context, const xmlChar *name, const xmlChar *prefix,
                          const xmlChar *uri)
{
    (void)name, (void)prefix, (void)uri; /* libxml2 has checked that the tags match */
    struct body_parser *parser = context;
    if (parser->error != S3_OK)
        return;
    if (parser->skip_depth > 0) {
        parser->skip_depth--;
        return;
    }
    assert(parser->depth > 0);
    const struct rule *rule = parser->path[--parser->depth];
    if (rule->text)
        text_ended(parser, rule->node);
    else
        container_ended(parser, rule->node);
}

static void text_given(void *context, const xmlChar *text, int bytes)
{
    struct body_parser *parser = context;
    if (parser->error != S3_OK || parser->skip_depth > 0)
        return;
    assert(bytes >= 0);
    struct slice slice = slice_of(text, (size_t)bytes);
    if (parser->depth == 0 || !parser->path[parser->depth - 1]->text) {
        if (trim_lines(slice).bytes > 0)
            body_malformed(parser, "text between elements");
        return;
    }
    bytes_append(&parser->text, slice);
    if (parser->text.overflow)
        body_malformed(parser, "value too long");
}

static void doctype_found(void *context, const xmlChar *name, const xmlChar *public_id,
                          const xmlChar *system_id)
{
    (void)name, (void)public_id, (void)system_id;
    body_malformed(context, "DOCTYPE");
}

static void entity_declared(void *context, const xmlChar *name, int type, const xmlChar *public_id,
                            const xmlChar *system_id, xmlChar *content)
{
    (void)name, (void)type, (void)public_id, (void)system_id, (void)content;
    body_malformed(context, "entity declaration");
}

/* Only XML's own five entities exist, and libxml2 does not ask for those. */
static xmlEntityPtr entity_wanted(void *context, const xmlChar *name)
{
    (void)name;
    body_malformed(context, "entity reference");
    return NULL;
}

struct body_parser *body_parser_new(enum body_kind kind, struct s3_failure *failure)
{
    assert((unsigned)kind < BODY_KIND_COUNT);
    xmlSAXHandler handler = {
        .initialized = XML_SAX2_MAGIC,
        .internalSubset = doctype_found,
        .entityDecl = entity_declared,
        .getEntity = entity_wanted,
        .startElementNs = element_started,
        .endElementNs = element_ended,
        .characters = text_given,
        .ignorableWhitespace = text_given,
        .cdataBlock = text_given,
    };
    struct body_parser *parser = mem_new(struct body_parser);
    parser->body.kind = kind;
    parser->document = &documents[kind];
    parser->failure = failure;
    parser->text.max = BODY_TEXT_BYTES_MAX;
    parser->xml = xmlCreatePushParserCtxt(&handler, parser, NULL, 0, NULL);
    assert(parser->xml != NULL); /* only without memory */
    /* UTF-8 whatever the first bytes or the declaration say. */
    int switched = xmlSwitchEncoding(parser->xml, XML_CHAR_ENCODING_UTF8);
    assert(switched == 0);
    (void)xmlCtxtUseOptions(parser->xml, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
                                             XML_PARSE_IGNORE_ENC); /* all are known */
    return parser;
}

void body_parser_free(struct body_parser *parser)
{
    if (parser == NULL)
        return;
    xmlFreeParserCtxt(parser->xml);
    while (parser->chunks != NULL) {
        struct chunk *chunk = parser->chunks;
        parser->chunks = chunk->next;
        mem_free(chunk);
    }
    bytes_deinit(&parser->text);
    mem_free(parser->items);
    mem_free(parser);
}

/* Measure tags. A '<' cannot occur inside one, so each real tag is followed from its start;
 * comments, instructions and CDATA may look like one, which can only make them refused. */
static bool scan_piece(struct tag_scan *scan, struct slice piece)
{
    for (size_t i = 0; i < piece.bytes; i++) {
        uint8_t byte = piece.data[i];
        if (byte == '<') {
            *scan = (struct tag_scan){.tag_bytes = 1};
            continue;
        }
        if (scan->tag_bytes == 0)
            continue;
        bool markup = scan->tag_bytes == 1 && (byte == '!' || byte == '?');
        if (markup || (scan->quote == 0 && byte == '>')) {
            *scan = (struct tag_scan){0};
            continue;
        }
        if (scan->quote == byte)
            scan->quote = 0;
        else if (scan->quote == 0 && (byte == '"' || byte == '\''))
            scan->quote = byte;
        if (++scan->tag_bytes > TAG_BYTES_MAX)
            return false;
    }
    return true;
}

/* Give the staged piece to libxml2; `last` ends the document. */
static void parse_piece(struct body_parser *parser, bool last)
{
    static const struct slice byte_order_mark = {.data = (const uint8_t *)"\xef\xbb\xbf",
                                                 .bytes = 3};
    struct slice piece = slice_of(parser->piece, parser->piece_bytes);
    bool first = parser->total_bytes == parser->piece_bytes;
    if (first && slice_starts_with(piece, byte_order_mark))
        piece = slice_skip(piece, byte_order_mark.bytes);
    parser->piece_bytes = 0;
    if (!scan_piece(&parser->scan, piece))
        return body_malformed(parser, "tag too long");
    (void)xmlParseChunk(parser->xml, (const char *)piece.data, (int)piece.bytes, last);
    /* The code it returns also tells of namespaces, which S3 does not look at. */
    if (!parser->xml->wellFormed)
        body_malformed(parser, "not well-formed");
}

enum s3_error body_parser_feed(struct body_parser *parser, struct slice data)
{
    assert(!parser->finished);
    while (data.bytes > 0 && parser->error == S3_OK) {
        if (parser->total_bytes == parser->document->bytes_max) {
            body_fail(parser, S3_FAIL(S3_MAX_MESSAGE_LENGTH_EXCEEDED, "request body"));
            break;
        }
        size_t room = PIECE_BYTES - parser->piece_bytes;
        size_t left = (size_t)(parser->document->bytes_max - parser->total_bytes);
        struct slice taken = slice_first(slice_first(data, room), left);
        memcpy(parser->piece + parser->piece_bytes, taken.data, taken.bytes);
        parser->piece_bytes += (uint32_t)taken.bytes;
        parser->total_bytes += taken.bytes;
        data = slice_skip(data, taken.bytes);
        if (parser->piece_bytes == PIECE_BYTES)
            parse_piece(parser, false);
    }
    return parser->error;
}

static bool parts_ascend(const struct body_part *parts, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++)
        if (parts[i].part_number <= parts[i - 1].part_number)
            return false;
    return true;
}

/* Hang the collected entries into the result. */
static void body_complete(struct body_parser *parser)
{
    struct body *body = &parser->body;
    struct body_tagging tagging = {.tag_count = parser->item_count, .tags = parser->items};
    switch (body->kind) {
    case BODY_DELETE:
        body->delete.object_count = parser->item_count;
        body->delete.objects = parser->items;
        break;
    case BODY_COMPLETE_MULTIPART:
        body->complete = (struct body_complete_multipart){
            .part_count = parser->item_count,
            .ascending = parts_ascend(parser->items, parser->item_count),
            .parts = parser->items,
        };
        break;
    case BODY_CREATE_BUCKET:
        body->create_bucket.tagging = tagging;
        break;
    case BODY_ACCESS_CONTROL_POLICY:
        body->access_control_policy.grant_count = parser->item_count;
        body->access_control_policy.grants = parser->items;
        break;
    case BODY_TAGGING:
        body->tagging = tagging;
        break;
    case BODY_CORS:
        body->cors.field_count = parser->item_count;
        body->cors.fields = parser->items;
        break;
    }
}

enum s3_error body_parser_finish(struct body_parser *parser, const struct body **out_body)
{
    assert(!parser->finished);
    bool empty_allowed = parser->body.kind == BODY_CREATE_BUCKET;
    if (parser->error == S3_OK && !(empty_allowed && parser->total_bytes == 0))
        parse_piece(parser, true);
    parser->finished = true;
    TRY(parser->error);
    assert(parser->depth == 0 && parser->skip_depth == 0);
    body_complete(parser);
    *out_body = &parser->body;
    return S3_OK;
}

bool body_acl_is_owner_only(const struct body_access_control_policy *policy)
{
    for (uint32_t i = 0; i < policy->grant_count; i++) {
        const struct body_grant *grant = &policy->grants[i];
        if (grant->type != BODY_GRANTEE_USER || !slice_equal(grant->grantee, policy->owner_id) ||
            grant->permission != BODY_PERMISSION_FULL_CONTROL)
            return false;
    }
    return policy->grant_count > 0;
}
