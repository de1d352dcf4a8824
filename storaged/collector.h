/* Giving space back. Nothing is punched without a committed statement (CLUSTER.md I23): either
 * a block is on a group's free list, or its lease is closed and nothing refers to it. */
#pragma once
#include "drive_index.h"
#include "storage.h"

/* Punch what the free lists hold, then forget it there. */
enum err collector_free(struct io *io, struct storage *storage);
/* Give back the space of records that a committed statement gave up (at most 1024), then their
 * rows. */
enum err collector_punch(struct io *io, struct storage *storage, struct drive *drive,
                         const struct index_record *records, uint32_t count);
/* Of records that the index of the drive names (at most 1024): punch those that another record of
 * their shard took the place of. The array is changed. */
enum err collector_sweep(struct io *io, struct storage *storage, struct drive *drive,
                         struct index_record *records, uint32_t count);
/* The same for those that the drives remember. */
enum err collector_stale(struct io *io, struct storage *storage);
/* True: by this committed map no reader wants a record of the slot with this epoch that was on the
 * drive before the map was read, and none ever will. */
bool collector_unwanted(const struct volume *volume, unsigned slot, const struct drive *drive,
                        uint64_t epoch);
/* Ask about every block of the drives; punch those that can never be referred to. */
enum err collector_orphans(struct io *io, struct storage *storage);
