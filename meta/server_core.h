/* What the files of the server share. Nobody outside of server*.c, group*.c and tests includes
 * this.
 *
 *     driver: feeds raft, writes the log, sends messages (home reactor; a step never waits)
 *     apply fiber: committed entries --> apply lane --> the group, which answers
 *     flush fiber: store flush --> cut of the log
 *
 * Everything is touched on the home reactor only, except what is marked otherwise. */
#pragma once
#include "base/list.h"
#include "entry.h"
#include "group_core.h"
#include "log.h"
#include "runtime/lane.h"
#include "runtime/sync.h"
#include "server_group.h"

enum {
    SERVER_TICK_MS = 50,
    SERVER_TICK_ENTRY_MS = 5000,
    SERVER_READ_THREADS = 3,
    SERVER_FLUSH_S = 60,
    SERVER_APPLY_ENTRIES_MAX = 256, /* of one lane job */
    SERVER_APPLY_BYTES_MAX = 1 << 20,
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
    struct server_seams seams;
    char *directory;
    struct io *home;
    struct meta_group *group;
    bool owns_group;       /* a replica without others in this process */
    struct file *identity; /* holds the lock */
    struct meta_log *log;
    struct kv *kv;
    struct state *state;
    struct raft *raft;
    struct lane *apply_lane, *flush_lane, *read_lane;
    struct fiber_group fibers;
    /* By reactor, touched there only: calls that use the state. */
    struct fiber_group *readers;

    /* driver */
    struct fiber *driver; /* NULL: has ended */
    struct list reads;    /* handed to raft */
    struct list writes;   /* struct server_write */
    struct list held;     /* struct held_message that wait for a write */
    struct list received; /* struct held_message from peers */
    uint64_t sequence_durable;
    uint64_t tick_next_ns;
    uint64_t tick_entry_ns;
    enum raft_role role;
    uint64_t term;
    uint64_t compact_to;
    bool stopping;
    bool failed;
    bool led;         /* and its readers may not have ended */
    bool reads_only;  /* no quorum: raft does not run, the state is that of the whole log */
    uint64_t lagging; /* of the leader: a follower that needs entries that were cut; 0: none */
    struct raft_entry *scratch;
    uint64_t scratch_capacity;
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

    struct counter *flushes_total, *applied_total;
    struct gauge *applied_index, *log_bytes;
};

/* --- server_open.c --- */
/* Make or find the directory, the log and the store; `server` is filled as far as it came. */
enum err server_open(struct io *io, struct meta_server *server);
void server_close(struct io *io, struct meta_server *server);

/* --- server.c --- */
void server_wake(struct meta_server *server);
/* The replica stops: it takes no part in anything any more. */
void server_fail(struct meta_server *server, enum err err, const char *what);
/* End the fibers, flush, close and free; no caller uses it any more. */
void server_stop_replica(struct io *io, struct meta_server *server);
enum err server_propose_entry(struct meta_server *server, const struct entry_header *header,
                              struct slice command, uint64_t *out_index, uint64_t *out_term);

/* --- server_apply.c --- */
void server_apply_fiber(struct io *io, void *argument);
void server_flush_fiber(struct io *io, void *argument);
/* Flush now and cut the log. */
enum err server_flush(struct io *io, struct meta_server *server);

/* --- server_group.c --- */
void server_send_messages(struct meta_server *server, const struct raft_output *output);
/* Send what waited for the writes that are durable now. */
void server_release_messages(struct meta_server *server);
void server_receive_messages(struct meta_server *server);
void server_load(struct meta_server *server, const struct raft_output *output);
void server_group_deinit(struct meta_server *server);
