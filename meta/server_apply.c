/* Committed entries into the state store, answers to their proposers, flushes, and the cut of
 * the log behind them. */
#include "base/log.h"
#include "base/mem.h"
#include "server_core.h"
#include <assert.h>
#include <inttypes.h>

enum {
    ENTRY_LOG_BYTES = LOG_RECORD_HEADER_BYTES, /* charged for each entry on top of its payload */
};
#define FOREVER_NS UINT64_MAX

/* --- one job of the apply lane --- */

struct apply_entry {
    struct raft_entry entry;
    size_t result_end; /* in the job's results */
};
struct apply_job {
    struct state *state;
    uint64_t first_index;
    uint32_t count;
    struct apply_entry entries[SERVER_APPLY_ENTRIES_MAX];
    struct bytes results;
    struct state_position position;
    enum err err;
};

static enum err apply_one(struct lane *lane, struct apply_job *job, uint32_t i)
{
    const struct raft_entry *entry = &job->entries[i].entry;
    uint64_t index = job->first_index + i;
    switch (entry->type) {
    case RAFT_COMMAND:
        return state_apply(lane, job->state, index, entry->term, entry->payload, &job->results);
    case RAFT_NOOP:
        return state_apply_other(lane, job->state, index, entry->term, NULL);
    case RAFT_MEMBERSHIP:
        return state_apply_other(lane, job->state, index, entry->term, &entry->payload);
    }
    return FAIL(ERR_UNSUPPORTED, "entry type=%d", (int)entry->type);
}

static void apply_on_lane(struct lane *lane, void *argument)
{
    struct apply_job *job = argument;
    for (uint32_t i = 0; i < job->count && job->err == OK; i++) {
        job->err = apply_one(lane, job, i);
        job->entries[i].result_end = job->results.bytes;
    }
    job->position = state_position(job->state);
}

/* Entries to apply next: from raft's memory, where they stay until applied, or else from the
 * log into `loaded`. */
static enum err collect(struct io *io, struct meta_server *server, struct apply_job *job,
                        struct meta_log_entries *loaded)
{
    size_t bytes = 0;
    job->first_index = server->applied + 1;
    job->count = 0;
    for (uint64_t index = job->first_index;
         index <= server->committed && job->count < SERVER_APPLY_ENTRIES_MAX &&
         bytes < SERVER_APPLY_BYTES_MAX;
         index++) {
        struct raft_entry entry;
        enum err err = raft_entry_get(server->raft, index, &entry);
        if (err == ERR_WOULD_BLOCK)
            break;
        TRY(err);
        job->entries[job->count++].entry = entry;
        bytes += entry.payload.bytes;
    }
    if (job->count > 0)
        return OK;
    uint64_t last = job->first_index + SERVER_APPLY_ENTRIES_MAX - 1;
    TRY(meta_log_read(io, server->log, server->options.group_id, job->first_index,
                      last < server->committed ? last : server->committed, SERVER_APPLY_BYTES_MAX,
                      loaded));
    for (; job->count < loaded->count; job->count++)
        job->entries[job->count].entry = loaded->entries[job->count];
    return OK;
}

/* --- answers --- */

struct confirmation {
    struct meta_server *server;
    struct list calls;
};

static void confirm_fiber(struct io *io, void *argument)
{
    struct confirmation *confirmation = argument;
    struct meta_server *server = confirmation->server;
    enum err err = server->group.confirm(io, server->group.context);
    struct list_node *node = NULL;
    while ((node = list_pop_front(&confirmation->calls)) != NULL)
        server_answer(server, CONTAINER_OF(node, struct call, node),
                      err == OK ? OK : ERR_OUTCOME_UNKNOWN);
    server_send_answers(server);
    mem_free(confirmation);
}

/* Acknowledge after the incarnation was confirmed. The round began after the requests arrived. */
static void acknowledge(struct io *io, struct meta_server *server, struct list *calls)
{
    struct list_node *node = NULL;
    if (server->group.confirm == NULL) {
        while ((node = list_pop_front(calls)) != NULL)
            server_answer(server, CONTAINER_OF(node, struct call, node), OK);
        return;
    }
    if (list_empty(calls))
        return;
    struct confirmation *confirmation = mem_new(struct confirmation);
    confirmation->server = server;
    list_init(&confirmation->calls);
    while ((node = list_pop_front(calls)) != NULL)
        list_push_back(&confirmation->calls, node);
    if (fiber_group_spawn(io, &server->fibers, confirm_fiber, confirmation) == OK)
        return;
    while ((node = list_pop_front(&confirmation->calls)) != NULL)
        server_answer(server, CONTAINER_OF(node, struct call, node), ERR_OUTCOME_UNKNOWN);
    mem_free(confirmation);
}

static void take_out(struct meta_server *server, struct proposal *proposal)
{
    list_remove(&server->outstanding, &proposal->call.node);
    server->outstanding_bytes -= proposal->command.bytes;
}

/* The entry of a proposal was applied. */
static void settle(struct meta_server *server, struct proposal *proposal, struct slice result,
                   struct list *done)
{
    struct result decoded;
    take_out(server, proposal);
    if (result_decode(result, &decoded) != OK) {
        server_answer(server, &proposal->call, ERR_OUTCOME_UNKNOWN);
    } else if (decoded.outcome == RESULT_SESSION_CLOSED) {
        if (proposal->session == server->session)
            server->session = 0;
        server_repeat(server, proposal);
    } else {
        bytes_append(proposal->result, result);
        list_push_back(done, &proposal->call.node);
    }
}

static struct slice result_of(const struct apply_job *job, uint32_t i)
{
    size_t from = i == 0 ? 0 : job->entries[i - 1].result_end;
    return slice_of(job->results.data + from, job->entries[i].result_end - from);
}

enum fate { FATE_OPEN, FATE_APPLIED, FATE_VOID };

/* Terms never fall along the log, so behind an applied entry of a later term there is no place
 * for the proposal any more. */
static enum fate fate_of(const struct apply_job *job, const struct proposal *proposal)
{
    if (proposal->index >= job->first_index && proposal->index < job->first_index + job->count) {
        uint64_t term = job->entries[proposal->index - job->first_index].entry.term;
        return term == proposal->term ? FATE_APPLIED : FATE_VOID;
    }
    uint64_t newest = job->entries[job->count - 1].entry.term;
    return newest > proposal->term ? FATE_VOID : FATE_OPEN;
}

static void settle_all(struct io *io, struct meta_server *server, const struct apply_job *job)
{
    struct list done;
    list_init(&done);
    LIST_EACH(struct call, call, &server->outstanding, node)
    {
        struct proposal *proposal = proposal_of(call);
        switch (fate_of(job, proposal)) {
        case FATE_OPEN:
            break;
        case FATE_APPLIED:
            settle(server, proposal, result_of(job, (uint32_t)(proposal->index - job->first_index)),
                   &done);
            break;
        case FATE_VOID:
            take_out(server, proposal);
            server_repeat(server, proposal);
            break;
        }
    }
    if (server->session_opening && fate_of(job, &server->opening) != FATE_OPEN) {
        bool applied = fate_of(job, &server->opening) == FATE_APPLIED;
        uint32_t i = (uint32_t)(server->opening.index - job->first_index);
        server_session_opened(server, applied ? result_of(job, i) : slice_of(NULL, 0));
    }
    acknowledge(io, server, &done);
}

static void answer_reads(struct meta_server *server)
{
    LIST_EACH(struct call, call, &server->reads, node)
    {
        if (read_of(call)->index == 0 || read_of(call)->index > server->applied)
            continue;
        list_remove(&server->reads, &call->node);
        server_answer(server, call, OK);
    }
}

/* --- the apply fiber --- */

static enum err apply_next(struct io *io, struct meta_server *server, struct apply_job *job,
                           struct meta_log_entries *loaded)
{
    job->state = server->state;
    job->err = OK;
    bytes_clear(&job->results);
    TRY(collect(io, server, job, loaded));
    TRY(lane_run(io, server->apply_lane, apply_on_lane, job));
    TRY(job->err);
    for (uint32_t i = 0; i < job->count; i++)
        server->unflushed_bytes += ENTRY_LOG_BYTES + job->entries[i].entry.payload.bytes;
    server->applied = job->first_index + job->count - 1;
    server->applied_term = job->entries[job->count - 1].entry.term;
    server->position = job->position;
    counter_add(server->applied_total, job->count);
    gauge_set(server->applied_index, (int64_t)server->applied);
    gauge_set(server->log_bytes, (int64_t)meta_log_bytes(server->log));
    /* Published before anything is acknowledged: a read that begins later sees it. */
    server_publish(server);
    settle_all(io, server, job);
    answer_reads(server);
    server_send_answers(server);
    raft_applied(server->raft, server->applied);
    server_wake(server);
    if (server->unflushed_bytes >= server->options.flush_log_bytes)
        signal_wake_all(io, &server->to_flush);
    return OK;
}

void server_apply_fiber(struct io *io, void *argument)
{
    struct meta_server *server = argument;
    struct apply_job *job = mem_new(struct apply_job);
    struct meta_log_entries loaded = {0};
    job->results.max = (size_t)SERVER_APPLY_ENTRIES_MAX * RESULT_BYTES_MAX;
    while (!server->stopping && !server->failed) {
        enum err err = OK;
        if (server->applied < server->committed)
            err = apply_next(io, server, job, &loaded);
        else
            err = signal_wait(io, &server->to_apply, FOREVER_NS);
        if (err != OK) {
            server_fail(server, err, "apply");
            break;
        }
    }
    bytes_deinit(&job->results);
    meta_log_entries_deinit(&loaded);
    mem_free(job);
}

/* --- flush and cut --- */

struct flush_job {
    struct kv *kv;
    enum err err;
};

static void flush_on_lane(struct lane *lane, void *argument)
{
    struct flush_job *job = argument;
    job->err = kv_flush(lane, job->kv);
}

enum err server_flush(struct io *io, struct meta_server *server)
{
    uint64_t index = server->applied;
    uint64_t bytes = server->unflushed_bytes;
    if (index > server->flushed) {
        struct flush_job job = {.kv = server->kv};
        TRY(lane_run(io, server->flush_lane, flush_on_lane, &job));
        TRY(job.err);
        counter_add(server->flushes_total, 1);
        server->flushed = index;
        server->unflushed_bytes -= bytes;
    }
    TRY(meta_log_cut(io, server->log, server->options.group_id, server->flushed,
                     server->group.retain_log_bytes));
    server->compact_to = meta_log_group(server->log, server->options.group_id)->compacted_index;
    server_wake(server);
    return OK;
}

void server_flush_fiber(struct io *io, void *argument)
{
    struct meta_server *server = argument;
    while (!server->stopping && !server->failed) {
        uint64_t due_ns = io_now_ns(io) + SERVER_FLUSH_S * IO_NS_PER_S;
        enum err err = signal_wait(io, &server->to_flush, due_ns);
        if (server->stopping || err == ERR_CANCELED)
            return;
        err = server_flush(io, server);
        if (err != OK) {
            server_fail(server, err, "flush");
            return;
        }
    }
}
