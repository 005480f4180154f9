// SPDX-License-Identifier: Apache-2.0
// kernel_lstm.c - what users rely on of the LSTM kernels: every kernel that this machine can run agrees with the
// plain C one to 1e-5; a row's result is the same to the bit whatever rows stand beside it; and nothing outside the
// buffers is touched: each lies between pages that may not be read or written, once against the one below, once
// against the one above.
//
// The kernel of 16 lanes is tested on any machine in its logic (lstm_wide.c): the same source with vectors made of
// loops.
#include "model_maker.h"

#include "gait/cpu.h"
#include "gait/lstm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct lstm_kernel lstm_wide;

enum { ROWS_MAX = 100, BUFFERS_MAX = 512 };

/* ---- memory between guard pages --------------------------------------------------------------------------------- */

struct guarded {
    void *map[BUFFERS_MAX];
    size_t bytes[BUFFERS_MAX];
    size_t n;
    bool high; /* against the page above, so that reading past the end faults; else below */
};

static float *guarded_floats(struct guarded *g, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = n * sizeof(float), room = (bytes + page - 1) / page * page;
    char *map = mmap(NULL, room + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(map != MAP_FAILED && g->n < BUFFERS_MAX);
    assert_int_equal(mprotect(map + page, room ? room : 1, room ? PROT_READ | PROT_WRITE : PROT_NONE), 0);
    g->map[g->n] = map;
    g->bytes[g->n++] = room + 2 * page;
    return (float *)(map + page + (g->high ? room - bytes : 0));
}

static void guarded_free(struct guarded *g)
{
    for (size_t i = 0; i < g->n; i++)
        munmap(g->map[i], g->bytes[i]);
    g->n = 0;
}

static float *guarded_copy(struct guarded *g, const float *from, size_t n)
{
    float *to = guarded_floats(g, n);
    memcpy(to, from, n * sizeof *to);
    return to;
}

/* ---- kernels ---------------------------------------------------------------------------------------------------- */

static size_t kernels(const struct lstm_kernel **list)
{
    size_t n = 0;
    list[n++] = &lstm_generic;
    list[n++] = &lstm_wide;
    for (int i = 2; lstm_kernel_names[i]; i++) {
        const struct lstm_kernel *kernel = lstm_kernel_find(lstm_kernel_names[i], cpu_features(), NULL);
        if (kernel)
            list[n++] = kernel;
    }
    return n;
}

static void assert_near(const float *a, const float *b, size_t n, float tolerance, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(a[i] - b[i]) <= tolerance))
            fail_msg("%s: element %zu is %.9g, should be %.9g", what, i, (double)a[i], (double)b[i]);
}

static void assert_same_bits(const float *a, const float *b, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("%s: element %zu is %.9g, should be %.9g to the bit", what, i, (double)a[i], (double)b[i]);
}

/* ---- the specification against double precision ----------------------------------------------------------------- */

static void reference_layer(const struct model_layer *l, const double *x, double *h, double *c)
{
    double z[4][64], before[64];
    memcpy(before, h, l->hidden * sizeof *h);
    for (uint32_t gate = 0; gate < 4; gate++) {
        for (uint32_t u = 0; u < l->hidden; u++) {
            size_t row = (size_t)gate * l->hidden + u;
            double sum = (double)l->bias_ih[row] + (double)l->bias_hh[row];
            for (uint32_t j = 0; j < l->input; j++)
                sum += (double)l->weight_ih[row * l->input + j] * x[j];
            for (uint32_t j = 0; j < l->hidden; j++)
                sum += (double)l->weight_hh[row * l->hidden + j] * before[j];
            z[gate][u] = sum;
        }
    }
    for (uint32_t u = 0; u < l->hidden; u++) {
        c[u] = c[u] / (1 + exp(-z[1][u])) + tanh(z[2][u]) / (1 + exp(-z[0][u]));
        h[u] = tanh(c[u]) / (1 + exp(-z[3][u]));
    }
}

static void the_generic_kernel_computes_the_equations(void **unused)
{
    (void)unused;
    const struct model_shape shape = {.categories = 5, .category_width = 7, .hidden = {11, 6, 3}};
    struct model *m = model_make(&shape, 1);
    struct lstm *l = lstm_create(m, &lstm_generic, false);
    float *state = calloc(l->state_floats, sizeof *state), x[7];
    double h[3][64] = {{0}}, c[3][64] = {{0}}, in[7];
    uint64_t seed = 5;
    for (int step = 0; step < 40; step++) {
        random_fill(x, 7, 3, &seed);
        for (int i = 0; i < 7; i++)
            in[i] = (double)x[i];
        lstm_step(l, 1, NULL, x, &state);
        for (uint32_t layer = 0; layer < 3; layer++)
            reference_layer(&m->layers[layer], layer ? h[layer - 1] : in, h[layer], c[layer]);
        for (uint32_t layer = 0; layer < 3; layer++) {
            for (uint32_t u = 0; u < m->layers[layer].hidden; u++) {
                assert_true(fabs((double)state[l->h_at[layer] + u] - h[layer][u]) < 3e-6);
                assert_true(fabs((double)state[l->c_at[layer] + u] - c[layer][u]) < 1e-5);
            }
        }
    }
    free(state);
    lstm_destroy(&l);
    model_destroy(&m);
}

/* ---- cells ------------------------------------------------------------------------------------------------------ */

/* A wave through a kernel with everything between guard pages; states [n × floats] in and out. */
static void step_guarded(const struct model *m, const struct lstm_kernel *kernel, bool tables, bool high, uint32_t n,
                         const uint32_t *rows, const float *x, float *states)
{
    struct guarded g = {.high = high};
    struct lstm *l = lstm_create(m, kernel, tables);
    float *in = guarded_copy(&g, x, (size_t)n * l->input), *state[ROWS_MAX];
    struct lstm_panels kept[MODEL_LAYERS_MAX];
    memcpy(kept, l->layers, sizeof kept);
    for (uint32_t i = 0; i < m->layers_n; i++) {
        struct lstm_panels *p = &l->layers[i];
        p->weight = guarded_copy(&g, p->weight, (size_t)p->n * p->k * p->width);
        p->bias = guarded_copy(&g, p->bias, (size_t)p->n * p->width);
    }
    for (uint32_t row = 0; row < n; row++)
        state[row] = guarded_copy(&g, states + (size_t)row * l->state_floats, l->state_floats);
    lstm_step(l, n, rows, in, state);
    for (uint32_t row = 0; row < n; row++)
        memcpy(states + (size_t)row * l->state_floats, state[row], l->state_floats * sizeof *states);
    memcpy(l->layers, kept, sizeof kept);
    lstm_destroy(&l);
    guarded_free(&g);
}

/* A wave as a whole equals each of its rows alone, in every kernel, and all kernels agree. */
static void check_shape(const struct model_shape *shape, uint32_t n, bool tables, uint64_t seed)
{
    const struct lstm_kernel *list[8];
    size_t kernels_n = kernels(list);
    struct model *m = model_make(shape, seed);
    struct lstm *l = lstm_create(m, &lstm_generic, tables);
    uint32_t floats = l->state_floats, input = l->input;
    lstm_destroy(&l);
    float *x = calloc((size_t)n * input + 1, sizeof *x), *before = calloc((size_t)n * floats, sizeof *before);
    float *expected = calloc((size_t)n * floats, sizeof *expected), *got = calloc((size_t)n * floats, sizeof *got);
    uint32_t *rows = calloc((size_t)n * MODEL_EMBEDDINGS_MAX, sizeof *rows);
    random_fill(x, (size_t)n * input, 2, &seed);
    random_fill(before, (size_t)n * floats, 1, &seed);
    for (uint32_t i = 0; i < n * m->embeddings_n; i++)
        rows[i] = (uint32_t)(random_next(&seed) % (m->embeddings[i % m->embeddings_n].vocabulary.n + 1));
    memcpy(expected, before, (size_t)n * floats * sizeof *before);
    step_guarded(m, &lstm_generic, tables, true, n, rows, x, expected);
    for (size_t k = 0; k < kernels_n; k++) {
        memcpy(got, before, (size_t)n * floats * sizeof *before);
        step_guarded(m, list[k], tables, k % 2, n, rows, x, got);
        assert_near(got, expected, (size_t)n * floats, 1e-5f, list[k]->name);
        for (uint32_t row = 0; row < n; row++) {
            float *alone = before + (size_t)row * floats, copy[4096];
            memcpy(copy, alone, floats * sizeof *copy);
            step_guarded(m, list[k], tables, !(k % 2), 1, rows + (size_t)row * m->embeddings_n, x + (size_t)row * input,
                         copy);
            assert_same_bits(got + (size_t)row * floats, copy, floats, list[k]->name);
        }
    }
    free(x);
    free(before);
    free(expected);
    free(got);
    free(rows);
    model_destroy(&m);
}

static const char *const three_columns[] = {"a", "b", "c", NULL};

static void kernels_agree_at_odd_sizes(void **unused)
{
    (void)unused;
    static const uint32_t hidden[] = {1, 3, 7, 8, 9, 16, 17, 33}, width[] = {1, 3, 17};
    uint64_t seed = 11;
    for (size_t h = 0; h < sizeof hidden / sizeof *hidden; h++) {
        for (size_t w = 0; w < sizeof width / sizeof *width; w++) {
            const struct model_shape shape = {.categories = 4, .category_width = width[w],
                                              .hidden = {hidden[h], hidden[(h * 5 + w) % 8]}};
            check_shape(&shape, 1 + (uint32_t)(random_next(&seed) % 9), false, seed);
        }
    }
}

static void kernels_agree_at_every_wave_size(void **unused)
{
    (void)unused;
    const struct model_shape shape = {.categories = 4, .category_width = 5, .columns = three_columns, .hidden = {9, 4}};
    for (uint32_t n = 1; n <= 20; n++)
        check_shape(&shape, n, false, n);
    check_shape(&shape, 97, false, 99); /* more than the rows that go through a layer together */
}

static void kernels_agree_on_the_benchmark_model(void **unused)
{
    (void)unused;
    const struct model_shape shape = {.categories = 32, .category_width = 61, .columns = three_columns,
                                      .hidden = {128, 64}};
    check_shape(&shape, 13, false, 3);
}

static void tables_change_nothing_but_the_order_of_sums(void **unused)
{
    (void)unused;
    const struct model_shape shape = {.categories = 12, .category_width = 9, .types = 13, .type_width = 4,
                                      .columns = three_columns, .hidden = {17, 5}};
    check_shape(&shape, 11, true, 4);
    struct model *m = model_make(&shape, 4);
    const struct lstm_kernel *list[8];
    size_t n = kernels(list);
    for (size_t k = 0; k < n; k++) {
        struct lstm *with = lstm_create(m, list[k], true), *without = lstm_create(m, list[k], false);
        float a[64] = {0}, b[64] = {0}, x[9 + 4 + 3], *pa = a, *pb = b;
        uint64_t seed = 8;
        assert_int_equal(with->input, 3);
        assert_int_equal(without->input, 16);
        for (uint32_t step = 0; step < 10; step++) {
            uint32_t rows[] = {step % 13, (step * 5) % 14};
            memcpy(x, m->embeddings[0].weight + rows[0] * 9, 9 * sizeof *x);
            memcpy(x + 9, m->embeddings[1].weight + rows[1] * 4, 4 * sizeof *x);
            random_fill(x + 13, 3, 1, &seed);
            lstm_step(with, 1, rows, x + 13, &pa);
            lstm_step(without, 1, NULL, x, &pb);
            assert_near(a, b, with->state_floats, 1e-5f, list[k]->name);
        }
        lstm_destroy(&with);
        lstm_destroy(&without);
    }
    model_destroy(&m);
}

/* ---- heads, activations, softmax -------------------------------------------------------------------------------- */

static void check_dense(const struct lstm_kernel *kernel, uint32_t n, uint32_t k, uint32_t columns, bool add, bool high)
{
    struct guarded g = {.high = high};
    uint64_t seed = n * 131 + k * 17 + columns;
    float *w = guarded_floats(&g, (size_t)columns * k), *bias = guarded_floats(&g, columns);
    float *a = guarded_floats(&g, (size_t)n * k), *y = guarded_floats(&g, (size_t)n * columns);
    float *alone = guarded_floats(&g, columns);
    random_fill(w, (size_t)columns * k, 1, &seed);
    random_fill(bias, columns, 1, &seed);
    random_fill(a, (size_t)n * k, 1, &seed);
    random_fill(y, (size_t)n * columns, 1, &seed);
    float *start = guarded_copy(&g, y, (size_t)n * columns);
    struct lstm_panels p = {0};
    lstm_pack_dense(&p, kernel, columns, k, w, k, 1, bias);
    kernel->dense(&p, n, a, k, y, columns, add);
    for (uint32_t row = 0; row < n; row++) {
        memcpy(alone, start + (size_t)row * columns, columns * sizeof *alone);
        kernel->dense(&p, 1, a + (size_t)row * k, k, alone, columns, add);
        assert_same_bits(y + (size_t)row * columns, alone, columns, kernel->name);
        for (uint32_t column = 0; column < columns; column++) {
            double sum = (double)(add ? start[(size_t)row * columns + column] : bias[column]);
            for (uint32_t j = 0; j < k; j++)
                sum += (double)w[(size_t)column * k + j] * (double)a[(size_t)row * k + j];
            assert_true(fabs((double)y[(size_t)row * columns + column] - sum) < 1e-5 * (1 + k / 16.0));
        }
    }
    lstm_panels_free(&p);
    guarded_free(&g);
}

static void dense_is_a_matrix_product(void **unused)
{
    (void)unused;
    static const uint32_t columns[] = {1, 2, 8, 31, 32, 33, 64, 65, 130}, ks[] = {1, 3, 64, 129};
    const struct lstm_kernel *list[8];
    size_t kernels_n = kernels(list);
    for (size_t k = 0; k < kernels_n; k++)
        for (size_t c = 0; c < sizeof columns / sizeof *columns; c++)
            for (size_t j = 0; j < sizeof ks / sizeof *ks; j++)
                for (uint32_t n = 1; n <= 13; n += 3)
                    check_dense(list[k], n, ks[j], columns[c], (c + j) % 2, n % 2);
}

static void packing_reads_transposed_matrices(void **unused)
{
    (void)unused;
    const float w[] = {1, 2, 3, 4, 5, 6}; /* [3 inputs × 2 outputs]: stored by input */
    const float a[] = {1, 10, 100};
    float y[2];
    struct lstm_panels p = {0};
    lstm_pack_dense(&p, &lstm_generic, 2, 3, w, 1, 2, NULL);
    lstm_generic.dense(&p, 1, a, 3, y, 2, false);
    assert_true(y[0] == 531 && y[1] == 642);
    lstm_panels_free(&p);
}

static void activations_are_as_accurate_as_stated(void **unused)
{
    (void)unused;
    const struct lstm_kernel *list[8];
    size_t kernels_n = kernels(list);
    for (size_t k = 0; k < kernels_n; k++) {
        struct guarded g = {.high = true};
        double sigmoid_worst = 0, tanh_worst = 0;
        for (float from = -200; from < 200; from += 0.37f) {
            float *s = guarded_floats(&g, 13), *t = guarded_floats(&g, 13), x[13];
            for (int i = 0; i < 13; i++)
                s[i] = t[i] = x[i] = from + (float)i * 0.0281f;
            list[k]->sigmoid(s, 13);
            list[k]->tanh(t, 13);
            for (int i = 0; i < 13; i++) {
                sigmoid_worst = fmax(sigmoid_worst, fabs((double)s[i] - 1 / (1 + exp(-(double)x[i]))));
                tanh_worst = fmax(tanh_worst, fabs((double)t[i] - tanh((double)x[i])));
            }
            guarded_free(&g);
        }
        print_message("%s: sigmoid to %.2g, tanh to %.2g\n", list[k]->name, sigmoid_worst, tanh_worst);
        assert_true(sigmoid_worst <= 1e-7 && tanh_worst <= 2e-7);
        float extreme[] = {INFINITY, -INFINITY, 3e38f, -3e38f};
        list[k]->tanh(extreme, 4);
        assert_true(extreme[0] == 1 && extreme[1] == -1 && extreme[2] == 1 && extreme[3] == -1);
    }
}

static void check_softmax(const struct lstm_kernel *kernel, size_t n, float range, bool high)
{
    struct guarded g = {.high = high};
    uint64_t seed = n + 3;
    float *p = guarded_floats(&g, n), *x = guarded_floats(&g, n);
    random_fill(x, n, range, &seed);
    memcpy(p, x, n * sizeof *p);
    float log_sum = kernel->softmax(p, n);
    double max = -INFINITY, sum = 0, all = 0;
    for (size_t i = 0; i < n; i++)
        max = fmax(max, (double)x[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp((double)x[i] - max);
    for (size_t i = 0; i < n; i++) {
        assert_true(fabs((double)p[i] - exp((double)x[i] - max) / sum) < 1e-6);
        all += (double)p[i];
    }
    assert_true(fabs(all - 1) < 1e-5);
    assert_true(fabs((double)log_sum - (max + log(sum))) < 1e-5 * fmax(1, fabs(max)));
    guarded_free(&g);
}

static void softmax_sums_to_one(void **unused)
{
    (void)unused;
    static const size_t sizes[] = {1, 2, 7, 8, 9, 16, 17, 32, 33, 217, 43001};
    const struct lstm_kernel *list[8];
    size_t kernels_n = kernels(list);
    for (size_t k = 0; k < kernels_n; k++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            check_softmax(list[k], sizes[i], 5, true);
            check_softmax(list[k], sizes[i], 500, false);
        }
    }
}

static void a_kernel_that_cannot_run_is_refused_by_name(void **unused)
{
    (void)unused;
    struct error err;
    assert_ptr_equal(lstm_kernel_find("auto", 0, &err), &lstm_generic);
    assert_ptr_equal(lstm_kernel_find("auto", CPU_AVX2, &err), &lstm_avx2);
    assert_ptr_equal(lstm_kernel_find("auto", CPU_AVX2 | CPU_AVX512, &err), &lstm_avx512);
    assert_ptr_equal(lstm_kernel_find("generic", CPU_AVX2 | CPU_AVX512, &err), &lstm_generic);
    assert_null(lstm_kernel_find("avx512", CPU_AVX2, &err));
    assert_non_null(strstr(err.text, "avx512"));
    assert_null(lstm_kernel_find("sse9", CPU_AVX2, &err));
    assert_non_null(strstr(err.text, "generic, avx2 or avx512"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_generic_kernel_computes_the_equations),
        cmocka_unit_test(kernels_agree_at_odd_sizes),
        cmocka_unit_test(kernels_agree_at_every_wave_size),
        cmocka_unit_test(kernels_agree_on_the_benchmark_model),
        cmocka_unit_test(tables_change_nothing_but_the_order_of_sums),
        cmocka_unit_test(dense_is_a_matrix_product),
        cmocka_unit_test(packing_reads_transposed_matrices),
        cmocka_unit_test(activations_are_as_accurate_as_stated),
        cmocka_unit_test(softmax_sums_to_one),
        cmocka_unit_test(a_kernel_that_cannot_run_is_refused_by_name),
    };
    for (int i = 1; lstm_kernel_names[i]; i++)
        if (!lstm_kernel_find(lstm_kernel_names[i], cpu_features(), NULL))
            print_message("kernel %s is not tested: this machine lacks it\n", lstm_kernel_names[i]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
