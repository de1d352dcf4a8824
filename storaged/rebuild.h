/* One block made whole again: its shards of some slots are written anew, from its other shards.
 *
 * Nothing that was not checked gets into a record: every cell read is compared with its CRC, and a
 * record ends only when the whole block had the hash that the metadata knows (or, when a shard is
 * copied as it is, the shard had that of its record). */
#pragma once
#include "storage.h"

struct rebuild {
    struct storage *storage;
    const struct volume_entry *entry; /* where the shards are */
    const struct block_ref *ref;
    uint32_t wanted; /* bit per slot */
    uint32_t avoid;  /* slots that are no source, not even of themselves */
    struct {
        struct drive *drive;
        uint64_t epoch;
    } targets[META_SHARDS_MAX]; /* of the wanted slots */
    struct buf_pool *pool;      /* outlives what is being written */

    /* Results, also of a failure. */
    uint32_t bad;       /* slots whose drive serves and whose shard is damaged or not there */
    bool target_failed; /* the error is a target's */
    uint64_t bytes;     /* of payload written and durable */
};

/* OK: all wanted shards are durable and can be found. ERR_FENCED: fewer than k good shards, drives
 * that are absent may have the others; ERR_CORRUPT: fewer than k whatever comes back; ERR_BUSY: out
 * of memory of the pool, later; with target_failed any error of the target. */
enum err rebuild_block(struct io *io, struct rebuild *rebuild);
/* What the drive of the slot has is the block's shard: right epoch and geometry by its row, nothing
 * read. ERR_NOT_FOUND, ERR_CORRUPT, ERR_FENCED, else of the index. */
enum err rebuild_find(struct io *io, struct drive *drive, const struct volume *volume,
                      const struct block_ref *ref, unsigned slot, uint64_t epoch_min,
                      struct place *out_place);
