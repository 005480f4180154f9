// SPDX-License-Identifier: Apache-2.0
// unit_rule_fraud.c - rules, actions and alerts of rule_fraud, behind the real windows; reloading. The signals are in
// unit_rule_signals.c, mistakes in rules files in unit_rule_parse.c.
#include "support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct module window_rolling, rule_fraud;

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE };
#define T0 INT64_C(1700000000000)

struct shop {
    struct rig *rig;
    char folder[64];
    char *path; /* the module keeps the pointer */
};

/* By rename, as editors do it. */
static void write_rules(const struct shop *shop, const char *text)
{
    char next[128];
    snprintf(next, sizeof next, "%s.next", shop->path);
    FILE *file = fopen(next, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(next, shop->path), 0);
}

static struct shop shop_with(const char *rules)
{
    struct shop shop = {.rig = rig_new(NULL), .folder = "/tmp/gait-rules-XXXXXX"};
    assert_non_null(mkdtemp(shop.folder));
    assert_true(asprintf(&shop.path, "%s/rules.yaml", shop.folder) > 0);
    write_rules(&shop, rules);
    void *conf = rig_conf(shop.rig, &rule_fraud);
    rig_set(conf, &rule_fraud, "rules", &shop.path, sizeof shop.path);
    rig_open(shop.rig, &window_rolling, NULL, NULL);
    rig_open(shop.rig, &rule_fraud, conf, NULL);
    rig_ready(shop.rig, 4 << 20);
    return shop;
}

static void shop_free(struct shop *shop)
{
    rig_free(&shop->rig);
    unlink(shop->path);
    rmdir(shop->folder);
    free(shop->path);
}

static struct event *give(struct shop *shop, int type, int64_t ts_ms)
{
    struct event *event = rig_event(shop->rig, "u1", type, ts_ms);
    event->log_ms = ts_ms;
    return event;
}

/* Run one event alone; its alert or NULL. */
static const struct alert *alert_of(struct shop *shop, int type, int64_t ts_ms)
{
    rig_clear(shop->rig);
    give(shop, type, ts_ms);
    rig_run(shop->rig);
    return shop->rig->batch.alerts_n ? &shop->rig->batch.alerts[0] : NULL;
}

static double fired(const struct shop *shop, const char *rule)
{
    return metric_cell(shop->rig->engine->metrics, "gait_rule_fired_total", rule)->value;
}

static const char velocity[] =
    "actions: {review: 5, block: 10}\n"
    "rules:\n"
    "  - {name: fast, on: purchase, when: count.purchase.5m >= 3, weight: 6, text: '{value} of {threshold}, {user}'}\n"
    "  - {name: faster, on: purchase, when: [count.purchase.5m >= 5], weight: 4.5}\n";

static void an_alert_says_why(void **state)
{
    (void)state;
    struct shop shop = shop_with(velocity);
    static const char *const ids[] = {"e-1", "e-2", "e-3", "e-4", "e-5"};
    for (int i = 0; i < 5; i++)
        give(&shop, EVENT_PURCHASE, T0 + i * SECOND)->event_id = str_of(ids[i]);
    give(&shop, EVENT_PAGE_VIEW, T0 + 5 * SECOND);
    rig_run(shop.rig);
    const struct batch *b = &shop.rig->batch;
    static const float risk[] = {0, 0, 6, 6, 10.5f, 0};
    for (int i = 0; i < 6; i++)
        assert_true(b->risk[i] == risk[i]);
    assert_int_equal(b->alerts_n, 3);
    const struct alert *a = &b->alerts[0];
    assert_int_equal(a->event, 2);
    assert_string_equal(a->action, "review");
    assert_true(a->score == 6 && a->n == 1);
    assert_string_equal(a->symbols[0].name, "fast");
    assert_true(a->symbols[0].weight == 6 && a->symbols[0].value == 3 && a->symbols[0].threshold == 3);
    assert_string_equal(a->symbols[0].text, "3 of 3, u1");
    assert_int_equal(a->n_event_ids, 1);
    assert_true(str_is(a->event_ids[0], "e-3"));
    a = &b->alerts[2];
    assert_string_equal(a->action, "block");
    assert_int_equal(a->n, 2);
    assert_string_equal(a->symbols[1].name, "faster");
    assert_string_equal(a->symbols[1].text, "faster"); /* a rule without text speaks by its name */
    assert_true(rig_metric(shop.rig, "gait_alerts_total") == 3);
    assert_true(fired(&shop, "fast") == 3 && fired(&shop, "faster") == 1);
    shop_free(&shop);
}

/* The id depends on where the event stands in the log and on the rules, not on the batch. */
static void alert_ids_are_repeatable(void **state)
{
    (void)state;
    uint64_t ids[2][3];
    for (int round = 0; round < 2; round++) {
        struct shop shop = shop_with(velocity);
        for (int i = 0; i < 5; i++) {
            const struct alert *a = alert_of(&shop, EVENT_PURCHASE, T0 + i * SECOND);
            if (i >= 2)
                ids[round][i - 2] = a->id;
        }
        assert_int_equal(shop.rig->batch.alerts[0].n_event_ids, 0);
        shop_free(&shop);
    }
    assert_memory_equal(ids[0], ids[1], sizeof ids[0]);
    assert_true(ids[0][0] != ids[0][1] && ids[0][1] != ids[0][2]);
}

static void replayed_events_alert_silently(void **state)
{
    (void)state;
    struct shop shop = shop_with("actions: {review: 1}\nrules: [{name: all, when: event.price >= 0, weight: 1}]\n");
    give(&shop, EVENT_PURCHASE, T0)->silent = true;
    give(&shop, EVENT_PURCHASE, T0)->verdict = EVENT_BAD_JSON;
    rig_run(shop.rig);
    assert_int_equal(shop.rig->batch.alerts_n, 1); /* the sinks pass it over; the state is the same */
    assert_true(rig_metric(shop.rig, "gait_alerts_total") == 0);
    assert_true(shop.rig->batch.risk[1] == 0);
    shop_free(&shop);
}

static void lists_and_negative_weights(void **state)
{
    (void)state;
    struct shop shop = shop_with(
        "actions: {review: 5}\n"
        "rules:\n"
        "  - {name: any, when: event.price >= 0, weight: 5}\n"
        "  - {name: office, when: ip in offices, weight: -5}\n"
        "  - {name: stranger, when: [user not in staff, device in caught], weight: 3, text: 'caught: {value}'}\n"
        "lists: {offices: [192.0.2.1, 192.0.2.2], staff: u2, caught: [d9], nobody: []}\n");
    give(&shop, EVENT_PURCHASE, T0);
    struct event *office = give(&shop, EVENT_PURCHASE, T0);
    office->ip = str_of("192.0.2.2");
    struct event *caught = give(&shop, EVENT_PURCHASE, T0);
    caught->device = str_of("d9");
    rig_run(shop.rig);
    const struct batch *b = &shop.rig->batch;
    assert_true(b->risk[0] == 5 && b->risk[1] == 0 && b->risk[2] == 8);
    assert_int_equal(b->alerts_n, 2);
    assert_true(isnan(b->alerts[1].symbols[1].value)); /* a list measures nothing */
    shop_free(&shop);
}

static void a_rule_in_shadow_only_counts(void **state)
{
    (void)state;
    struct shop shop = shop_with("actions: {review: 1}\n"
                                 "rules: [{name: s, when: event.price >= 0, weight: 9, shadow: true}]\n");
    assert_null(alert_of(&shop, EVENT_PURCHASE, T0));
    assert_true(shop.rig->batch.risk[0] == 0);
    assert_true(rig_metric(shop.rig, "gait_rule_shadow_fired_total") == 1);
    assert_true(rig_metric(shop.rig, "gait_rule_fired_total") == 0);
    shop_free(&shop);
}

/* Within the quiet time only an alert that says more gets through; afterwards it speaks again. */
static void quiet_time(void **state)
{
    (void)state;
    struct shop shop = shop_with(
        "actions: {review: 5, block: 10}\n"
        "quiet: 10m\n"
        "rules:\n"
        "  - {name: buys, on: purchase, when: event.price >= 0, weight: 5}\n"
        "  - {name: leaves, on: logout, when: event.price >= 0, weight: 12}\n");
    assert_string_equal(alert_of(&shop, EVENT_PURCHASE, T0)->action, "review");
    assert_null(alert_of(&shop, EVENT_PURCHASE, T0 + MINUTE));
    rig_round_trip(shop.rig, "u1");
    assert_null(alert_of(&shop, EVENT_PURCHASE, T0 + 10 * MINUTE - 1));
    assert_true(rig_metric(shop.rig, "gait_alerts_quiet_total") == 2);
    assert_string_equal(alert_of(&shop, EVENT_LOGOUT, T0 + 10 * MINUTE - 1)->action, "block");
    assert_null(alert_of(&shop, EVENT_PURCHASE, T0 + 15 * MINUTE));
    assert_string_equal(alert_of(&shop, EVENT_PURCHASE, T0 + 20 * MINUTE)->action, "review");
    shop_free(&shop);
}

static void more_symbols_than_fit(void **state)
{
    (void)state;
    char text[8192] = "actions: {review: 1}\nrules:\n";
    for (int i = 0; i < ALERT_SYMBOLS_MAX + 6; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "  - {name: r%d, when: gap < 1e9, weight: 1}\n", i);
    struct shop shop = shop_with(text);
    const struct alert *a = alert_of(&shop, EVENT_SEARCH, T0);
    assert_true(a->score == ALERT_SYMBOLS_MAX + 6);
    assert_int_equal(a->n, ALERT_SYMBOLS_MAX);
    shop_free(&shop);
}

static void long_texts_are_cut(void **state)
{
    (void)state;
    char text[2048] = "actions: {review: 1}\nrules: [{name: r, when: gap < 0, weight: 1, text: '";
    for (int i = 0; i < 90; i++)
        strcat(text, "{value} {user} ");
    strcat(text, "'}]\n");
    struct shop shop = shop_with(text);
    const struct alert *a = alert_of(&shop, EVENT_SEARCH, T0);
    assert_true(strlen(a->symbols[0].text) < 512);
    assert_int_equal(strncmp(a->symbols[0].text, "-1 u1 -1 u1 ", 12), 0);
    shop_free(&shop);
}

/* ---- reloading ---------------------------------------------------------------------------------------------- */

static void reloads_when_the_file_changes(void **state)
{
    (void)state;
    struct shop shop = shop_with(velocity);
    rig_tick(shop.rig);
    assert_true(rig_metric(shop.rig, "gait_rule_reloads_total") == 0);
    write_rules(&shop, "actions: {stop: 1}\nrules: [{name: views, when: count.page_view.1h >= 2, weight: 2}]\n");
    assert_null(alert_of(&shop, EVENT_PAGE_VIEW, T0));
    rig_tick(shop.rig); /* wants a column that nobody wanted before */
    const struct alert *a = alert_of(&shop, EVENT_PAGE_VIEW, T0);
    assert_non_null(a);
    assert_string_equal(a->action, "stop");
    assert_true(a->symbols[0].value == 2);
    assert_true(metric_cell(shop.rig->engine->metrics, "gait_rule_reloads_total", "ok")->value == 1);
    assert_true(rig_metric(shop.rig, "gait_rules") == 1);
    shop_free(&shop);
}

static void a_wrong_file_changes_nothing(void **state)
{
    (void)state;
    struct shop shop = shop_with(velocity);
    write_rules(&shop, "actions: {stop: 1}\nrules: [{name: a, when: gap < 0, weight: 1}, {name: b, when: nonsense}]\n");
    rig_tick(shop.rig);
    rig_tick(shop.rig); /* and it is not tried again until it changes */
    assert_true(metric_cell(shop.rig->engine->metrics, "gait_rule_reloads_total", "refused")->value == 1);
    alert_of(&shop, EVENT_PURCHASE, T0);
    alert_of(&shop, EVENT_PURCHASE, T0);
    assert_string_equal(alert_of(&shop, EVENT_PURCHASE, T0)->symbols[0].name, "fast");
    unlink(shop.path);
    rig_tick(shop.rig);
    assert_non_null(alert_of(&shop, EVENT_PURCHASE, T0));
    write_rules(&shop, velocity);
    rig_tick(shop.rig);
    assert_true(metric_cell(shop.rig->engine->metrics, "gait_rule_reloads_total", "ok")->value == 1);
    shop_free(&shop);
}

/* ---- the shipped rules -------------------------------------------------------------------------------------- */

/* conf/rules.yaml, which the tests find from the repository's root. */
static void the_shipped_rules(void **state)
{
    (void)state;
    struct rig *rig = rig_new(NULL);
    const char *path = "conf/rules.yaml";
    void *conf = rig_conf(rig, &rule_fraud);
    rig_set(conf, &rule_fraud, "rules", &path, sizeof path);
    rig_open(rig, &window_rolling, NULL, NULL);
    rig_open(rig, &rule_fraud, conf, NULL);
    rig_ready(rig, 4 << 20);
    for (int i = 0; i < 6; i++)
        rig_event(rig, "thief", EVENT_LOGIN_FAILED, T0 + i * 4 * SECOND)->log_ms = T0 + HOUR;
    rig_event(rig, "thief", EVENT_LOGIN, T0 + MINUTE)->log_ms = T0 + HOUR;
    for (int i = 0; i < 30; i++)
        rig_event(rig, "machine", EVENT_PRODUCT_VIEW, T0 + i * 2 * SECOND)->log_ms = T0 + HOUR;
    for (int i = 0; i < 12; i++)
        rig_event(rig, "person", EVENT_PRODUCT_VIEW, T0 + i * i * i * SECOND)->log_ms = T0 + HOUR;
    rig_run(rig);
    bool thief = false, machine = false;
    for (uint32_t i = 0; i < rig->batch.alerts_n; i++) {
        const struct alert *a = &rig->batch.alerts[i];
        struct str user = rig->batch.events[a->event].user;
        assert_false(str_is(user, "person"));
        for (uint32_t k = 0; k < a->n; k++) {
            thief |= strcmp(a->symbols[k].name, "failed_logins_5m") == 0;
            machine |= strcmp(a->symbols[k].name, "regular_clicks") == 0;
        }
    }
    assert_true(thief && machine);
    assert_true(fabs(rig->batch.risk[6] - 5) < 1e-6); /* the login that succeeded at last */
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_alert_says_why),
        cmocka_unit_test(alert_ids_are_repeatable),
        cmocka_unit_test(replayed_events_alert_silently),
        cmocka_unit_test(lists_and_negative_weights),
        cmocka_unit_test(a_rule_in_shadow_only_counts),
        cmocka_unit_test(quiet_time),
        cmocka_unit_test(more_symbols_than_fit),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(reloads_when_the_file_changes),
        cmocka_unit_test(a_wrong_file_changes_nothing),
        cmocka_unit_test(the_shipped_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
