/* Who a drive is. Pure. Format: docs/formats.md#superblock.
 *
 * The file holds four copies, each with its own CRC, rewritten one after the other at each
 * open with a higher mount counter, and with a higher table version when the drives of the node
 * change: whatever crash, at least three copies are whole, and the highest whole one counts. */
#pragma once
#include "base/err.h"
#include "storaged/server.h"

enum {
    SUPERBLOCK_COPIES = 4,
    SUPERBLOCK_COPY_BYTES = 32 << 10,
    SUPERBLOCK_BYTES = SUPERBLOCK_COPIES * SUPERBLOCK_COPY_BYTES,
};

/* What a directory is: nothing there (a missing directory too; lost+found alone does not count), a
 * drive of ours, or something else. */
enum drive_kind { DRIVE_EMPTY = 1, DRIVE_SHALE = 2, DRIVE_FOREIGN = 3 };

/* What the other drives of the node remember of one. */
struct superblock_drive {
    struct drive_id id;
    bool was_mount_point;
    bool lost;                    /* declared: what it held is gone, it is never taken back */
    bool vacated;                 /* away, and all it held is elsewhere: no loss any more */
    uint64_t mount_counter;       /* at least so high is its own: else it is an older copy */
    char path[IO_PATH_BYTES_MAX]; /* where it was seen last */
};

struct superblock {
    struct storage_identity node;
    struct drive_id drive;
    uint64_t incarnation;   /* of the cluster */
    uint64_t mount_counter; /* +1 at each open: a copy of an image that went on alone shows */
    uint64_t segment_bytes;
    uint32_t block_bytes_max;
    uint64_t formatted_ms;
    uint64_t table_version; /* of what follows: +1 at each change, the highest one counts */
    uint8_t parity_floor;   /* the most parity shards that the node ever promised */
    uint32_t drive_count;   /* of the node, this one and lost ones included */
    struct superblock_drive drives[STORAGE_DRIVES_MAX];
};

/* Write one copy (SUPERBLOCK_COPY_BYTES). */
void superblock_encode(const struct superblock *superblock, uint8_t *out);
/* The best copy of a file's contents (any length). ERR_CORRUPT: none is whole.
 * ERR_UNSUPPORTED: of a later format. */
enum err superblock_decode(struct slice file, struct superblock *out);
/* min(1 GiB, max(128 MiB, 1/32 of the drive)), in whole MiB. */
uint64_t superblock_segment_bytes(uint64_t drive_bytes);
