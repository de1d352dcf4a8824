/* What reaches the sink, and the line on standard error. */
#include "base/log.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct seen {
    int count;
    enum log_level level;
    char line[4096];
};

static void keep(void *context, enum log_level level, const char *line)
{
    struct seen *seen = context;
    seen->count++;
    seen->level = level;
    (void)snprintf(seen->line, sizeof seen->line, "%s", line);
}

static void levels_below_the_threshold_are_dropped(void **state)
{
    (void)state;
    struct seen seen = {0};
    log_set_sink(keep, &seen);
    log_debug("not shown");
    assert_int_equal(seen.count, 0);
    log_info("started port=%d", 9000);
    assert_string_equal(seen.line, "started port=9000");
    assert_int_equal(seen.level, LOG_INFO);
    log_set_level(LOG_ERROR);
    log_warn("not shown");
    assert_int_equal(seen.count, 1);
    log_set_level(LOG_INFO);
    log_set_sink(NULL, NULL);
}

static void the_request_id_ends_the_line(void **state)
{
    (void)state;
    struct seen seen = {0};
    log_set_sink(keep, &seen);
    log_set_request(0xabc);
    assert_int_equal(log_request(), 0xabc);
    log_warn("slow");
    assert_string_equal(seen.line, "slow request=0000000000000abc");
    log_set_request(0);
    log_warn("slow");
    assert_string_equal(seen.line, "slow");
    log_set_sink(NULL, NULL);
}

static void long_lines_are_cut_and_keep_the_request_id(void **state)
{
    (void)state;
    struct seen seen = {0};
    log_set_sink(keep, &seen);
    log_set_request(1);
    log_error("%05000d", 1);
    log_set_request(0);
    log_set_sink(NULL, NULL);
    assert_true(strlen(seen.line) < 2048);
    assert_non_null(strstr(seen.line, "000... request=0000000000000001"));
}

static void outside_bytes_cannot_forge_a_line(void **state)
{
    (void)state;
    struct seen seen = {0};
    log_set_sink(keep, &seen);
    log_info("key=%s", "a\nerror forged\x1b[2J\x7f");
    assert_string_equal(seen.line, "key=a?error forged?[2J?");
    log_set_sink(NULL, NULL);
}

static void the_default_sink_writes_one_stamped_line(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    int saved = dup(STDERR_FILENO);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    errno = EXDEV;
    log_error("disk failed drive=%d", 3);
    int errno_after = errno;
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    char line[256] = "";
    ssize_t bytes = read(ends[0], line, sizeof line - 1);
    close(saved), close(ends[0]), close(ends[1]);
    assert_int_equal(errno_after, EXDEV);
    static const char pattern[] = "dddd-dd-ddTdd:dd:dd.ddddddZ error disk failed drive=3\n";
    assert_int_equal(bytes, sizeof pattern - 1);
    for (size_t i = 0; i < 27; i++) {
        if (pattern[i] == 'd')
            line[i] = line[i] >= '0' && line[i] <= '9' ? 'd' : '?';
    }
    assert_string_equal(line, pattern);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_below_the_threshold_are_dropped),
        cmocka_unit_test(the_request_id_ends_the_line),
        cmocka_unit_test(long_lines_are_cut_and_keep_the_request_id),
        cmocka_unit_test(outside_bytes_cannot_forge_a_line),
        cmocka_unit_test(the_default_sink_writes_one_stamped_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
