/* Giving space back. Nothing is punched without a committed statement (CLUSTER.md I23): either
 * a block is on a group's free list, or its lease is closed and nothing refers to it. */
#pragma once
#include "storage.h"

/* Punch what the free lists hold, then forget it there. */
enum err collector_free(struct io *io, struct storage *storage);
/* Ask about every block of the drives; punch those that can never be referred to. */
enum err collector_orphans(struct io *io, struct storage *storage);
