/* Votes: PreVote (thesis §9.6), one durable vote a term (§5.2), the newer log wins (§5.4.1). */
#include "core.h"
#include <assert.h>

static const struct raft_membership *membership_of(const struct raft *raft)
{
    return &raft_log_membership(&raft->log)->membership;
}

/* While the membership that leaves a voter out is not known to be committed, that voter may be the
 * only one with a log new enough to lead until it is (thesis §4.2.2). */
static bool may_be_voter(const struct raft *raft)
{
    for (uint32_t i = 0; i < raft->log.membership_count; i++)
        if (raft_membership_is_voter(&raft->log.memberships[i].membership, raft->id))
            return true;
    return false;
}

bool raft_promotable(const struct raft *raft)
{
    if (!may_be_voter(raft))
        return false;
    if (raft->snapshot_pending || raft->repair)
        return false;
    /* A committed membership that the state machine has not seen yet (B7). */
    uint64_t settled = raft->log.memberships[0].index;
    if (settled > raft->applied && settled <= raft->commit)
        return false;
    return raft_log_has_room_for_term(&raft->log, raft->term + 1);
}

static bool add_id(uint64_t *ids, uint32_t *count, uint64_t id)
{
    for (uint32_t i = 0; i < *count; i++)
        if (ids[i] == id)
            return false;
    if (*count == RAFT_PEERS_MAX)
        return false; /* answers of replicas that are no voters any more */
    ids[(*count)++] = id;
    return true;
}

static void ask_for_votes(struct raft *raft, enum raft_message_type type, uint64_t term)
{
    uint64_t ids[RAFT_PEERS_MAX];
    uint32_t count = raft_membership_ids(membership_of(raft), ids);
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == raft->id || !raft_membership_is_voter(membership_of(raft), ids[i]))
            continue;
        raft_send(raft, (struct raft_message){
                            .type = type,
                            .to = ids[i],
                            .term = term,
                            .index = raft->log.last_index,
                            .log_term = raft_log_last_term(&raft->log),
                            .transfer = raft->transfer_campaign,
                        });
    }
}

static void start_vote(struct raft *raft)
{
    raft_set_role(raft, RAFT_CANDIDATE, 0);
    raft_set_hard_state(raft, raft->term + 1, raft->id);
    raft_reset_election_timer(raft);
    raft->votes = (struct raft_votes){0};
    ask_for_votes(raft, RAFT_VOTE, raft->term);
    if (MUTANT(VOTE_NOT_DURABLE))
        raft_count_own_vote(raft);
}

static void count_votes(struct raft *raft)
{
    const struct raft_votes *votes = &raft->votes;
    if (raft_membership_quorum(membership_of(raft), votes->granted, votes->granted_count)) {
        if (raft->role == RAFT_PRE_CANDIDATE)
            start_vote(raft);
        else
            raft_lead(raft);
    } else if (raft_membership_blocked(membership_of(raft), votes->refused, votes->refused_count)) {
        raft_become_follower(raft, raft->term, 0);
    }
}

static void start_prevote(struct raft *raft)
{
    raft_set_role(raft, RAFT_PRE_CANDIDATE, 0);
    raft->votes = (struct raft_votes){0};
    (void)add_id(raft->votes.granted, &raft->votes.granted_count, raft->id);
    ask_for_votes(raft, RAFT_PREVOTE, raft->term + 1);
}

void raft_campaign(struct raft *raft, bool transfer)
{
    assert(raft->role != RAFT_LEADER);
    if (!raft_promotable(raft))
        return;
    raft->transfer_campaign = transfer;
    if (transfer || raft_membership_sole(membership_of(raft), raft->id))
        start_vote(raft);
    else
        start_prevote(raft);
}

/* The candidate's own vote counts, like any other, once it is on disk. */
void raft_count_own_vote(struct raft *raft)
{
    assert(raft->role == RAFT_CANDIDATE);
    if (!raft_hard_state_durable(raft) && !MUTANT(VOTE_NOT_DURABLE))
        return;
    if (add_id(raft->votes.granted, &raft->votes.granted_count, raft->id))
        count_votes(raft);
}

static bool log_is_current(const struct raft *raft, const struct raft_message *message)
{
    uint64_t own_term = raft_log_last_term(&raft->log);
    if (message->log_term != own_term)
        return message->log_term > own_term;
    return message->index >= raft->log.last_index;
}

/* A replica that is no voter in its own membership answers too: it may be one in the newer
 * membership that the candidate already has (etcd: campaign_learner_must_vote). */
void raft_receive_vote(struct raft *raft, const struct raft_message *message)
{
    bool prevote = message->type == RAFT_PREVOTE;
    bool open = prevote ? message->term > raft->term
                        : raft->vote == message->from || (raft->vote == 0 && raft->leader == 0);
    bool grant = open && !raft->repair && log_is_current(raft, message);
    if (grant && !prevote) {
        if (raft->vote == 0) {
            raft_set_role(raft, RAFT_FOLLOWER, 0);
            raft_set_hard_state(raft, raft->term, message->from);
        }
        raft_reset_election_timer(raft);
    }
    raft_send(raft, (struct raft_message){
                        .type = prevote ? RAFT_PREVOTE_REPLY : RAFT_VOTE_REPLY,
                        .to = message->from,
                        .term = prevote && grant ? message->term : raft->term,
                        .reject = !grant,
                    });
}

void raft_receive_vote_reply(struct raft *raft, const struct raft_message *message)
{
    struct raft_votes *votes = &raft->votes;
    if (message->type == RAFT_PREVOTE_REPLY) {
        if (raft->role != RAFT_PRE_CANDIDATE)
            return;
        if (!message->reject && message->term != raft->term + 1)
            return; /* an answer to an earlier attempt */
    } else if (raft->role != RAFT_CANDIDATE) {
        return;
    }
    bool added = message->reject ? add_id(votes->refused, &votes->refused_count, message->from)
                                 : add_id(votes->granted, &votes->granted_count, message->from);
    if (added)
        count_votes(raft);
}
