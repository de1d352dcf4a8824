/* The driver of one replica, its session, and its start and stop. */
#include "base/log.h"
#include "base/mem.h"
#include "server_core.h"
#include <assert.h>
#include <inttypes.h>

enum { TICKS_LATE_MAX = 4 }; /* more are forgotten: the process stood still */
#define DRAIN_NS (10 * IO_NS_PER_S)
#define FOREVER_NS UINT64_MAX

void server_wake(struct meta_server *server)
{
    if (server->driver != NULL)
        io_wake(server->home, server->driver);
}

void server_publish(struct meta_server *server)
{
    bool serving =
        !server->failed && server->role == RAFT_LEADER && server->applied_term == server->term;
    const struct raft_membership *membership = raft_membership_get(server->raft, NULL);
    bool alone = membership->voter_count == 1 && membership->old_voter_count == 0;
    atomic_store_explicit(&server->alone_serving, serving && alone, memory_order_release);
    atomic_store_explicit(&server->ready, serving && server->session != 0, memory_order_release);
    gauge_set(server->ready_gauge, serving);
    signal_wake_all(server->home, &server->changed);
}

/* --- the end of calls --- */

static void answer_all(struct meta_server *server, struct list *calls, enum err err)
{
    struct list_node *node = NULL;
    while ((node = list_pop_front(calls)) != NULL)
        server_answer(server, CONTAINER_OF(node, struct call, node), err);
}

static void give_up_calls(struct meta_server *server, enum err err)
{
    answer_all(server, &server->inbox, err);
    answer_all(server, &server->waiting, err);
    answer_all(server, &server->reads, err);
    answer_all(server, &server->outstanding, ERR_OUTCOME_UNKNOWN);
    server->outstanding_bytes = 0;
    server_send_answers(server);
}

void server_fail(struct meta_server *server, enum err err, const char *what)
{
    if (server->failed)
        return;
    server->failed = true;
    if (err != ERR_CANCELED)
        log_error("meta: the replica stops and acknowledges nothing more replica=%016" PRIx64
                  " in=%s cause=%s",
                  server->options.replica_id, what, err_text(err));
    server_publish(server);
    give_up_calls(server, ERR_FENCED);
    signal_wake_all(server->home, &server->to_apply);
    signal_wake_all(server->home, &server->to_flush);
    server_wake(server);
}

static void expire_list(struct meta_server *server, struct list *calls, uint64_t now_ns,
                        enum err err)
{
    LIST_EACH(struct call, call, calls, node)
    {
        if (call->deadline_ns > now_ns)
            continue;
        list_remove(calls, &call->node);
        if (calls == &server->outstanding)
            server->outstanding_bytes -= proposal_of(call)->command.bytes;
        server_answer(server, call, err);
    }
}

static void expire(struct meta_server *server, uint64_t now_ns)
{
    expire_list(server, &server->waiting, now_ns, ERR_TIMEOUT);
    expire_list(server, &server->reads, now_ns, ERR_TIMEOUT);
    expire_list(server, &server->outstanding, now_ns, ERR_OUTCOME_UNKNOWN);
}

/* --- session --- */

static enum err propose_entry(struct meta_server *server, const struct entry_header *header,
                              struct slice command, uint64_t *out_index, uint64_t *out_term)
{
    AUTO_VALUE(bytes) encoded = {.max = LOG_BLOCK_BYTES};
    entry_header_encode(&encoded, header);
    struct slice slices[2] = {bytes_slice(&encoded), command};
    return raft_propose(server->raft, slices, 2, out_index, out_term);
}

static enum err propose_own(struct meta_server *server, const struct command *command,
                            uint64_t *out_index, uint64_t *out_term)
{
    AUTO_VALUE(bytes) encoded = {.max = LOG_BLOCK_BYTES};
    TRY(command_encode(&encoded, command));
    struct entry_header header = {.wall_ms = io_wall_ms(server->home)};
    return propose_entry(server, &header, bytes_slice(&encoded), out_index, out_term);
}

/* A process has one session at a time. One that was closed while the process was idle, or whose
 * opening was lost with the leadership, is followed by another. */
static void ensure_session(struct meta_server *server)
{
    if (server->session != 0 || server->session_opening)
        return;
    struct command command = {
        .type = COMMAND_OPEN_SESSION,
        .session = {.holder = server->options.replica_id, .boot = server->boot}};
    if (propose_own(server, &command, &server->opening.index, &server->opening.term) == OK)
        server->session_opening = true;
}

void server_session_opened(struct meta_server *server, struct slice result)
{
    struct result decoded;
    server->session_opening = false;
    if (result.bytes == 0 || result_decode(result, &decoded) != OK || decoded.err != OK)
        return; /* tried again by the next step */
    server->session = decoded.written.stamp;
    server->sequence_next = 1;
    server_publish(server);
}

/* The smallest sequence whose result may still be asked for. */
static uint64_t done_below(const struct meta_server *server)
{
    LIST_EACH(struct call, call, &server->outstanding, node)
    {
        const struct proposal *proposal = proposal_of(call);
        if (proposal->session == server->session)
            return proposal->sequence;
    }
    return server->sequence_next;
}

/* --- proposals --- */

/* None of its attempts had an effect or can have one any more, so it may be proposed again
 * under any session. */
void server_repeat(struct meta_server *server, struct proposal *proposal)
{
    if (server->role != RAFT_LEADER) {
        server_answer(server, &proposal->call, ERR_NOT_LEADER);
        return;
    }
    if (proposal->session != server->session)
        proposal->session = proposal->sequence = 0;
    proposal->index = 0;
    list_push_front(&server->waiting, &proposal->call.node);
    server_wake(server);
}

static bool window_is_full(const struct meta_server *server)
{
    return server->outstanding.count >= SERVER_OUTSTANDING_MAX ||
           server->outstanding_bytes >= SERVER_OUTSTANDING_BYTES_MAX ||
           server->sequence_next - done_below(server) >= SERVER_OUTSTANDING_MAX;
}

/* Commands that free space, or that a start needs to get so far, go on while the disk is full. The
 * type is the second byte of a command (entry.h). */
static bool frees_space(struct slice command)
{
    switch (command.bytes < 2 ? 0 : command.data[1]) {
    case COMMAND_OBJECT_DELETE:
    case COMMAND_UPLOAD_ABORT:
    case COMMAND_INTENT_DROP:
    case COMMAND_FREE_DONE:
    case COMMAND_EXPAND:
    case COMMAND_BUCKET_MARK:
    case COMMAND_BUCKET_CLOSE:
    case COMMAND_BUCKET_SETTLE: /* or a bucket that was not empty would stay half deleted */
    case COMMAND_BUCKET_FORGET:
    case COMMAND_DRIVE_REGISTER:
    case COMMAND_LEASE_OPEN:
    case COMMAND_LEASE_CLOSING:
    case COMMAND_LEASE_REFUSE:
    case COMMAND_LEASE_CLOSED:
        return true;
    }
    return false;
}

/* By sequence, so that the first one of the session bounds done_below. */
static void insert_outstanding(struct meta_server *server, struct proposal *proposal)
{
    struct list_node *at = &server->outstanding.head;
    while (at->previous != &server->outstanding.head) {
        struct call *before = CONTAINER_OF(at->previous, struct call, node);
        if (proposal_of(before)->session != proposal->session ||
            proposal_of(before)->sequence < proposal->sequence)
            break;
        at = at->previous;
    }
    list_insert_before(&server->outstanding, at, &proposal->call.node);
    server->outstanding_bytes += proposal->command.bytes;
}

static enum err propose(struct meta_server *server, struct proposal *proposal)
{
    if (!meta_log_has_space(server->log, proposal->command.bytes, frees_space(proposal->command)))
        return FAIL(ERR_NO_SPACE, "no room in the log bytes=%zu", proposal->command.bytes);
    if (proposal->session == 0) {
        proposal->session = server->session;
        proposal->sequence = server->sequence_next++;
    }
    uint64_t below = done_below(server);
    struct entry_header header = {
        .wall_ms = io_wall_ms(server->home),
        .session = proposal->session,
        .sequence = proposal->sequence,
        .done_below = below < proposal->sequence ? below : proposal->sequence,
    };
    return propose_entry(server, &header, proposal->command, &proposal->index, &proposal->term);
}

static void propose_waiting(struct meta_server *server)
{
    if (server->role != RAFT_LEADER) {
        answer_all(server, &server->waiting, ERR_NOT_LEADER);
        return;
    }
    if (server->applied_term == server->term)
        ensure_session(server);
    while (!list_empty(&server->waiting) && server->session != 0 && !window_is_full(server)) {
        struct call *call = CONTAINER_OF(list_pop_front(&server->waiting), struct call, node);
        struct proposal *proposal = proposal_of(call);
        enum err err = propose(server, proposal);
        if (err == OK)
            insert_outstanding(server, proposal);
        else
            server_answer(server, call, err);
    }
}

static void propose_tick(struct meta_server *server, uint64_t now_ns)
{
    if (server->role != RAFT_LEADER || server->applied_term != server->term ||
        now_ns < server->tick_entry_ns)
        return;
    server->tick_entry_ns = now_ns + SERVER_TICK_ENTRY_MS * IO_NS_PER_MS;
    uint64_t wall_ms = io_wall_ms(server->home);
    uint64_t last_ms = server->position.tick_ms;
    struct command command = {.type = COMMAND_TICK,
                              .tick = {.tick_ms = wall_ms > last_ms ? wall_ms : last_ms}};
    uint64_t index = 0;
    uint64_t term = 0;
    (void)propose_own(server, &command, &index, &term); /* the next one comes in 5 s */
}

/* --- inputs --- */

static void take_calls(struct meta_server *server)
{
    struct list_node *node = NULL;
    while ((node = list_pop_front(&server->inbox)) != NULL) {
        struct call *call = CONTAINER_OF(node, struct call, node);
        if (call->kind == CALL_PROPOSAL) {
            list_push_back(&server->waiting, &call->node);
            continue;
        }
        struct raft_read_ticket ticket;
        enum err err = raft_read(server->raft, &ticket);
        if (err != OK) {
            server_answer(server, call, err);
            continue;
        }
        read_of(call)->ticket = ticket.number;
        read_of(call)->index = ticket.index;
        if (ticket.index != 0 && ticket.index <= server->applied)
            server_answer(server, call, OK);
        else
            list_push_back(&server->reads, &call->node);
    }
}

static void take_durable(struct meta_server *server)
{
    if (meta_log_health(server->log) != OK) {
        server_fail(server, ERR_FENCED, "log");
        return;
    }
    uint64_t durable = meta_log_durable(server->log);
    while (!list_empty(&server->writes)) {
        struct server_write *write =
            CONTAINER_OF(list_first(&server->writes), struct server_write, node);
        if (write->ticket > durable)
            break;
        list_remove(&server->writes, &write->node);
        server->sequence_durable = write->token.sequence;
        raft_persisted(server->raft, &write->token);
        mem_free(write);
    }
    server_release_messages(server);
}

static void take_ticks(struct meta_server *server)
{
    uint64_t now_ns = io_now_ns(server->home);
    if (now_ns < server->tick_next_ns)
        return;
    for (unsigned i = 0; i < TICKS_LATE_MAX && server->tick_next_ns <= now_ns; i++) {
        raft_tick(server->raft);
        server->tick_next_ns += SERVER_TICK_MS * IO_NS_PER_MS;
    }
    if (server->tick_next_ns <= now_ns)
        server->tick_next_ns = now_ns + SERVER_TICK_MS * IO_NS_PER_MS;
    expire(server, now_ns);
    propose_tick(server, now_ns);
}

static void take_compacted(struct meta_server *server)
{
    if (server->compact_to == 0)
        return;
    uint64_t index = server->compact_to < server->applied ? server->compact_to : server->applied;
    raft_compacted(server->raft, index);
    server->compact_to = 0;
}

/* --- outputs --- */

static struct raft_entry *scratch_entries(struct meta_server *server, uint64_t count)
{
    if (count > server->scratch_capacity) {
        server->scratch_capacity = count;
        server->scratch =
            mem_resize(server->scratch, server->scratch_capacity * sizeof *server->scratch);
    }
    return server->scratch;
}

static enum err act_write(struct meta_server *server, const struct raft_output *output)
{
    if (output->token.sequence == 0)
        return OK;
    struct meta_log_write write = {
        .group = server->options.group_id,
        .hard_state = output->hard_state_changed ? &output->hard_state : NULL,
        .truncate_from = output->truncate_from,
        .first_index = output->append_first,
        .entries = scratch_entries(server, output->append_count),
        .entry_count = output->append_count,
    };
    if (output->truncate_from != 0)
        TRY(raft_term_get(server->raft, output->truncate_from - 1, &write.truncate_term));
    for (uint64_t i = 0; i < output->append_count; i++)
        TRY(raft_entry_get(server->raft, output->append_first + i, &server->scratch[i]));
    struct server_write *pending = mem_new(struct server_write);
    pending->token = output->token;
    list_push_back(&server->writes, &pending->node);
    return meta_log_append(server->log, &write, &pending->ticket);
}

static void act_role(struct meta_server *server, const struct raft_output *output)
{
    if (output->role_changed) {
        server->role = output->role;
        server->term = output->term;
        log_info("meta: replica=%016" PRIx64 " term=%" PRIu64 " leader=%016" PRIx64 "%s",
                 server->options.replica_id, output->term, output->leader,
                 output->role == RAFT_LEADER ? " (this one)" : "");
    }
    if (output->role_changed || output->membership_changed)
        server_publish(server);
}

static void act_reads(struct meta_server *server, const struct raft_output *output)
{
    if (output->grant.ticket_last == 0 && output->reads_failed_last == 0)
        return;
    LIST_EACH(struct call, call, &server->reads, node)
    {
        struct read_call *read = read_of(call);
        if (read->index == 0 && read->ticket <= output->grant.ticket_last)
            read->index = output->grant.index;
        bool lost = read->index == 0 && read->ticket <= output->reads_failed_last;
        bool due = read->index != 0 && read->index <= server->applied;
        if (!lost && !due)
            continue;
        list_remove(&server->reads, &call->node);
        server_answer(server, call, lost ? ERR_NOT_LEADER : OK);
    }
}

static enum err act(struct meta_server *server)
{
    while (raft_has_output(server->raft)) {
        struct raft_output output;
        raft_take_output(server->raft, &output);
        TRY(act_write(server, &output));
        server_send_messages(server, &output);
        server_load(server, &output);
        if (output.committed_last >= output.committed_first &&
            output.committed_last > server->committed) {
            server->committed = output.committed_last;
            signal_wake_all(server->home, &server->to_apply);
        }
        act_role(server, &output);
        act_reads(server, &output);
    }
    return OK;
}

/* --- the driver --- */

static void step(struct meta_server *server)
{
    if (server->failed) {
        answer_all(server, &server->inbox, ERR_FENCED);
        server_send_answers(server);
        return;
    }
    take_durable(server);
    take_compacted(server);
    server_receive_messages(server);
    take_ticks(server);
    if (server->failed)
        return;
    take_calls(server);
    enum err err = act(server); /* so that a change of role is known */
    if (err == OK) {
        propose_waiting(server);
        err = act(server);
    }
    if (err != OK)
        server_fail(server, err, "log");
    server_send_answers(server);
}

static void driver_fiber(struct io *io, void *argument)
{
    struct meta_server *server = argument;
    server->driver = io_self(io);
    server->tick_next_ns = io_now_ns(io);
    while (!server->stopping) {
        step(server);
        uint64_t next_ns = server->failed ? FOREVER_NS : server->tick_next_ns;
        if (io_park(io, next_ns) == ERR_CANCELED)
            break;
    }
    if (!server->stopping)
        server_fail(server, ERR_CANCELED, "driver");
    server->driver = NULL;
    give_up_calls(server, ERR_FENCED);
}

/* --- start --- */

static enum err make_raft(struct meta_server *server)
{
    const struct log_group *group = meta_log_group(server->log, server->options.group_id);
    if (group == NULL) {
        log_error("meta: the segments of the log are missing directory=%s/log; put them back",
                  server->directory);
        return FAIL(ERR_CORRUPT, "the log does not know group=%" PRIu64, server->options.group_id);
    }
    struct raft_config config = {
        .replica = server->options.replica_id,
        .group = server->options.group_id,
        .hard_state = group->hard_state,
        .log = {.compacted_index = group->compacted_index,
                .last_index = group->last_index,
                .compacted_term = group->compacted_term,
                .runs = group->runs,
                .run_count = group->run_count},
        .applied_index = server->applied,
        .memberships = group->memberships,
        .membership_count = group->membership_count,
        .seed = server->boot,
    };
    if (config.hard_state.commit < server->applied)
        config.hard_state.commit = server->applied;
    enum err err = raft_new(&config, &server->raft);
    if (err != OK)
        log_error("meta: log and store contradict each other directory=%s applied=%" PRIu64
                  " log=%" PRIu64 "..%" PRIu64,
                  server->directory, server->applied, group->compacted_index + 1,
                  group->last_index);
    return err;
}

static enum err wait_until_serving(struct io *io, struct meta_server *server)
{
    const struct raft_membership *membership = raft_membership_get(server->raft, NULL);
    if (membership->voter_count != 1 || membership->old_voter_count != 0)
        return server->failed ? ERR_FENCED : OK;
    while (!meta_server_ready(server)) {
        if (server->failed)
            return FAIL(ERR_FENCED, "replica stopped while it started");
        TRY(signal_wait(io, &server->changed, 0));
    }
    return OK;
}

static enum err start(struct io *io, struct meta_server *server)
{
    TRY(server_open(io, server));
    server->position = state_position(server->state);
    server->applied = server->committed = server->flushed = server->position.index;
    server->applied_term = 0; /* of this life: nothing yet */
    TRY(make_raft(server));
    TRY(fiber_group_spawn(io, &server->fibers, driver_fiber, server));
    TRY(fiber_group_spawn(io, &server->fibers, server_apply_fiber, server));
    TRY(fiber_group_spawn(io, &server->fibers, server_flush_fiber, server));
    return wait_until_serving(io, server);
}

static void init_lists(struct meta_server *server)
{
    list_init(&server->inbox);
    list_init(&server->waiting);
    list_init(&server->outstanding);
    list_init(&server->reads);
    list_init(&server->writes);
    list_init(&server->held);
    list_init(&server->received);
    signal_init(&server->changed);
    signal_init(&server->to_apply);
    signal_init(&server->to_flush);
    fiber_group_init(&server->fibers);
}

static void init_ports(struct io *io, struct meta_server *server)
{
    server->port_count = io_reactor_count(io);
    server->ports = mem_alloc_array(server->port_count, sizeof *server->ports);
    for (unsigned i = 0; i < server->port_count; i++) {
        struct server_port *port = &server->ports[i];
        *port = (struct server_port){.server = server, .io = io_reactor(io, i)};
        fiber_group_init(&port->running);
        list_init(&port->outgoing);
        list_init(&port->answers);
    }
}

static void register_metrics(struct meta_server *server)
{
    struct metrics *metrics = server->options.metrics;
    server->proposals_total = metrics_counter(metrics, "shale_meta_proposals_total", NULL,
                                              "Commands acknowledged by the metadata replica.");
    server->refused_total =
        metrics_counter(metrics, "shale_meta_proposals_failed_total", NULL,
                        "Commands that were refused or whose outcome is not known.");
    server->applied_total =
        metrics_counter(metrics, "shale_meta_applied_total", NULL, "Entries applied.");
    server->flushes_total =
        metrics_counter(metrics, "shale_meta_flushes_total", NULL, "Flushes of the state store.");
    server->applied_index = metrics_gauge(metrics, "shale_meta_applied_index", NULL,
                                          "Index of the last entry in the state store.");
    server->ready_gauge =
        metrics_gauge(metrics, "shale_meta_leader", NULL, "1 while this replica leads and serves.");
    server->log_bytes =
        metrics_gauge(metrics, "shale_meta_log_held_bytes", NULL, "Bytes held by the Raft log.");
    server->proposal_seconds =
        metrics_histogram(metrics, "shale_meta_proposal_seconds", NULL,
                          "Time from the arrival of a command to its acknowledgement.");
}

enum err meta_server_start_group(struct io *io, const struct meta_server_options *options,
                                 const struct meta_group_options *group,
                                 struct meta_server **out_server)
{
    assert(options->replica_id != 0);
    struct meta_server *server = mem_new(struct meta_server);
    server->options = *options;
    server->group = *group;
    server->home = io;
    server->directory = mem_format("%s", options->directory);
    if (server->options.flush_log_bytes == 0)
        server->options.flush_log_bytes = META_LOG_SEGMENT_BYTES;
    io_random(io, &server->boot, sizeof server->boot);
    init_lists(server);
    init_ports(io, server);
    register_metrics(server);
    enum err err = start(io, server);
    if (err != OK) {
        if (err != ERR_CANCELED)
            log_error("meta: the replica does not start directory=%s cause=%s", server->directory,
                      err_text(err));
        meta_server_stop(io, server);
        return err;
    }
    *out_server = server;
    return OK;
}

enum err meta_server_start(struct io *io, const struct meta_server_options *options,
                           struct meta_server **out_server)
{
    return meta_server_start_group(io, options, &(struct meta_group_options){0}, out_server);
}

/* --- stop --- */

/* On each reactor: no new calls ... */
static void close_port(struct io *io, void *argument)
{
    struct server_port *port = argument;
    (void)io; /* that of the port */
    port->closed = true;
}

/* ... and wait for those that run. */
static void wait_port(struct io *io, void *argument)
{
    struct server_port *port = argument;
    fiber_group_wait(io, &port->running);
}

/* Calls that wait longer than this get their answer now. */
static void drain_fiber(struct io *io, void *argument)
{
    struct meta_server *server = argument;
    uint64_t until_ns = io_now_ns(io) + DRAIN_NS;
    while (!server->stopping && !server->failed &&
           signal_wait(io, &server->changed, until_ns) == OK)
        ;
    if (!server->stopping)
        give_up_calls(server, ERR_TIMEOUT);
}

void meta_server_stop(struct io *io, struct meta_server *server)
{
    assert(io == server->home);
    for (unsigned i = 0; i < server->port_count; i++)
        io_call(io, server->ports[i].io, close_port, &server->ports[i]);
    if (fiber_group_spawn(io, &server->fibers, drain_fiber, server) != OK)
        give_up_calls(server, ERR_TIMEOUT); /* no fiber to wait with */
    for (unsigned i = 0; i < server->port_count; i++)
        io_call(io, server->ports[i].io, wait_port, &server->ports[i]);
    server->stopping = true;
    server_wake(server);
    signal_wake_all(io, &server->changed);
    signal_wake_all(io, &server->to_apply);
    signal_wake_all(io, &server->to_flush);
    fiber_group_wait(io, &server->fibers);
    if (!server->failed && server->raft != NULL && server_flush(io, server) != OK)
        log_warn("meta: the last flush failed; the next start replays more directory=%s",
                 server->directory);
    server_close(io, server);
}

bool meta_server_ready(const struct meta_server *server)
{
    return atomic_load_explicit(&server->ready, memory_order_acquire);
}

struct status_query {
    struct meta_server *server;
    struct meta_server_status *out;
};

static void read_status(struct io *io, void *argument)
{
    struct status_query *query = argument;
    struct meta_server *server = query->server;
    struct raft_status status;
    (void)io; /* it is the home */
    raft_status_get(server->raft, &status);
    *query->out = (struct meta_server_status){
        .term = status.term,
        .commit = status.commit_index,
        .applied = server->applied,
        .log_bytes = meta_log_bytes(server->log),
        .state_hash = server->position.hash,
        .leader = status.role == RAFT_LEADER,
        .fenced = server->failed,
    };
}

void meta_server_status(struct io *io, struct meta_server *server,
                        struct meta_server_status *out_status)
{
    struct status_query query = {.server = server, .out = out_status};
    io_call(io, server->home, read_status, &query);
}
