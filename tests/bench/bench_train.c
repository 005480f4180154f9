// SPDX-License-Identifier: Apache-2.0
// bench_train.c - how fast the trainer learns: the preset purchase-28 on synthetic sequences of 28 × 16.
//
// x ~ N(0, 1); y = 1 if mean over t of x[t,0]·x[t,1] + ½ (mean of x[-7:,2] − mean of x[:7,2]) + 0.1·noise > 0.
// Usage: bench_train [BATCH [EPOCHS [THREADS [SEQUENCES [KERNEL]]]]]; prints one line of JSON.
#include "../../daemon/train_loop.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STEPS = 28, WIDTH = 16 };

static double normal(struct train_random *r)
{
    return sqrt(-2 * log(1 - train_random_unit(r))) * cos(2 * M_PI * train_random_unit(r));
}

static bool make_sequence(struct train_random *r, float x[STEPS][WIDTH])
{
    double product = 0, late = 0, early = 0;
    for (int t = 0; t < STEPS; t++) {
        for (int j = 0; j < WIDTH; j++)
            x[t][j] = (float)normal(r);
        product += x[t][0] * x[t][1] / STEPS;
        late += t >= STEPS - 7 ? x[t][2] / 7 : 0;
        early += t < 7 ? x[t][2] / 7 : 0;
    }
    return product + 0.5 * (late - early) + 0.1 * normal(r) > 0;
}

static struct train_set *make_set(uint32_t sequences, struct train_target *label)
{
    const char *names[WIDTH];
    for (int j = 0; j < WIDTH; j++)
        names[j] = "x";
    struct train_set *s = train_set_create(names, WIDTH);
    struct train_random r;
    train_random_seed(&r, 42);
    bool *truth = calloc(sequences, sizeof *truth);
    for (uint32_t k = 0; k < sequences; k++) {
        float x[STEPS][WIDTH];
        char user[16];
        snprintf(user, sizeof user, "%u", k);
        truth[k] = make_sequence(&r, x);
        for (int t = 0; t < STEPS; t++)
            train_set_add(s, &(struct train_event){.user = str_of(user), .ts_ms = t, .columns = x[t]});
    }
    train_set_arrange(s, TRAIN_BY_USER);
    train_target_create(label, s, true);
    for (uint32_t k = 0; k < sequences; k++) {
        label->value[(size_t)k * STEPS + STEPS - 1] = truth[k];
        label->known_ms[(size_t)k * STEPS + STEPS - 1] = STEPS;
    }
    free(truth);
    return s;
}

struct score {
    const struct train_target *label;
    double right, loss, n;
};

static void add_answer(void *self, uint32_t thread, uint32_t head, size_t event, const float *p)
{
    struct score *s = self;
    (void)thread, (void)head;
    bool yes = s->label->value[event] == 1;
    s->right += (p[0] > 0.5f) == yes;
    s->loss -= log(yes ? p[0] : 1 - p[0]);
    s->n++;
}

static void print_progress(void *self, const struct train_progress *p)
{
    (void)self;
    fprintf(stderr, "\repoch %u  loss %.4f  %.0f sequences/s ", p->epoch, p->loss, p->sequences_per_s);
}

int main(int argc, char **argv)
{
    struct train_options o = {
        .lanes = argc > 1 ? (uint32_t)atoi(argv[1]) : 32, .epochs = argc > 2 ? (uint32_t)atoi(argv[2]) : 10,
        .threads = argc > 3 ? (uint32_t)atoi(argv[3]) : 1, .steps = STEPS, .windows = true, .rate = 1e-3, .seed = 1,
    };
    struct train_target label;
    struct train_set *set = make_set(argc > 4 ? (uint32_t)atoi(argv[4]) : 20000, &label);
    struct train_shape shape = {.features_n = WIDTH, .layers_n = 2, .hidden = {128, 64}, .heads_n = 1, .dropout = 0.2f,
                                .heads = {{.kind = MODEL_SIGMOID, .classes = 1, .tied = -1, .weight = 1,
                                           .positive_weight = 1}}};
    const struct dense *dense = dense_choose(argc > 5 ? argv[5] : NULL);
    struct train_network *network = train_network_create(&shape, dense);
    struct train_random random;
    train_random_seed(&random, 1);
    train_network_init(network, &random);
    struct train_data data = {.set = set, .shape = &shape, .features = set->columns, .targets = &label};
    struct train_span all = {INT64_MIN, INT64_MAX}, none = {0, 0};
    struct train_result result;
    struct error err;
    clock_t began = clock();
    if (train_learn(network, &data, &o, all, none, NULL, print_progress, NULL, &result, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    double cpu_s = (double)(clock() - began) / CLOCKS_PER_SEC;
    struct score score = {.label = &label};
    uint32_t threads = o.threads;
    o.threads = 1;
    train_measure(network, &data, &o, all, add_answer, &score);
    fputc('\n', stderr);
    printf("{\"job\":\"train-purchase-28\",\"kernel\":\"%s\",\"batch\":%u,\"threads\":%u,\"epochs\":%u,"
           "\"sequences_per_s\":%.0f,\"sequences_per_cpu_s\":%.0f,\"training_loss\":%.4f,\"loss\":%.4f,"
           "\"accuracy\":%.4f}\n", dense->isa, o.lanes, threads, result.epochs, result.sequences_per_s,
               (double)set->sequences_n * result.epochs / cpu_s,
           result.history[result.epochs - 1].loss, score.loss / score.n, score.right / score.n);
    free(result.history);
    train_target_destroy(&label);
    train_network_destroy(&network);
    train_set_destroy(&set);
    return 0;
}
