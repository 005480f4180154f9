// SPDX-License-Identifier: Apache-2.0
// unit_explain.c - an explanation says what would be true of another user: of one who never made that event. So such
// users are run through the real stages, and their scores are compared.
#include "../daemon/explain.h"
#include "support.h"

#include "model_maker.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct module window_rolling, model_lstm;

#define T0 INT64_C(1700000000000)
enum { MINUTE = 60000, EVENTS = 20, CATEGORIES = 9 };

static char folder[] = "/tmp/gait-explain-XXXXXX";
static char path[64];
static const char *const columns[] = {"count.all.1h", "gap", "event.price", "count.purchase.5m", "session.events",
                                      NULL};
static const struct model_shape shape = {.categories = CATEGORIES, .category_width = 6, .types = 13, .type_width = 3,
                                         .columns = columns, .hidden = {19, 11}, .interest = true, .intent = true};

struct bench {
    struct rig *rig;
    struct instance *window, *stage;
    struct model_binding binding;
    struct explain_with with;
};

/* `with` points into the bench: it must not be copied. */
static void bench_open(struct bench *b, int64_t ring)
{
    *b = (struct bench){.rig = rig_new(NULL)};
    struct error err;
    const char *at = path;
    void *window = rig_conf(b->rig, &window_rolling), *model = rig_conf(b->rig, &model_lstm);
    rig_set_int(window, &window_rolling, "ring", ring);
    rig_set(model, &model_lstm, "path", &at, sizeof at);
    b->window = rig_open(b->rig, &window_rolling, window, NULL);
    b->stage = rig_open(b->rig, &model_lstm, model, NULL);
    rig_ready(b->rig, 8 << 20);
    b->with = (struct explain_with){.lstm = lstm_at_work(b->stage), .binding = &b->binding, .window = b->window};
    struct engine *e = b->rig->engine;
    assert_int_equal(model_bind(&b->binding, b->with.lstm->model, &e->types, e->columns, &err), 0);
    b->with.columns_width = columns_width(e->columns);
}

static void add_event(struct rig *rig, const char *user, int k)
{
    static const char *const categories[CATEGORIES] = {"c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"};
    uint64_t seed = (uint64_t)k * 2654435761u + 1;
    random_next(&seed);
    struct event *event = rig_event(rig, user, (int)(random_next(&seed) % EVENT_TYPES_BUILTIN), T0 + k * MINUTE);
    event->log_ms = event->ts_ms;
    event->category = str_of(categories[random_next(&seed) % CATEGORIES]);
    event->price = (double)(random_next(&seed) % 10000) / 100;
    event->has = HAS_PRICE;
}

/* A user who makes all events but `left_out`. */
static struct user *run_user(struct bench *b, const char *name, int events, int left_out)
{
    struct user *user = NULL;
    for (int k = 0; k < events; k++) {
        if (k == left_out)
            continue;
        add_event(b->rig, name, k);
        rig_run(b->rig);
        user = b->rig->batch.events[0].record;
        rig_clear(b->rig);
    }
    return user;
}

static void leaving_an_event_out_is_never_having_made_it(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 28);
    struct error err;
    struct user *user = run_user(&b, "all", EVENTS, -1);
    struct explanation *x = explain_make(&b.with, user, lstm_user_hidden(b.stage, user), &err);
    assert_non_null(x);
    assert_int_equal(x->events_n, EVENTS);
    assert_true(x->has_stored);
    double sum = 0;
    for (int k = 0; k < EVENTS; k++) {
        char name[16];
        snprintf(name, sizeof name, "without%d", k);
        struct user *other = run_user(&b, name, EVENTS, k);
        struct explanation *y = explain_make(&b.with, other, lstm_user_hidden(b.stage, other), &err);
        float logit;
        assert_non_null(y);
        assert_int_equal(x->events[k].event.ts_ms, T0 + k * MINUTE);
        lstm_head(b.with.lstm, (uint32_t)b.with.lstm->model->intent, 1, lstm_user_hidden(b.stage, other), &logit);
        assert_true(fabs(x->events[k].without[EXPLAIN_INTENT].log_odds - (double)logit) < 1e-5);
        if (y->top == x->top)
            assert_true(fabs(x->events[k].without[EXPLAIN_INTEREST].log_odds -
                             y->stored[EXPLAIN_INTEREST].log_odds) < 1e-5);
        sum += x->events[k].effect[EXPLAIN_INTENT];
        explain_destroy(&y);
    }
    assert_true(fabs(sum - x->sum[EXPLAIN_INTENT]) < 1e-9);
    for (int t = 0; t < EXPLAIN_TARGETS; t++)
        assert_true(fabs(x->rebuilt[t].log_odds - x->stored[t].log_odds) < 1e-5);
    explain_destroy(&x);
    rig_free(&b.rig);
}

static void a_feature_that_no_weight_looks_at_has_no_effect(void **state)
{
    (void)state;
    struct error err;
    struct model *m = model_make(&shape, 3);
    uint32_t deaf = m->input - m->features_n + 2;
    for (uint32_t row = 0; row < 4 * m->layers[0].hidden; row++)
        m->layers[0].weight_ih[row * m->layers[0].input + deaf] = 0;
    assert_int_equal(model_save(m, path, &err), 0);
    struct bench b;
    bench_open(&b, 28);
    struct user *user = run_user(&b, "all", EVENTS, -1);
    struct explanation *x = explain_make(&b.with, user, NULL, &err);
    assert_non_null(x);
    assert_false(x->has_stored);
    assert_int_equal(x->features_n, m->features_n);
    for (uint32_t f = 0; f < x->features_n; f++)
        for (int t = 0; t < EXPLAIN_TARGETS; t++)
            assert_int_equal(x->features[f].effect[t] != 0, f != 2);
    assert_true(x->features[0].column == EVENTS);
    json_t *json = explain_json(x, b.with.lstm->model, &b.rig->engine->types);
    assert_int_equal(json_array_size(json_object_get(json, "events")), EVENTS);
    const json_t *feature = json_array_get(json_object_get(json, "features"), 2);
    assert_string_equal(json_string_value(json_object_get(feature, "column")), "event.price");
    assert_true(json_is_null(json_object_get(json, "stored")));
    json_decref(json);
    explain_destroy(&x);
    rig_free(&b.rig);
    model_destroy(&m);
}

static void a_small_ring_explains_what_it_holds(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 4);
    struct error err;
    struct user *user = run_user(&b, "all", EVENTS, -1);
    struct explanation *x = explain_make(&b.with, user, lstm_user_hidden(b.stage, user), &err);
    assert_non_null(x);
    assert_int_equal(x->ring_n, 4);
    assert_int_equal(x->events_n, 4);
    assert_int_equal(x->events[0].event.ts_ms, T0 + (EVENTS - 4) * MINUTE);
    explain_destroy(&x);
    rig_free(&b.rig);
}

static void a_long_ring_explains_its_newest_events(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 100);
    struct error err;
    struct user *user = run_user(&b, "all", 90, -1);
    struct explanation *x = explain_make(&b.with, user, NULL, &err);
    assert_non_null(x);
    assert_int_equal(x->ring_n, 90);
    assert_int_equal(x->events_n, EXPLAIN_EVENTS_MAX);
    assert_int_equal(x->events[EXPLAIN_EVENTS_MAX - 1].event.ts_ms, T0 + 89 * MINUTE);
    explain_destroy(&x);
    rig_free(&b.rig);
}

static void one_event_and_none(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 28);
    struct error err;
    struct user *user = run_user(&b, "one", 1, -1);
    struct explanation *x = explain_make(&b.with, user, NULL, &err);
    assert_non_null(x);
    for (int t = 0; t < EXPLAIN_TARGETS; t++) /* without it nothing is known */
        assert_true(x->events[0].without[t].log_odds == x->empty[t].log_odds);
    explain_destroy(&x);
    add_event(b.rig, "none", 1); /* a record that no event has reached yet */
    assert_null(explain_make(&b.with, b.rig->batch.events[0].record, NULL, &err));
    assert_non_null(strstr(err.text, "no events"));
    rig_clear(b.rig);
    rig_free(&b.rig);
}

static int make_model(void **state)
{
    (void)state;
    struct error err;
    struct model *m = model_make(&shape, 2);
    int failed = model_save(m, path, &err);
    model_destroy(&m);
    return failed;
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    return 0;
}

static int drop_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(leaving_an_event_out_is_never_having_made_it, make_model),
        cmocka_unit_test_setup(a_feature_that_no_weight_looks_at_has_no_effect, make_model),
        cmocka_unit_test_setup(a_small_ring_explains_what_it_holds, make_model),
        cmocka_unit_test_setup(a_long_ring_explains_its_newest_events, make_model),
        cmocka_unit_test_setup(one_event_and_none, make_model),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
