// SPDX-License-Identifier: Apache-2.0
// unit_train_reference.c - what a model file says of its training data's distribution, and days that are left out.
#include "train_days.h"
#include "train_reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static double number(const json_t *bins, const char *list, size_t i)
{
    return json_number_value(json_array_get(json_object_get(bins, list), i));
}

static size_t length(const json_t *bins, const char *list)
{
    return json_array_size(json_object_get(bins, list));
}

static void spread_values_are_cut_at_deciles(void **state)
{
    (void)state;
    float values[1000];
    for (int i = 0; i < 1000; i++)
        values[i] = (float)((i * 7919) % 1000);
    json_t *bins = train_reference_bins(values, 1000);
    assert_int_equal(length(bins, "edges"), 9);
    assert_int_equal(length(bins, "shares"), 10);
    double sum = 0;
    for (size_t i = 0; i < 10; i++) {
        assert_true(fabs(number(bins, "shares", i) - 0.1) < 0.002);
        sum += number(bins, "shares", i);
    }
    assert_true(fabs(sum - 1) < 1e-12);
    json_decref(bins);
}

static void values_that_are_the_same_share_a_bin(void **state)
{
    (void)state;
    float mostly_zero[100] = {[95] = 1, [96] = 2, [97] = 3, [98] = NAN, [99] = INFINITY};
    json_t *bins = train_reference_bins(mostly_zero, 100);
    assert_int_equal(length(bins, "edges"), 1);
    assert_true(number(bins, "edges", 0) == 0);
    assert_true(fabs(number(bins, "shares", 0) - 95.0 / 98) < 1e-12);
    json_decref(bins);
    float constant[3] = {4, 4, 4}, nothing[2] = {NAN, -INFINITY};
    bins = train_reference_bins(constant, 3);
    assert_int_equal(length(bins, "edges"), 1);
    assert_true(number(bins, "shares", 0) == 1 && number(bins, "shares", 1) == 0);
    json_decref(bins);
    assert_null(train_reference_bins(nothing, 2));
    assert_null(train_reference_bins(nothing, 0));
}

static void days_to_leave_out(void **state)
{
    (void)state;
    struct train_days days = {0};
    struct error err;
    assert_int_equal(train_days_parse(&days, "2026-11-27,2024-02-29", &err), 0);
    assert_int_equal(days.n, 2);
    assert_true(train_days_has(&days, INT64_C(1795737600000)));             /* 2026-11-27 00:00:00.000 */
    assert_true(train_days_has(&days, INT64_C(1795737600000) + 86399999));  /* … 23:59:59.999 */
    assert_false(train_days_has(&days, INT64_C(1795737600000) - 1));
    assert_false(train_days_has(&days, INT64_C(1795737600000) + 86400000));
    assert_true(train_days_has(&days, INT64_C(1709164800000)));             /* 2024-02-29 */
    static const char *const wrong[] = {"", "2026-11-27,", "2026-02-30", "2025-02-29", "27.11.2026", "2026-11-27x",
                                        "1969-12-31", "2026-13-01", "+026-11-27"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        days.n = 0;
        assert_int_equal(train_days_parse(&days, wrong[i], &err), -1);
        assert_non_null(strstr(err.text, "is no day"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spread_values_are_cut_at_deciles),
        cmocka_unit_test(values_that_are_the_same_share_a_bin),
        cmocka_unit_test(days_to_leave_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
