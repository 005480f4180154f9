// SPDX-License-Identifier: Apache-2.0
// unit_train.c - what `gaitd train` promises: sequences and answers as documented, nothing learned from the future, the
// same seed gives the same weights, a pattern that can be learned is learned, and the model computes what was trained.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../daemon/train_task.h"

#include "gait/lstm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void add(struct train_set *s, const char *user, const char *session, const char *type, const char *item,
                int64_t ts_ms, const float *columns)
{
    struct train_event e = {.user = str_of(user), .session = str_of(session), .ts_ms = ts_ms, .columns = columns};
    e.fields[MODEL_TYPE] = str_of(type);
    e.fields[MODEL_ITEM] = str_of(item);
    train_set_add(s, &e);
}

/* ---- sequences and answers -------------------------------------------------------------------------------------- */

static void test_sequences(void **state)
{
    (void)state;
    static const struct {
        enum train_sequence_kind kind;
        size_t n;
    } cases[] = {{TRAIN_BY_USER, 2}, {TRAIN_BY_SESSION, 5}};
    for (int k = 0; k < 2; k++) {
        struct train_set *s = train_set_create(NULL, 0);
        add(s, "a", "s1", "view", "x", 0, NULL);
        add(s, "b", "s1", "view", "y", 1, NULL); /* another user's session of the same name is another session */
        add(s, "a", "s1", "view", "z", 2, NULL);
        add(s, "a", "s2", "view", "x", 3, NULL);
        add(s, "a", NULL, "view", "x", 4, NULL);
        add(s, "a", NULL, "view", "y", 4 + 1800000, NULL); /* 30 minutes are still the same visit */
        add(s, "a", NULL, "view", "z", 5 + 3600000, NULL); /* more are not */
        train_set_arrange(s, cases[k].kind);
        assert_int_equal(s->sequences_n, cases[k].n);
        assert_int_equal(s->sequences[0].length, k ? 2 : 6);
        assert_int_equal(s->ts_ms[1], 2);
        train_set_destroy(&s);
    }
}

static void test_intent(void **state)
{
    (void)state;
    struct train_set *s = train_set_create(NULL, 0);
    add(s, "a", NULL, "view", "x", 0, NULL);
    add(s, "a", NULL, "view", "x", 60, NULL);
    add(s, "a", NULL, "purchase", "x", 100, NULL);
    add(s, "a", NULL, "view", "x", 150, NULL);
    add(s, "b", NULL, "view", "x", 200, NULL);
    train_set_arrange(s, TRAIN_BY_USER);
    struct train_target t;
    train_target_create(&t, s, true);
    train_target_intent(&t, s, "purchase", 50, 200);
    static const int32_t expected[] = {0, 1, 0, 0, -1}; /* the last one's horizon is not over when the data ends */
    for (int i = 0; i < 5; i++)
        assert_int_equal(t.value[i], expected[i]);
    assert_int_equal(t.known_ms[1], 110); /* known when the horizon is over, bought or not */
    assert_int_equal(t.positives, 1);
    train_target_destroy(&t);
    train_target_create(&t, s, true);
    train_target_intent(&t, s, "purchase", 50, 100);
    assert_int_equal(t.value[1], -1); /* nothing after 100 is looked at */
    train_target_destroy(&t);
    train_set_destroy(&s);
}

static void write_text(const char *path, const char *text)
{
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

static void test_labels(void **state)
{
    (void)state;
    char path[] = "/tmp/gait-labels-XXXXXX";
    close(mkstemp(path));
    struct train_set *s = train_set_create(NULL, 0);
    add(s, "a", NULL, "view", "x", 10, NULL);
    add(s, "a", NULL, "view", "x", 20, NULL);
    add(s, "b", NULL, "view", "x", 30, NULL);
    train_set_arrange(s, TRAIN_BY_USER);
    struct train_target t;
    struct error err;
    uint64_t unknown;
    train_target_create(&t, s, true);
    write_text(path, "user,churn,ts\na,1,15\nb,0\nnobody,1\nb,1,5\n");
    assert_int_equal(train_target_labels(&t, s, path, "churn", &unknown, &err), 0);
    assert_int_equal(t.value[0], 1);
    assert_int_equal(t.value[1], -1);
    assert_int_equal(t.value[2], 0);
    assert_int_equal(unknown, 2); /* nobody, and b before b's first event */
    write_text(path, "user,churn\na,yes\n");
    assert_int_equal(train_target_labels(&t, s, path, "churn", &unknown, &err), -1);
    assert_non_null(strstr(err.text, "line 2"));
    assert_non_null(strstr(err.text, "'yes'"));
    write_text(path, "user,loyal\n");
    assert_int_equal(train_target_labels(&t, s, path, "churn", &unknown, &err), -1);
    assert_non_null(strstr(err.text, "'loyal'"));
    train_target_destroy(&t);
    train_set_destroy(&s);
    unlink(path);
}

/* ---- learning --------------------------------------------------------------------------------------------------- */

enum { ITEMS = 5, VISITS = 120, LENGTH = 9 };

/* Each visit walks round the items with its own stride: the next item needs the last two. */
static struct train_set *walks(void)
{
    static const char *const names[ITEMS] = {"a", "b", "c", "d", "e"};
    static const char *const columns[] = {"noise"};
    struct train_set *s = train_set_create(columns, 1);
    for (int v = 0; v < VISITS; v++)
        for (int i = 0; i < LENGTH - v % 3; i++) {
            char user[8];
            snprintf(user, sizeof user, "u%d", v);
            float noise = (float)((v * 7 + i * 3) % 11);
            add(s, user, NULL, "view", names[(v + i * (1 + v % 4)) % ITEMS], v * 100 + i, &noise);
        }
    train_set_arrange(s, TRAIN_BY_USER);
    return s;
}

struct example {
    struct train_set *set;
    struct model *outline;
    struct train_task task;
};

static void open_example(struct example *x, bool tie)
{
    struct error err;
    struct train_outline o = {.targets_n = 1, .targets = {"item"}, .layers_n = 2, .hidden = {12, 10}, .min_count = 1,
                              .vocabulary_max = 100, .until_ms = INT64_MAX,
                              .width = {[MODEL_ITEM] = 6, [MODEL_TYPE] = 2}};
    struct train_task_options options = {.purchase = "purchase", .tie = tie};
    x->set = walks();
    x->outline = train_outline(&o, x->set, &err);
    assert_non_null(x->outline);
    assert_int_equal(train_task_create(&x->task, x->outline, x->set, &options, &err), 0);
    assert_int_equal(x->task.shape.heads[0].tied, tie ? 1 : -1);
}

static void close_example(struct example *x)
{
    train_task_destroy(&x->task);
    model_destroy(&x->outline);
    train_set_destroy(&x->set);
}

static struct train_network *learn(struct example *x, uint64_t seed, uint32_t threads, uint32_t epochs, double *loss)
{
    struct train_options o = {.lanes = 8, .steps = 4, .epochs = epochs, .rate = 1e-2, .clip = 1, .threads = threads,
                              .seed = seed};
    struct train_span learn = {INT64_MIN, 10000}, valid = {10000, INT64_MAX};
    struct train_network *n = train_network_create(&x->task.shape, dense_choose(NULL));
    struct train_random random;
    struct train_result result;
    struct error err;
    train_random_seed(&random, seed);
    train_network_init(n, &random);
    assert_int_equal(train_learn(n, &x->task.data, &o, learn, valid, NULL, NULL, NULL, &result, &err), 0);
    *loss = train_measure(n, &x->task.data, &o, valid, NULL, NULL);
    assert_float_equal(*loss, result.history[result.best_epoch - 1].valid_loss, 1e-9); /* the best weights are back */
    free(result.history);
    return n;
}

static void test_learns(void **state)
{
    (void)state;
    for (int tie = 0; tie < 2; tie++) {
        struct example x;
        double loss;
        open_example(&x, tie);
        struct train_network *n = learn(&x, 1, 1, 60, &loss);
        assert_true(loss < 0.5); /* guessing: ln 5 = 1.61; a walk's first step cannot be known: ln 4 / 8 */
        train_network_destroy(&n);
        close_example(&x);
    }
}

static void test_same_seed_same_bytes(void **state)
{
    (void)state;
    struct example x;
    double loss;
    open_example(&x, true);
    struct train_network *a = learn(&x, 7, 1, 3, &loss), *b = learn(&x, 7, 1, 3, &loss), *c = learn(&x, 8, 1, 3, &loss);
    assert_memory_equal(a->weights, b->weights, a->weights_n * sizeof(float));
    assert_memory_not_equal(a->weights, c->weights, a->weights_n * sizeof(float));
    struct train_network *two = learn(&x, 7, 2, 3, &loss), *again = learn(&x, 7, 2, 3, &loss);
    assert_memory_equal(two->weights, again->weights, a->weights_n * sizeof(float)); /* with two threads as well */
    for (size_t i = 0; i < a->weights_n; i++)
        assert_float_equal(a->weights[i], two->weights[i], 2e-3);
    train_network_destroy(&a);
    train_network_destroy(&b);
    train_network_destroy(&c);
    train_network_destroy(&two);
    train_network_destroy(&again);
    close_example(&x);
}

/* Weights that would only be known later do not matter: answers from the validation part on change nothing learned. */
static void test_blind_to_the_future(void **state)
{
    (void)state;
    struct example x;
    double loss;
    open_example(&x, true);
    struct train_network *a = learn(&x, 3, 1, 1, &loss);
    for (size_t i = 0; i < x.set->n; i++)
        if (x.task.targets[0].known_ms[i] >= 10000 && x.task.targets[0].value[i] >= 0)
            x.task.targets[0].value[i] = 0;
    struct train_network *b = learn(&x, 3, 1, 1, &loss);
    assert_memory_equal(a->weights, b->weights, a->weights_n * sizeof(float));
    train_network_destroy(&a);
    train_network_destroy(&b);
    close_example(&x);
}

/* ---- the model that is saved ------------------------------------------------------------------------------------ */

struct answers {
    float p[VISITS * LENGTH * ITEMS];
};

static void keep(void *self, uint32_t thread, uint32_t head, size_t event, const float *p)
{
    (void)thread, (void)head;
    memcpy(((struct answers *)self)->p + event * ITEMS, p, ITEMS * sizeof *p);
}

/* p of each answer from the serving code: lstm.h, one step at a time. */
static void serve(const struct model *m, const struct example *x, struct answers *a)
{
    struct lstm *lstm = lstm_create(m, &lstm_generic, false);
    struct model_binding binding;
    model_bind_features(&binding, m);
    float *state = calloc(lstm->state_floats, sizeof *state), input[256];
    for (size_t k = 0; k < x->set->sequences_n; k++) {
        memset(state, 0, lstm->state_floats * sizeof *state);
        for (uint32_t i = 0; i < x->set->sequences[k].length; i++) {
            size_t event = x->set->sequences[k].start + i;
            uint32_t rows[2];
            double column = x->set->columns[event];
            for (int e = 0; e < 2; e++)
                rows[e] = x->task.row_of[e][x->set->fields[m->embeddings[e].field][event]];
            model_input(&binding, rows, &column, input);
            lstm_step(lstm, 1, NULL, input, &state);
            lstm_head(lstm, 0, 1, state + lstm->h_at[m->layers_n - 1], a->p + event * ITEMS);
            lstm_generic.softmax(a->p + event * ITEMS, ITEMS);
        }
    }
    free(state);
    lstm_destroy(&lstm);
}

static void test_served_as_trained(void **state)
{
    (void)state;
    struct example x;
    struct error err;
    double loss;
    open_example(&x, true);
    struct train_network *nets[2] = {learn(&x, 1, 1, 4, &loss), learn(&x, 2, 1, 4, &loss)};
    struct train_options o = {.lanes = 8, .steps = 4, .threads = 1};
    struct train_span all = {INT64_MIN, INT64_MAX};
    struct answers *one = calloc(4, sizeof *one), *two = one + 1, *served = one + 2, *merged = one + 3;
    train_measure(nets[0], &x.task.data, &o, all, keep, one);
    train_measure(nets[1], &x.task.data, &o, all, keep, two);
    struct model *single = train_merge(nets, 1, x.outline, &err), *both = train_merge(nets, 2, x.outline, &err);
    assert_non_null(single);
    assert_non_null(both);
    serve(single, &x, served);
    serve(both, &x, merged);
    for (size_t i = 0; i < x.set->n; i++) {
        if (x.task.targets[0].value[i] < 0)
            continue;
        double mean[ITEMS], sum = 0;
        for (int c = 0; c < ITEMS; c++) {
            assert_float_equal(one->p[i * ITEMS + c], served->p[i * ITEMS + c], 1e-5);
            sum += mean[c] = sqrt((double)one->p[i * ITEMS + c] * two->p[i * ITEMS + c]); /* logits' mean */
        }
        for (int c = 0; c < ITEMS; c++)
            assert_float_equal(mean[c] / sum, merged->p[i * ITEMS + c], 1e-5);
    }
    /* And back: a network filled from the model computes the same. */
    struct train_task_options options = {.purchase = "purchase"};
    struct train_task task;
    assert_int_equal(train_task_create(&task, both, x.set, &options, &err), 0);
    struct train_network *back = train_network_create(&task.shape, dense_choose(NULL));
    train_weights_from_model(back, both);
    train_measure(back, &task.data, &o, all, keep, one);
    for (size_t i = 0; i < x.set->n * ITEMS; i++)
        if (x.task.targets[0].value[i / ITEMS] >= 0)
            assert_float_equal(one->p[i], merged->p[i], 1e-5);
    train_task_destroy(&task);
    train_network_destroy(&back);
    train_network_destroy(&nets[0]);
    train_network_destroy(&nets[1]);
    model_destroy(&single);
    model_destroy(&both);
    close_example(&x);
    free(one);
}

/* A heavy tail is put through log1p, a constant is not divided by 0, and what is no number becomes the mean. */
static void test_normalisation(void **state)
{
    (void)state;
    static const char *const names[] = {"heavy", "constant", "even"};
    struct train_set *s = train_set_create(names, 3);
    for (int i = 0; i < 100; i++)
        add(s, "a", NULL, "view", i % 2 ? "x" : "y", i,
            (float[]){i == 50 ? 1e6f : (float)(i % 3), 4, i == 7 ? NAN : (float)i});
    train_set_arrange(s, TRAIN_BY_USER);
    assert_int_equal(s->not_numbers, 1);
    struct error err;
    struct train_outline o = {.targets_n = 1, .targets = {"item"}, .layers_n = 1, .hidden = {4}, .min_count = 1,
                              .vocabulary_max = 100, .until_ms = INT64_MAX};
    struct model *m = train_outline(&o, s, &err);
    assert_non_null(m);
    assert_int_equal(m->features[0].transform, MODEL_LOG1P);
    assert_int_equal(m->features[1].transform, MODEL_LINEAR);
    assert_float_equal(m->features[1].scale, 1, 1e-9);
    struct train_task_options options = {.purchase = "purchase"};
    struct train_task t;
    assert_int_equal(train_task_create(&t, m, s, &options, &err), 0);
    assert_float_equal(t.features[7 * 3 + 2], 0, 1e-9);
    assert_float_equal(t.features[50 * 3], 6, 1e-6); /* clipped */
    assert_true(t.clipped >= 1);
    train_task_destroy(&t);
    model_destroy(&m);
    train_set_destroy(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_intent),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_normalisation),
        cmocka_unit_test(test_learns),
        cmocka_unit_test(test_same_seed_same_bytes),
        cmocka_unit_test(test_blind_to_the_future),
        cmocka_unit_test(test_served_as_trained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
