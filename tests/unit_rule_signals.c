// SPDX-License-Identifier: Apache-2.0
// unit_rule_signals.c - what rule_fraud knows of a user beyond the windows, signal by signal, and its section as bytes.
#include "support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct module rule_fraud;

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE };
#define T0 INT64_C(1700000000000)

static const char *const signals[] = {
    "travel.kmh", "travel.km", "device.new", "country.new", "amount.z", "login.failed_before_success",
    "click.regularity", "click.rate",
};

static struct rig *rig_with_signals(void)
{
    char path[] = "/tmp/gait-rules-XXXXXX";
    const char *at = path;
    int fd = mkstemp(path);
    static const char rules[] = "actions: {review: 1}\nrules: []\n";
    assert_true(fd >= 0 && write(fd, rules, sizeof rules - 1) == (ssize_t)sizeof rules - 1);
    close(fd);
    struct rig *rig = rig_new(NULL);
    void *conf = rig_conf(rig, &rule_fraud);
    rig_set(conf, &rule_fraud, "rules", &at, sizeof at);
    rig_open(rig, &rule_fraud, conf, NULL);
    unlink(path);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        rig_want(rig, signals[i]);
    rig_ready(rig, 4 << 20);
    return rig;
}

static struct event *next(struct rig *rig, int type, int64_t ts_ms)
{
    rig_clear(rig);
    return rig_event(rig, "u1", type, ts_ms);
}

static double value_of(struct rig *rig, const char *signal)
{
    rig_run(rig);
    return rig_column(rig, 0, signal);
}

/* ---- travel ------------------------------------------------------------------------------------------------- */

static double travel(struct rig *rig, double lat, double lon, int64_t ts_ms)
{
    struct event *event = next(rig, EVENT_LOGIN, ts_ms);
    event->has = HAS_PLACE;
    event->lat = lat;
    event->lon = lon;
    return value_of(rig, "travel.kmh");
}

static void travel_speed(void **state)
{
    (void)state;
    struct rig *rig = rig_with_signals();
    assert_true(travel(rig, 52.52, 13.405, T0) == -1);                    /* Berlin: nothing to compare with */
    double kmh = travel(rig, 40.7128, -74.006, T0 + HOUR);                /* New York, 6,385 km, an hour later */
    assert_true(fabs(kmh - 6385) < 10);
    assert_true(fabs(rig_column(rig, 0, "travel.km") - 6385) < 10);
    kmh = travel(rig, 52.52, 13.405, T0 + HOUR);                          /* at the same instant elsewhere: finite */
    assert_true(fabs(kmh - 6385.0 * 3600) < 40000);
    assert_true(fabs(travel(rig, 52.52, 13.405, T0 + 2 * HOUR)) < 0.01);  /* same place */
    next(rig, EVENT_LOGIN, T0 + 3 * HOUR);                                /* a login without a place */
    assert_true(value_of(rig, "travel.kmh") == -1);
    kmh = travel(rig, 40.7128, -74.006, T0 + 4 * HOUR);                   /* is passed over: two hours since the last */
    assert_true(fabs(kmh - 6385 / 2.0) < 5);
    next(rig, EVENT_PAGE_VIEW, T0 + 4 * HOUR)->has = HAS_PLACE;           /* only logins count */
    assert_true(value_of(rig, "travel.kmh") == -1);
    rig_free(&rig);
}

static void travel_across_poles_and_date_line(void **state)
{
    (void)state;
    struct rig *rig = rig_with_signals();
    travel(rig, 0, 179.9, T0);
    travel(rig, 0, -179.9, T0 + HOUR);
    assert_true(fabs(rig_column(rig, 0, "travel.km") - 22.24) < 0.1);
    travel(rig, 90, 0, T0 + 2 * HOUR);
    travel(rig, 90, 180, T0 + 3 * HOUR);
    assert_true(rig_column(rig, 0, "travel.km") < 0.01);
    travel(rig, -90, 0, T0 + 4 * HOUR);
    assert_true(fabs(rig_column(rig, 0, "travel.km") - 20015.1) < 1);
    rig_free(&rig);
}

/* A late login is compared with what is known, but the last place stays the newest one. */
static void a_late_login_does_not_move_back(void **state)
{
    (void)state;
    struct rig *rig = rig_with_signals();
    travel(rig, 52.52, 13.405, T0);
    assert_true(travel(rig, 40.7128, -74.006, T0 - HOUR) > 6000);
    assert_true(travel(rig, 52.52, 13.405, T0 + HOUR) < 0.01);
    rig_free(&rig);
}

/* ---- devices and countries ---------------------------------------------------------------------------------- */

static double device(struct rig *rig, const char *name, int64_t ts_ms)
{
    next(rig, EVENT_LOGIN, ts_ms)->device = str_of(name);
    return value_of(rig, "device.new");
}

static void new_devices(void **state)
{
    (void)state;
    struct rig *rig = rig_with_signals();
    assert_true(device(rig, "home", T0) == 0);              /* the first one is not new, or every user would be */
    assert_true(device(rig, NULL, T0) == 0);
    assert_true(device(rig, "phone", T0 + HOUR) == 1);
    assert_true(device(rig, "home", T0 + HOUR) == 0);
    assert_true(device(rig, "phone", T0 + 24 * HOUR) == 1); /* still new */
    rig_round_trip(rig, "u1");
    assert_true(device(rig, "phone", T0 + 25 * HOUR) == 0); /* a day after it was first seen */
    for (int i = 0; i < 8; i++) {
        char name[8];
        snprintf(name, sizeof name, "d%d", i);
        assert_true(device(rig, name, T0 + 26 * HOUR) == 1);
    }
    assert_true(device(rig, "home", T0 + 27 * HOUR) == 1);  /* eight others since: forgotten */
    rig_free(&rig);
}

static void new_countries(void **state)
{
    (void)state;
    struct rig *rig = rig_with_signals();
    static const struct { const char *country; double is_new; } visits[] = {
        {"DE", 0}, {"DE", 0}, {"FR", 1}, {"DE", 0}, {"US", 1},
    };
    for (size_t i = 0; i < sizeof visits / sizeof visits[0]; i++) {
        next(rig, EVENT_PURCHASE, T0 + (int64_t)i)->country = str_of(visits[i].country);
        assert_true(value_of(rig, "country.new") == visits[i].is_new);
    }
    rig_free(&rig);
}

/* ---- amounts ------------------------------------------------------------------------------------------------ */

static double z_of(struct rig *rig, double price)
{
    struct event *event = next(rig, EVENT_PURCHASE, T0);
    event->has = HAS_PRICE;
    event->price = price;
    return value_of(rig, "amount.z");
}

static void amounts_against_the_users_own(void **state)
{
    (void)state;
    struct rig *rig = rig_with_signals();
    static const double history[] = {20, 30, 25, 35, 40}; /* mean 30, standard deviation sqrt(50) */
    for (int i = 0; i < 5; i++)
        assert_true(z_of(rig, history[i]) == 0);
    assert_true(fabs(z_of(rig, 30 + 2 * sqrt(50)) - 2) < 1e-9);
    next(rig, EVENT_PURCHASE, T0);
    assert_true(value_of(rig, "amount.z") == 0); /* without a price there is nothing to say, nor to learn */
    rig_round_trip(rig, "u1");
    double first = z_of(rig, 5000), second = z_of(rig, 5000);
    assert_true(first > 100 && second > 20); /* one theft must not make the next look normal */
    rig_free(&rig);
}

static void who_always_pays_the_same(void **state)
{
    (void)state;
    struct rig *rig = rig_with_signals();
    for (int i = 0; i < 10; i++)
        z_of(rig, 100);
    assert_true(fabs(z_of(rig, 105) - 1) < 1e-6); /* 5 % of the mean counts as one standard deviation */
    struct event *event = next(rig, EVENT_PURCHASE, T0);
    event->has = HAS_PRICE | HAS_QUANTITY;
    event->price = 100;
    event->quantity = 3;
    assert_true(value_of(rig, "amount.z") > 10);
    rig_free(&rig);
}

/* ---- failed logins ------------------------------------------------------------------------------------------ */

static void failed_logins_before_one_that_succeeds(void **state)
{
    (void)state;
    struct rig *rig = rig_with_signals();
    static const int64_t failed[] = {0, 9 * MINUTE, 10 * MINUTE, 11 * MINUTE};
    for (int i = 0; i < 4; i++) {
        next(rig, EVENT_LOGIN_FAILED, T0 + failed[i]);
        assert_true(value_of(rig, "login.failed_before_success") == 0);
    }
    rig_round_trip(rig, "u1");
    next(rig, EVENT_LOGIN, T0 + 12 * MINUTE);
    assert_true(value_of(rig, "login.failed_before_success") == 3); /* the first is too long ago */
    next(rig, EVENT_LOGIN, T0 + 12 * MINUTE);
    assert_true(value_of(rig, "login.failed_before_success") == 0); /* they belong to the success before */
    for (int i = 0; i < 100; i++) {
        next(rig, EVENT_LOGIN_FAILED, T0 + 13 * MINUTE + i);
        rig_run(rig);
    }
    next(rig, EVENT_LOGIN, T0 + 14 * MINUTE);
    assert_true(value_of(rig, "login.failed_before_success") == 16);
    rig_free(&rig);
}

/* ---- clicks ------------------------------------------------------------------------------------------------- */

static void click(struct rig *rig, int64_t ts_ms)
{
    next(rig, EVENT_PRODUCT_VIEW, ts_ms);
    rig_run(rig);
}

static void machines_and_people(void **state)
{
    (void)state;
    struct rig *rig = rig_with_signals();
    int64_t t = T0;
    for (int i = 0; i < 12; i++) {
        click(rig, t += 3000 + i % 3 * 10);
        assert_true(rig_column(rig, 0, "click.regularity") == 0); /* too few gaps yet */
    }
    click(rig, t += 3000);
    assert_true(rig_column(rig, 0, "click.regularity") > 0.99);
    assert_true(fabs(rig_column(rig, 0, "click.rate") - 20) < 0.1);
    rig_round_trip(rig, "u1");
    next(rig, EVENT_IMPRESSION, t + 1);                           /* no click */
    assert_true(value_of(rig, "click.regularity") == 0);
    static const int64_t human[] = {900, 4000, 12000, 2500, 33000, 1200, 6000, 800, 21000, 3000, 700, 9000, 15000};
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 13; i++)
            click(rig, t += human[i]);
    assert_true(rig_column(rig, 0, "click.regularity") < 0.5);
    click(rig, t += HOUR);                                        /* a new visit begins from nothing */
    assert_true(rig_column(rig, 0, "click.rate") == 0);
    rig_free(&rig);
}

static void clicks_at_one_instant(void **state)
{
    (void)state;
    struct rig *rig = rig_with_signals();
    for (int i = 0; i < 40; i++)
        click(rig, T0);
    assert_true(rig_column(rig, 0, "click.regularity") == 0);
    assert_true(isfinite(rig_column(rig, 0, "click.rate")) && rig_column(rig, 0, "click.rate") > 1000);
    click(rig, T0 - MINUTE); /* late: no gap can be told */
    assert_true(rig_column(rig, 0, "click.rate") > 1000);
    rig_free(&rig);
}

/* ---- record ------------------------------------------------------------------------------------------------- */

static uint64_t draw(uint64_t *seed, uint64_t below)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return (*seed >> 11) % below;
}

static void random_event(struct rig *rig, uint64_t *seed, int64_t t)
{
    static const char *const words[] = {"a", "b", "c", "d", "e", "f"};
    struct event *event = next(rig, (int)draw(seed, EVENT_TYPES_BUILTIN), t);
    event->device = str_of(words[draw(seed, 6)]);
    event->country = str_of(words[draw(seed, 6)]);
    event->has = draw(seed, 2) ? HAS_PRICE | HAS_PLACE : 0;
    event->price = (double)draw(seed, 10000) / 100;
    event->lat = (double)draw(seed, 180) - 90;
    event->lon = (double)draw(seed, 360) - 180;
}

static void a_loaded_record_goes_on_bit_for_bit(void **state)
{
    (void)state;
    struct rig *a = rig_with_signals(), *b = rig_with_signals();
    uint64_t seeds[2] = {77, 77};
    int64_t t = T0;
    for (int i = 0; i < 3000; i++) {
        t += (i * 7919) % 13 ? (i * 31) % 40 * SECOND : -(i % 5) * MINUTE;
        random_event(a, &seeds[0], t);
        random_event(b, &seeds[1], t);
        rig_run(a);
        rig_run(b);
        assert_memory_equal(batch_row(&a->batch, 0), batch_row(&b->batch, 0), a->batch.columns_n * sizeof(double));
        rig_round_trip(b, "u1");
    }
    rig_free(&a);
    rig_free(&b);
}

static void damaged_records(void **state)
{
    (void)state;
    struct rig *rig = rig_with_signals();
    struct instance *in = &rig->engine->instances[0];
    uint64_t seed = 3;
    for (int i = 0; i < 200; i++) {
        random_event(rig, &seed, T0 + i * SECOND);
        rig_run(rig);
    }
    uint8_t whole[2048], bytes[2048];
    struct record_io out = {.at = whole, .end = whole + sizeof whole, .writing = true, .version = 1};
    rule_fraud.record(in, rig_user(rig, "u1"), &out);
    assert_false(out.failed);
    size_t n = (size_t)(out.at - whole);
    for (int round = 0; round < 20000; round++) {
        struct user *user = rig_user(rig, "u1");
        size_t cut = draw(&seed, 3) == 0 ? draw(&seed, n) : n;
        memcpy(bytes, whole, n);
        for (uint64_t flips = draw(&seed, 4); flips > 0; flips--)
            bytes[draw(&seed, n)] = (uint8_t)draw(&seed, 256);
        memset(user_section(user, in->user_offset), 0, in->user_size);
        struct record_io back = {.at = bytes, .end = bytes + cut, .version = 1};
        rule_fraud.record(in, user, &back);
        assert_true(cut == n || back.failed);
        if (back.failed)
            continue;
        random_event(rig, &seed, T0 + HOUR);
        rig_run(rig);
    }
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(travel_speed),
        cmocka_unit_test(travel_across_poles_and_date_line),
        cmocka_unit_test(a_late_login_does_not_move_back),
        cmocka_unit_test(new_devices),
        cmocka_unit_test(new_countries),
        cmocka_unit_test(amounts_against_the_users_own),
        cmocka_unit_test(who_always_pays_the_same),
        cmocka_unit_test(failed_logins_before_one_that_succeeds),
        cmocka_unit_test(machines_and_people),
        cmocka_unit_test(clicks_at_one_instant),
        cmocka_unit_test(a_loaded_record_goes_on_bit_for_bit),
        cmocka_unit_test(damaged_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
