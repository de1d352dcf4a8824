/* Calls from any reactor, and the way to the home reactor and back.
 *
 * A call lies on its caller's stack and the caller waits until it is answered, whatever happens
 * to its fiber: the driver answers every call at its deadline or at the end of the replica. */
#include "base/log.h"
#include "base/mem.h"
#include "server_core.h"
#include <assert.h>

/* Calls on their way between two reactors. */
struct parcel {
    struct server_port *port;
    struct list calls;
};

static struct parcel *parcel_new(struct server_port *port, struct list *calls)
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

/* --- back to the caller --- */

static void finish(struct io *io, struct call *call)
{
    assert(call->answered.running == 1);
    call->answered.running = 0;
    signal_wake_all(io, &call->answered.ended);
}

static void deliver_answers(struct io *io, void *argument)
{
    struct parcel *parcel = argument;
    struct call *call = NULL;
    while ((call = pop_call(&parcel->calls)) != NULL)
        finish(io, call);
    mem_free(parcel);
}

void server_answer(struct meta_server *server, struct call *call, enum err err)
{
    assert(!list_linked(&call->node));
    call->err = err;
    if (call->kind == CALL_PROPOSAL) {
        struct proposal *proposal = proposal_of(call);
        counter_add(err == OK ? server->proposals_total : server->refused_total, 1);
        if (err == OK)
            histogram_record_ns(server->proposal_seconds,
                                io_now_ns(server->home) - proposal->accepted_ns);
    }
    if (call->port->io == server->home)
        finish(server->home, call);
    else
        list_push_back(&call->port->answers, &call->node);
}

void server_send_answers(struct meta_server *server)
{
    for (unsigned i = 0; i < server->port_count; i++) {
        struct server_port *port = &server->ports[i];
        if (!list_empty(&port->answers))
            io_post(port->io, deliver_answers, parcel_new(port, &port->answers));
    }
}

/* --- to the home reactor --- */

void server_accept(struct meta_server *server, struct call *call)
{
    if (server->driver == NULL || server->failed) {
        server_answer(server, call, ERR_FENCED);
    } else if (server->inbox.count + server->waiting.count + server->reads.count >=
               SERVER_WAITING_MAX) {
        server_answer(server, call, ERR_BUSY);
    } else {
        if (call->kind == CALL_PROPOSAL)
            proposal_of(call)->accepted_ns = io_now_ns(server->home);
        list_push_back(&server->inbox, &call->node);
        server_wake(server);
    }
}

static void accept_parcel(struct io *io, void *argument)
{
    struct parcel *parcel = argument;
    struct meta_server *server = parcel->port->server;
    struct call *call = NULL;
    assert(io == server->home);
    while ((call = pop_call(&parcel->calls)) != NULL)
        server_accept(server, call);
    server_send_answers(server);
    mem_free(parcel);
}

static void send_parcel(struct server_port *port)
{
    port->flushing = false;
    io_post(port->server->home, accept_parcel, parcel_new(port, &port->outgoing));
}

/* Let the other fibers of this turn add their calls. */
static void flusher_fiber(struct io *io, void *argument)
{
    (void)io_yield(io); /* canceled: it is sent at once */
    send_parcel(argument);
}

static enum err submit(struct io *io, struct server_port *port, struct call *call)
{
    uint64_t deadline_ns = io_deadline(io);
    call->port = port;
    call->deadline_ns = deadline_ns != 0 ? deadline_ns : io_now_ns(io) + IO_DEFAULT_TIMEOUT_NS;
    fiber_group_init(&call->answered);
    call->answered.running = 1;
    if (io == port->server->home) {
        server_accept(port->server, call);
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

static enum err port_enter(struct io *io, struct meta_server *server, struct server_port **out_port)
{
    struct server_port *port = &server->ports[io_reactor_index(io)];
    assert(port->io == io);
    if (port->closed)
        return FAIL(ERR_CLOSED, "metadata server stops");
    port->running.running++;
    *out_port = port;
    return OK;
}

static void port_leave(struct io *io, struct server_port *port)
{
    if (--port->running.running == 0)
        signal_wake_all(io, &port->running.ended);
}

enum err meta_server_propose(struct io *io, struct meta_server *server, struct slice command,
                             struct bytes *out_result)
{
    enum { HEADER_BYTES_MAX = 64 };
    assert(command.bytes > 0);
    if (command.bytes + HEADER_BYTES_MAX > meta_log_entry_bytes_max(server->log) ||
        command.bytes > ENTRY_BYTES_MAX)
        return FAIL(ERR_LIMIT, "command bytes=%zu", command.bytes);
    struct server_port *port = NULL;
    TRY(port_enter(io, server, &port));
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
    if (memory_first) {
        enum err err = job->fn(NULL, server->state, job->argument);
        if (err != ERR_WOULD_BLOCK)
            return err;
    }
    TRY(lane_run(io, server->read_lane, read_on_lane, job));
    return job->err;
}

/* Acknowledgements follow the apply, so the state of a lone voter that leads is a linearizable
 * point without further ado. */
static enum err linearizable_point(struct io *io, struct server_port *port)
{
    struct meta_server *server = port->server;
    if (!atomic_load_explicit(&server->alone_serving, memory_order_acquire)) {
        struct read_call read = {.call = {.kind = CALL_READ}};
        TRY(submit(io, port, &read.call));
    }
    if (server->group.confirm != NULL && server->group.confirm(io, server->group.context) != OK)
        return FAIL(ERR_FENCED, "incarnation is not confirmed");
    return OK;
}

enum err meta_server_read(struct io *io, struct meta_server *server, meta_read_fn *fn,
                          void *argument, bool memory_first)
{
    struct server_port *port = NULL;
    TRY(port_enter(io, server, &port));
    struct read_job job = {.state = server->state, .fn = fn, .argument = argument};
    enum err err = linearizable_point(io, port);
    if (err == OK)
        err = read_state(io, server, &job, memory_first);
    port_leave(io, port);
    return err;
}
