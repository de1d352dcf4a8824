/* See s3/post_policy.h. The document is checked as a whole when it is read; judging a form walks
 * it again. */
#include "s3/post_policy.h"
#include "base/bytes.h"
#include "base/mem.h"
#include "base/text.h"
#include "s3/date.h"
#include <assert.h>
#include <jansson.h>

/* Of brackets in brackets: jansson descends by recursion, on the stack of a fiber. */
enum { POLICY_DEPTH_MAX = 16 };

struct s3_post_policy {
    json_t *document;
    const json_t *conditions; /* in it */
    uint64_t expiration_ms;
    uint64_t bytes_min;
    uint64_t bytes_max;
};

/* A condition on a field. */
struct condition {
    struct slice name; /* as in the policy, without its `$` */
    struct slice value;
    bool is_prefix;
    bool has_name; /* false: the `$` is missing, nothing meets it */
};

#define INVALID(failure, ...) S3_FAIL_SAY(failure, S3_INVALID_POLICY_DOCUMENT, __VA_ARGS__)

static enum s3_error invalid_json(struct s3_failure *failure)
{
    return INVALID(failure, "Invalid Policy: Invalid JSON.");
}

void s3_post_policy_free(struct s3_post_policy *policy)
{
    if (policy == NULL)
        return;
    json_decref(policy->document);
    mem_free(policy);
}

static struct slice string_of(const json_t *string)
{
    return slice_of(json_string_value(string), json_string_length(string));
}

/* Operations compare without letter case. */
static bool is_word(const json_t *value, const char *word)
{
    return json_is_string(value) && slice_equal_nocase(string_of(value), slice_of_text(word));
}

/* Copy the document as plain JSON, and bound its depth. */
static enum s3_error to_json(struct slice text, struct bytes *out, struct s3_failure *failure)
{
    bool in_string = false;
    uint32_t depth = 0;
    for (size_t i = 0; i < text.bytes; i++) {
        uint8_t c = text.data[i];
        if (in_string && c == '\\' && i + 1 < text.bytes) {
            uint8_t escaped = text.data[++i];
            if (escaped == '$')
                bytes_append_byte(out, '$');
            else if (escaped == 'v')
                bytes_append_text(out, "\\u000b");
            else
                bytes_append(out, slice_of(text.data + i - 1, 2));
            continue;
        }
        if (c == '"')
            in_string = !in_string;
        if (!in_string && (c == '[' || c == '{') && ++depth > POLICY_DEPTH_MAX)
            return invalid_json(failure);
        if (!in_string && (c == ']' || c == '}') && depth-- == 0)
            return invalid_json(failure);
        bytes_append_byte(out, c);
    }
    assert(!out->overflow);
    return S3_OK;
}

static enum s3_error load(struct slice base64, struct s3_failure *failure, json_t **out_document)
{
    AUTO_VALUE(bytes) decoded = {.max = S3_FORM_BYTES_MAX};
    AUTO_VALUE(bytes) plain = {.max = 4 * S3_FORM_BYTES_MAX};
    size_t decoded_bytes = 0;
    if (base64.bytes > S3_FORM_BYTES_MAX ||
        text_parse_base64(base64, bytes_extend(&decoded, S3_FORM_BYTES_MAX), S3_FORM_BYTES_MAX,
                          &decoded_bytes) != OK)
        return INVALID(failure, "Invalid Policy: invalid Base64 encoding.");
    if (decoded_bytes == 0)
        return INVALID(failure, "Invalid Policy: Expecting '{' but found End-of-Input");
    TRY(to_json(slice_of(decoded.data, decoded_bytes), &plain, failure));
    json_t *document =
        json_loadb((const char *)plain.data, plain.bytes, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(document)) {
        json_decref(document);
        return invalid_json(failure);
    }
    *out_document = document;
    return S3_OK;
}

/* A bound of content-length-range: a number, or one written as a string. */
static bool read_bound(const json_t *value, uint64_t *out_bytes)
{
    if (json_is_string(value))
        return text_parse_u64(string_of(value), INT64_MAX, out_bytes) == OK;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out_bytes = (uint64_t)json_integer_value(value);
    return true;
}

static enum s3_error take_range(struct s3_post_policy *policy, const json_t *condition,
                                struct s3_failure *failure)
{
    uint64_t min = 0;
    uint64_t max = 0;
    if (!read_bound(json_array_get(condition, 1), &min) ||
        !read_bound(json_array_get(condition, 2), &max))
        return invalid_json(failure);
    if (min > policy->bytes_min)
        policy->bytes_min = min;
    if (max < policy->bytes_max)
        policy->bytes_max = max;
    return S3_OK;
}

static enum s3_error check_list(struct s3_post_policy *policy, const json_t *condition,
                                struct s3_failure *failure)
{
    const json_t *word = json_array_get(condition, 0);
    bool is_range = is_word(word, "content-length-range");
    if (word == NULL)
        return INVALID(failure, "Invalid Policy: Invalid Condition: missing operation identifier.");
    if (!json_is_string(word))
        return invalid_json(failure);
    if (!is_range && !is_word(word, "eq") && !is_word(word, "starts-with"))
        return INVALID(failure, "Invalid Policy: Invalid Condition: unknown operation '%.*s'.",
                       SLICE_PRINT(slice_first(string_of(word), 64)));
    if (json_array_size(condition) != 3)
        return INVALID(failure, "Invalid Policy: Invalid %.*s: wrong number of arguments.",
                       SLICE_PRINT(string_of(word)));
    if (is_range)
        return take_range(policy, condition, failure);
    if (!json_is_string(json_array_get(condition, 1)) ||
        !json_is_string(json_array_get(condition, 2)))
        return invalid_json(failure);
    return S3_OK;
}

static enum s3_error check_simple(json_t *condition, struct s3_failure *failure)
{
    if (json_object_size(condition) != 1)
        return INVALID(failure, "Invalid Policy: Invalid Simple-Condition: Simple-Conditions must "
                                "have exactly one property specified.");
    if (!json_is_string(json_object_iter_value(json_object_iter(condition))))
        return INVALID(failure,
                       "Invalid Policy: Invalid Simple-Condition: value must be a string.");
    return S3_OK;
}

static enum s3_error check_conditions(struct s3_post_policy *policy, struct s3_failure *failure)
{
    for (size_t i = 0; i < json_array_size(policy->conditions); i++) {
        json_t *condition = json_array_get(policy->conditions, i);
        if (json_is_object(condition))
            TRY(check_simple(condition, failure));
        else if (json_is_array(condition))
            TRY(check_list(policy, condition, failure));
        else
            return INVALID(failure,
                           "Invalid Policy: Invalid condition test: must be a List or Object.");
    }
    return S3_OK;
}

static enum s3_error check_names(json_t *document, struct s3_failure *failure)
{
    const char *name;
    json_t *value;
    json_object_foreach(document, name, value)
    {
        if (strcmp(name, "expiration") != 0 && strcmp(name, "conditions") != 0)
            return INVALID(failure, "Invalid Policy: Unexpected: \"%.64s\"", name);
    }
    return S3_OK;
}

static enum s3_error read_document(struct s3_post_policy *policy, struct s3_failure *failure)
{
    const json_t *expiration = json_object_get(policy->document, "expiration");
    policy->conditions = json_object_get(policy->document, "conditions");
    TRY(check_names(policy->document, failure));
    if (expiration == NULL)
        return INVALID(failure, "Invalid Policy: Policy missing expiration.");
    if (!json_is_string(expiration))
        return invalid_json(failure);
    if (!s3_date_parse_extended(string_of(expiration), &policy->expiration_ms))
        return INVALID(failure, "Invalid Policy: Invalid 'expiration' value: '%.*s'",
                       SLICE_PRINT(slice_first(string_of(expiration), 64)));
    if (policy->conditions == NULL)
        return INVALID(failure, "Invalid Policy: Policy missing conditions.");
    if (!json_is_array(policy->conditions))
        return INVALID(failure, "Invalid Policy: Invalid 'conditions' value: must be a List.");
    return check_conditions(policy, failure);
}

enum s3_error s3_post_policy_new(struct slice base64, struct s3_failure *failure,
                                 struct s3_post_policy **out_policy)
{
    AUTO(s3_post_policy) policy = mem_new(struct s3_post_policy);
    policy->bytes_max = UINT64_MAX;
    TRY(load(base64, failure, &policy->document));
    TRY(read_document(policy, failure));
    *out_policy = TAKE(policy);
    return S3_OK;
}

/* False for content-length-range, which is no condition on a field. */
static bool condition_of(json_t *json, struct condition *out_condition)
{
    struct condition condition = {.has_name = true};
    if (json_is_object(json)) {
        void *pair = json_object_iter(json);
        condition.name = slice_of(json_object_iter_key(pair), json_object_iter_key_len(pair));
        condition.value = string_of(json_object_iter_value(pair));
    } else {
        const json_t *word = json_array_get(json, 0);
        if (is_word(word, "content-length-range"))
            return false;
        struct slice name = string_of(json_array_get(json, 1));
        condition.has_name = name.bytes > 0 && name.data[0] == '$';
        condition.name = slice_skip(name, 1);
        condition.value = string_of(json_array_get(json, 2));
        condition.is_prefix = is_word(word, "starts-with");
    }
    *out_condition = condition;
    return true;
}

static bool names_field(const struct condition *condition, struct slice field)
{
    return condition->has_name && slice_equal_nocase(condition->name, field);
}

/* The value that a condition is about; data NULL when the form has no such field. */
static struct slice find_value(const struct s3_form *form, struct slice bucket,
                               const struct condition *condition)
{
    if (names_field(condition, SLICE_LITERAL("bucket")))
        return bucket;
    for (uint32_t i = 0; i < s3_form_field_count(form); i++) {
        struct slice name;
        struct slice value;
        s3_form_field_at(form, i, &name, &value);
        if (names_field(condition, name))
            return value;
    }
    return slice_of(NULL, 0);
}

/* A Content-Type with commas is a list to starts-with, each member of which must begin so. */
static bool all_start_with(struct slice list, struct slice prefix)
{
    for (;;) {
        struct slice item = slice_first(list, slice_find(list, ','));
        if (!slice_starts_with(slice_trim(item), prefix))
            return false;
        if (item.bytes == list.bytes)
            return true;
        list = slice_skip(list, item.bytes + 1);
    }
}

static bool is_met(const struct condition *condition, struct slice value)
{
    if (value.data == NULL)
        return false;
    if (!condition->is_prefix)
        return slice_equal(value, condition->value);
    if (names_field(condition, SLICE_LITERAL("content-type")) &&
        slice_find(value, ',') < value.bytes)
        return all_start_with(value, condition->value);
    return slice_starts_with(value, condition->value);
}

/* Both forms of a condition are shown as lists. */
static enum s3_error not_met(json_t *json, const struct condition *condition,
                             struct s3_failure *failure)
{
    static const char prefix[] = "Invalid according to Policy: Policy Condition failed:";
    if (json_is_object(json))
        return S3_FAIL_SAY(failure, S3_ACCESS_DENIED, "%s [\"eq\", \"$%.*s\", \"%.*s\"]", prefix,
                           SLICE_PRINT(condition->name), SLICE_PRINT(condition->value));
    char text[S3_FAILURE_MESSAGE_BYTES_MAX];
    size_t bytes = json_dumpb(json, text, sizeof text, JSON_COMPACT);
    struct slice shown = bytes <= sizeof text ? slice_of(text, bytes) : condition->name;
    return S3_FAIL_SAY(failure, S3_ACCESS_DENIED, "%s %.*s", prefix, SLICE_PRINT(shown));
}

static bool is_excused(struct slice field)
{
    static const char *const names[] = {"policy", "signature", "x-amz-signature", "awsaccesskeyid"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (slice_equal_text(field, names[i]))
            return true;
    }
    return slice_starts_with(field, SLICE_LITERAL("x-ignore-"));
}

static enum s3_error check_covered(const struct s3_post_policy *policy, struct slice field,
                                   struct s3_failure *failure)
{
    if (is_excused(field))
        return S3_OK;
    for (size_t i = 0; i < json_array_size(policy->conditions); i++) {
        struct condition condition;
        if (condition_of(json_array_get(policy->conditions, i), &condition) &&
            names_field(&condition, field))
            return S3_OK;
    }
    return S3_FAIL_SAY(failure, S3_ACCESS_DENIED,
                       "Invalid according to Policy: Extra input fields: %.*s",
                       SLICE_PRINT(slice_first(field, 128)));
}

enum s3_error s3_post_policy_check(const struct s3_post_policy *policy, const struct s3_form *form,
                                   struct slice bucket, uint64_t now_ms, struct s3_failure *failure)
{
    if (now_ms > policy->expiration_ms)
        return S3_FAIL_SAY(failure, S3_ACCESS_DENIED,
                           "Invalid according to Policy: Policy expired.");
    for (size_t i = 0; i < json_array_size(policy->conditions); i++) {
        json_t *json = json_array_get(policy->conditions, i);
        struct condition condition;
        if (condition_of(json, &condition) &&
            !is_met(&condition, find_value(form, bucket, &condition)))
            return not_met(json, &condition, failure);
    }
    for (uint32_t i = 0; i < s3_form_field_count(form); i++) {
        struct slice name;
        struct slice value;
        s3_form_field_at(form, i, &name, &value);
        TRY(check_covered(policy, name, failure));
    }
    return check_covered(policy, SLICE_LITERAL("bucket"), failure);
}

void s3_post_policy_range(const struct s3_post_policy *policy, uint64_t *out_min, uint64_t *out_max)
{
    *out_min = policy->bytes_min;
    *out_max = policy->bytes_max;
}
