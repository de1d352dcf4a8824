/* Directories of an offline command that hold no drive: an emptied one, or none at all. */
#pragma once
#include "runtime/io.h"

/* Take the vacant ones out of `directories`, with a line on standard error for each, and give them
 * to mem_free. Returns how many are left; their order stays. */
uint32_t vacant_drop(struct io *io, char **directories, uint32_t count);
