/* A metadata service in memory, linked instead of meta: what it has said is committed and
 * survives every crash of the machines that ask. */
#pragma once
#include "meta/client.h"

enum { FAKE_LEASE_BLOCKS = 64 };

struct meta_group *fake_meta_new(void);
void fake_meta_free(struct meta_group *server);

/* A version refers to the block from now on; false: its lease is closed. */
bool fake_meta_commit(struct meta_group *server, const struct block_ref *ref,
                      const struct lease *lease);
/* Nothing refers to it any more: onto the free list. */
void fake_meta_delete(struct meta_group *server, struct block_id block);
uint32_t fake_meta_free_count(const struct meta_group *server);
/* Leases that are not closed. */
uint32_t fake_meta_open_leases(const struct meta_group *server);
/* As it is now; `change`: to make it another. */
const struct volume *fake_meta_volume(const struct meta_group *server, uint64_t volume);
struct volume *fake_meta_change_volume(struct meta_group *server, uint64_t volume);
/* 0: not known. */
enum drive_standing fake_meta_standing(struct meta_group *server, const struct drive_id *drive);
