/* See s3/cors.h. */
#include "s3/cors.h"
#include "base/text.h"
#include "s3/name.h"
#include <assert.h>

enum {
    CORS_VERSION = 1,
    FIELD_BYTES_MIN = 2,
    SHOWN_BYTES_MAX = 256, /* of a value in a message */
};

bool cors_method_valid(struct slice method)
{
    static const char *const methods[] = {"GET", "PUT", "HEAD", "POST", "DELETE"};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (slice_equal_text(method, methods[i]))
            return true;
    return false;
}

bool cors_next_name(struct slice *list, struct slice *out_name)
{
    if (list->bytes == 0)
        return false;
    size_t end = slice_find(*list, ',');
    *out_name = slice_trim(slice_first(*list, end));
    *list = slice_skip(*list, end + 1);
    return true;
}

/* --- what is accepted --- */

static enum s3_error refuse(struct s3_failure *failure, const char *element, struct slice text,
                            const char *why)
{
    return S3_FAIL_SAY(failure, S3_INVALID_REQUEST, "%s \"%.*s\" %s", element,
                       SLICE_PRINT(slice_first(text, SHOWN_BYTES_MAX)), why);
}

static bool has_two_wildcards(struct slice text)
{
    struct slice rest = slice_skip(text, slice_find(text, '*') + 1);
    return slice_find(rest, '*') < rest.bytes;
}

static uint32_t character_count(struct slice text)
{
    uint32_t count = 0;
    for (size_t i = 0; i < text.bytes; i++)
        count += (text.data[i] & 0xc0) != 0x80;
    return count;
}

static enum s3_error check_origin(struct slice origin, struct s3_failure *failure)
{
    if (origin.bytes == 0)
        return S3_FAIL(S3_MALFORMED_XML, "cors: empty AllowedOrigin");
    if (has_two_wildcards(origin))
        return refuse(failure, "AllowedOrigin", origin, "can not have more than one wildcard.");
    return S3_OK;
}

static enum s3_error check_header(const char *element, struct slice header,
                                  struct s3_failure *failure)
{
    if (header.bytes > 0 && !s3_header_name_valid(header)) /* '*' is a character of tokens */
        return refuse(failure, element, header, "contains invalid character.");
    if (has_two_wildcards(header))
        return refuse(failure, element, header, "can not have more than one wildcard.");
    return S3_OK;
}

static enum s3_error check_exposed(struct slice header, struct s3_failure *failure)
{
    if (slice_find(header, '*') < header.bytes)
        return refuse(failure, "ExposeHeader", header,
                      "contains wildcard. We currently do not support wildcard for ExposeHeader.");
    return check_header("ExposeHeader", header, failure);
}

/* Negative ones too, as S3. */
static enum s3_error check_max_age(struct slice text)
{
    uint64_t seconds;
    bool negative = text.bytes > 0 && text.data[0] == '-';
    uint64_t max = negative ? (uint64_t)INT32_MAX + 1 : INT32_MAX;
    if (text_parse_u64(slice_skip(text, negative), max, &seconds) != OK)
        return S3_FAIL(S3_MALFORMED_XML, "cors: MaxAgeSeconds is no integer");
    return S3_OK;
}

static enum s3_error check_field(const struct cors_field *field, struct s3_failure *failure)
{
    switch (field->kind) {
    case CORS_RULE:
        return S3_OK;
    case CORS_ID:
        if (character_count(field->text) > CORS_ID_CHARACTERS_MAX)
            return S3_FAIL_SAY(failure, S3_INVALID_REQUEST,
                               "ID length should not exceed allowed limit of %d",
                               CORS_ID_CHARACTERS_MAX);
        return S3_OK;
    case CORS_ALLOWED_HEADER:
        return check_header("AllowedHeader", field->text, failure);
    case CORS_ALLOWED_METHOD:
        if (!cors_method_valid(field->text))
            return S3_FAIL_SAY(failure, S3_INVALID_REQUEST,
                               "Found unsupported HTTP method in CORS config. Unsupported method "
                               "is %.*s",
                               SLICE_PRINT(slice_first(field->text, SHOWN_BYTES_MAX)));
        return S3_OK;
    case CORS_ALLOWED_ORIGIN:
        return check_origin(field->text, failure);
    case CORS_EXPOSE_HEADER:
        return check_exposed(field->text, failure);
    case CORS_MAX_AGE:
        return check_max_age(field->text);
    }
    assert(false);
    return S3_INTERNAL_ERROR;
}

static uint32_t rule_count(const struct cors_field *fields, uint32_t field_count)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < field_count; i++)
        count += fields[i].kind == CORS_RULE;
    return count;
}

/* Where the rule that begins at `from` ends. */
static uint32_t rule_end(const struct cors_field *fields, uint32_t field_count, uint32_t from)
{
    uint32_t end = from + 1;
    while (end < field_count && fields[end].kind != CORS_RULE)
        end++;
    return end;
}

static bool id_seen(const struct cors_field *fields, uint32_t before, struct slice id)
{
    for (uint32_t i = 0; i < before; i++)
        if (fields[i].kind == CORS_ID && slice_equal(fields[i].text, id))
            return true;
    return false;
}

static enum s3_error check_rule(const struct cors_field *fields, uint32_t from, uint32_t end,
                                struct s3_failure *failure)
{
    uint32_t kinds = 0;
    for (uint32_t i = from; i < end; i++)
        kinds |= 1u << fields[i].kind;
    uint32_t required = 1u << CORS_ALLOWED_METHOD | 1u << CORS_ALLOWED_ORIGIN;
    if ((kinds & required) != required)
        return S3_FAIL(S3_MALFORMED_XML, "cors: rule without AllowedMethod or AllowedOrigin");
    for (uint32_t i = from; i < end; i++) {
        TRY(check_field(&fields[i], failure));
        if (fields[i].kind == CORS_ID && fields[i].text.bytes > 0 &&
            id_seen(fields, from, fields[i].text))
            return S3_FAIL_SAY(failure, S3_INVALID_REQUEST, "Rule Id must be unique.");
    }
    return S3_OK;
}

enum s3_error cors_check(const struct cors_field *fields, uint32_t field_count,
                         struct s3_failure *failure)
{
    assert(field_count > 0);
    assert(fields[0].kind == CORS_RULE);
    if (rule_count(fields, field_count) > CORS_RULE_COUNT_MAX)
        return S3_FAIL_SAY(failure, S3_INVALID_REQUEST,
                           "The number of CORS rules should not exceed allowed limit of %d rules.",
                           CORS_RULE_COUNT_MAX);
    for (uint32_t from = 0; from < field_count;) {
        uint32_t end = rule_end(fields, field_count, from);
        TRY(check_rule(fields, from, end, failure));
        from = end;
    }
    return S3_OK;
}

/* --- as stored --- */

static bool is_kept(const struct cors_field *field)
{
    return field->kind == CORS_RULE || field->text.bytes > 0;
}

void cors_encode(struct bytes *out, const struct cors_field *fields, uint32_t field_count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < field_count; i++)
        kept += is_kept(&fields[i]);
    encode_u8(out, CORS_VERSION);
    encode_varint(out, kept);
    for (uint32_t from = 0; from < field_count;) {
        uint32_t end = rule_end(fields, field_count, from);
        for (int kind = CORS_RULE; kind <= CORS_FIELD_KIND_MAX; kind++)
            for (uint32_t i = from; i < end; i++)
                if ((int)fields[i].kind == kind && is_kept(&fields[i])) {
                    encode_u8(out, (uint8_t)kind);
                    encode_slice(out, fields[i].text);
                }
        from = end;
    }
}

enum err cors_read(struct slice encoded, struct cors_reader *out_reader)
{
    struct cors_reader reader = {.decoder = decoder_of(encoded)};
    uint8_t version = decode_u8(&reader.decoder);
    if (!reader.decoder.failed && version != CORS_VERSION)
        return FAIL(ERR_UNSUPPORTED, "cors: version of another release");
    reader.left = decode_varint(&reader.decoder);
    if (reader.decoder.failed || reader.left > reader.decoder.rest.bytes / FIELD_BYTES_MIN)
        return FAIL(ERR_CORRUPT, "cors: field count");
    *out_reader = reader;
    return OK;
}

bool cors_next(struct cors_reader *reader, struct cors_field *out_field)
{
    if (reader->left == 0)
        return false;
    reader->left--;
    uint8_t kind = decode_u8(&reader->decoder);
    out_field->kind = (enum cors_field_kind)kind;
    out_field->text = decode_slice(&reader->decoder);
    return !reader->decoder.failed && kind >= CORS_RULE && kind <= CORS_FIELD_KIND_MAX;
}

/* --- who may what --- */

static bool texts_equal(struct slice a, struct slice b, bool nocase)
{
    return nocase ? slice_equal_nocase(a, b) : slice_equal(a, b);
}

/* `pattern` has one '*' at most, which stands for any characters. */
static bool matches(struct slice pattern, struct slice text, bool nocase)
{
    struct slice before = slice_first(pattern, slice_find(pattern, '*'));
    if (before.bytes == pattern.bytes)
        return texts_equal(pattern, text, nocase);
    struct slice after = slice_skip(pattern, before.bytes + 1);
    return text.bytes >= before.bytes + after.bytes &&
           texts_equal(before, slice_first(text, before.bytes), nocase) &&
           texts_equal(after, slice_skip(text, text.bytes - after.bytes), nocase);
}

/* The first text of `kind` in the rule behind `rule` that matches. */
static bool rule_allows(struct cors_reader rule, enum cors_field_kind kind, struct slice wanted,
                        struct slice *out_pattern)
{
    struct cors_field field;
    while (cors_next(&rule, &field) && field.kind != CORS_RULE)
        if (field.kind == kind && matches(field.text, wanted, kind == CORS_ALLOWED_HEADER)) {
            *out_pattern = field.text;
            return true;
        }
    return false;
}

static bool rule_allows_headers(struct cors_reader rule, struct slice headers)
{
    struct slice name;
    struct slice pattern;
    for (uint32_t count = 0; cors_next_name(&headers, &name); count++)
        if (count == CORS_REQUEST_HEADERS_MAX ||
            !rule_allows(rule, CORS_ALLOWED_HEADER, name, &pattern))
            return false;
    return true;
}

static void list_append(struct bytes *list, struct slice name)
{
    if (list->bytes > 0)
        bytes_append_text(list, ", ");
    bytes_append(list, name);
}

static void grant_fill(struct cors_grant *grant, struct cors_reader rule)
{
    grant->methods.max = CORS_HEADER_BYTES_MAX;
    grant->exposed.max = CORS_HEADER_BYTES_MAX;
    struct cors_field field;
    while (cors_next(&rule, &field) && field.kind != CORS_RULE) {
        if (field.kind == CORS_ALLOWED_METHOD)
            list_append(&grant->methods, field.text);
        else if (field.kind == CORS_EXPOSE_HEADER)
            list_append(&grant->exposed, field.text);
        else if (field.kind == CORS_MAX_AGE)
            grant->max_age = field.text;
    }
    if (grant->methods.overflow)
        bytes_clear(&grant->methods);
    if (grant->exposed.overflow)
        bytes_clear(&grant->exposed);
}

static bool rule_ask(struct cors_reader rule, const struct cors_question *question,
                     struct cors_grant *grant)
{
    struct slice origin;
    struct slice method;
    if (!rule_allows(rule, CORS_ALLOWED_ORIGIN, question->origin, &origin) ||
        !rule_allows(rule, CORS_ALLOWED_METHOD, question->method, &method) ||
        !rule_allows_headers(rule, question->headers))
        return false;
    grant->origin = slice_equal_text(origin, "*") ? origin : question->origin;
    grant_fill(grant, rule);
    return true;
}

bool cors_ask(struct slice encoded, const struct cors_question *question,
              struct cors_grant *out_grant)
{
    struct cors_reader reader;
    struct cors_field field;
    if (question->origin.bytes > CORS_ORIGIN_BYTES_MAX || cors_read(encoded, &reader) != OK)
        return false;
    while (cors_next(&reader, &field))
        if (field.kind == CORS_RULE && rule_ask(reader, question, out_grant))
            return true;
    return false;
}

void cors_grant_deinit(struct cors_grant *grant)
{
    bytes_deinit(&grant->methods);
    bytes_deinit(&grant->exposed);
}
