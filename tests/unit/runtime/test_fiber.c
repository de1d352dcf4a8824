/* runtime/fiber.c, compiled for assembly and for ucontext. */
#include "fiber.h"
#include "runtime/io.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct coroutine {
    struct fiber_context context;
    struct fiber_context caller;
    void *stack;
    int steps;
    double sum;
    bool ended;
};

static void count_body(void *argument)
{
    struct coroutine *coroutine = argument;
    fiber_context_arrive(&coroutine->context);
    double local = 0.5;
    for (int i = 0; i < coroutine->steps; i++) {
        local += 1.0 / (i + 1);
        coroutine->sum = local;
        fiber_context_switch(&coroutine->context, &coroutine->caller, false);
    }
    coroutine->ended = true;
    fiber_context_switch(&coroutine->context, &coroutine->caller, true);
}

static void coroutine_start(struct coroutine *coroutine, int steps)
{
    *coroutine = (struct coroutine){.stack = fiber_stack_new(), .steps = steps};
    assert_non_null(coroutine->stack);
    fiber_context_start(&coroutine->context, coroutine->stack, count_body, coroutine);
}

static void coroutine_end(struct coroutine *coroutine)
{
    fiber_context_deinit(&coroutine->context);
    fiber_stack_free(coroutine->stack);
}

static void locals_survive_switches(void **state)
{
    (void)state;
    struct coroutine a = {0};
    struct coroutine b = {0};
    coroutine_start(&a, 10);
    coroutine_start(&b, 20);
    double expected = 0.5;
    for (int i = 0; i <= 20; i++) {
        if (i < 20)
            expected += 1.0 / (i + 1);
        if (i <= 10)
            fiber_context_switch(&a.caller, &a.context, false);
        fiber_context_switch(&b.caller, &b.context, false);
        assert_true(b.sum == expected);
        assert_int_equal(a.ended, i >= 10);
    }
    assert_true(b.ended);
    coroutine_end(&a);
    coroutine_end(&b);
}

static void stack_is_used_again_after_an_end(void **state)
{
    (void)state;
    struct coroutine coroutine = {0};
    coroutine_start(&coroutine, 0);
    for (int i = 0; i < 1000; i++) {
        coroutine.ended = false;
        fiber_context_switch(&coroutine.caller, &coroutine.context, false);
        assert_true(coroutine.ended);
        fiber_context_start(&coroutine.context, coroutine.stack, count_body, &coroutine);
    }
    coroutine_end(&coroutine);
}

static unsigned depth_reached;

static void __attribute__((noinline)) descend(unsigned depth)
{
    volatile char frame[1024];
    frame[0] = (char)depth;
    depth_reached = depth;
    if (depth > 1)
        descend(depth - 1);
    frame[1] = frame[0];
}

static void deep_body(void *argument)
{
    struct coroutine *coroutine = argument;
    fiber_context_arrive(&coroutine->context);
    descend(100);
    coroutine->ended = true;
    fiber_context_switch(&coroutine->context, &coroutine->caller, true);
}

static void stack_holds_a_hundred_frames_of_a_kilobyte(void **state)
{
    (void)state;
    struct coroutine coroutine = {.stack = fiber_stack_new()};
    fiber_context_start(&coroutine.context, coroutine.stack, deep_body, &coroutine);
    fiber_context_switch(&coroutine.caller, &coroutine.context, false);
    assert_true(coroutine.ended);
    assert_int_equal(depth_reached, 1);
    coroutine_end(&coroutine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(locals_survive_switches),
        cmocka_unit_test(stack_is_used_again_after_an_end),
        cmocka_unit_test(stack_holds_a_hundred_frames_of_a_kilobyte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
