// SPDX-License-Identifier: Apache-2.0
// unit_score_outcome.c - each prediction of intent gets the outcome of its own user and its own horizon.
#include "../modules/score_outcome.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { HOUR = 3600000 };
#define ANN UINT64_C(0x0000000500000001)
#define BOB UINT64_C(0x0000000500000002) /* the same place */
#define CID UINT64_C(0x0000000700000003)

static struct score_outcomes *fresh(void)
{
    struct score_outcomes *o = calloc(1, sizeof *o);
    assert_non_null(o);
    return o;
}

static void a_purchase_within_the_horizon_counts_and_none_after(void **state)
{
    (void)state;
    struct score_outcomes *o = fresh();
    float p = 0;
    bool bought = false;
    score_outcome_predict(o, ANN, 1000, HOUR, 0.25f);
    assert_false(score_outcome_event(o, ANN, 1000 + HOUR, true, &p, &bought)); /* just within */
    assert_true(score_outcome_event(o, ANN, 1001 + HOUR, false, &p, &bought));
    assert_true(p == 0.25f && bought);
    score_outcome_predict(o, ANN, 5000000, HOUR, 0.5f);
    assert_true(score_outcome_event(o, ANN, 5000001 + HOUR, true, &p, &bought)); /* too late */
    assert_true(p == 0.5f && !bought);
    assert_false(score_outcome_event(o, ANN, 9 * HOUR, true, &p, &bought)); /* nothing waits */
    free(o);
}

static void it_waits_for_its_horizon_whatever_happens(void **state)
{
    (void)state;
    struct score_outcomes *o = fresh();
    float p = 0;
    bool bought = false;
    score_outcome_predict(o, ANN, 0, HOUR, 0.25f);
    assert_false(score_outcome_event(o, ANN, 10, true, &p, &bought));
    score_outcome_predict(o, ANN, 10, HOUR, 0.75f); /* the place is taken */
    assert_true(score_outcome_event(o, ANN, HOUR + 1, false, &p, &bought));
    assert_true(p == 0.25f && bought);
    free(o);
}

static void another_users_purchase_is_not_theirs_but_tells_the_time(void **state)
{
    (void)state;
    struct score_outcomes *o = fresh();
    float p = 0;
    bool bought = true;
    score_outcome_predict(o, ANN, 0, HOUR, 0.25f);
    assert_false(score_outcome_event(o, BOB, 10, true, &p, &bought));
    assert_false(score_outcome_event(o, CID, 2 * HOUR, false, &p, &bought)); /* elsewhere */
    assert_true(score_outcome_event(o, BOB, 2 * HOUR, true, &p, &bought));
    assert_true(p == 0.25f && !bought);
    free(o);
}

static void no_number_is_no_prediction(void **state)
{
    (void)state;
    struct score_outcomes *o = fresh();
    float p;
    bool bought;
    score_outcome_predict(o, ANN, 0, HOUR, NAN);
    assert_false(score_outcome_event(o, ANN, 2 * HOUR, true, &p, &bought));
    free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_purchase_within_the_horizon_counts_and_none_after),
        cmocka_unit_test(it_waits_for_its_horizon_whatever_happens),
        cmocka_unit_test(another_users_purchase_is_not_theirs_but_tells_the_time),
        cmocka_unit_test(no_number_is_no_prediction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
