/* SPDX-License-Identifier: Apache-2.0 */
/* dense_body.h - the functions of dense.h in terms of a vector type. The including file defines:
 *   V (type), V_WIDTH, V_ROWS, V_SET(x), V_LOAD(p), V_STORE(p, v), V_ADD, V_SUB, V_MUL, V_DIV, V_MIN, V_MAX, V_SQRT,
 *   V_FMA(a, b, c) = a·b + c, V_ROUND(x), V_POW2(x) (2^x for whole x), V_ISA (a string), V_NAME (of the struct). */
#include "gait/dense.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* Up to V_WIDTH floats; the rest of the vector is zero. */
static inline V load_some(const float *p, size_t n)
{
    if (n >= V_WIDTH)
        return V_LOAD(p);
    float part[V_WIDTH] = {0};
    memcpy(part, p, n * sizeof *p);
    return V_LOAD(part);
}

static inline void store_some(float *p, V v, size_t n)
{
    if (n >= V_WIDTH) {
        V_STORE(p, v);
        return;
    }
    float part[V_WIDTH];
    V_STORE(part, v);
    memcpy(p, part, n * sizeof *p);
}

static inline float sum_of(V v)
{
    float part[V_WIDTH], sum = 0;
    V_STORE(part, v);
    for (size_t i = 0; i < V_WIDTH; i++)
        sum += part[i];
    return sum;
}

/* e^x to about 2 units in the last place: x = n·ln 2 + r with |r| ≤ ½ ln 2, e^r by its Taylor polynomial of degree 7
 * (the next term is below 2^-26), ln 2 in two parts so that n·ln 2 is exact. Clamped to where the result is normal. */
static inline V exp_v(V x)
{
    x = V_MIN(V_MAX(x, V_SET(-87.0f)), V_SET(88.0f));
    V n = V_ROUND(V_MUL(x, V_SET(1.44269504f)));
    V r = V_FMA(n, V_SET(-0.693359375f), x);
    r = V_FMA(n, V_SET(2.12194440e-4f), r);
    V p = V_SET(1.0f / 5040);
    p = V_FMA(p, r, V_SET(1.0f / 720));
    p = V_FMA(p, r, V_SET(1.0f / 120));
    p = V_FMA(p, r, V_SET(1.0f / 24));
    p = V_FMA(p, r, V_SET(1.0f / 6));
    p = V_FMA(p, r, V_SET(0.5f));
    p = V_FMA(p, r, V_SET(1.0f));
    p = V_FMA(p, r, V_SET(1.0f));
    return V_MUL(p, V_POW2(n));
}

static inline V sigmoid_v(V x)
{
    return V_DIV(V_SET(1.0f), V_ADD(V_SET(1.0f), exp_v(V_SUB(V_SET(0.0f), x))));
}

static inline V tanh_v(V x)
{
    return V_FMA(V_SET(2.0f), sigmoid_v(V_ADD(x, x)), V_SET(-1.0f));
}

/* ---- matrix products -------------------------------------------------------------------------------------------- */

/* `rows` is a constant at each call below, so that the compiler keeps the whole tile in registers. */
static inline __attribute__((always_inline)) void tile_of(size_t rows, size_t k, const float *a, size_t a_row,
                                                          size_t a_step, const float *b, float *c, size_t c_row,
                                                          bool add)
{
    enum { VECTORS = DENSE_PANEL / V_WIDTH };
    V sum[V_ROWS][VECTORS];
#pragma GCC unroll 16
    for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 16
        for (size_t j = 0; j < VECTORS; j++)
            sum[i][j] = add ? V_LOAD(c + i * c_row + j * V_WIDTH) : V_SET(0.0f);
    for (size_t s = 0; s < k; s++, a += a_step, b += DENSE_PANEL) {
        V right[VECTORS];
#pragma GCC unroll 16
        for (size_t j = 0; j < VECTORS; j++)
            right[j] = V_LOAD(b + j * V_WIDTH);
#pragma GCC unroll 16
        for (size_t i = 0; i < rows; i++) {
            V left = V_SET(a[i * a_row]);
#pragma GCC unroll 16
            for (size_t j = 0; j < VECTORS; j++)
                sum[i][j] = V_FMA(left, right[j], sum[i][j]);
        }
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 16
        for (size_t j = 0; j < VECTORS; j++)
            V_STORE(c + i * c_row + j * V_WIDTH, sum[i][j]);
}

static void tile(size_t rows, size_t k, const float *a, size_t a_row, size_t a_step, const float *b, float *c,
                 size_t c_row, bool add)
{
#define TILE_CASE(n) case n: tile_of(n, k, a, a_row, a_step, b, c, c_row, add); break;
    switch (rows) {
        TILE_CASE(1) TILE_CASE(2) TILE_CASE(3) TILE_CASE(4)
#if V_ROWS >= 6
        TILE_CASE(5) TILE_CASE(6)
#endif
#if V_ROWS >= 12
        TILE_CASE(7) TILE_CASE(8) TILE_CASE(9) TILE_CASE(10) TILE_CASE(11) TILE_CASE(12)
#endif
    default:
        assert(!"rows is 1 to rows_max");
    }
#undef TILE_CASE
}

/* ---- LSTM cells ------------------------------------------------------------------------------------------------- */

static void cell_forward(size_t n, size_t hidden, float *gates, const float *c_before, float *c, float *tanh_c,
                         float *h)
{
    for (size_t row = 0; row < n; row++) {
        float *gi = gates + row * 4 * hidden, *gf = gi + hidden, *gg = gf + hidden, *go = gg + hidden;
        for (size_t j = 0, at = row * hidden; j < hidden; j += V_WIDTH, at += V_WIDTH) {
            size_t left = hidden - j;
            V i = sigmoid_v(load_some(gi + j, left)), f = sigmoid_v(load_some(gf + j, left));
            V g = tanh_v(load_some(gg + j, left)), o = sigmoid_v(load_some(go + j, left));
            V cell = V_FMA(f, load_some(c_before + at, left), V_MUL(i, g));
            V t = tanh_v(cell);
            store_some(gi + j, i, left);
            store_some(gf + j, f, left);
            store_some(gg + j, g, left);
            store_some(go + j, o, left);
            store_some(c + at, cell, left);
            store_some(tanh_c + at, t, left);
            store_some(h + at, V_MUL(o, t), left);
        }
    }
}

static void cell_backward(size_t n, size_t hidden, float *gates, const float *c_before, const float *tanh_c,
                          const float *dh, float *dc)
{
    V one = V_SET(1.0f);
    for (size_t row = 0; row < n; row++) {
        float *gi = gates + row * 4 * hidden, *gf = gi + hidden, *gg = gf + hidden, *go = gg + hidden;
        for (size_t j = 0, at = row * hidden; j < hidden; j += V_WIDTH, at += V_WIDTH) {
            size_t left = hidden - j;
            V i = load_some(gi + j, left), f = load_some(gf + j, left);
            V g = load_some(gg + j, left), o = load_some(go + j, left);
            V t = load_some(tanh_c + at, left), by_h = load_some(dh + at, left);
            V by_c = V_FMA(V_MUL(by_h, o), V_SUB(one, V_MUL(t, t)), load_some(dc + at, left));
            V by_i = V_MUL(V_MUL(by_c, g), V_MUL(i, V_SUB(one, i)));
            V by_f = V_MUL(V_MUL(by_c, load_some(c_before + at, left)), V_MUL(f, V_SUB(one, f)));
            V by_g = V_MUL(V_MUL(by_c, i), V_SUB(one, V_MUL(g, g)));
            V by_o = V_MUL(V_MUL(by_h, t), V_MUL(o, V_SUB(one, o)));
            store_some(gi + j, by_i, left);
            store_some(gf + j, by_f, left);
            store_some(gg + j, by_g, left);
            store_some(go + j, by_o, left);
            store_some(dc + at, V_MUL(by_c, f), left);
        }
    }
}

/* ---- heads, sums, Adam ------------------------------------------------------------------------------------------ */

static float softmax(size_t n, float *x, float scale)
{
    float top = x[0], total = 0;
    size_t whole = n / V_WIDTH * V_WIDTH;
    V highest = V_SET(x[0]), sum = V_SET(0.0f);
    for (size_t i = 0; i < whole; i += V_WIDTH)
        highest = V_MAX(highest, V_LOAD(x + i));
    float part[V_WIDTH];
    V_STORE(part, highest);
    for (size_t i = 0; i < V_WIDTH; i++)
        top = part[i] > top ? part[i] : top;
    for (size_t i = whole; i < n; i++)
        top = x[i] > top ? x[i] : top;
    for (size_t i = 0; i < whole; i += V_WIDTH) {
        V e = exp_v(V_SUB(V_LOAD(x + i), V_SET(top)));
        sum = V_ADD(sum, e);
        V_STORE(x + i, e);
    }
    total = sum_of(sum);
    for (size_t i = whole; i < n; i++)
        total += x[i] = expf(x[i] - top);
    V factor = V_SET(scale / total);
    for (size_t i = 0; i < n; i += V_WIDTH)
        store_some(x + i, V_MUL(load_some(x + i, n - i), factor), n - i);
    return top + logf(total);
}

static void sigmoid(size_t n, float *x)
{
    for (size_t i = 0; i < n; i += V_WIDTH)
        store_some(x + i, sigmoid_v(load_some(x + i, n - i)), n - i);
}

static void adam(size_t n, float *w, const float *gradient, float *m, float *v, const struct dense_adam *a)
{
    V rate = V_SET(a->rate), epsilon = V_SET(a->epsilon), scale = V_SET(a->scale), l1 = V_SET(a->l1), l2 = V_SET(a->l2);
    V keep1 = V_SET(a->beta1), new1 = V_SET(1 - a->beta1), keep2 = V_SET(a->beta2), new2 = V_SET(1 - a->beta2);
    for (size_t i = 0; i < n; i += V_WIDTH) {
        size_t left = n - i;
        V x = load_some(w + i, left);
        V sign = V_MIN(V_MAX(V_MUL(x, V_SET(1e30f)), V_SET(-1.0f)), V_SET(1.0f));
        V g = V_FMA(load_some(gradient + i, left), scale, V_FMA(l2, x, V_MUL(l1, sign)));
        V first = V_FMA(keep1, load_some(m + i, left), V_MUL(new1, g));
        V second = V_FMA(keep2, load_some(v + i, left), V_MUL(new2, V_MUL(g, g)));
        store_some(m + i, first, left);
        store_some(v + i, second, left);
        x = V_SUB(x, V_DIV(V_MUL(rate, first), V_ADD(V_SQRT(second), epsilon)));
        store_some(w + i, x, left);
    }
}

static void add(size_t n, float *to, const float *from)
{
    for (size_t i = 0; i < n; i += V_WIDTH)
        store_some(to + i, V_ADD(load_some(to + i, n - i), load_some(from + i, n - i)), n - i);
}

static void mask(size_t n, float *to, const float *from, const float *by)
{
    for (size_t i = 0; i < n; i += V_WIDTH)
        store_some(to + i, V_MUL(load_some(from + i, n - i), load_some(by + i, n - i)), n - i);
}

static void add_rows(size_t n, size_t width, float *to, const float *rows, size_t row)
{
    for (size_t j = 0; j < width; j += V_WIDTH) {
        V sum = load_some(to + j, width - j);
        for (size_t i = 0; i < n; i++)
            sum = V_ADD(sum, load_some(rows + i * row + j, width - j));
        store_some(to + j, sum, width - j);
    }
}

static float dot(size_t n, const float *a, const float *b)
{
    V sum = V_SET(0.0f);
    for (size_t i = 0; i < n; i += V_WIDTH)
        sum = V_FMA(load_some(a + i, n - i), load_some(b + i, n - i), sum);
    return sum_of(sum);
}

const struct dense V_NAME = {
    .isa = V_ISA,
    .rows_max = V_ROWS,
    .tile = tile,
    .cell_forward = cell_forward,
    .cell_backward = cell_backward,
    .softmax = softmax,
    .sigmoid = sigmoid,
    .adam = adam,
    .add = add,
    .mask = mask,
    .add_rows = add_rows,
    .dot = dot,
};
