// SPDX-License-Identifier: Apache-2.0
// dense_generic.c - the arithmetic of training in plain C, one number at a time: the specification.
#include <math.h>
#include <stdint.h>

#define V float
#define V_WIDTH 1
#define V_ROWS 4
#define V_SET(x) (x)
#define V_LOAD(p) (*(p))
#define V_STORE(p, v) (*(p) = (v))
#define V_ADD(a, b) ((a) + (b))
#define V_SUB(a, b) ((a) - (b))
#define V_MUL(a, b) ((a) * (b))
#define V_DIV(a, b) ((a) / (b))
#define V_MIN(a, b) ((a) < (b) ? (a) : (b))
#define V_MAX(a, b) ((a) > (b) ? (a) : (b))
#define V_SQRT(a) sqrtf(a)
#define V_FMA(a, b, c) ((a) * (b) + (c))
#define V_ROUND(x) rintf(x)
#define V_POW2(x) power_of_two(x)
#define V_ISA "generic"
#define V_NAME dense_generic

/* 2^x for whole x in −126 … 127: x becomes the exponent's bits. */
static inline float power_of_two(float x)
{
    union {
        uint32_t bits;
        float value;
    } u = {.bits = (uint32_t)((int32_t)x + 127) << 23};
    return u.value;
}

#include "dense_body.h"
