/* Which replica leads, serves and takes the calls.
 *
 * Why reads need neither hop nor message (I7). `serving` is set while a replica L of this process
 * (1) leads its term T and has applied the no-op of T, so it has applied everything that was
 * acknowledged in earlier terms, and itself acknowledges only after its own apply; and (2) the
 * voters that run in this process form a quorum in every part of L's membership, and none of them
 * knows a term above T. Whoever else could acknowledge a write was elected in a term above T by a
 * quorum that shares a voter with (2), and one of another membership needs a quorum of a joint one
 * that L has or had. That voter moved to the higher term on this reactor, in a step of its driver
 * that ended with group_update, before its vote was written, hence before that leader existed. So
 * while a reader finds L here, nobody else has acknowledged anything that L has not applied. A
 * voter that failed never votes again in this process; that its successor under another id votes
 * needs a membership entry of L itself. */
#include "base/log.h"
#include "base/mem.h"
#include "server_core.h"
#include <assert.h>
#include <inttypes.h>

static bool runs(const struct meta_server *server)
{
    return !server->failed && !server->stopping && server->driver != NULL;
}

static bool leads(const struct meta_server *server)
{
    return server != NULL && runs(server) && server->role == RAFT_LEADER && !server->reads_only;
}

struct meta_server *group_replica(const struct meta_group *group, uint64_t replica_id)
{
    for (uint32_t i = 0; i < group->replica_count; i++)
        if (group->replicas[i]->options.replica_id == replica_id)
            return group->replicas[i];
    return NULL;
}

/* --- who serves --- */

static uint32_t local_count(const struct meta_group *group, const uint64_t *ids, uint32_t count)
{
    uint32_t local = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct meta_server *server = group_replica(group, ids[i]);
        local += server != NULL && runs(server);
    }
    return local;
}

static bool holds_quorum(const struct meta_group *group, const struct meta_server *leader)
{
    const struct raft_membership *membership = raft_membership_get(leader->raft, NULL);
    uint32_t voters = membership->voter_count;
    uint32_t old = membership->old_voter_count;
    return local_count(group, membership->voters, voters) > voters / 2 &&
           (old == 0 || local_count(group, membership->old_voters, old) > old / 2);
}

static bool knows_no_later_term(const struct meta_group *group, uint64_t term)
{
    for (uint32_t i = 0; i < group->replica_count; i++)
        if (runs(group->replicas[i]) && group->replicas[i]->term > term)
            return false;
    return true;
}

static struct meta_server *find_reads_only(const struct meta_group *group)
{
    for (uint32_t i = 0; i < group->replica_count; i++)
        if (group->replicas[i]->reads_only && runs(group->replicas[i]) &&
            group->replicas[i]->applied == group->replicas[i]->committed)
            return group->replicas[i];
    return NULL;
}

static void publish(struct meta_group *group)
{
    struct meta_server *leader = group->leader;
    bool has_applied = leads(leader) && leader->applied_term == leader->term;
    bool serves =
        has_applied && holds_quorum(group, leader) && knows_no_later_term(group, leader->term);
    atomic_store(&group->serving, serves ? leader : find_reads_only(group));
    atomic_store(&group->ready, has_applied && group->session != 0);
    gauge_set(group->ready_gauge, has_applied);
    signal_wake_all(group->home, &group->changed);
}

/* A new leader: what was proposed elsewhere may be in its log or not; only the results of the
 * session tell, so all of it is proposed again, under the same sequences, when the new leader has
 * applied the no-op of its term (server_apply.c: FATE_VOID). */
static void follow(struct meta_group *group, struct meta_server *leader)
{
    if (group->leader == leader)
        return;
    group->leader = leader;
    group->session_opening = false;
    LIST_EACH(struct call, call, &group->outstanding, node)
    proposal_of(call)->uncertain = true;
}

static void choose_leader(struct meta_group *group)
{
    struct meta_server *best = leads(group->leader) ? group->leader : NULL;
    for (uint32_t i = 0; i < group->replica_count; i++) {
        struct meta_server *server = group->replicas[i];
        if (leads(server) && (best == NULL || server->term > best->term))
            best = server;
    }
    if (best != NULL)
        follow(group, best);
}

/* --- calls that nobody here can take --- */

static void refuse(struct meta_group *group, struct list *calls, enum err err)
{
    struct list_node *node = NULL;
    while ((node = list_pop_front(calls)) != NULL)
        group_answer(group, CONTAINER_OF(node, struct call, node), err);
}

/* ERR_FENCED: no replica goes on. ERR_NOT_LEADER: one in another process leads. OK: one of them
 * will lead, or the caller's deadline passes first. */
static enum err outlook(const struct meta_group *group)
{
    uint32_t running = 0;
    for (uint32_t i = 0; i < group->replica_count; i++) {
        const struct meta_server *server = group->replicas[i];
        if (!runs(server))
            continue;
        running++;
        if (server->reads_only)
            return ERR_NOT_LEADER;
        uint64_t leader = raft_leader(server->raft);
        bool elsewhere = server->seams.send != NULL && leader != 0;
        if (elsewhere && group_replica(group, leader) == NULL)
            return ERR_NOT_LEADER;
    }
    return running > 0 ? OK : ERR_FENCED;
}

static void refuse_calls(struct meta_group *group)
{
    if (leads(group->leader))
        return;
    enum err err = outlook(group);
    if (err == OK)
        return;
    refuse(group, &group->inbox, err);
    refuse(group, &group->waiting, err);
    if (err == ERR_FENCED) {
        refuse(group, &group->outstanding, ERR_OUTCOME_UNKNOWN);
        group->outstanding_bytes = 0;
    }
    group_send_answers(group);
}

/* Reads that a replica has not granted are asked again of the next leader. */
static void take_back_reads(struct meta_group *group)
{
    for (uint32_t i = 0; i < group->replica_count; i++) {
        struct meta_server *server = group->replicas[i];
        struct list_node *node = NULL;
        while (!leads(server) && (node = list_pop_front(&server->reads)) != NULL)
            list_push_back(&group->inbox, node);
    }
}

void group_update(struct meta_group *group)
{
    choose_leader(group);
    publish(group);
    take_back_reads(group);
    refuse_calls(group);
    group_wake(group);
}

/* Time decides in Raft who tries when, never what is true (§5.6): where it is known that nobody
 * leads, the time until the first one tries may pass at once. */
void group_hurry(struct meta_group *group)
{
    for (uint32_t i = 0; i < group->replica_count; i++)
        if (leads(group->replicas[i]))
            return;
    for (uint32_t tick = 0; tick < 2 * RAFT_ELECTION_TICKS; tick++)
        for (uint32_t i = 0; i < group->replica_count; i++) {
            struct meta_server *server = group->replicas[i];
            if (!runs(server) || server->reads_only)
                continue;
            struct raft_status status;
            raft_tick(server->raft);
            server_wake(server);
            raft_status_get(server->raft, &status);
            if (status.role != RAFT_FOLLOWER)
                return;
        }
}

void group_wake(struct meta_group *group)
{
    if (list_empty(&group->inbox) && list_empty(&group->waiting))
        return;
    if (leads(group->leader))
        server_wake(group->leader);
    else
        refuse_calls(group);
}

void group_attach(struct meta_group *group, struct meta_server *server)
{
    assert(group->replica_count < GROUP_REPLICAS_MAX);
    group->replicas[group->replica_count++] = server;
    group->command_bytes_max = meta_log_entry_bytes_max(server->log);
}

static void forget_hashes(struct meta_group *group, const struct meta_server *server)
{
    for (uint32_t i = 0; i < GROUP_HASHES_MAX; i++) {
        struct group_hash *hash = &group->hashes[i];
        for (uint32_t j = 0; j < hash->count; j++)
            if (hash->servers[j] == server)
                hash->servers[j] = NULL;
    }
}

void group_detach(struct meta_group *group, struct meta_server *server)
{
    uint32_t at = 0;
    while (at < group->replica_count && group->replicas[at] != server)
        at++;
    if (at == group->replica_count)
        return; /* its start failed */
    struct list_node *node = NULL;
    while ((node = list_pop_front(&server->reads)) != NULL)
        list_push_back(&group->inbox, node);
    for (group->replica_count--; at < group->replica_count; at++)
        group->replicas[at] = group->replicas[at + 1];
    forget_hashes(group, server);
    if (group->leader == server)
        follow(group, NULL);
    group_update(group);
}

/* --- deadlines --- */

static void expire_list(struct meta_group *group, struct list *calls, uint64_t now_ns, enum err err)
{
    LIST_EACH(struct call, call, calls, node)
    {
        if (call->deadline_ns > now_ns)
            continue;
        list_remove(calls, &call->node);
        if (calls == &group->outstanding)
            group->outstanding_bytes -= proposal_of(call)->command.bytes;
        group_answer(group, call, err);
    }
}

void group_expire(struct meta_group *group, uint64_t now_ns)
{
    expire_list(group, &group->inbox, now_ns, ERR_TIMEOUT);
    expire_list(group, &group->waiting, now_ns, ERR_TIMEOUT);
    for (uint32_t i = 0; i < group->replica_count; i++)
        expire_list(group, &group->replicas[i]->reads, now_ns, ERR_TIMEOUT);
    expire_list(group, &group->outstanding, now_ns, ERR_OUTCOME_UNKNOWN);
    group_send_answers(group);
}

/* --- session --- */

/* A process has one session at a time. One that was closed while the process was idle, or whose
 * opening was lost with the leadership, is followed by another. */
static void ensure_session(struct meta_group *group, struct meta_server *server)
{
    if (group->session != 0 || group->session_opening)
        return;
    AUTO_VALUE(bytes) encoded = {.max = LOG_BLOCK_BYTES};
    struct command command = {
        .type = COMMAND_OPEN_SESSION,
        .session = {.holder = server->options.replica_id, .boot = group->boot}};
    struct entry_header header = {.wall_ms = io_wall_ms(group->home)};
    if (command_encode(&encoded, &command) == OK &&
        server_propose_entry(server, &header, bytes_slice(&encoded), &group->opening.index,
                             &group->opening.term) == OK)
        group->session_opening = true;
}

void group_session_opened(struct meta_group *group, struct slice result)
{
    struct result decoded;
    group->session_opening = false;
    if (result.bytes == 0 || result_decode(result, &decoded) != OK || decoded.err != OK)
        return; /* tried again by the next step */
    group->session = decoded.written.stamp;
    group->sequence_next = 1;
    publish(group);
}

/* Of those with a sequence, which come first. */
static uint64_t first_sequence(const struct meta_group *group, const struct list *proposals)
{
    LIST_EACH(struct call, call, proposals, node)
    {
        const struct proposal *proposal = proposal_of(call);
        if (proposal->sequence == 0)
            return group->sequence_next;
        if (proposal->session == group->session)
            return proposal->sequence;
    }
    return group->sequence_next;
}

/* The smallest sequence whose result may still be asked for: of those proposed, and of those that
 * are about to be proposed again. */
static uint64_t done_below(const struct meta_group *group)
{
    uint64_t outstanding = first_sequence(group, &group->outstanding);
    uint64_t waiting = first_sequence(group, &group->waiting);
    return outstanding < waiting ? outstanding : waiting;
}

/* --- proposals --- */

/* By sequence, so that the first one of the session bounds done_below; those without one last. */
static void insert_by_sequence(struct list *proposals, struct proposal *proposal)
{
    struct list_node *at = &proposals->head;
    while (at->previous != &proposals->head) {
        const struct proposal *before = proposal_of(CONTAINER_OF(at->previous, struct call, node));
        if (before->sequence != 0 &&
            (before->session != proposal->session || before->sequence < proposal->sequence))
            break;
        at = at->previous;
    }
    list_insert_before(proposals, at, &proposal->call.node);
}

/* None of its attempts had an effect or can have one any more, so it may be proposed again under
 * any session; unless that is uncertain: then only under its own. */
void group_repeat(struct meta_group *group, struct proposal *proposal)
{
    if (proposal->session != group->session) {
        if (proposal->uncertain) {
            group_answer(group, &proposal->call, ERR_OUTCOME_UNKNOWN);
            return;
        }
        proposal->session = proposal->sequence = 0;
    }
    proposal->index = 0;
    if (proposal->sequence != 0)
        insert_by_sequence(&group->waiting, proposal);
    else
        list_push_back(&group->waiting, &proposal->call.node);
    group_wake(group);
}

static bool window_is_full(const struct meta_group *group)
{
    return group->outstanding.count >= GROUP_OUTSTANDING_MAX ||
           group->outstanding_bytes >= GROUP_OUTSTANDING_BYTES_MAX ||
           group->sequence_next - done_below(group) >= GROUP_OUTSTANDING_MAX;
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

static enum err propose(struct meta_group *group, struct meta_server *server,
                        struct proposal *proposal)
{
    if (!meta_log_has_space(server->log, proposal->command.bytes, frees_space(proposal->command)))
        return FAIL(ERR_NO_SPACE, "no room in the log bytes=%zu", proposal->command.bytes);
    if (proposal->session == 0) {
        proposal->session = group->session;
        proposal->sequence = group->sequence_next++;
    }
    uint64_t below = done_below(group);
    struct entry_header header = {
        .wall_ms = io_wall_ms(group->home),
        .session = proposal->session,
        .sequence = proposal->sequence,
        .done_below = below < proposal->sequence ? below : proposal->sequence,
    };
    return server_propose_entry(server, &header, proposal->command, &proposal->index,
                                &proposal->term);
}

/* The window bounds new sequences; one that was given out before is within it. */
static bool may_propose(const struct meta_group *group, const struct proposal *proposal)
{
    return group->session != 0 && (proposal->sequence != 0 || !window_is_full(group));
}

void group_propose_waiting(struct meta_group *group, struct meta_server *server)
{
    if (server != group->leader || !leads(server))
        return;
    if (server->applied_term == server->term)
        ensure_session(group, server);
    while (!list_empty(&group->waiting)) {
        struct call *call = CONTAINER_OF(list_first(&group->waiting), struct call, node);
        struct proposal *proposal = proposal_of(call);
        if (!may_propose(group, proposal))
            return;
        list_remove(&group->waiting, &call->node);
        enum err err = propose(group, server, proposal);
        if (err != OK) {
            group_answer(group, call, err);
            continue;
        }
        insert_by_sequence(&group->outstanding, proposal);
        group->outstanding_bytes += proposal->command.bytes;
    }
}

void group_settle(struct meta_group *group, struct proposal *proposal, struct slice result,
                  struct list *done)
{
    struct result decoded;
    if (result_decode(result, &decoded) != OK) {
        group_answer(group, &proposal->call, ERR_OUTCOME_UNKNOWN);
    } else if (decoded.outcome == RESULT_SESSION_CLOSED) {
        if (proposal->session == group->session)
            group->session = 0;
        group_repeat(group, proposal);
    } else {
        bytes_append(proposal->result, result);
        list_push_back(done, &proposal->call.node);
    }
}

/* --- the leader's step --- */

static void take_read(struct meta_group *group, struct meta_server *server, struct call *call)
{
    struct raft_read_ticket ticket;
    struct read_call *read = read_of(call);
    if (raft_read(server->raft, &ticket) != OK) {
        list_push_back(&group->inbox, &call->node); /* the next leader's */
        return;
    }
    read->server = server;
    read->ticket = ticket.number;
    read->index = ticket.index;
    if (ticket.index != 0 && ticket.index <= server->applied)
        group_answer(group, call, OK);
    else
        list_push_back(&server->reads, &call->node);
}

void group_take_calls(struct meta_group *group, struct meta_server *server)
{
    if (server != group->leader || !leads(server))
        return;
    for (uint32_t left = group->inbox.count; left > 0; left--) {
        struct call *call = CONTAINER_OF(list_pop_front(&group->inbox), struct call, node);
        if (call->kind == CALL_PROPOSAL)
            list_push_back(&group->waiting, &call->node);
        else
            take_read(group, server, call);
    }
}

/* --- what is kept and compared --- */

uint64_t group_retained(const struct meta_group *group)
{
    if (group->retain_from != UINT64_MAX && io_now_ns(group->home) < group->retain_until_ns)
        return group->retain_from;
    return UINT64_MAX;
}

uint64_t group_slowest(const struct meta_group *group)
{
    const struct meta_server *leader = group->leader;
    if (!leads(leader))
        return 0;
    uint64_t slowest = UINT64_MAX;
    const struct raft_membership *m = raft_membership_get(leader->raft, NULL);
    const uint64_t *const parts[] = {m->voters, m->old_voters, m->learners};
    const uint32_t counts[] = {m->voter_count, m->old_voter_count, m->learner_count};
    for (unsigned part = 0; part < 3; part++)
        for (uint32_t i = 0; i < counts[part]; i++) {
            struct raft_progress_status progress;
            if (raft_progress_get(leader->raft, parts[part][i], &progress) == OK &&
                progress.match < slowest)
                slowest = progress.match;
        }
    return slowest;
}

static struct group_hash *hash_slot(struct meta_group *group, uint64_t index)
{
    struct group_hash *slot = &group->hashes[index / GROUP_HASH_EVERY % GROUP_HASHES_MAX];
    if (slot->index > index)
        return NULL; /* a replica that is far behind; the others have been compared */
    if (slot->index < index)
        *slot = (struct group_hash){.index = index};
    return slot;
}

static uint32_t count_hash(const struct group_hash *slot, uint64_t hash)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < slot->count; i++)
        count += slot->servers[i] != NULL && slot->hashes[i] == hash;
    return count;
}

static bool leader_has(const struct meta_group *group, const struct group_hash *slot, uint64_t hash)
{
    for (uint32_t i = 0; i < slot->count; i++)
        if (slot->servers[i] == group->leader && slot->hashes[i] == hash)
            return true;
    return false;
}

/* Most replicas that have been there are right; of as many on both sides, those with the leader. */
static bool is_right(const struct meta_group *group, const struct group_hash *slot, uint64_t hash)
{
    uint32_t known = 0;
    for (uint32_t i = 0; i < slot->count; i++)
        known += slot->servers[i] != NULL;
    uint32_t same = count_hash(slot, hash);
    return 2 * same > known || (2 * same == known && leader_has(group, slot, hash));
}

static void compare_hashes(struct meta_group *group, struct group_hash *slot)
{
    bool right[GROUP_REPLICAS_MAX] = {false};
    bool any = false;
    for (uint32_t i = 0; i < slot->count; i++) {
        right[i] = slot->servers[i] != NULL && is_right(group, slot, slot->hashes[i]);
        any |= right[i];
    }
    for (uint32_t i = 0; any && i < slot->count; i++) {
        struct meta_server *server = slot->servers[i];
        if (right[i] || server == NULL || server->failed)
            continue;
        log_error("meta: the state of a replica differs from that of the others index=%" PRIu64
                  " replica=%016" PRIx64,
                  slot->index, server->options.replica_id);
        counter_add(group->hash_mismatches_total, 1);
        server_fail(server, ERR_CORRUPT, "comparison of states");
    }
}

void group_note_hash(struct meta_group *group, struct meta_server *server, uint64_t index,
                     uint64_t hash)
{
    struct group_hash *slot = hash_slot(group, index);
    if (slot == NULL || slot->count == GROUP_REPLICAS_MAX)
        return;
    slot->servers[slot->count] = server;
    slot->hashes[slot->count++] = hash;
    /* With three and more, wait for the third: of two nobody knows which one is right. */
    uint32_t running = 0;
    for (uint32_t i = 0; i < group->replica_count; i++)
        running += runs(group->replicas[i]);
    if (slot->count >= (running < 3 ? running : 3))
        compare_hashes(group, slot);
}
