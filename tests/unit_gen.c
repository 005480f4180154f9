// SPDX-License-Identifier: Apache-2.0
// unit_gen.c - the generated shop: the same seed gives the same bytes, events are valid and in order of time, and the
// world they show has the properties that models, rules and benchmarks count on.
#include "shop.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include <cmocka.h>

static const struct shop_conf day = {
    .users = 2000, .events = 120000, .seed = 1, .start_ms = 1763942400000, .rate = 120000 / 86400.0, .fraud = 0.001,
};

/* All events of a run, and its labels. */
struct run {
    struct shop_event *events;
    size_t n, labels;
    size_t by_scenario[4];
};

static size_t event_of_id(const struct run *run, uint64_t id)
{
    for (size_t i = 0; i <= run->n; i++) /* the event being told counts too */
        if (run->events[i].id == id)
            return i;
    fail_msg("a label names event %016llx, which does not exist", (unsigned long long)id);
    return 0;
}

static void check_label(void *self, const struct shop_label *label)
{
    static const char *const names[] = {"take_over", "card_testing", "bot", "impossible_travel"};
    struct run *run = self;
    assert_true(label->n > 0);
    size_t first = event_of_id(run, label->event_ids[0]), last = event_of_id(run, label->event_ids[label->n - 1]);
    assert_int_equal(run->events[first].ts_ms, label->first_ms);
    assert_int_equal(run->events[last].ts_ms, label->last_ms);
    for (size_t i = 0; i < label->n; i++)
        assert_int_equal(run->events[event_of_id(run, label->event_ids[i])].user, label->user);
    for (size_t i = 0; i < 4; i++)
        run->by_scenario[i] += strcmp(names[i], label->scenario) == 0;
    run->labels++;
}

static struct run run_shop(const struct shop_conf *conf)
{
    struct run run = {.events = calloc(conf->events + 1, sizeof *run.events)};
    struct shop *shop = shop_create(conf, check_label, &run);
    while (shop_next(shop, &run.events[run.n]))
        run.n++;
    shop_destroy(&shop);
    assert_null(shop);
    return run;
}

static XXH64_hash_t hash_of(struct shop_conf conf, uint64_t events)
{
    char line[SHOP_JSON_MAX];
    struct shop_event event;
    XXH3_state_t *state = XXH3_createState();
    XXH3_64bits_reset(state);
    struct shop *shop = shop_create(&conf, NULL, NULL);
    for (uint64_t i = 0; i < events; i++) {
        assert_true(shop_next(shop, &event));
        XXH3_64bits_update(state, line, shop_event_json(&event, line));
    }
    shop_destroy(&shop);
    XXH64_hash_t hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return hash;
}

/* Pinned: recorded commands (the demo's model) and other people's figures depend on these bytes. */
static void same_seed_same_bytes(void **unused)
{
    (void)unused;
    struct shop_conf other = day;
    other.seed = 2;
    assert_int_equal(hash_of(day, 10000), UINT64_C(0xa7cb2aedde21813d));
    assert_int_equal(hash_of(day, 10000), hash_of(day, 10000));
    assert_int_not_equal(hash_of(day, 10000), hash_of(other, 10000));
}

static void in_order_of_time_and_on_time(void **unused)
{
    (void)unused;
    struct run run = run_shop(&day);
    assert_int_equal(run.n, day.events);
    assert_true(run.events[0].ts_ms >= day.start_ms);
    for (size_t i = 1; i < run.n; i++)
        assert_true(run.events[i].ts_ms >= run.events[i - 1].ts_ms);
    double hours = (double)(run.events[run.n - 1].ts_ms - day.start_ms) / 3600e3;
    assert_true(hours > 24 * 0.85 && hours < 24 * 1.15);
    free(run.events);
}

/* Where people cannot click as fast as asked they are sped up, and the rate is met all the same. */
static void meets_a_rate_beyond_people(void **unused)
{
    (void)unused;
    struct shop_conf conf = day;
    conf.users = 5000;
    conf.rate = 1000;
    struct run run = run_shop(&conf);
    double seconds = (double)(run.events[run.n - 1].ts_ms - day.start_ms) / 1000;
    assert_true(seconds > 120 * 0.85 && seconds < 120 * 1.15);
    free(run.events);
}

static void steady_load_is_due_exactly(void **unused)
{
    (void)unused;
    struct shop_conf conf = day;
    conf.events = 5000;
    conf.rate = 250;
    conf.even = true;
    struct run run = run_shop(&conf);
    for (size_t i = 0; i < run.n; i++)
        assert_int_equal(run.events[i].ts_ms, conf.start_ms + (int64_t)i * 4);
    free(run.events);
}

static const char *text_of(json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    assert_true(json_is_string(value));
    assert_true(json_string_length(value) > 0);
    return json_string_value(value);
}

static void check_json(const struct shop_event *event)
{
    char line[SHOP_JSON_MAX], id[SHOP_ID_MAX + 1], user[SHOP_USER_MAX + 1];
    size_t len = shop_event_json(event, line);
    assert_int_equal(line[len - 1], '\n');
    json_t *o = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(o);
    id[shop_event_id(event->id, id)] = '\0';
    user[shop_user_name(event->user, user)] = '\0';
    assert_string_equal(text_of(o, "event_id"), id);
    assert_string_equal(text_of(o, "user_id"), user);
    assert_int_equal(json_integer_value(json_object_get(o, "ts")), event->ts_ms);
    text_of(o, "type"), text_of(o, "session_id"), text_of(o, "currency"), text_of(o, "ip"), text_of(o, "device_id");
    text_of(o, "page");
    assert_int_equal(strlen(text_of(o, "country")), 2);
    assert_true(fabs(json_number_value(json_object_get(o, "lat")) - event->lat_e4 * 1e-4) < 1e-9);
    assert_true(fabs(json_number_value(json_object_get(o, "lon")) - event->lon_e4 * 1e-4) < 1e-9);
    assert_true(json_is_boolean(json_object_get(o, "consent")));
    if (event->price_cents != SHOP_NONE) {
        assert_true(fabs(json_number_value(json_object_get(o, "price")) - (double)event->price_cents * 0.01) < 1e-9);
        assert_true(json_integer_value(json_object_get(o, "quantity")) >= 1);
        text_of(o, "item_id"), text_of(o, "category");
    }
    json_decref(o);
}

static void every_line_is_valid(void **unused)
{
    (void)unused;
    struct run run = run_shop(&day);
    bool types[EVENT_TYPES_BUILTIN] = {false};
    for (size_t i = 0; i < run.n; i++) {
        types[run.events[i].type] = true;
        if (i % 7 == 0)
            check_json(&run.events[i]);
    }
    for (int i = 0; i < EVENT_TYPES_BUILTIN; i++)
        assert_true(types[i]); /* a day has some of each */
    free(run.events);
}

static int by_session(const void *a, const void *b)
{
    const struct shop_event *x = a, *y = b;
    if (x->session != y->session)
        return x->session < y->session ? -1 : 1;
    return (x->ts_ms > y->ts_ms) - (x->ts_ms < y->ts_ms);
}

/* Fewer sessions at each step of the funnel, and figures that a shop would recognise. */
static void the_funnel_narrows(void **unused)
{
    (void)unused;
    static const enum event_type funnel[] = {EVENT_PRODUCT_VIEW, EVENT_ADD_TO_CART, EVENT_CHECKOUT, EVENT_PURCHASE};
    struct shop_conf honest = day;
    honest.fraud = 0;
    struct run run = run_shop(&honest);
    assert_int_equal(run.labels, 0);
    qsort(run.events, run.n, sizeof *run.events, by_session);
    double sessions = 0, reached[4] = {0}, ms = 0;
    for (size_t i = 0, end; i < run.n; i = end, sessions++) {
        bool seen[EVENT_TYPES_BUILTIN] = {false};
        for (end = i; end < run.n && run.events[end].session == run.events[i].session; end++)
            seen[run.events[end].type] = true;
        ms += (double)(run.events[end - 1].ts_ms - run.events[i].ts_ms);
        for (int s = 0; s < 4; s++)
            reached[s] += seen[funnel[s]];
    }
    for (int s = 1; s < 4; s++)
        assert_true(reached[s] < reached[s - 1] * 0.85);
    assert_true(reached[3] > sessions * 0.02 && reached[3] < sessions * 0.12);
    /* What the pace is computed from: SESSION_EVENTS, SESSION_MS. */
    assert_true(fabs((double)run.n / sessions - 8.2) < 0.4);
    assert_true(fabs(ms / sessions - 115e3) < 10e3);
    free(run.events);
}

/* Items within a category follow Zipf's law: slope -1 in the log-log plot, by least squares over the first 40 ranks. */
static void items_follow_zipf(void **unused)
{
    (void)unused;
    enum { RANKS = 40 };
    struct shop_conf conf = day;
    conf.fraud = 0;
    struct run run = run_shop(&conf);
    double count[RANKS] = {0}, sx = 0, sy = 0, sxx = 0, sxy = 0;
    for (size_t i = 0; i < run.n; i++)
        if (run.events[i].type == EVENT_PRODUCT_VIEW && run.events[i].item % SHOP_ITEMS_PER_CATEGORY < RANKS)
            count[run.events[i].item % SHOP_ITEMS_PER_CATEGORY]++;
    for (int r = 0; r < RANKS; r++) {
        double x = log(r + 1), y = log(count[r]);
        sx += x, sy += y, sxx += x * x, sxy += x * y;
    }
    double slope = (RANKS * sxy - sx * sy) / (RANKS * sxx - sx * sx);
    assert_true(slope > -1.15 && slope < -0.85);
    free(run.events);
}

static uint32_t best_of(const double *count)
{
    uint32_t best = 0;
    for (uint32_t c = 1; c < SHOP_CATEGORIES; c++)
        if (count[c] > count[best])
            best = c;
    return best;
}

/* What comes next depends on what was, so a model has something to learn; popularity alone is a poor guess. The last
 * category but one (which a Markov chain cannot see) helps further. */
static void the_next_category_can_be_learned(void **unused)
{
    (void)unused;
    enum { C = SHOP_CATEGORIES };
    struct run run = run_shop(&day);
    int32_t *last = malloc(2 * day.users * sizeof *last);
    double *pop = calloc(C, sizeof *pop), *one = calloc(C * C, sizeof *one), *two = calloc(C * C * C, sizeof *two);
    double n = 0, hit_pop = 0, hit_one = 0, hit_two = 0;
    memset(last, 0xff, 2 * day.users * sizeof *last);
    for (size_t i = 0; i < run.n; i++) {
        const struct shop_event *e = &run.events[i];
        int32_t *was = last + 2 * e->user;
        if (e->category == SHOP_NONE)
            continue;
        if (was[1] >= 0) {
            double *row = one + was[0] * C, *deep = two + (was[1] * C + was[0]) * C;
            if (i > run.n / 2) {
                n++;
                hit_pop += best_of(pop) == (uint32_t)e->category;
                hit_one += best_of(row) == (uint32_t)e->category;
                hit_two += best_of(deep) == (uint32_t)e->category;
            }
            pop[e->category]++, row[e->category]++, deep[e->category]++;
        }
        was[1] = was[0];
        was[0] = e->category;
    }
    assert_true(hit_pop / n < 0.15);
    assert_true(hit_one > 3 * hit_pop);
    assert_true(hit_two > 1.05 * hit_one);
    free(last), free(pop), free(one), free(two), free(run.events);
}

static void frauds_are_labelled(void **unused)
{
    (void)unused;
    struct shop_conf conf = day;
    conf.users = 300;
    conf.events = 20000;
    conf.fraud = 0.02;
    struct run run = run_shop(&conf);
    for (int i = 0; i < 4; i++)
        assert_true(run.by_scenario[i] > 0);
    free(run.events);
}

static void skew_puts_the_load_on_few(void **unused)
{
    (void)unused;
    struct shop_conf conf = day;
    conf.skew = true;
    conf.users = 10000;
    struct run run = run_shop(&conf);
    double busy = 0;
    for (size_t i = 0; i < run.n; i++)
        busy += run.events[i].user % 50 == 0;
    assert_true(busy / (double)run.n > 0.85 && busy / (double)run.n < 0.93);
    free(run.events);
}

/* More people click in the evening than at night, by their own clocks. */
static void days_have_a_rhythm(void **unused)
{
    (void)unused;
    struct run run = run_shop(&day);
    double night = 0, evening = 0;
    for (size_t i = 0; i < run.n; i++) {
        if (strcmp(run.events[i].country, "DE") != 0)
            continue;
        int64_t hour = (run.events[i].ts_ms / 3600000 + 1) % 24;
        night += hour >= 2 && hour < 5;
        evening += hour >= 19 && hour < 22;
    }
    assert_true(evening > 8 * night && night > 0);
    free(run.events);
}

static void one_customer_is_enough(void **unused)
{
    (void)unused;
    struct shop_conf conf = {.users = 1, .events = 2000, .seed = 9, .start_ms = SHOP_START_MIN, .rate = 5, .fraud = 1};
    struct run run = run_shop(&conf);
    assert_int_equal(run.n, 2000);
    assert_true(run.labels > 0);
    free(run.events);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_seed_same_bytes),
        cmocka_unit_test(in_order_of_time_and_on_time),
        cmocka_unit_test(meets_a_rate_beyond_people),
        cmocka_unit_test(steady_load_is_due_exactly),
        cmocka_unit_test(every_line_is_valid),
        cmocka_unit_test(the_funnel_narrows),
        cmocka_unit_test(items_follow_zipf),
        cmocka_unit_test(the_next_category_can_be_learned),
        cmocka_unit_test(frauds_are_labelled),
        cmocka_unit_test(skew_puts_the_load_on_few),
        cmocka_unit_test(days_have_a_rhythm),
        cmocka_unit_test(one_customer_is_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
