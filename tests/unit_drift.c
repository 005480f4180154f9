// SPDX-License-Identifier: Apache-2.0
// unit_drift.c - the population stability index, its sliding window, and what the daemon makes of a model's reference.
#include "../modules/drift.h"
#include "support.h"

#include "model_maker.h"

#include "gait/log.h"
#include "gait/lstm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct module window_rolling, model_lstm, score_interest, score_drift;

#define T0 INT64_C(1700000000000)

static bool add(struct drift *d, const char *text)
{
    json_t *bins = json_loads(text, 0, NULL);
    assert_non_null(bins);
    bool ok = drift_add(d, "x", bins);
    json_decref(bins);
    return ok;
}

static void the_index_is_the_formula(void **state)
{
    (void)state;
    struct drift d = {0};
    assert_true(add(&d, "{\"edges\":[0,1],\"shares\":[0.5,0.3,0.2]}"));
    assert_true(isnan(drift_psi(&d, 0)));
    static const float values[] = {0, 0, 0, 0, 1, 1, 1, 2, 2, 2}; /* an edge belongs to the bin below it */
    for (int i = 0; i < 10; i++)
        drift_count(&d, 0, values[i]);
    double psi = (0.4 - 0.5) * log(0.4 / 0.5) + (0.3 - 0.2) * log(0.3 / 0.2);
    assert_true(fabs(drift_psi(&d, 0) - psi) < 1e-12);
    assert_int_equal(drift_values(&d, 0), 10);
    drift_count(&d, 0, NAN);
    drift_count(&d, 0, -INFINITY);
    assert_int_equal(drift_values(&d, 0), 10);
    drift_free(&d);
}

static void the_same_distribution_is_no_drift_and_an_empty_bin_is_finite(void **state)
{
    (void)state;
    struct drift d = {0};
    assert_true(add(&d, "{\"edges\":[5],\"shares\":[0.5,0.5]}"));
    for (int i = 0; i < 1000; i++)
        drift_count(&d, 0, i % 2 ? 4 : 6);
    assert_true(fabs(drift_psi(&d, 0)) < 1e-12);
    drift_free(&d);
    assert_true(add(&d, "{\"edges\":[5],\"shares\":[1,0]}"));
    for (int i = 0; i < 1000; i++)
        drift_count(&d, 0, 6);
    assert_true(drift_psi(&d, 0) > 5 && isfinite(drift_psi(&d, 0)));
    drift_free(&d);
}

static void the_window_slides(void **state)
{
    (void)state;
    struct drift d = {0};
    assert_true(add(&d, "{\"edges\":[5],\"shares\":[0.5,0.5]}"));
    for (int slot = 0; slot < DRIFT_SLOTS; slot++) {
        drift_advance(&d);
        drift_count(&d, 0, slot < 12 ? 4 : 6);
    }
    assert_int_equal(drift_values(&d, 0), DRIFT_SLOTS);
    assert_true(fabs(drift_psi(&d, 0)) < 1e-12);
    for (int slot = 0; slot < 12; slot++)
        drift_advance(&d); /* the first half is out */
    assert_int_equal(drift_values(&d, 0), 12);
    assert_true(drift_psi(&d, 0) > 1);
    for (int slot = 0; slot < 12; slot++)
        drift_advance(&d);
    assert_int_equal(drift_values(&d, 0), 0);
    drift_free(&d);
}

static void a_reference_that_is_none_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "{}", "[]", "{\"edges\":[],\"shares\":[]}", "{\"edges\":[1],\"shares\":[1]}",
        "{\"edges\":[2,1],\"shares\":[0.5,0.3,0.2]}", "{\"edges\":[1,1],\"shares\":[0.5,0.3,0.2]}",
        "{\"edges\":[\"1\"],\"shares\":[0.5,0.5]}", "{\"edges\":[1],\"shares\":[0.5,0.4]}",
        "{\"edges\":[1],\"shares\":[1.5,-0.5]}", "{\"edges\":{},\"shares\":{}}",
        "{\"edges\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16],"
        "\"shares\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1]}",
    };
    struct drift d = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(add(&d, wrong[i]));
    assert_int_equal(d.n, 0);
    assert_true(add(&d, "{\"edges\":[],\"shares\":[1]}"));
    drift_free(&d);
}

/* ---- in the flow ------------------------------------------------------------------------------------------------ */

static char path[] = "/tmp/gait-drift-XXXXXX";
static const char *const columns[] = {"event.price", "time.week_sin", NULL};

static struct rig *rig_with(const char *training)
{
    static const struct model_shape shape = {.categories = 4, .category_width = 2, .columns = columns, .hidden = {4},
                                             .interest = true, .intent = true};
    struct error err;
    struct model *m = model_make(&shape, 1);
    m->training = training ? strdup(training) : NULL;
    assert_int_equal(model_save(m, path, &err), 0);
    model_destroy(&m);
    struct rig *rig = rig_new(NULL);
    const char *at = path;
    void *model = rig_conf(rig, &model_lstm), *drift = rig_conf(rig, &score_drift);
    rig_set(model, &model_lstm, "path", &at, sizeof at);
    rig_set_int(drift, &score_drift, "every", 2);
    rig_open(rig, &window_rolling, rig_conf(rig, &window_rolling), NULL);
    rig_open(rig, &model_lstm, model, NULL);
    rig_open(rig, &score_interest, rig_conf(rig, &score_interest), NULL);
    rig_open(rig, &score_drift, drift, NULL);
    rig_ready(rig, 8 << 20);
    rig_tick(rig);
    return rig;
}

static void pass(struct rig *rig, int n, double price)
{
    for (int k = 0; k < n; k += 100) {
        for (int i = 0; i < 100; i++) {
            struct event *event = rig_event(rig, "ann", EVENT_PRODUCT_VIEW, T0 + k + i);
            event->price = price;
            event->has = HAS_PRICE;
        }
        rig_run(rig);
        rig_clear(rig);
    }
    for (int i = 0; i < 100; i++)
        rig_tick(rig);
}

/* What the metrics page says; NULL when the feature is not on it. */
static char *line_of(const struct rig *rig, const char *feature)
{
    static char found[256];
    char *text = NULL, wanted[64];
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    metrics_write(rig->engine->metrics, out);
    fclose(out);
    snprintf(wanted, sizeof wanted, "\ngait_drift_psi{feature=\"%s\"} ", feature);
    char *at = strstr(text, wanted);
    if (at)
        snprintf(found, sizeof found, "%.*s", (int)strcspn(at + strlen(wanted), "\n"), at + strlen(wanted));
    free(text);
    return at ? found : NULL;
}

static const char reference[] =
    "{\"reference\":{\"features\":{"
    "\"event.price\":{\"edges\":[10,20],\"shares\":[0.5,0.25,0.25]},"
    "\"time.week_sin\":{\"edges\":[0],\"shares\":[0.5,0.5]},"
    "\"count.elsewhere.5m\":{\"edges\":[0],\"shares\":[0.5,0.5]}},"
    "\"scores\":{\"intent\":{\"edges\":[0.5],\"shares\":[0.5,0.5]}}}}";

static void features_and_scores_are_told_once_there_are_enough(void **state)
{
    (void)state;
    struct rig *rig = rig_with(reference);
    pass(rig, 1900, 15); /* every second one counts */
    assert_null(line_of(rig, "event.price"));
    pass(rig, 200, 15);
    assert_non_null(line_of(rig, "event.price"));
    assert_true(strtod(line_of(rig, "event.price"), NULL) > 1);
    assert_non_null(line_of(rig, "score.intent"));
    assert_null(line_of(rig, "score.top1"));         /* no reference */
    assert_null(line_of(rig, "time.week_sin"));      /* the clock's */
    assert_null(line_of(rig, "count.elsewhere.5m")); /* no feature of this model */
    assert_true(rig_metric(rig, "gait_drift_events_total") == 1050);
    rig_free(&rig);
}

static void a_model_without_reference_says_nothing(void **state)
{
    (void)state;
    static const char *const without[] = {NULL, "{}", "{\"reference\":[]}", "{\"reference\":{\"features\":7}}"};
    for (size_t i = 0; i < sizeof without / sizeof *without; i++) {
        struct rig *rig = rig_with(without[i]);
        pass(rig, 3000, 15);
        assert_null(line_of(rig, "event.price"));
        assert_true(rig_metric(rig, "gait_drift_events_total") == 0);
        rig_free(&rig);
    }
}

static void another_model_begins_from_zero(void **state)
{
    (void)state;
    struct rig *rig = rig_with(reference);
    pass(rig, 3000, 15);
    assert_non_null(line_of(rig, "event.price"));
    struct error err;
    struct model *m = model_load(path, &err);
    assert_non_null(m);
    m->heads[0].bias[0] += 1;
    free(m->training);
    m->training = NULL;
    assert_int_equal(model_save(m, path, &err), 0);
    model_destroy(&m);
    for (int i = 0; i < 20; i++)
        rig_tick(rig);
    assert_string_equal(line_of(rig, "event.price"), "NaN");
    rig_free(&rig);
}

static int begin(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    log_setup(LOG_ERROR, LOG_FORMAT_TEXT);
    return fd < 0 ? -1 : close(fd);
}

static int end(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_index_is_the_formula),
        cmocka_unit_test(the_same_distribution_is_no_drift_and_an_empty_bin_is_finite),
        cmocka_unit_test(the_window_slides),
        cmocka_unit_test(a_reference_that_is_none_is_refused),
        cmocka_unit_test(features_and_scores_are_told_once_there_are_enough),
        cmocka_unit_test(a_model_without_reference_says_nothing),
        cmocka_unit_test(another_model_begins_from_zero),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
