/* Fibers: start inline, park, wake, time out, cancel. The same for every back end. */
#include "scheduler.h"
#include "base/log.h"
#include "base/mem.h"
#include <assert.h>

enum {
    TIMER_NONE = UINT32_MAX,
    TIMERS_FIRST = 64,
    /* Free fibers kept with their stacks; the rest goes back to the system after a burst. */
    FIBER_POOL_MAX = 1024,
};

/* --- timers: a binary heap, one entry per parked fiber at most --- */

static bool timer_before(const struct fiber *a, const struct fiber *b)
{
    if (a->timer_ns != b->timer_ns)
        return a->timer_ns < b->timer_ns;
    return a->timer_sequence < b->timer_sequence;
}

static void timer_place(struct io *io, uint32_t index, struct fiber *fiber)
{
    io->timers[index] = fiber;
    fiber->timer_index = index;
}

static void timer_sift_up(struct io *io, uint32_t index, struct fiber *fiber)
{
    while (index > 0) {
        uint32_t parent = (index - 1) / 2;
        if (!timer_before(fiber, io->timers[parent]))
            break;
        timer_place(io, index, io->timers[parent]);
        index = parent;
    }
    timer_place(io, index, fiber);
}

static void timer_sift_down(struct io *io, uint32_t index, struct fiber *fiber)
{
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= io->timer_count)
            break;
        if (child + 1 < io->timer_count && timer_before(io->timers[child + 1], io->timers[child]))
            child++;
        if (!timer_before(io->timers[child], fiber))
            break;
        timer_place(io, index, io->timers[child]);
        index = child;
    }
    timer_place(io, index, fiber);
}

static void timer_add(struct io *io, struct fiber *fiber, uint64_t timer_ns)
{
    assert(fiber->timer_index == TIMER_NONE);
    if (io->timer_count == io->timer_capacity) {
        io->timer_capacity = io->timer_capacity == 0 ? TIMERS_FIRST : 2 * io->timer_capacity;
        io->timers =
            (struct fiber **)mem_resize(io->timers, io->timer_capacity * sizeof(struct fiber *));
    }
    fiber->timer_ns = timer_ns;
    fiber->timer_sequence = io->timer_sequence++;
    timer_sift_up(io, io->timer_count++, fiber);
    assert(io->timer_count <= FIBERS_PER_REACTOR_MAX);
}

static void timer_remove(struct io *io, struct fiber *fiber)
{
    uint32_t index = fiber->timer_index;
    if (index == TIMER_NONE)
        return;
    assert(io->timers[index] == fiber);
    fiber->timer_index = TIMER_NONE;
    struct fiber *last = io->timers[--io->timer_count];
    if (last == fiber)
        return;
    if (index > 0 && timer_before(last, io->timers[(index - 1) / 2]))
        timer_sift_up(io, index, last);
    else
        timer_sift_down(io, index, last);
}

uint64_t scheduler_next_timer_ns(const struct io *io)
{
    return io->timer_count == 0 ? IO_NEVER : io->timers[0]->timer_ns;
}

/* --- life of a fiber --- */

void scheduler_init(struct io *io, const struct io_backend *backend, unsigned index,
                    unsigned reactor_count)
{
    assert(index < reactor_count);
    *io = (struct io){.backend = backend, .index = index, .reactor_count = reactor_count};
    list_init(&io->fibers);
    list_init(&io->ready);
    list_init(&io->yielded);
    list_init(&io->pool);
    list_init(&io->posts);
    (void)io_now_ns(io); /* for its effect on now_ns */
}

static void fiber_free(struct fiber *fiber)
{
    fiber_context_deinit(&fiber->context);
    fiber_stack_free(fiber->stack);
    mem_free(fiber);
}

static void fiber_body(void *argument)
{
    struct fiber *fiber = argument;
    fiber_context_arrive(&fiber->context);
    fiber->fn(fiber->io, fiber->argument);
    fiber->state = FIBER_ENDED;
    fiber_context_switch(&fiber->context, fiber->resumer, true);
    assert(false && "an ended fiber was resumed");
}

/* Give a fiber back after its last switch. */
static void fiber_recycle(struct io *io, struct fiber *fiber)
{
    assert(fiber->state == FIBER_ENDED);
    assert(fiber->timer_index == TIMER_NONE);
    list_remove(&io->fibers, &fiber->alive_node);
    fiber->state = FIBER_FREE;
    if (io->pool.count < FIBER_POOL_MAX)
        list_push_front(&io->pool, &fiber->node);
    else
        fiber_free(fiber);
    uint64_t ended = atomic_load_explicit(&io->ended_count, memory_order_relaxed);
    atomic_store_explicit(&io->ended_count, ended + 1, memory_order_release);
}

/* Run `fiber` until it waits or ends. */
static void fiber_resume(struct io *io, struct fiber *fiber)
{
    assert(fiber->state == FIBER_READY);
    struct fiber_context here = {0}; /* of a caller outside of fibers */
    struct fiber *outer = io->current;
    uint64_t outer_request = log_request();
    fiber->resumer = outer == NULL ? &here : &outer->context;
    fiber->state = FIBER_RUNNING;
    io->current = fiber;
    log_set_request(fiber->request_id);
    fiber_context_switch(fiber->resumer, &fiber->context, false);
    io->current = outer;
    log_set_request(outer_request);
    if (fiber->state == FIBER_ENDED)
        fiber_recycle(io, fiber);
}

static struct fiber *fiber_obtain(struct io *io)
{
    struct list_node *free_node = list_pop_front(&io->pool);
    if (free_node != NULL)
        return CONTAINER_OF(free_node, struct fiber, node);
    void *stack = fiber_stack_new();
    if (stack == NULL)
        return NULL;
    struct fiber *fiber = mem_new(struct fiber);
    fiber->stack = stack;
    fiber->io = io;
    return fiber;
}

enum err io_spawn(struct io *io, fiber_fn *fn, void *argument)
{
    assert(fn != NULL);
    if (io->fibers.count >= FIBERS_PER_REACTOR_MAX)
        return FAIL(ERR_BUSY, "fiber limit reached count=%u", io->fibers.count);
    if (io->current == NULL)
        (void)io_now_ns(io); /* the last turn may be long ago */
    struct fiber *fiber = fiber_obtain(io);
    if (fiber == NULL)
        return FAIL(ERR_BUSY, "no memory map left for a stack fibers=%u", io->fibers.count);
    assert(fiber->state == FIBER_FREE);
    fiber->fn = fn;
    fiber->argument = argument;
    fiber->state = FIBER_READY;
    fiber->canceled = io->born_canceled;
    fiber->wake_pending = false;
    fiber->request_id = log_request();
    fiber->deadline_ns = 0;
    fiber->timer_index = TIMER_NONE;
    fiber_context_start(&fiber->context, fiber->stack, fiber_body, fiber);
    list_push_back(&io->fibers, &fiber->alive_node);
    uint64_t started = atomic_load_explicit(&io->started_count, memory_order_relaxed);
    atomic_store_explicit(&io->started_count, started + 1, memory_order_release);
    fiber_resume(io, fiber);
    return OK;
}

struct fiber *io_self(struct io *io)
{
    assert(io->current != NULL);
    return io->current;
}

/* --- waiting --- */

static void make_ready(struct io *io, struct fiber *fiber, enum err result)
{
    assert(fiber->state == FIBER_PARKED);
    timer_remove(io, fiber);
    fiber->wake_result = result;
    fiber->state = FIBER_READY;
    list_push_back(&io->ready, &fiber->node);
}

/* Leave the stack of the running fiber until someone resumes it. */
static void switch_away(struct fiber *fiber)
{
    fiber_context_switch(&fiber->context, fiber->resumer, false);
    assert(fiber->state == FIBER_RUNNING);
}

enum err scheduler_park(struct io *io, uint64_t deadline_ns, bool cancelable)
{
    struct fiber *fiber = io_self(io);
    assert(fiber->state == FIBER_RUNNING);
    if (cancelable && fiber->canceled)
        return ERR_CANCELED;
    if (fiber->wake_pending) {
        fiber->wake_pending = false;
        return OK;
    }
    if (deadline_ns <= io->now_ns)
        return ERR_TIMEOUT;
    if (deadline_ns != IO_NEVER)
        timer_add(io, fiber, deadline_ns);
    fiber->cancelable = cancelable;
    fiber->state = FIBER_PARKED;
    switch_away(fiber);
    return fiber->wake_result;
}

uint64_t scheduler_deadline(struct io *io, uint64_t deadline_ns)
{
    if (deadline_ns != 0)
        return deadline_ns;
    uint64_t own_ns = io_self(io)->deadline_ns;
    return own_ns != 0 ? own_ns : io->now_ns + IO_DEFAULT_TIMEOUT_NS;
}

enum err io_park(struct io *io, uint64_t deadline_ns)
{
    return scheduler_park(io, scheduler_deadline(io, deadline_ns), true);
}

void io_wake(struct io *io, struct fiber *fiber)
{
    assert(fiber->io == io);
    switch (fiber->state) {
    case FIBER_PARKED:
        make_ready(io, fiber, OK);
        break;
    case FIBER_RUNNING:
        fiber->wake_pending = true;
        break;
    case FIBER_READY: /* a wait that ended otherwise leaves the wake to the next one */
        if (fiber->wake_result != OK)
            fiber->wake_pending = true;
        break;
    case FIBER_FREE:
    case FIBER_ENDED:
        assert(false && "wake of a fiber that ended");
    }
}

void io_cancel(struct io *io, struct fiber *fiber)
{
    assert(fiber->io == io);
    assert(fiber->state != FIBER_FREE);
    fiber->canceled = true;
    if (fiber->state == FIBER_PARKED && fiber->cancelable)
        make_ready(io, fiber, ERR_CANCELED);
}

bool io_canceled(struct io *io)
{
    return io_self(io)->canceled;
}

uint64_t io_set_deadline(struct io *io, uint64_t deadline_ns)
{
    struct fiber *fiber = io_self(io);
    uint64_t former_ns = fiber->deadline_ns;
    fiber->deadline_ns = deadline_ns;
    return former_ns;
}

uint64_t io_deadline(struct io *io)
{
    return io_self(io)->deadline_ns;
}

void io_set_request(struct io *io, uint64_t request_id)
{
    io_self(io)->request_id = request_id;
    log_set_request(request_id);
}

enum err io_sleep_until(struct io *io, uint64_t wake_ns)
{
    if (wake_ns <= io->now_ns)
        return io_yield(io); /* a loop that runs late still lets others run */
    enum err result = OK;
    while (result == OK) /* wakes meant for an earlier wait do not end it */
        result = scheduler_park(io, wake_ns, true);
    return result == ERR_TIMEOUT ? OK : result;
}

enum err io_sleep_ms(struct io *io, uint64_t ms)
{
    return io_sleep_until(io, io_now_ns(io) + ms * IO_NS_PER_MS);
}

enum err io_yield(struct io *io)
{
    struct fiber *fiber = io_self(io);
    if (fiber->canceled)
        return ERR_CANCELED;
    fiber->state = FIBER_READY;
    fiber->wake_result = ERR_CANCELED; /* a wake that comes meanwhile is for the next wait */
    list_push_back(&io->yielded, &fiber->node);
    switch_away(fiber);
    return fiber->canceled ? ERR_CANCELED : OK;
}

/* --- the turn --- */

static void fire_timers(struct io *io)
{
    while (io->timer_count > 0 && io->timers[0]->timer_ns <= io->now_ns)
        make_ready(io, io->timers[0], ERR_TIMEOUT);
}

static void move_yielded(struct io *io)
{
    struct list_node *node = NULL;
    while ((node = list_pop_front(&io->yielded)) != NULL)
        list_push_back(&io->ready, node);
}

bool scheduler_turn(struct io *io, unsigned fibers_max)
{
    assert(!io->in_turn);
    assert(io->current == NULL);
    io->in_turn = true;
    (void)io_now_ns(io); /* for its effect on now_ns */
    fire_timers(io);
    move_yielded(io);
    scheduler_start_posts(io);
    for (unsigned i = 0; i < fibers_max; i++) {
        struct list_node *node = list_pop_front(&io->ready);
        if (node == NULL)
            break;
        fiber_resume(io, CONTAINER_OF(node, struct fiber, node));
    }
    io->in_turn = false;
    return scheduler_has_ready(io);
}

bool scheduler_has_ready(const struct io *io)
{
    if (!list_empty(&io->ready) || !list_empty(&io->yielded))
        return true;
    return !list_empty(&io->posts) && io->fibers.count < FIBERS_PER_REACTOR_MAX;
}

void scheduler_cancel_all(struct io *io)
{
    io->born_canceled = true;
    LIST_EACH(struct fiber, fiber, &io->fibers, alive_node)
    {
        io_cancel(io, fiber);
    }
}

void scheduler_revive(struct io *io)
{
    assert(list_empty(&io->fibers));
    io->born_canceled = false;
}

uint64_t io_now_ns(struct io *io)
{
    uint64_t now_ns = io->backend->now_ns(io);
    assert(now_ns >= io->now_ns);
    io->now_ns = now_ns;
    return now_ns;
}

void scheduler_deinit(struct io *io)
{
    assert(list_empty(&io->fibers));
    assert(list_empty(&io->posts));
    assert(io->timer_count == 0);
    struct list_node *node = NULL;
    while ((node = list_pop_front(&io->pool)) != NULL)
        fiber_free(CONTAINER_OF(node, struct fiber, node));
    mem_free(io->timers);
    scheduler_free_operations(io);
}
