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
    uint64_t hash_index; /* 0: none of those that are compared */
    uint64_t hash;
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
        if (job->err == OK && (job->first_index + i) % GROUP_HASH_EVERY == 0) {
            job->hash_index = job->first_index + i;
            job->hash = state_position(job->state).hash;
        }
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
    struct meta_group *group;
    struct list calls;
};

static void confirm_fiber(struct io *io, void *argument)
{
    struct confirmation *confirmation = argument;
    struct meta_group *group = confirmation->group;
    enum err err = group->confirm(io, group->context);
    struct list_node *node = NULL;
    while ((node = list_pop_front(&confirmation->calls)) != NULL)
        group_answer(group, CONTAINER_OF(node, struct call, node),
                     err == OK ? OK : ERR_OUTCOME_UNKNOWN);
    group_send_answers(group);
    mem_free(confirmation);
}

/* Acknowledge after the incarnation was confirmed. The round began after the requests arrived. */
static void acknowledge(struct io *io, struct meta_group *group, struct list *calls)
{
    struct list_node *node = NULL;
    if (group->confirm == NULL) {
        while ((node = list_pop_front(calls)) != NULL)
            group_answer(group, CONTAINER_OF(node, struct call, node), OK);
        return;
    }
    if (list_empty(calls))
        return;
    struct confirmation *confirmation = mem_new(struct confirmation);
    confirmation->group = group;
    list_init(&confirmation->calls);
    while ((node = list_pop_front(calls)) != NULL)
        list_push_back(&confirmation->calls, node);
    if (fiber_group_spawn(io, &group->fibers, confirm_fiber, confirmation) == OK)
        return;
    while ((node = list_pop_front(&confirmation->calls)) != NULL)
        group_answer(group, CONTAINER_OF(node, struct call, node), ERR_OUTCOME_UNKNOWN);
    mem_free(confirmation);
}

static void take_out(struct meta_group *group, struct proposal *proposal)
{
    list_remove(&group->outstanding, &proposal->call.node);
    group->outstanding_bytes -= proposal->command.bytes;
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

static void settle_all(struct io *io, struct meta_group *group, const struct apply_job *job)
{
    struct list done;
    list_init(&done);
    LIST_EACH(struct call, call, &group->outstanding, node)
    {
        struct proposal *proposal = proposal_of(call);
        switch (fate_of(job, proposal)) {
        case FATE_OPEN:
            break;
        case FATE_APPLIED:
            take_out(group, proposal);
            group_settle(group, proposal,
                         result_of(job, (uint32_t)(proposal->index - job->first_index)), &done);
            break;
        case FATE_VOID:
            take_out(group, proposal);
            group_repeat(group, proposal);
            break;
        }
    }
    if (group->session_opening && fate_of(job, &group->opening) != FATE_OPEN) {
        bool applied = fate_of(job, &group->opening) == FATE_APPLIED;
        uint32_t i = (uint32_t)(group->opening.index - job->first_index);
        group_session_opened(group, applied ? result_of(job, i) : slice_of(NULL, 0));
    }
    acknowledge(io, group, &done);
}

static void answer_reads(struct meta_server *server)
{
    LIST_EACH(struct call, call, &server->reads, node)
    {
        if (read_of(call)->index == 0 || read_of(call)->index > server->applied)
            continue;
        list_remove(&server->reads, &call->node);
        group_answer(server->group, call, OK);
    }
}

/* --- the apply fiber --- */

/* A replica that led gave reads a state that was current. It must not run ahead of what the next
 * leader has applied while one of them may still look at it: a later read, there, would go back in
 * time. It cannot serve again meanwhile, since that needs the apply of a no-op. */
static void wait_for_readers(struct io *io, struct meta_server *server)
{
    if (!server->led || server->role == RAFT_LEADER)
        return;
    group_wait_readers(io, server->group, server);
    if (server->role != RAFT_LEADER)
        server->led = false;
}

static enum err apply_next(struct io *io, struct meta_server *server, struct apply_job *job,
                           struct meta_log_entries *loaded)
{
    struct meta_group *group = server->group;
    job->state = server->state;
    job->err = OK;
    job->hash_index = 0;
    bytes_clear(&job->results);
    wait_for_readers(io, server);
    TRY(collect(io, server, job, loaded));
    TRY(lane_run(io, server->apply_lane, apply_on_lane, job));
    TRY(job->err);
    for (uint32_t i = 0; i < job->count; i++)
        server->unflushed_bytes += ENTRY_LOG_BYTES + job->entries[i].entry.payload.bytes;
    server->applied = job->first_index + job->count - 1;
    server->applied_term = job->entries[job->count - 1].entry.term;
    server->position = job->position;
    counter_add(server->applied_total, job->count);
    /* Published before anything is acknowledged: a read that begins later sees it. Only the replica
     * that reads go to answers proposals. */
    group_update(group);
    if (group->leader == server) {
        gauge_set(server->applied_index, (int64_t)server->applied);
        gauge_set(server->log_bytes, (int64_t)meta_log_bytes(server->log));
        settle_all(io, group, job);
    }
    answer_reads(server);
    group_send_answers(group);
    if (!server->reads_only)
        raft_applied(server->raft, server->applied);
    server_wake(server);
    if (job->hash_index != 0)
        group_note_hash(group, server, job->hash_index, job->hash);
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

/* Entries stay for a copy that is made, and within a bound for members that lack them: whoever
 * falls behind the cut has to be made anew, which needs a quorum without it. */
static uint64_t cut_index(const struct meta_server *server)
{
    uint64_t index = server->flushed;
    uint64_t retained = group_retained(server->group);
    if (retained < index)
        index = retained;
    if (meta_log_bytes(server->log) < server->seams.lag_log_bytes_max) {
        uint64_t slowest = group_slowest(server->group);
        index = slowest < index ? slowest : index;
    }
    return index;
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
    TRY(meta_log_cut(io, server->log, server->options.group_id, cut_index(server),
                     server->seams.retain_log_bytes));
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
        if (server->stopping || server->failed || err == ERR_CANCELED)
            return;
        err = server_flush(io, server);
        if (err != OK) {
            server_fail(server, err, "flush");
            return;
        }
    }
}
