/* A metadata service in memory, linked instead of meta: what it has said is committed and
 * survives every crash of the machines that ask. */
#pragma once
#include "meta/client.h"

enum { FAKE_LEASE_BLOCKS = 64 };

struct meta_server *fake_meta_new(void);
void fake_meta_free(struct meta_server *server);

/* A version refers to the block from now on; false: its lease is closed. */
bool fake_meta_commit(struct meta_server *server, const struct block_ref *ref,
                      const struct lease *lease);
/* Nothing refers to it any more: onto the free list. */
void fake_meta_delete(struct meta_server *server, struct block_id block);
uint32_t fake_meta_free_count(const struct meta_server *server);
