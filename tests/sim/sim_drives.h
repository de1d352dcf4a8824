/* Several drives of the simulated node: what hurts them, and when all is whole again.
 *
 * A drive counts as hurt from the moment something happens to it until the node, with all drives
 * there, says that it is whole. No more are hurt at a time than the redundancy bears. */
#pragma once
#include "sim_world.h"

/* Names of directories; one drive: /data, more: /d1 and so on. */
void drives_name(struct world *world);
/* Before the first life. */
void drives_prepare(struct world *world);
/* So many may be hurt at a time. */
unsigned drives_hurt_max(const struct world *world);
bool drives_are_hurt(const struct world *world);

/* The node is off: take one away for a life, empty it, or flip bits. */
void drives_hurt_while_off(struct world *world);
/* Run a life in which something happens to a drive at some event. */
void drives_hurt_while_running(struct world *world, uint64_t life_events, uint64_t until_ns);
/* The node is off: drives that were away are back. */
void drives_put_back(struct world *world);
/* The node is off: take random drives away, as many as no object may be lost with. */
void drives_take_away(struct world *world);

/* --- from reactor 0 while the node runs --- */

/* Note where the metadata lives. */
void drives_note_voter(struct io *io, struct world *world);
/* Wait until everything is whole again, before and after a scrub. */
void drives_become_whole(struct io *io, struct world *world);
/* Records on all drives; with several drives they must be those of the blocks that the metadata
 * names, `blocks` in all. */
void drives_audit(struct io *io, struct world *world, uint64_t blocks);
