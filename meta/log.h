/* The Raft log of one drive: one ordered stream of durable batches, shared by the groups that
 * live on it.
 *
 * Appends return at once with a ticket; tickets become durable in their order. What waits when
 * a write can start becomes one batch, a single durable O_DIRECT write; up to LOG_IN_FLIGHT_MAX
 * are in flight. Batches go into segments that were filled with zeros in the background before
 * (a durable write then changes no file metadata) and are never used twice.
 *
 * One reactor owns the log (B27). An error of a write is final: the log refuses everything from
 * then on and says nothing durable that was not before (ATC 2020). Format and crash cases:
 * docs/formats.md#log; recovery: log_scan.h. */
#pragma once
#include "log_state.h"
#include "runtime/io.h"
#include "runtime/metrics.h"

struct meta_log;

enum {
    META_LOG_SEGMENT_BYTES = 64 << 20,
    META_LOG_SEGMENT_BYTES_MIN = 128 << 10,
    META_LOG_SPARES = 2, /* segments kept ready ahead of the one in use */
};

struct meta_log_options {
    const char *directory; /* exists */
    uint8_t id[LOG_ID_BYTES];
    uint64_t segment_bytes; /* multiple of LOG_BLOCK_BYTES; 0: META_LOG_SEGMENT_BYTES */
    bool accept_loss;       /* damage ends the log: what follows it is given up */
    struct metrics *metrics;
    /* Called on the log's reactor when more became durable and when the log failed; does not
     * wait. May be NULL. */
    void (*changed)(void *context);
    void *context;
};

/* Recover what is in the directory (nothing: an empty log) and be ready to append. ERR_CORRUPT:
 * acknowledged records are damaged; the log line says where and what is lost. ERR_MISMATCH,
 * ERR_UNSUPPORTED. */
enum err meta_log_open(struct io *io, const struct meta_log_options *options,
                       struct meta_log **out_log);
/* Wait for writes that run, give up those that wait. */
void meta_log_close(struct io *io, struct meta_log *log);

/* What the log holds of a group; NULL: it does not know the group. Borrowed until the next call. */
const struct log_group *meta_log_group(const struct meta_log *log, uint64_t group);

/* All of these give a ticket. ERR_FENCED: the log failed before. */

/* Make a group known whose log begins behind (index, term), with the membership in force there:
 * (0, 0) for a new group, the position of the state for a replica made from a copy. */
enum err meta_log_create_group(struct meta_log *log, uint64_t group, uint64_t index, uint64_t term,
                               const struct raft_membership *membership, uint64_t *out_ticket);
struct meta_log_write {
    uint64_t group;
    const struct raft_hard_state *hard_state; /* or NULL */
    uint64_t truncate_from;                   /* 0: nothing */
    uint64_t truncate_term;                   /* of the entry before */
    uint64_t first_index;
    const struct raft_entry *entries; /* copied */
    uint64_t entry_count;
};
/* Hard state, truncation and entries, in this order; entries of more than
 * meta_log_entry_bytes_max are a bug of the caller. */
enum err meta_log_append(struct meta_log *log, const struct meta_log_write *write,
                         uint64_t *out_ticket);
size_t meta_log_entry_bytes_max(const struct meta_log *log);

/* All tickets up to here are durable. */
uint64_t meta_log_durable(const struct meta_log *log);
/* OK, or ERR_FENCED after a failure. */
enum err meta_log_health(const struct meta_log *log);
/* OK when durable. ERR_FENCED, ERR_TIMEOUT, ERR_CANCELED. */
enum err meta_log_wait(struct io *io, struct meta_log *log, uint64_t ticket);
/* Whether `bytes` more can be promised a place. While the disk is full the segments that are
 * ready are kept for `urgent` writes: those that free space. Asked before something is
 * proposed; appends themselves wait for space. */
bool meta_log_has_space(const struct meta_log *log, size_t bytes, bool urgent);

struct meta_log_entries {
    struct bytes data;
    struct raft_entry *entries;
    size_t *offsets; /* of the payloads in `data` */
    uint32_t count, capacity;
};
void meta_log_entries_deinit(struct meta_log_entries *entries);
/* Read entries first..last back, or fewer: until `bytes_max` are exceeded, but at least one.
 * ERR_COMPACTED, ERR_NOT_FOUND, ERR_CORRUPT (the bytes on disk have changed), ERR_IO. */
enum err meta_log_read(struct io *io, struct meta_log *log, uint64_t group, uint64_t first,
                       uint64_t last, size_t bytes_max, struct meta_log_entries *out_entries);

/* Entries of a group up to `index` are not needed any more, but for the last `retain_bytes` of
 * the log. Deletes whole segments. */
enum err meta_log_cut(struct io *io, struct meta_log *log, uint64_t group, uint64_t index,
                      uint64_t retain_bytes);
/* Bytes of the batches it holds. */
uint64_t meta_log_bytes(const struct meta_log *log);
uint32_t meta_log_segment_count(const struct meta_log *log);
