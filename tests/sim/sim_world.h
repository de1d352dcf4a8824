/* What the parts of the simulation of a whole node share. */
#pragma once
#include "kv/memory.h"
#include "sim_request.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    REACTORS = 2,
    CLIENTS = 4,
    KEYS_PER_CLIENT = 6,
    KEYS = CLIENTS * KEYS_PER_CLIENT,
    CANDIDATES_MAX = 64,
    PART_BYTES_MIN = 5 << 20,
    UPLOADS_MAX = 1024,
    DRIVES_MAX = 8,
    DIRECTORY_BYTES_MAX = 16,
};

/* What a key may hold: bytes made from a seed, or nothing. */
struct content {
    bool exists;
    bool late; /* a write of this life without outcome: it may still take effect */
    uint64_t seed;
    uint32_t bytes;
    uint32_t parts; /* of a multipart upload, else 0 */
};

struct key_state {
    char name[64]; /* percent-encoded already */
    struct content candidates[CANDIDATES_MAX];
    uint32_t candidate_count;
};

/* Made and not known to be ended. */
struct open_upload {
    const struct key_state *key;
    char *id;
};

struct drive_place {
    char directory[DIRECTORY_BYTES_MAX];
    bool hurt; /* since the node was whole last */
    bool away; /* its directory has another name now */
};

/* What a life is for. */
enum purpose {
    PURPOSE_SERVE,
    PURPOSE_MEND,  /* become whole again */
    PURPOSE_AUDIT, /* the same, then nothing may be left that no object needs */
    PURPOSE_READ,  /* everything, with drives taken away */
};

struct world {
    struct sim *sim;
    struct sim_machine *machine;
    struct kv_memory_world *stores;
    struct metrics *metrics;
    struct node *node;
    struct drive_place drives[DRIVES_MAX];
    unsigned drive_count;
    unsigned voter; /* of two drives: the one with the only voter; drive_count: not known yet */
    bool auto_recover;
    struct key_state keys[KEYS];
    uint64_t next_seed;
    uint64_t acknowledged, unknown, refused, verified, hurts, mended;
    struct open_upload uploads[UPLOADS_MAX];
    uint32_t upload_count;
    enum purpose purpose;
    bool faulty; /* disks fail in this life */
    bool lies;   /* a mutant runs */
    bool bucket_made;
    bool running; /* clients go on */
    bool ended;   /* the node fiber is through */
    bool verbose;
};

/* One draw per use, from the simulator's own randomness. */
static inline uint64_t draw(struct world *world, uint64_t bound)
{
    return sim_draw(world->sim, bound);
}

_Noreturn static inline void die(struct world *world, const char *what, const char *key)
{
    fprintf(stderr, "sim_node: %s key=%s drives=%u now_ns=%llu events=%llu\n", what, key,
            world->drive_count, (unsigned long long)sim_now_ns(world->sim),
            (unsigned long long)sim_event_count(world->sim));
    abort();
}

/* Run until so many events more, the end of the life or that time. */
void run_until(struct world *world, uint64_t events, uint64_t until_ns);
