/* A group of replicas on simulated disks and a network of encoded messages, for scripts and seeds.
 *
 * The caller decides what happens when: which packet arrives, which write becomes durable, who
 * crashes. After each step the group checks the invariants of consensus that it can see from
 * outside: I1, I2, I4, I6, I8, I9 of the design, and that no message leaves before what it claims
 * is on its sender's disk. A violation ends the process through group_violation. */
#pragma once
#include "base/bytes.h"
#include "raft/raft.h"
#include <stdbool.h>
#include <stdint.h>

enum { GROUP_REPLICAS_MAX = 12, GROUP_PENDING_MAX = 1024 };

struct stored_entry {
    uint64_t term;
    enum raft_entry_type type;
    uint8_t *data;
    size_t bytes;
};

/* The state machine: a counter of commands, and a running hash of everything applied. */
struct store {
    uint64_t applied;
    uint64_t counter;
    uint64_t hash;
    struct raft_membership membership;
};

struct disk {
    struct raft_hard_state hard_state;
    uint64_t compacted_index;
    uint64_t compacted_term;
    struct stored_entry *entries;
    uint64_t entry_count;
    uint64_t entry_capacity;
    struct raft_membership_at base; /* at or below compacted_index */
    struct store store;             /* as flushed */
};

struct pending_write {
    struct raft_token token;
    bool hard_state_changed;
    struct raft_hard_state hard_state;
    uint64_t truncate_from;
    uint64_t first;
    struct stored_entry *entries;
    uint64_t count;
};

struct packet {
    enum raft_message_type type;
    uint64_t from;
    uint64_t to;
    uint64_t wait_sequence;
    uint8_t *data;
    size_t bytes;
};

struct packets {
    struct packet *items;
    uint32_t count;
    uint32_t capacity;
};

struct vote_seen {
    uint64_t term;
    uint64_t candidate;
};

struct replica {
    uint64_t id;
    struct raft *raft; /* NULL while down */
    struct disk disk;
    struct store store;
    struct pending_write writes[GROUP_PENDING_MAX];
    uint32_t write_count;
    struct packets held;
    uint64_t sequence_durable;
    struct raft_token late;       /* durable, but not answered yet; sequence 0: none */
    uint64_t apply_last;          /* committed up to here was handed out */
    struct raft_read_grant grant; /* newest */
    uint64_t reads_failed_last;
    struct vote_seen *votes;
    uint32_t vote_count;
    uint32_t vote_capacity;
    bool snapshot_wanted[GROUP_REPLICAS_MAX]; /* by position of the follower */
    uint32_t restarts;
};

struct group {
    struct replica replicas[GROUP_REPLICAS_MAX];
    uint32_t replica_count;
    struct packets network;
    struct bytes *trace; /* NULL: no text */
    bool manual_apply;
    bool manual_load;
    uint64_t seed;

    /* What the group as a whole decided. */
    uint64_t *leaders; /* by term */
    uint64_t leader_capacity;
    uint64_t *committed_terms; /* by index - 1 */
    uint64_t *committed_hashes;
    uint64_t *committed_counters; /* commands up to and with this index */
    uint64_t committed_count;
    uint64_t commit_checked; /* I4 was checked up to here, when a leader first committed it */
    uint64_t committed_capacity;
    struct raft_entries decode_storage;
};

/* Report and end the process. */
_Noreturn void group_violation(const struct group *group, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void group_init(struct group *group, const struct raft_membership *membership, uint64_t seed);
void group_deinit(struct group *group);
struct replica *group_find(struct group *group, uint64_t id);
/* Add a replica with an empty disk; it knows `membership` from index 0. */
struct replica *group_add(struct group *group, uint64_t id,
                          const struct raft_membership *membership);

/* Take every output of the replica and act on it. */
void group_drain(struct group *group, struct replica *replica);
/* Deliver packet `position` of the network (it leaves the network). */
void group_deliver(struct group *group, uint32_t position);
void group_drop(struct group *group, uint32_t position);
void group_duplicate(struct group *group, uint32_t position);
/* The oldest pending write becomes durable; `answered`: the replica is told now. False: none. */
bool group_persist(struct group *group, struct replica *replica, bool answered);
/* Answer the newest write whose answer was held back, perhaps after later ones. */
void group_answer_late(struct group *group, struct replica *replica);
/* Apply committed entries up to apply_last. */
void group_apply(struct group *group, struct replica *replica);
/* Lose memory and every pending write but the first `survivors`. */
void group_crash(struct group *group, struct replica *replica, uint32_t survivors);
void group_restart(struct group *group, struct replica *replica);
void group_flush_store(struct replica *replica);
/* Cut the log up to `index` (<= the flushed store's applied). */
void group_compact(struct group *group, struct replica *replica, uint64_t index);
/* Install the store `snapshot` taken at (applied, term). */
void group_install(struct group *group, struct replica *to, const struct store *snapshot,
                   uint64_t term);
/* Give a crafted message to its receiver. */
enum err group_inject(struct group *group, const struct raft_message *message);

uint64_t disk_last(const struct disk *disk);
void group_print(struct group *group, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
const char *message_type_text(enum raft_message_type type);
const char *role_text(enum raft_role role);
void print_membership(struct bytes *out, const struct raft_membership *membership);
