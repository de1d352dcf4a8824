/* The io_uring back end: reactors on threads. */
#pragma once
#include "runtime/io.h"

struct runtime;

struct runtime_options {
    unsigned reactor_count; /* 1..64; 0 = one per usable processor */
};

/* ERR_UNSUPPORTED with a logged reason when the kernel or a seccomp profile refuses io_uring. */
enum err runtime_new(const struct runtime_options *options, struct runtime **out_runtime);
void runtime_free(struct runtime *runtime);
DEFINE_AUTO(runtime, runtime_free)
unsigned runtime_reactor_count(const struct runtime *runtime);
struct io *runtime_io(struct runtime *runtime, unsigned index);
/* Start the other reactors' threads, run fn on a fiber of reactor 0 on the calling thread, and
 * return when fn has returned and every fiber of every reactor has ended. fn ends what it started.
 * Programs may run one after the other, all on the same thread. */
void runtime_run(struct runtime *runtime, fiber_fn *fn, void *argument);
/* Fibers alive on all reactors (metrics and leak tests; approximate while running). */
unsigned runtime_fiber_count(const struct runtime *runtime);

/* A foreign file descriptor in the loop (libmicrohttpd's epoll, a signalfd). One fiber waits on it.
 * Not available in the simulator. */
struct poller;
enum err poller_new(struct io *io, int fd, struct poller **out_poller);
/* The fd stays the caller's. */
void poller_free(struct io *io, struct poller *poller);
/* Wait until fd is readable, poller_wake was called (a wake before the wait is remembered), or
 * `deadline_ns` passed (ERR_TIMEOUT). Level-triggered: returns at once when still readable. */
enum err poller_wait(struct io *io, struct poller *poller, uint64_t deadline_ns);
void poller_wake(struct io *io, struct poller *poller);
