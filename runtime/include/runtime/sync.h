/* Waiting between fibers of one reactor. Nothing here is safe across threads: use io_post /
 * io_call. */
#pragma once
#include "runtime/io.h"

/* A condition: fibers wait, another wakes one or all. Zero-initialised by signal_init. Spurious
 * wakes do not happen, but the condition may be false again when the fiber runs: loop. */
struct signal {
    struct list waiters;
};
void signal_init(struct signal *signal);
/* `deadline_ns` 0 = the fiber's. OK, ERR_TIMEOUT or ERR_CANCELED. */
enum err signal_wait(struct io *io, struct signal *signal, uint64_t deadline_ns);
void signal_wake_one(struct io *io, struct signal *signal);
void signal_wake_all(struct io *io, struct signal *signal);

/* Counts units; takers wait in order of arrival, at most `waiters_max` of them (ERR_BUSY beyond).
 */
struct semaphore {
    struct list waiters;
    uint64_t available;
    uint32_t waiters_max;
};
void semaphore_init(struct semaphore *semaphore, uint64_t available, uint32_t waiters_max);
enum err semaphore_take(struct io *io, struct semaphore *semaphore, uint64_t units,
                        uint64_t deadline_ns);
void semaphore_give(struct io *io, struct semaphore *semaphore, uint64_t units);

/* Mutual exclusion of fibers over waits. */
struct fiber_mutex {
    struct semaphore semaphore;
};
void fiber_mutex_init(struct fiber_mutex *mutex);
/* Waits without deadline of its own: only cancel or the fiber's deadline ends it. */
enum err fiber_mutex_lock(struct io *io, struct fiber_mutex *mutex);
void fiber_mutex_unlock(struct io *io, struct fiber_mutex *mutex);

/* Wait for a set of fibers, or of spans of their work. One reactor. */
struct fiber_group {
    uint32_t running;
    struct signal ended;
};
void fiber_group_init(struct fiber_group *group);
/* Spawn a fiber that counts in the group. */
enum err fiber_group_spawn(struct io *io, struct fiber_group *group, fiber_fn *fn, void *argument);
/* Something begins to count in the group, and ends: a call of a fiber that the group did not spawn,
 * an answer that somebody else owes. */
void fiber_group_enter(struct fiber_group *group);
void fiber_group_leave(struct io *io, struct fiber_group *group);
/* Waits until none runs; not ended by deadline or cancel, since members work on the caller's
 * memory. */
void fiber_group_wait(struct io *io, struct fiber_group *group);
