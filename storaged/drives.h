/* The drives of the node over a storage's life: taken at start, fenced, replaced, added. All on the
 * home reactor. */
#pragma once
#include "storage.h"

/* Decide what the directories are (roster.h), format and open them, write the tables. */
enum err drives_open(struct io *io, struct storage *storage);
/* Notice drives that were fenced; take an empty directory where an absent drive was as a new drive,
 * and a missing drive that is back. True: something changed. */
bool drives_watch(struct io *io, struct storage *storage);
/* Write who the drives of the node are into every superblock. Drives that fail are fenced; an error
 * only when none was written. */
enum err drives_write_tables(struct io *io, struct storage *storage);
/* The promise of at least so many parity shards, durable before anything relies on it. */
enum err drives_raise_floor(struct io *io, struct storage *storage, uint8_t parity_shards);
/* A lost drive is of no interest any more: everything it held is elsewhere. */
enum err drives_forget(struct io *io, struct storage *storage, const struct drive_id *id);
/* A drive that is away is named by no slot any more: its loss costs nothing. One whose directory is
 * not given any more is not waited for either. */
enum err drives_vacate(struct io *io, struct storage *storage, const struct drive_id *id);
/* Of this life, by id; NULL. */
struct drive *drives_find(struct storage *storage, const struct drive_id *id);
/* May take new blocks: open, not fenced. */
static inline bool drive_is_ok(const struct drive *drive)
{
    return drive != NULL && !atomic_load(&drive->fenced);
}
enum drive_state drives_state(const struct known_drive *known);
/* Marks the drives whose reads are slow beside those of their peers (CLUSTER.md C5). */
void drives_judge_latency(struct storage *storage, bool ages);
/* Gauges of drives and volumes. */
void drives_show(struct storage *storage);
