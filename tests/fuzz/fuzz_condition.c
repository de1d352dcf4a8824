/* Conditional headers: four lines, used as the headers of a read, a write and a delete. */
#include "s3/condition.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct slice next_line(struct slice *rest)
{
    size_t bytes = slice_find(*rest, '\n');
    struct slice line = slice_first(*rest, bytes);
    *rest = slice_skip(*rest, bytes + 1);
    return line;
}

static void check_read(const struct read_conditions *conditions,
                       const struct condition_target *target)
{
    enum s3_error read = read_conditions_check(conditions, target, NULL);
    enum s3_error copy = copy_conditions_check(conditions, target, NULL);
    assert(read == S3_OK || read == S3_NOT_MODIFIED || read == S3_PRECONDITION_FAILED);
    assert(copy == S3_OK || copy == S3_PRECONDITION_FAILED);
    assert((read == S3_OK) == (copy == S3_OK));
}

static void check_write(struct slice if_match, struct slice if_none_match,
                        const struct condition_target *target)
{
    struct write_condition condition;
    if (write_condition_parse(if_match, if_none_match, NULL, &condition) != S3_OK)
        return;
    enum s3_error error = write_condition_check(&condition, target, NULL);
    /* A write that If-Match lets through is one that a read with it would see. */
    if (error == S3_OK && condition.kind == WRITE_IF_MATCH)
        assert(etag_list_contains(if_match, target->etag, false));
}

static void check_delete(struct slice if_match, struct slice date, struct slice size,
                         const struct condition_target *target)
{
    struct delete_condition condition;
    if (delete_condition_parse(if_match, date, size, NULL, &condition) == S3_OK)
        (void)delete_condition_check(&condition, target, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct slice rest = slice_of(data, bytes);
    struct read_conditions conditions = {.if_match = next_line(&rest)};
    conditions.if_none_match = next_line(&rest);
    conditions.if_modified_since = next_line(&rest);
    conditions.if_unmodified_since = next_line(&rest);
    struct condition_target target = {.exists = true,
                                      .etag = SLICE_LITERAL("0123"),
                                      .modified_ms = UINT64_C(1255369830500),
                                      .size = 5};
    check_read(&conditions, &target);
    check_write(conditions.if_match, conditions.if_none_match, &target);
    check_delete(conditions.if_match, conditions.if_modified_since, rest, &target);
    if (etag_list_contains(conditions.if_match, target.etag, false))
        assert(etag_list_contains(conditions.if_match, target.etag, true));
    return 0;
}
