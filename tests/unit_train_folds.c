// SPDX-License-Identifier: Apache-2.0
// unit_train_folds.c - folds chain forward in time, and their sums are those computed by hand.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../daemon/train_folds.h"

#include "gait/error.h"

/* n events a second apart, the last one first: the order in which they came must not matter. */
static struct train_set *seconds(int n)
{
    struct train_set *s = train_set_create(NULL, 0);
    for (int i = n; i-- > 0;) {
        struct train_event e = {.user = str_of("u"), .ts_ms = 1000 * (int64_t)i};
        train_set_add(s, &e);
    }
    return s;
}

static void test_they_chain_forward(void **state)
{
    (void)state;
    struct error err;
    struct train_fold f[3];
    struct train_set *s = seconds(400);
    assert_int_equal(train_folds_cut(s, 0.1, 3, f, &err), 0);
    for (int k = 0; k < 3; k++) {
        assert_int_equal(f[k].judged.from_ms, 100000 * (k + 1));
        assert_int_equal(f[k].valid_ms, 90000 * (k + 1)); /* nine tenths of what lies before */
        assert_true(k == 2 ? f[k].judged.until_ms == INT64_MAX : f[k].judged.until_ms == f[k + 1].judged.from_ms);
    }
    assert_int_equal(train_folds_cut(s, 0, 1, f, &err), 0);
    assert_int_equal(f[0].valid_ms, f[0].judged.from_ms); /* all of it is learned from */
    train_set_destroy(&s);
}

static void test_too_little_is_refused(void **state)
{
    (void)state;
    struct error err;
    struct train_fold f[3];
    struct train_set *few = seconds(39), *same = train_set_create(NULL, 0);
    assert_int_equal(train_folds_cut(few, 0.1, 3, f, &err), -1);
    assert_non_null(strstr(err.text, "39 events are too few"));
    for (int i = 0; i < 100; i++)
        train_set_add(same, &(struct train_event){.user = str_of("u"), .ts_ms = 5});
    assert_int_equal(train_folds_cut(same, 0.1, 3, f, &err), -1);
    assert_non_null(strstr(err.text, "same time"));
    train_set_destroy(&few);
    train_set_destroy(&same);
}

static double number(const json_t *of, const char *a, const char *b)
{
    return json_number_value(json_object_get(json_object_get(of, a), b));
}

static void test_sums(void **state)
{
    (void)state;
    const struct train_fold f[3] = {{1, {10, 20}}, {2, {20, 30}}, {3, {30, 40}}};
    json_t *judged = json_pack(
        "[{s:{s:f,s:n,s:i,s:{s:{s:f}}}},{s:{s:f,s:f,s:i,s:{s:{s:f}}}},{s:{s:f,s:n,s:i,s:{s:{s:f}}}}]",
        "intent", "brier", 0.1, "f1", "predictions", 5, "baselines", "markov", "brier", 0.5,
        "intent", "brier", 0.2, "f1", 0.7, "predictions", 6, "baselines", "markov", "brier", 0.5,
        "intent", "brier", 0.3, "f1", "predictions", 7, "baselines", "markov", "brier", 0.8);
    assert_non_null(judged);
    json_t *sum = train_folds_sum(judged, f), *head = json_object_get(sum, "intent");
    assert_int_equal(json_integer_value(json_object_get(head, "n")), 3);
    assert_float_equal(number(head, "mean", "brier"), 0.2, 1e-9);
    assert_float_equal(number(head, "sd", "brier"), 0.1, 1e-9); /* of a sample: by n − 1 */
    assert_null(json_object_get(json_object_get(head, "mean"), "predictions")); /* a number of events is no figure */
    assert_int_equal(json_array_size(json_object_get(head, "each")), 3);
    const json_t *markov = json_object_get(json_object_get(head, "baselines"), "markov");
    assert_float_equal(number(markov, "mean", "brier"), 0.6, 1e-9);
    assert_float_equal(number(markov, "sd", "brier"), 0.173205, 1e-6);
    json_decref(sum);
    json_decref(judged);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_they_chain_forward),
        cmocka_unit_test(test_too_little_is_refused),
        cmocka_unit_test(test_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
