/* The metadata replica of this process: Raft group, log, state machine.
 *
 * Lives on one home reactor; calls may come from any. Start order: log recovery, state store,
 * replay, election (at once when alone), the no-op of the term. */
#pragma once
#include "base/bytes.h"
#include "kv/kv.h"
#include "meta/types.h"
#include "runtime/io.h"
#include "runtime/metrics.h"

struct meta_server;

struct meta_server_options {
    const char *directory; /* holds log/ and state/ of the replica; made when `create` */
    bool create;           /* first start: the directory must be empty or missing */
    uint8_t cluster_id[16];
    uint64_t replica_id; /* random, made at format */
    uint64_t group_id;
    struct kv_provider *kv; /* where the state store lives */
    struct metrics *metrics;
    uint64_t log_segment_bytes; /* 0 = 64 MiB */
    uint64_t flush_log_bytes;   /* flush the store after this much log, 0 = 64 MiB */
    uint64_t state_cache_bytes; /* 0 = 128 MiB */
};

struct meta_replica_identity {
    uint8_t cluster_id[16];
    uint64_t replica_id;
    uint64_t group_id;
};
/* Whose replica is in the directory. ERR_NOT_FOUND: none was made whole; ERR_CORRUPT,
 * ERR_UNSUPPORTED. */
enum err meta_server_identify(struct io *io, const char *directory,
                              struct meta_replica_identity *out_identity);
/* Whether a replica was made whole in the directory. */
enum err meta_server_probe(struct io *io, const char *directory, bool *out_made);
/* `io` is the home reactor. ERR_CORRUPT, ERR_MISMATCH (another cluster or replica),
 * ERR_UNSUPPORTED (version), ERR_LOCKED, each with a log line that says what and where. Returns
 * when the replica serves or cannot. */
enum err meta_server_start(struct io *io, const struct meta_server_options *options,
                           struct meta_server **out_server);
/* Refuse new work, let running calls end, flush the store, close. From the home reactor. Frees
 * the server. */
void meta_server_stop(struct io *io, struct meta_server *server);
/* True while it can serve: leader with its no-op applied, not fenced. */
bool meta_server_ready(const struct meta_server *server);

struct meta_server_status {
    uint64_t term, commit, applied;
    uint64_t log_bytes;
    uint64_t state_hash; /* incremental hash of everything applied */
    bool leader, fenced;
};
void meta_server_status(struct io *io, struct meta_server *server,
                        struct meta_server_status *out_status);
