// SPDX-License-Identifier: Apache-2.0
// unit_label.c - labels equal those that a person reads off a history, and nothing is answered before it can be known.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../daemon/label.h"

#include "gait/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MINUTE = 60000, HOUR = 60 * MINUTE };

static void add(struct train_set *s, const char *user, const char *type, int64_t ts_ms)
{
    struct train_event e = {.user = str_of(user), .ts_ms = ts_ms};
    e.fields[MODEL_TYPE] = str_of(type);
    train_set_add(s, &e);
}

/* Anna: a visit at 0 (three clicks), one after 5 hours, none any more. Bert looks in at the very end. */
static struct train_set *two_users(void)
{
    struct train_set *s = train_set_create(NULL, 0);
    add(s, "anna", "page_view", 0);
    add(s, "anna", "add_to_cart", 1 * MINUTE);
    add(s, "anna", "page_view", 2 * MINUTE);
    add(s, "anna", "purchase", 5 * HOUR);
    add(s, "anna", "page_view", 5 * HOUR + MINUTE);
    add(s, "bert", "page_view", 20 * HOUR);
    train_set_arrange(s, TRAIN_BY_SESSION);
    return s;
}

/* The answer after the event of that time. */
static int answer(const struct train_set *s, const int8_t *answers, int64_t ts_ms)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->ts_ms[i] == ts_ms)
            return answers[i];
    fail_msg("no such event");
    return 0;
}

static void test_churn_and_returns(void **state)
{
    (void)state;
    int8_t churn[6], returns[6];
    struct train_set *s = two_users();
    label_answers(s, LABEL_CHURN, 5 * HOUR - MINUTE, churn);
    label_answers(s, LABEL_RETURNS, 5 * HOUR - MINUTE, returns);
    assert_int_equal(answer(s, churn, 0), 1);                 /* the next visit is a minute too late */
    assert_int_equal(answer(s, churn, 1 * MINUTE), 0);        /* exactly in time */
    assert_int_equal(answer(s, churn, 2 * MINUTE), 0);
    assert_int_equal(answer(s, churn, 5 * HOUR), 1);          /* a click in the same visit is no return */
    assert_int_equal(answer(s, churn, 5 * HOUR + MINUTE), 1);
    for (int i = 0; i < 6; i++)
        assert_int_equal(churn[i] + returns[i], 1);
    train_set_destroy(&s);
}

static void test_abandoned_carts(void **state)
{
    (void)state;
    int8_t answers[8];
    struct train_set *s = two_users();
    label_answers(s, LABEL_ABANDON, 4 * HOUR, answers);
    assert_int_equal(answer(s, answers, 0), TRAIN_NOTHING);   /* nothing in the cart yet */
    assert_int_equal(answer(s, answers, 1 * MINUTE), 1);      /* bought, but after more than four hours */
    assert_int_equal(answer(s, answers, 5 * HOUR), TRAIN_NOTHING);
    label_answers(s, LABEL_ABANDON, 5 * HOUR, answers);
    assert_int_equal(answer(s, answers, 1 * MINUTE), 0);
    train_set_destroy(&s);
    s = train_set_create(NULL, 0);
    static const char *const types[] = {"add_to_cart", "add_to_cart", "remove_from_cart", "remove_from_cart",
                                        "remove_from_cart", "add_to_cart"};
    static const int expected[] = {1, 1, 1, TRAIN_NOTHING, TRAIN_NOTHING, 1};
    for (int i = 0; i < 6; i++)
        add(s, "u", types[i], i * MINUTE);
    train_set_arrange(s, TRAIN_BY_SESSION);
    label_answers(s, LABEL_ABANDON, HOUR, answers);
    for (int i = 0; i < 6; i++)
        assert_int_equal(answer(s, answers, i * MINUTE), expected[i]);
    train_set_destroy(&s);
}

static void test_the_file(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n = 0;
    int8_t answers[8];
    struct label_counts counts;
    struct train_set *s = two_users();
    FILE *out = open_memstream(&text, &n);
    assert_non_null(out);
    label_answers(s, LABEL_CHURN, 15 * HOUR, answers);
    label_write(out, s, "churn", answers, 15 * HOUR, &counts);
    fclose(out);
    /* The data ends at 20 h: what happened after 5 h is known for 5:00 only just, for 5:01 and 20:00 not. */
    assert_string_equal(text, "user,churn,ts,known\nanna,0,0,54000000\nanna,0,60000,54060000\nanna,0,120000,54120000\n"
                              "anna,1,18000000,72000000\n");
    assert_int_equal(counts.ones, 1);
    assert_int_equal(counts.zeros, 3);
    assert_int_equal(counts.open, 2);
    free(text);
    train_set_destroy(&s);
}

/* A name that would break a line is left out and counted; of two events of one moment the later one has the line. */
static void test_awkward_names_and_times(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n = 0;
    int8_t answers[8];
    struct label_counts counts;
    struct train_set *s = train_set_create(NULL, 0);
    add(s, "a,b", "page_view", 0);
    add(s, "c\nd", "page_view", 0);
    add(s, "e", "page_view", 5);
    add(s, "e", "page_view", 5);
    add(s, "f", "page_view", HOUR);
    train_set_arrange(s, TRAIN_BY_SESSION);
    FILE *out = open_memstream(&text, &n);
    assert_non_null(out);
    label_answers(s, LABEL_RETURNS, MINUTE, answers);
    label_write(out, s, "soon", answers, MINUTE, &counts);
    fclose(out);
    assert_string_equal(text, "user,soon,ts,known\ne,0,5,60005\n");
    assert_int_equal(counts.unwritable, 2);
    free(text);
    train_set_destroy(&s);
}

/* What was written is what training reads: the answer, and when it was known. Several files: each by its own name. */
static void test_training_reads_it(void **state)
{
    (void)state;
    char churn[] = "/tmp/unit_label.XXXXXX", abandon[] = "/tmp/unit_label.XXXXXX", both[128];
    static const enum label_kind kinds[] = {LABEL_CHURN, LABEL_ABANDON};
    char *const paths[] = {churn, abandon};
    int8_t answers[8];
    struct label_counts counts;
    struct error err;
    uint64_t unknown;
    struct train_set *s = two_users();
    for (int k = 0; k < 2; k++) {
        FILE *out = fdopen(mkstemp(paths[k]), "w");
        assert_non_null(out);
        label_answers(s, kinds[k], HOUR, answers);
        label_write(out, s, label_kind_name(kinds[k]), answers, HOUR, &counts);
        fclose(out);
    }
    snprintf(both, sizeof both, "%s,%s", churn, abandon);
    for (int k = 0; k < 2; k++) {
        struct train_target t;
        train_target_create(&t, s, true);
        assert_int_equal(train_target_labels(&t, s, both, label_kind_name(kinds[k]), &unknown, &err), 0);
        label_answers(s, kinds[k], HOUR, answers);
        for (size_t i = 0; i < s->n; i++) {
            bool open = s->ts_ms[i] + HOUR > s->last_ms;
            assert_int_equal(t.value[i], open ? TRAIN_NOTHING : answers[i]);
            if (t.value[i] != TRAIN_NOTHING)
                assert_int_equal(t.known_ms[i], s->ts_ms[i] + HOUR);
        }
        train_target_destroy(&t);
    }
    struct train_target t;
    train_target_create(&t, s, true);
    assert_int_equal(train_target_labels(&t, s, both, "returns", &unknown, &err), -1);
    assert_non_null(strstr(err.text, "'abandon'; for label:returns it has to be 'returns'"));
    train_target_destroy(&t);
    train_set_destroy(&s);
    remove(churn);
    remove(abandon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_churn_and_returns),
        cmocka_unit_test(test_abandoned_carts),
        cmocka_unit_test(test_the_file),
        cmocka_unit_test(test_awkward_names_and_times),
        cmocka_unit_test(test_training_reads_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
