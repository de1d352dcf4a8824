/* What the files of the group share: the replicas of one group in this process, seen from their
 * callers. Nobody outside of group*.c, server*.c and their tests includes this.
 *
 *     caller (any reactor) --call--> inbox --+--> waiting --> raft --> outstanding   (proposals)
 *                                            +--> reads of the leader                (reads)
 *
 * The calls and the session are the group's, not a replica's: when the leader fails or loses its
 * leadership they stay, and the next leader in this process goes on with them. Everything is
 * touched on the home reactor only, except what is marked otherwise. */
#pragma once
#include "base/list.h"
#include "meta/group.h"
#include "runtime/sync.h"
#include "server_calls.h"
#include "state.h"
#include <stdatomic.h>

enum {
    GROUP_REPLICAS_MAX = 16,
    GROUP_WAITING_MAX = 16384, /* calls not yet handed to raft; ERR_BUSY beyond */
    GROUP_OUTSTANDING_MAX = SESSION_RESULTS_MAX - 96,
    GROUP_OUTSTANDING_BYTES_MAX = 64 << 20,
    GROUP_HASHES_MAX = 8, /* points at which states are compared, the last ones */
    GROUP_HASH_EVERY = 10000,
};

struct meta_server;
struct reconciler;

enum call_kind { CALL_PROPOSAL, CALL_READ };

/* A caller's request; lives on the stack of its fiber until it is answered. */
struct call {
    struct list_node node;
    enum call_kind kind;
    struct group_port *port;
    uint64_t deadline_ns;
    enum err err;
    struct fiber_group answered; /* of the caller's reactor: runs until answered */
};

struct proposal {
    struct call call;
    struct slice command;
    struct bytes *result;
    uint64_t accepted_ns;
    uint64_t session;
    uint64_t sequence; /* kept over all attempts under one session */
    uint64_t index;    /* where it was proposed last */
    uint64_t term;
    /* An attempt was made at a replica that is not followed any more, so only the session's
     * result can tell whether it took effect. */
    bool uncertain;
};

struct read_call {
    struct call call;
    uint64_t ticket;
    uint64_t index;             /* 0: not granted yet */
    struct meta_server *server; /* answered OK: read its state, with `readers` counted */
};

/* The group as one reactor sees it. */
struct group_port {
    struct meta_group *group;
    struct io *io;
    unsigned index;
    struct fiber_group running; /* calls and flushers of this reactor */
    bool closed;
    bool flushing;
    struct list outgoing; /* calls for the home reactor, sent once a turn */
    struct list answers;  /* of the home reactor: answered calls of this port, sent once a step */
};

/* States at one index, by replica (I10). */
struct group_hash {
    uint64_t index;
    uint32_t count;
    struct meta_server *servers[GROUP_REPLICAS_MAX];
    uint64_t hashes[GROUP_REPLICAS_MAX];
};

struct meta_group {
    struct io *home;
    enum err (*confirm)(struct io *io, void *context);
    void *context;
    struct group_port *ports;
    unsigned port_count;
    struct fiber_group fibers;
    struct signal changed; /* role, readiness, membership or failure */
    bool draining;         /* no call may begin any more */

    struct meta_server *replicas[GROUP_REPLICAS_MAX]; /* running or failed, until detached */
    uint32_t replica_count;
    struct meta_server *leader; /* the one of them that led last; NULL: it is gone */

    struct list inbox;       /* calls that arrived */
    struct list waiting;     /* proposals not handed to raft; those that were before come first */
    struct list outstanding; /* proposals handed to raft, by sequence */
    uint64_t outstanding_bytes;
    size_t command_bytes_max;

    struct proposal opening; /* of the session */
    bool session_opening;
    uint64_t session;
    uint64_t sequence_next;
    uint64_t boot;

    /* Read by all reactors. `serving` is the replica whose state is a linearizable point at every
     * moment while it stands here. */
    _Atomic(struct meta_server *) serving;
    _Atomic bool ready;

    uint64_t retain_from;     /* entries above are kept for a new replica; UINT64_MAX: none */
    uint64_t retain_until_ns; /* not longer */
    struct group_hash hashes[GROUP_HASHES_MAX];

    struct reconciler *reconciler; /* NULL: a single replica without drives */

    struct counter *proposals_total, *refused_total, *hash_mismatches_total;
    struct histogram *proposal_seconds;
    struct gauge *ready_gauge;
};

/* --- group_calls.c --- */
void group_init(struct io *io, struct meta_group *group, struct metrics *metrics);
/* After group_end_calls; no replica is attached. */
void group_deinit(struct meta_group *group);
/* Refuse new calls and wait for those that run, at most a while. */
void group_end_calls(struct io *io, struct meta_group *group);
/* Answer a call that is in no list any more. Sent by group_send_answers. */
void group_answer(struct meta_group *group, struct call *call, enum err err);
void group_send_answers(struct meta_group *group);
/* Answer everything that waits. */
void group_give_up(struct meta_group *group, enum err err);
/* Wait until no fiber of any reactor uses the replica, which serves no more. */
void group_wait_readers(struct io *io, struct meta_group *group, struct meta_server *server);
static inline struct proposal *proposal_of(struct call *call)
{
    return CONTAINER_OF(call, struct proposal, call);
}
static inline struct read_call *read_of(struct call *call)
{
    return CONTAINER_OF(call, struct read_call, call);
}

/* --- group_lead.c --- */
void group_attach(struct meta_group *group, struct meta_server *server);
void group_detach(struct meta_group *group, struct meta_server *server);
struct meta_server *group_replica(const struct meta_group *group, uint64_t replica_id);
/* Recompute who serves, what other reactors may rely on, and the fate of calls nobody can take. */
void group_update(struct meta_group *group);
/* All voters are here and nobody leads: elect somebody now. */
void group_hurry(struct meta_group *group);
/* Let the replica that can take calls know of them. */
void group_wake(struct meta_group *group);
/* Answer calls whose deadline has passed. */
void group_expire(struct meta_group *group, uint64_t now_ns);
/* A step of the leader's driver: reads to raft, proposals to `waiting`. */
void group_take_calls(struct meta_group *group, struct meta_server *server);
/* Hand waiting proposals to raft. */
void group_propose_waiting(struct meta_group *group, struct meta_server *server);
/* The entry of a proposal was applied by the leader with `result`; answered ones go to `done`. */
void group_settle(struct meta_group *group, struct proposal *proposal, struct slice result,
                  struct list *done);
/* The entry of a proposal is not in the log, and will not be. */
void group_repeat(struct meta_group *group, struct proposal *proposal);
/* The result of the OpenSession entry; empty: it did not come to be. */
void group_session_opened(struct meta_group *group, struct slice result);
/* Entries above this index are kept for a new replica. */
uint64_t group_retained(const struct meta_group *group);
/* What every member has, also those that are away; UINT64_MAX: there are no others. */
uint64_t group_slowest(const struct meta_group *group);
/* The replica's state at an index that all replicas compare (I10). */
void group_note_hash(struct meta_group *group, struct meta_server *server, uint64_t index,
                     uint64_t hash);

/* --- group_reconcile.c --- */
/* Look now at what the drives and replicas need. */
void group_reconcile_wake(struct meta_group *group);
