/* Tests of s3/error.h. */
#include "s3/error.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void every_error_has_a_code_a_status_and_a_text(void **state)
{
    (void)state;
    static const enum s3_error errors[] = {
#define X(name, code, status, message) name,
        S3_ERROR_LIST(X)
#undef X
    };
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        assert_true(strlen(s3_error_code(errors[i])) > 0);
        assert_true(strlen(s3_error_message(errors[i])) > 0);
        assert_true(s3_error_status(errors[i]) >= 300);
        assert_true(s3_error_status(errors[i]) < 600);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(s3_error_code(errors[i]), s3_error_code(errors[j]));
    }
    assert_string_equal(s3_error_code(S3_NO_SUCH_KEY), "NoSuchKey");
    assert_int_equal(s3_error_status(S3_NO_SUCH_KEY), 404);
}

static void a_failure_carries_its_own_words(void **state)
{
    (void)state;
    AUTO_VALUE(s3_failure) failure = {0};
    assert_true(slice_equal_text(s3_failure_message(&failure, S3_ACCESS_DENIED), "Access Denied."));
    assert_int_equal(s3_fail_argument(&failure, "max-keys", SLICE_LITERAL("-1"), "Not an integer"),
                     S3_INVALID_ARGUMENT);
    assert_true(
        slice_equal_text(s3_failure_message(&failure, S3_INVALID_ARGUMENT), "Not an integer"));
    assert_int_equal(failure.detail_count, 2);
    assert_string_equal(failure.details[1].element, "ArgumentValue");
    assert_true(slice_equal_text(bytes_slice(&failure.details[1].text), "-1"));
    /* The last one wins, and details beyond the limit are dropped. */
    assert_int_equal(S3_FAIL_SAY(&failure, S3_ACCESS_DENIED, "Request has expired"),
                     S3_ACCESS_DENIED);
    assert_int_equal(failure.detail_count, 0);
    for (int i = 0; i < S3_FAILURE_DETAILS_MAX + 1; i++)
        s3_failure_add(&failure, "Expires", SLICE_LITERAL("x"));
    assert_int_equal(failure.detail_count, S3_FAILURE_DETAILS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_a_code_a_status_and_a_text),
        cmocka_unit_test(a_failure_carries_its_own_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
