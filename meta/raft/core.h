/* The replica's state, shared by the files of this folder.
 *
 *   raft.c       life, inputs, terms and roles, following a leader
 *   election.c   votes
 *   replicate.c  leading: progress of followers, commit, reads, membership changes, transfer
 *   output.c     collects what the owner must do
 *   log.c        log positions, payload cache; membership.c quorums; message.c codec */
#pragma once
#include "log.h"
#include "membership.h"
#include "raft/raft.h"

/* Deliberate bugs that the tests must catch; 0 in every real build. */
#ifndef RAFT_MUTANT
#define RAFT_MUTANT 0
#endif
enum raft_mutant {
    MUTANT_COMMIT_WITHOUT_OWN_FSYNC = 1,
    MUTANT_VOTE_NOT_DURABLE = 2,
    MUTANT_COMMIT_EARLIER_TERM = 3,
    MUTANT_READ_ROUND_REUSED = 4,
    MUTANT_NO_TRUNCATION = 5,
    MUTANT_NO_STICKINESS = 6,
    MUTANT_ACK_BEFORE_PERSIST = 7,
    MUTANT_JOINT_SINGLE_MAJORITY = 8,
    MUTANT_READ_BEFORE_NOOP = 9,
    MUTANT_STALE_TOKEN_ACCEPTED = 10,
    MUTANT_SECOND_CHANGE_ALLOWED = 11,
    MUTANT_SNAPSHOT_RESETS_VOTE = 12,
};
#define MUTANT(name) (RAFT_MUTANT == MUTANT_##name)

struct raft_inflight {
    uint64_t last_index;
    uint64_t bytes;
};

/* What the leader knows of one follower.
 *
 *   PROBE -> REPLICATE        an append was acknowledged
 *   REPLICATE -> PROBE        an append was refused: a message was lost, or its log
 *   PROBE, REPLICATE -> SNAPSHOT   what it needs was compacted
 *   SNAPSHOT -> REPLICATE, PROBE   it acknowledged the snapshot, or the sender gave up */
struct raft_peer {
    uint64_t id;
    enum raft_progress_state state;
    uint64_t match; /* durable there in this term, matching this log */
    uint64_t next;  /* first entry not yet sent */
    uint64_t commit_sent;
    bool active;    /* answered since the last CheckQuorum */
    bool paused;    /* PROBE: one message is out */
    bool loading;   /* the owner reads entries from disk, from `next` on */
    bool must_send; /* an append is due even without entries: it tests the follower's log */
    struct raft_entry *loaded; /* owned answer of a load, to be sent from loaded_first on */
    uint64_t loaded_first;
    uint32_t loaded_count;
    uint64_t inflight_bytes;
    uint32_t inflight_head;
    uint32_t inflight_count;
    struct raft_inflight inflights[RAFT_INFLIGHT_MESSAGES_MAX];
};

struct raft_votes {
    uint64_t granted[RAFT_PEERS_MAX];
    uint64_t refused[RAFT_PEERS_MAX];
    uint32_t granted_count;
    uint32_t refused_count;
};

/* ReadIndex (thesis §6.4) in rounds: reads that arrive while a round runs join the next one. */
struct raft_reads {
    uint64_t ticket_last;   /* handed out */
    uint64_t ticket_joined; /* reads up to here belong to the running or an earlier round */
    uint64_t ticket_done;   /* granted or failed */
    uint64_t round;         /* number of the last round begun, never used twice by this replica */
    bool running;
    uint64_t round_index; /* commit index when the round began */
    uint64_t confirmed[RAFT_PEERS_MAX];
    uint32_t confirmed_count;
};

struct raft_pending_output {
    struct raft_message *messages;
    uint64_t *entry_offsets; /* of each message in `scratch` */
    uint32_t message_count;
    uint32_t message_capacity;
    struct raft_entry *scratch; /* entry arrays of the messages */
    uint32_t scratch_count;
    uint32_t scratch_capacity;
    struct raft_entry *retired; /* loaded and repair entries, freed when the next output is taken */
    uint32_t retired_count;
    uint32_t retired_capacity;
    struct raft_entry *repairs; /* payloads owned until given out, then retired */
    uint64_t repair_first;
    uint32_t repair_count;
    struct raft_load loads[RAFT_PEERS_MAX];
    uint32_t load_count;
    uint64_t snapshots[RAFT_PEERS_MAX];
    uint32_t snapshot_count;
    bool appends_due; /* leader: followers may have something to be sent */

    bool hard_state_changed;
    uint64_t truncate_from;
    uint64_t append_first; /* entries from here on were not given out yet */
    uint64_t committed_sent;
    struct raft_read_grant grant;
    uint64_t reads_failed_last;
    bool role_changed;
    bool membership_changed;
};

struct raft {
    uint64_t id;
    uint64_t group;
    uint64_t uncommitted_bytes_max;
    uint64_t cache_bytes_max;

    uint64_t term;
    uint64_t vote;
    struct raft_log log;

    enum raft_role role;
    uint64_t leader;
    uint64_t commit;
    uint64_t leader_commit;
    uint64_t applied;

    /* Durability. Sequences number the writes; hard_sequence is the one with {term, vote}. */
    uint64_t durable_index;
    uint64_t generation;
    uint64_t sequence_next;
    uint64_t sequence_durable;
    uint64_t hard_sequence;

    uint32_t election_elapsed;
    uint32_t election_timeout;
    uint32_t heartbeat_elapsed;
    uint32_t leader_silent_ticks;
    uint64_t random;
    bool transfer_campaign;
    struct raft_votes votes;

    bool snapshot_pending;
    bool repair;
    uint64_t first_unknown;

    /* Leader only. */
    struct raft_peer *peers;
    uint32_t peer_count;
    uint64_t term_first_index; /* the no-op of this term */
    uint64_t uncommitted_bytes;
    uint64_t transfer_target;
    uint32_t transfer_elapsed;
    struct raft_reads reads;

    uint64_t messages_dropped;
    struct raft_pending_output output;
};

/* raft.c */
void raft_become_follower(struct raft *raft, uint64_t term, uint64_t leader);
void raft_set_role(struct raft *raft, enum raft_role role, uint64_t leader);
void raft_set_hard_state(struct raft *raft, uint64_t term, uint64_t vote);
void raft_reset_election_timer(struct raft *raft);
void raft_set_commit(struct raft *raft, uint64_t commit);
void raft_trim_cache(struct raft *raft);

/* election.c */
bool raft_promotable(const struct raft *raft);
void raft_campaign(struct raft *raft, bool transfer);
void raft_count_own_vote(struct raft *raft);
void raft_receive_vote(struct raft *raft, const struct raft_message *message);
void raft_receive_vote_reply(struct raft *raft, const struct raft_message *message);

/* replicate.c */
void raft_lead(struct raft *raft);
void raft_leave_leadership(struct raft *raft);
void raft_leader_tick(struct raft *raft);
void raft_leader_persisted(struct raft *raft);
void raft_leader_committed(struct raft *raft);
void raft_refresh_peers(struct raft *raft);
void raft_receive_append_reply(struct raft *raft, const struct raft_message *message);
void raft_receive_heartbeat_reply(struct raft *raft, const struct raft_message *message);
void raft_advance_reads(struct raft *raft);
uint64_t raft_replicated_everywhere(const struct raft *raft);
/* Queue the appends that followers may get now, in messages of bounded size. */
void raft_send_appends(struct raft *raft);
struct raft_peer *raft_peer_find(const struct raft *raft, uint64_t id);

/* output.c */
/* Queue a message from this replica; fills group, from and the wait for the hard state. `term` 0
 * means the current one. */
void raft_send(struct raft *raft, struct raft_message message);
/* Sequence of the write that makes the log durable up to `index`; 0 when it is already. */
uint64_t raft_wait_for_index(const struct raft *raft, uint64_t index);
/* Add an entry to the arrays that messages of this output point to. */
void raft_scratch_add(struct raft *raft, const struct raft_entry *entry);
/* Is the hard state on disk? */
bool raft_hard_state_durable(const struct raft *raft);
/* Payload to be freed when the next output is taken. */
void raft_retire(struct raft *raft, struct raft_entry entry);
void raft_output_deinit(struct raft *raft);
