/* See ladder.h. */
#include "ladder.h"

#include <assert.h>

/* DESIGN [8], layout without options. */
static struct redundancy rung_of(uint32_t drives)
{
    static const struct redundancy rungs[] = {{0, 0}, {1, 0}, {1, 1}, {2, 1},
                                              {2, 2}, {3, 2}, {4, 2}};
    uint32_t last = sizeof rungs / sizeof rungs[0] - 1;
    return rungs[drives < last ? drives : last];
}

struct redundancy ladder_rung(uint32_t drives, struct redundancy wanted, uint8_t floor)
{
    struct redundancy rung = wanted.data_shards > 0 ? wanted : rung_of(drives);
    if (drives == 0)
        return (struct redundancy){0};
    if (rung.parity_shards < floor) {
        rung.parity_shards = floor;
        if (wanted.data_shards == 0)
            rung.data_shards = LADDER_DATA_SHARDS_MAX;
    }
    if (rung.parity_shards >= drives)
        return (struct redundancy){0};
    if (rung.data_shards > drives - rung.parity_shards)
        rung.data_shards = (uint8_t)(drives - rung.parity_shards);
    return rung;
}

uint32_t ladder_volumes(uint32_t drives, struct redundancy rung)
{
    assert(rung.data_shards > 0);
    if (drives == 1)
        return 1;
    return drives < LADDER_VOLUMES_MAX ? drives : LADDER_VOLUMES_MAX;
}

/* MiB, so that the square of 2^28 of them and a sum over 24 drives fit. */
static uint64_t weight_of(const struct ladder_drive *drive)
{
    uint64_t free_mib = drive->free_bytes >> 20;
    if (free_mib >= UINT64_C(1) << 28)
        free_mib = (UINT64_C(1) << 28) - 1;
    uint64_t weight = free_mib * free_mib / (1 + drive->load / 16);
    return weight > 0 ? weight : 1;
}

static uint32_t draw_one(const uint64_t *weights, uint32_t count, uint64_t *random)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++)
        total += weights[i];
    assert(total > 0);
    uint64_t at = random_below(random, total);
    for (uint32_t i = 0; i < count; i++) {
        if (at < weights[i])
            return i;
        at -= weights[i];
    }
    return count - 1;
}

static void shuffle(uint32_t *order, uint32_t count, uint64_t *random)
{
    for (uint32_t i = count; i > 1; i--) {
        uint32_t other = (uint32_t)random_below(random, i);
        uint32_t kept = order[i - 1];
        order[i - 1] = order[other];
        order[other] = kept;
    }
}

void ladder_draw(const struct ladder_drive *drives, uint32_t drive_count, uint32_t count,
                 uint64_t *random, uint32_t *out_order)
{
    uint64_t weights[STORAGE_DRIVES_MAX];
    assert(drive_count <= STORAGE_DRIVES_MAX);
    assert(count <= drive_count);
    uint32_t drawn = 0;
    for (uint32_t i = 0; i < drive_count; i++) {
        weights[i] = weight_of(&drives[i]);
        if (drives[i].volumes == 0 && drawn < count) {
            out_order[drawn++] = i;
            weights[i] = 0;
        }
    }
    while (drawn < count) {
        uint32_t one = draw_one(weights, drive_count, random);
        weights[one] = 0;
        out_order[drawn++] = one;
    }
    shuffle(out_order, count, random);
}
