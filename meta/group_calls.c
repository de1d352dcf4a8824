/* Calls from any reactor, and the way to the home reactor and back.
 *
 * A call lies on its caller's stack and the caller waits until it is answered, whatever happens
 * to its fiber: it is answered at its deadline or at the end of the group. */
#include "base/log.h"
#include "base/mem.h"
#include "server_core.h"
#include <assert.h>

#define DRAIN_NS (10 * IO_NS_PER_S)

/* Calls on their way between two reactors. */
struct parcel {
    struct group_port *port;
    struct list calls;
};

static struct parcel *parcel_new(struct group_port *port, struct list *calls)
{
    struct parcel *parcel = mem_new(struct parcel);
    parcel->port = port;
    list_init(&parcel->calls);
    while (!list_empty(calls))
        list_push_back(&parcel->calls, list_pop_front(calls));
    return parcel;
}

static struct call *pop_call(struct list *calls)
{
    struct list_node *node = list_pop_front(calls);
    return node == NULL ? NULL : CONTAINER_OF(node, struct call, node);
}

/* --- users of a replica's state --- */

static void use_begin(struct group_port *port, struct meta_server *server)
{
    fiber_group_enter(&server->readers[port->index]);
}

static void use_end(struct io *io, struct group_port *port, struct meta_server *server)
{
    fiber_group_leave(io, &server->readers[port->index]);
}

static void wait_users(struct io *io, void *argument)
{
    struct meta_server *server = argument;
    fiber_group_wait(io, &server->readers[io_reactor_index(io)]);
}

/* Whoever found the replica published did so on its reactor before this came there. */
void group_wait_readers(struct io *io, struct meta_group *group, struct meta_server *server)
{
    assert(atomic_load(&group->serving) != server);
    group_send_answers(group);
    for (unsigned i = 0; i < group->port_count; i++)
        io_call(io, group->ports[i].io, wait_users, server);
}

/* --- back to the caller --- */

static void finish(struct io *io, struct call *call)
{
    if (call->kind == CALL_READ && call->err == OK)
        use_begin(call->port, read_of(call)->server);
    fiber_group_leave(io, &call->answered);
}

static void deliver_answers(struct io *io, void *argument)
{
    struct parcel *parcel = argument;
    struct call *call = NULL;
    while ((call = pop_call(&parcel->calls)) != NULL)
        finish(io, call);
    mem_free(parcel);
}

void group_answer(struct meta_group *group, struct call *call, enum err err)
{
    assert(!list_linked(&call->node));
    call->err = err;
    if (call->kind == CALL_PROPOSAL) {
        struct proposal *proposal = proposal_of(call);
        if (err != OK && proposal->uncertain)
            call->err = ERR_OUTCOME_UNKNOWN;
        counter_add(err == OK ? group->proposals_total : group->refused_total, 1);
        if (err == OK)
            histogram_record_ns(group->proposal_seconds,
                                io_now_ns(group->home) - proposal->accepted_ns);
    }
    if (call->port->io == group->home)
        finish(group->home, call);
    else
        list_push_back(&call->port->answers, &call->node);
}

void group_send_answers(struct meta_group *group)
{
    for (unsigned i = 0; i < group->port_count; i++) {
        struct group_port *port = &group->ports[i];
        if (!list_empty(&port->answers))
            io_post(port->io, deliver_answers, parcel_new(port, &port->answers));
    }
}

static void answer_all(struct meta_group *group, struct list *calls, enum err err)
{
    struct call *call = NULL;
    while ((call = pop_call(calls)) != NULL)
        group_answer(group, call, err);
}

void group_give_up(struct meta_group *group, enum err err)
{
    answer_all(group, &group->inbox, err);
    answer_all(group, &group->waiting, err);
    for (uint32_t i = 0; i < group->replica_count; i++)
        answer_all(group, &group->replicas[i]->reads, err);
    answer_all(group, &group->outstanding, ERR_OUTCOME_UNKNOWN);
    group->outstanding_bytes = 0;
    group_send_answers(group);
}

/* --- to the home reactor --- */

static void accept_call(struct meta_group *group, struct call *call)
{
    uint32_t count = group->inbox.count + group->waiting.count;
    if (group->leader != NULL)
        count += group->leader->reads.count;
    if (count >= GROUP_WAITING_MAX) {
        group_answer(group, call, ERR_BUSY);
        return;
    }
    if (call->kind == CALL_PROPOSAL)
        proposal_of(call)->accepted_ns = io_now_ns(group->home);
    list_push_back(&group->inbox, &call->node);
    group_wake(group);
}

static void accept_parcel(struct io *io, void *argument)
{
    struct parcel *parcel = argument;
    struct meta_group *group = parcel->port->group;
    struct call *call = NULL;
    assert(io == group->home);
    while ((call = pop_call(&parcel->calls)) != NULL)
        accept_call(group, call);
    group_send_answers(group);
    mem_free(parcel);
}

static void send_parcel(struct group_port *port)
{
    port->flushing = false;
    io_post(port->group->home, accept_parcel, parcel_new(port, &port->outgoing));
}

/* Let the other fibers of this turn add their calls. */
static void flusher_fiber(struct io *io, void *argument)
{
    (void)io_yield(io); /* canceled: it is sent at once */
    send_parcel(argument);
}

static enum err submit(struct io *io, struct group_port *port, struct call *call)
{
    uint64_t deadline_ns = io_deadline(io);
    call->port = port;
    call->deadline_ns = deadline_ns != 0 ? deadline_ns : io_now_ns(io) + IO_DEFAULT_TIMEOUT_NS;
    fiber_group_init(&call->answered);
    fiber_group_enter(&call->answered);
    if (io == port->group->home) {
        accept_call(port->group, call);
    } else {
        list_push_back(&port->outgoing, &call->node);
        if (!port->flushing) {
            port->flushing = true;
            if (fiber_group_spawn(io, &port->running, flusher_fiber, port) != OK)
                send_parcel(port);
        }
    }
    fiber_group_wait(io, &call->answered);
    return call->err;
}

/* --- the calls --- */

static enum err port_enter(struct io *io, struct meta_group *group, struct group_port **out_port)
{
    struct group_port *port = &group->ports[io_reactor_index(io)];
    assert(port->io == io);
    if (port->closed)
        return FAIL(ERR_CLOSED, "metadata service stops");
    fiber_group_enter(&port->running);
    *out_port = port;
    return OK;
}

static void port_leave(struct io *io, struct group_port *port)
{
    fiber_group_leave(io, &port->running);
}

enum err meta_group_propose(struct io *io, struct meta_group *group, struct slice command,
                            struct bytes *out_result)
{
    enum { HEADER_BYTES_MAX = 64 };
    assert(command.bytes > 0);
    if (command.bytes + HEADER_BYTES_MAX > group->command_bytes_max ||
        command.bytes > ENTRY_BYTES_MAX)
        return FAIL(ERR_LIMIT, "command bytes=%zu", command.bytes);
    struct group_port *port = NULL;
    TRY(port_enter(io, group, &port));
    struct proposal proposal = {
        .call = {.kind = CALL_PROPOSAL}, .command = command, .result = out_result};
    enum err err = submit(io, port, &proposal.call);
    port_leave(io, port);
    return err;
}

struct read_job {
    struct state *state;
    meta_read_fn *fn;
    void *argument;
    enum err err;
};

static void read_on_lane(struct lane *lane, void *argument)
{
    struct read_job *job = argument;
    job->err = job->fn(lane, job->state, job->argument);
}

static enum err read_state(struct io *io, struct meta_server *server, struct read_job *job,
                           bool memory_first)
{
    job->state = server->state;
    if (memory_first) {
        enum err err = job->fn(NULL, job->state, job->argument);
        if (err != ERR_WOULD_BLOCK)
            return err;
    }
    TRY(lane_run(io, server->read_lane, read_on_lane, job));
    return job->err;
}

/* Acknowledgements follow the apply of the replica that serves, so its state is a linearizable
 * point without further ado (group_lead.c). It stays one while it is used: a replica that leads no
 * more applies nothing before its readers are gone (server_apply.c). */
static enum err linearizable_point(struct io *io, struct group_port *port,
                                   struct meta_server **out_server)
{
    struct meta_server *serving = atomic_load(&port->group->serving);
    if (serving != NULL) {
        use_begin(port, serving);
        *out_server = serving;
        return OK;
    }
    struct read_call read = {.call = {.kind = CALL_READ}};
    TRY(submit(io, port, &read.call));
    *out_server = read.server;
    return OK;
}

static enum err read_once(struct io *io, struct group_port *port, struct read_job *job,
                          bool memory_first)
{
    struct meta_group *group = port->group;
    struct meta_server *server = NULL;
    TRY(linearizable_point(io, port, &server));
    enum err err = OK;
    if (group->confirm != NULL && group->confirm(io, group->context) != OK)
        err = FAIL(ERR_FENCED, "incarnation is not confirmed");
    if (err == OK)
        err = read_state(io, server, job, memory_first);
    use_end(io, port, server);
    return err;
}

enum err meta_group_read(struct io *io, struct meta_group *group, meta_read_fn *fn, void *argument,
                         bool memory_first)
{
    struct group_port *port = NULL;
    TRY(port_enter(io, group, &port));
    struct read_job job = {.fn = fn, .argument = argument};
    enum err err = read_once(io, port, &job, memory_first);
    port_leave(io, port);
    return err;
}

/* --- life --- */

static void init_ports(struct io *io, struct meta_group *group)
{
    group->port_count = io_reactor_count(io);
    group->ports = mem_alloc_array(group->port_count, sizeof *group->ports);
    for (unsigned i = 0; i < group->port_count; i++) {
        struct group_port *port = &group->ports[i];
        *port = (struct group_port){.group = group, .io = io_reactor(io, i), .index = i};
        fiber_group_init(&port->running);
        list_init(&port->outgoing);
        list_init(&port->answers);
    }
}

static void register_metrics(struct meta_group *group, struct metrics *metrics)
{
    group->proposals_total = metrics_counter(metrics, "shale_meta_proposals_total", NULL,
                                             "Commands acknowledged by the metadata service.");
    group->refused_total =
        metrics_counter(metrics, "shale_meta_proposals_failed_total", NULL,
                        "Commands that were refused or whose outcome is not known.");
    group->hash_mismatches_total =
        metrics_counter(metrics, "shale_meta_hash_mismatches_total", NULL,
                        "Replicas that were stopped because their state differed from others'.");
    group->ready_gauge = metrics_gauge(metrics, "shale_meta_leader", NULL,
                                       "1 while a replica of this process leads and serves.");
    group->proposal_seconds =
        metrics_histogram(metrics, "shale_meta_proposal_seconds", NULL,
                          "Time from the arrival of a command to its acknowledgement.");
}

void group_init(struct io *io, struct meta_group *group, struct metrics *metrics)
{
    group->home = io;
    group->retain_from = UINT64_MAX;
    list_init(&group->inbox);
    list_init(&group->waiting);
    list_init(&group->outstanding);
    signal_init(&group->changed);
    fiber_group_init(&group->fibers);
    io_random(io, &group->boot, sizeof group->boot);
    init_ports(io, group);
    register_metrics(group, metrics);
}

void group_deinit(struct meta_group *group)
{
    assert(group->replica_count == 0);
    assert(list_empty(&group->inbox));
    assert(list_empty(&group->waiting));
    assert(list_empty(&group->outstanding));
    mem_free(group->ports);
}

/* On each reactor: no new calls ... */
static void close_port(struct io *io, void *argument)
{
    struct group_port *port = argument;
    (void)io; /* that of the port */
    port->closed = true;
}

/* ... and wait for those that run. */
static void wait_port(struct io *io, void *argument)
{
    struct group_port *port = argument;
    fiber_group_wait(io, &port->running);
}

/* Calls that wait longer than this get their answer now. */
static void drain_fiber(struct io *io, void *argument)
{
    struct meta_group *group = argument;
    uint64_t until_ns = io_now_ns(io) + DRAIN_NS;
    while (group->draining && signal_wait(io, &group->changed, until_ns) == OK)
        ;
    if (group->draining)
        group_give_up(group, ERR_TIMEOUT);
}

void group_end_calls(struct io *io, struct meta_group *group)
{
    for (unsigned i = 0; i < group->port_count; i++)
        io_call(io, group->ports[i].io, close_port, &group->ports[i]);
    group->draining = true;
    if (fiber_group_spawn(io, &group->fibers, drain_fiber, group) != OK)
        group_give_up(group, ERR_TIMEOUT); /* no fiber to wait with */
    for (unsigned i = 0; i < group->port_count; i++)
        io_call(io, group->ports[i].io, wait_port, &group->ports[i]);
    group->draining = false;
    signal_wake_all(io, &group->changed);
    fiber_group_wait(io, &group->fibers);
}
