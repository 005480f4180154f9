/* SPDX-License-Identifier: Apache-2.0 */
/* dense.h - the arithmetic of training: matrix products, LSTM cells with their derivatives, softmax, Adam.
 *
 * dense_body.h holds the functions once, in terms of a vector of V_WIDTH floats; dense_generic.c (width 1: the
 * specification), dense_avx2.c and dense_avx512.c compile it for their instruction set. Which one runs is decided at
 * start. A row of a product never depends on the rows beside it, whatever their number.
 *
 *   C [m × n] (+)= A [m × k] · B [k × n]: B is packed into panels of 16 columns, so that the inner loop walks memory
 *   in order; a tile of up to rows_max × 16 of C stays in registers. K is cut into blocks that fit the first-level
 *   cache. */
#ifndef GAIT_DENSE_H
#define GAIT_DENSE_H

#include <stdbool.h>
#include <stddef.h>

enum { DENSE_PANEL = 16, DENSE_K_BLOCK = 256, DENSE_ROWS_MAX = 12 };

/* What Adam needs beside the arrays. `rate` has the bias corrections in it. */
struct dense_adam {
    float rate, beta1, beta2, epsilon;
    float scale;          /* the gradient is multiplied by it first (clipping) */
    float l1, l2;         /* then l2 · w + l1 · sign(w) is added */
};

struct dense {
    const char *isa;
    size_t rows_max;      /* of a tile */
    /* c[rows × 16] = (or +=) Σ_k a[row·a_row + k·a_step] · b[16·k + column] */
    void (*tile)(size_t rows, size_t k, const float *a, size_t a_row, size_t a_step, const float *b, float *c,
                 size_t c_row, bool add);
    /* n rows. gates [n × 4·hidden] in order i f g o: pre-activations in, activations out. */
    void (*cell_forward)(size_t n, size_t hidden, float *gates, const float *c_before, float *c, float *tanh_c,
                         float *h);
    /* gates: activations in, derivatives by the pre-activations out. dh: derivative by h. dc: in, by c (from the next
     * step); out, by c_before. */
    void (*cell_backward)(size_t n, size_t hidden, float *gates, const float *c_before, const float *tanh_c,
                          const float *dh, float *dc);
    /* x ← scale · softmax(x); returns ln Σ exp(x). */
    float (*softmax)(size_t n, float *x, float scale);
    void (*sigmoid)(size_t n, float *x);
    void (*adam)(size_t n, float *w, const float *gradient, float *m, float *v, const struct dense_adam *a);
    void (*add)(size_t n, float *to, const float *from);            /* to += from */
    void (*mask)(size_t n, float *to, const float *from, const float *by);  /* to = from · by */
    void (*add_rows)(size_t n, size_t width, float *to, const float *rows, size_t row); /* to[width] += Σ rows */
    float (*dot)(size_t n, const float *a, const float *b);
};

extern const struct dense dense_generic, dense_avx2, dense_avx512;

/* The best that this processor runs and `limit` ("generic", "avx2", "avx512"; NULL = no limit) allows. NULL when limit
 * is no such name. */
const struct dense *dense_choose(const char *limit);

/* Floats that a packed B [k × n] takes. */
size_t dense_packed_floats(size_t k, size_t n);
/* Pack B, whose element (i, j) is b[i·b_row + j·b_column]; one of the two strides is 1. */
void dense_pack(float *packed, const float *b, size_t k, size_t n, size_t b_row, size_t b_column);

/* C [m × n], rows c_row apart, = or += A · packed B. A's element (i, k) is a[i·a_row + k·a_step]. `scratch` is needed
 * when a_step is not 1: dense_scratch_floats(). */
void dense_multiply(const struct dense *d, size_t m, size_t n, size_t k, const float *a, size_t a_row, size_t a_step,
                    const float *packed, float *c, size_t c_row, bool add, float *scratch);
enum { DENSE_M_BLOCK = 120 };
size_t dense_scratch_floats(void);

/* Zeroed, 64-byte aligned. Asserts that there is memory; free() it. */
float *dense_alloc(size_t floats);

#endif
