/* Checked bytes of one shard. */
#pragma once
#include "storage.h"

struct shard_reader {
    struct storage *storage;
    struct drive *drive;
    struct segment_file *segment; /* in use */
    struct place place;
    uint32_t *footer_crcs; /* owned; NULL when the row has them */
    const bool *given_up; /* set by the user, or NULL: when true nobody waits for the bytes any more
                              and the block may be punched, so damage is not told to anybody */
};

/* Find the shard and check that it is what `ref` names in this volume.
 * ERR_NOT_FOUND, ERR_CORRUPT, ERR_FENCED. */
enum err shard_reader_open(struct io *io, struct storage *storage, const struct volume_entry *entry,
                           const struct block_ref *ref, unsigned slot, struct shard_reader *out);
void shard_reader_deinit(struct shard_reader *reader);

/* The cells that cover payload [offset, offset + bytes), as a range of the payload. */
struct cell_range {
    uint32_t from;
    uint32_t to;
};
struct cell_range shard_reader_cover(const struct shard_reader *reader, uint32_t offset,
                                     uint32_t bytes);
/* Read whole cells [from, to) into `buf` at 0, each checked; room for record_align(to - from).
 * Cells that the page cache got wrong are read again from the device. ERR_CORRUPT, ERR_IO. */
enum err shard_reader_read(struct io *io, struct shard_reader *reader, struct cell_range range,
                           struct buf *buf);
