/* Several reactors: posts, calls, the end of a run, pollers, refusal by the kernel. */
#include "base/log.h"
#include "runtime/sync.h"
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

enum {
    REACTORS = 3,
    STORM = UNDER_TSAN ? 2000 : 20000,
    CALLERS = 20,
    CALLS = UNDER_TSAN ? 50 : 500
};

/* --- posts --- */

static _Atomic unsigned arrived[REACTORS];

static void arrive(struct io *io, void *argument)
{
    (void)argument;
    atomic_fetch_add(&arrived[io_reactor_index(io)], 1);
    assert_int_equal(io_yield(io), OK);
}

static void post_storm(struct io *io, void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < STORM; i++)
        io_post(io_reactor(io, i % REACTORS), arrive, NULL);
}

static void start_storms(struct io *io, void *argument)
{
    assert_int_equal(io_reactor_count(io), REACTORS);
    for (unsigned i = 0; i < REACTORS; i++)
        io_post(io_reactor(io, i), post_storm, argument);
}

static void every_post_of_a_storm_arrives_before_run_returns(void **state)
{
    (void)state;
    for (unsigned i = 0; i < REACTORS; i++)
        atomic_store(&arrived[i], 0);
    run_program(REACTORS, start_storms, NULL);
    unsigned sum = 0;
    for (unsigned i = 0; i < REACTORS; i++)
        sum += atomic_load(&arrived[i]);
    assert_int_equal(sum, REACTORS * STORM);
}

/* --- calls --- */

static void add_here(struct io *io, void *argument)
{
    uint64_t *value = argument;
    *value += 1;
    if (*value % 7 == 0)
        assert_int_equal(io_yield(io), OK);
}

static void caller(struct io *io, void *argument)
{
    (void)argument;
    uint64_t value = 0;
    for (unsigned i = 0; i < CALLS; i++) {
        io_call(io, io_reactor(io, i % REACTORS), add_here, &value);
        assert_int_equal(value, i + 1);
    }
}

static void start_callers(struct io *io, void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < CALLERS; i++)
        assert_int_equal(io_spawn(io, caller, NULL), OK);
}

static void start_callers_everywhere(struct io *io, void *argument)
{
    for (unsigned i = 0; i < REACTORS; i++)
        io_post(io_reactor(io, i), start_callers, argument);
}

static void calls_of_many_fibers_return_with_their_results(void **state)
{
    (void)state;
    run_program(REACTORS, start_callers_everywhere, NULL);
}

static void slow(struct io *io, void *argument)
{
    bool *done = argument;
    assert_int_equal(io_sleep_ms(io, 10), OK);
    *done = true;
}

static void canceled_caller(struct io *io, void *argument)
{
    struct fiber **self = argument;
    *self = io_self(io);
    bool done = false;
    (void)io_set_deadline(io, 1);
    io_call(io, io_reactor(io, 1), slow, &done);
    assert_true(done);
    assert_true(io_canceled(io));
}

static void cancel_during_call(struct io *io, void *argument)
{
    (void)argument;
    struct fiber *fiber = NULL;
    assert_int_equal(io_spawn(io, canceled_caller, &fiber), OK);
    io_cancel(io, fiber);
    assert_int_equal(io_sleep_ms(io, 20), OK);
}

static void call_outlasts_deadline_and_cancel(void **state)
{
    (void)state;
    run_program(2, cancel_during_call, NULL);
}

/* --- more posts than fibers --- */

static _Atomic unsigned held;

static void hold(struct io *io, void *argument)
{
    (void)argument;
    assert_int_equal(io_sleep_ms(io, 1), OK);
    atomic_fetch_add(&held, 1);
}

static void post_more_than_fibers(struct io *io, void *argument)
{
    for (unsigned i = 0; i < FIBERS_PER_REACTOR_MAX + 1000; i++)
        io_post(io_reactor(io, 1), hold, argument);
}

static void posts_beyond_the_fiber_limit_wait_for_fibers(void **state)
{
    (void)state;
    if (UNDER_TSAN)
        skip(); /* it has room for 8128 fibers */
    atomic_store(&held, 0);
    run_program(2, post_more_than_fibers, NULL);
    assert_int_equal(atomic_load(&held), FIBERS_PER_REACTOR_MAX + 1000);
}

/* --- run --- */

static void mark(struct io *io, void *argument)
{
    assert_int_equal(io_sleep_ms(io, 1), OK);
    *(unsigned *)argument += 1;
}

static void mark_elsewhere(struct io *io, void *argument)
{
    io_post(io_reactor(io, 1), mark, argument);
}

static void runtime_runs_several_programs(void **state)
{
    (void)state;
    struct runtime_options options = {.reactor_count = 2};
    AUTO(runtime) runtime = NULL;
    assert_int_equal(runtime_new(&options, &runtime), OK);
    assert_int_equal(runtime_reactor_count(runtime), 2);
    unsigned count = 0;
    for (unsigned i = 0; i < 20; i++) {
        runtime_run(runtime, mark_elsewhere, &count);
        assert_int_equal(count, i + 1);
    }
}

static void runtime_that_never_ran_is_freed(void **state)
{
    (void)state;
    struct runtime_options options = {0};
    AUTO(runtime) runtime = NULL;
    assert_int_equal(runtime_new(&options, &runtime), OK);
    assert_true(runtime_reactor_count(runtime) >= 1);
    assert_int_equal(io_reactor_index(runtime_io(runtime, 0)), 0);
}

/* --- pollers --- */

static void write_event(int fd)
{
    uint64_t one = 1;
    assert_int_equal(write(fd, &one, sizeof one), sizeof one);
}

static void read_event(int fd)
{
    uint64_t value = 0;
    assert_int_equal(read(fd, &value, sizeof value), sizeof value);
}

static void write_soon(struct io *io, void *argument)
{
    int fd = *(int *)argument;
    assert_int_equal(io_sleep_ms(io, 2), OK);
    write_event(fd);
}

static void poll_event(struct io *io, void *argument)
{
    (void)argument;
    int fd = eventfd(0, EFD_NONBLOCK);
    assert_true(fd >= 0);
    struct poller *poller = NULL;
    assert_int_equal(poller_new(io, fd, &poller), OK);

    uint64_t now_ns = io_now_ns(io);
    assert_int_equal(poller_wait(io, poller, now_ns + IO_NS_PER_MS), ERR_TIMEOUT);
    assert_int_equal(poller_wait(io, poller, now_ns), ERR_TIMEOUT);
    assert_int_equal(io_spawn(io, write_soon, &fd), OK);
    assert_int_equal(poller_wait(io, poller, 0), OK);
    assert_int_equal(poller_wait(io, poller, 0), OK); /* level-triggered: not read yet */
    read_event(fd);

    poller_wake(io, poller); /* before the wait: remembered */
    assert_int_equal(poller_wait(io, poller, 0), OK);
    assert_int_equal(poller_wait(io, poller, io_now_ns(io) + IO_NS_PER_MS), ERR_TIMEOUT);

    /* Fires while nobody waits, and is over before the next wait. */
    write_event(fd);
    assert_int_equal(io_sleep_ms(io, 1), OK);
    read_event(fd);
    assert_int_equal(poller_wait(io, poller, io_now_ns(io) + IO_NS_PER_MS), ERR_TIMEOUT);

    poller_free(io, poller); /* while its poll is in the ring */
    assert_int_equal(close(fd), 0);
}

static void poller_waits_for_event_wake_or_deadline(void **state)
{
    (void)state;
    run_program(1, poll_event, NULL);
}

struct watch {
    struct poller *poller;
    struct fiber *fiber;
    enum err result;
};

static void watch_forever(struct io *io, void *argument)
{
    struct watch *watch = argument;
    watch->fiber = io_self(io);
    watch->result = poller_wait(io, watch->poller, 0);
    watch->fiber = NULL;
}

static void wake_and_cancel_pollers(struct io *io, void *argument)
{
    (void)argument;
    int fd = eventfd(0, 0);
    struct watch watch = {0};
    assert_int_equal(poller_new(io, fd, &watch.poller), OK);
    assert_int_equal(io_spawn(io, watch_forever, &watch), OK);
    poller_wake(io, watch.poller);
    assert_int_equal(io_yield(io), OK);
    assert_null(watch.fiber);
    assert_int_equal(watch.result, OK);
    assert_int_equal(io_spawn(io, watch_forever, &watch), OK);
    assert_int_equal(io_sleep_ms(io, 1), OK);
    io_cancel(io, watch.fiber);
    assert_int_equal(io_yield(io), OK);
    assert_int_equal(watch.result, ERR_CANCELED);
    poller_free(io, watch.poller);
    assert_int_equal(close(fd), 0);
}

static void poller_wait_ends_by_wake_and_by_cancel(void **state)
{
    (void)state;
    run_program(1, wake_and_cancel_pollers, NULL);
}

/* --- refusal --- */

static char said[512];

static void remember_line(void *context, enum log_level level, const char *line)
{
    (void)context;
    if (level == LOG_ERROR)
        (void)snprintf(said, sizeof said, "%s", line);
}

/* What the default seccomp profile of a container does. */
static bool forbid_io_uring(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int runtime_without_io_uring(void)
{
    struct runtime_options options = {.reactor_count = 2};
    struct runtime *runtime = NULL;
    log_set_sink(remember_line, NULL);
    if (!forbid_io_uring())
        return 1;
    if (runtime_new(&options, &runtime) != ERR_UNSUPPORTED || runtime != NULL)
        return 2;
    if (strstr(said, "/proc/sys/kernel/io_uring_disabled") == NULL)
        return 3;
    return strstr(said, "seccomp") == NULL ? 4 : 0;
}

static void refused_io_uring_is_unsupported_with_the_reason(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(runtime_without_io_uring());
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_post_of_a_storm_arrives_before_run_returns),
        cmocka_unit_test(calls_of_many_fibers_return_with_their_results),
        cmocka_unit_test(call_outlasts_deadline_and_cancel),
        cmocka_unit_test(posts_beyond_the_fiber_limit_wait_for_fibers),
        cmocka_unit_test(runtime_runs_several_programs),
        cmocka_unit_test(runtime_that_never_ran_is_freed),
        cmocka_unit_test(poller_waits_for_event_wake_or_deadline),
        cmocka_unit_test(poller_wait_ends_by_wake_and_by_cancel),
        cmocka_unit_test(refused_io_uring_is_unsupported_with_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
