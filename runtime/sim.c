/* Virtual clock, event heap, lives of machines, the loop. */
#include "runtime/sim.h"
#include "base/log.h"
#include "base/mem.h"
#include "sim_machine.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PPM UINT64_C(1000000)
#define START_NS IO_NS_PER_S
#define START_WALL_MS UINT64_C(1767225600000) /* 2026-01-01 */
#define DISK_BYTES_DEFAULT (UINT64_C(64) << 30)
/* Virtual time that one turn of a fiber takes: so that who polls the clock sees it move. */
#define TURN_NS_MIN 200
#define TURN_NS_MAX 1000
#define MESSAGE_NS_MAX (20 * UINT64_C(1000))
#define LANE_JOB_NS_MIN (5 * UINT64_C(1000))
#define LANE_JOB_NS_MAX (200 * UINT64_C(1000))
#define CLOCK_JUMP_MS_MAX (INT64_C(3600) * 1000)
#define CLOCK_STEP_MS_MAX INT64_C(2000)

/* Rounds of messages, jobs and fibers that a life may take to unwind. */
enum { DRAIN_ROUNDS_MAX = 100000 };

/* Streams of randomness; those of machines and reactors add their number. */
enum purpose {
    PURPOSE_SCHEDULE = 1,
    PURPOSE_DRIVER,
    PURPOSE_LATENCY = 0x1000,
    PURPOSE_FAULT = 0x2000,
    PURPOSE_CRASH = 0x3000,
    PURPOSE_WALL = 0x4000,
    PURPOSE_CLOCK_RATE = 0x5000,
    PURPOSE_RANDOM = 0x10000,
};

static struct sim_reactor *reactor_of(struct io *io)
{
    return CONTAINER_OF(io, struct sim_reactor, io);
}

struct sim_machine *sim_machine_of(struct io *io)
{
    return reactor_of(io)->machine;
}

void sim_trace(struct sim *sim, uint64_t value)
{
    uint64_t hash = (sim->trace_hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    sim->trace_hash = hash ^ (hash >> 29);
}

/* --- event heap --- */

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    if (a->time_ns != b->time_ns)
        return a->time_ns < b->time_ns;
    if (a->tie != b->tie)
        return a->tie < b->tie;
    return a->sequence < b->sequence;
}

static void heap_push(struct sim *sim, struct sim_event event)
{
    if (sim->heap_count == sim->heap_capacity) {
        sim->heap_capacity = sim->heap_capacity == 0 ? 64 : sim->heap_capacity * 2;
        sim->heap = mem_resize(sim->heap, sim->heap_capacity * sizeof *sim->heap);
    }
    uint32_t at = sim->heap_count++;
    while (at > 0 && event_before(&event, &sim->heap[(at - 1) / 2])) {
        sim->heap[at] = sim->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    sim->heap[at] = event;
}

static struct sim_event heap_pop(struct sim *sim)
{
    assert(sim->heap_count > 0);
    struct sim_event result = sim->heap[0];
    struct sim_event last = sim->heap[--sim->heap_count];
    uint32_t at = 0;
    for (uint32_t child; (child = 2 * at + 1) < sim->heap_count; at = child) {
        if (child + 1 < sim->heap_count && event_before(&sim->heap[child + 1], &sim->heap[child]))
            child++;
        if (!event_before(&sim->heap[child], &last))
            break;
        sim->heap[at] = sim->heap[child];
    }
    if (sim->heap_count > 0)
        sim->heap[at] = last;
    return result;
}

void sim_push_event(struct sim_machine *machine, enum sim_event_kind kind, unsigned reactor_index,
                    void *object, uint64_t time_ns)
{
    struct sim *sim = machine->sim;
    heap_push(sim, (struct sim_event){.time_ns = time_ns,
                                      .tie = sim_random_next(&sim->schedule_random),
                                      .sequence = ++sim->event_sequence,
                                      .kind = kind,
                                      .machine = machine,
                                      .reactor_index = reactor_index,
                                      .object = object});
}

static void run_event(const struct sim_event *event)
{
    struct sim_machine *machine = event->machine;
    struct sim *sim = machine->sim;
    struct io *io = &machine->reactors[event->reactor_index].io;
    sim->event_count++;
    sim_trace(sim, sim->now_ns);
    sim_trace(sim, ((uint64_t)machine->index << 16) | (event->reactor_index << 8) | event->kind);
    switch (event->kind) {
    case SIM_EVENT_OPERATION:
        sim_operation_finish(machine, event->object);
        return;
    case SIM_EVENT_MESSAGE: {
        struct io_message *message = event->object;
        message->arrive(io, message);
        return;
    }
    case SIM_EVENT_LANE_JOB:
        lane_job_run(event->object);
        return;
    }
}

/* --- the back end of struct io --- */

/* What the machine's clock shows at a moment of virtual time (F36). */
static uint64_t local_ns(const struct sim_machine *machine, uint64_t time_ns)
{
    return START_NS +
           (uint64_t)((unsigned __int128)(time_ns - START_NS) * machine->clock_ppm / PPM);
}

/* When the machine's clock will show `shown_ns`. */
static uint64_t virtual_ns(const struct sim_machine *machine, uint64_t shown_ns)
{
    if (shown_ns == IO_NEVER || shown_ns <= START_NS)
        return shown_ns;
    unsigned __int128 since_ns = (unsigned __int128)(shown_ns - START_NS) * PPM;
    since_ns = (since_ns + machine->clock_ppm - 1) / machine->clock_ppm;
    return since_ns >= IO_NEVER - START_NS ? IO_NEVER : START_NS + (uint64_t)since_ns;
}

static uint64_t backend_now_ns(struct io *io)
{
    const struct sim_machine *machine = sim_machine_of(io);
    return local_ns(machine, machine->sim->now_ns);
}

static uint64_t backend_wall_ms(struct io *io)
{
    struct sim_machine *machine = sim_machine_of(io);
    struct sim *sim = machine->sim;
    struct sim_random *random = &machine->wall_random;
    if (sim_random_hits(random, sim->options.clock_jump_ppm)) {
        int64_t max = sim_random_below(random, 2) == 0 ? CLOCK_JUMP_MS_MAX : CLOCK_STEP_MS_MAX;
        machine->wall_offset_ms += (int64_t)sim_random_below(random, 2 * (uint64_t)max + 1) - max;
        sim->faults.counts[SIM_FAULT_CLOCK_JUMP]++;
    }
    int64_t wall_ms = (int64_t)(START_WALL_MS + local_ns(machine, sim->now_ns) / IO_NS_PER_MS);
    assert(wall_ms + machine->wall_offset_ms > 0);
    return (uint64_t)(wall_ms + machine->wall_offset_ms);
}

static void backend_random(struct io *io, void *out, size_t bytes)
{
    struct sim_random *random = &reactor_of(io)->random;
    for (size_t done = 0; done < bytes; done += sizeof(uint64_t)) {
        uint64_t value = sim_random_next(random);
        size_t count = bytes - done < sizeof value ? bytes - done : sizeof value;
        memcpy((uint8_t *)out + done, &value, count);
    }
}

static struct io *backend_reactor(struct io *io, unsigned index)
{
    return sim_machine_io(sim_machine_of(io), index);
}

/* Messages of one reactor arrive in the order of delivery: each a little later than the one
 * before. */
static void backend_deliver(struct io *target, struct io_message *message)
{
    struct sim_reactor *reactor = reactor_of(target);
    struct sim *sim = reactor->machine->sim;
    uint64_t time_ns = sim->now_ns + sim_random_below(&sim->schedule_random, MESSAGE_NS_MAX);
    if (time_ns <= reactor->message_ns)
        time_ns = reactor->message_ns + 1;
    reactor->message_ns = time_ns;
    sim_push_event(reactor->machine, SIM_EVENT_MESSAGE, target->index, message, time_ns);
}

/* A lane of one thread is busy until its last job ends; one of more starts jobs in their order. */
static void backend_lane_submit(struct io *io, struct lane_job *job)
{
    struct sim_machine *machine = sim_machine_of(io);
    struct sim *sim = machine->sim;
    struct lane *lane = job->lane;
    uint64_t last_ns = lane->backend_value;
    uint64_t start_ns = lane->thread_count == 1 && last_ns > sim->now_ns ? last_ns : sim->now_ns;
    uint64_t end_ns =
        start_ns + sim_random_between(&sim->schedule_random, LANE_JOB_NS_MIN, LANE_JOB_NS_MAX);
    if (end_ns <= last_ns)
        end_ns = last_ns + 1;
    lane->backend_value = end_ns;
    sim_push_event(machine, SIM_EVENT_LANE_JOB, io->index, job, end_ns);
}

const struct io_backend sim_backend = {
    .now_ns = backend_now_ns,
    .wall_ms = backend_wall_ms,
    .random = backend_random,
    .reactor = backend_reactor,
    .submit = sim_operation_submit,
    .file_release = sim_handle_release,
    .deliver = backend_deliver,
    .lane_submit = backend_lane_submit,
};

/* --- life of the simulator and its machines --- */

struct sim *sim_new(const struct sim_options *options)
{
    struct sim *sim = mem_new(struct sim);
    sim->options = *options;
    if (sim->options.disk_bytes == 0)
        sim->options.disk_bytes = DISK_BYTES_DEFAULT;
    sim->now_ns = START_NS;
    sim->schedule_random = sim_random_stream(options->seed, PURPOSE_SCHEDULE);
    sim->driver_random = sim_random_stream(options->seed, PURPOSE_DRIVER);
    return sim;
}

static uint64_t draw_clock_rate(struct sim *sim, unsigned index)
{
    uint64_t error_max = sim->options.clock_rate_ppm;
    assert(error_max < PPM);
    struct sim_random random = sim_random_stream(sim->options.seed, PURPOSE_CLOCK_RATE + index);
    uint64_t rate = PPM - error_max + sim_random_below(&random, 2 * error_max + 1);
    sim->faults.counts[SIM_FAULT_CLOCK_RATE] += rate != PPM;
    return rate;
}

struct sim_machine *sim_machine_new(struct sim *sim, unsigned reactor_count)
{
    assert(reactor_count >= 1);
    assert(reactor_count <= SIM_REACTORS_MAX);
    assert(sim->machine_count < SIM_MACHINES_MAX);
    unsigned index = sim->machine_count;
    uint64_t seed = sim->options.seed;
    struct sim_machine *machine = mem_new(struct sim_machine);
    machine->sim = sim;
    machine->index = index;
    machine->reactor_count = reactor_count;
    machine->on = true;
    machine->life = 1;
    machine->disk = sim_disk_new(sim->options.disk_bytes, index + 1);
    machine->latency_random = sim_random_stream(seed, PURPOSE_LATENCY + index);
    machine->fault_random = sim_random_stream(seed, PURPOSE_FAULT + index);
    machine->crash_random = sim_random_stream(seed, PURPOSE_CRASH + index);
    machine->wall_random = sim_random_stream(seed, PURPOSE_WALL + index);
    list_init(&machine->operations);
    machine->clock_ppm = draw_clock_rate(sim, index);
    for (unsigned i = 0; i < reactor_count; i++) {
        struct sim_reactor *reactor = &machine->reactors[i];
        reactor->machine = machine;
        reactor->random = sim_random_stream(seed, PURPOSE_RANDOM + index * SIM_REACTORS_MAX + i);
        scheduler_init(&reactor->io, &sim_backend, i, reactor_count);
    }
    sim->machines[sim->machine_count++] = machine;
    return machine;
}

struct io *sim_machine_io(struct sim_machine *machine, unsigned index)
{
    assert(index < machine->reactor_count);
    return &machine->reactors[index].io;
}

bool sim_is_on(const struct sim_machine *machine)
{
    return machine->on;
}

enum err sim_spawn(struct sim_machine *machine, unsigned reactor_index, fiber_fn *fn,
                   void *argument)
{
    assert(machine->on);
    sim_trace(machine->sim, ((uint64_t)machine->index << 16) | reactor_index);
    return io_spawn(sim_machine_io(machine, reactor_index), fn, argument);
}

/* --- the end of a life --- */

static unsigned machine_fiber_count(const struct sim_machine *machine)
{
    unsigned count = 0;
    for (unsigned i = 0; i < machine->reactor_count; i++)
        count += scheduler_fiber_count(&machine->reactors[i].io);
    return count;
}

static int compare_events(const void *a, const void *b)
{
    return event_before(a, b) ? -1 : 1;
}

/* Take the machine's events out of the heap and run them: messages and jobs on which fibers wait
 * without being cancelable. True when there was one. */
static bool drain_events(struct sim_machine *machine)
{
    struct sim *sim = machine->sim;
    uint32_t kept_count = 0;
    uint32_t taken_count = 0;
    struct sim_event *taken = mem_alloc_array(sim->heap_count + 1, sizeof *taken);
    struct sim_event *kept = mem_alloc_array(sim->heap_count + 1, sizeof *kept);
    for (uint32_t i = 0; i < sim->heap_count; i++) {
        bool ours = sim->heap[i].machine == machine;
        /* Operations in flight were answered already. */
        if (ours && sim->heap[i].kind != SIM_EVENT_OPERATION)
            taken[taken_count++] = sim->heap[i];
        else if (!ours)
            kept[kept_count++] = sim->heap[i];
    }
    sim->heap_count = 0;
    for (uint32_t i = 0; i < kept_count; i++)
        heap_push(sim, kept[i]);
    qsort(taken, taken_count, sizeof *taken, compare_events);
    for (uint32_t i = 0; i < taken_count; i++)
        run_event(&taken[i]);
    mem_free(taken);
    mem_free(kept);
    return taken_count > 0;
}

static bool drain_fibers(struct sim_machine *machine)
{
    bool any = false;
    for (unsigned i = 0; i < machine->reactor_count; i++) {
        struct io *io = &machine->reactors[i].io;
        if (!scheduler_has_ready(io))
            continue;
        any = true;
        machine->sim->event_count++;
        (void)scheduler_turn(io, FIBERS_PER_TURN); /* the next round sees what is left */
    }
    return any;
}

static void report_stuck_fibers(const struct sim_machine *machine)
{
    for (unsigned i = 0; i < machine->reactor_count; i++) {
        const struct io *io = &machine->reactors[i].io;
        LIST_EACH(struct fiber, fiber, &io->fibers, alive_node)
        log_error("sim: fiber does not end machine=%u reactor=%u function=%p "
                  "cancelable_wait=%d request=%" PRIu64,
                  machine->index, i, (void *)(uintptr_t)fiber->fn, fiber->cancelable,
                  fiber->request_id);
    }
}

/* Let the machine's fibers run to their end, at this moment of virtual time. */
static void drain(struct sim_machine *machine)
{
    for (unsigned round = 0; round < DRAIN_ROUNDS_MAX; round++) {
        bool any = drain_events(machine);
        any |= drain_fibers(machine);
        if (!any)
            break;
    }
    if (machine_fiber_count(machine) == 0)
        return;
    log_error("sim: fibers left at the end of a life machine=%u count=%u seed=%" PRIu64,
              machine->index, machine_fiber_count(machine), machine->sim->options.seed);
    report_stuck_fibers(machine);
    abort();
}

static void assert_outside(const struct sim_machine *machine)
{
    for (unsigned i = 0; i < machine->reactor_count; i++) {
        assert(!machine->reactors[i].io.in_turn);
        assert(machine->reactors[i].io.current == NULL);
    }
}

/* End the life of all fibers at once. */
static void cut(struct sim_machine *machine, enum sim_fault_class fault)
{
    assert(machine->on);
    assert_outside(machine);
    struct sim *sim = machine->sim;
    sim->faults.counts[fault]++;
    sim_trace(sim, ((uint64_t)machine->index << 16) | fault);
    machine->on = false;
    machine->life++;
    machine->paused_until_ns = 0;
    sim_operations_cut(machine);
    for (unsigned i = 0; i < machine->reactor_count; i++)
        scheduler_cancel_all(&machine->reactors[i].io);
    drain(machine);
    assert(list_empty(&machine->operations));
}

void sim_power_cut(struct sim_machine *machine)
{
    cut(machine, SIM_FAULT_POWER_CUT);
    sim_disk_crash(machine->disk, &machine->crash_random, &machine->sim->faults);
}

void sim_kill(struct sim_machine *machine)
{
    cut(machine, SIM_FAULT_KILL);
    sim_disk_drop_locks(machine->disk);
}

void sim_power_on(struct sim_machine *machine)
{
    assert(!machine->on);
    drain(machine); /* messages that came while it was off */
    for (unsigned i = 0; i < machine->reactor_count; i++)
        scheduler_revive(&machine->reactors[i].io);
    machine->on = true;
}

void sim_stop(struct sim_machine *machine)
{
    assert(machine->on);
    assert_outside(machine);
    assert(machine_fiber_count(machine) == 0);
    while (!list_empty(&machine->operations)) {
        struct list_node *node = list_first(&machine->operations);
        sim_operation_finish(machine, CONTAINER_OF(node, struct io_operation, node));
    }
    machine->on = false;
    machine->life++;
    machine->paused_until_ns = 0;
    drain(machine);
    sim_disk_keep_all(machine->disk);
    sim_disk_drop_locks(machine->disk);
}

void sim_pause(struct sim_machine *machine, uint64_t until_ns)
{
    machine->sim->faults.counts[SIM_FAULT_PAUSE]++;
    machine->paused_until_ns = until_ns;
}

void sim_free(struct sim *sim)
{
    if (sim == NULL)
        return;
    assert(!sim->running);
    for (unsigned i = 0; i < sim->machine_count; i++) {
        if (sim->machines[i]->on)
            sim_power_cut(sim->machines[i]);
    }
    /* Fibers that ended may have sent messages to machines that were off already. */
    for (bool any = true; any;) {
        any = false;
        for (unsigned i = 0; i < sim->machine_count; i++)
            any |= drain_events(sim->machines[i]) || drain_fibers(sim->machines[i]);
    }
    for (unsigned i = 0; i < sim->machine_count; i++) {
        struct sim_machine *machine = sim->machines[i];
        for (unsigned r = 0; r < machine->reactor_count; r++)
            scheduler_deinit(&machine->reactors[r].io);
        sim_clear_faults(machine);
        sim_disk_free(machine->disk);
        mem_free(machine);
    }
    assert(sim->heap_count == 0);
    mem_free(sim->heap);
    mem_free(sim);
}

/* --- the loop --- */

static uint64_t reactor_next_ns(const struct sim *sim, const struct sim_reactor *reactor)
{
    const struct sim_machine *machine = reactor->machine;
    uint64_t next_ns = sim->now_ns;
    if (!scheduler_has_ready(&reactor->io))
        next_ns = virtual_ns(machine, scheduler_next_timer_ns(&reactor->io));
    uint64_t paused_until_ns = machine->paused_until_ns;
    return next_ns < paused_until_ns ? paused_until_ns : next_ns;
}

/* The reactor that runs next, drawn among those of the earliest moment, and that moment. */
static struct sim_reactor *next_reactor(struct sim *sim, uint64_t *out_ns)
{
    struct sim_reactor *result = NULL;
    uint64_t least_ns = IO_NEVER;
    uint64_t equals = 0;
    for (unsigned i = 0; i < sim->machine_count; i++) {
        struct sim_machine *machine = sim->machines[i];
        for (unsigned r = 0; r < machine->reactor_count; r++) {
            uint64_t next_ns = reactor_next_ns(sim, &machine->reactors[r]);
            if (next_ns < sim->now_ns)
                next_ns = sim->now_ns;
            if (next_ns == IO_NEVER || next_ns > least_ns)
                continue;
            equals = next_ns < least_ns ? 1 : equals + 1;
            if (equals == 1 || sim_random_below(&sim->schedule_random, equals) == 0)
                result = &machine->reactors[r];
            least_ns = next_ns;
        }
    }
    *out_ns = least_ns;
    return result;
}

static void run_turn(struct sim *sim, struct sim_reactor *reactor)
{
    sim->event_count++;
    sim_trace(sim, sim->now_ns);
    sim_trace(sim, ((uint64_t)reactor->machine->index << 8) | reactor->io.index);
    (void)scheduler_turn(&reactor->io, 1); /* what is left is seen by the next look */
    sim->now_ns += sim_random_between(&sim->schedule_random, TURN_NS_MIN, TURN_NS_MAX);
}

static void run_next_event(struct sim *sim)
{
    struct sim_event event = heap_pop(sim);
    if (event.machine->paused_until_ns > sim->now_ns) {
        event.time_ns = event.machine->paused_until_ns;
        event.tie = 0; /* keeps the order of messages and of a lane's jobs */
        heap_push(sim, event);
        return;
    }
    run_event(&event);
}

/* One event or one turn of a fiber; false when there is none before `until_ns`. */
static bool step(struct sim *sim, uint64_t until_ns)
{
    uint64_t turn_ns;
    struct sim_reactor *reactor = next_reactor(sim, &turn_ns);
    uint64_t event_ns = sim->heap_count > 0 ? sim->heap[0].time_ns : IO_NEVER;
    if (event_ns < sim->now_ns)
        event_ns = sim->now_ns;
    uint64_t next_ns = event_ns < turn_ns ? event_ns : turn_ns;
    if (next_ns == IO_NEVER)
        return false;
    if (next_ns >= until_ns) {
        if (sim->now_ns < until_ns)
            sim->now_ns = until_ns;
        return false;
    }
    sim->now_ns = next_ns;
    bool event_first = event_ns < turn_ns;
    if (event_ns == turn_ns)
        event_first = sim_random_below(&sim->schedule_random, 2) == 0;
    if (event_first)
        run_next_event(sim);
    else
        run_turn(sim, reactor);
    return true;
}

bool sim_run(struct sim *sim, bool (*done)(void *context), void *context, uint64_t until_ns)
{
    assert(!sim->running);
    sim->running = true;
    bool is_done = done(context);
    while (!is_done && step(sim, until_ns))
        is_done = done(context);
    sim->running = false;
    return is_done;
}

uint64_t sim_now_ns(const struct sim *sim)
{
    return sim->now_ns;
}

uint64_t sim_draw(struct sim *sim, uint64_t bound)
{
    return sim_random_below(&sim->driver_random, bound);
}

uint64_t sim_trace_hash(const struct sim *sim)
{
    return sim->trace_hash;
}

uint64_t sim_event_count(const struct sim *sim)
{
    return sim->event_count;
}

/* --- faults --- */

uint64_t sim_fault_count(const struct sim *sim, const char *name)
{
    static const char *const names[] = {
#define X(class, text) [SIM_FAULT_##class] = text,
        SIM_FAULT_LIST(X)
#undef X
    };
    for (unsigned i = 0; i < SIM_FAULT_CLASS_COUNT; i++) {
        if (strcmp(names[i], name) == 0)
            return sim->faults.counts[i];
    }
    return 0;
}

void sim_set_fault(struct sim_machine *machine, const struct sim_fault *fault)
{
    unsigned i = 0;
    while (i < machine->fault_count && strcmp(machine->faults[i].prefix, fault->prefix) != 0)
        i++;
    assert(i < SIM_FAULTS_MAX);
    char *prefix =
        i < machine->fault_count ? machine->fault_prefixes[i] : mem_format("%s", fault->prefix);
    machine->fault_prefixes[i] = prefix;
    machine->faults[i] = *fault;
    machine->faults[i].prefix = prefix;
    if (i == machine->fault_count)
        machine->fault_count++;
}

void sim_clear_faults(struct sim_machine *machine)
{
    while (machine->fault_count > 0)
        mem_free(machine->fault_prefixes[--machine->fault_count]);
}

enum err sim_flip_bit(struct sim_machine *machine, const char *path, uint64_t bit)
{
    AUTO(sim_node) node = NULL;
    TRY(sim_disk_open(machine->disk, path, 0, &node));
    TRY(sim_file_flip(sim_node_file(node), bit));
    machine->sim->faults.counts[SIM_FAULT_FLIP]++;
    return OK;
}

enum err sim_copy_directory(struct sim_machine *from, const char *from_path, struct sim_machine *to,
                            const char *to_path)
{
    return sim_disk_copy(from->disk, from_path, to->disk, to_path);
}

enum err sim_move_directory(struct sim_machine *machine, const char *from, const char *to)
{
    return sim_disk_move(machine->disk, from, to);
}

void sim_describe_disk(struct sim_machine *machine, struct bytes *out)
{
    sim_disk_describe(machine->disk, out);
}
