/* What a replica knows of its log: terms of every entry as runs, payloads of the newest entries,
 * and the memberships by log position. Nothing here decides; raft.c and its neighbours do.
 *
 *   compacted_index   durable   cache_first ...... last_index
 *   |  runs: terms of all of these ...................|
 *
 * Invariant: the cache covers cache_first..last_index; empty: cache_first == last_index + 1.
 * Invariant: run terms rise strictly, the first run begins at compacted_index + 1. */
#pragma once
#include "raft/raft.h"

struct raft_log {
    uint64_t compacted_index;
    uint64_t compacted_term;
    uint64_t last_index;
    struct raft_term_run *runs;
    uint32_t run_count;
    uint32_t run_capacity;

    struct raft_entry *ring; /* payloads are owned; entry i lives at i & (ring_capacity - 1) */
    uint64_t ring_capacity;  /* power of two */
    uint64_t cache_first;
    uint64_t cache_bytes; /* payloads and overhead */

    struct raft_membership_at *memberships; /* [0] is at or below commit, the others above */
    uint32_t membership_count;
    uint32_t membership_capacity;
};

/* ERR_CORRUPT, ERR_LIMIT as raft_new. */
enum err raft_log_init(struct raft_log *log, const struct raft_config *config);
void raft_log_deinit(struct raft_log *log);

/* ERR_COMPACTED, ERR_NOT_FOUND; quiet, because asking is part of log matching. */
enum err raft_log_term(const struct raft_log *log, uint64_t index, uint64_t *out_term);
/* Term of the last entry, or of the compacted end: the one answer for asking and granting votes. */
uint64_t raft_log_last_term(const struct raft_log *log);
/* Does the log hold (index, term), the compacted end included? */
bool raft_log_matches(const struct raft_log *log, uint64_t index, uint64_t term);
/* Highest index <= `index` whose term is <= `term`; the compacted index when there is none. */
uint64_t raft_log_find_conflict(const struct raft_log *log, uint64_t index, uint64_t term);

/* Append one entry; takes `payload` (mem_alloc'd, NULL when empty). */
void raft_log_append(struct raft_log *log, uint64_t term, enum raft_entry_type type, void *payload,
                     size_t payload_bytes);
bool raft_log_has_room_for_term(const struct raft_log *log, uint64_t term);
/* Drop entries from `first` on, and the memberships they brought. */
void raft_log_truncate(struct raft_log *log, uint64_t first);
/* The log becomes empty and ends at (index, term). */
void raft_log_reset(struct raft_log *log, uint64_t index, uint64_t term);
/* Forget terms and payloads up to `index`, which the log holds. */
void raft_log_compact(struct raft_log *log, uint64_t index);
/* Free the payload of the oldest cached entry. */
void raft_log_evict_first(struct raft_log *log);

static inline bool raft_log_cached(const struct raft_log *log, uint64_t index)
{
    return index >= log->cache_first && index <= log->last_index;
}
static inline const struct raft_entry *raft_log_entry(const struct raft_log *log, uint64_t index)
{
    return &log->ring[index & (log->ring_capacity - 1)];
}
static inline uint64_t raft_entry_bytes(const struct raft_entry *entry)
{
    return entry->payload.bytes + RAFT_ENTRY_OVERHEAD_BYTES;
}

/* The membership in force: the newest one appended. */
static inline const struct raft_membership_at *raft_log_membership(const struct raft_log *log)
{
    return &log->memberships[log->membership_count - 1];
}
/* ERR_LIMIT: too many above the commit index. */
enum err raft_log_push_membership(struct raft_log *log, uint64_t index,
                                  const struct raft_membership *membership);
/* Entries up to `commit` cannot be truncated any more: keep only the newest membership of them. */
void raft_log_settle_memberships(struct raft_log *log, uint64_t commit);
/* Installed snapshot: this is the membership at `index`; those above stay. */
void raft_log_rebase_memberships(struct raft_log *log, uint64_t index,
                                 const struct raft_membership *membership);
