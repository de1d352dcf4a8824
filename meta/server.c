/* The driver of one replica, its session, and its start and stop. */
#include "base/log.h"
#include "base/mem.h"
#include "server_core.h"
#include <assert.h>
#include <inttypes.h>

enum { TICKS_LATE_MAX = 4 }; /* more are forgotten: the process stood still */
#define FOREVER_NS UINT64_MAX

void server_wake(struct meta_server *server)
{
    if (server->driver != NULL)
        io_wake(server->home, server->driver);
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
    group_update(server->group);
    if (server->role == RAFT_LEADER && server->group->reconciler != NULL)
        group_hurry(server->group);
    group_reconcile_wake(server->group);
    signal_wake_all(server->home, &server->to_apply);
    signal_wake_all(server->home, &server->to_flush);
    server_wake(server);
}

/* --- entries --- */

enum err server_propose_entry(struct meta_server *server, const struct entry_header *header,
                              struct slice command, uint64_t *out_index, uint64_t *out_term)
{
    AUTO_VALUE(bytes) encoded = {.max = LOG_BLOCK_BYTES};
    entry_header_encode(&encoded, header);
    struct slice slices[2] = {bytes_slice(&encoded), command};
    return raft_propose(server->raft, slices, 2, out_index, out_term);
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
    AUTO_VALUE(bytes) encoded = {.max = LOG_BLOCK_BYTES};
    struct entry_header header = {.wall_ms = wall_ms};
    if (command_encode(&encoded, &command) == OK)
        (void)server_propose_entry(server, &header, bytes_slice(&encoded), &index,
                                   &term); /* the next one comes in 5 s */
}

/* --- inputs --- */

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
    group_expire(server->group, now_ns);
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
        server->led |= output->role == RAFT_LEADER;
        log_info("meta: replica=%016" PRIx64 " term=%" PRIu64 " leader=%016" PRIx64 "%s",
                 server->options.replica_id, output->term, output->leader,
                 output->role == RAFT_LEADER ? " (this one)" : "");
    }
    if (output->role_changed || output->membership_changed)
        group_update(server->group);
}

static void act_reads(struct meta_server *server, const struct raft_output *output)
{
    struct meta_group *group = server->group;
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
        if (due)
            group_answer(group, call, OK);
        else
            list_push_back(&group->inbox, &call->node);
    }
    group_wake(group);
}

/* The role comes first: what other reactors may rely on is withdrawn before a vote can leave. */
static enum err act(struct meta_server *server)
{
    while (raft_has_output(server->raft)) {
        struct raft_output output;
        raft_take_output(server->raft, &output);
        TRY(act_write(server, &output));
        act_role(server, &output);
        server_send_messages(server, &output);
        server_load(server, &output);
        if (output.committed_last >= output.committed_first &&
            output.committed_last > server->committed) {
            server->committed = output.committed_last;
            signal_wake_all(server->home, &server->to_apply);
        }
        act_reads(server, &output);
    }
    return OK;
}

/* --- the driver --- */

static void step(struct meta_server *server)
{
    struct meta_group *group = server->group;
    if (server->failed) {
        group_expire(group, io_now_ns(server->home));
        return;
    }
    take_durable(server);
    take_compacted(server);
    server_receive_messages(server);
    take_ticks(server);
    if (server->failed)
        return;
    group_take_calls(group, server);
    enum err err = act(server); /* so that a change of role is known */
    if (err == OK) {
        group_propose_waiting(group, server);
        err = act(server);
    }
    if (err != OK)
        server_fail(server, err, "log");
    group_send_answers(group);
}

/* A replica that only reads: everything in its log, committed or not. */
static void step_reading(struct io *io, struct meta_server *server)
{
    group_update(server->group);
    group_expire(server->group, io_now_ns(io));
    server->tick_next_ns = io_now_ns(io) + SERVER_TICK_MS * IO_NS_PER_MS;
}

static void driver_fiber(struct io *io, void *argument)
{
    struct meta_server *server = argument;
    server->driver = io_self(io);
    server->tick_next_ns = io_now_ns(io);
    while (!server->stopping) {
        if (server->reads_only && !server->failed)
            step_reading(io, server);
        else
            step(server);
        uint64_t next_ns = server->failed ? FOREVER_NS : server->tick_next_ns;
        if (io_park(io, next_ns) == ERR_CANCELED)
            break;
    }
    if (!server->stopping)
        server_fail(server, ERR_CANCELED, "driver");
    server->driver = NULL;
    group_update(server->group);
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
        TRY(signal_wait(io, &server->group->changed, 0));
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
    if (server->seams.reads_only) {
        server->reads_only = true;
        server->committed = meta_log_group(server->log, server->options.group_id)->last_index;
    }
    group_attach(server->group, server);
    TRY(fiber_group_spawn(io, &server->fibers, driver_fiber, server));
    TRY(fiber_group_spawn(io, &server->fibers, server_apply_fiber, server));
    return server->reads_only ? OK
                              : fiber_group_spawn(io, &server->fibers, server_flush_fiber, server);
}

static void init_parts(struct io *io, struct meta_server *server)
{
    list_init(&server->reads);
    list_init(&server->writes);
    list_init(&server->held);
    list_init(&server->received);
    signal_init(&server->to_apply);
    signal_init(&server->to_flush);
    fiber_group_init(&server->fibers);
    unsigned reactors = io_reactor_count(io);
    server->readers = mem_alloc_array(reactors, sizeof *server->readers);
    for (unsigned i = 0; i < reactors; i++)
        fiber_group_init(&server->readers[i]);
}

static void register_metrics(struct meta_server *server)
{
    struct metrics *metrics = server->options.metrics;
    server->applied_total = metrics_counter(metrics, "shale_meta_applied_total", NULL,
                                            "Entries applied, by all "
                                            "replicas together.");
    server->flushes_total =
        metrics_counter(metrics, "shale_meta_flushes_total", NULL, "Flushes of state stores.");
    server->applied_index =
        metrics_gauge(metrics, "shale_meta_applied_index", NULL,
                      "Index of the last entry in the state store of the leader.");
    server->log_bytes = metrics_gauge(metrics, "shale_meta_log_held_bytes", NULL,
                                      "Bytes held by the Raft log of the leader.");
}

enum err server_start_in(struct io *io, const struct meta_server_options *options,
                         const struct server_seams *seams, struct meta_group *group,
                         struct meta_server **out_server)
{
    assert(options->replica_id != 0);
    struct meta_server *server = mem_new(struct meta_server);
    server->options = *options;
    server->seams = *seams;
    server->group = group;
    server->home = io;
    server->directory = mem_format("%s", options->directory);
    if (server->options.flush_log_bytes == 0)
        server->options.flush_log_bytes = META_LOG_SEGMENT_BYTES;
    io_random(io, &server->boot, sizeof server->boot);
    init_parts(io, server);
    register_metrics(server);
    enum err err = start(io, server);
    if (err != OK) {
        if (err != ERR_CANCELED)
            log_error("meta: the replica does not start directory=%s cause=%s", server->directory,
                      err_text(err));
        group_detach(group, server);
        server_stop_replica(io, server);
        return err;
    }
    *out_server = server;
    return OK;
}

static void free_own_group(struct meta_group *group)
{
    group_deinit(group);
    mem_free(group);
}

enum err meta_server_start_group(struct io *io, const struct meta_server_options *options,
                                 const struct server_seams *seams, struct meta_server **out_server)
{
    struct meta_group *group = mem_new(struct meta_group);
    group_init(io, group, options->metrics);
    group->confirm = seams->confirm;
    group->context = seams->context;
    struct meta_server *server = NULL;
    enum err err = server_start_in(io, options, seams, group, &server);
    if (err != OK) {
        free_own_group(group);
        return err;
    }
    server->owns_group = true;
    err = wait_until_serving(io, server);
    if (err != OK) {
        meta_server_stop(io, server);
        return err;
    }
    *out_server = server;
    return OK;
}

enum err meta_server_start(struct io *io, const struct meta_server_options *options,
                           struct meta_server **out_server)
{
    return meta_server_start_group(io, options, &(struct server_seams){0}, out_server);
}

struct meta_group *meta_server_group(struct meta_server *server)
{
    return server->group;
}

/* --- stop --- */

void server_stop_replica(struct io *io, struct meta_server *server)
{
    server->stopping = true;
    server_wake(server);
    signal_wake_all(io, &server->to_apply);
    signal_wake_all(io, &server->to_flush);
    fiber_group_wait(io, &server->fibers);
    if (!server->failed && !server->reads_only && server->raft != NULL &&
        server_flush(io, server) != OK)
        log_warn("meta: the last flush failed; the next start replays more directory=%s",
                 server->directory);
    server_close(io, server);
}

void meta_server_stop(struct io *io, struct meta_server *server)
{
    struct meta_group *group = server->group;
    assert(io == server->home);
    assert(server->owns_group);
    group_end_calls(io, group);
    group_detach(group, server);
    server_stop_replica(io, server);
    free_own_group(group);
}

bool meta_server_ready(const struct meta_server *server)
{
    return atomic_load(&server->group->ready);
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
