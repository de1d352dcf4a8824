/* One drive: a directory with a superblock, segment files and an index of them.
 *
 * DIR/superblock   identity; locked while open DIR/segments/    0000000000000001.seg ...
 * DIR/index/       derived: block and slot -> place DIR/reserve      blocks kept back, so that
 * deletes work on a full file system
 *
 * Shared by all reactors; `mutex` guards what changes and is never held over a wait. Each
 * reactor appends to segments of its own (appender.h).
 *
 * Life of a segment:  open -> closing (full) -> sealed (trailer) -> deleted whole when nothing
 * lives in it. Life of an extent:  active -> durable (row in memory) -> done (row in the
 * index, or nothing there). */
#pragma once
#include "kv/kv.h"
#include "latency.h"
#include "runtime/sync.h"
#include "segment.h"
#include "superblock.h"
#include <pthread.h>
#include <stdatomic.h>

enum {
    DRIVE_PENDING_MAX = 65536, /* rows not yet in the index; appends wait beyond */
    DRIVE_HANDLES_MAX = 512,   /* files open for reading */
    DRIVE_STALE_MAX = 256,     /* remembered; the scrub finds those beyond */
    DRIVE_PATH_BYTES_MAX = IO_PATH_BYTES_MAX,
    PLACE_CELLS_MAX = 64, /* CRCs kept in the index row; beyond the footer has them */
};

enum segment_state { SEGMENT_OPEN = 1, SEGMENT_CLOSING = 2, SEGMENT_SEALED = 3 };
enum extent_state { EXTENT_ACTIVE = 1, EXTENT_DURABLE = 2, EXTENT_DONE = 3 };
struct segment_extent {
    uint64_t offset;
    uint64_t bytes;
    enum extent_state state;
};

/* A segment of this drive; guarded by the drive's mutex, but for the constant first fields. */
struct segment_file {
    struct segment_identity identity;
    enum segment_kind kind;
    enum segment_state state;
    uint64_t end;        /* of what is reserved, later of the file */
    uint64_t watermark;  /* every record below is in the index */
    uint64_t live_bytes; /* of records in the index */
    uint64_t live_count;
    struct segment_extent
        *extents; /* in order of offset, from `extents_first` on; done ones leave in front */
    uint32_t extents_first, extents_count, extents_capacity;
    uint32_t extents_settled;      /* leading extents that are durable or done */
    struct segment_entry *entries; /* for the trailer; NULL once sealed */
    uint32_t entries_count, entries_capacity;
    uint32_t users; /* who hold it; memory and files stay */
    bool dirty;     /* its row must be written */
    bool doomed;    /* out of the table: freed by the last user */
    struct file *direct;
    struct file *buffered;
    uint64_t used_at; /* for closing the least recently used files */
};

/* Bytes that were reserved and never became a record: to be punched. */
struct dead_extent {
    uint64_t segment;
    uint64_t offset;
    uint64_t bytes;
};

/* Name of a shard on a drive. */
struct shard_key {
    struct block_id block;
    uint8_t slot;
};

/* Where a shard is and what it must be: an index row. */
struct place {
    uint64_t segment;
    uint64_t offset; /* of the header */
    uint64_t bytes;  /* of the whole record */
    uint64_t epoch;
    uint32_t payload_bytes;
    uint32_t block_bytes;
    uint32_t unit_bytes;
    uint32_t generation;
    enum record_kind kind;
    uint8_t data_shards;
    uint8_t parity_shards;
    bool bad;            /* found damaged by recovery */
    uint32_t cell_count; /* of cell_crcs; 0 with payload: they are in the footer */
    uint32_t cell_crcs[PLACE_CELLS_MAX];
};

/* One record of a shard. */
struct index_record {
    struct shard_key key;
    uint64_t segment;
    uint64_t offset;
    uint64_t bytes;
};

struct pending_row {
    struct list_node node;       /* of a hash bucket */
    struct list_node queue_node; /* in order of durability */
    struct shard_key key;
    struct place place;
    struct segment_file *segment; /* holds a use */
    bool again;                   /* another row of the shard may be there already */
    bool replaces;                /* and this one is to be preferred to one of its epoch */
};

enum { PENDING_BUCKETS = 4096 };

struct drive {
    char *directory;
    struct superblock *superblock;
    struct file *lock; /* the superblock's file, locked */
    uint64_t superblock_device, superblock_inode;
    struct file *segments_directory;
    struct io *home;
    unsigned index; /* in the storage */
    uint64_t segment_bytes;

    _Atomic bool fenced;
    _Atomic bool full;
    _Atomic uint64_t total_bytes, free_bytes, reserve_bytes;
    _Atomic uint64_t reserved_bytes; /* of free_bytes: promised to records since the last poll */
    _Atomic uint32_t load;           /* shards being written */
    _Atomic uint32_t late;           /* shards that their blocks went on without */
    _Atomic uint64_t rewrites;       /* shards begun that may be here already */
    uint64_t device;

    struct latency read_latency;
    _Atomic bool slow;        /* reads go around it */
    _Atomic bool draining;    /* the metadata says so */
    _Atomic bool rolled_back; /* fenced because it is an older copy of itself */
    uint32_t slow_ticks;      /* until it is given another chance; home reactor */
    bool registered;          /* at the metadata service, in this life; home reactor */

    struct lane *index_lane; /* one thread: all writes */
    struct lane *read_lane;  /* of its own, so that a drive that hangs stops no other's lookups */
    struct kv *kv;

    pthread_mutex_t mutex;
    struct segment_file **segments; /* by rising id */
    uint32_t segment_count, segment_capacity;
    uint64_t segment_next;
    uint64_t use_clock;
    uint32_t open_files;
    struct list pending[PENDING_BUCKETS];
    struct list pending_queue;
    struct index_record stale[DRIVE_STALE_MAX]; /* records that another took the place of */
    uint32_t stale_count;
    struct dead_extent *dead;
    uint32_t dead_count, dead_capacity;

    bool reserve_kept;
    bool punch_refused; /* said once */
    uint64_t tick_count;
};

struct drive_options {
    const char *directory;
    struct kv_provider *kv;
    uint64_t segment_bytes; /* 0 = what the superblock says */
    uint64_t drive_bytes_min;
    unsigned index;
};

/* --- drive.c --- */

enum err drive_probe(struct io *io, const char *directory, enum drive_kind *out_kind,
                     struct superblock *out_superblock);
/* Write the superblock of an empty directory, made when missing; the last step is one rename. */
enum err drive_format(struct io *io, const char *directory, const struct superblock *superblock);
/* Lock, superblock with a higher mount counter, index, recovery. */
enum err drive_open(struct io *io, const struct drive_options *options, struct drive **out_drive);
/* Rewrite the superblock with the table of `table`: version, parity floor, drives. */
enum err drive_write_table(struct io *io, struct drive *drive, const struct superblock *table);
/* Flush the index and release everything; nobody uses the drive any more. */
void drive_close(struct io *io, struct drive *drive);
/* Every later operation gives ERR_FENCED. Logs once. */
void drive_fence(struct drive *drive, const char *why, enum err cause);
/* ERR_FENCED, or OK. */
enum err drive_check(const struct drive *drive);
/* Fences a drive whose superblock is not in its place any more. */
void drive_check_mount(struct io *io, struct drive *drive);
/* Every second: mount, space, seals, deletions, flush. */
void drive_tick(struct io *io, struct drive *drive, bool checks_mount);
enum err drive_poll_space(struct io *io, struct drive *drive);
/* Take `bytes` from the free space. ERR_NO_SPACE: below the reserve. Corrected at each poll. */
enum err drive_take_space(struct drive *drive, uint64_t bytes);
bool drive_has_space(const struct drive *drive, uint64_t bytes);

/* --- drive_segments.c --- */

void drive_segment_path(const struct drive *drive, uint64_t segment, char *out);
/* A new open segment with one use; durable in its directory. */
enum err drive_segment_create(struct io *io, struct drive *drive, enum segment_kind kind,
                              struct segment_file **out_segment);
/* Into the table (recovery); takes it, with no use. */
void drive_segment_insert(struct drive *drive, struct segment_file *segment);
struct segment_file *drive_segment_acquire(struct drive *drive, uint64_t segment);
void drive_segment_use(struct drive *drive, struct segment_file *segment);
void drive_segment_release(struct drive *drive, struct segment_file *segment);
/* A file of a segment in use; stays open as long as the use. */
enum err drive_segment_file(struct io *io, struct drive *drive, struct segment_file *segment,
                            bool direct, struct file **out_file);
/* Reserve an extent at the end; false: no room. */
bool drive_segment_reserve(struct drive *drive, struct segment_file *segment, uint64_t bytes,
                           uint64_t *out_offset, uint64_t *out_durable_offset);
/* Nothing was written beyond `used_bytes` of the extent; the rest is reserved again when nothing
 * follows, else punched. */
void drive_extent_trim(struct drive *drive, struct segment_file *segment, uint64_t offset,
                       uint64_t used_bytes);
/* The extent never became a record. Nothing was written beyond `used_bytes`, as in trim; the rest
 * is punched later. */
void drive_extent_abandon(struct drive *drive, struct segment_file *segment, uint64_t offset,
                          uint64_t used_bytes);
/* No more reservations; sealed by a tick once every extent is done. */
void drive_segment_close(struct drive *drive, struct segment_file *segment);
/* Write the trailers of closing segments that are done, delete sealed ones without records, punch
 * dead extents. */
void drive_tidy_segments(struct io *io, struct drive *drive);
/* Write trailer and end of a segment with these entries and mark it sealed. */
enum err drive_segment_seal(struct io *io, struct drive *drive, struct segment_file *segment,
                            const struct segment_entry *entries, uint32_t count, uint64_t end);
/* Punch a range; where the file system cannot, the space comes back with the whole segment. */
enum err drive_punch(struct io *io, struct drive *drive, struct segment_file *segment,
                     uint64_t offset, uint64_t bytes);

/* Used with the mutex held. */
struct segment_file *drive_segment_find(struct drive *drive, uint64_t segment);
void drive_extent_move(struct segment_file *segment, uint64_t offset, enum extent_state state);
