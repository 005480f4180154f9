// SPDX-License-Identifier: Apache-2.0
// unit_eval.c - the figures of gaitd eval equal those computed by hand, and the baselines count what they say.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../daemon/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double figure(const json_t *of, const char *name)
{
    const json_t *value = json_object_get(of, name);
    if (!json_is_number(value))
        fail_msg("no figure %s", name);
    return json_number_value(value);
}

static void test_ranks(void **state)
{
    (void)state;
    struct eval_rank ranks[] = {{0, 0, 1, 0.1f}, {1, 0, 2.5f, 1}, {2, 1, 20, 3}, {3, 2, 21, NAN}};
    json_t *f = eval_ranks(ranks, 4, true);
    assert_float_equal(figure(f, "recall@1"), 0.25, 1e-9);
    assert_float_equal(figure(f, "recall@5"), 0.5, 1e-9);
    assert_float_equal(figure(f, "recall@20"), 0.75, 1e-9);
    assert_float_equal(figure(f, "mrr@20"), (1 + 1 / 2.5 + 1 / 20.0) / 4, 1e-6);
    assert_float_equal(figure(f, "ndcg@20"), (1 + 1 / log2(3.5) + 1 / log2(21)) / 4, 1e-6);
    assert_float_equal(figure(f, "log_loss"), 4.1 / 3, 1e-6); /* the unknown one has no loss, but is a miss */
    const json_t *range = json_object_get(json_object_get(f, "interval"), "recall@5");
    assert_true(json_number_value(json_array_get(range, 0)) <= 0.5);
    assert_true(json_number_value(json_array_get(range, 1)) >= 0.5);
    json_decref(f);
}

static void test_guesses(void **state)
{
    (void)state;
    struct eval_guess g[] = {{0, 0, 0.9f, true}, {1, 1, 0.8f, false}, {2, 2, 0.4f, true}, {3, 3, 0.1f, false}};
    json_t *f = eval_guesses(g, 4, false);
    assert_float_equal(figure(f, "roc_auc"), 0.75, 1e-9); /* of four pairs three are in order */
    assert_float_equal(figure(f, "pr_auc"), 0.5 * 1 + 0.5 * 2 / 3, 1e-9);
    assert_float_equal(figure(f, "accuracy"), 0.5, 1e-9);
    assert_float_equal(figure(f, "precision"), 0.5, 1e-9);
    assert_float_equal(figure(f, "recall"), 0.5, 1e-9);
    assert_float_equal(figure(f, "f1"), 0.5, 1e-9);
    assert_float_equal(figure(f, "brier"), (0.01 + 0.64 + 0.36 + 0.01) / 4, 1e-6);
    assert_float_equal(figure(f, "log_loss"), -(log(0.9) + log(0.2) + log(0.4) + log(0.9)) / 4, 1e-6);
    assert_int_equal(json_array_size(json_object_get(f, "calibration")), 4);
    json_decref(f);
}

/* All the same score: nothing is told apart, whatever the order of the rows. */
static void test_equal_guesses(void **state)
{
    (void)state;
    struct eval_guess g[] = {{0, 0, 0.5f, true}, {1, 1, 0.5f, false}, {2, 2, 0.5f, false}};
    json_t *f = eval_guesses(g, 3, true);
    assert_float_equal(figure(f, "roc_auc"), 0.5, 1e-9);
    assert_float_equal(figure(f, "pr_auc"), 1.0 / 3, 1e-9);
    json_decref(f);
}

/* One class only: areas are not defined and say so instead of 0 or 1. */
static void test_one_class(void **state)
{
    (void)state;
    struct eval_guess g[] = {{0, 0, 0.3f, false}, {1, 1, 0.6f, false}};
    json_t *f = eval_guesses(g, 2, true);
    assert_true(json_is_null(json_object_get(f, "roc_auc")));
    assert_true(json_is_null(json_object_get(f, "pr_auc")));
    assert_float_equal(figure(f, "positives"), 0, 1e-9);
    json_decref(f);
}

/* ---- baselines -------------------------------------------------------------------------------------------------- */

/* Visits of three items a b c; events a millisecond apart. */
static struct train_set *visits(const char *const *items_of_visit, size_t n)
{
    struct train_set *s = train_set_create(NULL, 0);
    int64_t now = 1000;
    for (size_t v = 0; v < n; v++)
        for (const char *c = items_of_visit[v]; *c; c++) {
            char user[8];
            snprintf(user, sizeof user, "u%zu", v);
            struct train_event e = {.user = str_of(user), .ts_ms = now++};
            e.fields[MODEL_ITEM] = (struct str){c, 1};
            train_set_add(s, &e);
        }
    train_set_arrange(s, TRAIN_BY_SESSION);
    return s;
}

struct example {
    struct train_set *set;
    struct model *model;
    struct train_task task;
};

static void open_example(struct example *x, const char *const *items, size_t n, int64_t vocabulary_until)
{
    struct error err;
    struct train_outline o = {.targets_n = 1, .targets = {"item"}, .layers_n = 1, .hidden = {4}, .min_count = 1,
                              .vocabulary_max = 100, .until_ms = vocabulary_until, .width = {[MODEL_ITEM] = 4}};
    struct train_task_options options = {.purchase = "purchase"};
    x->set = visits(items, n);
    x->model = train_outline(&o, x->set, &err);
    assert_non_null(x->model);
    assert_int_equal(train_task_create(&x->task, x->model, x->set, &options, &err), 0);
}

static void close_example(struct example *x)
{
    train_task_destroy(&x->task);
    model_destroy(&x->model);
    train_set_destroy(&x->set);
}

static void test_markov(void **state)
{
    (void)state;
    static const char *const items[] = {"abab", "abac", "ab", "cbz"};
    struct example x;
    open_example(&x, items, 4, 1010); /* z comes later: no class of the model */
    struct eval_rank r[] = {{.event = 8}, {.event = 10}, {.event = 11}}; /* a→b in visit 3, c→b and b→z in visit 4 */
    struct train_span fit = {INT64_MIN, 1008};
    eval_baseline_ranks(EVAL_MARKOV, &x.task, x.model, 0, fit, r, 3);
    assert_float_equal(r[0].rank, 1, 1e-6); /* after a: b three times, c once */
    assert_float_equal(r[1].rank, 2, 1e-6); /* nothing is known after c: three classes tie */
    assert_true(isinf(r[2].rank)); /* z cannot be said */
    eval_baseline_ranks(EVAL_POPULARITY, &x.task, x.model, 0, fit, r, 3);
    assert_float_equal(r[0].rank, 1, 1e-6); /* b three times, a twice, c once */
    eval_baseline_ranks(EVAL_REPEAT_LAST, &x.task, x.model, 0, fit, r, 3);
    assert_float_equal(r[0].rank, 2.5, 1e-6); /* not a again; b and c tie behind it */
    /* As it goes: at the first answer nothing was counted yet. */
    struct eval_rank all[] = {{.event = 0}, {.event = 2}};
    eval_baseline_ranks(EVAL_MARKOV, &x.task, x.model, 0, (struct train_span){0, 0}, all, 2);
    assert_float_equal(all[0].rank, 2, 1e-6);
    assert_float_equal(all[1].rank, 1, 1e-6);
    close_example(&x);
}

/* A whole judgement: one prediction for each event after a visit's first; the unknown name counts as a miss. */
static void test_head(void **state)
{
    (void)state;
    static const char *const items[] = {"abab", "abac", "ab", "cbz"};
    struct example x;
    open_example(&x, items, 4, 1010);
    struct train_network *n = train_network_create(&x.task.shape, dense_choose("generic"));
    struct train_options o = {.lanes = 2, .steps = 2, .threads = 2}; /* chunks and threads do not change the answers */
    struct eval_request request = {.span = {INT64_MIN, INT64_MAX}, .purchase = "purchase"};
    train_network_refresh(n);
    json_t *f = eval_head(n, &x.task, x.model, 0, &o, &request);
    assert_int_equal(json_integer_value(json_object_get(f, "predictions")), 3 + 3 + 1 + 2);
    assert_int_equal(json_integer_value(json_object_get(f, "not_in_vocabulary")), 1);
    assert_float_equal(figure(f, "recall@5"), 8.0 / 9, 1e-6); /* all weights 0: three classes tie at rank 2 */
    assert_float_equal(figure(f, "log_loss"), log(3), 1e-6);
    assert_float_equal(figure(json_object_get(json_object_get(f, "baselines"), "repeat_last"), "recall@1"), 0, 1e-9);
    json_decref(f);
    train_network_destroy(&n);
    close_example(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks),     cmocka_unit_test(test_guesses), cmocka_unit_test(test_equal_guesses),
        cmocka_unit_test(test_one_class), cmocka_unit_test(test_markov),  cmocka_unit_test(test_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
