/* What the records of a log add up to. Pure.
 *
 * The writer and recovery feed every batch through log_state_batch, so what a running log knows
 * about itself and what a restarted one finds are made by the same code. Invariants, refused as
 * ERR_CORRUPT when a batch breaks one: entries of a group follow each other and their terms
 * never fall; hard states only rise (I2, B9); each batch names what the one before it left
 * (sequence, and for each group it touched the last index and a hash over all its records), so
 * a batch that was lost or replaced is noticed by the next. */
#pragma once
#include "log_format.h"
#include "raft/raft.h"

/* Where the entries from first_index to the next span's first_index - 1 are: in one batch. */
struct log_span {
    uint64_t first_index;
    uint64_t segment;
    uint32_t offset;
    uint32_t block_count;
};

struct log_group {
    uint64_t id;
    struct raft_hard_state hard_state;
    uint64_t compacted_index;
    uint64_t compacted_term;
    uint64_t last_index;
    uint64_t chain;     /* hash over all records of the group */
    uint64_t touched;   /* sequence of the last batch that had a record of it */
    uint64_t cut_index; /* entries up to here are not needed any more */
    struct raft_term_run *runs;
    struct raft_membership_at
        *memberships; /* the one in force at the compacted index, and all later */
    struct log_span *spans;
    uint32_t run_count, run_capacity;
    uint32_t membership_count, membership_capacity;
    uint32_t span_count, span_capacity;
};

struct log_segment_mark {
    uint64_t group;
    uint64_t start_index; /* last index of the group when the segment began */
    uint64_t last_index;  /* largest in the segment, 0: none */
};
struct log_segment {
    uint64_t number;
    uint64_t first_sequence;
    uint64_t bytes; /* of its batches */
    struct log_segment_mark *marks;
    uint32_t mark_count, mark_capacity;
};

struct log_state {
    struct log_group **groups;    /* by ascending id */
    struct log_segment *segments; /* the last one is being written */
    uint32_t group_count;
    uint32_t segment_count, segment_capacity;
    uint64_t sequence; /* of the last batch */
    uint64_t end;      /* offset behind it in its segment */
};

void log_state_deinit(struct log_state *state);
struct log_group *log_state_group(const struct log_state *state, uint64_t group); /* or NULL */
/* ERR_COMPACTED, ERR_NOT_FOUND. */
enum err log_group_term(const struct log_group *group, uint64_t index, uint64_t *out_term);
/* The span that holds `index`, and *out_next, the first index behind it. NULL: not in the log. */
const struct log_span *log_group_span(const struct log_group *group, uint64_t index,
                                      uint64_t *out_next);

/* Append the records that the next batch begins with, given whether it begins a segment. */
void log_state_opening(const struct log_state *state, bool new_segment, struct bytes *out);

struct log_batch {
    uint64_t sequence;
    uint64_t segment;
    uint64_t offset;
    uint32_t block_count;
    struct slice stream;
};
/* Take the next batch. ERR_CORRUPT, ERR_UNSUPPORTED; after an error the state is of no use. */
enum err log_state_batch(struct log_state *state, const struct log_batch *batch);

/* Bytes of all batches. */
uint64_t log_state_bytes(const struct log_state *state);
/* Forget the first segment if all of its entries are at or below the cuts of their groups and
 * the next segment, which repeats what else it held, has begun durably. */
bool log_state_drop_segment(struct log_state *state, uint64_t durable_sequence);
