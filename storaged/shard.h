/* What appender.c and shard.c share: reservations and writes. */
#pragma once
#include "appender.h"

struct reservation {
    struct segment_file *segment; /* with a use, the receiver's */
    struct file *file;
    uint64_t offset;
    uint64_t durable_offset;
};
/* Room for a record of `bytes`; begins a new segment when needed. */
enum err appender_reserve(struct io *io, struct appender *appender, enum segment_kind kind,
                          uint64_t bytes, struct reservation *out);

/* One piece of a record on its way to the drive. */
struct write_op {
    struct list_node node;
    struct shard *shard; /* referenced */
    struct file *file;
    uint64_t offset;
    uint64_t bytes;
    unsigned part_count;
    struct io_part parts[IO_PARTS_MAX]; /* buffers referenced */
};
/* Queue a write; shard_written is called when it ended, and takes it. On error it was not
 * queued. */
enum err appender_write(struct io *io, struct appender *appender, struct write_op *op);
void shard_written(struct io *io, struct write_op *op, enum err err);
/* Bring pending rows to the index soon. */
void appender_drain(struct io *io, struct appender *appender);
