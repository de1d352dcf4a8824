/* The storage daemon of this process: its drives, their segments and indexes, placement,
 * collection.
 *
 * Life: storage_open takes the directories as they are (new node, added drives, emptied ones,
 * missing ones), storage_start with a metadata client registers drives, closes stale leases, makes
 * volumes and starts the background, storage_stop. Drives leave (fenced) and join while it runs. */
#pragma once
#include "kv/kv.h"
#include "meta/client.h"
#include "meta/types.h"
#include "runtime/io.h"
#include "runtime/metrics.h"

struct storage;

enum {
    STORAGE_DRIVES_MAX = 24,      /* of a node at a time */
    STORAGE_DRIVES_LIFE_MAX = 96, /* opened between start and stop */
    STORAGE_ROOMY_DRIVES = 3,     /* with so many not full, the metadata needs none that is */
};

/* Profile of new volumes. */
struct redundancy {
    uint8_t data_shards; /* 0: by the number of drives */
    uint8_t parity_shards;
};

struct storage_options {
    const char *const *directories;
    uint32_t directory_count; /* 1..STORAGE_DRIVES_MAX */
    struct kv_provider *kv;
    struct metrics *metrics;
    uint64_t segment_bytes;   /* 0 = by the rule of DESIGN [5]; tests use small ones */
    uint64_t drive_bytes_min; /* refuse smaller file systems; 0 = 1 GiB */
    bool checks_mounts;       /* look the superblock up by path each second */
    struct redundancy redundancy;
    uint32_t out_s;          /* a drive that is away so long counts as lost: rebuilt; 0 = 600 */
    uint32_t scrub_pass_s;   /* all records are read once in so long; 0 = 14 days */
    uint32_t out_no_spare_s; /* the same when the next loss would lose data; 0 = 60 */
    bool accepts_loss; /* start although more drives are gone than the redundancy bears, and write
                          with less parity than was promised before */
    /* A drive joined, was fenced or came to be missing: storage_drives tells. On reactor 0; does
     * not wait. May be NULL. */
    void (*drives_changed)(void *context);
    void *context;
};

/* What identifies a node's drives; random at format. */
struct storage_identity {
    uint8_t cluster_id[16];
    uint64_t node_id;
};

/* Take the directories (storaged/roster.h): open the drives of the node, lock and recover them,
 * format new ones, write the table of drives into every superblock. `io` is reactor 0; every
 * reactor of the process gets its open segments on first use. ERR_EXISTS, ERR_LOCKED,
 * ERR_MISMATCH, ERR_UNSUPPORTED, ERR_CORRUPT, ERR_IO, ERR_NOT_FOUND (more drives gone than the
 * redundancy bears), ERR_INVALID (fewer drives than options.redundancy needs): with a log line
 * that says which directory and what to do. */
enum err storage_open(struct io *io, const struct storage_options *options,
                      struct storage **out_storage);
/* Of the opened node. */
const struct storage_identity *storage_identity_of(const struct storage *storage);
/* Register drives, close leases of earlier starts, make or take volumes, start the collector. */
enum err storage_start(struct io *io, struct storage *storage, struct meta_client *meta);
/* The same while the metadata service can only be read: reads go on, nothing is written or
 * collected until the next start. */
enum err storage_start_reading(struct io *io, struct storage *storage, struct meta_client *meta);
/* End background work, seal nothing, flush indexes, release locks. Frees it. */
void storage_stop(struct io *io, struct storage *storage);

/* True while a drive serves. One that is full does: reads and deletes go on. */
bool storage_ready(const struct storage *storage);
/* Run one pass of collection now and wait for it (tests, admin): free list, then orphans. */
enum err storage_collect(struct io *io, struct storage *storage);

enum drive_state {
    DRIVE_STATE_OK = 1,
    DRIVE_STATE_FULL = 2,        /* below its reserve: reads and deletes */
    DRIVE_STATE_FENCED = 3,      /* failed in this life */
    DRIVE_STATE_MISSING = 4,     /* known and not here */
    DRIVE_STATE_QUARANTINED = 5, /* an older copy of itself, never opened */
    DRIVE_STATE_DRAINING = 6,    /* its slots are on the way to others */
};
const char *drive_state_text(enum drive_state state);

struct drive_status {
    const char *directory; /* of a drive that is not here: the last one. Until the next call of
                              storage_drives or storage_stop */
    struct drive_id id;
    enum drive_state state;
    bool fresh; /* formatted in this life: what was on the drive before it is gone */
    bool slow;  /* read around */
    uint64_t total_bytes, free_bytes, reserve_bytes;
    uint64_t segment_count, record_count, live_bytes;
    uint32_t slots; /* of volumes that name it */
    bool fenced, full;
};
/* The drives that serve or should: fills up to `max`, returns how many there are. A fenced one that
 * another took the place of is not listed any more. From reactor 0. */
uint32_t storage_drives(struct io *io, struct storage *storage, struct drive_status *out,
                        uint32_t max);
/* Look now, not only each second, whether the drive serves and is still in its place. From
 * reactor 0. */
bool storage_drive_is_here(struct io *io, struct storage *storage, const struct drive_id *drive);
/* Move what the drive holds to others, for good; or no more. ERR_NOT_FOUND: not a drive of this
 * node; ERR_INVALID: it is lost. From reactor 0. */
enum err storage_drain(struct io *io, struct storage *storage, const struct drive_id *drive,
                       bool drains);

struct scrub_status {
    const char *directory;
    bool running;             /* a pass that was asked for is not done yet */
    uint64_t segment, offset; /* the last record that was read in this pass */
    uint64_t bytes, errors;   /* of this pass, or the one that ended last */
};
/* Read and compare everything on all drives at full speed; damage is repaired. ERR_NOT_LEADER: the
 * metadata can only be read, nothing could be repaired. From reactor 0. */
enum err storage_scrub(struct io *io, struct storage *storage);
/* Of the drives that serve: fills up to `max`, returns how many there are. From reactor 0. */
uint32_t storage_scrub_state(struct io *io, struct storage *storage, struct scrub_status *out,
                             uint32_t max);
