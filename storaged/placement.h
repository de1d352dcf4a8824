/* Which volume a block goes to, and under which id. */
#pragma once
#include "storage.h"

/* Register drives, close the leases of earlier starts, take the volumes whose drives are all
 * here, make one for each drive that is in none, and open a lease on each for every reactor. */
enum err placement_start(struct io *io, struct storage *storage);

struct placed {
    struct volume_entry *entry;
    struct lease lease;
    struct block_id block; /* never given out again */
};
/* Of two random volumes that can take `bytes`, the one whose drives have less to write.
 * ERR_NO_SPACE, ERR_FENCED. */
enum err placement_choose(struct io *io, struct storage *storage, uint32_t bytes,
                          struct placed *out);
/* The volume of a block; asks the metadata service when it is not known. ERR_NOT_FOUND: not on
 * these drives. */
enum err placement_volume(struct io *io, struct storage *storage, uint64_t volume,
                          struct volume_entry **out_entry);
