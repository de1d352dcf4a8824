/* Error texts, and raising and passing errors. */
#include "base/err.h"
#include "base/log.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static enum err raise_or_pass(enum err err)
{
    TRY(err);
    return FAIL(ERR_EXISTS, "nothing stopped it");
}

static void every_number_has_its_own_text(void **state)
{
    (void)state;
    static const enum err all[] = {
        OK,
#define X(name, number, text) name,
        ERR_LIST(X)
#undef X
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        assert_string_not_equal(err_text(all[i]), "unknown error");
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(all[i], all[j]);
            assert_string_not_equal(err_text(all[i]), err_text(all[j]));
        }
    }
    assert_string_equal(err_text((enum err)9999), "unknown error");
}

static void try_passes_the_error_on(void **state)
{
    (void)state;
    assert_int_equal(raise_or_pass(ERR_BUSY), ERR_BUSY);
    assert_int_equal(raise_or_pass(OK), ERR_EXISTS);
}

static void keep_line(void *context, enum log_level level, const char *line)
{
    assert_int_equal(level, LOG_DEBUG);
    strncpy(context, line, 255);
}

static void the_cause_is_logged_at_debug_with_its_place(void **state)
{
    (void)state;
    char line[256] = "";
    log_set_sink(keep_line, line);
    assert_int_equal(raise_or_pass(OK), ERR_EXISTS);
    assert_string_equal(line, "");
    log_set_level(LOG_DEBUG);
    assert_int_equal(raise_or_pass(OK), ERR_EXISTS);
    log_set_level(LOG_INFO);
    log_set_sink(NULL, NULL);
    assert_non_null(strstr(line, "exists already: nothing stopped it at=base/test_err.c:"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_has_its_own_text),
        cmocka_unit_test(try_passes_the_error_on),
        cmocka_unit_test(the_cause_is_logged_at_debug_with_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
