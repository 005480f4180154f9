/* SPDX-License-Identifier: Apache-2.0 */
/* shop_random.h - random numbers that are the same on every machine: xoshiro256** (Blackman, Vigna 2018), seeded by
 * splitmix64. The C library's rand() and log() differ between systems, so none of them is used. */
#ifndef GAIT_SHOP_RANDOM_H
#define GAIT_SHOP_RANDOM_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct random {
    uint64_t s[4];
};

/* The finaliser of splitmix64: a bijection on 64 bits in which every input bit moves every output bit. */
static inline uint64_t random_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline struct random random_seeded(uint64_t seed)
{
    struct random r;
    for (int i = 0; i < 4; i++)
        r.s[i] = random_mix(seed += UINT64_C(0x9e3779b97f4a7c15));
    return r;
}

static inline uint64_t random_bits(struct random *r)
{
    uint64_t *s = r->s, x = s[1] * 5, t = s[1] << 17;
    uint64_t result = ((x << 7) | (x >> 57)) * 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 45) | (s[3] >> 19);
    return result;
}

/* 0 .. n - 1. The bias of the multiplication is below n / 2^32. */
static inline uint32_t random_below(struct random *r, uint32_t n)
{
    return (uint32_t)(((random_bits(r) >> 32) * n) >> 32);
}

/* [0, 1) */
static inline double random_unit(struct random *r)
{
    return (double)(random_bits(r) >> 11) * 0x1p-53;
}

static inline bool random_chance(struct random *r, double p)
{
    return random_unit(r) < p;
}

/* Natural logarithm of a normal positive number, to about 1e-11: exponent apart, then 2 artanh((m - 1) / (m + 1)). */
static inline double random_ln(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023;
    bits = (bits & UINT64_C(0x000fffffffffffff)) | UINT64_C(0x3ff0000000000000);
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) {
        m = m * 0.5;
        exponent++;
    }
    double t = (m - 1) / (m + 1), q = t * t, sum = 0;
    for (int k = 13; k >= 1; k -= 2)
        sum = sum * q + 1.0 / k;
    return 2 * t * sum + exponent * 0.6931471805599453;
}

/* Exponentially distributed with mean 1. */
static inline double random_exponential(struct random *r)
{
    return -random_ln((double)((random_bits(r) >> 11) + 1) * 0x1p-53);
}

#endif
