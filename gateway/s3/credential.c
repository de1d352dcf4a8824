/* What a request says about its signature, before anything is known to be true. */
#include "base/text.h"
#include "parsed.h"
#include "s3/date.h"
#include "s3/name.h"

static const char *const one_mechanism =
    "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query "
    "string parameter or the Authorization header should be specified";

/* The places where a scope stands word its faults differently. */
struct wording {
    enum s3_error error;
    const char *prefix;
};
static const struct wording header_wording = {S3_AUTHORIZATION_HEADER_MALFORMED,
                                              "The authorization header is malformed; "};
static const struct wording form_wording = {S3_INVALID_ARGUMENT, ""};
static const struct wording query_wording = {S3_AUTHORIZATION_QUERY_PARAMETERS_ERROR,
                                             "Error parsing the X-Amz-Credential parameter; "};

struct scope_parts {
    struct slice access_key, date, region, service, terminal;
};

/* Cut the part behind the last '/' off `text`. */
static bool cut_last(struct slice *text, struct slice *out_part)
{
    for (size_t i = text->bytes; i > 0; i--) {
        if (text->data[i - 1] != '/')
            continue;
        *out_part = slice_skip(*text, i);
        *text = slice_first(*text, i - 1);
        return true;
    }
    return false;
}

static bool is_scope_date(struct slice date)
{
    struct bytes text = {.max = S3_DATE_BASIC_CHARS};
    uint64_t ms = 0;
    if (date.bytes != 8)
        return false;
    bytes_append(&text, date);
    bytes_append_text(&text, "T000000Z");
    bool valid = s3_date_parse_basic(bytes_slice(&text), &ms);
    bytes_deinit(&text);
    return valid;
}

static enum s3_error check_region(const struct s3_request *request, const struct wording *wording,
                                  struct slice region, struct s3_failure *failure)
{
    const char *expected = request->config->region;
    if (region.bytes == 0 || region.bytes > S3_REGION_BYTES_MAX)
        return S3_FAIL_SAY(failure, wording->error,
                           "%sa non-empty region must be provided in the credential.",
                           wording->prefix);
    if (expected == NULL || slice_equal_text(region, expected))
        return S3_OK;
    enum s3_error error =
        S3_FAIL_SAY(failure, wording->error, "%sthe region \"%.*s\" is wrong; expecting \"%s\"",
                    wording->prefix, SLICE_PRINT(region), expected);
    s3_failure_add(failure, "Region", slice_of_text(expected));
    return error;
}

static enum s3_error check_scope(const struct s3_request *request, const struct wording *wording,
                                 const struct scope_parts *parts, struct s3_failure *failure)
{
    if (parts->access_key.bytes == 0 || parts->access_key.bytes > S3_ACCESS_KEY_BYTES_MAX)
        return S3_FAIL_SAY(failure, wording->error,
                           "%sa non-empty Access Key (AKID) must be provided in the credential.",
                           wording->prefix);
    if (!slice_equal_text(parts->service, "s3"))
        return S3_FAIL_SAY(failure, wording->error,
                           "%sincorrect service \"%.*s\". This endpoint belongs to \"s3\".",
                           wording->prefix, SLICE_PRINT(slice_first(parts->service, 64)));
    if (!slice_equal_text(parts->terminal, "aws4_request"))
        return S3_FAIL_SAY(failure, wording->error,
                           "%sincorrect terminal \"%.*s\". This endpoint uses \"aws4_request\".",
                           wording->prefix, SLICE_PRINT(slice_first(parts->terminal, 64)));
    if (!is_scope_date(parts->date))
        return S3_FAIL_SAY(failure, wording->error,
                           "%sincorrect date format \"%.*s\". This date in the credential must be "
                           "in the format \"yyyyMMdd\".",
                           wording->prefix, SLICE_PRINT(slice_first(parts->date, 64)));
    return check_region(request, wording, parts->region, failure);
}

static enum s3_error malformed_scope(const struct wording *wording, struct s3_failure *failure)
{
    return S3_FAIL_SAY(failure, wording->error,
                       "%sthe Credential is mal-formed; expecting "
                       "\"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".",
                       wording->prefix);
}

/* Credential=KEY/YYYYMMDD/REGION/s3/aws4_request; split from the end, since a key may hold
 * slashes. */
static enum s3_error parse_scope(struct s3_request *request, const struct wording *wording,
                                 struct slice text, struct s3_failure *failure)
{
    struct scope_parts parts = {.access_key = text};
    if (!cut_last(&parts.access_key, &parts.terminal) ||
        !cut_last(&parts.access_key, &parts.service) ||
        !cut_last(&parts.access_key, &parts.region) || !cut_last(&parts.access_key, &parts.date))
        return malformed_scope(wording, failure);
    /* Slashes in the key, or parts too many? Only a scope with the right end tells. */
    if (slice_find(parts.access_key, '/') < parts.access_key.bytes &&
        !slice_equal_text(parts.service, "s3"))
        return malformed_scope(wording, failure);
    TRY(check_scope(request, wording, &parts, failure));
    request->credential.access_key = parts.access_key;
    request->credential.date = parts.date;
    request->credential.region = parts.region;
    request->claim.scope = slice_skip(text, parts.access_key.bytes + 1);
    return S3_OK;
}

static bool day_matches(const struct s3_request *request)
{
    char basic[S3_DATE_BASIC_CHARS + 1];
    s3_date_format_basic(request->claim.time_ms, basic);
    return slice_equal(request->credential.date, slice_of(basic, 8));
}

/* SignedHeaders: lower-case names, none twice, each present in the head. */
static enum s3_error mark_signed(struct s3_request *request, const struct wording *wording,
                                 struct s3_failure *failure)
{
    struct slice rest = request->claim.signed_names;
    while (rest.bytes > 0) {
        struct slice name = slice_first(rest, slice_find(rest, ';'));
        rest = slice_skip(rest, name.bytes + 1);
        struct view_header *found = NULL;
        for (uint32_t i = 0; i < request->header_count; i++) {
            if (slice_equal(request->headers[i].name, name))
                found = &request->headers[i];
        }
        if (name.bytes == 0 || (found != NULL && found->is_signed))
            return S3_FAIL_SAY(failure, wording->error,
                               "%sSignedHeaders is not a list of distinct names.", wording->prefix);
        /* A header that is not there and one with an empty value would sign alike. */
        if (found == NULL)
            return S3_FAIL(S3_SIGNATURE_DOES_NOT_MATCH, "a signed header is absent");
        found->is_signed = true;
    }
    return S3_OK;
}

/* A query parameter x-amz-* of a presigned URL stands for the header of that name. */
static enum s3_error hoist(struct s3_request *request, struct s3_failure *failure)
{
    static const char *const own[] = {
        "x-amz-algorithm",     "x-amz-credential", "x-amz-date",           "x-amz-expires",
        "x-amz-signedheaders", "x-amz-signature",  "x-amz-content-sha256",
    };
    for (uint32_t i = 0; i < request->query_count; i++) {
        const struct s3_pair *pair = &request->query[i];
        if (!slice_equal_nocase(slice_first(pair->name, 6), SLICE_LITERAL("x-amz-")))
            continue;
        struct slice name = append_lower(&request->header_bytes, pair->name);
        bool is_own = false;
        for (size_t j = 0; j < sizeof own / sizeof own[0]; j++)
            is_own |= slice_equal_text(name, own[j]);
        if (is_own)
            continue;
        if (!s3_header_name_valid(name) || !s3_header_value_valid(pair->value))
            return s3_fail_argument(failure, "query", name,
                                    "A query parameter that stands for a header is not valid.");
        const struct view_header *header = NULL;
        for (uint32_t j = 0; j < request->header_count; j++) {
            if (slice_equal(request->headers[j].name, name))
                header = &request->headers[j];
        }
        if (header != NULL && !slice_equal(header->value, pair->value))
            return s3_fail_argument(failure, "query", name,
                                    "A header and a query parameter contradict each other.");
        if (header == NULL)
            request->headers[request->header_count++] = (struct view_header){
                .name = name, .value = pair->value, .is_signed = true, .is_hoisted = true};
    }
    return S3_OK;
}

/* What the Authorization header has to hold, in the order in which what is missing is named. */
enum component { CREDENTIAL, SIGNED_HEADERS, SIGNATURE, COMPONENT_COUNT };
static const char *const component_names[COMPONENT_COUNT] = {"Credential", "SignedHeaders",
                                                             "Signature"};

/* One "Name=value" of the Authorization header; a name that is not known counts for nothing. */
static enum s3_error take_component(struct slice component, struct slice values[COMPONENT_COUNT],
                                    struct s3_failure *failure)
{
    size_t equals = slice_find(component, '=');
    struct slice name = slice_first(component, equals);
    bool valid = equals < component.bytes;
    for (int i = 0; i < COMPONENT_COUNT && valid; i++) {
        if (!slice_equal_text(name, component_names[i]))
            continue;
        valid = values[i].bytes == 0;
        values[i] = slice_skip(component, equals + 1);
    }
    if (valid)
        return S3_OK;
    return S3_FAIL_SAY(failure, S3_AUTHORIZATION_HEADER_MALFORMED,
                       "The authorization header is malformed; the authorization component "
                       "\"%.*s\" is malformed.",
                       SLICE_PRINT(slice_first(component, 128)));
}

static enum s3_error parse_components(struct s3_request *request, struct slice rest,
                                      struct s3_failure *failure)
{
    struct slice values[COMPONENT_COUNT] = {0};
    unsigned count = 0;
    for (; rest.bytes > 0; count++) {
        struct slice component = slice_first(rest, slice_find(rest, ','));
        rest = slice_skip(rest, component.bytes + 1);
        TRY(take_component(slice_trim(component), values, failure));
    }
    if (count != COMPONENT_COUNT)
        return S3_FAIL_SAY(failure, S3_AUTHORIZATION_HEADER_MALFORMED,
                           "The authorization header is malformed; the authorization header "
                           "requires three components: Credential, SignedHeaders, and Signature.");
    for (int i = 0; i < COMPONENT_COUNT; i++)
        if (values[i].bytes == 0)
            return S3_FAIL_SAY(failure, S3_AUTHORIZATION_HEADER_MALFORMED,
                               "The authorization header is malformed; missing %s.",
                               component_names[i]);
    request->claim.signed_names = values[SIGNED_HEADERS];
    request->claim.signature = values[SIGNATURE];
    return parse_scope(request, &header_wording, values[CREDENTIAL], failure);
}

/* x-amz-date, or Date when that is absent; the text itself is signed. */
static enum s3_error parse_header_date(struct s3_request *request, struct s3_failure *failure)
{
    const struct view_header *header = view_find(request, "x-amz-date");
    if (header == NULL)
        header = view_find(request, "date");
    struct claim *claim = &request->claim;
    claim->date = header == NULL ? (struct slice){0} : header->value;
    if (!s3_date_parse_basic(claim->date, &claim->time_ms) &&
        !s3_date_parse_http(claim->date, &claim->time_ms))
        return S3_FAIL_SAY(failure, S3_ACCESS_DENIED,
                           "AWS authentication requires a valid Date or x-amz-date header.");
    return S3_OK;
}

static enum s3_error parse_v4_header(struct s3_request *request, struct slice rest,
                                     struct s3_failure *failure)
{
    request->credential.kind = S3_AUTH_V4_HEADER;
    if (view_find(request, "x-amz-content-sha256") == NULL)
        return S3_FAIL_SAY(failure, S3_INVALID_REQUEST,
                           "Missing required header for this request: x-amz-content-sha256");
    TRY(parse_header_date(request, failure));
    TRY(parse_components(request, rest, failure));
    if (!day_matches(request))
        return S3_FAIL_SAY(failure, S3_AUTHORIZATION_HEADER_MALFORMED,
                           "The authorization header is malformed; Invalid credential date. Date "
                           "is not the same as X-Amz-Date.");
    return mark_signed(request, &header_wording, failure);
}

static enum s3_error parse_authorization(struct s3_request *request, struct slice value,
                                         struct s3_failure *failure)
{
    size_t space = slice_find(value, ' ');
    struct slice scheme = slice_first(value, space);
    if (space == value.bytes)
        return s3_fail_argument(
            failure, "Authorization", value,
            "Authorization header is invalid -- one and only one ' ' (space) required.");
    if (slice_equal_text(scheme, "AWS4-HMAC-SHA256"))
        return parse_v4_header(request, slice_skip(value, space + 1), failure);
    if (slice_equal_text(scheme, "AWS") || slice_equal_text(scheme, "AWS4-ECDSA-P256-SHA256"))
        return S3_FAIL_SAY(failure, S3_INVALID_REQUEST,
                           "The authorization mechanism you have provided is not supported. "
                           "Please use AWS4-HMAC-SHA256.");
    return s3_fail_argument(failure, "Authorization", scheme, "Unsupported Authorization Type");
}

static enum s3_error query_error(struct s3_failure *failure, const char *message)
{
    return S3_FAIL_SAY(failure, S3_AUTHORIZATION_QUERY_PARAMETERS_ERROR, "%s", message);
}

static enum s3_error parse_v4_expires(struct s3_request *request, struct slice text,
                                      struct s3_failure *failure)
{
    uint64_t ignored = 0;
    bool is_negative = text.bytes > 1 && text.data[0] == '-';
    if (is_negative && text_parse_u64(slice_skip(text, 1), INT64_MAX, &ignored) == OK)
        return query_error(failure, "X-Amz-Expires must be non-negative");
    if (text_parse_u64(text, INT64_MAX, &request->claim.expires_seconds) != OK)
        return query_error(failure, "X-Amz-Expires should be a number");
    if (request->claim.expires_seconds > S3_PRESIGN_SECONDS_MAX)
        return query_error(failure,
                           "X-Amz-Expires must be less than a week (in seconds); that is, the "
                           "given X-Amz-Expires must be less than 604800 seconds");
    return S3_OK;
}

static enum s3_error parse_v4_query(struct s3_request *request, struct slice algorithm,
                                    struct s3_failure *failure)
{
    const struct s3_pair *credential = query_find_nocase(request, "X-Amz-Credential");
    const struct s3_pair *signature = query_find_nocase(request, "X-Amz-Signature");
    const struct s3_pair *date = query_find_nocase(request, "X-Amz-Date");
    const struct s3_pair *names = query_find_nocase(request, "X-Amz-SignedHeaders");
    const struct s3_pair *expires = query_find_nocase(request, "X-Amz-Expires");
    struct claim *claim = &request->claim;
    request->credential.kind = S3_AUTH_V4_QUERY;
    if (slice_equal_text(algorithm, "AWS4-ECDSA-P256-SHA256"))
        return query_error(failure, "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"");
    if (!slice_equal_text(algorithm, "AWS4-HMAC-SHA256"))
        return query_error(failure, "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256 and "
                                    "AWS4-ECDSA-P256-SHA256\"");
    if (credential == NULL || signature == NULL || date == NULL || names == NULL || expires == NULL)
        return query_error(failure,
                           "Query-string authentication version 4 requires the X-Amz-Algorithm, "
                           "X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, "
                           "and X-Amz-Expires parameters.");
    claim->date = date->value;
    claim->signature = signature->value;
    claim->signed_names = names->value;
    if (!s3_date_parse_basic(claim->date, &claim->time_ms))
        return query_error(
            failure, "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"");
    TRY(parse_v4_expires(request, expires->value, failure));
    TRY(parse_scope(request, &query_wording, credential->value, failure));
    if (!day_matches(request))
        return S3_FAIL_SAY(failure, S3_AUTHORIZATION_QUERY_PARAMETERS_ERROR,
                           "Invalid credential date \"%.*s\". This date is not the same as "
                           "X-Amz-Date: \"%.*s\".",
                           SLICE_PRINT(request->credential.date),
                           SLICE_PRINT(slice_first(claim->date, 8)));
    TRY(mark_signed(request, &query_wording, failure));
    return hoist(request, failure);
}

/* In version 2 all x-amz-* headers, Content-Type and Content-MD5 are part of the string to sign. */
static void mark_signed_v2(struct s3_request *request)
{
    for (uint32_t i = 0; i < request->header_count; i++) {
        struct view_header *header = &request->headers[i];
        header->is_signed |= slice_starts_with(header->name, SLICE_LITERAL("x-amz-"));
    }
}

static enum s3_error parse_v2_query(struct s3_request *request, struct s3_failure *failure)
{
    const struct s3_pair *key = query_find(request, "AWSAccessKeyId");
    const struct s3_pair *expires = query_find(request, "Expires");
    const struct s3_pair *signature = query_find(request, "Signature");
    request->credential.kind = S3_AUTH_V2_QUERY;
    if (key == NULL || expires == NULL || signature == NULL || key->value.bytes == 0)
        return S3_FAIL_SAY(failure, S3_ACCESS_DENIED,
                           "Query-string authentication requires the Signature, Expires and "
                           "AWSAccessKeyId parameters");
    if (key->value.bytes > S3_ACCESS_KEY_BYTES_MAX)
        return S3_FAIL(S3_INVALID_ACCESS_KEY_ID, "access key bytes=%zu", key->value.bytes);
    if (text_parse_u64(expires->value, INT32_MAX, &request->claim.expires_seconds) != OK)
        return S3_FAIL_SAY(failure, S3_ACCESS_DENIED,
                           "Invalid date (should be seconds since epoch): %.*s",
                           SLICE_PRINT(slice_first(expires->value, 32)));
    request->credential.access_key = key->value;
    request->claim.signature = signature->value;
    request->claim.date = expires->value;
    TRY(hoist(request, failure));
    mark_signed_v2(request);
    return S3_OK;
}

enum s3_error credential_parse(struct s3_request *request, struct s3_failure *failure)
{
    const struct view_header *header = view_find(request, "authorization");
    const struct s3_pair *algorithm = query_find_nocase(request, "X-Amz-Algorithm");
    bool v2 =
        query_find(request, "Signature") != NULL || query_find(request, "AWSAccessKeyId") != NULL;
    if ((header != NULL) + (algorithm != NULL) + v2 > 1)
        return s3_fail_argument(failure, "Authorization",
                                header == NULL ? (struct slice){0} : header->value, one_mechanism);
    if (header != NULL)
        TRY(parse_authorization(request, header->value, failure));
    if (algorithm != NULL)
        TRY(parse_v4_query(request, algorithm->value, failure));
    if (v2)
        TRY(parse_v2_query(request, failure));
    const struct view_header *token = view_find(request, "x-amz-security-token");
    request->credential.session_token = token == NULL ? (struct slice){0} : token->value;
    return S3_OK;
}

/* Fields of a signed form; one alone makes it one that claims to be signed. */
static const char *const form_v4_fields[] = {"policy", "x-amz-signature", "x-amz-credential",
                                             "x-amz-date", "x-amz-algorithm"};
static const char *const form_v2_fields[] = {"policy", "signature", "AWSAccessKeyId"};
enum {
    FORM_V4_FIELDS = sizeof form_v4_fields / sizeof form_v4_fields[0],
    FORM_V2_FIELDS = sizeof form_v2_fields / sizeof form_v2_fields[0],
};

static enum s3_error require_fields(const struct s3_form *form, const char *const *names,
                                    uint32_t name_count, struct s3_failure *failure)
{
    for (uint32_t i = 0; i < name_count; i++)
        TRY(form_require(form, names[i], failure));
    return S3_OK;
}

/* The scope's own faults, with the field that holds it. */
static enum s3_error parse_form_scope(struct s3_request *request, struct slice text,
                                      struct s3_failure *failure)
{
    enum s3_error error = parse_scope(request, &form_wording, text, failure);
    if (error == S3_OK && !day_matches(request))
        error = S3_FAIL_SAY(failure, S3_INVALID_ARGUMENT,
                            "Invalid credential date. Date is not the same as X-Amz-Date.");
    if (error == S3_OK)
        return S3_OK;
    s3_failure_add(failure, "ArgumentName", SLICE_LITERAL("x-amz-credential"));
    s3_failure_add(failure, "ArgumentValue", text);
    return error;
}

static enum s3_error parse_v4_form(struct s3_request *request, const struct s3_form *form,
                                   struct s3_failure *failure)
{
    struct slice algorithm = s3_form_field(form, "x-amz-algorithm");
    struct claim *claim = &request->claim;
    TRY(require_fields(form, form_v4_fields, FORM_V4_FIELDS, failure));
    request->credential.kind = S3_AUTH_V4_FORM;
    if (!slice_equal_text(algorithm, "AWS4-HMAC-SHA256"))
        return s3_fail_argument(failure, "X-Amz-Algorithm", algorithm,
                                "Only AWS4-HMAC-SHA256 is supported");
    claim->date = s3_form_field(form, "x-amz-date");
    claim->signature = s3_form_field(form, "x-amz-signature");
    if (!s3_date_parse_basic(claim->date, &claim->time_ms))
        return s3_fail_argument(failure, "X-Amz-Date", claim->date,
                                "X-Amz-Date must be formated via ISO8601 Long format");
    return parse_form_scope(request, s3_form_field(form, "x-amz-credential"), failure);
}

static enum s3_error parse_v2_form(struct s3_request *request, const struct s3_form *form,
                                   struct s3_failure *failure)
{
    TRY(require_fields(form, form_v2_fields, FORM_V2_FIELDS, failure));
    request->credential.kind = S3_AUTH_V2_FORM;
    struct slice access_key = s3_form_field(form, "awsaccesskeyid");
    if (access_key.bytes == 0 || access_key.bytes > S3_ACCESS_KEY_BYTES_MAX)
        return S3_FAIL(S3_INVALID_ACCESS_KEY_ID, "access key bytes=%zu", access_key.bytes);
    request->credential.access_key = access_key;
    request->claim.signature = s3_form_field(form, "signature");
    return S3_OK;
}

enum s3_error credential_parse_form(struct s3_request *request, const struct s3_form *form,
                                    struct s3_failure *failure)
{
    bool v2 = s3_form_field(form, "signature").data != NULL ||
              s3_form_field(form, "awsaccesskeyid").data != NULL;
    bool v4 = !v2 && s3_form_field(form, "policy").data != NULL;
    for (uint32_t i = 1; i < FORM_V4_FIELDS; i++)
        v4 = v4 || s3_form_field(form, form_v4_fields[i]).data != NULL;
    if (request->credential.kind != S3_AUTH_ANONYMOUS || (v2 && v4))
        return s3_fail_argument(failure, "x-amz-algorithm", s3_form_field(form, "x-amz-algorithm"),
                                "Only one auth mechanism allowed");
    if (v4)
        TRY(parse_v4_form(request, form, failure));
    if (v2)
        TRY(parse_v2_form(request, form, failure));
    request->claim.policy = s3_form_field(form, "policy");
    request->credential.session_token = s3_form_field(form, "x-amz-security-token");
    return S3_OK;
}
