/* The storage daemon of this process: its drives, their segments and indexes, placement,
 * collection.
 *
 * Life: storage_format or storage_open the drives (identity, locks, recovery), then
 * storage_start with a metadata client (register drives, close stale leases, volumes,
 * collector), storage_stop. */
#pragma once
#include "kv/kv.h"
#include "meta/client.h"
#include "meta/types.h"
#include "runtime/io.h"
#include "runtime/metrics.h"

struct storage;

enum { STORAGE_DRIVES_MAX = 24 };

struct storage_options {
    const char *const *directories;
    uint32_t directory_count; /* 1..STORAGE_DRIVES_MAX */
    struct kv_provider *kv;
    struct metrics *metrics;
    uint64_t segment_bytes;   /* 0 = by the rule of DESIGN [5]; tests use small ones */
    uint64_t drive_bytes_min; /* refuse smaller file systems; 0 = 1 GiB */
    bool checks_mounts; /* look the superblock up by path each second (off in the simulator) */
};

/* What identifies a node's drives; random at format. */
struct storage_identity {
    uint8_t cluster_id[16];
    uint64_t node_id;
    uint64_t replica_id; /* of the metadata voter on the first drive */
};

/* What a directory is: nothing there, a drive of ours, or something else. */
enum drive_kind { DRIVE_EMPTY = 1, DRIVE_SHALE = 2, DRIVE_FOREIGN = 3 };
/* Look without changing anything. ERR_UNSUPPORTED: a Shale drive of a later format;
 * ERR_CORRUPT: all superblock copies are damaged. For DRIVE_SHALE *out_identity is filled. A
 * missing directory is DRIVE_EMPTY. DRIVE_FOREIGN: not empty and no superblock; lost+found
 * alone counts as empty. */
enum err storage_probe(struct io *io, const char *directory, enum drive_kind *out_kind,
                       struct storage_identity *out_identity);
/* Make an empty (or missing) directory a drive of this identity: crash-safe, the superblock
 * comes last. Never touches a directory that is not empty (ERR_EXISTS). */
enum err storage_format(struct io *io, const struct storage_options *options,
                        const struct storage_identity *identity);

/* Open all drives: lock, superblock, index, recovery of segments from the index's watermark
 * on. `io` is reactor 0; every reactor of the process gets its open segments on first use.
 * ERR_LOCKED, ERR_MISMATCH, ERR_UNSUPPORTED, ERR_CORRUPT: with a log line that says which
 * directory and what to do. */
enum err storage_open(struct io *io, const struct storage_options *options,
                      struct storage **out_storage);
/* Register drives, close leases of earlier starts, make or take volumes, start the collector. */
enum err storage_start(struct io *io, struct storage *storage, struct meta_client *meta);
/* End background work, seal nothing, flush indexes, release locks. Frees it. */
void storage_stop(struct io *io, struct storage *storage);

/* True while a drive serves. One that is full does: reads and deletes go on. */
bool storage_ready(const struct storage *storage);
/* Run one pass of collection now and wait for it (tests, admin): free list, then orphans. */
enum err storage_collect(struct io *io, struct storage *storage);
/* Directory of the drive that holds the metadata replica. */
const char *storage_meta_directory(const struct storage *storage);

struct drive_status {
    const char *directory;
    struct drive_id id;
    uint64_t total_bytes, free_bytes, reserve_bytes;
    uint64_t segment_count, record_count, live_bytes;
    bool fenced, full;
};
/* Fills up to `max`, returns how many there are. */
uint32_t storage_drives(struct io *io, struct storage *storage, struct drive_status *out,
                        uint32_t max);
