/* Reactors on threads: start them, run a program on them, find out when all its work has ended. */
#include "runtime/runtime.h"
#include "base/log.h"
#include "base/mem.h"
#include "uring.h"
#include <assert.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long runtime_run waits for abandoned operations of a device that does not answer. */
#define ABANDONED_WAIT_NS IO_DEFAULT_TIMEOUT_NS

static unsigned usable_processors(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count > REACTORS_MAX ? REACTORS_MAX : (unsigned)count;
}

/* --- when has all work ended --- */

/* All fibers have ended and no post is under way.
 *
 * Counts never fall and started >= ended holds at every moment. Ended is read first: when the two
 * sums, read at different moments, are equal, then they were equal in between, and nothing can
 * start by itself afterwards. */
static bool fibers_ended(struct runtime *runtime)
{
    uint64_t ended = 0;
    for (unsigned i = 0; i < runtime->reactor_count; i++) {
        ended += atomic_load(&runtime->reactors[i].io.ended_count);
        ended += atomic_load(&runtime->reactors[i].io.arrived_count);
    }
    uint64_t started = 0;
    for (unsigned i = 0; i < runtime->reactor_count; i++) {
        started += atomic_load(&runtime->reactors[i].io.started_count);
        started += atomic_load(&runtime->reactors[i].io.posted_count);
    }
    assert(started >= ended);
    return started == ended;
}

/* Operations that were abandoned, and pollers that leave their ring. Meaningful once the fibers
 * have ended. */
static unsigned unfinished_count(struct runtime *runtime)
{
    unsigned count = 0;
    for (unsigned i = 0; i < runtime->reactor_count; i++) {
        count += atomic_load(&runtime->reactors[i].io.operation_count);
        count += atomic_load(&runtime->reactors[i].poller_count);
    }
    return count;
}

static void idle_arrive(struct io *io, struct io_message *message)
{
    (void)io; /* reactor 0: its coming awake was the purpose */
    struct uring_reactor *sender = CONTAINER_OF(message, struct uring_reactor, idle_message);
    atomic_store(&sender->idle_message_sent, false);
}

/* Before a reactor other than 0 rests: its counters may be what reactor 0 waits for. Both sides
 * modify main_returned, so one comes first: either we see that main returned, or reactor 0 sees our
 * counters. */
static void tell_idle(struct uring_reactor *reactor)
{
    struct runtime *runtime = reactor->runtime;
    if (scheduler_fiber_count(&reactor->io) > 0)
        return;
    if (atomic_fetch_or(&runtime->main_returned, 0) == 0)
        return;
    if (!atomic_exchange(&reactor->idle_message_sent, true))
        uring_deliver(&runtime->reactors[0].io, &reactor->idle_message);
}

/* --- threads --- */

static void stop_arrive(struct io *io, struct io_message *message)
{
    (void)message;
    reactor_of(io)->stopped = true;
}

static void *reactor_thread(void *argument)
{
    struct uring_reactor *reactor = argument;
    reactor_adopt_thread(reactor);
    for (;;) {
        bool more = reactor_work(reactor);
        if (reactor->stopped)
            break;
        if (!more)
            tell_idle(reactor);
        reactor_rest(reactor, more, IO_NEVER);
    }
    return NULL;
}

static enum err start_thread(struct uring_reactor *reactor)
{
    /* Signals stay with the thread that called runtime_run. */
    sigset_t all;
    sigset_t former;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &former);
    int number = pthread_create(&reactor->thread, NULL, reactor_thread, reactor);
    pthread_sigmask(SIG_SETMASK, &former, NULL);
    if (number != 0)
        return FAIL(ERR_BUSY, "no thread to be had: %s", strerrordesc_np(number));
    reactor->thread_started = true;
    char name[16]; /* the kernel's limit */
    (void)snprintf(name, sizeof name, "reactor %u", reactor->io.index);
    (void)pthread_setname_np(reactor->thread, name); /* for people with a debugger only */
    return OK;
}

static void stop_threads(struct runtime *runtime)
{
    for (unsigned i = 0; i < runtime->reactor_count; i++) {
        struct uring_reactor *reactor = &runtime->reactors[i];
        if (!reactor->thread_started)
            continue;
        uring_deliver(&reactor->io, &reactor->stop_message);
        int result = pthread_join(reactor->thread, NULL);
        assert(result == 0);
    }
}

/* --- life --- */

enum err runtime_new(const struct runtime_options *options, struct runtime **out_runtime)
{
    assert(options->reactor_count <= REACTORS_MAX);
    unsigned count = options->reactor_count > 0 ? options->reactor_count : usable_processors();
    AUTO(runtime)
    runtime = mem_alloc(sizeof(struct runtime) + count * sizeof(struct uring_reactor));
    runtime->reactor_count = count;
    enum err result = offload_init(&runtime->offload);
    while (result == OK && runtime->made_count < count) {
        struct uring_reactor *reactor = &runtime->reactors[runtime->made_count];
        result = reactor_init(reactor, runtime, runtime->made_count);
        reactor->stop_message.arrive = stop_arrive;
        reactor->idle_message.arrive = idle_arrive;
        runtime->made_count++;
    }
    for (unsigned i = 1; i < count && result == OK; i++)
        result = start_thread(&runtime->reactors[i]);
    TRY(result);
    *out_runtime = TAKE(runtime);
    return OK;
}

void runtime_free(struct runtime *runtime)
{
    if (runtime == NULL)
        return;
    assert(fibers_ended(runtime));
    stop_threads(runtime);
    if (unfinished_count(runtime) > 0) {
        log_error("runtime: operations never completed, a device hangs count=%u",
                  unfinished_count(runtime));
        return; /* the kernel may still write into their buffers: nothing is freed */
    }
    offload_deinit(&runtime->offload);
    for (unsigned i = 0; i < runtime->made_count; i++)
        reactor_deinit(&runtime->reactors[i]);
    mem_free(runtime);
}

unsigned runtime_reactor_count(const struct runtime *runtime)
{
    return runtime->reactor_count;
}

struct io *runtime_io(struct runtime *runtime, unsigned index)
{
    assert(index < runtime->reactor_count);
    return &runtime->reactors[index].io;
}

unsigned runtime_fiber_count(const struct runtime *runtime)
{
    uint64_t ended = 0;
    uint64_t started = 0;
    for (unsigned i = 0; i < runtime->reactor_count; i++)
        ended += atomic_load(&runtime->reactors[i].io.ended_count);
    for (unsigned i = 0; i < runtime->reactor_count; i++)
        started += atomic_load(&runtime->reactors[i].io.started_count);
    return (unsigned)(started - ended);
}

/* --- run --- */

struct program {
    struct runtime *runtime;
    fiber_fn *fn;
    void *argument;
};

static void program_body(struct io *io, void *argument)
{
    struct program *program = argument;
    program->fn(io, program->argument);
    (void)atomic_exchange(&program->runtime->main_returned, 1); /* see tell_idle */
}

void runtime_run(struct runtime *runtime, fiber_fn *fn, void *argument)
{
    struct uring_reactor *reactor = &runtime->reactors[0];
    struct program program = {.runtime = runtime, .fn = fn, .argument = argument};
    atomic_store(&runtime->main_returned, 0);
    reactor_adopt_thread(reactor);
    io_post(&reactor->io, program_body, &program);
    uint64_t give_up_ns = IO_NEVER; /* set once only abandoned operations are left */
    for (;;) {
        bool more = reactor_work(reactor);
        bool ended = atomic_load(&runtime->main_returned) != 0 && fibers_ended(runtime);
        if (ended && (unfinished_count(runtime) == 0 || reactor->io.now_ns >= give_up_ns))
            break;
        if (ended && give_up_ns == IO_NEVER)
            give_up_ns = reactor->io.now_ns + ABANDONED_WAIT_NS;
        reactor_rest(reactor, more, give_up_ns);
    }
}
