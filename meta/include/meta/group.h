/* The metadata service of this process: the replicas of one Raft group on its drives.
 *
 * All of them live on one home reactor and exchange their messages by function calls. A background
 * fiber keeps as many as the drives allow: 1 drive: 1 voter; 2: 1 voter and a learner; 3: 3 voters;
 * 4: 4 voters; 5 and more: 5 voters. A replica whose log or store fails stops alone, the others go
 * on, and another one is made in its place from a copy of a sound one, under a new id (I3).
 *
 * Files of a drive: `meta` (replica), `meta.gone-<id>` (a replica that was given up; deleted once
 * the group needs it no more), `meta.old-<id>` (put aside by `shale meta recover`, kept). */
#pragma once
#include "kv/kv.h"
#include "meta/types.h"
#include "runtime/io.h"
#include "runtime/metrics.h"

enum {
    META_DRIVES_MAX = 64,
    META_VOTERS_WANTED_MAX = 5,
};

struct meta_group;

struct meta_group_drive {
    const char *directory; /* DIR/meta; the DIR exists while usable */
    uint8_t drive[16];     /* of its superblock: another id is another drive, also in its place */
    bool usable;
};

struct meta_group_options {
    uint8_t cluster_id[16];
    uint64_t group_id;
    struct kv_provider *kv;
    struct metrics *metrics;
    uint64_t log_segment_bytes; /* 0 = 64 MiB */
    uint64_t flush_log_bytes;   /* flush a store after this much log, 0 = 64 MiB */
    uint64_t state_cache_bytes; /* of each replica; 0 = 128 MiB */
    bool create;                /* first start of the node: no metadata exists anywhere */
    /* Look whether the drive is still in its place, before a replica is made there: what is
     * made in a directory that was emptied or unmounted keeps its drive from being replaced.
     * NULL: as told. */
    bool (*drive_is_here)(struct io *io, void *context, const uint8_t drive[16]);
    void *context;
    bool auto_recover; /* without a quorum: go on alone where nothing can be lost */
};

/* `io` is the home reactor. Opens every replica that is found; with `create` and none found, makes
 * the first one on the first usable drive. Returns when the group serves, or can only read.
 *
 * ERR_CORRUPT: acknowledged entries may be missing, or there is no metadata at all; ERR_MISMATCH
 * (another cluster), ERR_UNSUPPORTED, ERR_LOCKED; each with a log line that says what to do. */
enum err meta_group_start(struct io *io, const struct meta_group_options *options,
                          const struct meta_group_drive *drives, uint32_t count,
                          struct meta_group **out_group);
/* The drives as they are now: one was added, fenced, emptied or came back. Copied; does not wait;
 * the replicas follow in the background. From the home reactor. */
enum err meta_group_set_drives(struct io *io, struct meta_group *group,
                               const struct meta_group_drive *drives, uint32_t count);
/* Wait until the wanted voters (and the learner) are there and up to date. A fresh node waits for
 * this before it serves. ERR_TIMEOUT. From the home reactor. */
enum err meta_group_settle(struct io *io, struct meta_group *group, uint64_t deadline_ns);
/* Refuse new calls, let running ones end, flush the stores, close. From the home reactor. */
void meta_group_stop(struct io *io, struct meta_group *group);
/* True while a leader is in this process and serves. From any reactor. */
bool meta_group_ready(const struct meta_group *group);

enum meta_replica_role { META_FOLLOWER, META_LEADER, META_LEARNER, META_OUTSIDER };
struct meta_replica_status {
    uint8_t drive[16];
    uint64_t id; /* 0: no replica on this drive */
    enum meta_replica_role role;
    uint64_t term, applied;
    uint64_t state_hash;
    bool failed;
};
struct meta_group_status {
    uint32_t voters_wanted, voters, voters_missing; /* missing: wanted, but not running */
    uint32_t learners;
    uint64_t leader; /* replica id; 0: none */
    uint64_t term, commit, applied;
    uint64_t log_bytes;
    bool read_only; /* no quorum; reads come from the longest log */
    uint32_t replica_count;
    struct meta_replica_status replicas[META_DRIVES_MAX];
};
/* From any reactor. */
void meta_group_status(struct io *io, struct meta_group *group,
                       struct meta_group_status *out_status);

/* --- without a quorum, while the node does not run --- */

struct meta_recover_options {
    const char *const *directories; /* DIR/meta of each drive */
    uint32_t count;
    struct kv_provider *kv;
    bool accept_loss;
    /* One line of the report; may be NULL. */
    void (*report)(void *context, const char *line);
    /* A store moved with its directory; NULL: nothing to do. Stores of the simulator are no
     * files. */
    enum err (*store_moved)(struct io *io, void *context, const char *from, const char *to);
    void *context;
};
/* Make the replica with the newest whole log the only voter of its group; its log is kept to the
 * end, and the next start commits it. The others are put aside as `meta.old-<id>`. Refuses, and
 * changes nothing: ERR_EXISTS: a quorum is there, nothing to recover; ERR_PRECONDITION:
 * acknowledged entries may be missing and accept_loss is not given; ERR_NOT_FOUND: no replica;
 * ERR_LOCKED: in use. */
enum err meta_recover(struct io *io, const struct meta_recover_options *options);
