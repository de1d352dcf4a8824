/* Fibers under the io_uring back end: start, time, wake, cancel. */
#include "base/log.h"
#include "base/mem.h"
#include "runtime/io.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "program.h"

/* What happened, in order, as letters. */
struct story {
    char text[64];
    unsigned length;
    struct fiber *fiber;
    enum err result;
    uint64_t value;
};

static void tell(struct story *story, char letter)
{
    assert_true(story->length < sizeof story->text - 1);
    story->text[story->length++] = letter;
}

/* --- start --- */

static void inner(struct io *io, void *argument)
{
    tell(argument, 'c');
    assert_int_equal(io_yield(io), OK);
    tell(argument, 'f');
}

static void middle(struct io *io, void *argument)
{
    tell(argument, 'b');
    assert_int_equal(io_spawn(io, inner, argument), OK);
    tell(argument, 'd');
    assert_int_equal(io_yield(io), OK);
    tell(argument, 'g');
}

static void nested_start(struct io *io, void *argument)
{
    tell(argument, 'a');
    assert_int_equal(io_spawn(io, middle, argument), OK);
    tell(argument, 'e');
    assert_int_equal(io_yield(io), OK);
    tell(argument, 'h');
}

static void spawned_fiber_runs_in_the_call_until_its_first_wait(void **state)
{
    (void)state;
    struct story story = {0};
    run_program(1, nested_start, &story);
    assert_string_equal(story.text, "abcdefgh");
}

enum { MANY = UNDER_TSAN ? 500 : 10000 };

static void waits_twice(struct io *io, void *argument)
{
    uint64_t *ended = argument;
    assert_int_equal(io_yield(io), OK);
    assert_int_equal(io_sleep_ms(io, 1), OK);
    *ended += 1;
}

static void spawn_many(struct io *io, void *argument)
{
    for (int i = 0; i < MANY; i++)
        assert_int_equal(io_spawn(io, waits_twice, argument), OK);
}

static void ten_thousand_fibers_live_at_once(void **state)
{
    (void)state;
    uint64_t ended = 0;
    run_program(1, spawn_many, &ended);
    assert_int_equal(ended, MANY);
}

static void sleeps_a_little(struct io *io, void *argument)
{
    (void)argument;
    assert_int_equal(io_sleep_ms(io, 5), OK);
}

static void spawn_too_many(struct io *io, void *argument)
{
    unsigned *started = argument;
    enum err result = OK;
    while ((result = io_spawn(io, sleeps_a_little, NULL)) == OK)
        *started += 1;
    assert_int_equal(result, ERR_BUSY);
    assert_int_equal(io_sleep_ms(io, 20), OK);
    assert_int_equal(io_spawn(io, sleeps_a_little, NULL), OK);
}

static void fibers_beyond_the_limit_are_refused(void **state)
{
    (void)state;
    if (UNDER_TSAN)
        skip(); /* it has room for 8128 */
    unsigned started = 0;
    run_program(1, spawn_too_many, &started);
    assert_int_equal(started, FIBERS_PER_REACTOR_MAX - 1);
}

/* --- time --- */

static void sleep_and_tell(struct io *io, struct story *story, uint64_t wake_ns, char letter)
{
    assert_int_equal(io_sleep_until(io, wake_ns), OK);
    assert_true(io_now_ns(io) >= wake_ns);
    tell(story, letter);
}

static void sleep_long(struct io *io, void *argument)
{
    struct story *story = argument;
    sleep_and_tell(io, story, story->value + 9 * IO_NS_PER_MS, 'd');
}

static void sleep_short(struct io *io, void *argument)
{
    struct story *story = argument;
    sleep_and_tell(io, story, story->value + 3 * IO_NS_PER_MS, 'a');
}

static void sleep_medium(struct io *io, void *argument)
{
    struct story *story = argument;
    sleep_and_tell(io, story, story->value + 6 * IO_NS_PER_MS, 'b');
}

static void sleep_medium_later(struct io *io, void *argument)
{
    struct story *story = argument;
    sleep_and_tell(io, story, story->value + 6 * IO_NS_PER_MS, 'c');
}

static void spawn_sleepers(struct io *io, void *argument)
{
    struct story *story = argument;
    story->value = io_now_ns(io);
    assert_int_equal(io_spawn(io, sleep_long, story), OK);
    assert_int_equal(io_spawn(io, sleep_medium, story), OK);
    assert_int_equal(io_spawn(io, sleep_short, story), OK);
    assert_int_equal(io_spawn(io, sleep_medium_later, story), OK);
}

static void sleepers_wake_in_the_order_of_time_then_of_start(void **state)
{
    (void)state;
    struct story story = {0};
    run_program(1, spawn_sleepers, &story);
    assert_string_equal(story.text, "abcd");
}

static void deadlines(struct io *io, void *argument)
{
    (void)argument;
    assert_int_equal(io_deadline(io), 0);
    uint64_t now_ns = io_now_ns(io);
    assert_int_equal(io_park(io, now_ns + IO_NS_PER_MS), ERR_TIMEOUT);
    assert_true(io_now_ns(io) >= now_ns + IO_NS_PER_MS);
    uint64_t deadline_ns = io_now_ns(io) + 2 * IO_NS_PER_MS;
    assert_int_equal(io_set_deadline(io, deadline_ns), 0);
    assert_int_equal(io_park(io, 0), ERR_TIMEOUT);
    assert_true(io_now_ns(io) >= deadline_ns);
    assert_int_equal(io_park(io, 0), ERR_TIMEOUT); /* at once */
    assert_int_equal(io_sleep_ms(io, 1), OK);      /* a sleep is not shortened */
    assert_int_equal(io_set_deadline(io, 0), deadline_ns);
}

static void waits_end_by_their_own_or_the_fibers_deadline(void **state)
{
    (void)state;
    run_program(1, deadlines, NULL);
}

/* --- wake and cancel --- */

static void wake_before_park(struct io *io, void *argument)
{
    (void)argument;
    uint64_t soon_ns = io_now_ns(io) + IO_NS_PER_MS;
    io_wake(io, io_self(io));
    io_wake(io, io_self(io)); /* one is remembered, not two */
    assert_int_equal(io_park(io, soon_ns), OK);
    assert_int_equal(io_park(io, soon_ns), ERR_TIMEOUT);
}

static void wake_before_the_park_is_remembered_once(void **state)
{
    (void)state;
    run_program(1, wake_before_park, NULL);
}

static void park_in_story(struct io *io, void *argument)
{
    struct story *story = argument;
    story->fiber = io_self(io);
    story->result = io_park(io, 0);
    story->fiber = NULL;
    tell(story, 'p');
    assert_int_equal(io_canceled(io), story->result == ERR_CANCELED);
    if (story->result == ERR_CANCELED) {
        assert_int_equal(io_yield(io), ERR_CANCELED);
        assert_int_equal(io_sleep_ms(io, 1), ERR_CANCELED);
        assert_int_equal(io_park(io, 0), ERR_CANCELED);
        struct file *file = NULL;
        assert_int_equal(io_open(io, "/", FILE_DIRECTORY, &file), ERR_CANCELED);
    }
}

static void wake_parked(struct io *io, void *argument)
{
    struct story *story = argument;
    assert_int_equal(io_spawn(io, park_in_story, story), OK);
    io_wake(io, story->fiber);
    io_wake(io, story->fiber);
    tell(story, 'm');
    assert_int_equal(io_yield(io), OK);
    tell(story, 'm');
}

static void woken_fiber_runs_after_the_waker_waits(void **state)
{
    (void)state;
    struct story story = {0};
    run_program(1, wake_parked, &story);
    assert_string_equal(story.text, "mpm");
    assert_int_equal(story.result, OK);
}

static void cancel_parked(struct io *io, void *argument)
{
    struct story *story = argument;
    assert_int_equal(io_spawn(io, park_in_story, story), OK);
    io_cancel(io, story->fiber);
    io_cancel(io, story->fiber);
    assert_int_equal(io_sleep_ms(io, 1), OK);
}

static void cancel_ends_the_present_and_every_later_wait(void **state)
{
    (void)state;
    struct story story = {0};
    run_program(1, cancel_parked, &story);
    assert_int_equal(story.result, ERR_CANCELED);
    assert_string_equal(story.text, "p");
}

/* --- request ids --- */

static void change_request(struct io *io, void *argument)
{
    (void)argument;
    assert_int_equal(log_request(), 7); /* inherited */
    io_set_request(io, 8);
    assert_int_equal(io_yield(io), OK);
    assert_int_equal(log_request(), 8);
}

static void requests(struct io *io, void *argument)
{
    (void)argument;
    io_set_request(io, 7);
    assert_int_equal(io_spawn(io, change_request, NULL), OK);
    assert_int_equal(log_request(), 7);
    assert_int_equal(io_yield(io), OK);
    assert_int_equal(log_request(), 7);
}

static void request_id_is_inherited_and_switched_with_the_fiber(void **state)
{
    (void)state;
    run_program(1, requests, NULL);
    assert_int_equal(log_request(), 0);
}

static void draw(struct io *io, void *argument)
{
    (void)argument;
    uint8_t a[1000] = {0};
    uint8_t b[1000] = {0};
    io_random(io, a, sizeof a);
    io_random(io, b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    assert_true(io_wall_ms(io) > UINT64_C(1600000000000));
    assert_true(io_now_ns(io) > 0);
}

static void clocks_run_and_random_bytes_differ(void **state)
{
    (void)state;
    run_program(1, draw, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spawned_fiber_runs_in_the_call_until_its_first_wait),
        cmocka_unit_test(ten_thousand_fibers_live_at_once),
        cmocka_unit_test(fibers_beyond_the_limit_are_refused),
        cmocka_unit_test(sleepers_wake_in_the_order_of_time_then_of_start),
        cmocka_unit_test(waits_end_by_their_own_or_the_fibers_deadline),
        cmocka_unit_test(wake_before_the_park_is_remembered_once),
        cmocka_unit_test(woken_fiber_runs_after_the_waker_waits),
        cmocka_unit_test(cancel_ends_the_present_and_every_later_wait),
        cmocka_unit_test(request_id_is_inherited_and_switched_with_the_fiber),
        cmocka_unit_test(clocks_run_and_random_bytes_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
