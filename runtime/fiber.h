/* Switching between stacks: the machine-dependent half of fibers. Knows nothing of scheduling.
 *
 * A context is a place where a computation stopped: that of a fiber (with a stack of its own) or
 * that of whoever switched to one. Sanitizers are told of each switch. Contexts never change
 * thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#if !defined(SHALE_FIBER_UCONTEXT) && !defined(__x86_64__) && !defined(__aarch64__)
#define SHALE_FIBER_UCONTEXT 1
#endif
#ifdef SHALE_FIBER_UCONTEXT
#include <ucontext.h>
#endif

struct fiber_context {
    void *stack_pointer;                /* while stopped; unused with ucontext */
    struct fiber_context *arrived_from; /* who switched here last */
    const void *stack_low; /* usable stack, known for fibers, learnt for others (ASan) */
    size_t stack_bytes;
    void *fake_stack;      /* ASan */
    void *sanitizer_fiber; /* TSan */
#ifdef SHALE_FIBER_UCONTEXT
    ucontext_t machine;
    void (*body)(void *);
    void *argument;
#endif
};

/* A stack of FIBER_STACK_BYTES above a guard page; NULL when the system has no mapping to give. */
void *fiber_stack_new(void);
void fiber_stack_free(void *stack);

/* Make `context` start body(argument) on `stack` at the next switch to it. `body` never returns: it
 * ends with fiber_context_switch(..., true). */
void fiber_context_start(struct fiber_context *context, void *stack, void (*body)(void *),
                         void *argument);
/* First statement of every body. */
void fiber_context_arrive(struct fiber_context *context);
/* Stop at `from`, go on at `to`. `ends`: nobody will switch to `from` again before a new start. */
void fiber_context_switch(struct fiber_context *from, struct fiber_context *to, bool ends);
/* Release what sanitizers hold for a context made by fiber_context_start. */
void fiber_context_deinit(struct fiber_context *context);
