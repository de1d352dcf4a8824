/* Leading: progress of followers (thesis §10.2), commit, read rounds, changes, transfer. */
#include "base/bytes.h"
#include "base/mem.h"
#include "core.h"
#include <assert.h>
#include <inttypes.h>

enum { MEMBERSHIP_ENCODED_MAX = 512 };

static const struct raft_membership *membership_of(const struct raft *raft)
{
    return &raft_log_membership(&raft->log)->membership;
}

struct raft_peer *raft_peer_find(const struct raft *raft, uint64_t id)
{
    for (uint32_t i = 0; i < raft->peer_count; i++)
        if (raft->peers[i].id == id)
            return &raft->peers[i];
    return NULL;
}

/* ---- progress ---- */

static void drop_loaded(struct raft *raft, struct raft_peer *peer)
{
    for (uint32_t i = 0; i < peer->loaded_count; i++)
        raft_retire(raft, peer->loaded[i]);
    mem_free(peer->loaded);
    peer->loaded = NULL;
    peer->loaded_count = 0;
}

static void probe_from(struct raft *raft, struct raft_peer *peer, uint64_t next)
{
    assert(next > 0);
    peer->state = RAFT_PROBE;
    peer->next = next;
    peer->paused = peer->loading = false;
    peer->must_send = true;
    peer->inflight_count = 0;
    peer->inflight_bytes = 0;
    raft->output.appends_due = true;
}

static void inflight_add(struct raft_peer *peer, uint64_t last_index, uint64_t bytes)
{
    assert(peer->inflight_count < RAFT_INFLIGHT_MESSAGES_MAX);
    uint32_t at = (peer->inflight_head + peer->inflight_count) % RAFT_INFLIGHT_MESSAGES_MAX;
    peer->inflights[at] = (struct raft_inflight){.last_index = last_index, .bytes = bytes};
    peer->inflight_count++;
    peer->inflight_bytes += bytes;
}

static void inflight_pop(struct raft_peer *peer)
{
    peer->inflight_bytes -= peer->inflights[peer->inflight_head].bytes;
    peer->inflight_head = (peer->inflight_head + 1) % RAFT_INFLIGHT_MESSAGES_MAX;
    peer->inflight_count--;
}

static bool inflight_full(const struct raft_peer *peer)
{
    return peer->inflight_count == RAFT_INFLIGHT_MESSAGES_MAX ||
           peer->inflight_bytes >= RAFT_INFLIGHT_BYTES_MAX;
}

void raft_refresh_peers(struct raft *raft)
{
    uint64_t ids[RAFT_PEERS_MAX];
    uint32_t count = raft_membership_ids(membership_of(raft), ids);
    struct raft_peer *peers = mem_alloc_array(count, sizeof *peers);
    uint32_t peer_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == raft->id)
            continue;
        struct raft_peer *peer = &peers[peer_count++];
        struct raft_peer *known = raft_peer_find(raft, ids[i]);
        if (known != NULL) {
            *peer = *known;
            known->loaded = NULL;
            known->loaded_count = 0;
        } else {
            *peer = (struct raft_peer){
                .id = ids[i], .next = raft->log.last_index + 1, .active = true, .must_send = true};
        }
    }
    for (uint32_t i = 0; i < raft->peer_count; i++)
        drop_loaded(raft, &raft->peers[i]);
    mem_free(raft->peers);
    raft->peers = peers;
    raft->peer_count = peer_count;
    raft->output.appends_due = true;
}

uint64_t raft_replicated_everywhere(const struct raft *raft)
{
    if (raft->role != RAFT_LEADER)
        return 0;
    uint64_t index = UINT64_MAX;
    for (uint32_t i = 0; i < raft->peer_count; i++)
        if (raft->peers[i].match < index)
            index = raft->peers[i].match;
    return index;
}

/* ---- sending entries ---- */

static void ask_for_load(struct raft *raft, struct raft_peer *peer)
{
    uint64_t last = raft->log.cache_first - 1;
    if (last - peer->next >= RAFT_MESSAGE_ENTRIES_MAX)
        last = peer->next + RAFT_MESSAGE_ENTRIES_MAX - 1;
    peer->loading = true;
    raft->output.loads[raft->output.load_count++] =
        (struct raft_load){.peer = peer->id, .first_index = peer->next, .last_index = last};
}

static bool fits(uint32_t count, uint64_t bytes, const struct raft_entry *entry)
{
    return count == 0 || (count < RAFT_MESSAGE_ENTRIES_MAX &&
                          bytes + raft_entry_bytes(entry) <= RAFT_MESSAGE_BYTES_MAX);
}

/* Put entries from peer->next on into the output's arrays; their count. */
static uint32_t gather(struct raft *raft, struct raft_peer *peer, uint64_t *out_bytes)
{
    const struct raft_log *log = &raft->log;
    uint32_t count = 0;
    uint64_t bytes = 0;
    if (peer->next >= log->cache_first) {
        for (uint64_t i = peer->next; i <= log->last_index; i++) {
            const struct raft_entry *entry = raft_log_entry(log, i);
            if (!fits(count, bytes, entry))
                break;
            raft_scratch_add(raft, entry);
            bytes += raft_entry_bytes(entry);
            count++;
        }
    } else if (peer->loaded_count > 0 && peer->loaded_first == peer->next) {
        for (; count < peer->loaded_count && fits(count, bytes, &peer->loaded[count]); count++) {
            raft_scratch_add(raft, &peer->loaded[count]);
            bytes += raft_entry_bytes(&peer->loaded[count]);
        }
        drop_loaded(raft, peer);
    }
    *out_bytes = bytes;
    return count;
}

/* Something may be sent now: room in the pipeline, and news to tell. */
static bool wants_append(const struct raft *raft, const struct raft_peer *peer)
{
    if (peer->state == RAFT_SNAPSHOT || peer->loading)
        return false;
    if (peer->state == RAFT_PROBE && peer->paused)
        return false;
    if (peer->state == RAFT_REPLICATE && inflight_full(peer))
        return false;
    if (peer->next <= raft->log.last_index || peer->must_send)
        return true;
    /* Nothing else is on its way that makes this follower hear of the new commit index. */
    return peer->state == RAFT_REPLICATE && peer->inflight_count == 0 &&
           peer->commit_sent < raft->commit;
}

static bool send_append(struct raft *raft, struct raft_peer *peer)
{
    if (!wants_append(raft, peer))
        return false;
    uint64_t previous_term = 0;
    if (raft_log_term(&raft->log, peer->next - 1, &previous_term) != OK) {
        peer->state = RAFT_SNAPSHOT;
        raft->output.snapshots[raft->output.snapshot_count++] = peer->id;
        return false;
    }
    uint64_t bytes = 0;
    uint32_t count = gather(raft, peer, &bytes);
    if (count == 0 && peer->next <= raft->log.last_index) {
        ask_for_load(raft, peer);
        return false;
    }
    raft_send(raft, (struct raft_message){
                        .type = RAFT_APPEND,
                        .to = peer->id,
                        .index = peer->next - 1,
                        .log_term = previous_term,
                        .commit = raft->commit,
                        .entry_count = count,
                    });
    peer->must_send = false;
    peer->commit_sent = raft->commit;
    if (peer->state == RAFT_PROBE) {
        peer->paused = true;
    } else if (count > 0) {
        peer->next += count;
        inflight_add(peer, peer->next - 1, bytes);
    }
    return true;
}

void raft_send_appends(struct raft *raft)
{
    assert(raft->role == RAFT_LEADER);
    raft->output.appends_due = false;
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        while (raft->output.message_count < RAFT_OUTPUT_MESSAGES_MAX &&
               send_append(raft, &raft->peers[i]))
            continue;
    }
    if (raft->output.message_count == RAFT_OUTPUT_MESSAGES_MAX)
        raft->output.appends_due = true;
}

void raft_entries_loaded(struct raft *raft, uint64_t peer_id, uint64_t first_index,
                         const struct raft_entry *entries, uint32_t count)
{
    struct raft_peer *peer = raft->role == RAFT_LEADER ? raft_peer_find(raft, peer_id) : NULL;
    if (peer == NULL || !peer->loading || peer->next != first_index)
        return;
    peer->loading = false;
    drop_loaded(raft, peer);
    if (count == 0) {
        /* The next heartbeat's answer tries again. */
        peer->state = RAFT_PROBE;
        peer->paused = true;
        return;
    }
    count = count < RAFT_MESSAGE_ENTRIES_MAX ? count : RAFT_MESSAGE_ENTRIES_MAX;
    peer->loaded = mem_alloc_array(count, sizeof *peer->loaded);
    for (uint32_t i = 0; i < count; i++) {
        struct raft_entry entry = entries[i];
        assert(raft_log_matches(&raft->log, first_index + i, entry.term) ||
               first_index + i < raft->log.compacted_index);
        if (entry.payload.bytes > 0)
            entry.payload.data = mem_copy(entry.payload.data, entry.payload.bytes);
        peer->loaded[i] = entry;
    }
    peer->loaded_first = first_index;
    peer->loaded_count = count;
    raft->output.appends_due = true;
}

void raft_snapshot_failed(struct raft *raft, uint64_t peer_id)
{
    struct raft_peer *peer = raft->role == RAFT_LEADER ? raft_peer_find(raft, peer_id) : NULL;
    if (peer == NULL || peer->state != RAFT_SNAPSHOT)
        return;
    probe_from(raft, peer, peer->match + 1);
    peer->paused = true; /* until the next heartbeat's answer */
}

/* ---- commit ---- */

static uint64_t match_of(const void *context, uint64_t id)
{
    const struct raft *raft = context;
    if (id == raft->id)
        return MUTANT(COMMIT_WITHOUT_OWN_FSYNC) ? raft->log.last_index : raft->durable_index;
    const struct raft_peer *peer = raft_peer_find(raft, id);
    return peer == NULL ? 0 : peer->match;
}

static void advance_commit(struct raft *raft)
{
    uint64_t index = raft_membership_committed(membership_of(raft), match_of, raft);
    if (index <= raft->commit)
        return;
    /* Entries of earlier terms are never committed by counting replicas (Raft §5.4.2). */
    if (index < raft->term_first_index && !MUTANT(COMMIT_EARLIER_TERM))
        return;
    raft_set_commit(raft, index);
}

void raft_leader_persisted(struct raft *raft)
{
    advance_commit(raft);
}

static void append_entry(struct raft *raft, enum raft_entry_type type, void *payload, size_t bytes)
{
    raft_log_append(&raft->log, raft->term, type, payload, bytes);
    raft->uncommitted_bytes += bytes + RAFT_ENTRY_OVERHEAD_BYTES;
    raft->output.appends_due = true;
}

static enum err append_membership(struct raft *raft, const struct raft_membership *membership)
{
    AUTO_VALUE(bytes) encoded = {.max = MEMBERSHIP_ENCODED_MAX};
    raft_membership_encode(&encoded, membership);
    assert(!encoded.overflow);
    TRY(raft_log_push_membership(&raft->log, raft->log.last_index + 1, membership));
    append_entry(raft, RAFT_MEMBERSHIP, mem_copy(encoded.data, encoded.bytes), encoded.bytes);
    raft->output.membership_changed = true;
    raft_refresh_peers(raft);
    return OK;
}

static void send_heartbeat(struct raft *raft, const struct raft_peer *peer)
{
    raft_send(raft, (struct raft_message){
                        .type = RAFT_HEARTBEAT,
                        .to = peer->id,
                        .commit = peer->match < raft->commit ? peer->match : raft->commit,
                        .round = raft->reads.running ? raft->reads.round : 0,
                    });
}

static void send_heartbeats(struct raft *raft)
{
    raft->heartbeat_elapsed = 0;
    for (uint32_t i = 0; i < raft->peer_count; i++)
        send_heartbeat(raft, &raft->peers[i]);
}

/* The joint membership is committed: go on to the final one. The final one is: who is not in it
 * steps down (thesis §4.2.2), after telling the others. */
static void advance_membership(struct raft *raft)
{
    const struct raft_membership_at *at = raft_log_membership(&raft->log);
    if (at->index > raft->commit)
        return;
    if (at->membership.old_voter_count > 0) {
        struct raft_membership final = at->membership;
        final.old_voter_count = 0;
        memset(final.old_voters, 0, sizeof final.old_voters);
        enum err err = append_membership(raft, &final);
        assert(err == OK); /* everything up to this one is settled, so there is room */
    } else if (!raft_membership_is_voter(&at->membership, raft->id)) {
        send_heartbeats(raft);
        raft_become_follower(raft, raft->term, 0);
    }
}

void raft_leader_committed(struct raft *raft)
{
    raft->output.appends_due = true;
    advance_membership(raft);
    raft_advance_reads(raft);
}

/* ---- leadership ---- */

void raft_lead(struct raft *raft)
{
    assert(raft->role == RAFT_CANDIDATE);
    assert(raft->peers == NULL);
    raft_set_role(raft, RAFT_LEADER, raft->id);
    raft->election_elapsed = raft->heartbeat_elapsed = 0;
    raft->transfer_target = 0;
    raft->reads.running = false;
    raft->uncommitted_bytes = 0;
    raft_refresh_peers(raft);
    raft->term_first_index = raft->log.last_index + 1;
    append_entry(raft, RAFT_NOOP, NULL, 0);
}

void raft_leave_leadership(struct raft *raft)
{
    for (uint32_t i = 0; i < raft->peer_count; i++)
        drop_loaded(raft, &raft->peers[i]);
    mem_free(raft->peers);
    raft->peers = NULL;
    raft->peer_count = 0;
    raft->transfer_target = 0;
    raft->uncommitted_bytes = 0;
    raft->output.appends_due = false;
    struct raft_reads *reads = &raft->reads;
    if (reads->ticket_done < reads->ticket_last)
        raft->output.reads_failed_last = reads->ticket_last;
    reads->ticket_done = reads->ticket_joined = reads->ticket_last;
    reads->running = false;
}

/* CheckQuorum (thesis §6.2). */
static bool heard_quorum(struct raft *raft)
{
    uint64_t ids[RAFT_PEERS_MAX + 1] = {raft->id};
    uint32_t count = 1;
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        if (raft->peers[i].active)
            ids[count++] = raft->peers[i].id;
        raft->peers[i].active = false;
    }
    return raft_membership_quorum(membership_of(raft), ids, count);
}

void raft_leader_tick(struct raft *raft)
{
    if (raft->transfer_target != 0 && ++raft->transfer_elapsed >= RAFT_ELECTION_TICKS)
        raft->transfer_target = 0;
    if (++raft->election_elapsed >= RAFT_ELECTION_TICKS) {
        raft->election_elapsed = 0;
        if (!heard_quorum(raft)) {
            raft_become_follower(raft, raft->term, 0);
            return;
        }
    }
    if (++raft->heartbeat_elapsed >= RAFT_HEARTBEAT_TICKS)
        send_heartbeats(raft);
}

/* ---- answers of followers ---- */

static void advance_transfer(struct raft *raft, const struct raft_peer *peer)
{
    if (raft->transfer_target == peer->id && peer->match == raft->log.last_index)
        raft_send(raft, (struct raft_message){.type = RAFT_TIMEOUT_NOW, .to = peer->id});
}

static void append_refused(struct raft *raft, struct raft_peer *peer,
                           const struct raft_message *message)
{
    if (message->repair) {
        /* It lost what it once had: it counts only up to there from now on. */
        if (message->hint_index < peer->match)
            peer->match = message->hint_index;
        if (message->hint_index < raft->log.last_index)
            probe_from(raft, peer, message->hint_index + 1);
        return;
    }
    if (peer->state == RAFT_REPLICATE) {
        if (message->index > peer->match)
            probe_from(raft, peer, peer->match + 1);
        return;
    }
    if (peer->state != RAFT_PROBE || message->index != peer->next - 1)
        return; /* an old answer */
    uint64_t next = message->hint_index + 1;
    if (message->hint_index >= raft->log.compacted_index)
        next = raft_log_find_conflict(&raft->log, message->hint_index, message->hint_term) + 1;
    if (next > message->index)
        next = message->index;
    probe_from(raft, peer, next > peer->match ? next : peer->match + 1);
}

static void append_accepted(struct raft *raft, struct raft_peer *peer, uint64_t match, bool repair)
{
    if (match > raft->log.last_index)
        return; /* cannot come from an answer to this leader */
    bool news = match > peer->match;
    if (news)
        peer->match = match;
    if (peer->next <= match)
        peer->next = match + 1;
    while (peer->inflight_count > 0 && peer->inflights[peer->inflight_head].last_index <= match)
        inflight_pop(peer);
    if (peer->state == RAFT_SNAPSHOT && news)
        probe_from(raft, peer, match + 1);
    /* A replica in repair gets one message per heartbeat or call for the gap, not a pipeline. */
    if (peer->state == RAFT_PROBE && !repair && match + 1 >= peer->next) {
        probe_from(raft, peer, match + 1);
        peer->state = RAFT_REPLICATE;
        peer->must_send = false;
    }
    raft->output.appends_due = true;
    if (!news)
        return;
    advance_transfer(raft, peer);
    advance_commit(raft); /* may end this leadership, and `peer` with it */
    if (raft->role == RAFT_LEADER)
        raft_trim_cache(raft);
}

void raft_receive_append_reply(struct raft *raft, const struct raft_message *message)
{
    struct raft_peer *peer = raft->role == RAFT_LEADER ? raft_peer_find(raft, message->from) : NULL;
    if (peer == NULL)
        return;
    if (!message->repair)
        peer->active = true;
    if (message->reject)
        append_refused(raft, peer, message);
    else
        append_accepted(raft, peer, message->index, message->repair);
}

static void confirm_round(struct raft *raft, const struct raft_message *message)
{
    struct raft_reads *reads = &raft->reads;
    if (!reads->running || message->round != reads->round || message->repair)
        return;
    for (uint32_t i = 0; i < reads->confirmed_count; i++)
        if (reads->confirmed[i] == message->from)
            return;
    if (reads->confirmed_count < RAFT_PEERS_MAX)
        reads->confirmed[reads->confirmed_count++] = message->from;
    raft_advance_reads(raft);
}

void raft_receive_heartbeat_reply(struct raft *raft, const struct raft_message *message)
{
    struct raft_peer *peer = raft->role == RAFT_LEADER ? raft_peer_find(raft, message->from) : NULL;
    if (peer == NULL)
        return;
    if (!message->repair)
        peer->active = true;
    peer->paused = false;
    if (inflight_full(peer))
        inflight_pop(peer);
    if (peer->match < raft->log.last_index)
        peer->must_send = true;
    raft->output.appends_due = true;
    confirm_round(raft, message);
    /* The acknowledgement of an installed snapshot may have been lost. */
    if (peer->state == RAFT_SNAPSHOT && message->commit > peer->match)
        append_accepted(raft, peer, message->commit, message->repair);
}

/* ---- reads ---- */

/* Grant the running round when a quorum answered it, then begin the next for waiting reads. */
void raft_advance_reads(struct raft *raft)
{
    struct raft_reads *reads = &raft->reads;
    if (raft->role != RAFT_LEADER)
        return;
    if (!reads->running) {
        bool ready = raft->commit >= raft->term_first_index || MUTANT(READ_BEFORE_NOOP);
        if (!ready || reads->ticket_done == reads->ticket_last)
            return;
        if (!MUTANT(READ_ROUND_REUSED) || reads->round == 0)
            reads->round++;
        reads->running = true;
        reads->round_index = raft->commit;
        reads->ticket_joined = reads->ticket_last;
        reads->confirmed[0] = raft->id;
        reads->confirmed_count = 1;
        send_heartbeats(raft);
    }
    if (!raft_membership_quorum(membership_of(raft), reads->confirmed, reads->confirmed_count))
        return;
    reads->running = false;
    reads->ticket_done = reads->ticket_joined;
    raft->output.grant =
        (struct raft_read_grant){.ticket_last = reads->ticket_done, .index = reads->round_index};
    if (reads->ticket_done < reads->ticket_last)
        raft_advance_reads(
            raft); /* a round that just begins ends only by itself for a sole voter */
}

enum err raft_read(struct raft *raft, struct raft_read_ticket *out_ticket)
{
    if (raft->role != RAFT_LEADER)
        return FAIL(ERR_NOT_LEADER, "read at a follower leader=%" PRIu64, raft->leader);
    struct raft_reads *reads = &raft->reads;
    bool alone = reads->ticket_done == reads->ticket_last;
    *out_ticket = (struct raft_read_ticket){.number = ++reads->ticket_last};
    bool sole = raft_membership_sole(membership_of(raft), raft->id);
    if (sole && alone && raft->commit >= raft->term_first_index) {
        out_ticket->index = raft->commit;
        reads->ticket_done = reads->ticket_joined = reads->ticket_last;
        return OK;
    }
    raft_advance_reads(raft);
    return OK;
}

/* ---- proposals ---- */

static enum err join_slices(const struct slice *slices, uint32_t count, uint8_t **out_data,
                            size_t *out_bytes)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (slices[i].bytes > RAFT_PAYLOAD_BYTES_MAX - bytes)
            return FAIL(ERR_LIMIT, "payload above %d bytes", RAFT_PAYLOAD_BYTES_MAX);
        bytes += slices[i].bytes;
    }
    assert(bytes > 0);
    uint8_t *data = mem_resize(NULL, bytes);
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (slices[i].bytes > 0)
            memcpy(data + at, slices[i].data, slices[i].bytes);
        at += slices[i].bytes;
    }
    *out_data = data;
    *out_bytes = bytes;
    return OK;
}

static bool uncommitted_full(const struct raft *raft)
{
    return raft->uncommitted_bytes >= raft->uncommitted_bytes_max ||
           raft->log.cache_bytes >= raft->cache_bytes_max + raft->uncommitted_bytes_max;
}

enum err raft_propose(struct raft *raft, const struct slice *slices, uint32_t slice_count,
                      uint64_t *out_index, uint64_t *out_term)
{
    if (raft->role != RAFT_LEADER)
        return FAIL(ERR_NOT_LEADER, "proposal at a follower leader=%" PRIu64, raft->leader);
    if (raft->transfer_target != 0)
        return FAIL(ERR_BUSY, "leadership moves to replica=%" PRIu64, raft->transfer_target);
    if (uncommitted_full(raft))
        return FAIL(ERR_BUSY, "uncommitted bytes=%" PRIu64, raft->uncommitted_bytes);
    uint8_t *data = NULL;
    size_t bytes = 0;
    TRY(join_slices(slices, slice_count, &data, &bytes));
    append_entry(raft, RAFT_COMMAND, data, bytes);
    *out_index = raft->log.last_index;
    *out_term = raft->term;
    return OK;
}

enum err raft_transfer_leader(struct raft *raft, uint64_t target)
{
    if (raft->role != RAFT_LEADER)
        return FAIL(ERR_NOT_LEADER, "transfer at a follower leader=%" PRIu64, raft->leader);
    if (target == raft->id || !raft_membership_is_voter(membership_of(raft), target))
        return FAIL(ERR_INVALID, "transfer to replica=%" PRIu64, target);
    if (raft->transfer_target != 0)
        return FAIL(ERR_BUSY, "leadership moves to replica=%" PRIu64, raft->transfer_target);
    const struct raft_peer *peer = raft_peer_find(raft, target);
    assert(peer != NULL); /* a leader has one for each other member */
    raft->transfer_target = target;
    raft->transfer_elapsed = 0;
    advance_transfer(raft, peer);
    return OK;
}

/* A new voter holds nearly the whole log, or the group could stand still while it catches up. */
static bool may_promote(const struct raft *raft, uint64_t id)
{
    if (raft_membership_is_voter(membership_of(raft), id))
        return true;
    const struct raft_peer *peer = raft_peer_find(raft, id);
    return peer != NULL && peer->match > 0 && peer->match + RAFT_PROMOTE_LAG_MAX >= raft->commit;
}

enum err raft_change_membership(struct raft *raft, const struct raft_membership *target,
                                uint64_t *out_index)
{
    if (raft->role != RAFT_LEADER)
        return FAIL(ERR_NOT_LEADER, "change at a follower leader=%" PRIu64, raft->leader);
    if (target->old_voter_count > 0 || !raft_membership_valid(target))
        return FAIL(ERR_INVALID, "membership voters=%u", target->voter_count);
    const struct raft_membership_at *current = raft_log_membership(&raft->log);
    bool pending = current->index > raft->commit || current->membership.old_voter_count > 0;
    if (MUTANT(SECOND_CHANGE_ALLOWED))
        pending = false;
    if (raft->commit < raft->term_first_index || pending || raft->transfer_target != 0)
        return FAIL(ERR_BUSY, "membership change not possible now commit=%" PRIu64, raft->commit);
    for (uint32_t i = 0; i < target->voter_count; i++)
        if (!may_promote(raft, target->voters[i]))
            return FAIL(ERR_PRECONDITION, "replica=%" PRIu64 " is no learner that caught up",
                        target->voters[i]);
    struct raft_membership next = *target;
    if (!raft_membership_same_voters(&current->membership, target)) {
        next.old_voter_count = current->membership.voter_count;
        memcpy(next.old_voters, current->membership.voters, sizeof next.old_voters);
    }
    TRY(append_membership(raft, &next));
    *out_index = raft->log.last_index;
    return OK;
}

enum err raft_progress_get(const struct raft *raft, uint64_t peer_id,
                           struct raft_progress_status *out_status)
{
    const struct raft_peer *peer = raft_peer_find(raft, peer_id);
    if (peer == NULL)
        return ERR_NOT_FOUND;
    *out_status = (struct raft_progress_status){
        .state = peer->state,
        .match = peer->match,
        .next = peer->next,
        .inflight_count = peer->inflight_count,
        .active = peer->active,
    };
    return OK;
}
