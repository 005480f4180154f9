// SPDX-License-Identifier: Apache-2.0
// bench_lstm.c - what one LSTM step costs, by kernel and by the size of the wave: `make bench-lstm`.
//
// The model is W1's: 64 inputs (category 32, type 16, 16 features), hidden 128 and 64. "warm": few users, whose state
// stays in the cache; "cold": as many users as fill 300 MB, visited at random, as in a real shop.
#include "../model_maker.h"

#include "gait/cpu.h"
#include "gait/lstm.h"

#include <time.h>

enum { WARM_USERS = 512, COLD_USERS = 200000, WAVE_MAX = 512, RECORD_FLOATS = 512, SAMPLE_STEPS = 480 };

static struct model *w1_model(void)
{
    static const char *const columns[] = {"f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "f11", "f12",
                                          "f13", "f14", "f15", "f16", NULL};
    const struct model_shape shape = {.categories = 32, .category_width = 32, .types = 13, .type_width = 16,
                                      .columns = columns, .hidden = {128, 64}, .interest = true};
    return model_make(&shape, 42);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Best of many short samples, in seconds per step: on a shared machine the long ones are mostly other people's time. */
static double measure(struct lstm *l, float *records, uint32_t users, uint32_t wave, const float *x,
                      const uint32_t *rows, double seconds)
{
    static float *state[WAVE_MAX];
    uint64_t seed = 7;
    uint32_t waves = (SAMPLE_STEPS + wave - 1) / wave;
    double best = 1;
    for (double end = now_s() + seconds; now_s() < end;) {
        double spent = 0;
        for (uint32_t done = 0; done < waves; done++) {
            for (uint32_t i = 0; i < wave; i++) /* a random one of every wave-th, so nobody comes twice in a wave */
                state[i] = records + (random_next(&seed) % (users / wave) * wave + i) * RECORD_FLOATS;
            double from = now_s();
            lstm_step(l, wave, rows, x, state);
            spent += now_s() - from;
        }
        double each = spent / (waves * wave);
        best = each < best ? each : best;
    }
    return best;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 0.5;
    uint64_t seed = 42;
    struct model *m = w1_model();
    float *records = aligned_alloc(64, (size_t)COLD_USERS * RECORD_FLOATS * sizeof(float));
    float *x = malloc((size_t)WAVE_MAX * 64 * sizeof *x);
    uint32_t *rows = malloc((size_t)WAVE_MAX * 2 * sizeof *rows);
    assert(records && x && rows);
    memset(records, 0, (size_t)COLD_USERS * RECORD_FLOATS * sizeof(float));
    random_fill(x, (size_t)WAVE_MAX * 64, 1, &seed);
    for (int i = 0; i < 2 * WAVE_MAX; i++)
        rows[i] = (uint32_t)(random_next(&seed) % 14);
    const double flop = 2.0 * (4 * 128 * (64 + 128) + 4 * 64 * (128 + 64));
    static const uint32_t waves[] = {1, 2, 3, 6, 16, 48, 80, 96, 256, 512};
    printf("%-8s %-6s %5s %12s %12s %12s\n", "kernel", "tables", "wave", "warm ns/step", "GFLOP/s", "cold ns/step");
    for (int k = 1; lstm_kernel_names[k]; k++) {
        struct error err;
        const struct lstm_kernel *kernel = lstm_kernel_find(lstm_kernel_names[k], cpu_features(), &err);
        for (int tables = 0; kernel && tables < 2; tables++) {
            struct lstm *l = lstm_create(m, kernel, tables);
            for (size_t w = 0; w < sizeof waves / sizeof *waves; w++) {
                double warm = measure(l, records, WARM_USERS, waves[w], x, rows, seconds);
                double cold = measure(l, records, COLD_USERS, waves[w], x, rows, seconds);
                printf("%-8s %-6s %5u %12.0f %12.1f %12.0f\n", kernel->name, tables ? "yes" : "no", waves[w],
                       warm * 1e9, flop / warm * 1e-9, cold * 1e9);
            }
            lstm_destroy(&l);
        }
        if (!kernel)
            printf("%s\n", err.text);
    }
    model_destroy(&m);
    free(records);
    free(x);
    free(rows);
    return 0;
}
