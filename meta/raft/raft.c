/* Life, inputs, terms and roles, and following a leader. */
#include "raft/raft.h"
#include "base/mem.h"
#include "core.h"
#include <assert.h>
#include <inttypes.h>

/* ---- life ---- */

static enum err positions_check(const struct raft_config *config)
{
    const struct raft_log_view *log = &config->log;
    uint64_t applied = config->applied_index;
    if (applied < log->compacted_index || applied > log->last_index)
        return FAIL(ERR_CORRUPT, "applied=%" PRIu64 " outside the log %" PRIu64 "..%" PRIu64,
                    applied, log->compacted_index, log->last_index);
    if (config->hard_state.commit > log->last_index)
        return FAIL(ERR_CORRUPT, "log ends below commit=%" PRIu64, config->hard_state.commit);
    return OK;
}

/* An installed snapshot proves that its term began; this replica cannot have voted in it. */
static void enter_term_of_snapshot(struct raft *raft, uint64_t term)
{
    if (term > raft->term)
        raft_become_follower(raft, term, 0);
}

enum err raft_new(const struct raft_config *config, struct raft **out_raft)
{
    assert(config->replica != 0);
    TRY(positions_check(config));
    struct raft_log log;
    TRY(raft_log_init(&log, config));
    struct raft *raft = mem_new(struct raft);
    const struct raft_hard_state *hard = &config->hard_state;
    *raft = (struct raft){
        .id = config->replica,
        .group = config->group,
        .uncommitted_bytes_max = config->uncommitted_bytes_max != 0 ? config->uncommitted_bytes_max
                                                                    : RAFT_UNCOMMITTED_BYTES_MAX,
        .cache_bytes_max =
            config->cache_bytes_max != 0 ? config->cache_bytes_max : RAFT_CACHE_BYTES_MAX,
        .term = hard->term,
        .vote = hard->vote,
        .log = log,
        .commit = hard->commit > config->applied_index ? hard->commit : config->applied_index,
        .applied = config->applied_index,
        .durable_index = config->log.last_index,
        .sequence_next = 1,
        .random = config->seed ^ (config->replica * 0x9e3779b97f4a7c15),
        .output = {.append_first = config->log.last_index + 1,
                   .committed_sent = config->applied_index},
    };
    raft_log_settle_memberships(&raft->log, raft->commit);
    enter_term_of_snapshot(raft, raft->log.compacted_term);
    raft_reset_election_timer(raft);
    *out_raft = raft;
    return OK;
}

void raft_free(struct raft *raft)
{
    if (raft == NULL)
        return;
    if (raft->role == RAFT_LEADER)
        raft_leave_leadership(raft);
    raft_output_deinit(raft);
    raft_log_deinit(&raft->log);
    mem_free(raft);
}

/* ---- roles and hard state ---- */

/* splitmix64 (Steele et al.): every seed gives a full-period sequence. */
static uint64_t random_next(struct raft *raft)
{
    uint64_t value = raft->random += 0x9e3779b97f4a7c15;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

void raft_reset_election_timer(struct raft *raft)
{
    raft->election_elapsed = 0;
    raft->election_timeout =
        RAFT_ELECTION_TICKS + (uint32_t)(random_next(raft) % (RAFT_ELECTION_TICKS + 1));
}

void raft_set_hard_state(struct raft *raft, uint64_t term, uint64_t vote)
{
    /* I2: the term never falls, and one vote a term. */
    assert(term >= raft->term);
    assert(term > raft->term || raft->vote == 0 || raft->vote == vote);
    if (term > raft->term) {
        raft->output.role_changed = true;
        raft->leader_commit = 0;
    }
    raft->term = term;
    raft->vote = vote;
    raft->output.hard_state_changed = true;
}

void raft_set_role(struct raft *raft, enum raft_role role, uint64_t leader)
{
    if (raft->role == role && raft->leader == leader)
        return;
    if (raft->role == RAFT_LEADER && role != RAFT_LEADER)
        raft_leave_leadership(raft);
    raft->role = role;
    raft->leader = leader;
    raft->output.role_changed = true;
}

void raft_become_follower(struct raft *raft, uint64_t term, uint64_t leader)
{
    raft_set_role(raft, RAFT_FOLLOWER, leader);
    if (term > raft->term)
        raft_set_hard_state(raft, term, 0);
    raft_reset_election_timer(raft);
}

void raft_set_commit(struct raft *raft, uint64_t commit)
{
    assert(commit <= raft->log.last_index);
    if (commit <= raft->commit)
        return;
    uint64_t first = raft->commit + 1;
    raft->commit = commit;
    raft_log_settle_memberships(&raft->log, commit);
    if (raft->role != RAFT_LEADER)
        return;
    for (uint64_t i = first > raft->term_first_index ? first : raft->term_first_index; i <= commit;
         i++)
        raft->uncommitted_bytes -= raft_entry_bytes(raft_log_entry(&raft->log, i));
    raft_leader_committed(raft);
}

void raft_trim_cache(struct raft *raft)
{
    struct raft_log *log = &raft->log;
    uint64_t done = raft->applied < raft->durable_index ? raft->applied : raft->durable_index;
    uint64_t unwanted = raft_replicated_everywhere(raft);
    while (log->cache_first <= done &&
           (log->cache_first <= unwanted || log->cache_bytes > raft->cache_bytes_max))
        raft_log_evict_first(log);
}

/* ---- time ---- */

void raft_tick(struct raft *raft)
{
    if (raft->role == RAFT_LEADER) {
        raft_leader_tick(raft);
        return;
    }
    if (raft->leader_silent_ticks < RAFT_ELECTION_TICKS)
        raft->leader_silent_ticks++;
    raft->election_elapsed++;
    if (raft_membership_sole(&raft_log_membership(&raft->log)->membership, raft->id)) {
        /* Nobody else can lead; a campaign that waits for its fsync is not begun again. */
        if (raft->role != RAFT_CANDIDATE)
            raft_campaign(raft, false);
    } else if (raft->election_elapsed >= raft->election_timeout) {
        raft_reset_election_timer(raft);
        raft_campaign(raft, false);
    }
}

/* ---- following ---- */

/* Highest index that this replica may acknowledge of those it holds. */
static uint64_t provable(const struct raft *raft, uint64_t index)
{
    if (raft->repair && index >= raft->first_unknown)
        return raft->first_unknown - 1;
    return index;
}

static void acknowledge(struct raft *raft, uint64_t index)
{
    uint64_t match = provable(raft, index);
    raft_send(raft, (struct raft_message){
                        .type = RAFT_APPEND_REPLY,
                        .to = raft->leader,
                        .index = match,
                        .repair = raft->repair,
                        .wait_sequence =
                            MUTANT(ACK_BEFORE_PERSIST) ? 0 : raft_wait_for_index(raft, match),
                    });
}

/* Tell the leader where this log may match: what is committed does, and beyond it no entry of a
 * term later than the leader's at that place (thesis §10.2.1, with the refinement of etcd). */
static void refuse(struct raft *raft, uint64_t index, uint64_t term)
{
    uint64_t hint = raft_log_find_conflict(&raft->log, index, term);
    hint = provable(raft, hint > raft->commit ? hint : raft->commit);
    uint64_t hint_term = 0;
    if (raft_log_term(&raft->log, hint, &hint_term) != OK)
        hint_term =
            raft->log.compacted_term; /* damage below the compacted end: only a snapshot helps */
    raft_send(raft, (struct raft_message){
                        .type = RAFT_APPEND_REPLY,
                        .to = raft->leader,
                        .reject = true,
                        .repair = raft->repair,
                        .index = index,
                        .hint_index = hint,
                        .hint_term = hint_term,
                    });
}

static void truncate_log(struct raft *raft, uint64_t first)
{
    assert(first > raft->commit);
    struct raft_pending_output *output = &raft->output;
    raft_log_truncate(&raft->log, first);
    if (raft->durable_index >= first)
        raft->durable_index = first - 1;
    output->membership_changed = true;
    if (first >= output->append_first)
        return; /* the owner never saw these entries */
    if (!MUTANT(STALE_TOKEN_ACCEPTED))
        raft->generation++;
    output->append_first = first;
    if (output->truncate_from == 0 || output->truncate_from > first)
        output->truncate_from = first;
}

/* Check what a peer sent before anything is changed. */
static enum err entries_check(const struct raft *raft, const struct raft_message *message)
{
    uint64_t term = message->log_term;
    uint32_t run_count = 0;
    if (message->index > UINT64_MAX / 2)
        return FAIL(ERR_CORRUPT, "append index=%" PRIu64, message->index);
    for (uint32_t i = 0; i < message->entry_count; i++) {
        const struct raft_entry *entry = &message->entries[i];
        if (entry->term < term || entry->term == 0 || entry->term > message->term)
            return FAIL(ERR_CORRUPT, "entry term=%" PRIu64 " index=%" PRIu64, entry->term,
                        message->index + 1 + i);
        run_count += entry->term != term;
        term = entry->term;
        struct raft_membership membership;
        if (entry->type == RAFT_MEMBERSHIP)
            TRY(raft_membership_decode(entry->payload, &membership));
    }
    if (raft->log.run_count + run_count > RAFT_TERM_RUNS_MAX)
        return FAIL(ERR_BUSY, "too many terms in the log count=%u", raft->log.run_count);
    return OK;
}

static bool memory_full(const struct raft *raft, uint64_t more_bytes)
{
    return raft->log.cache_first <= raft->log.last_index &&
           raft->log.cache_bytes + more_bytes > raft->cache_bytes_max + raft->uncommitted_bytes_max;
}

static enum err append_from(struct raft *raft, const struct raft_message *message, uint32_t from)
{
    uint64_t bytes = 0;
    for (uint32_t i = from; i < message->entry_count; i++)
        bytes += raft_entry_bytes(&message->entries[i]);
    if (memory_full(raft, bytes))
        return FAIL(ERR_BUSY, "unapplied entries bytes=%" PRIu64, raft->log.cache_bytes);
    if (message->index + 1 + from <= raft->log.last_index)
        truncate_log(raft, message->index + 1 + from);
    for (uint32_t i = from; i < message->entry_count; i++) {
        const struct raft_entry *entry = &message->entries[i];
        uint64_t index = message->index + 1 + i;
        if (entry->type == RAFT_MEMBERSHIP) {
            struct raft_membership membership;
            TRY(raft_membership_decode(entry->payload, &membership));
            TRY(raft_log_push_membership(&raft->log, index, &membership));
            raft->output.membership_changed = true;
        }
        void *payload =
            entry->payload.bytes == 0 ? NULL : mem_copy(entry->payload.data, entry->payload.bytes);
        raft_log_append(&raft->log, entry->term, entry->type, payload, entry->payload.bytes);
    }
    return OK;
}

/* Entries of the leader for places whose bytes are missing here while their term is known. */
static void take_repairs(struct raft *raft, const struct raft_message *message, uint32_t matching)
{
    struct raft_pending_output *output = &raft->output;
    if (!raft->repair || output->repair_count > 0 || message->index >= raft->first_unknown)
        return;
    uint32_t from = (uint32_t)(raft->first_unknown - message->index - 1);
    if (from >= matching)
        return;
    uint32_t count = matching - from;
    output->repairs = mem_alloc_array(count, sizeof *output->repairs);
    for (uint32_t i = 0; i < count; i++) {
        struct raft_entry entry = message->entries[from + i];
        if (entry.payload.bytes > 0)
            entry.payload.data = mem_copy(entry.payload.data, entry.payload.bytes);
        output->repairs[i] = entry;
    }
    output->repair_first = raft->first_unknown;
    output->repair_count = count;
}

static enum err receive_append(struct raft *raft, const struct raft_message *message)
{
    TRY(entries_check(raft, message));
    if (message->commit > raft->leader_commit)
        raft->leader_commit = message->commit;
    struct raft_log *log = &raft->log;
    if (message->index < log->compacted_index) {
        acknowledge(raft, raft->commit);
        return OK;
    }
    bool unproven = raft->repair && message->index >= raft->first_unknown;
    if (unproven || !raft_log_matches(log, message->index, message->log_term)) {
        refuse(raft, message->index, message->log_term);
        return OK;
    }
    uint32_t matching = 0;
    while (matching < message->entry_count && message->index + 1 + matching <= log->last_index &&
           (MUTANT(NO_TRUNCATION) ||
            raft_log_matches(log, message->index + 1 + matching, message->entries[matching].term)))
        matching++;
    take_repairs(raft, message, matching);
    uint64_t last = message->index + message->entry_count;
    if (matching < message->entry_count) {
        if (message->index + 1 + matching <= raft->commit)
            return FAIL(ERR_CORRUPT, "leader=%" PRIu64 " contradicts committed index=%" PRIu64,
                        message->from, message->index + 1 + matching);
        TRY(append_from(raft, message, matching));
    }
    raft_set_commit(raft, provable(raft, message->commit < last ? message->commit : last));
    acknowledge(raft, last);
    return OK;
}

static void receive_heartbeat(struct raft *raft, const struct raft_message *message)
{
    /* The leader sends no more than what this replica acknowledged in this term. */
    uint64_t commit =
        message->commit < raft->log.last_index ? message->commit : raft->log.last_index;
    raft_set_commit(raft, provable(raft, commit));
    uint64_t settled = raft->commit < raft->durable_index ? raft->commit : raft->durable_index;
    raft_send(raft, (struct raft_message){
                        .type = RAFT_HEARTBEAT_REPLY,
                        .to = message->from,
                        .round = message->round,
                        .commit = provable(raft, settled),
                        .repair = raft->repair,
                    });
    /* The leader may believe that this replica still holds what it lost. */
    if (raft->repair)
        refuse(raft, raft->first_unknown, raft->term);
}

/* ---- messages ---- */

static bool is_request_of_leader(const struct raft_message *message)
{
    return message->type == RAFT_APPEND || message->type == RAFT_HEARTBEAT ||
           message->type == RAFT_TIMEOUT_NOW;
}

static bool is_vote_request(const struct raft_message *message)
{
    return message->type == RAFT_VOTE || message->type == RAFT_PREVOTE;
}

/* Thesis §4.2.3: who hears a leader, or is one, keeps it; only that leader's own transfer
 * overrides. */
static bool sticky(const struct raft *raft)
{
    if (MUTANT(NO_STICKINESS))
        return false;
    return raft->role == RAFT_LEADER ||
           (raft->leader != 0 && raft->leader_silent_ticks < RAFT_ELECTION_TICKS);
}

/* A message of an earlier term: its sender must learn the current one, or it stays stuck (it may be
 * a leader that this replica, with its higher term, refuses to follow). */
static void answer_stale(struct raft *raft, const struct raft_message *message)
{
    struct raft_message reply = {.to = message->from, .reject = true};
    if (message->type == RAFT_APPEND || message->type == RAFT_HEARTBEAT)
        reply.type = RAFT_APPEND_REPLY;
    else if (message->type == RAFT_PREVOTE)
        reply.type = RAFT_PREVOTE_REPLY;
    else if (message->type == RAFT_VOTE)
        reply.type = RAFT_VOTE_REPLY;
    else
        return;
    raft_send(raft, reply);
}

static enum err follow(struct raft *raft, const struct raft_message *message)
{
    if (raft->role == RAFT_LEADER)
        return FAIL(ERR_CORRUPT, "two leaders in term=%" PRIu64 " other=%" PRIu64, raft->term,
                    message->from);
    if (raft->leader != 0 && raft->leader != message->from)
        return FAIL(ERR_CORRUPT, "two leaders in term=%" PRIu64 " %" PRIu64 " and %" PRIu64,
                    raft->term, raft->leader, message->from);
    raft_become_follower(raft, raft->term, message->from);
    raft->leader_silent_ticks = 0;
    return OK;
}

static enum err dispatch(struct raft *raft, const struct raft_message *message)
{
    if (is_request_of_leader(message))
        TRY(follow(raft, message));
    switch (message->type) {
    case RAFT_PREVOTE:
    case RAFT_VOTE:
        raft_receive_vote(raft, message);
        return OK;
    case RAFT_PREVOTE_REPLY:
    case RAFT_VOTE_REPLY:
        raft_receive_vote_reply(raft, message);
        return OK;
    case RAFT_APPEND:
        return receive_append(raft, message);
    case RAFT_HEARTBEAT:
        receive_heartbeat(raft, message);
        return OK;
    case RAFT_APPEND_REPLY:
        raft_receive_append_reply(raft, message);
        return OK;
    case RAFT_HEARTBEAT_REPLY:
        raft_receive_heartbeat_reply(raft, message);
        return OK;
    case RAFT_TIMEOUT_NOW:
        raft_campaign(raft, true);
        return OK;
    }
    return FAIL(ERR_INVALID, "message type=%d", (int)message->type);
}

enum err raft_receive(struct raft *raft, const struct raft_message *message)
{
    if (message->group != raft->group || message->to != raft->id)
        return FAIL(ERR_MISMATCH, "message for group=%" PRIu64 " replica=%" PRIu64, message->group,
                    message->to);
    if (message->from == 0 || message->from == raft->id)
        return FAIL(ERR_MISMATCH, "message from=%" PRIu64, message->from);
    if (message->term < raft->term) {
        answer_stale(raft, message);
        return OK;
    }
    if (message->term > raft->term) {
        if (is_vote_request(message) && !message->transfer && sticky(raft))
            return OK;
        /* PreVote and a granted answer to it carry a term that nobody entered yet. */
        bool future = message->type == RAFT_PREVOTE ||
                      (message->type == RAFT_PREVOTE_REPLY && !message->reject);
        if (!future)
            raft_become_follower(raft, message->term, 0);
    }
    return dispatch(raft, message);
}

/* ---- the owner's answers ---- */

void raft_persisted(struct raft *raft, const struct raft_token *token)
{
    assert(token->sequence < raft->sequence_next);
    if (token->sequence <= raft->sequence_durable)
        return;
    raft->sequence_durable = token->sequence;
    if (token->generation == raft->generation && token->last_index > raft->durable_index)
        raft->durable_index = token->last_index;
    if (!MUTANT(STALE_TOKEN_ACCEPTED))
        assert(raft->durable_index < raft->output.append_first);
    if (raft->role == RAFT_CANDIDATE)
        raft_count_own_vote(raft);
    else if (raft->role == RAFT_LEADER)
        raft_leader_persisted(raft);
    raft_trim_cache(raft);
}

void raft_applied(struct raft *raft, uint64_t index)
{
    assert(index <= raft->output.committed_sent);
    if (index <= raft->applied)
        return;
    raft->applied = index;
    raft_trim_cache(raft);
}

void raft_compacted(struct raft *raft, uint64_t index)
{
    assert(index <= raft->applied);
    assert(index <= raft->durable_index);
    if (index > raft->log.compacted_index)
        raft_log_compact(&raft->log, index);
}

void raft_set_snapshot_pending(struct raft *raft, bool pending)
{
    raft->snapshot_pending = pending;
}

enum err raft_snapshot_installed(struct raft *raft, uint64_t index, uint64_t term,
                                 const struct raft_membership *membership)
{
    assert(raft_membership_valid(membership));
    raft->snapshot_pending = false;
    if (raft->role == RAFT_LEADER || index <= raft->commit)
        return FAIL(ERR_STALE, "snapshot index=%" PRIu64 " commit=%" PRIu64, index, raft->commit);
    enter_term_of_snapshot(raft, term);
    struct raft_pending_output *output = &raft->output;
    if (MUTANT(SNAPSHOT_RESETS_VOTE))
        raft->vote = 0;
    if (raft_log_matches(&raft->log, index, term)) {
        raft_log_compact(&raft->log, index);
        if (output->truncate_from != 0 && output->truncate_from <= index)
            output->truncate_from = index + 1;
    } else {
        raft_log_reset(&raft->log, index, term);
        raft->generation++;
        raft->durable_index = index;
        output->truncate_from = index + 1;
        raft->log.membership_count = 1;
    }
    if (raft->durable_index < index)
        raft->durable_index = index;
    if (output->append_first <= index || output->append_first > raft->log.last_index + 1)
        output->append_first = index + 1;
    raft_log_rebase_memberships(&raft->log, index, membership);
    raft->commit = raft->applied = output->committed_sent = index;
    output->membership_changed = true;
    if (raft->leader != 0)
        acknowledge(raft, index);
    return OK;
}

void raft_set_repair(struct raft *raft, bool repair, uint64_t first_unknown)
{
    assert(!repair || first_unknown > 0);
    assert(raft->role != RAFT_LEADER);
    raft->repair = repair;
    raft->first_unknown = repair ? first_unknown : 0;
    if (!repair)
        return;
    if (raft->role != RAFT_FOLLOWER)
        raft_become_follower(raft, raft->term, 0);
    if (raft->leader != 0)
        refuse(raft, first_unknown, raft->term); /* asks the leader for the gap at once */
}

/* ---- state ---- */

enum err raft_entry_get(const struct raft *raft, uint64_t index, struct raft_entry *out_entry)
{
    uint64_t term = 0;
    TRY(raft_log_term(&raft->log, index, &term));
    if (index == raft->log.compacted_index)
        return ERR_COMPACTED;
    if (!raft_log_cached(&raft->log, index))
        return ERR_WOULD_BLOCK;
    *out_entry = *raft_log_entry(&raft->log, index);
    assert(out_entry->term == term);
    return OK;
}

enum err raft_term_get(const struct raft *raft, uint64_t index, uint64_t *out_term)
{
    return raft_log_term(&raft->log, index, out_term);
}

uint64_t raft_leader(const struct raft *raft)
{
    return raft->leader;
}

const struct raft_membership *raft_membership_get(const struct raft *raft, uint64_t *out_index)
{
    const struct raft_membership_at *at = raft_log_membership(&raft->log);
    if (out_index != NULL)
        *out_index = at->index;
    return &at->membership;
}

void raft_status_get(const struct raft *raft, struct raft_status *out_status)
{
    *out_status = (struct raft_status){
        .role = raft->role,
        .term = raft->term,
        .vote = raft->vote,
        .leader = raft->leader,
        .compacted_index = raft->log.compacted_index,
        .last_index = raft->log.last_index,
        .durable_index = raft->durable_index,
        .commit_index = raft->commit,
        .leader_commit_index = raft->leader_commit,
        .applied_index = raft->applied,
        .uncommitted_bytes = raft->uncommitted_bytes,
        .cached_bytes = raft->log.cache_bytes,
        .messages_dropped = raft->messages_dropped,
    };
}
