/* See attributes.h. */
#include "attributes.h"

#include "base/encode.h"
#include "base/log.h"
#include "s3/name.h"

#include <stdio.h>

enum {
    ATTRIBUTES_VERSION = 1,
    ATTRIBUTES_COUNT_MAX = S3_HEADERS_MAX, /* more would not fit an answer either */
};

/* Standard headers that are kept, each with the query parameter that overrides it in an answer. */
static const struct standard {
    const char *header;   /* as stored, and looked up */
    const char *answer;   /* as sent */
    const char *override; /* or NULL */
} standards[] = {
    {"content-type", "Content-Type", "response-content-type"},
    {"cache-control", "Cache-Control", "response-cache-control"},
    {"content-disposition", "Content-Disposition", "response-content-disposition"},
    {"content-encoding", "Content-Encoding", "response-content-encoding"},
    {"content-language", "Content-Language", "response-content-language"},
    {"expires", "Expires", "response-expires"},
    {"x-amz-website-redirect-location", "x-amz-website-redirect-location", NULL},
};
enum { STANDARD_COUNT = sizeof standards / sizeof standards[0] };

struct collector {
    struct bytes pairs;
    uint32_t count;
};

static void collector_deinit(struct collector *collector)
{
    bytes_deinit(&collector->pairs);
}

static void collect(struct collector *collector, struct slice name, struct slice value)
{
    encode_slice(&collector->pairs, name);
    encode_slice(&collector->pairs, value);
    collector->count++;
}

static enum s3_error collect_standard(struct context *context, const struct standard *standard,
                                      struct collector *collector)
{
    struct slice value = s3_request_header(context->request, standard->header);
    if (value.data != NULL && !s3_header_value_valid(value))
        return s3_fail_argument(&context->failure, standard->header, value, "invalid header value");
    if (strcmp(standard->header, "content-type") == 0 && value.bytes == 0)
        value = SLICE_LITERAL("binary/octet-stream");
    if (strcmp(standard->header, "x-amz-website-redirect-location") == 0 && value.bytes > 0 &&
        value.data[0] != '/' && !slice_starts_with(value, SLICE_LITERAL("http://")) &&
        !slice_starts_with(value, SLICE_LITERAL("https://")))
        return S3_FAIL(S3_INVALID_REDIRECT_LOCATION, "redirect location");
    if (strcmp(standard->header, "content-encoding") == 0)
        value = s3_content_encoding(value);
    if (value.bytes > 0)
        collect(collector, slice_of_text(standard->header), value);
    return S3_OK;
}

static enum s3_error collect_all(struct context *context, struct collector *collector)
{
    for (unsigned i = 0; i < STANDARD_COUNT; i++)
        TRY(collect_standard(context, &standards[i], collector));
    TRY(s3_request_metadata_check(context->request, &context->failure));
    char name[S3_HEADER_LINE_BYTES_MAX + 16];
    for (uint32_t i = 0; i < s3_request_metadata_count(context->request); i++) {
        struct slice suffix;
        struct slice value;
        s3_request_metadata_at(context->request, i, &suffix, &value);
        int bytes = snprintf(name, sizeof name, "x-amz-meta-%.*s", SLICE_PRINT(suffix));
        collect(collector, slice_of(name, (size_t)bytes), value);
    }
    return S3_OK;
}

/* Start reading; 0 pairs when the blob is empty or of a later version. */
static uint64_t read_begin(struct slice attributes, struct decoder *out_decoder)
{
    *out_decoder = decoder_of(attributes);
    if (attributes.bytes == 0 || decode_u8(out_decoder) != ATTRIBUTES_VERSION)
        return 0;
    uint64_t count = decode_varint(out_decoder);
    return out_decoder->failed || count > ATTRIBUTES_COUNT_MAX ? 0 : count;
}

static const struct standard *redirect_location(void)
{
    return &standards[STANDARD_COUNT - 1];
}

static enum s3_error collect_copied(struct context *context, struct slice source,
                                    struct collector *collector)
{
    struct decoder decoder;
    for (uint64_t count = read_begin(source, &decoder); count > 0 && !decoder.failed; count--) {
        struct slice name = decode_slice(&decoder);
        struct slice value = decode_slice(&decoder);
        if (!decoder.failed && !slice_equal_text(name, redirect_location()->header))
            collect(collector, name, value);
    }
    return collect_standard(context, redirect_location(), collector);
}

static enum s3_error collected(const struct collector *collector, struct bytes *out)
{
    if (collector->pairs.overflow || collector->count > ATTRIBUTES_COUNT_MAX)
        return S3_FAIL(S3_METADATA_TOO_LARGE, "attributes count=%u", collector->count);
    bytes_clear(out);
    encode_u8(out, ATTRIBUTES_VERSION);
    encode_varint(out, collector->count);
    bytes_append(out, bytes_slice(&collector->pairs));
    if (out->overflow)
        return S3_FAIL(S3_METADATA_TOO_LARGE, "attributes bytes=%zu", out->bytes);
    return S3_OK;
}

enum s3_error attributes_from_request(struct context *context, struct bytes *out)
{
    AUTO_VALUE(collector) collector = {.pairs = {.max = META_ATTRIBUTES_BYTES_MAX}};
    TRY(collect_all(context, &collector));
    return collected(&collector, out);
}

enum s3_error attributes_for_copy(struct context *context, struct slice source, struct bytes *out)
{
    AUTO_VALUE(collector) collector = {.pairs = {.max = META_ATTRIBUTES_BYTES_MAX}};
    TRY(collect_copied(context, source, &collector));
    return collected(&collector, out);
}

struct slice attributes_find(struct slice attributes, const char *name)
{
    struct decoder decoder;
    for (uint64_t count = read_begin(attributes, &decoder); count > 0 && !decoder.failed; count--) {
        struct slice found = decode_slice(&decoder);
        struct slice value = decode_slice(&decoder);
        if (!decoder.failed && slice_equal_text(found, name))
            return value;
    }
    return slice_of(NULL, 0);
}

static enum s3_error answer_standard(struct context *context, const struct standard *standard,
                                     struct slice attributes)
{
    struct slice value = attributes_find(attributes, standard->header);
    struct slice override = slice_of(NULL, 0);
    if (standard->override != NULL)
        override = s3_request_query(context->request, standard->override);
    if (override.data != NULL) {
        if (s3_request_credential(context->request)->kind == S3_AUTH_ANONYMOUS)
            return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                               "Request specific response headers cannot be used for anonymous "
                               "GET requests.");
        if (!s3_header_value_valid(override))
            return s3_fail_argument(&context->failure, standard->override, override,
                                    "invalid header value");
        value = override;
    }
    if (value.bytes > 0)
        exchange_header(context->exchange, standard->answer, value);
    return S3_OK;
}

enum s3_error attributes_to_answer(struct context *context, struct slice attributes)
{
    for (unsigned i = 0; i < STANDARD_COUNT; i++)
        TRY(answer_standard(context, &standards[i], attributes));
    struct decoder decoder;
    char text[S3_HEADER_LINE_BYTES_MAX];
    for (uint64_t count = read_begin(attributes, &decoder); count > 0 && !decoder.failed; count--) {
        struct slice name = decode_slice(&decoder);
        struct slice value = decode_slice(&decoder);
        if (decoder.failed || !slice_starts_with(name, SLICE_LITERAL("x-amz-meta-")))
            continue;
        snprintf(text, sizeof text, "%.*s", SLICE_PRINT(name));
        exchange_header(context->exchange, text, value);
    }
    return S3_OK;
}
