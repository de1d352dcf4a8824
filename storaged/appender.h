/* Writing records to one drive from one reactor.
 *
 * Each reactor has two open segments on a drive. Into the first go one-shot records: header
 * and payload in one write. Into the second go streamed ones: their whole extent is reserved
 * first, so that streams do not mix; header, payload and footer are written as bytes arrive
 * and what was not needed at the end is given back.
 *
 * Every write is O_DIRECT and durable by itself (RWF_DSYNC): with several in flight the kernel
 * merges the flushes. Neighbours that wait while WRITES_MAX are in flight go out as one write.
 * A write goes on when its writer is gone; a record that gets whole that way is an orphan. */
#pragma once
#include "drive_index.h"
#include "erasure/geometry.h"

enum {
    APPENDER_WRITES_MAX = 16,
    APPENDER_GROUP_BYTES_MAX = 1 << 20,
    APPENDER_ZERO_AHEAD_BYTES = 16 << 20,
    SHARD_CHUNK_BYTES = 1 << 20, /* of one write of a stream */
};

struct appender {
    struct drive *drive;
    struct fiber_group *group; /* of the reactor: what must end before the storage does */
    struct fiber_mutex rotate;
    struct segment_file *segments[SEGMENT_STREAMED + 1]; /* by kind; with a use */
    struct file *files[SEGMENT_STREAMED + 1];
    struct list queue; /* of struct write_op */
    unsigned writes_in_flight;
    uint64_t prepared_end[SEGMENT_STREAMED + 1]; /* zeroed or allocated up to here */
    struct file *fill_file;                      /* being zeroed now, from .. to */
    uint64_t fill_from, fill_to;
    bool filling;
    struct signal filled;
    bool draining;
};

void appender_init(struct appender *appender, struct drive *drive, struct fiber_group *group);
/* All of the group's fibers have ended. The open segments stay open until the next start. */
void appender_deinit(struct appender *appender);

struct shard;
struct shard_options {
    struct shard_key key;
    uint64_t epoch;
    uint64_t incarnation;
    struct geometry geometry;
    const struct block_hint *hint;
    uint32_t payload_bytes_expected; /* 0: not known */
    uint32_t payload_bytes_max;
    struct buf_pool *pool; /* for bytes that must be copied */
    bool replaces;         /* a record of this shard that is here already */
};
/* Begin a record. ERR_NO_SPACE, ERR_FENCED, ERR_BUSY. */
enum err shard_open(struct io *io, struct appender *appender, const struct shard_options *options,
                    struct shard **out_shard);
/* Append payload; keeps a reference to `buf` where the bytes can be written as they lie (aligned),
 * else copies. Waits while the window is full. */
enum err shard_append(struct io *io, struct shard *shard, struct buf *buf, size_t offset,
                      size_t bytes);
/* No more payload: start the last write. */
enum err shard_finish(struct io *io, struct shard *shard, uint32_t block_bytes);
/* Wait until the record is durable and can be found. */
enum err shard_wait(struct io *io, struct shard *shard);
/* After shard_finish. */
struct hash128 shard_hash(const struct shard *shard);
/* Never waits; an unfinished record is given up when its writes have ended. */
void shard_free(struct shard *shard);
