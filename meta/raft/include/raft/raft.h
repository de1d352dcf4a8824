/* Raft as a pure state machine: events go in, one struct of work comes out.
 *
 * No clock, no thread, no I/O, no callback. The owner (one fiber per replica) does, for ever:
 *
 *   1. feed inputs: raft_tick, raft_receive, raft_propose, raft_read, raft_applied, ...
 *   2. while raft_has_output: raft_take_output, and before the next input
 *        - copy `hard_state`, truncation and entries into ONE ordered log stream, in this order;
 *        - send `messages` whose wait_sequence is 0 or durable already; queue the others (they
 *          never carry entries) until a token of at least that sequence is durable;
 *        - hand `committed` to the apply lane, and loads and snapshots to whoever does them.
 *   3. when a write and all writes before it are durable: raft_persisted(token of that output).
 *
 * Rules inside (Raft = Ongaro's thesis): PreVote, CheckQuorum and stickiness; ReadIndex in rounds
 * that only the leader numbers; a replica counts for a commit with what it reported durable, the
 * leader included; a message that tells of a term, vote or entry waits until that is durable; joint
 * consensus only, in force when appended; followers never forward proposals.
 *
 * Payloads: entries that are not yet durable and applied are kept in memory, and the newest older
 * ones up to cache_bytes_max. Terms of the whole log are kept as runs, so log matching never reads
 * the disk. What a lagging follower needs beyond the memory is asked for by `loads`. Entries that a
 * restarted replica has on disk but not in memory are read by the owner when it applies them.
 *
 * Lifetime: what an output points to is valid until the next call with a non-const raft. The
 * payload of an entry in a `committed` range stays in place until raft_applied covers it. */
#pragma once
#include "base/bytes.h"
#include "base/err.h"
#include "base/own.h"
#include "base/slice.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    RAFT_VOTERS_MAX = 9,
    RAFT_LEARNERS_MAX = 9,
    RAFT_PEERS_MAX = 2 * RAFT_VOTERS_MAX + RAFT_LEARNERS_MAX,
    RAFT_HEARTBEAT_TICKS = 2,
    RAFT_ELECTION_TICKS = 20, /* each attempt waits 20..40 */
    RAFT_INFLIGHT_MESSAGES_MAX = 256,
    RAFT_INFLIGHT_BYTES_MAX = 16 << 20,
    RAFT_MESSAGE_BYTES_MAX = 1 << 20, /* of entries; a single larger entry travels alone */
    RAFT_MESSAGE_ENTRIES_MAX = 4096,
    RAFT_PAYLOAD_BYTES_MAX = 8 << 20,
    RAFT_ENTRY_OVERHEAD_BYTES = 32, /* charged for each entry on top of its payload */
    RAFT_UNCOMMITTED_BYTES_MAX = 64 << 20,
    RAFT_CACHE_BYTES_MAX = 16 << 20,
    RAFT_PROMOTE_LAG_MAX = 1000,    /* a learner this close to the commit index may become voter */
    RAFT_MEMBERSHIPS_MAX = 256,     /* membership entries above the commit index */
    RAFT_TERM_RUNS_MAX = 65536,     /* changes of term in the log since its first entry */
    RAFT_OUTPUT_MESSAGES_MAX = 4096 /* further replies are dropped, as a network may */
};

/* ---- membership ---- */

/* Voters and learners. While old_voter_count > 0 the membership is joint: a quorum needs a majority
 * of `voters` and of `old_voters`. Ids are never 0 and never used again after a replica lost its
 * state. */
struct raft_membership {
    uint64_t voters[RAFT_VOTERS_MAX];
    uint64_t old_voters[RAFT_VOTERS_MAX];
    uint64_t learners[RAFT_LEARNERS_MAX];
    uint32_t voter_count;
    uint32_t old_voter_count;
    uint32_t learner_count;
};

/* The payload of a RAFT_MEMBERSHIP entry. */
void raft_membership_encode(struct bytes *out, const struct raft_membership *membership);
/* ERR_CORRUPT: malformed, no voter, an id 0 or twice. ERR_UNSUPPORTED: later version. */
enum err raft_membership_decode(struct slice input, struct raft_membership *out_membership);
bool raft_membership_is_voter(const struct raft_membership *membership, uint64_t replica);
/* Is `replica` a voter or learner in any part? */
bool raft_membership_has(const struct raft_membership *membership, uint64_t replica);

/* ---- log and messages ---- */

enum raft_entry_type { RAFT_NOOP = 1, RAFT_COMMAND = 2, RAFT_MEMBERSHIP = 3 };

struct raft_entry {
    uint64_t term;
    struct slice payload;
    enum raft_entry_type type;
};

/* Entries from first_index to the next run's first_index - 1 have this term. */
struct raft_term_run {
    uint64_t first_index;
    uint64_t term;
};

struct raft_membership_at {
    uint64_t index;
    struct raft_membership membership;
};

/* The log on disk as raft_new finds it: entries compacted_index+1 .. last_index. */
struct raft_log_view {
    uint64_t compacted_index; /* 0: nothing was compacted */
    uint64_t compacted_term;
    uint64_t last_index; /* == compacted_index: the log is empty */
    const struct raft_term_run *runs;
    uint32_t run_count; /* 0 exactly when the log is empty */
};

enum raft_message_type {
    RAFT_PREVOTE = 1,
    RAFT_PREVOTE_REPLY,
    RAFT_VOTE,
    RAFT_VOTE_REPLY,
    RAFT_APPEND,
    RAFT_APPEND_REPLY,
    RAFT_HEARTBEAT,
    RAFT_HEARTBEAT_REPLY,
    RAFT_TIMEOUT_NOW,
};

struct raft_message {
    enum raft_message_type type;
    bool reject;   /* replies */
    bool transfer; /* VOTE, PREVOTE: part of a leader transfer, overrides stickiness */
    bool repair;   /* replies: the sender is in repair and proves nothing beyond `index` */
    uint64_t group;
    uint64_t from;
    uint64_t to;
    uint64_t term;
    uint64_t index;    /* APPEND: index before the entries; VOTE: last; APPEND_REPLY: match, or the
                        * refused previous index */
    uint64_t log_term; /* term of `index` in requests */
    uint64_t commit;   /* APPEND, HEARTBEAT */
    uint64_t round;    /* HEARTBEAT and its reply: read round of the leader of `term` */
    uint64_t hint_index; /* refused APPEND: the log may match here at the latest */
    uint64_t hint_term;
    const struct raft_entry *entries; /* APPEND: entries index+1 .. index+entry_count */
    uint32_t entry_count;
    /* Not encoded: 0, or send only once a token with at least this sequence is durable. */
    uint64_t wait_sequence;
};

enum { RAFT_MESSAGE_ENCODED_MAX = RAFT_PAYLOAD_BYTES_MAX + (1 << 20) };

/* Room for decoded entries, re-used from message to message. Zero is valid and empty. */
struct raft_entries {
    struct raft_entry *entries;
    uint32_t capacity;
};
void raft_entries_deinit(struct raft_entries *entries);

void raft_message_encode(struct bytes *out, const struct raft_message *message);
/* Payloads borrow from `input`, the entry array is `storage`; any input is safe.
 * ERR_CORRUPT: malformed. ERR_UNSUPPORTED: version of a later release. ERR_LIMIT: entries. */
enum err raft_message_decode(struct slice input, struct raft_entries *storage,
                             struct raft_message *out_message);

/* ---- the replica ---- */

struct raft;

struct raft_hard_state {
    uint64_t term;
    uint64_t vote;   /* 0: none in this term */
    uint64_t commit; /* a hint: committed and durable; need not be synced by itself */
};

struct raft_config {
    uint64_t replica; /* own id, never 0 */
    uint64_t group;
    struct raft_hard_state hard_state;
    struct raft_log_view log;
    /* By index; the first one at or below the commit hint, all later ones in the log follow. Index
     * 0 is the membership the group was made with. */
    const struct raft_membership_at *memberships;
    uint32_t membership_count;
    uint64_t applied_index;         /* of the state store, within the log or its compacted end */
    uint64_t seed;                  /* of the election timeouts */
    uint64_t uncommitted_bytes_max; /* 0: RAFT_UNCOMMITTED_BYTES_MAX */
    uint64_t cache_bytes_max;       /* 0: RAFT_CACHE_BYTES_MAX */
};

/* A follower without leader. Everything in `config` is copied.
 * ERR_CORRUPT: the durable parts contradict each other (applied beyond the log, terms that fall,
 *              an entry's term above the hard state's, no membership): stop with a report.
 * ERR_LIMIT: more than RAFT_MEMBERSHIPS_MAX memberships or RAFT_TERM_RUNS_MAX runs. */
enum err raft_new(const struct raft_config *config, struct raft **out_raft);
void raft_free(struct raft *raft);
DEFINE_AUTO(raft, raft_free)

/* ---- inputs ---- */

/* 50 ms passed. A sole voter elects itself at its first tick. */
void raft_tick(struct raft *raft);

/* A message of a peer; borrowed.
 * ERR_MISMATCH: for another group or replica.
 * ERR_CORRUPT: contradicts what is committed here or is malformed: stop the replica with a report.
 * ERR_BUSY: dropped, memory for unapplied entries is used up; the leader sends it again. */
enum err raft_receive(struct raft *raft, const struct raft_message *message);

/* Append a RAFT_COMMAND made of the slices joined (copied; together 1..RAFT_PAYLOAD_BYTES_MAX).
 * It took effect exactly when a `committed` range covers out_index while the entry there has
 * out_term.
 * ERR_NOT_LEADER: ask raft_leader. ERR_LIMIT: payload too large.
 * ERR_BUSY: too many uncommitted bytes, or leadership is being transferred; answer SlowDown. */
enum err raft_propose(struct raft *raft, const struct slice *slices, uint32_t slice_count,
                      uint64_t *out_index, uint64_t *out_term);

struct raft_read_ticket {
    uint64_t number; /* grows by one with each read */
    uint64_t index;  /* not 0: granted at once, read when this index is applied */
};
/* Ask for a linearizable read. If not granted at once, it is when a grant's ticket_last reaches
 * `number`, and it failed when output.reads_failed_last does. A sole voter is granted at once.
 * ERR_NOT_LEADER: ask raft_leader. */
enum err raft_read(struct raft *raft, struct raft_read_ticket *out_ticket);

/* What an output told to write. last_index belongs to one generation of the log; truncation and
 * snapshot installation start the next one. */
struct raft_token {
    uint64_t sequence; /* of the write, from 1 */
    uint64_t generation;
    uint64_t term;
    uint64_t last_index;
};
/* The write of `token` and all before it are durable. An answer that a truncation made old moves no
 * log position (its sequence still counts), a repeated one does nothing. */
void raft_persisted(struct raft *raft, const struct raft_token *token);

/* The state store holds everything up to `index` (<= the last committed range's end). */
void raft_applied(struct raft *raft, uint64_t index);

/* Hand leadership to a voter; no proposals meanwhile; given up after RAFT_ELECTION_TICKS.
 * ERR_NOT_LEADER. ERR_INVALID: not another voter. ERR_BUSY: a transfer is going on. */
enum err raft_transfer_leader(struct raft *raft, uint64_t target);

/* Change voters and learners to `target` (not joint). If voters change, Joint(old, target) is
 * appended now and Final(target) by the leader of the day when that is committed.
 * ERR_NOT_LEADER. ERR_INVALID: malformed target.
 * ERR_BUSY: nothing committed in this term yet, or a change or a transfer is going on.
 * ERR_PRECONDITION: a new voter is no learner within RAFT_PROMOTE_LAG_MAX. */
enum err raft_change_membership(struct raft *raft, const struct raft_membership *target,
                                uint64_t *out_index);

/* The log was cut: entries up to `index` (<= applied) are gone from disk. */
void raft_compacted(struct raft *raft, uint64_t index);

/* A snapshot is being received: no campaign until it is installed or this is called with false. */
void raft_set_snapshot_pending(struct raft *raft, bool pending);
/* A snapshot at (index, term) was installed in the log stream and is durable; applied and commit
 * move to it; the owner stopped applying earlier entries before. Log entries beyond it stay if the
 * log holds that (index, term), else the next output truncates them.
 * ERR_STALE: not above the commit index, or this replica leads; nothing changed. */
enum err raft_snapshot_installed(struct raft *raft, uint64_t index, uint64_t term,
                                 const struct raft_membership *membership);
/* The sender of an output's `snapshots` gave up: the follower is probed again. */
void raft_snapshot_failed(struct raft *raft, uint64_t peer);

/* Damaged log (entries from first_unknown on may be missing): no votes, no campaign, no
 * acknowledgement at or beyond first_unknown; entries the leader sends for the gap come out as
 * `repairs`. Call again with the next unknown index as gaps fill, and with false when the log is
 * whole up to the leader's commit. */
void raft_set_repair(struct raft *raft, bool repair, uint64_t first_unknown);

/* Answer to one of output.loads: entries from first_index on, copied. count 0: could not be read;
 * asked again later. Ignored when no longer wanted. */
void raft_entries_loaded(struct raft *raft, uint64_t peer, uint64_t first_index,
                         const struct raft_entry *entries, uint32_t count);

/* ---- output ---- */

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };

/* The leader confirmed itself in one round: all reads up to ticket_last not granted before may be
 * served when `index` is applied. */
struct raft_read_grant {
    uint64_t ticket_last;
    uint64_t index;
};

struct raft_load {
    uint64_t peer;
    uint64_t first_index;
    uint64_t
        last_index; /* the owner may answer with fewer, at most RAFT_MESSAGE_BYTES_MAX or one */
};

struct raft_output {
    const struct raft_message *messages;
    uint32_t message_count;

    /* Write work: present when token.sequence != 0. */
    struct raft_token token;
    bool hard_state_changed; /* then `hard_state` is written before the entries, and synced */
    struct raft_hard_state hard_state;
    uint64_t truncate_from; /* not 0: drop stored entries from here on, before appending */
    uint64_t append_first; /* entries append_first .. append_first+append_count-1: raft_entry_get */
    uint64_t append_count;

    /* Committed and durable here; apply in order. Empty when committed_last < committed_first. */
    uint64_t committed_first;
    uint64_t committed_last;

    struct raft_read_grant grant; /* ticket_last 0: none; look at it before reads_failed_last */
    uint64_t reads_failed_last;   /* not 0: reads up to this ticket that were not granted failed */

    bool role_changed; /* role, leader or term */
    enum raft_role role;
    uint64_t leader; /* 0: unknown */
    uint64_t term;
    bool membership_changed; /* see raft_membership_get */

    const struct raft_load *loads;
    uint32_t load_count;
    const uint64_t *snapshots; /* followers that need one: their entries were compacted */
    uint32_t snapshot_count;

    /* Repair: entries the leader sent for the gap, with the terms this log already knows. */
    const struct raft_entry *repairs;
    uint64_t repair_first;
    uint32_t repair_count;
};

bool raft_has_output(const struct raft *raft);
void raft_take_output(struct raft *raft, struct raft_output *out_output);

/* ---- state, for owners, reports and tests ---- */

/* ERR_WOULD_BLOCK: in the log but not in memory. ERR_COMPACTED. ERR_NOT_FOUND: beyond the end. */
enum err raft_entry_get(const struct raft *raft, uint64_t index, struct raft_entry *out_entry);
/* ERR_COMPACTED, ERR_NOT_FOUND; never a term 0 for a compacted index. */
enum err raft_term_get(const struct raft *raft, uint64_t index, uint64_t *out_term);
uint64_t raft_leader(const struct raft *raft); /* 0: unknown */
/* The membership in force, and the index of its entry. */
const struct raft_membership *raft_membership_get(const struct raft *raft, uint64_t *out_index);

struct raft_status {
    enum raft_role role;
    uint64_t term;
    uint64_t vote;
    uint64_t leader;
    uint64_t compacted_index;
    uint64_t last_index;
    uint64_t durable_index;
    uint64_t commit_index;
    uint64_t
        leader_commit_index; /* highest commit a leader of this term told, even beyond the log */
    uint64_t applied_index;
    uint64_t uncommitted_bytes;
    uint64_t cached_bytes;
    uint64_t messages_dropped;
};
void raft_status_get(const struct raft *raft, struct raft_status *out_status);

enum raft_progress_state { RAFT_PROBE, RAFT_REPLICATE, RAFT_SNAPSHOT };
struct raft_progress_status {
    enum raft_progress_state state;
    uint64_t match;
    uint64_t next;
    uint32_t inflight_count;
    bool active; /* answered since the last CheckQuorum */
};
/* ERR_NOT_FOUND: not a peer, or not the leader. */
enum err raft_progress_get(const struct raft *raft, uint64_t peer,
                           struct raft_progress_status *out_status);
