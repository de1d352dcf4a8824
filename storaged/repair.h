/* Redundancy that was lost comes back (CLUSTER.md C2.6).
 *
 * Two fibers on the home reactor. The first moves slots: off drives that are lost (emptied,
 * or absent for too long) and off those that drain. A volume at a time, the one with the
 * fewest shards to spare first:
 *
 *   start    the metadata names the targets; the epoch grows, no lease is given any more
 *   copy     the blocks live now, while blocks under way end and leases close
 *   list     with all leases closed the list of live blocks is final: each is checked or written
 *   done     the slots are on their new drives; what older records there are counts no more
 *
 * Its state is in the metadata: a process that starts anew goes on with the list, and skips
 * shards that are there with the repair's epoch. A target that fails cancels the repair.
 *
 * The second (mend.c) writes single shards again where they belong: of blocks acknowledged with
 * shards missing, and those that reads or the scrub found damaged.
 *
 * While clients are served both work only a share of the time, less when more can still be lost. */
#pragma once
#include "storage.h"

enum {
    REPAIR_WORKERS = 4, /* blocks at a time while no client is served */
    REPAIR_BUFFER_BYTES = 64 << 20,
    REPAIR_UNREADABLE_MAX = 1024,
    REPAIR_VOLUMES_MAX = 1024, /* whose blocks are counted */
    REPAIR_META_TIMEOUT_S = 10,
};

/* A drive that does not serve, since when. */
struct absence {
    struct drive_id id;
    uint64_t since_ns;
    bool seen;
};

/* What is known of a volume that is not whole; kept between looks. */
struct repair_volume {
    uint64_t id;
    uint64_t epoch;    /* when its blocks were counted */
    uint64_t blocks;   /* live ones; UINT64_MAX: not counted yet */
    uint64_t again_ns; /* not before */
    uint32_t failures; /* in a row */
    bool degraded;     /* some slot is not there */
    bool unreadable;   /* fewer than k are */
    bool seen;
};

struct repair {
    struct buf_pool *pool;
    struct absence absences[2 * STORAGE_DRIVES_MAX];
    uint32_t absence_count;
    struct repair_volume volumes[REPAIR_VOLUMES_MAX];
    uint32_t volume_count;
    struct block_id unreadable[REPAIR_UNREADABLE_MAX];
    uint32_t unreadable_count;
    uint64_t degraded_listed; /* blocks on the metadata's repair list, when last looked */
    struct signal changed;    /* drives, or a report */
    uint64_t io_sum;          /* of the clients, when last looked */
    uint64_t active_ns;       /* when it was seen to change */
    struct counter *bytes, *blocks, *scrub_repairs;
    struct gauge *degraded_gauge, *unreadable_gauge, *volumes_gauge, *queue_gauge;
};

struct repair *repair_new(struct metrics *metrics);
/* Nothing that was written from its pool is under way any more. */
void repair_free(struct repair *repair);
/* Start both fibers in the background of the storage. */
enum err repair_start(struct io *io, struct storage *storage);
/* The drives changed: look now. On the home reactor. */
void repair_wake(struct io *io, struct storage *storage);

/* --- what both fibers use --- */

/* True: a client was served within the last moments. */
bool repair_clients_active(struct io *io, struct storage *storage);
/* Before the next block: pause in proportion to what the last one took, `spare` being the shards of
 * it that could still be lost. False: the storage stops. */
bool repair_pause(struct io *io, struct storage *storage, uint64_t busy_ns, int spare);
/* Fewer than k of the block's shards are good, or no longer so few. */
void repair_note_unreadable(struct storage *storage, struct block_id block, bool unreadable);
void repair_show(struct storage *storage);
/* Shards of the slots of the drive that is away count as gone for good: it was emptied. */
bool repair_drive_is_gone(const struct storage *storage, const struct drive_id *drive);

/* --- mend.c --- */

/* The second fiber. */
void mend_fiber(struct io *io, void *storage);
