/* See s3/condition.h. */
#include "s3/condition.h"
#include "base/text.h"
#include "s3/date.h"
#include <assert.h>

/* One entity tag as sent, RFC 9110 §8.8.3, or S3's bare form. */
struct sent_etag {
    struct slice opaque; /* without W/ and quotes */
    bool weak;
};

static struct sent_etag parse_etag(struct slice text)
{
    static const struct slice weak_prefix = {.data = (const uint8_t *)"W/\"", .bytes = 3};
    struct sent_etag etag = {.opaque = slice_trim(text)};
    if (slice_starts_with(etag.opaque, weak_prefix)) {
        etag.weak = true;
        etag.opaque = slice_skip(etag.opaque, 2);
    }
    size_t bytes = etag.opaque.bytes;
    if (bytes >= 2 && etag.opaque.data[0] == '"' && etag.opaque.data[bytes - 1] == '"')
        etag.opaque = slice_of(etag.opaque.data + 1, bytes - 2);
    return etag;
}

struct slice etag_unquote(struct slice text)
{
    return parse_etag(text).opaque;
}

/* Bytes of the first member of a list: up to a comma outside quotes. */
static size_t member_bytes(struct slice list)
{
    bool quoted = false;
    size_t i = 0;
    for (; i < list.bytes && (quoted || list.data[i] != ','); i++)
        quoted ^= list.data[i] == '"';
    return i;
}

bool etag_list_contains(struct slice list, struct slice etag, bool weak_comparison)
{
    list = slice_trim(list);
    if (slice_equal_text(list, "*"))
        return true;
    while (list.bytes > 0) {
        size_t bytes = member_bytes(list);
        struct sent_etag sent = parse_etag(slice_first(list, bytes));
        if (slice_equal(sent.opaque, etag) && (weak_comparison || !sent.weak))
            return true;
        list = slice_skip(list, bytes + 1);
    }
    return false;
}

/* HTTP dates, and the ISO form that some S3 clients send in the same headers. */
static bool parse_date_s(struct slice text, uint64_t *out_s)
{
    uint64_t ms;
    text = slice_trim(text);
    if (!s3_date_parse_http(text, &ms) && !s3_date_parse_extended(text, &ms))
        return false;
    *out_s = ms / 1000;
    return true;
}

static enum s3_error fail_condition(struct s3_failure *failure, const char *condition)
{
    enum s3_error error = S3_FAIL_SAY(failure, S3_PRECONDITION_FAILED, "%s",
                                      s3_error_message(S3_PRECONDITION_FAILED));
    s3_failure_add(failure, "Condition", slice_of_text(condition));
    return error;
}

enum read_verdict { READ_PASS, READ_IF_MATCH, READ_IF_UNMODIFIED, READ_IF_NONE, READ_IF_MODIFIED };

/* The condition that decides against the read, in the order of RFC 9110 §13.2.2. */
static enum read_verdict judge_read(const struct read_conditions *conditions,
                                    const struct condition_target *target)
{
    uint64_t modified_s = target->modified_ms / 1000;
    uint64_t date_s;
    if (conditions->if_match.bytes > 0) {
        if (!etag_list_contains(conditions->if_match, target->etag, false))
            return READ_IF_MATCH;
    } else if (parse_date_s(conditions->if_unmodified_since, &date_s) && modified_s > date_s) {
        return READ_IF_UNMODIFIED;
    }
    if (conditions->if_none_match.bytes > 0) {
        if (etag_list_contains(conditions->if_none_match, target->etag, true))
            return READ_IF_NONE;
    } else if (parse_date_s(conditions->if_modified_since, &date_s) && modified_s <= date_s) {
        return READ_IF_MODIFIED;
    }
    return READ_PASS;
}

enum s3_error read_conditions_check(const struct read_conditions *conditions,
                                    const struct condition_target *target,
                                    struct s3_failure *failure)
{
    assert(target->exists);
    switch (judge_read(conditions, target)) {
    case READ_PASS:
        break;
    case READ_IF_MATCH:
        return fail_condition(failure, "If-Match");
    case READ_IF_UNMODIFIED:
        return fail_condition(failure, "If-Unmodified-Since");
    case READ_IF_NONE:
    case READ_IF_MODIFIED:
        return S3_NOT_MODIFIED;
    }
    return S3_OK;
}

enum s3_error copy_conditions_check(const struct read_conditions *conditions,
                                    const struct condition_target *target,
                                    struct s3_failure *failure)
{
    assert(target->exists);
    switch (judge_read(conditions, target)) {
    case READ_PASS:
        break;
    case READ_IF_MATCH:
        return fail_condition(failure, "x-amz-copy-source-If-Match");
    case READ_IF_UNMODIFIED:
        return fail_condition(failure, "x-amz-copy-source-If-Unmodified-Since");
    case READ_IF_NONE:
        return fail_condition(failure, "x-amz-copy-source-If-None-Match");
    case READ_IF_MODIFIED:
        return fail_condition(failure, "x-amz-copy-source-If-Modified-Since");
    }
    return S3_OK;
}

static enum s3_error fail_not_implemented(struct s3_failure *failure, const char *header,
                                          const char *why)
{
    enum s3_error error =
        S3_FAIL_SAY(failure, S3_NOT_IMPLEMENTED, "%s", s3_error_message(S3_NOT_IMPLEMENTED));
    s3_failure_add(failure, "Header", slice_of_text(header));
    s3_failure_add(failure, "additionalMessage", slice_of_text(why));
    return error;
}

static enum s3_error parse_if_match(struct slice if_match, struct s3_failure *failure,
                                    struct write_condition *out_condition)
{
    if (slice_equal_text(if_match, "*")) {
        *out_condition = (struct write_condition){.kind = WRITE_IF_EXISTS};
        return S3_OK;
    }
    struct sent_etag sent = parse_etag(if_match);
    if (sent.opaque.bytes == 0 || slice_find(sent.opaque, '"') < sent.opaque.bytes ||
        slice_find(sent.opaque, ',') < sent.opaque.bytes)
        return s3_fail_argument(failure, "If-Match", if_match,
                                "The If-Match value must be one entity tag");
    /* Left with its W/ a weak tag equals none of ours, which is the strong comparison. */
    *out_condition = (struct write_condition){.kind = WRITE_IF_MATCH,
                                              .etag = sent.weak ? if_match : sent.opaque};
    return S3_OK;
}

enum s3_error write_condition_parse(struct slice if_match, struct slice if_none_match,
                                    struct s3_failure *failure,
                                    struct write_condition *out_condition)
{
    if_match = slice_trim(if_match);
    if_none_match = slice_trim(if_none_match);
    *out_condition = (struct write_condition){.kind = WRITE_ALWAYS};
    if (if_none_match.bytes > 0) {
        if (!slice_equal_text(if_none_match, "*"))
            return fail_not_implemented(
                failure, "If-None-Match",
                "We don't accept the provided value of If-None-Match header for this API");
        if (if_match.bytes > 0)
            return fail_not_implemented(
                failure, "If-Match,If-None-Match",
                "Multiple conditional request headers present in the request");
        *out_condition = (struct write_condition){.kind = WRITE_IF_ABSENT};
        return S3_OK;
    }
    return if_match.bytes == 0 ? S3_OK : parse_if_match(if_match, failure, out_condition);
}

enum s3_error write_condition_check(const struct write_condition *condition,
                                    const struct condition_target *target,
                                    struct s3_failure *failure)
{
    switch (condition->kind) {
    case WRITE_ALWAYS:
        return S3_OK;
    case WRITE_IF_ABSENT:
        return target->exists ? fail_condition(failure, "If-None-Match") : S3_OK;
    case WRITE_IF_EXISTS:
    case WRITE_IF_MATCH:
        break;
    }
    if (!target->exists)
        return S3_FAIL(S3_NO_SUCH_KEY, "If-Match without an object");
    if (condition->kind == WRITE_IF_MATCH && !slice_equal(condition->etag, target->etag))
        return fail_condition(failure, "If-Match");
    return S3_OK;
}

enum s3_error delete_condition_parse(struct slice if_match, struct slice last_modified_time,
                                     struct slice size, struct s3_failure *failure,
                                     struct delete_condition *out_condition)
{
    struct delete_condition condition = {.match = {.kind = WRITE_ALWAYS}};
    if_match = slice_trim(if_match);
    if (if_match.bytes > 0)
        TRY(parse_if_match(if_match, failure, &condition.match));
    uint64_t modified_s;
    if (last_modified_time.bytes > 0) {
        if (!parse_date_s(last_modified_time, &modified_s))
            return s3_fail_argument(failure, "x-amz-if-match-last-modified-time",
                                    last_modified_time, "The date is not valid");
        condition.has_modified = true;
        condition.modified_ms = modified_s * 1000;
    }
    if (size.bytes > 0) {
        if (text_parse_u64(slice_trim(size), UINT64_MAX, &condition.size) != OK)
            return s3_fail_argument(failure, "x-amz-if-match-size", size, "The size is not valid");
        condition.has_size = true;
    }
    *out_condition = condition;
    return S3_OK;
}

enum s3_error delete_condition_check(const struct delete_condition *condition,
                                     const struct condition_target *target,
                                     struct s3_failure *failure)
{
    assert(condition->match.kind != WRITE_IF_ABSENT);
    TRY(write_condition_check(&condition->match, target, failure));
    if (!condition->has_modified && !condition->has_size)
        return S3_OK;
    if (!target->exists)
        return S3_FAIL(S3_NO_SUCH_KEY, "conditional delete without an object");
    if (condition->has_modified && condition->modified_ms / 1000 != target->modified_ms / 1000)
        return fail_condition(failure, "If-Match-Last-Mod-Time");
    if (condition->has_size && condition->size != target->size)
        return fail_condition(failure, "If-Match-Size");
    return S3_OK;
}
