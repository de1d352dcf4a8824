/* The simulator's randomness: xoshiro256** (Blackman and Vigna, 2018), seeded by splitmix64.
 *
 * One stream per purpose: a draw added in one place leaves the draws of all others as they were,
 * so a seed that shows a bug keeps showing it after an unrelated change. */
#pragma once
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

struct sim_random {
    uint64_t state[4];
};

static inline uint64_t sim_random_mix(uint64_t *counter)
{
    uint64_t z = (*counter += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* The stream `purpose` of `seed`. */
static inline struct sim_random sim_random_stream(uint64_t seed, uint64_t purpose)
{
    uint64_t counter = purpose;
    counter = seed ^ sim_random_mix(&counter);
    struct sim_random random;
    for (unsigned i = 0; i < 4; i++)
        random.state[i] = sim_random_mix(&counter);
    return random;
}

static inline uint64_t sim_random_next(struct sim_random *random)
{
    uint64_t *s = random->state;
    uint64_t product = s[1] * 5;
    uint64_t result = ((product << 7) | (product >> 57)) * 9;
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = (s[3] << 45) | (s[3] >> 19);
    return result;
}

/* Uniform in [0, bound), up to a bias of bound / 2^64. */
static inline uint64_t sim_random_below(struct sim_random *random, uint64_t bound)
{
    assert(bound > 0);
    return (uint64_t)(((unsigned __int128)sim_random_next(random) * bound) >> 64);
}

static inline uint64_t sim_random_between(struct sim_random *random, uint64_t min, uint64_t max)
{
    assert(min <= max);
    return min == max ? min : min + sim_random_below(random, max - min + 1);
}

/* True with `ppm` parts per million; draws once in any case. */
static inline bool sim_random_hits(struct sim_random *random, uint32_t ppm)
{
    return sim_random_below(random, 1000000) < ppm;
}
