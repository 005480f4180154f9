// SPDX-License-Identifier: Apache-2.0
// unit_window_rolling.c - the promises of window_rolling about late, early, doubled and erased events, about changed
// configurations and a full table, and its options. Whether it counts right is in unit_window.c.
#include "support.h"

#include "gait/window.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

extern const struct module window_rolling;

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR };
#define T0 INT64_C(1700000000000)

static struct rig *rig_with(int64_t ring, int64_t ids)
{
    static const char *const more[] = {"wishlist", NULL};
    struct rig *rig = rig_new(more);
    void *conf = rig_conf(rig, &window_rolling);
    rig_set_int(conf, &window_rolling, "ring", ring);
    rig_set_int(conf, &window_rolling, "event_ids", ids);
    rig_set_int(conf, &window_rolling, "lateness", 2 * HOUR);
    rig_open(rig, &window_rolling, conf, NULL);
    for (uint32_t i = 0; i < columns_count(rig->engine->columns); i++)
        columns_want(rig->engine->columns, columns_name(rig->engine->columns, i));
    rig_ready(rig, 8 << 20);
    return rig;
}

static void an_event_as_the_ring_keeps_it(void **state)
{
    (void)state;
    struct rig *rig = rig_with(4, 8);
    struct event *event = rig_event(rig, "u1", EVENT_ADD_TO_CART, T0);
    event->item = str_of("sku1");
    event->category = str_of("shoes.running");
    event->session = str_of("s1");
    event->price = 99.5;
    event->has = HAS_PRICE | HAS_LOAD;
    event->load_ms = 734;
    event->log_ms = T0;
    rig_run(rig);
    rig_round_trip(rig, "u1");
    struct window_event kept = window_ring_at(&rig->engine->instances[0], rig_user(rig, "u1"), 0);
    assert_true(kept.ts_ms == T0 && kept.type == EVENT_ADD_TO_CART && kept.has == (HAS_PRICE | HAS_LOAD));
    assert_int_equal(kept.amount, 995000);
    assert_int_equal(kept.item, window_hash32(str_of("sku1")));
    assert_int_equal(kept.category, window_hash32(str_of("shoes.running")));
    assert_int_equal(kept.session, window_hash32(str_of("s1")));
    assert_true(kept.price == 99.5f && kept.quantity == 0 && kept.load_ms == 734);
    assert_int_equal(window_hash32((struct str){0}), 0);
    rig_free(&rig);
}

/* ---- verdicts ------------------------------------------------------------------------------------------------- */

static enum event_verdict verdict_at(struct rig *rig, int64_t ts, int64_t log_ms, const char *id)
{
    rig_clear(rig);
    struct event *event = rig_event(rig, "u1", EVENT_PAGE_VIEW, ts);
    event->log_ms = log_ms;
    event->event_id = str_of(id);
    rig_run(rig);
    return rig->batch.events[0].verdict;
}

static void late_events(void **state)
{
    (void)state;
    struct rig *rig = rig_with(28, 8);
    assert_int_equal(verdict_at(rig, T0, T0, NULL), EVENT_OK);
    assert_int_equal(verdict_at(rig, T0 - 2 * HOUR, T0, NULL), EVENT_OK);
    assert_true(rig_column(rig, 0, "count.all.24h") == 2);
    assert_int_equal(verdict_at(rig, T0 - 2 * HOUR - 1, T0, NULL), EVENT_LATE);
    assert_int_equal(window_ring_count(&rig->engine->instances[0], rig_user(rig, "u1")), 2);
    assert_true(rig_metric(rig, "gait_window_late_total") == 1);
    assert_true(rig_metric(rig, "gait_window_late_applied_total") == 1);
    rig_free(&rig);
}

/* One event from the year 2100 must not make all that follow late; the log's time decides, not when it is processed. */
static void events_from_the_future(void **state)
{
    (void)state;
    struct rig *rig = rig_with(28, 8);
    assert_int_equal(verdict_at(rig, T0 + 5 * MINUTE, T0, NULL), EVENT_OK);
    assert_true(rig->batch.events[0].ts_ms == T0 + 5 * MINUTE);
    assert_int_equal(verdict_at(rig, INT64_C(4102444800000), T0 + 6 * MINUTE, NULL), EVENT_OK);
    assert_true(rig->batch.events[0].ts_ms == T0 + 6 * MINUTE);
    assert_true(rig_metric(rig, "gait_window_future_total") == 1);
    assert_int_equal(verdict_at(rig, T0 + 7 * MINUTE, T0 + 7 * MINUTE, NULL), EVENT_OK);
    assert_true(rig_metric(rig, "gait_window_late_applied_total") == 0);
    rig->wall_ms = T0 + 10 * MINUTE; /* no time from the log: the clock serves */
    assert_int_equal(verdict_at(rig, T0 + HOUR, 0, NULL), EVENT_OK);
    assert_true(rig->batch.events[0].ts_ms == T0 + 10 * MINUTE);
    assert_int_equal(verdict_at(rig, -1, T0, NULL), EVENT_BAD_TIME);
    assert_int_equal(verdict_at(rig, INT64_MAX, INT64_MAX, NULL), EVENT_BAD_TIME);
    assert_int_equal(verdict_at(rig, INT64_MIN, T0, NULL), EVENT_BAD_TIME);
    rig_free(&rig);
}

static void duplicates(void **state)
{
    (void)state;
    struct rig *rig = rig_with(1, 3); /* ids are remembered longer than events */
    assert_int_equal(verdict_at(rig, T0, T0, "a"), EVENT_OK);
    assert_int_equal(verdict_at(rig, T0, T0, "b"), EVENT_OK);
    assert_int_equal(verdict_at(rig, T0, T0, "c"), EVENT_OK);
    rig_round_trip(rig, "u1");
    assert_int_equal(verdict_at(rig, T0, T0, "a"), EVENT_DUPLICATE);
    assert_int_equal(verdict_at(rig, T0 - DAY, T0, "a"), EVENT_DUPLICATE); /* and not a dead letter for lateness */
    assert_int_equal(verdict_at(rig, T0, T0, "d"), EVENT_OK);
    assert_int_equal(verdict_at(rig, T0, T0, "b"), EVENT_DUPLICATE);
    assert_int_equal(verdict_at(rig, T0, T0, "a"), EVENT_OK); /* forgotten: three are remembered */
    assert_int_equal(verdict_at(rig, T0, T0, NULL), EVENT_OK);
    assert_int_equal(verdict_at(rig, T0, T0, NULL), EVENT_OK); /* without an id nothing is a duplicate */
    assert_true(rig_metric(rig, "gait_window_duplicates_total") == 3);
    rig_free(&rig);
    rig = rig_with(4, 0);
    assert_int_equal(verdict_at(rig, T0, T0, "a"), EVENT_OK);
    assert_int_equal(verdict_at(rig, T0, T0, "a"), EVENT_OK);
    rig_free(&rig);
}

static void erased_events_stay_away(void **state)
{
    (void)state;
    struct rig *rig = rig_with(4, 4);
    rig_event(rig, "u1", EVENT_PAGE_VIEW, T0);
    rig_user(rig, "u1")->erased_ms = T0;
    rig_run(rig);
    assert_int_equal(rig->batch.events[0].verdict, EVENT_ERASED);
    assert_int_equal(verdict_at(rig, T0 + 1, T0, "a"), EVENT_OK);
    assert_true(rig_column(rig, 0, "total.events") == 1);
    rig_free(&rig);
}

/* An event that decode or the engine has already turned down leaves no trace. */
static void dropped_events_are_passed_over(void **state)
{
    (void)state;
    struct rig *rig = rig_with(4, 4);
    rig_event(rig, "u1", EVENT_PAGE_VIEW, T0);
    rig_event(rig, "u1", EVENT_PAGE_VIEW, T0)->verdict = EVENT_ALREADY_APPLIED;
    struct event *bad = rig_event(rig, "u1", EVENT_PAGE_VIEW, T0);
    bad->verdict = EVENT_BAD_JSON;
    rig_run(rig);
    assert_int_equal(rig->batch.events[2].verdict, EVENT_BAD_JSON);
    assert_int_equal(window_ring_count(&rig->engine->instances[0], rig_user(rig, "u1")), 1);
    rig_free(&rig);
}

/* Nothing that a producer can send overflows anything: run under the sanitizers. */
static void absurd_numbers(void **state)
{
    (void)state;
    static const double numbers[] = {1e308, -1e308, 1e-308, 0, -0.0, 3};
    struct rig *rig = rig_with(2, 0);
    for (int i = 0; i < 216; i++) {
        struct event *event = rig_event(rig, "u1", i % EVENT_TYPES_BUILTIN, T0 + i);
        event->has = HAS_PRICE | HAS_QUANTITY | HAS_LOAD;
        event->price = numbers[i % 6];
        event->quantity = numbers[i / 6 % 6];
        event->load_ms = numbers[i / 36];
        event->log_ms = T0 + i;
    }
    rig_run(rig);
    for (uint32_t i = 0; i < rig->batch.n; i++)
        for (uint32_t j = 0; j < rig->batch.columns_n; j++)
            assert_true(isfinite(batch_row(&rig->batch, i)[j]));
    rig_round_trip(rig, "u1");
    rig_free(&rig);
}

/* ---- records -------------------------------------------------------------------------------------------------- */

/* A record written under one configuration, read under another: the smaller ring folds, the gone type goes. */
static void a_changed_configuration(void **state)
{
    (void)state;
    struct rig *old = rig_with(28, 8), *now = rig_new(NULL);
    void *conf = rig_conf(now, &window_rolling);
    rig_set_int(conf, &window_rolling, "ring", 3);
    rig_set_int(conf, &window_rolling, "event_ids", 2);
    rig_open(now, &window_rolling, conf, NULL);
    rig_want(now, "count.all.24h");
    rig_want(now, "count.purchase.24h");
    rig_want(now, "sum.purchase.24h");
    rig_want(now, "since.purchase");
    rig_ready(now, 8 << 20);
    for (int i = 0; i < 20; i++) {
        int type = i % 4 == 3 ? EVENT_TYPES_BUILTIN /* wishlist */ : EVENT_PURCHASE;
        struct event *event = rig_event(old, "u1", type, T0 + i * SECOND);
        event->has = HAS_PRICE;
        event->price = 1.25;
        event->log_ms = T0;
    }
    rig_run(old);
    size_t cap = record_bytes_max(old->engine);
    uint8_t *bytes = malloc(cap);
    assert_non_null(bytes);
    size_t n = record_encode(old->engine, rig_user(old, "u1"), bytes, cap);
    bool made;
    struct error err;
    struct user *user = users_get(now->engine->users, 0, str_of("u1"), &made);
    assert_int_equal(record_decode(now->engine, user, bytes, n, &err), 0);
    user->state = USER_READY;
    rig_event(now, "u1", EVENT_PURCHASE, T0 + MINUTE)->log_ms = T0 + MINUTE;
    rig_run(now);
    assert_true(rig_column(now, 0, "count.all.24h") == 16);
    assert_true(rig_column(now, 0, "count.purchase.24h") == 16);
    assert_true(rig_column(now, 0, "sum.purchase.24h") == 15 * 1.25);
    assert_true(rig_column(now, 0, "since.purchase") == 42);
    free(bytes);
    rig_free(&old);
    rig_free(&now);
}

/* The table has no room for tiles: windows beyond the ring then miss events, the user says so, nothing breaks. */
static void no_room_for_tiles(void **state)
{
    (void)state;
    struct rig *rig = rig_new(NULL);
    void *conf = rig_conf(rig, &window_rolling);
    rig_set_int(conf, &window_rolling, "ring", 2);
    struct instance *in = rig_open(rig, &window_rolling, conf, NULL);
    rig_want(rig, "count.all.28d");
    rig_ready(rig, 70 * (in->user_size + 400));
    uint32_t slots = (uint32_t)users_slots(rig->engine->users);
    for (uint32_t i = 0; i < slots - 1; i++) {
        char name[16];
        snprintf(name, sizeof name, "u%u", i);
        for (int k = 0; k < 3; k++)
            rig_event(rig, name, EVENT_PAGE_VIEW, T0 + k)->log_ms = T0;
    }
    rig_run(rig);
    uint32_t whole = 0, degraded = 0;
    for (uint32_t i = 0; i < rig->batch.n; i += 3) {
        double count = rig_column(rig, i + 2, "count.all.28d");
        assert_true(count == (rig->batch.events[i].record->degraded ? 2 : 3));
        whole += count == 3;
        degraded += count == 2;
    }
    assert_int_equal(whole, 1); /* the one slot that was left */
    assert_true(rig_metric(rig, "gait_window_tiles_refused_total") == degraded);
    rig_free(&rig);
}

/* ---- options and columns -------------------------------------------------------------------------------------- */

static void expect_refusal(const char *option, void *at, size_t n, const char *part)
{
    struct rig *rig = rig_new(NULL);
    void *conf = rig_conf(rig, &window_rolling);
    struct error err = {0};
    rig_set_list(conf, &window_rolling, option, at, n);
    assert_null(rig_open(rig, &window_rolling, conf, &err));
    if (!strstr(err.text, part))
        fail_msg("'%s' does not say '%s'", err.text, part);
    rig_free(&rig);
}

static void wrong_options(void **state)
{
    (void)state;
    int64_t many[9] = {SECOND, MINUTE, HOUR, DAY, 2 * DAY, 3 * DAY, 4 * DAY, 5 * DAY, 6 * DAY}, twice[] = {HOUR, HOUR};
    const char *unknown[] = {"purchases"}, *same[] = {"purchase", "purchase"};
    expect_refusal("windows", many, 9, "1 to 8");
    expect_refusal("windows", many, 0, "1 to 8");
    expect_refusal("windows", twice, 2, "3600000 ms stands there twice");
    expect_refusal("sum_types", unknown, 1, "'purchases' is no event type");
    expect_refusal("sum_types", same, 2, "'purchase' stands there twice");
}

/* Only what is wanted is computed; a wish that comes later is fulfilled from the next batch on. */
static void wishes_come_later(void **state)
{
    (void)state;
    struct rig *rig = rig_new(NULL);
    rig_open(rig, &window_rolling, NULL, NULL);
    rig_ready(rig, 8 << 20);
    assert_int_equal(columns_want(rig->engine->columns, "count.purchase.1d"), -1);
    assert_string_equal(columns_nearest(rig->engine->columns, "count.purchase.28"), "count.purchase.28d");
    rig_event(rig, "u1", EVENT_PURCHASE, T0)->log_ms = T0;
    rig_run(rig);
    assert_int_equal(rig->batch.columns_n, 0);
    rig_want(rig, "count.purchase.24h");
    rig_want(rig, "time.day_sin");
    rig_want(rig, "time.week_cos");
    rig_clear(rig);
    rig_event(rig, "u1", EVENT_PURCHASE, INT64_C(1700028000000))->log_ms = T0 + DAY; /* a Wednesday, 06:00 UTC */
    rig_run(rig);
    assert_true(rig_column(rig, 0, "count.purchase.24h") == 2);
    assert_true(fabs(rig_column(rig, 0, "time.day_sin") - 1) < 1e-12);
    assert_true(fabs(rig_column(rig, 0, "time.week_cos") - cos(2 * M_PI * 2.25 / 7)) < 1e-12);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_as_the_ring_keeps_it),
        cmocka_unit_test(late_events),
        cmocka_unit_test(events_from_the_future),
        cmocka_unit_test(duplicates),
        cmocka_unit_test(erased_events_stay_away),
        cmocka_unit_test(dropped_events_are_passed_over),
        cmocka_unit_test(absurd_numbers),
        cmocka_unit_test(a_changed_configuration),
        cmocka_unit_test(no_room_for_tiles),
        cmocka_unit_test(wrong_options),
        cmocka_unit_test(wishes_come_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
