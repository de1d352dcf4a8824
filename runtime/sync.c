/* Signals, semaphores, mutexes and groups of fibers, all on park and wake. */
#include "runtime/sync.h"
#include "base/err.h"
#include "base/log.h"
#include "scheduler.h"
#include <assert.h>
#include <inttypes.h>

/* On the stack of the fiber that waits. What was granted stays granted: a waiter whose deadline
 * passes in the same turn has no right to lose a wake or units. */
struct waiter {
    struct list_node node;
    struct fiber *fiber;
    uint64_t units; /* of a semaphore */
    bool granted;
};

static enum err wait_for_grant(struct io *io, struct list *waiters, struct waiter *waiter,
                               uint64_t deadline_ns, bool cancelable)
{
    list_push_back(waiters, &waiter->node);
    while (!waiter->granted) {
        enum err result = scheduler_park(io, deadline_ns, cancelable);
        if (result == OK || waiter->granted)
            continue;
        list_remove(waiters, &waiter->node);
        return result;
    }
    assert(!list_linked(&waiter->node));
    return OK;
}

static void grant_first(struct io *io, struct list *waiters)
{
    struct waiter *waiter = CONTAINER_OF(list_pop_front(waiters), struct waiter, node);
    waiter->granted = true;
    io_wake(io, waiter->fiber);
}

/* --- signal --- */

void signal_init(struct signal *signal)
{
    list_init(&signal->waiters);
}

enum err signal_wait(struct io *io, struct signal *signal, uint64_t deadline_ns)
{
    if (io_canceled(io))
        return ERR_CANCELED;
    struct waiter waiter = {.fiber = io_self(io)};
    return wait_for_grant(io, &signal->waiters, &waiter, scheduler_deadline(io, deadline_ns), true);
}

void signal_wake_one(struct io *io, struct signal *signal)
{
    if (!list_empty(&signal->waiters))
        grant_first(io, &signal->waiters);
}

void signal_wake_all(struct io *io, struct signal *signal)
{
    while (!list_empty(&signal->waiters))
        grant_first(io, &signal->waiters);
}

/* --- semaphore --- */

void semaphore_init(struct semaphore *semaphore, uint64_t available, uint32_t waiters_max)
{
    *semaphore = (struct semaphore){.available = available, .waiters_max = waiters_max};
    list_init(&semaphore->waiters);
}

/* Nobody overtakes the first waiter, so large takers do not starve. */
static void semaphore_grant(struct io *io, struct semaphore *semaphore)
{
    while (!list_empty(&semaphore->waiters)) {
        struct list_node *first = list_first(&semaphore->waiters);
        uint64_t units = CONTAINER_OF(first, struct waiter, node)->units;
        if (units > semaphore->available)
            break;
        semaphore->available -= units;
        grant_first(io, &semaphore->waiters);
    }
}

enum err semaphore_take(struct io *io, struct semaphore *semaphore, uint64_t units,
                        uint64_t deadline_ns)
{
    assert(units > 0);
    if (io_canceled(io))
        return ERR_CANCELED;
    if (list_empty(&semaphore->waiters) && semaphore->available >= units) {
        semaphore->available -= units;
        return OK;
    }
    if (semaphore->waiters.count >= semaphore->waiters_max)
        return FAIL(ERR_BUSY, "semaphore has all its waiters count=%u", semaphore->waiters.count);
    struct waiter waiter = {.fiber = io_self(io), .units = units};
    enum err result =
        wait_for_grant(io, &semaphore->waiters, &waiter, scheduler_deadline(io, deadline_ns), true);
    if (result != OK)
        semaphore_grant(io, semaphore); /* it may have stood before smaller ones */
    return result;
}

void semaphore_give(struct io *io, struct semaphore *semaphore, uint64_t units)
{
    assert(units <= UINT64_MAX - semaphore->available);
    semaphore->available += units;
    semaphore_grant(io, semaphore);
}

/* --- mutex --- */

void fiber_mutex_init(struct fiber_mutex *mutex)
{
    semaphore_init(&mutex->semaphore, 1, FIBERS_PER_REACTOR_MAX);
}

enum err fiber_mutex_lock(struct io *io, struct fiber_mutex *mutex)
{
    uint64_t deadline_ns = io_deadline(io);
    return semaphore_take(io, &mutex->semaphore, 1, deadline_ns == 0 ? IO_NEVER : deadline_ns);
}

void fiber_mutex_unlock(struct io *io, struct fiber_mutex *mutex)
{
    assert(mutex->semaphore.available == 0);
    semaphore_give(io, &mutex->semaphore, 1);
}

/* --- group --- */

struct member {
    struct fiber_group *group;
    fiber_fn *fn;
    void *argument;
};

void fiber_group_init(struct fiber_group *group)
{
    *group = (struct fiber_group){0};
    signal_init(&group->ended);
}

void fiber_group_enter(struct fiber_group *group)
{
    group->running++;
}

void fiber_group_leave(struct io *io, struct fiber_group *group)
{
    assert(group->running > 0);
    if (--group->running == 0)
        signal_wake_all(io, &group->ended);
}

static void member_body(struct io *io, void *argument)
{
    /* A fiber starts inside io_spawn, so the spawner's stack holds the member until here. */
    struct member member = *(const struct member *)argument;
    member.fn(io, member.argument);
    fiber_group_leave(io, member.group);
}

enum err fiber_group_spawn(struct io *io, struct fiber_group *group, fiber_fn *fn, void *argument)
{
    struct member member = {.group = group, .fn = fn, .argument = argument};
    fiber_group_enter(group);
    enum err result = io_spawn(io, member_body, &member);
    if (result != OK)
        fiber_group_leave(io, group);
    return result;
}

void fiber_group_wait(struct io *io, struct fiber_group *group)
{
    while (group->running > 0) {
        struct waiter waiter = {.fiber = io_self(io)};
        enum err result = wait_for_grant(io, &group->ended.waiters, &waiter, IO_NEVER, false);
        assert(result == OK);
    }
}
