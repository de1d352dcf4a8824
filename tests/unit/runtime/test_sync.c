/* runtime/sync.h: signals, semaphores, mutexes, groups. */
#include "runtime/sync.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "program.h"

struct scene {
    struct signal signal;
    struct semaphore semaphore;
    struct fiber_mutex mutex;
    struct fiber_group group;
    struct fiber *fiber;
    char text[64];
    unsigned length;
    uint64_t units;
    enum err result;
};

static void tell(struct scene *scene, char letter)
{
    assert_true(scene->length < sizeof scene->text - 1);
    scene->text[scene->length++] = letter;
}

/* --- signal --- */

static void wait_signal(struct io *io, void *argument)
{
    struct scene *scene = argument;
    scene->fiber = io_self(io);
    scene->result = signal_wait(io, &scene->signal, 0);
    tell(scene, scene->result == OK ? 'w' : 'x');
}

static void signals(struct io *io, void *argument)
{
    struct scene *scene = argument;
    signal_init(&scene->signal);
    signal_wake_one(io, &scene->signal); /* nobody waits: lost, as documented */
    for (int i = 0; i < 4; i++)
        assert_int_equal(io_spawn(io, wait_signal, scene), OK);
    signal_wake_one(io, &scene->signal);
    assert_int_equal(io_yield(io), OK);
    assert_string_equal(scene->text, "w");
    signal_wake_all(io, &scene->signal);
    assert_int_equal(io_yield(io), OK);
    assert_string_equal(scene->text, "wwww");
    assert_int_equal(signal_wait(io, &scene->signal, io_now_ns(io) + IO_NS_PER_MS), ERR_TIMEOUT);
    assert_true(list_empty(&scene->signal.waiters));
}

static void signal_wakes_one_or_all(void **state)
{
    (void)state;
    struct scene scene = {0};
    run_program(1, signals, &scene);
}

static void signal_canceled(struct io *io, void *argument)
{
    struct scene *scene = argument;
    signal_init(&scene->signal);
    assert_int_equal(io_spawn(io, wait_signal, scene), OK);
    io_cancel(io, scene->fiber);
    assert_int_equal(io_yield(io), OK);
    assert_string_equal(scene->text, "x");
    assert_true(list_empty(&scene->signal.waiters));
    /* Woken first, canceled in the same turn: the wake must not be lost. */
    assert_int_equal(io_spawn(io, wait_signal, scene), OK);
    signal_wake_one(io, &scene->signal);
    io_cancel(io, scene->fiber);
    assert_int_equal(io_yield(io), OK);
    assert_string_equal(scene->text, "xw");
}

static void canceled_waiter_leaves_the_signal(void **state)
{
    (void)state;
    struct scene scene = {0};
    run_program(1, signal_canceled, &scene);
}

/* --- semaphore --- */

struct taker {
    struct scene *scene;
    uint64_t units;
    char letter;
    uint64_t deadline_ns;
    enum err expected;
};

static void take(struct io *io, void *argument)
{
    struct taker taker = *(struct taker *)argument;
    enum err result = semaphore_take(io, &taker.scene->semaphore, taker.units, taker.deadline_ns);
    assert_int_equal(result, taker.expected);
    tell(taker.scene, taker.letter);
}

static void spawn_taker(struct io *io, struct scene *scene, uint64_t units, char letter)
{
    struct taker taker = {.scene = scene, .units = units, .letter = letter};
    assert_int_equal(io_spawn(io, take, &taker), OK);
}

static void semaphore_order(struct io *io, void *argument)
{
    struct scene *scene = argument;
    semaphore_init(&scene->semaphore, 3, 3);
    spawn_taker(io, scene, 2, 'a');
    spawn_taker(io, scene, 5, 'b'); /* waits */
    spawn_taker(io, scene, 1, 'c'); /* one is available, but b came first */
    spawn_taker(io, scene, 1, 'd');
    assert_string_equal(scene->text, "a");
    assert_int_equal(semaphore_take(io, &scene->semaphore, 1, 0), ERR_BUSY);
    semaphore_give(io, &scene->semaphore, 3);
    assert_int_equal(io_yield(io), OK);
    assert_string_equal(scene->text, "a");
    semaphore_give(io, &scene->semaphore, 2);
    assert_int_equal(io_yield(io), OK);
    assert_string_equal(scene->text, "abc");
    semaphore_give(io, &scene->semaphore, 1);
    assert_int_equal(io_yield(io), OK);
    assert_string_equal(scene->text, "abcd");
    assert_int_equal(scene->semaphore.available, 0);
}

static void semaphore_serves_in_order_of_arrival(void **state)
{
    (void)state;
    struct scene scene = {0};
    run_program(1, semaphore_order, &scene);
}

static void semaphore_timeout(struct io *io, void *argument)
{
    struct scene *scene = argument;
    semaphore_init(&scene->semaphore, 1, 3);
    struct taker large = {.scene = scene,
                          .units = 2,
                          .letter = 't',
                          .deadline_ns = io_now_ns(io) + IO_NS_PER_MS,
                          .expected = ERR_TIMEOUT};
    assert_int_equal(io_spawn(io, take, &large), OK);
    spawn_taker(io, scene, 1, 's'); /* behind it */
    assert_string_equal(scene->text, "");
    assert_int_equal(io_sleep_ms(io, 5), OK);
    assert_string_equal(scene->text, "ts");
}

static void taker_that_gives_up_lets_the_next_one_in(void **state)
{
    (void)state;
    struct scene scene = {0};
    run_program(1, semaphore_timeout, &scene);
}

/* --- mutex --- */

static void add_under_mutex(struct io *io, void *argument)
{
    struct scene *scene = argument;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(fiber_mutex_lock(io, &scene->mutex), OK);
        uint64_t units = scene->units;
        assert_int_equal(io_yield(io), OK);
        scene->units = units + 1;
        fiber_mutex_unlock(io, &scene->mutex);
    }
}

static void contend(struct io *io, void *argument)
{
    struct scene *scene = argument;
    fiber_mutex_init(&scene->mutex);
    fiber_group_init(&scene->group);
    for (int i = 0; i < 20; i++)
        assert_int_equal(fiber_group_spawn(io, &scene->group, add_under_mutex, scene), OK);
    fiber_group_wait(io, &scene->group);
    assert_int_equal(scene->units, 200);
}

static void mutex_excludes_over_waits(void **state)
{
    (void)state;
    struct scene scene = {0};
    run_program(1, contend, &scene);
}

/* --- group --- */

static void end_at_once(struct io *io, void *argument)
{
    (void)io;
    tell(argument, 'e');
}

static void end_late(struct io *io, void *argument)
{
    assert_int_equal(io_sleep_ms(io, 3), OK);
    tell(argument, 'l');
}

static void wait_for_group(struct io *io, void *argument)
{
    struct scene *scene = argument;
    scene->fiber = io_self(io);
    (void)io_set_deadline(io, 1); /* passed long ago */
    fiber_group_wait(io, &scene->group);
    assert_true(io_canceled(io));
    tell(scene, 'g');
}

static void groups(struct io *io, void *argument)
{
    struct scene *scene = argument;
    fiber_group_init(&scene->group);
    fiber_group_wait(io, &scene->group); /* empty */
    assert_int_equal(fiber_group_spawn(io, &scene->group, end_at_once, scene), OK);
    assert_int_equal(fiber_group_spawn(io, &scene->group, end_late, scene), OK);
    assert_int_equal(io_spawn(io, wait_for_group, scene), OK);
    io_cancel(io, scene->fiber);
    fiber_group_wait(io, &scene->group);
    assert_int_equal(io_yield(io), OK);
    assert_string_equal(scene->text, "elg");
}

static void group_wait_outlasts_deadline_and_cancel(void **state)
{
    (void)state;
    struct scene scene = {0};
    run_program(1, groups, &scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signal_wakes_one_or_all),
        cmocka_unit_test(canceled_waiter_leaves_the_signal),
        cmocka_unit_test(semaphore_serves_in_order_of_arrival),
        cmocka_unit_test(taker_that_gives_up_lets_the_next_one_in),
        cmocka_unit_test(mutex_excludes_over_waits),
        cmocka_unit_test(group_wait_outlasts_deadline_and_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
