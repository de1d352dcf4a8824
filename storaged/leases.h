/* Leases of one reactor: the right to write blocks of a volume (CLUSTER.md C2.3).
 *
 * A lease is in use from the begin of a block until its writer is freed, which is after the commit
 * that names the block. It is retired when used up, when its volume changed, or when nothing was
 * written under it for a while; once nobody uses it, it is closed, so that what was never committed
 * under it can be collected. */
#pragma once
#include "volumes.h"

/* A block id of the volume, under a lease that counts one use. ERR_STALE_EPOCH: not open any
 * more. */
enum err leases_take(struct io *io, struct storage *storage, struct volume_entry *entry,
                     struct held_lease **out_lease, struct block_id *out_block);
/* The use has ended. Never waits. */
void leases_return(struct held_lease *lease);
/* Close what is retired and unused. Run each second on each reactor. */
void leases_tend(struct io *io, struct storage *storage);
/* Retire the lease of a volume; how many of it are not closed yet. Closes what it can. */
uint32_t leases_drain(struct io *io, struct storage *storage, uint64_t volume);
void leases_deinit(struct reactor_store *reactor);
