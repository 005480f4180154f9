// SPDX-License-Identifier: Apache-2.0
// dense.c - matrix products in blocks, on top of one instruction set's tile, and which instruction set that is.
#include "gait/dense.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

const struct dense *dense_choose(const char *limit)
{
    if (limit && strcmp(limit, "generic") != 0 && strcmp(limit, "avx2") != 0 && strcmp(limit, "avx512") != 0)
        return NULL;
#if defined(__x86_64__)
    bool wide = !limit || strcmp(limit, "avx512") == 0;
    __builtin_cpu_init(); /* asks for the operating system's consent to the wide registers as well */
    if (wide && __builtin_cpu_supports("avx512f"))
        return &dense_avx512;
    if ((wide || strcmp(limit, "avx2") == 0) && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &dense_avx2;
#endif
    return &dense_generic;
}

float *dense_alloc(size_t floats)
{
    size_t bytes = (floats * sizeof(float) + 127) / 64 * 64;
    float *p = aligned_alloc(64, bytes);
    assert(p);
    return memset(p, 0, bytes);
}

static size_t panels_of(size_t n)
{
    return (n + DENSE_PANEL - 1) / DENSE_PANEL;
}

size_t dense_packed_floats(size_t k, size_t n)
{
    return k * panels_of(n) * DENSE_PANEL;
}

size_t dense_scratch_floats(void)
{
    return (size_t)(DENSE_M_BLOCK + DENSE_ROWS_MAX) * DENSE_K_BLOCK;
}

/* One panel: k rows of 16 columns, those beyond `width` zero. */
static void pack_panel(float *to, const float *b, size_t k, size_t width, size_t b_row, size_t b_column)
{
    if (width < DENSE_PANEL)
        memset(to, 0, k * DENSE_PANEL * sizeof *to);
    if (b_column == 1 && width == DENSE_PANEL) {
        for (size_t i = 0; i < k; i++)
            memcpy(to + i * DENSE_PANEL, b + i * b_row, DENSE_PANEL * sizeof *to);
        return;
    }
    /* Four rows of the panel at a time: a cache line of B is then used four times while it is near. */
    for (size_t i = 0; i < k; i += 4)
        for (size_t j = 0; j < width; j++)
            for (size_t s = i; s < i + 4 && s < k; s++)
                to[s * DENSE_PANEL + j] = b[s * b_row + j * b_column];
}

void dense_pack(float *packed, const float *b, size_t k, size_t n, size_t b_row, size_t b_column)
{
    for (size_t k0 = 0; k0 < k; k0 += DENSE_K_BLOCK) {
        size_t depth = k - k0 < DENSE_K_BLOCK ? k - k0 : DENSE_K_BLOCK;
        for (size_t j = 0; j < n; j += DENSE_PANEL) {
            size_t width = n - j < DENSE_PANEL ? n - j : DENSE_PANEL;
            pack_panel(packed, b + k0 * b_row + j * b_column, depth, width, b_row, b_column);
            packed += depth * DENSE_PANEL;
        }
    }
}

/* Rows of A side by side, tile after tile: [tile][k][rows]. */
static void pack_left(float *to, const float *a, size_t rows, size_t k, size_t a_row, size_t a_step)
{
    if (a_row == 1) {
        for (size_t s = 0; s < k; s++)
            for (size_t i = 0; i < rows; i++)
                to[s * rows + i] = a[s * a_step + i];
        return;
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t s = 0; s < k; s++)
            to[s * rows + i] = a[i * a_row + s * a_step];
}

/* The last panel of a C whose width is no multiple of 16 goes by a tile beside it. */
static void tile_edge(const struct dense *d, size_t rows, size_t width, size_t k, const float *a, size_t a_row,
                      size_t a_step, const float *b, float *c, size_t c_row, bool add)
{
    float edge[DENSE_ROWS_MAX * DENSE_PANEL];
    if (add)
        for (size_t i = 0; i < rows; i++)
            memcpy(edge + i * DENSE_PANEL, c + i * c_row, width * sizeof *c);
    if (add && width < DENSE_PANEL)
        for (size_t i = 0; i < rows; i++)
            memset(edge + i * DENSE_PANEL + width, 0, (DENSE_PANEL - width) * sizeof *c);
    d->tile(rows, k, a, a_row, a_step, b, edge, DENSE_PANEL, add);
    for (size_t i = 0; i < rows; i++)
        memcpy(c + i * c_row, edge + i * DENSE_PANEL, width * sizeof *c);
}

/* m rows in as few tiles as possible, as even as possible: 32 rows are 6 6 5 5 5 5, not 6 6 6 6 6 2. */
static size_t tile_rows(const struct dense *d, size_t left)
{
    size_t tiles = (left + d->rows_max - 1) / d->rows_max;
    return (left + tiles - 1) / tiles;
}

static void multiply_block(const struct dense *d, size_t m, size_t n, size_t k, const float *a, size_t a_row,
                           size_t a_step, const float *packed, float *c, size_t c_row, bool add, float *scratch)
{
    if (a_step != 1)
        for (size_t i = 0, rows; i < m; i += rows) {
            rows = tile_rows(d, m - i);
            pack_left(scratch + i * k, a + i * a_row, rows, k, a_row, a_step);
        }
    for (size_t j = 0; j < n; j += DENSE_PANEL, packed += k * DENSE_PANEL) {
        size_t width = n - j < DENSE_PANEL ? n - j : DENSE_PANEL;
        for (size_t i = 0, rows; i < m; i += rows) {
            rows = tile_rows(d, m - i);
            const float *left = a_step != 1 ? scratch + i * k : a + i * a_row;
            size_t row = a_step != 1 ? 1 : a_row, step = a_step != 1 ? rows : 1;
            if (width == DENSE_PANEL)
                d->tile(rows, k, left, row, step, packed, c + i * c_row + j, c_row, add);
            else
                tile_edge(d, rows, width, k, left, row, step, packed, c + i * c_row + j, c_row, add);
        }
    }
}

void dense_multiply(const struct dense *d, size_t m, size_t n, size_t k, const float *a, size_t a_row, size_t a_step,
                    const float *packed, float *c, size_t c_row, bool add, float *scratch)
{
    assert(a_step == 1 || scratch);
    if (k == 0 && !add)
        for (size_t i = 0; i < m; i++)
            memset(c + i * c_row, 0, n * sizeof *c);
    for (size_t k0 = 0; k0 < k; k0 += DENSE_K_BLOCK) {
        size_t depth = k - k0 < DENSE_K_BLOCK ? k - k0 : DENSE_K_BLOCK;
        for (size_t i = 0; i < m; i += DENSE_M_BLOCK)
            multiply_block(d, m - i < DENSE_M_BLOCK ? m - i : DENSE_M_BLOCK, n, depth, a + i * a_row + k0 * a_step,
                           a_row, a_step, packed, c + i * c_row, c_row, add || k0 > 0, scratch);
        packed += depth * panels_of(n) * DENSE_PANEL;
    }
}
