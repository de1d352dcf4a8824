/* runtime/lane.h on threads. */
#include "runtime/lane.h"
#include "runtime/sync.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include "program.h"

struct scene {
    struct lane *lane;
    struct fiber_group group;
    struct fiber *fiber;
    unsigned order[64];
    unsigned count; /* written by one lane thread at a time */
    unsigned next;
    _Atomic unsigned inside;
    _Atomic unsigned inside_max;
    _Atomic bool gate;
    uint64_t refused;
};

static void append(struct lane *lane, void *argument)
{
    struct scene *scene = argument;
    assert_true(lane_is_current(lane));
    unsigned index = scene->count;
    usleep(100);
    scene->order[index] = index;
    scene->count = index + 1;
}

static void run_append(struct io *io, void *argument)
{
    struct scene *scene = argument;
    assert_int_equal(lane_run(io, scene->lane, append, scene), OK);
}

static void serial(struct io *io, void *argument)
{
    struct scene *scene = argument;
    AUTO(lane) lane = NULL;
    assert_int_equal(lane_new(io, "serial", 1, &lane), OK);
    scene->lane = lane;
    fiber_group_init(&scene->group);
    for (int i = 0; i < 50; i++)
        assert_int_equal(fiber_group_spawn(io, &scene->group, run_append, scene), OK);
    fiber_group_wait(io, &scene->group);
    assert_int_equal(scene->count, 50);
    assert_int_equal(lane_depth(lane), 0);
    assert_false(lane_is_current(lane));
}

static void lane_of_one_thread_runs_jobs_one_by_one(void **state)
{
    (void)state;
    struct scene scene = {0};
    run_program(2, serial, &scene);
}

static void meet(struct lane *lane, void *argument)
{
    (void)lane;
    struct scene *scene = argument;
    unsigned inside = atomic_fetch_add(&scene->inside, 1) + 1;
    unsigned max = atomic_load(&scene->inside_max);
    while (inside > max && !atomic_compare_exchange_weak(&scene->inside_max, &max, inside)) {
    }
    for (int i = 0; i < 5000 && atomic_load(&scene->inside_max) < 3; i++)
        usleep(1000);
    atomic_fetch_sub(&scene->inside, 1);
}

static void run_meet(struct io *io, void *argument)
{
    struct scene *scene = argument;
    assert_int_equal(lane_run(io, scene->lane, meet, scene), OK);
}

static void pool(struct io *io, void *argument)
{
    struct scene *scene = argument;
    AUTO(lane) lane = NULL;
    assert_int_equal(lane_new(io, "pool", 3, &lane), OK);
    scene->lane = lane;
    fiber_group_init(&scene->group);
    for (int i = 0; i < 9; i++)
        assert_int_equal(fiber_group_spawn(io, &scene->group, run_meet, scene), OK);
    fiber_group_wait(io, &scene->group);
    assert_int_equal(atomic_load(&scene->inside_max), 3);
}

static void lane_of_three_threads_runs_three_jobs_at_once(void **state)
{
    (void)state;
    struct scene scene = {0};
    run_program(1, pool, &scene);
}

/* --- a full queue --- */

static void wait_for_gate(struct lane *lane, void *argument)
{
    (void)lane;
    struct scene *scene = argument;
    while (!atomic_load(&scene->gate))
        usleep(1000);
}

static void run_wait(struct io *io, void *argument)
{
    struct scene *scene = argument;
    enum err result = lane_run(io, scene->lane, wait_for_gate, scene);
    assert_true(result == OK || result == ERR_BUSY);
    if (result == ERR_BUSY)
        scene->refused++;
}

/* On reactor 1: as many fibers there as fit, so that both together exceed the queue. */
static void fill(struct io *io, void *argument)
{
    for (unsigned i = 0; i < LANE_QUEUE_MAX / 2; i++)
        assert_int_equal(io_spawn(io, run_wait, argument), OK);
}

static void overfill(struct io *io, void *argument)
{
    struct scene *scene = argument;
    AUTO(lane) lane = NULL;
    assert_int_equal(lane_new(io, "full", 1, &lane), OK);
    scene->lane = lane;
    io_call(io, io_reactor(io, 1), fill, scene);
    fiber_group_init(&scene->group);
    for (unsigned i = 0; i < LANE_QUEUE_MAX / 2; i++)
        assert_int_equal(fiber_group_spawn(io, &scene->group, run_wait, scene), OK);
    assert_int_equal(scene->refused, 0);
    assert_int_equal(lane_depth(lane), LANE_QUEUE_MAX);
    assert_int_equal(lane_run(io, lane, wait_for_gate, scene), ERR_BUSY);
    atomic_store(&scene->gate, true);
    fiber_group_wait(io, &scene->group);
    while (lane_depth(lane) > 0)
        assert_int_equal(io_sleep_ms(io, 1), OK);
    assert_int_equal(lane_run(io, lane, wait_for_gate, scene), OK);
}

static void full_queue_refuses(void **state)
{
    (void)state;
    if (UNDER_TSAN)
        skip(); /* it has room for 8128 fibers */
    struct scene scene = {0};
    run_program(2, overfill, &scene);
}

/* --- cancel --- */

static void run_canceled(struct io *io, void *argument)
{
    struct scene *scene = argument;
    scene->fiber = io_self(io);
    assert_int_equal(lane_run(io, scene->lane, wait_for_gate, scene), OK); /* queued before */
    assert_int_equal(lane_run(io, scene->lane, wait_for_gate, scene), ERR_CANCELED);
}

static void cancel(struct io *io, void *argument)
{
    struct scene *scene = argument;
    AUTO(lane) lane = NULL;
    assert_int_equal(lane_new(io, "cancel", 1, &lane), OK);
    scene->lane = lane;
    fiber_group_init(&scene->group);
    assert_int_equal(fiber_group_spawn(io, &scene->group, run_canceled, scene), OK);
    io_cancel(io, scene->fiber);
    assert_int_equal(io_sleep_ms(io, 2), OK);
    assert_int_equal(scene->group.running, 1);
    atomic_store(&scene->gate, true);
    fiber_group_wait(io, &scene->group);
}

static void cancel_works_only_before_the_job_is_queued(void **state)
{
    (void)state;
    struct scene scene = {0};
    run_program(1, cancel, &scene);
}

/* --- posts from lanes --- */

static void count_post(struct io *io, void *argument)
{
    (void)io;
    atomic_fetch_add(&((struct scene *)argument)->inside, 1);
}

struct post_job {
    struct io *target;
    struct scene *scene;
};

static void post_from_lane(struct lane *lane, void *argument)
{
    (void)lane;
    struct post_job *job = argument;
    for (int i = 0; i < 100; i++)
        io_post(job->target, count_post, job->scene);
}

static void post_from_lanes(struct io *io, void *argument)
{
    AUTO(lane) lane = NULL;
    assert_int_equal(lane_new(io, "poster", 1, &lane), OK);
    for (unsigned i = 0; i < 2; i++) {
        struct post_job job = {.target = io_reactor(io, i), .scene = argument};
        assert_int_equal(lane_run(io, lane, post_from_lane, &job), OK);
    }
}

static void lanes_post_to_reactors(void **state)
{
    (void)state;
    struct scene scene = {0};
    run_program(2, post_from_lanes, &scene);
    assert_int_equal(atomic_load(&scene.inside), 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lane_of_one_thread_runs_jobs_one_by_one),
        cmocka_unit_test(lane_of_three_threads_runs_three_jobs_at_once),
        cmocka_unit_test(full_queue_refuses),
        cmocka_unit_test(cancel_works_only_before_the_job_is_queued),
        cmocka_unit_test(lanes_post_to_reactors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
