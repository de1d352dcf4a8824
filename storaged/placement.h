/* Which volume a block goes to, and under which id; which volumes there are. */
#pragma once
#include "leases.h"

/* Register drives, close the leases of earlier starts, take the volumes, make what is missing. */
enum err placement_start(struct io *io, struct storage *storage);

struct placed {
    struct volume_entry *entry; /* with a reference */
    struct held_lease *lease;   /* with a use */
    struct block_id block;      /* never given out again */
    bool degraded;              /* some slots cannot be written; at least k + 1 can */
};
/* Of two random volumes that can take `bytes`, the one whose drives have less to write. The best
 * rung first; new volumes are made when none fits but drives for one are there; degraded only when
 * no rung fits. ERR_NO_SPACE, ERR_FENCED. */
enum err placement_choose(struct io *io, struct storage *storage, uint32_t bytes,
                          struct placed *out);
/* Gives back what choose gave. Never waits. */
void placement_release(struct placed *placed);
/* The volume of a block; ERR_NOT_FOUND. */
enum err placement_volume(struct io *io, struct storage *storage, uint64_t volume,
                          struct volume_entry **out_entry);
/* Whether shards of new blocks may go to the drive of this slot. */
bool placement_slot_is_ok(const struct volume_entry *entry, unsigned slot);

/* The set of drives changed: register new ones, tell lost ones, make volumes of the best rung. On
 * the home reactor. */
enum err placement_reconcile(struct io *io, struct storage *storage);
/* Once a second on the home reactor: what the metadata knows, leases, volumes. */
void placement_tick(struct io *io, struct storage *storage, uint64_t tick);
/* No new block begins on the volume, and when this returns OK no lease of this process on it is
 * open. ERR_TIMEOUT: blocks under way did not end by `deadline_ns`; the volume is used again. On
 * the home reactor. */
enum err placement_drain_volume(struct io *io, struct storage *storage, uint64_t volume,
                                uint64_t deadline_ns);
