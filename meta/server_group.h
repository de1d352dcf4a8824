/* A metadata replica among others, and the seams that simulation uses.
 *
 * meta_server_start is this with a group of one. Messages are opaque bytes (raft/raft.h); they
 * may be lost, late, doubled and out of order. */
#pragma once
#include "meta/server.h"
#include "raft/raft.h"

struct meta_group_options {
    /* The first membership; used when the replica is created. NULL: this replica alone. */
    const struct raft_membership *membership;
    /* Send to a peer; called on the home reactor, does not wait, borrows the message. */
    void (*send)(void *context, uint64_t to, struct slice message);
    /* Called before each acknowledgement and each read, on any reactor, on a fiber of its own
     * where that matters; may wait. Not OK: the incarnation of the metadata service is over
     * (CLUSTER.md C3.5): writes end with ERR_OUTCOME_UNKNOWN, reads with ERR_FENCED. NULL: the
     * process answers for itself. */
    enum err (*confirm)(struct io *io, void *context);
    void *context;
    uint64_t retain_log_bytes; /* kept for followers that lag */
};

/* With a group of several it returns when the replica runs, which may be before there is a
 * leader. */
enum err meta_server_start_group(struct io *io, const struct meta_server_options *options,
                                 const struct meta_group_options *group,
                                 struct meta_server **out_server);
/* A message of a peer arrived. Home reactor; copied; dropped when too many wait. */
void meta_server_receive(struct meta_server *server, struct slice message);
