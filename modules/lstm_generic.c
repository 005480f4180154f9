// SPDX-License-Identifier: Apache-2.0
// lstm_generic.c - the LSTM in plain C: the specification that the vector kernels are compared with, and what runs
// where there is none. Compiled without contraction of a·b + c, so that its results are the same on every machine.
#include "gait/lstm.h"

#include "lstm_exp2.h"

#include <assert.h>
#include <math.h>

enum { LANES = 8, WIDTH = 4 * LANES };

static float exp2_generic(float t)
{
    t = t < EXP2_LIMIT ? t : EXP2_LIMIT;
    t = t > -EXP2_LIMIT ? t : -EXP2_LIMIT;
    float shifted = t + EXP2_ROUND;
    float f = t - (shifted - EXP2_ROUND);
    float p = ((((EXP2_C5 * f + EXP2_C4) * f + EXP2_C3) * f + EXP2_C2) * f + EXP2_C1) * f + 1.0f;
    uint32_t n, bits;
    memcpy(&n, &shifted, sizeof n);
    memcpy(&bits, &p, sizeof bits);
    bits += n << 23;
    memcpy(&p, &bits, sizeof p);
    return p;
}

static float sigmoid(float x)
{
    return 1.0f / (1.0f + exp2_generic(x * -EXP2_LOG2E));
}

static float tanh_generic(float x)
{
    return 1.0f - 2.0f / (1.0f + exp2_generic(x * (2.0f * EXP2_LOG2E)));
}

/* sum[WIDTH] += Σ_k a[k] · w[k][WIDTH] */
static void panel_sums(const float *restrict w, uint32_t k, const float *restrict a, float *restrict sum)
{
    for (uint32_t j = 0; j < k; j++, w += WIDTH)
        for (uint32_t column = 0; column < WIDTH; column++)
            sum[column] += a[j] * w[column];
}

/* One row, one panel: the four gates of LANES units, then those units' c and h. */
static void cell_panel(const struct lstm_cell_call *call, uint32_t row, uint32_t panel)
{
    const struct lstm_panels *w = call->w;
    float z[WIDTH];
    memcpy(z, w->bias + (size_t)panel * WIDTH, sizeof z);
    for (uint32_t t = 0; t < call->tables_n; t++)
        for (uint32_t column = 0; column < WIDTH; column++)
            z[column] += call->tables[(size_t)row * call->tables_n + t][(size_t)panel * WIDTH + column];
    panel_sums(w->weight + (size_t)panel * w->k * WIDTH, w->k, call->a + (size_t)row * w->k, z);

    uint32_t first = panel * LANES, units = call->units - first < LANES ? call->units - first : LANES;
    float *h = call->state[row] + call->h_at + first, *c = call->state[row] + call->c_at + first;
    for (uint32_t u = 0; u < units; u++) {
        float i = sigmoid(z[u]);
        float f = sigmoid(z[LANES + u]);
        float g = tanh_generic(z[2 * LANES + u]);
        float o = sigmoid(z[3 * LANES + u]);
        c[u] = f * c[u] + i * g;
        h[u] = o * tanh_generic(c[u]);
    }
}

static void generic_cell(const struct lstm_cell_call *call)
{
    assert(call->w->width == WIDTH);
    for (uint32_t panel = 0; panel < call->w->n; panel++)
        for (uint32_t row = 0; row < call->n; row++)
            cell_panel(call, row, panel);
}

static void generic_dense(const struct lstm_panels *w, uint32_t n, const float *a, size_t a_stride, float *y,
                          size_t y_stride, bool add)
{
    assert(w->width == WIDTH);
    for (uint32_t panel = 0; panel < w->n; panel++) {
        uint32_t first = panel * WIDTH, columns = w->columns - first < WIDTH ? w->columns - first : WIDTH;
        for (uint32_t row = 0; row < n; row++) {
            float sum[WIDTH] = {0};
            float *to = y + row * y_stride + first;
            memcpy(sum, add ? to : w->bias + first, columns * sizeof *sum);
            panel_sums(w->weight + (size_t)panel * w->k * WIDTH, w->k, a + row * a_stride, sum);
            memcpy(to, sum, columns * sizeof *sum);
        }
    }
}

static void generic_sigmoid(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = sigmoid(x[i]);
}

static void generic_tanh(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = tanh_generic(x[i]);
}

/* The sum runs in LANES partial sums, so that it does not lose digits over tens of thousands of items. */
static float generic_softmax(float *x, size_t n)
{
    assert(n > 0);
    float max = x[0], partial[LANES] = {0}, sum = 0;
    for (size_t i = 1; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i++) {
        x[i] = exp2_generic((x[i] - max) * EXP2_LOG2E);
        partial[i % LANES] += x[i];
    }
    for (int i = 0; i < LANES; i++)
        sum += partial[i];
    float scale = 1.0f / sum;
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
    return max + logf(sum);
}

const struct lstm_kernel lstm_generic = {
    .name = "generic",
    .lanes = LANES,
    .cell = generic_cell,
    .dense = generic_dense,
    .sigmoid = generic_sigmoid,
    .tanh = generic_tanh,
    .softmax = generic_softmax,
};
