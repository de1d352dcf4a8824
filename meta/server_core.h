/* What the files of the server share. Nobody outside of server*.c and its tests includes this.
 *
 *     caller (any reactor)  --call-->  inbox  --driver-->  waiting --> raft --> outstanding
 *     driver: feeds raft, writes the log, sends messages (home reactor; a step never waits)
 *     apply fiber: committed entries --> apply lane --> answers
 *     flush fiber: store flush --> cut of the log
 *
 * Everything is touched on the home reactor only, except what is marked otherwise. */
#pragma once
#include "base/list.h"
#include "entry.h"
#include "log.h"
#include "runtime/lane.h"
#include "runtime/sync.h"
#include "server_calls.h"
#include "server_group.h"
#include "state.h"
#include <stdatomic.h>

enum {
    SERVER_TICK_MS = 50,
    SERVER_TICK_ENTRY_MS = 5000,
    SERVER_WAITING_MAX = 16384, /* calls not yet handed to raft; ERR_BUSY beyond */
    SERVER_OUTSTANDING_MAX = SESSION_RESULTS_MAX - 96,
    SERVER_OUTSTANDING_BYTES_MAX = 64 << 20,
    SERVER_READ_THREADS = 3,
    SERVER_FLUSH_S = 60,
    SERVER_APPLY_ENTRIES_MAX = 256, /* of one lane job */
    SERVER_APPLY_BYTES_MAX = 1 << 20,
};

enum call_kind { CALL_PROPOSAL, CALL_READ };

/* A caller's request; lives on the stack of its fiber until it is answered. */
struct call {
    struct list_node node;
    enum call_kind kind;
    struct server_port *port;
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
    uint64_t sequence;
    uint64_t index; /* where it was proposed */
    uint64_t term;
};

struct read_call {
    struct call call;
    uint64_t ticket;
    uint64_t index; /* 0: not granted yet */
};

/* The server as one reactor sees it. */
struct server_port {
    struct meta_server *server;
    struct io *io;
    struct fiber_group running; /* calls and flushers of this reactor */
    bool closed;
    bool flushing;
    struct list outgoing; /* calls for the home reactor, sent once a turn */
    struct list answers;  /* of the home reactor: answered calls of this port, sent once a step */
};

struct held_message {
    struct list_node node;
    uint64_t to;
    uint64_t wait_sequence;
    struct bytes bytes;
};

/* A write of raft and the ticket of the log that makes it durable. */
struct server_write {
    struct list_node node;
    struct raft_token token;
    uint64_t ticket;
};

struct meta_server {
    struct meta_server_options options;
    struct meta_group_options group;
    char *directory;
    struct io *home;
    struct file *identity; /* holds the lock */
    struct meta_log *log;
    struct kv *kv;
    struct state *state;
    struct raft *raft;
    struct lane *apply_lane, *flush_lane, *read_lane;
    struct server_port *ports;
    unsigned port_count;
    struct fiber_group fibers;

    /* driver */
    struct fiber *driver;    /* NULL: has ended */
    struct list inbox;       /* calls that arrived */
    struct list waiting;     /* proposals not handed to raft */
    struct list outstanding; /* proposals handed to raft, by sequence */
    uint64_t outstanding_bytes;
    struct list reads;
    struct list writes;    /* struct server_write */
    struct list held;      /* struct held_message that wait for a write */
    struct list received;  /* struct held_message from peers */
    struct signal changed; /* role, readiness or failure */
    uint64_t sequence_durable;
    uint64_t tick_next_ns;
    uint64_t tick_entry_ns;
    enum raft_role role;
    uint64_t term;
    uint64_t compact_to;
    bool stopping;
    bool failed;
    bool snapshot_reported;
    struct raft_entry *scratch;
    uint64_t scratch_capacity;

    /* session of this process */
    struct proposal opening; /* of a session */
    bool session_opening;
    uint64_t session;
    uint64_t sequence_next;
    uint64_t boot;

    /* apply */
    struct signal to_apply;
    uint64_t committed;
    uint64_t applied;
    uint64_t applied_term;
    struct state_position position;
    uint64_t unflushed_bytes; /* of applied entries */
    struct signal to_flush;
    uint64_t flushed;

    /* read by all reactors */
    _Atomic bool
        alone_serving; /* sole voter with its no-op applied: the state is a linearizable point */
    _Atomic bool ready;

    struct counter *proposals_total, *refused_total, *flushes_total, *applied_total;
    struct histogram *proposal_seconds;
    struct gauge *applied_index, *ready_gauge, *log_bytes;
};

/* --- server_open.c --- */
/* Make or find the directory, the log and the store; `server` is filled as far as it came. */
enum err server_open(struct io *io, struct meta_server *server);
void server_close(struct io *io, struct meta_server *server);

/* --- server.c --- */
void server_wake(struct meta_server *server);
/* The replica stops: nothing is acknowledged any more. */
void server_fail(struct meta_server *server, enum err err, const char *what);
/* Recompute what other reactors may rely on. */
void server_publish(struct meta_server *server);
/* The result of the OpenSession entry. */
void server_session_opened(struct meta_server *server, struct slice result);
/* A proposal's entry did not come to be, or found its session closed: again, or ERR_NOT_LEADER. */
void server_repeat(struct meta_server *server, struct proposal *proposal);

/* --- server_apply.c --- */
void server_apply_fiber(struct io *io, void *argument);
void server_flush_fiber(struct io *io, void *argument);
/* Flush now and cut the log. */
enum err server_flush(struct io *io, struct meta_server *server);

/* --- server_call.c --- */
void server_accept(struct meta_server *server, struct call *call);
/* Answer a call that is in no list any more. Sent by server_send_answers. */
void server_answer(struct meta_server *server, struct call *call, enum err err);
void server_send_answers(struct meta_server *server);
static inline struct proposal *proposal_of(struct call *call)
{
    return CONTAINER_OF(call, struct proposal, call);
}
static inline struct read_call *read_of(struct call *call)
{
    return CONTAINER_OF(call, struct read_call, call);
}

/* --- server_group.c --- */
void server_send_messages(struct meta_server *server, const struct raft_output *output);
/* Send what waited for the writes that are durable now. */
void server_release_messages(struct meta_server *server);
void server_receive_messages(struct meta_server *server);
void server_load(struct meta_server *server, const struct raft_output *output);
void server_group_deinit(struct meta_server *server);
