/* A new replica's state, row by row from a snapshot of another one's (CLUSTER.md C1.6), whatever
 * the back ends of both stores are.
 *
 * Rows travel in order, in batches of at most 1 MiB, on the lanes of both replicas and no faster
 * than COPY_BYTES_PER_S; the applied row and the membership are in the last batch, so a store with
 * an applied row is whole. What was written is read back and compared. */
#pragma once
#include "server_group.h"
#include "state.h"

enum { COPY_BATCH_BYTES = 1 << 20 };
#define COPY_BYTES_PER_S (UINT64_C(128) << 20)

/* Where rows come from; `lane` reads, and `state` stands still while a job runs on `apply_lane`. */
struct group_copy {
    struct server_seed seed; /* first: group_copy_begin fills it */
    struct kv *kv;
    struct lane *lane;
    struct kv_snapshot *snapshot;
    const bool *stopping; /* given up when true */
    enum err source_err;  /* what reading it ended with */
};
/* Take the snapshot and its position; the caller adds the membership. */
enum err group_copy_begin(struct io *io, struct group_copy *copy, struct lane *apply_lane,
                          struct state *state, struct lane *lane);
void group_copy_end(struct group_copy *copy);
