// SPDX-License-Identifier: Apache-2.0
// unit_eval_slices.c - groups, their ratios and gaps equal those computed by hand; small groups and strange names do
// not upset them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../daemon/eval_slices.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_MAX = 8000 };

struct example {
    struct train_set *set;
    struct eval_guess guesses[ROWS_MAX];
    struct eval_rank ranks[ROWS_MAX];
    size_t n;
};

static struct example *open_example(void)
{
    struct example *x = calloc(1, sizeof *x);
    assert_non_null(x);
    x->set = train_set_create(NULL, 0);
    return x;
}

static void close_example(struct example *x)
{
    train_set_destroy(&x->set);
    free(x);
}

static void add(struct example *x, const char *country, int n, float p, bool yes)
{
    struct train_event e = {.user = str_of("u"), .ts_ms = 1};
    e.fields[MODEL_COUNTRY] = str_of(country);
    for (int i = 0; i < n; i++) {
        assert_true(x->n < ROWS_MAX);
        train_set_add(x->set, &e);
        x->guesses[x->n] = (struct eval_guess){.event = x->n, .p = p, .yes = yes};
        x->ranks[x->n] = (struct eval_rank){.event = x->n, .rank = p};
        x->n++;
    }
}

static double figure(const json_t *of, const char *name)
{
    const json_t *value = json_object_get(of, name);
    if (!json_is_number(value))
        fail_msg("no figure %s", name);
    return json_number_value(value);
}

static const json_t *group(const json_t *slices, const char *name)
{
    size_t k;
    json_t *g;
    json_array_foreach(json_object_get(slices, "groups"), k, g)
        if (strcmp(json_string_value(json_object_get(g, "name")), name) == 0)
            return g;
    fail_msg("no group %s", name);
    return NULL;
}

static bool small(const json_t *slices, const char *name)
{
    return json_is_true(json_object_get(group(slices, name), "small"));
}

/*             answers  1s   selected  of them 1s     selection  recall  false alarms
 *   DE           200  100        110          90        0.55      0.9       0.2
 *   FR           100   50         20          20        0.20      0.4       0
 *   (none)        30   15         30          15        small
 * disparate impact 0.2 / 0.55; gap max(0.9 − 0.4, 0.2 − 0) */
static void test_by_hand(void **state)
{
    (void)state;
    struct example *x = open_example();
    add(x, "DE", 90, 0.8f, true);
    add(x, "DE", 10, 0.1f, true);
    add(x, "DE", 20, 0.5f, false); /* exactly at the bound: selected */
    add(x, "DE", 80, 0.1f, false);
    add(x, "FR", 20, 0.9f, true);
    add(x, "FR", 30, 0.2f, true);
    add(x, "FR", 50, 0.2f, false);
    add(x, "", 15, 0.9f, true);
    add(x, "", 15, 0.9f, false);
    const struct eval_by by = {.field = MODEL_COUNTRY, .bound = 0.8, .select_at = 0.5};
    json_t *s = eval_slices_guesses(&by, x->set, x->guesses, x->n);
    assert_float_equal(figure(group(s, "DE"), "selection_rate"), 0.55, 1e-9);
    assert_float_equal(figure(group(s, "DE"), "recall"), 0.9, 1e-9);
    assert_float_equal(figure(group(s, "DE"), "false_positive_rate"), 0.2, 1e-9);
    assert_float_equal(figure(group(s, "DE"), "observed"), 0.5, 1e-9);
    assert_float_equal(figure(group(s, "DE"), "predicted"), (72 + 1 + 10 + 8) / 200.0, 1e-6);
    assert_float_equal(figure(group(s, "FR"), "recall"), 0.4, 1e-9);
    assert_float_equal(figure(group(s, "FR"), "false_positive_rate"), 0, 1e-9);
    assert_true(small(s, "(none)"));
    assert_false(small(s, "FR"));
    assert_float_equal(figure(s, "disparate_impact"), 0.2 / 0.55, 1e-9);
    assert_float_equal(figure(s, "equalised_odds_gap"), 0.5, 1e-9);
    assert_int_equal(json_array_size(json_object_get(s, "warnings")), 2);
    json_decref(s);
    const struct eval_by lenient = {.field = MODEL_COUNTRY, .bound = 0.3, .select_at = 0.5};
    s = eval_slices_guesses(&lenient, x->set, x->guesses, x->n);
    assert_int_equal(json_array_size(json_object_get(s, "warnings")), 0);
    json_decref(s);
    close_example(x);
}

/* One group alone cannot be unfair to another. */
static void test_nothing_to_compare(void **state)
{
    (void)state;
    struct example *x = open_example();
    add(x, "DE", 100, 0.9f, true);
    add(x, "DE", 100, 0.9f, false);
    add(x, "FR", 99, 0.1f, true); /* one class only, too */
    const struct eval_by by = {.field = MODEL_COUNTRY, .bound = 0.8, .select_at = 0.5};
    json_t *s = eval_slices_guesses(&by, x->set, x->guesses, x->n);
    assert_true(json_is_null(json_object_get(s, "disparate_impact")));
    assert_true(json_is_null(json_object_get(s, "equalised_odds_gap")));
    assert_true(json_is_null(json_object_get(group(s, "FR"), "false_positive_rate")));
    assert_int_equal(json_array_size(json_object_get(s, "warnings")), 0);
    json_decref(s);
    close_example(x);
}

static void test_ranks(void **state)
{
    (void)state;
    struct example *x = open_example();
    add(x, "DE", 80, 1, false);
    add(x, "DE", 20, INFINITY, false);
    add(x, "FR", 40, 4, false);
    add(x, "FR", 60, 21, false);
    const struct eval_by by = {.field = MODEL_COUNTRY, .bound = 0.8};
    json_t *s = eval_slices_ranks(&by, x->set, x->ranks, x->n);
    assert_float_equal(figure(group(s, "DE"), "recall@20"), 0.8, 1e-9);
    assert_float_equal(figure(group(s, "FR"), "mrr@20"), 0.1, 1e-9);
    assert_float_equal(figure(s, "recall_ratio"), 0.5, 1e-9);
    assert_int_equal(json_array_size(json_object_get(s, "warnings")), 1);
    json_decref(s);
    close_example(x);
}

/* More groups than are shown: the rest is one, and nobody is lost. */
static void test_many_groups_and_hostile_names(void **state)
{
    (void)state;
    struct example *x = open_example();
    char name[16];
    for (int k = 0; k < 60; k++) {
        snprintf(name, sizeof name, "c%02d", k);
        add(x, name, k + 1, 0.5f, k & 1);
    }
    add(x, "\x1b[31m|\n", 100, 0.5f, true);
    add(x, "\xff\xfe", 99, 0.5f, true);
    const struct eval_by by = {.field = MODEL_COUNTRY, .bound = 0.8, .select_at = 0.5};
    json_t *s = eval_slices_guesses(&by, x->set, x->guesses, x->n), *g;
    double n = 0;
    size_t k;
    json_array_foreach(json_object_get(s, "groups"), k, g)
        n += figure(g, "n");
    assert_int_equal(json_array_size(json_object_get(s, "groups")), SLICES_MAX);
    assert_int_equal((int)n, (int)x->n);
    group(s, "(others)");
    group(s, "(not UTF-8)");
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    eval_slices_print(out, s);
    fclose(out);
    assert_null(strchr(text, 0x1b));
    free(text);
    json_decref(s);
    close_example(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_nothing_to_compare),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_many_groups_and_hostile_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
