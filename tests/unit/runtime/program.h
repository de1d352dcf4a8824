/* Run a function on the first reactor of a fresh runtime, to the end of all its work. */
#pragma once
#include "runtime/runtime.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

static inline void run_program(unsigned reactor_count, fiber_fn *fn, void *argument)
{
    struct runtime_options options = {.reactor_count = reactor_count};
    AUTO(runtime) runtime = NULL;
    assert_int_equal(runtime_new(&options, &runtime), OK);
    runtime_run(runtime, fn, argument);
    assert_int_equal(runtime_fiber_count(runtime), 0);
}
