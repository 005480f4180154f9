/* SPDX-License-Identifier: Apache-2.0 */
/* train_random.h - pseudo-random numbers for training: xoshiro256** (Blackman, Vigna), seeded by splitmix64. */
#ifndef GAIT_TRAIN_RANDOM_H
#define GAIT_TRAIN_RANDOM_H

#include <stdint.h>

struct train_random {
    uint64_t s[4];
};

static inline void train_random_seed(struct train_random *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += 0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        r->s[i] = z ^ (z >> 31);
    }
}

static inline uint64_t train_random_next(struct train_random *r)
{
    uint64_t x = r->s[1] * 5, t = r->s[1] << 17;
    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= t;
    r->s[3] = (r->s[3] << 45) | (r->s[3] >> 19);
    return ((x << 7) | (x >> 57)) * 9;
}

/* 0 ≤ x < 1 */
static inline double train_random_unit(struct train_random *r)
{
    return (double)(train_random_next(r) >> 11) * 0x1p-53;
}

/* 0 ≤ x < n, n > 0; the bias of at most n / 2^64 does not matter here. */
static inline uint64_t train_random_below(struct train_random *r, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)train_random_next(r) * n) >> 64);
}

#endif
