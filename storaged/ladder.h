/* Which profile new volumes get, and which drives: pure decisions (DESIGN [8], CLUSTER.md C2.1,
 * C2.7). */
#pragma once
#include "storaged/server.h"

enum {
    LADDER_DATA_SHARDS_MAX = 4,              /* by itself; more only by option */
    LADDER_PERCENT_USED_MAX = 90,            /* fuller drives get no new slots */
    LADDER_VOLUMES_MAX = STORAGE_DRIVES_MAX, /* open at a time of one rung */
};

/* The widest profile that `drives` distinct drives can hold with at least `floor` parity shards:
 * `wanted` where it fits, else narrower with the same parity. {0, 0}: none. */
struct redundancy ladder_rung(uint32_t drives, struct redundancy wanted, uint8_t floor);
/* How many open volumes of one rung make a choice between two of them worth something, and spread
 * data and parity over the drives. */
uint32_t ladder_volumes(uint32_t drives, struct redundancy rung);

struct ladder_drive {
    uint64_t free_bytes;
    uint32_t load;    /* shards being written */
    uint32_t volumes; /* open ones of this rung that it is in */
};
/* Draw `count` distinct drives into `out_order`, each by weight free^2 x (1 - busy); a drive that
 * is in no volume yet is in before. `random` is the state of a xorshift, not 0. */
void ladder_draw(const struct ladder_drive *drives, uint32_t drive_count, uint32_t count,
                 uint64_t *random, uint32_t *out_order);

static inline uint64_t random_below(uint64_t *state, uint64_t bound)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    return x % bound;
}
