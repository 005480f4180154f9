// SPDX-License-Identifier: Apache-2.0
// unit_train_network.c - what training relies on: every kernel computes what the specification does, and the gradient
// of every kind of weight equals a finite difference of the loss.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../daemon/train_network.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 7, STEPS = 5 };

static const char *const kernels[] = {"generic", "avx2", "avx512"};

/* The kernel of that name, or NULL where this processor lacks it. */
static const struct dense *kernel(const char *name)
{
    const struct dense *d = dense_choose(name);
    return d && strcmp(d->isa, name) == 0 ? d : NULL;
}

static float *random_floats(size_t n, struct train_random *r)
{
    float *p = dense_alloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = (float)(2 * train_random_unit(r) - 1);
    return p;
}

/* ---- products --------------------------------------------------------------------------------------------------- */

static void check_product(const struct dense *d, size_t m, size_t n, size_t k, bool left_t, bool right_t)
{
    struct train_random r;
    train_random_seed(&r, m * 31 + n * 7 + k);
    float *a = random_floats(m * k, &r), *b = random_floats(k * n, &r), *c = random_floats(m * n + 16, &r);
    float *before = dense_alloc(m * n + 16), *packed = dense_alloc(dense_packed_floats(k, n));
    float *scratch = dense_alloc(dense_scratch_floats());
    size_t a_row = left_t ? 1 : k, a_step = left_t ? m : 1, b_row = right_t ? 1 : n, b_column = right_t ? k : 1;
    memcpy(before, c, (m * n + 16) * sizeof *c);
    dense_pack(packed, b, k, n, b_row, b_column);
    dense_multiply(d, m, n, k, a, a_row, a_step, packed, c, n, true, scratch);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = before[i * n + j];
            for (size_t s = 0; s < k; s++)
                sum += (double)a[i * a_row + s * a_step] * b[s * b_row + j * b_column];
            assert_float_equal(c[i * n + j], sum, 2e-6 * (double)(k + 4));
        }
    for (size_t i = m * n; i < m * n + 16; i++)
        assert_true(c[i] == before[i]); /* nothing beyond the end */
    float *all[] = {a, b, c, before, packed, scratch};
    for (size_t i = 0; i < 6; i++)
        free(all[i]);
}

static void test_products(void **state)
{
    (void)state;
    static const size_t sizes[][3] = {{1, 1, 1}, {1, 16, 3}, {6, 16, 8}, {7, 17, 9}, {13, 33, 257}, {32, 64, 144},
                                      {130, 31, 300}, {5, 100, 1}, {121, 16, 512}, {3, 40, 0}};
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; kernel(kernels[i]) && j < sizeof sizes / sizeof *sizes; j++)
            for (int t = 0; t < 4; t++)
                check_product(kernel(kernels[i]), sizes[j][0], sizes[j][1], sizes[j][2], t & 1, t & 2);
}

/* A row's result is the same bits whatever rows stand beside it. */
static void test_row_independence(void **state)
{
    (void)state;
    enum { M = 29, N = 40, K = 70 };
    struct train_random r;
    train_random_seed(&r, 5);
    float *a = random_floats(M * K, &r), *b = random_floats(K * N, &r);
    float *packed = dense_alloc(dense_packed_floats(K, N)), *all = dense_alloc(M * N), one[N];
    dense_pack(packed, b, K, N, N, 1);
    for (size_t i = 0; i < 3; i++) {
        const struct dense *d = kernel(kernels[i]);
        if (!d)
            continue;
        dense_multiply(d, M, N, K, a, K, 1, packed, all, N, false, NULL);
        for (size_t row = 0; row < M; row++) {
            dense_multiply(d, 1, N, K, a + row * K, K, 1, packed, one, N, false, NULL);
            assert_memory_equal(one, all + row * N, sizeof one);
        }
    }
    free(a), free(b), free(packed), free(all);
}

/* ---- kernels against the specification -------------------------------------------------------------------------- */

static void test_cells(void **state)
{
    (void)state;
    enum { N = 3, H = 21 };
    struct train_random r;
    train_random_seed(&r, 9);
    float *gates = random_floats(N * 4 * H, &r), *c_before = random_floats(N * H, &r), *dh = random_floats(N * H, &r);
    float *dc_in = random_floats(N * H, &r);
    for (size_t i = 0; i < N * 4 * H; i++)
        gates[i] *= i % 11 == 0 ? 60 : 4; /* saturated ones too */
    for (size_t i = 1; i < 3; i++) {
        const struct dense *d = kernel(kernels[i]);
        if (!d)
            continue;
        float g[2][N * 4 * H], c[2][N * H], t[2][N * H], h[2][N * H], dc[2][N * H];
        for (int k = 0; k < 2; k++) {
            const struct dense *use = k ? d : &dense_generic;
            memcpy(g[k], gates, sizeof g[k]);
            memcpy(dc[k], dc_in, sizeof dc[k]);
            use->cell_forward(N, H, g[k], c_before, c[k], t[k], h[k]);
            use->cell_backward(N, H, g[k], c_before, t[k], dh, dc[k]);
        }
        for (size_t j = 0; j < N * H; j++) {
            assert_float_equal(h[0][j], h[1][j], 1e-6);
            assert_float_equal(c[0][j], c[1][j], 1e-6);
            assert_float_equal(dc[0][j], dc[1][j], 2e-6);
        }
        for (size_t j = 0; j < N * 4 * H; j++)
            assert_float_equal(g[0][j], g[1][j], 2e-6);
    }
    free(gates), free(c_before), free(dh), free(dc_in);
}

static void test_softmax(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const struct dense *d = kernel(kernels[i]);
        if (!d)
            continue;
        float x[19], sum = 0;
        for (int j = 0; j < 19; j++)
            x[j] = (float)j * 20 - 100; /* e^260 would overflow without care */
        float total = d->softmax(19, x, 2);
        for (int j = 0; j < 19; j++)
            sum += x[j];
        assert_float_equal(total, 260, 1e-4);
        assert_float_equal(sum, 2, 1e-5);
        assert_float_equal(x[17] / x[18], exp(-20), 1e-6);
        float wide[2] = {1000, -1000};
        d->sigmoid(2, wide);
        assert_float_equal(wide[0], 1, 1e-6);
        assert_float_equal(wide[1], 0, 1e-6);
    }
}

/* ---- the gradient ----------------------------------------------------------------------------------------------- */

static struct train_shape example_shape(void)
{
    struct train_shape s = {.embeddings_n = 2, .features_n = 3, .layers_n = 2, .heads_n = 3,
                            .rows = {6, 9}, .width = {3, 5}, .hidden = {11, 6}};
    static const uint32_t colours[9] = {0, 1, 2, 1, 2, 1, 3, 3, 0}, sizes[9] = {0, 1, 1, 1, 1, 2, 2, 2, 2};
    s.attributes_n[1] = 2;
    s.attributes[1][0] = (struct train_attribute){4, colours};
    s.attributes[1][1] = (struct train_attribute){3, sizes};
    s.heads[0] = (struct train_head){.kind = MODEL_SOFTMAX, .classes = 8, .tied = 1, .weight = 1};
    s.heads[1] = (struct train_head){.kind = MODEL_SOFTMAX, .classes = 5, .tied = -1, .weight = 1};
    s.heads[2] = (struct train_head){.kind = MODEL_SIGMOID, .classes = 1, .tied = -1, .weight = 1,
                                     .positive_weight = 3};
    return s;
}

/* Lanes of falling length, some rows without a target. */
static void example_batch(struct train_batch *b, const struct train_shape *s)
{
    struct train_random r;
    train_random_seed(&r, 77);
    train_batch_create(b, s, LANES, STEPS);
    b->lanes = LANES;
    b->steps = STEPS;
    for (uint32_t t = 0; t < STEPS; t++) {
        b->active[t] = LANES - t;
        b->start[t + 1] = b->start[t] + b->active[t];
    }
    b->rows = b->start[STEPS];
    for (uint32_t row = 0; row < b->rows; row++) {
        for (uint32_t e = 0; e < s->embeddings_n; e++)
            b->ids[e][row] = (uint32_t)train_random_below(&r, s->rows[e]);
        for (uint32_t h = 0; h < s->heads_n; h++) {
            uint32_t classes = s->heads[h].kind == MODEL_SIGMOID ? 2 : s->heads[h].classes;
            b->target[h][row] = row % 4 == h ? -1 : (int32_t)train_random_below(&r, classes);
        }
    }
    for (uint32_t i = 0; i < b->rows * s->features_n; i++)
        b->features[i] = (float)(2 * train_random_unit(&r) - 1);
    for (uint32_t h = 0; h < s->heads_n; h++)
        b->scale[h] = s->heads[h].weight;
}

static double loss_of(struct train_network *n, struct train_workspace *w, struct train_batch *b, bool learning)
{
    train_network_refresh(n);
    train_workspace_clear(w);
    train_random_seed(&w->random, 1); /* the same dropout each time */
    double loss = 0;
    train_forward(w, b, learning);
    train_heads(w, b, learning, NULL, NULL);
    for (uint32_t h = 0; h < n->shape.heads_n; h++)
        loss += w->loss[h];
    return loss;
}

static void check_shape(const struct dense *d, struct train_shape shape)
{
    struct train_network *n = train_network_create(&shape, d);
    struct train_workspace *w = train_workspace_create(n, LANES, STEPS, true);
    struct train_batch b;
    struct train_random r;
    train_random_seed(&r, 3);
    train_network_init(n, &r);
    for (size_t i = 0; i < n->weights_n; i++)
        n->weights[i] += (float)(0.2 * (2 * train_random_unit(&r) - 1)); /* biases too */
    example_batch(&b, &shape);
    loss_of(n, w, &b, true);
    train_backward(w, &b);
    float *gradient = dense_alloc(n->weights_n);
    memcpy(gradient, w->gradient, n->weights_n * sizeof *gradient);
    for (uint32_t k = 0; k < n->matrices_n; k++) {
        const struct train_matrix *m = &n->matrices[k];
        double worst = 0, largest = 0;
        for (size_t i = m->offset; i < m->offset + m->rows * m->columns; i++) {
            float kept = n->weights[i], step = 4e-3f;
            n->weights[i] = kept + step;
            double above = loss_of(n, w, &b, true);
            n->weights[i] = kept - step;
            double below = loss_of(n, w, &b, true);
            n->weights[i] = kept;
            worst = fmax(worst, fabs((above - below) / (2 * step) - gradient[i]));
            largest = fmax(largest, fabs(gradient[i]));
        }
        if (worst > 2e-3 * largest + 2e-3)
            fail_msg("%s, dropout %.1f, %s: off by %g, largest gradient %g", d->isa, shape.dropout, m->name, worst,
                     largest);
        assert_true(largest > 0);
    }
    free(gradient);
    train_batch_destroy(&b);
    train_workspace_destroy(&w);
    train_network_destroy(&n);
}

static void check_gradient(const struct dense *d, float dropout)
{
    struct train_shape shape = example_shape();
    shape.dropout = shape.dropout_input = dropout;
    check_shape(d, shape);
}

/* The sampled head: the same classes are drawn each time, so the loss is a function of the weights alone. */
static void test_sampled(void **state)
{
    (void)state;
    static const uint32_t counts[8] = {40, 9, 5, 5, 2, 1, 1, 0}, own_counts[5] = {3, 1, 1, 0, 0};
    struct train_shape shape = example_shape();
    struct train_sampler tied, own;
    train_sampler_create(&tied, 5, counts, 8);
    train_sampler_create(&own, 3, own_counts, 5);
    shape.heads[0].sampler = &tied;
    shape.heads[1].sampler = &own;
    check_shape(dense_choose(NULL), shape);
    /* Over many draws each class comes as often as q says. */
    double drawn[8] = {0};
    struct train_random r;
    train_random_seed(&r, 4);
    for (int i = 0; i < 20000; i++) {
        uint32_t five[5];
        train_sampler_draw(&tied, 8, &r, five);
        for (int k = 0; k < 5; k++)
            drawn[five[k]]++;
    }
    for (int k = 0; k < 8; k++)
        assert_float_equal(drawn[k] / 20000, exp(tied.log_expected[k]), 0.03);
    train_sampler_destroy(&tied);
    train_sampler_destroy(&own);
}

static void test_gradient(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++)
        if (kernel(kernels[i])) {
            check_gradient(kernel(kernels[i]), 0);
            check_gradient(kernel(kernels[i]), 0.4f);
        }
}

/* A sequence in two carried chunks ends where it ends in one piece. */
static void test_carried_state(void **state)
{
    (void)state;
    struct train_shape shape = example_shape();
    struct train_network *n = train_network_create(&shape, dense_choose(NULL));
    struct train_workspace *whole = train_workspace_create(n, 1, 8, false);
    struct train_workspace *parts = train_workspace_create(n, 1, 8, false);
    struct train_random r;
    train_random_seed(&r, 3);
    train_network_init(n, &r);
    train_network_refresh(n);
    struct train_batch b;
    train_batch_create(&b, &shape, 1, 8);
    for (int pass = 0; pass < 3; pass++) { /* 8 steps; then 5 and 3 */
        uint32_t from = pass == 2 ? 5 : 0, to = pass == 1 ? 5 : 8;
        b.lanes = 1;
        b.steps = b.rows = to - from;
        b.carried = pass == 2;
        for (uint32_t t = 0; t < b.steps; t++) {
            b.active[t] = 1;
            b.start[t + 1] = t + 1;
            b.ids[0][t] = (from + t) % 6;
            b.ids[1][t] = (from + t) % 9;
            for (uint32_t f = 0; f < 3; f++)
                b.features[t * 3 + f] = (float)(from + t) * 0.1f;
        }
        train_forward(pass ? parts : whole, &b, false);
    }
    assert_memory_equal(whole->layers[1].end_h, parts->layers[1].end_h, 6 * sizeof(float));
    assert_memory_equal(whole->layers[0].end_c, parts->layers[0].end_c, 11 * sizeof(float));
    train_batch_destroy(&b);
    train_workspace_destroy(&whole);
    train_workspace_destroy(&parts);
    train_network_destroy(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),  cmocka_unit_test(test_row_independence), cmocka_unit_test(test_cells),
        cmocka_unit_test(test_softmax),   cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_sampled),   cmocka_unit_test(test_carried_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
