/* SPDX-License-Identifier: Apache-2.0 */
/* lstm_vector.h - the vector kernels, written once. lstm_avx2.c and lstm_avx512.c include it after they have said
 * what a vector is:
 *
 *   LANES          floats in a vector            ROWS           rows of a full register tile: ROWS × 4 accumulators,
 *   vec            the type                                     one more vector, and a broadcast or ROWS of them
 *   v_load(p)      v_store(p, v)                 v_set(x)       all lanes x
 *   v_fma(a,b,c)   a·b + c, rounded once         v_add v_sub v_mul v_div
 *   v_min(a,b)     a < b ? a : b                 v_max(a,b)     a > b ? a : b
 *   v_scale(p, s)  p · 2^n, n in the low bits of s (lstm_exp2.h)
 *   KERNEL         "avx2" …                      KERNEL_NEEDS   enum cpu_feature bits
 *   KERNEL_STRUCT  the symbol to define
 *
 * The tile of ROWS rows and one panel walks k once: each weight vector is loaded once for ROWS rows, each element of
 * `a` once for four vectors. Rows left over take the same path with fewer rows, and every accumulator still sees its k
 * products in the same order: fused multiply-adds are written out, nothing is left to the compiler's contraction. */
#include "gait/lstm.h"

#include "lstm_exp2.h"

#include <assert.h>
#include <math.h>

enum { GATES = 4, WIDTH = GATES * LANES };

#define INLINE static inline __attribute__((always_inline))
#ifdef UNROLL /* the including file knows better */
#elif defined __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

INLINE vec exp2_vector(vec t)
{
    t = v_max(v_min(t, v_set(EXP2_LIMIT)), v_set(-EXP2_LIMIT));
    vec shifted = v_add(t, v_set(EXP2_ROUND));
    vec f = v_sub(t, v_sub(shifted, v_set(EXP2_ROUND)));
    vec p = v_fma(v_set(EXP2_C5), f, v_set(EXP2_C4));
    p = v_fma(p, f, v_set(EXP2_C3));
    p = v_fma(p, f, v_set(EXP2_C2));
    p = v_fma(p, f, v_set(EXP2_C1));
    p = v_fma(p, f, v_set(1.0f));
    return v_scale(p, shifted);
}

INLINE vec sigmoid_vector(vec x)
{
    vec one = v_set(1.0f);
    return v_div(one, v_add(one, exp2_vector(v_mul(x, v_set(-EXP2_LOG2E)))));
}

INLINE vec tanh_vector(vec x)
{
    vec one = v_set(1.0f);
    return v_sub(one, v_div(v_set(2.0f), v_add(one, exp2_vector(v_mul(x, v_set(2.0f * EXP2_LOG2E))))));
}

/* sum[panel][row][gate] += Σ_k a[row][k] · w[panel][k][gate], for constant `panels` and `rows`. A single row takes two
 * panels at once: eight accumulators hide the latency of the multiply-add. */
INLINE void tile_sums(int panels, int rows, const struct lstm_panels *p, const float *w, const float *a,
                      size_t a_stride, vec (*sum)[ROWS][GATES])
{
    for (uint32_t k = 0; k < p->k; k++, w += WIDTH) {
        UNROLL
        for (int panel = 0; panel < panels; panel++) {
            UNROLL
            for (int gate = 0; gate < GATES; gate++) {
                vec weight = v_load(w + panel * (size_t)p->k * WIDTH + gate * LANES);
                UNROLL
                for (int row = 0; row < rows; row++)
                    sum[panel][row][gate] = v_fma(v_set(a[row * a_stride + k]), weight, sum[panel][row][gate]);
            }
        }
    }
}

/* A vector of which only the first `units` floats exist in memory: the last panel of an odd width. */
INLINE vec load_some(const float *from, uint32_t units)
{
    float all[LANES] = {0};
    if (units >= LANES)
        return v_load(from);
    memcpy(all, from, units * sizeof *all);
    return v_load(all);
}

INLINE void store_some(float *to, vec v, uint32_t units)
{
    float all[LANES];
    if (units >= LANES) {
        v_store(to, v);
        return;
    }
    v_store(all, v);
    memcpy(to, all, units * sizeof *all);
}

INLINE void cell_update(const struct lstm_cell_call *call, uint32_t row, uint32_t panel, const vec *z)
{
    uint32_t first = panel * LANES, units = call->units - first;
    float *h = call->state[row] + call->h_at + first, *c = call->state[row] + call->c_at + first;
    vec i = sigmoid_vector(z[0]), f = sigmoid_vector(z[1]), g = tanh_vector(z[2]), o = sigmoid_vector(z[3]);
    vec next = v_fma(f, load_some(c, units), v_mul(i, g));
    store_some(c, next, units);
    store_some(h, v_mul(o, tanh_vector(next)), units);
}

INLINE void cell_tile(const struct lstm_cell_call *call, uint32_t first_panel, uint32_t first_row, int panels, int rows)
{
    const struct lstm_panels *w = call->w;
    vec sum[2][ROWS][GATES];
    UNROLL
    for (int panel = 0; panel < panels; panel++) {
        size_t at = (size_t)(first_panel + panel) * WIDTH;
        UNROLL
        for (int gate = 0; gate < GATES; gate++) {
            UNROLL
            for (int row = 0; row < rows; row++)
                sum[panel][row][gate] = v_load(w->bias + at + gate * LANES);
        }
        for (uint32_t t = 0; t < call->tables_n; t++) {
            UNROLL
            for (int row = 0; row < rows; row++) {
                const float *table = call->tables[(size_t)(first_row + row) * call->tables_n + t] + at;
                UNROLL
                for (int gate = 0; gate < GATES; gate++)
                    sum[panel][row][gate] = v_add(sum[panel][row][gate], v_load(table + gate * LANES));
            }
        }
    }
    tile_sums(panels, rows, w, w->weight + (size_t)first_panel * w->k * WIDTH, call->a + (size_t)first_row * w->k, w->k,
              sum);
    UNROLL
    for (int panel = 0; panel < panels; panel++) {
        UNROLL
        for (int row = 0; row < rows; row++)
            cell_update(call, first_row + row, first_panel + panel, sum[panel][row]);
    }
}

/* How many of `left` rows the next tile takes: a single row left over would be slow, so its neighbours are shared
 * out. */
INLINE uint32_t tile_rows(uint32_t left)
{
    if (left == ROWS + 1 && ROWS > 2)
        return ROWS - 1;
    return left < ROWS ? left : ROWS;
}

static void vector_cell(const struct lstm_cell_call *call)
{
    assert(call->w->width == WIDTH);
    uint32_t panel = 0;
    if (call->n == 1)
        for (; panel + 2 <= call->w->n; panel += 2)
            cell_tile(call, panel, 0, 2, 1);
    for (; panel < call->w->n; panel++) {
        for (uint32_t row = 0, rows; row < call->n; row += rows) {
            rows = tile_rows(call->n - row);
            switch (rows) {
            case 1: cell_tile(call, panel, row, 1, 1); break;
            case 2: cell_tile(call, panel, row, 1, 2); break;
            case 3: cell_tile(call, panel, row, 1, 3); break;
#if ROWS > 3
            case 4: cell_tile(call, panel, row, 1, 4); break;
            case 5: cell_tile(call, panel, row, 1, 5); break;
            case 6: cell_tile(call, panel, row, 1, 6); break;
#endif
            default: assert(!"a tile of this many rows");
            }
        }
    }
}

INLINE void dense_tile(const struct lstm_panels *w, uint32_t panel, int rows, const float *a, size_t a_stride, float *y,
                       size_t y_stride, bool add)
{
    vec sum[1][ROWS][GATES];
    uint32_t first = panel * WIDTH;
    UNROLL
    for (int row = 0; row < rows; row++) {
        UNROLL
        for (int part = 0; part < GATES; part++) {
            uint32_t column = first + part * LANES;
            uint32_t columns = column < w->columns ? w->columns - column : 0;
            sum[0][row][part] = add && columns ? load_some(y + row * y_stride + column, columns)
                                               : v_load(w->bias + column);
        }
    }
    tile_sums(1, rows, w, w->weight + (size_t)first * w->k, a, a_stride, sum);
    UNROLL
    for (int row = 0; row < rows; row++) {
        UNROLL
        for (int part = 0; part < GATES; part++) {
            uint32_t column = first + part * LANES;
            if (column < w->columns)
                store_some(y + row * y_stride + column, sum[0][row][part], w->columns - column);
        }
    }
}

static void vector_dense(const struct lstm_panels *w, uint32_t n, const float *a, size_t a_stride, float *y,
                         size_t y_stride, bool add)
{
    assert(w->width == WIDTH);
    for (uint32_t panel = 0; panel < w->n; panel++) {
        for (uint32_t row = 0, rows; row < n; row += rows) {
            const float *from = a + row * a_stride;
            float *to = y + row * y_stride;
            rows = tile_rows(n - row);
            switch (rows) {
            case 1: dense_tile(w, panel, 1, from, a_stride, to, y_stride, add); break;
            case 2: dense_tile(w, panel, 2, from, a_stride, to, y_stride, add); break;
            case 3: dense_tile(w, panel, 3, from, a_stride, to, y_stride, add); break;
#if ROWS > 3
            case 4: dense_tile(w, panel, 4, from, a_stride, to, y_stride, add); break;
            case 5: dense_tile(w, panel, 5, from, a_stride, to, y_stride, add); break;
            case 6: dense_tile(w, panel, 6, from, a_stride, to, y_stride, add); break;
#endif
            default: assert(!"a tile of this many rows");
            }
        }
    }
}

static void vector_sigmoid(float *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        store_some(x + i, sigmoid_vector(load_some(x + i, n - i < LANES ? (uint32_t)(n - i) : LANES)),
                   n - i < LANES ? (uint32_t)(n - i) : LANES);
}

static void vector_tanh(float *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        store_some(x + i, tanh_vector(load_some(x + i, n - i < LANES ? (uint32_t)(n - i) : LANES)),
                   n - i < LANES ? (uint32_t)(n - i) : LANES);
}

static float softmax_max(const float *x, size_t n)
{
    size_t i = 0;
    float max = x[0], lanes[LANES];
    if (n >= LANES) {
        vec most = v_load(x);
        for (i = LANES; i + LANES <= n; i += LANES)
            most = v_max(v_load(x + i), most);
        v_store(lanes, most);
        for (int lane = 0; lane < LANES; lane++)
            max = lanes[lane] > max ? lanes[lane] : max;
    }
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

static float vector_softmax(float *x, size_t n)
{
    assert(n > 0);
    float max = softmax_max(x, n), lanes[LANES], sum = 0;
    vec shift = v_set(max), factor = v_set(EXP2_LOG2E), partial = v_set(0.0f);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec e = exp2_vector(v_mul(v_sub(v_load(x + i), shift), factor));
        v_store(x + i, e);
        partial = v_add(partial, e);
    }
    if (i < n) { /* the lanes beyond n are computed, but neither stored nor summed */
        uint32_t rest = (uint32_t)(n - i);
        vec e = exp2_vector(v_mul(v_sub(load_some(x + i, rest), shift), factor));
        store_some(x + i, e, rest);
        partial = v_add(partial, load_some(x + i, rest));
    }
    v_store(lanes, partial);
    for (int lane = 0; lane < LANES; lane++)
        sum += lanes[lane];
    vec scale = v_set(1.0f / sum);
    for (i = 0; i < n; i += LANES) {
        uint32_t rest = n - i < LANES ? (uint32_t)(n - i) : LANES;
        store_some(x + i, v_mul(load_some(x + i, rest), scale), rest);
    }
    return max + logf(sum);
}

const struct lstm_kernel KERNEL_STRUCT = {
    .name = KERNEL,
    .needs = KERNEL_NEEDS,
    .lanes = LANES,
    .cell = vector_cell,
    .dense = vector_dense,
    .sigmoid = vector_sigmoid,
    .tanh = vector_tanh,
    .softmax = vector_softmax,
};
