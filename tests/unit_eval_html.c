// SPDX-License-Identifier: Apache-2.0
// unit_eval_html.c - the report is well-formed whatever is in it, refers to nothing outside, and runs nothing.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../daemon/eval_html.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char hostile[] = "</td><script>alert('1')</script>\"&amp;\x01<img src=x onerror=y>";

static json_t *figures_of_a_label(void)
{
    json_t *f = json_pack(
        "{s:s,s:i,s:f,s:n,s:f,s:f,s:s,s:{s:[f,f]},s:{s:{s:f}},s:[{s:f,s:f,s:i},{s:f,s:f,s:i}],s:[[f,f],[f,f]]}",
        "target", hostile, "predictions", 10, "brier", 0.25, "roc_auc", "recall", 0.5, "positives", 0.3,
        "baselines_count", "as they go", "interval", "brier", 0.2, 0.3, "baselines", "markov", "brier", 0.75,
        "calibration", "predicted", 0.9, "observed", 0.8, "n", 5, "predicted", 0.1, "observed", 0.2, "n", 5,
        "pr_curve", 0.5, 1.0, 1.0, 0.3);
    assert_non_null(f);
    json_object_set_new(f, "slices", json_pack("{s:s,s:[{s:s,s:i,s:f,s:b}],s:[s]}", "by", "category", "groups", "name",
                                               hostile, "n", 7, "recall", 0.125, "small", 1, "warnings", hostile));
    return f;
}

static char *page_of(const json_t *figures, const json_t *training, const char *id)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    assert_non_null(out);
    eval_html_write(out, figures, training, id);
    fclose(out);
    assert_int_equal(strlen(text), n);
    return text;
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        n++;
    return n;
}

/* Every tag closed in order, every & the beginning of an entity: the page could be read as XML. */
static void check_well_formed(const char *text)
{
    char open[64][16];
    int depth = 0;
    for (const char *c = text; *c; c++) {
        assert_true((unsigned char)*c >= 0x20 || *c == '\n');
        if (*c == '&')
            assert_true(strspn(c + 1, "#abcdefghijklmnopqrstuvwxyz0123456789") == strcspn(c + 1, ";") && c[1]);
        if (*c != '<' || c[1] == '!')
            continue;
        const char *end = strchr(c, '>');
        assert_non_null(end);
        bool closing = c[1] == '/', alone = end[-1] == '/';
        char name[16] = "";
        for (size_t n = 0; n < sizeof name - 1 && isalnum((unsigned char)c[1 + closing + n]); n++)
            name[n] = c[1 + closing + n];
        if (closing) {
            assert_true(depth > 0);
            assert_string_equal(open[--depth], name);
        } else if (!alone) {
            assert_true(depth < 64);
            strcpy(open[depth++], name);
        }
        c = end;
    }
    assert_int_equal(depth, 0);
}

static void check_harmless(const char *text)
{
    static const char *const outside[] = {"<script", "http://", "https://", "//", "src=\"", "href", "url(", "@import",
                                          "<img", "<link", "<iframe", "javascript:", NULL};
    for (int i = 0; outside[i]; i++)
        assert_int_equal(count(text, outside[i]), 0);
    assert_int_equal(count(text, "default-src 'none'"), 1);
}

static void test_everything_is_there_and_harmless(void **state)
{
    (void)state;
    json_t *figures = figures_of_a_label();
    json_t *training = json_pack("{s:s,s:[[{s:f,s:f},{s:f,s:f}],[{s:f,s:n}]]}", "command", hostile, "history",
                                 "loss", 2.0,
                                 "valid_loss", 2.5, "loss", 1.0, "valid_loss", 1.5, "loss", 0.5, "valid_loss");
    assert_non_null(training);
    char *text = page_of(figures, training, hostile);
    check_well_formed(text);
    check_harmless(text);
    assert_int_equal(count(text, "<svg"), 3); /* calibration, precision and recall, learning */
    assert_int_equal(count(text, "<polyline"), 2 + 2 * 2);
    assert_int_equal(count(text, "<circle"), 2);
    assert_int_equal(count(text, "&lt;script&gt;"), 5); /* id, target, command, warning, group */
    assert_non_null(strstr(text, "<td>brier</td><td>0.2500</td><td>0.2000 to 0.3000</td>"));
    assert_non_null(strstr(text, "<td>0.7500</td>"));   /* Markov's */
    assert_null(strstr(text, "roc_auc"));               /* undefined: no row */
    assert_non_null(strstr(text, "small: not compared"));
    free(text);
    json_decref(figures);
    json_decref(training);
}

/* Ranks have neither calibration nor a curve, an imported model no history: the page does without. */
static void test_what_is_not_there_is_left_out(void **state)
{
    (void)state;
    json_t *figures = json_pack("{s:s,s:i,s:f}", "target", "item", "predictions", 3, "recall@20", 0.5);
    char *text = page_of(figures, NULL, "0123456789abcdef");
    check_well_formed(text);
    check_harmless(text);
    assert_int_equal(count(text, "<svg"), 0);
    assert_int_equal(count(text, "nan") + count(text, "inf"), 0);
    free(text);
    json_decref(figures);
}

static void test_a_file_that_cannot_be_written(void **state)
{
    (void)state;
    struct error err;
    json_t *figures = figures_of_a_label();
    assert_int_equal(eval_html_save("/nonexistent/report.html", figures, NULL, "x", &err), -1);
    assert_non_null(strstr(err.text, "--html"));
    json_decref(figures);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_is_there_and_harmless),
        cmocka_unit_test(test_what_is_not_there_is_left_out),
        cmocka_unit_test(test_a_file_that_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
