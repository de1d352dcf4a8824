/* Conditional reads, copies, writes and deletes. */
#include "s3/condition.h"
#include "s3/date.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define BEFORE "Mon, 12 Oct 2009 17:50:29 GMT"
#define SAME "Mon, 12 Oct 2009 17:50:30 GMT"
#define AFTER "Mon, 12 Oct 2009 17:50:31 GMT"
#define GOOD "\"0123abcd\""
#define BAD "\"other\""

static struct condition_target target_of(bool exists)
{
    uint64_t ms = 0;
    assert_true(s3_date_parse_http(SLICE_LITERAL(SAME), &ms));
    return (struct condition_target){
        .exists = exists, .etag = SLICE_LITERAL("0123abcd"), .modified_ms = ms + 700, .size = 5};
}

/* Every combination of {absent, false, true} of the four headers, RFC 9110 §13.2.2 in digits. */
static enum s3_error expected_read(int match, int none, int modified, int unmodified)
{
    if (match == 1 || (match == 0 && unmodified == 1))
        return S3_PRECONDITION_FAILED;
    if (none == 1 || (none == 0 && modified == 1))
        return S3_NOT_MODIFIED;
    return S3_OK;
}

static void reads_follow_the_order_of_rfc_9110(void **state)
{
    (void)state;
    static const char *const match[] = {NULL, BAD, GOOD};
    static const char *const none[] = {NULL, GOOD, BAD};
    static const char *const modified[] = {NULL, AFTER, BEFORE};
    static const char *const unmodified[] = {NULL, BEFORE, AFTER};
    struct condition_target target = target_of(true);
    for (int i = 0; i < 81; i++) {
        int m = i % 3, n = i / 3 % 3, s = i / 9 % 3, u = i / 27;
        struct read_conditions conditions = {
            .if_match = slice_of_text(match[m]),
            .if_none_match = slice_of_text(none[n]),
            .if_modified_since = slice_of_text(modified[s]),
            .if_unmodified_since = slice_of_text(unmodified[u]),
        };
        enum s3_error expected = expected_read(m, n, s, u);
        assert_int_equal(read_conditions_check(&conditions, &target, NULL), expected);
        assert_int_equal(copy_conditions_check(&conditions, &target, NULL),
                         expected == S3_OK ? S3_OK : S3_PRECONDITION_FAILED);
    }
}

static void dates_compare_in_whole_seconds_and_bad_ones_are_ignored(void **state)
{
    (void)state;
    static const struct {
        const char *modified_since, *unmodified_since;
        enum s3_error error;
    } cases[] = {
        {SAME, NULL, S3_NOT_MODIFIED},
        {NULL, SAME, S3_OK},
        {BEFORE, NULL, S3_OK},
        {NULL, BEFORE, S3_PRECONDITION_FAILED},
        {"yesterday", "yesterday", S3_OK},
        {"2009-10-12T17:50:31Z", NULL, S3_NOT_MODIFIED},
        {NULL, "2009-10-12T17:50:29.999Z", S3_PRECONDITION_FAILED},
    };
    struct condition_target target = target_of(true);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct read_conditions conditions = {
            .if_modified_since = slice_of_text(cases[i].modified_since),
            .if_unmodified_since = slice_of_text(cases[i].unmodified_since),
        };
        assert_int_equal(read_conditions_check(&conditions, &target, NULL), cases[i].error);
    }
}

static void a_failed_read_names_its_condition(void **state)
{
    (void)state;
    AUTO_VALUE(s3_failure) failure = {0};
    struct condition_target target = target_of(true);
    struct read_conditions conditions = {.if_match = SLICE_LITERAL(BAD)};
    assert_int_equal(read_conditions_check(&conditions, &target, &failure), S3_PRECONDITION_FAILED);
    assert_int_equal(failure.detail_count, 1);
    assert_string_equal(failure.details[0].element, "Condition");
    assert_true(slice_equal_text(bytes_slice(&failure.details[0].text), "If-Match"));
}

static void entity_tag_lists_are_read_leniently(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        bool weak, strong;
    } cases[] = {
        {"*", true, true},
        {" * ", true, true},
        {"\"0123abcd\"", true, true},
        {"0123abcd", true, true},
        {" 0123abcd ", true, true},
        {"W/\"0123abcd\"", true, false},
        {"\"a\", \"0123abcd\"", true, true},
        {"\"a,b\",0123abcd", true, true},
        {"\"a\",W/\"0123abcd\",b", true, false},
        {",, \"0123abcd\" ,", true, true},
        {"\"0123abcd", false, false},
        {"w/\"0123abcd\"", false, false},
        {"\"0123abcd,x\"", false, false},
        {"\"a\" \"0123abcd\"", false, false},
        {"0123ABCD", false, false},
        {"", false, false},
        {"\"*\"", false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slice list = slice_of_text(cases[i].list);
        print_message("%s\n", cases[i].list);
        assert_int_equal(etag_list_contains(list, SLICE_LITERAL("0123abcd"), true), cases[i].weak);
        assert_int_equal(etag_list_contains(list, SLICE_LITERAL("0123abcd"), false),
                         cases[i].strong);
    }
}

static void write_conditions_are_parsed_as_s3_says(void **state)
{
    (void)state;
    static const struct {
        const char *if_match, *if_none_match;
        enum s3_error error;
        enum write_condition_kind kind;
        const char *etag;
    } cases[] = {
        {NULL, NULL, S3_OK, WRITE_ALWAYS, ""},
        {"", "", S3_OK, WRITE_ALWAYS, ""},
        {NULL, "*", S3_OK, WRITE_IF_ABSENT, ""},
        {NULL, " * ", S3_OK, WRITE_IF_ABSENT, ""},
        {"*", NULL, S3_OK, WRITE_IF_EXISTS, ""},
        {GOOD, NULL, S3_OK, WRITE_IF_MATCH, "0123abcd"},
        {"0123abcd", NULL, S3_OK, WRITE_IF_MATCH, "0123abcd"},
        {"W/\"0123abcd\"", NULL, S3_OK, WRITE_IF_MATCH, "W/\"0123abcd\""},
        {NULL, GOOD, S3_NOT_IMPLEMENTED, WRITE_ALWAYS, ""},
        {GOOD, GOOD, S3_NOT_IMPLEMENTED, WRITE_ALWAYS, ""},
        {GOOD, "*", S3_NOT_IMPLEMENTED, WRITE_ALWAYS, ""},
        {"\"a\",\"b\"", NULL, S3_INVALID_ARGUMENT, WRITE_ALWAYS, ""},
        {"\"a", NULL, S3_INVALID_ARGUMENT, WRITE_ALWAYS, ""},
        {"\"\"", NULL, S3_INVALID_ARGUMENT, WRITE_ALWAYS, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct write_condition condition;
        assert_int_equal(write_condition_parse(slice_of_text(cases[i].if_match),
                                               slice_of_text(cases[i].if_none_match), NULL,
                                               &condition),
                         cases[i].error);
        assert_int_equal(condition.kind, cases[i].kind);
        assert_true(slice_equal_text(condition.etag, cases[i].etag));
    }
}

static void a_write_happens_only_if_its_condition_holds(void **state)
{
    (void)state;
    static const struct {
        struct write_condition condition;
        enum s3_error if_exists, if_absent;
    } cases[] = {
        {{.kind = WRITE_ALWAYS}, S3_OK, S3_OK},
        {{.kind = WRITE_IF_ABSENT}, S3_PRECONDITION_FAILED, S3_OK},
        {{.kind = WRITE_IF_EXISTS}, S3_OK, S3_NO_SUCH_KEY},
        {{.kind = WRITE_IF_MATCH, .etag = SLICE_LITERAL("0123abcd")}, S3_OK, S3_NO_SUCH_KEY},
        {{.kind = WRITE_IF_MATCH, .etag = SLICE_LITERAL("other")},
         S3_PRECONDITION_FAILED,
         S3_NO_SUCH_KEY},
        {{.kind = WRITE_IF_MATCH, .etag = SLICE_LITERAL("W/\"0123abcd\"")},
         S3_PRECONDITION_FAILED,
         S3_NO_SUCH_KEY},
    };
    struct condition_target present = target_of(true);
    struct condition_target absent = {.exists = false};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(write_condition_check(&cases[i].condition, &present, NULL),
                         cases[i].if_exists);
        assert_int_equal(write_condition_check(&cases[i].condition, &absent, NULL),
                         cases[i].if_absent);
    }
}

static void deletes_check_tag_date_and_size(void **state)
{
    (void)state;
    static const struct {
        const char *if_match, *date, *size;
        enum s3_error parsed, if_exists, if_absent;
    } cases[] = {
        {NULL, NULL, NULL, S3_OK, S3_OK, S3_OK},
        {GOOD, SAME, "5", S3_OK, S3_OK, S3_NO_SUCH_KEY},
        {"*", NULL, NULL, S3_OK, S3_OK, S3_NO_SUCH_KEY},
        {NULL, "2009-10-12T17:50:30Z", NULL, S3_OK, S3_OK, S3_NO_SUCH_KEY},
        {BAD, SAME, "5", S3_OK, S3_PRECONDITION_FAILED, S3_NO_SUCH_KEY},
        {GOOD, AFTER, "5", S3_OK, S3_PRECONDITION_FAILED, S3_NO_SUCH_KEY},
        {GOOD, SAME, "6", S3_OK, S3_PRECONDITION_FAILED, S3_NO_SUCH_KEY},
        {NULL, "today", NULL, S3_INVALID_ARGUMENT, S3_OK, S3_OK},
        {NULL, NULL, "-1", S3_INVALID_ARGUMENT, S3_OK, S3_OK},
        {"a,b", NULL, NULL, S3_INVALID_ARGUMENT, S3_OK, S3_OK},
    };
    struct condition_target present = target_of(true);
    struct condition_target absent = {.exists = false};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct delete_condition condition;
        enum s3_error parsed =
            delete_condition_parse(slice_of_text(cases[i].if_match), slice_of_text(cases[i].date),
                                   slice_of_text(cases[i].size), NULL, &condition);
        assert_int_equal(parsed, cases[i].parsed);
        if (parsed != S3_OK)
            continue;
        assert_int_equal(delete_condition_check(&condition, &present, NULL), cases[i].if_exists);
        assert_int_equal(delete_condition_check(&condition, &absent, NULL), cases[i].if_absent);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_follow_the_order_of_rfc_9110),
        cmocka_unit_test(dates_compare_in_whole_seconds_and_bad_ones_are_ignored),
        cmocka_unit_test(a_failed_read_names_its_condition),
        cmocka_unit_test(entity_tag_lists_are_read_leniently),
        cmocka_unit_test(write_conditions_are_parsed_as_s3_says),
        cmocka_unit_test(a_write_happens_only_if_its_condition_holds),
        cmocka_unit_test(deletes_check_tag_date_and_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
