// SPDX-License-Identifier: Apache-2.0
// lstm_wide.c - the source of the vector kernels with 16 lanes and 6 rows, as AVX-512 has them, on vectors that are
// plain arrays: so the logic of those tiles is tested on machines without such registers.
#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define ROWS 6
#define KERNEL "wide"
#define KERNEL_NEEDS 0
#define KERNEL_STRUCT lstm_wide

/* Calls and loops stay as they are: unrolled and inlined, 24 accumulators of 16 floats are more than a compiler of
 * vectors made of loops can digest. */
#define CALL __attribute__((noinline))
#define UNROLL

typedef struct {
    float lane[LANES];
} vec;

#define LANEWISE(expression)                 \
    do {                                     \
        vec result;                          \
        for (int i = 0; i < LANES; i++)      \
            result.lane[i] = (expression);   \
        return result;                       \
    } while (0)

static CALL vec v_load(const float *p) { LANEWISE(p[i]); }
static CALL void v_store(float *p, vec v) { memcpy(p, v.lane, sizeof v.lane); }
static CALL vec v_set(float x) { LANEWISE(x); }
static CALL vec v_fma(vec a, vec b, vec c) { LANEWISE(fmaf(a.lane[i], b.lane[i], c.lane[i])); }
static CALL vec v_add(vec a, vec b) { LANEWISE(a.lane[i] + b.lane[i]); }
static CALL vec v_sub(vec a, vec b) { LANEWISE(a.lane[i] - b.lane[i]); }
static CALL vec v_mul(vec a, vec b) { LANEWISE(a.lane[i] * b.lane[i]); }
static CALL vec v_div(vec a, vec b) { LANEWISE(a.lane[i] / b.lane[i]); }
static CALL vec v_min(vec a, vec b) { LANEWISE(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]); }
static CALL vec v_max(vec a, vec b) { LANEWISE(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
static CALL vec v_scale(vec p, vec s)
{
    for (int i = 0; i < LANES; i++) {
        uint32_t bits, n;
        memcpy(&bits, &p.lane[i], sizeof bits);
        memcpy(&n, &s.lane[i], sizeof n);
        bits += n << 23;
        memcpy(&p.lane[i], &bits, sizeof bits);
    }
    return p;
}

#include "../modules/lstm_vector.h"
