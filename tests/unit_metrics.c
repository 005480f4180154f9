// SPDX-License-Identifier: Apache-2.0
// unit_metrics.c - cells, label limits, quantiles within their stated error, and the text that Prometheus reads.
#include "gait/metrics.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct metric table[] = {
    {"gait_plain_total", METRIC_COUNTER, NULL, "Plain."},
    {"gait_by_kind", METRIC_GAUGE, "kind", "By kind."},
    {"gait_pair", METRIC_GAUGE, "left,right", "Of two labels."},
    {"gait_time_seconds", METRIC_HISTOGRAM, NULL, "Time, in seconds."},
    {NULL, 0, NULL, NULL},
};

/* Not inlined: gcc 12 would then take the stream for a pointer to a variable that is gone. */
__attribute__((noinline)) static char *text_of(const struct metrics *metrics)
{
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    metrics_write(metrics, out);
    fclose(out);
    return text;
}

static void test_a_row_without_label_shows_as_zero(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create();
    metrics_declare(metrics, table);
    metrics_declare(metrics, table);
    char *text = text_of(metrics);
    assert_non_null(strstr(text,
                           "# HELP gait_plain_total Plain.\n# TYPE gait_plain_total counter\ngait_plain_total 0\n"));
    assert_null(strstr(strstr(text, "gait_plain_total 0") + 1, "gait_plain_total 0"));
    assert_null(strstr(text, "gait_by_kind{"));
    free(text);
    metrics_destroy(&metrics);
}

static void test_label_values_are_escaped_and_bounded(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create();
    metrics_declare(metrics, table);
    metric_add(metric_cell(metrics, "gait_by_kind", "a\"b\\c\nd"), 2);
    char *text = text_of(metrics);
    assert_non_null(strstr(text, "gait_by_kind{kind=\"a\\\"b\\\\c\\nd\"} 2\n"));
    free(text);
    for (int i = 0; i < 1500; i++) {
        char value[16];
        snprintf(value, sizeof value, "k%d", i);
        metric_add(metric_cell(metrics, "gait_by_kind", value), 1);
    }
    assert_ptr_equal(metric_cell(metrics, "gait_by_kind", "k1400"), metric_cell(metrics, "gait_by_kind", "other"));
    assert_int_equal(metrics_sum(metrics, "gait_by_kind"), 1502);
    metrics_destroy(&metrics);
}

static void test_several_labels(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create();
    metrics_declare(metrics, table);
    metric_set(metric_cell(metrics, "gait_pair", "a\"" METRIC_VALUES_SEPARATOR "b"), 1);
    metric_set(metric_cell(metrics, "gait_pair", "alone"), 1);
    char *text = text_of(metrics);
    assert_non_null(strstr(text, "gait_pair{left=\"a\\\"\",right=\"b\"} 1\n"));
    assert_non_null(strstr(text, "gait_pair{left=\"alone\",right=\"\"} 1\n"));
    free(text);
    metrics_destroy(&metrics);
}

static void test_pointers_stay(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create();
    metrics_declare(metrics, table);
    struct metric_cell *plain = metric_cell(metrics, "gait_plain_total", NULL);
    for (int i = 0; i < 300; i++) {
        char value[16];
        snprintf(value, sizeof value, "k%d", i);
        metric_cell(metrics, "gait_by_kind", value);
    }
    metric_add(plain, 3);
    assert_int_equal(metrics_sum(metrics, "gait_plain_total"), 3);
    metrics_destroy(&metrics);
}

/* The error of a bucket is at most an eighth of the value. */
static void test_quantiles(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create();
    metrics_declare(metrics, table);
    struct metric_cell *cell = metric_cell(metrics, "gait_time_seconds", NULL);
    assert_true(metric_quantile(cell, 0.5) == 0);
    for (uint64_t us = 1; us <= 10000; us++)
        metric_observe_ns(cell, us * 1000, 1);
    const double want[][2] = {{0.5, 0.005}, {0.99, 0.0099}, {0.999, 0.00999}, {1, 0.01}};
    for (size_t i = 0; i < 4; i++) {
        double got = metric_quantile(cell, want[i][0]);
        assert_true(got >= want[i][1] * 0.999 && got <= want[i][1] * 1.13);
    }
    metric_observe_ns(cell, UINT64_MAX, 1); /* into the last bucket, not behind it */
    assert_true(metric_quantile(cell, 1) > 100);
    metrics_destroy(&metrics);
}

static void test_every_value_lies_below_its_bucket(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create();
    metrics_declare(metrics, table);
    struct metric_cell *cell = metric_cell(metrics, "gait_time_seconds", NULL);
    for (uint64_t ns = 1; ns < 100000000000u; ns = ns + ns / 7 + 1) {
        memset(cell->buckets, 0, METRIC_BUCKETS * sizeof *cell->buckets);
        metric_observe_ns(cell, ns, 1);
        double upper = metric_quantile(cell, 1), seconds = (double)ns * 1e-9;
        assert_true(upper >= seconds * 0.9999999);
        assert_true(upper < 1.001e-6 || upper <= seconds * 1.1251);
    }
    metrics_destroy(&metrics);
}

static void test_histogram_text_is_cumulative(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create();
    metrics_declare(metrics, table);
    struct metric_cell *cell = metric_cell(metrics, "gait_time_seconds", NULL);
    metric_observe_ns(cell, 500, 2);
    metric_observe_ns(cell, 3000000, 3);
    char *text = text_of(metrics);
    assert_non_null(strstr(text, "gait_time_seconds_bucket{le=\"1e-06\"} 2\n"));
    assert_non_null(strstr(text, "gait_time_seconds_bucket{le=\"+Inf\"} 5\n"));
    assert_non_null(strstr(text, "gait_time_seconds_count 5\n"));
    assert_non_null(strstr(text, "gait_time_seconds_sum 0.009001\n"));
    free(text);
    metrics_destroy(&metrics);
}

static void test_a_file_appears_whole_or_not_at_all(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create();
    metrics_declare(metrics, table);
    assert_int_equal(metrics_write_file(metrics, "/nowhere/at/all"), -1);
    char folder[] = "/tmp/gait-metrics-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/gait.prom", folder);
    assert_int_equal(metrics_write_file(metrics, path), 0);
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    fclose(in);
    remove(path);
    assert_int_equal(remove(folder), 0); /* no temporary file is left */
    metrics_destroy(&metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_row_without_label_shows_as_zero),
        cmocka_unit_test(test_label_values_are_escaped_and_bounded),
        cmocka_unit_test(test_several_labels),
        cmocka_unit_test(test_pointers_stay),
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_every_value_lies_below_its_bucket),
        cmocka_unit_test(test_histogram_text_is_cumulative),
        cmocka_unit_test(test_a_file_appears_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
