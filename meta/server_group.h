/* A metadata replica among others, and the seams that simulation uses.
 *
 * Messages are opaque bytes (raft/raft.h); they may be lost, late, doubled and out of order. Those
 * for a replica in the same process go straight to it. */
#pragma once
#include "meta/server.h"
#include "raft/raft.h"

struct meta_group;

/* Where a replica begins that is made from a copy of another one's state. */
struct server_seed {
    uint64_t index, term;
    struct raft_membership membership; /* in force there */
    uint64_t state_hash;
    /* Fill the empty store of the new replica, durably. */
    enum err (*fill)(struct io *io, struct server_seed *seed, struct meta_server *server);
};

struct server_seams {
    /* The first membership; used when the replica is created. NULL: this replica alone. */
    const struct raft_membership *membership;
    /* Send to a peer in another process; called on the home reactor, does not wait, borrows the
     * message. */
    void (*send)(void *context, uint64_t to, struct slice message);
    /* Called before each acknowledgement and each read, on any reactor, on a fiber of its own
     * where that matters; may wait. Not OK: the incarnation of the metadata service is over
     * (CLUSTER.md C3.5): writes end with ERR_OUTCOME_UNKNOWN, reads with ERR_FENCED. NULL: the
     * process answers for itself. */
    enum err (*confirm)(struct io *io, void *context);
    void *context;
    uint64_t retain_log_bytes;  /* always kept */
    uint64_t lag_log_bytes_max; /* kept at most for members that lag */
    struct server_seed *seed;   /* of a replica that is created; NULL: with the group's beginning */
    bool reads_only; /* raft does not run; a scratch copy of the store takes in the whole log */
};

/* With a group of several it returns when the replica runs, which may be before there is a
 * leader. */
enum err meta_server_start_group(struct io *io, const struct meta_server_options *options,
                                 const struct server_seams *seams, struct meta_server **out_server);
/* One replica of `group`: opened and attached to it, and what it opened is left to the caller:
 * server_stop_replica after group_detach. */
enum err server_start_in(struct io *io, const struct meta_server_options *options,
                         const struct server_seams *seams, struct meta_group *group,
                         struct meta_server **out_server);
/* A message of a peer arrived. Home reactor; copied; dropped when too many wait. */
void meta_server_receive(struct meta_server *server, struct slice message);
/* The group that takes the calls of this replica. */
struct meta_group *meta_server_group(struct meta_server *server);
