// SPDX-License-Identifier: Apache-2.0
// unit_window.c - window_rolling against an oracle that keeps every event and counts them one by one, also across
// record round trips; earlier moments; damaged records. The verdicts and options are in unit_window_rolling.c.
#include "support.h"

#include "gait/window.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

extern const struct module window_rolling;

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR, TILES = 24, UNIT = 10000 };
#define T0 INT64_C(1700000000000)

static const int64_t durations[] = {5 * MINUTE, HOUR, DAY, INT64_C(7) * DAY, INT64_C(28) * DAY};
static const char *const names[] = {"5m", "1h", "24h", "7d", "28d"};
enum { WINDOWS = 5 };

static struct rig *rig_with(int64_t ring, int64_t ids)
{
    static const char *const more[] = {"wishlist", NULL};
    struct rig *rig = rig_new(more);
    void *conf = rig_conf(rig, &window_rolling);
    rig_set_int(conf, &window_rolling, "ring", ring);
    rig_set_int(conf, &window_rolling, "event_ids", ids);
    rig_set_int(conf, &window_rolling, "lateness", 2 * HOUR);
    static const char *sums[] = {"purchase", "add_to_cart"};
    rig_set_list(conf, &window_rolling, "sum_types", sums, 2);
    rig_open(rig, &window_rolling, conf, NULL);
    for (uint32_t i = 0; i < columns_count(rig->engine->columns); i++)
        columns_want(rig->engine->columns, columns_name(rig->engine->columns, i));
    rig_ready(rig, 8 << 20);
    return rig;
}

/* ---- the oracle ----------------------------------------------------------------------------------------------- */

struct past_event {
    int64_t ts;
    int type;
    int64_t amount;  /* 1/10,000 */
    double quantity;
    int category, session; /* 0 = none */
    bool beyond;     /* came so late that the ring had already moved past it */
};

struct oracle {
    struct past_event *at; /* in order of time, equal times in order of arrival */
    size_t n;
    size_t ring;
};

static int64_t newest(const struct oracle *o)
{
    return o->at[o->n - 1].ts;
}

/* The time of the oldest event in the ring, INT64_MIN as long as it holds everything. */
static int64_t ring_reach(const struct oracle *o)
{
    size_t seen = 0;
    for (size_t i = o->n; i-- > 0;)
        if (!o->at[i].beyond && ++seen == o->ring)
            return o->at[i].ts;
    return INT64_MIN;
}

static size_t oracle_add(struct oracle *o, struct past_event e)
{
    e.beyond = o->n > 0 && e.ts < ring_reach(o);
    size_t at = o->n;
    while (at > 0 && o->at[at - 1].ts > e.ts)
        at--;
    memmove(&o->at[at + 1], &o->at[at], (o->n - at) * sizeof *o->at);
    o->at[at] = e;
    o->n++;
    return at;
}

static double oracle_count(const struct oracle *o, int type, int64_t from, int64_t to)
{
    double n = 0;
    for (size_t i = 0; i < o->n; i++)
        n += o->at[i].ts > from && o->at[i].ts <= to && (type < 0 || o->at[i].type == type);
    return n;
}

static double oracle_sum(const struct oracle *o, int type, int64_t from, int64_t to)
{
    int64_t sum = 0;
    for (size_t i = 0; i < o->n; i++)
        if (o->at[i].ts > from && o->at[i].ts <= to && o->at[i].type == type)
            sum += o->at[i].amount;
    return (double)sum / UNIT;
}

static int oracle_distinct(const struct oracle *o, int64_t from, int64_t to)
{
    bool seen[64] = {false};
    int n = 0;
    for (size_t i = 0; i < o->n; i++) {
        if (o->at[i].ts <= from || o->at[i].ts > to || o->at[i].category == 0 || seen[o->at[i].category])
            continue;
        seen[o->at[i].category] = true;
        n++;
    }
    return n;
}

static void check_window(const struct rig *rig, uint32_t i, const struct oracle *o, int k)
{
    const struct event_types *types = &rig->engine->types;
    int64_t t = newest(o), edge = t - durations[k], reach = ring_reach(o);
    bool exact = reach <= edge;
    int64_t loose = edge - (exact ? 0 : durations[k] / TILES);
    for (int type = -1; type < (int)types->n; type++) {
        char name[64];
        snprintf(name, sizeof name, "count.%s.%s", type < 0 ? "all" : types->name[type], names[k]);
        double got = rig_column(rig, i, name);
        if (got < oracle_count(o, type, edge, t) || got > oracle_count(o, type, loose, t))
            fail_msg("event %zu: %s is %g, should be %g (at most %g)", o->n, name, got, oracle_count(o, type, edge, t),
                     oracle_count(o, type, loose, t));
        if (type != EVENT_PURCHASE && type != EVENT_ADD_TO_CART)
            continue;
        snprintf(name, sizeof name, "sum.%s.%s", types->name[type], names[k]);
        got = rig_column(rig, i, name);
        if (got < oracle_sum(o, type, edge, t) || got > oracle_sum(o, type, loose, t))
            fail_msg("event %zu: %s is %.4f, should be %.4f", o->n, name, got, oracle_sum(o, type, edge, t));
    }
    char name[64];
    snprintf(name, sizeof name, "distinct.category.%s", names[k]);
    double got = rig_column(rig, i, name);
    int least = oracle_distinct(o, edge, t), most = oracle_distinct(o, loose, t);
    if (exact)
        assert_int_equal((int)got, least);
    else
        assert_true(got >= least - 8 && got <= most + 8); /* a sketch of up to 40: five standard errors are 14 */
}

static double oracle_since(const struct oracle *o, size_t at, int type)
{
    for (size_t i = at; i-- > 0;)
        if (o->at[i].type == type)
            return (double)(o->at[at].ts - o->at[i].ts) / SECOND;
    return -1;
}

/* Session and cart: all events that were not beyond the ring, one after the other, up to `at`. */
static void check_derived(const struct rig *rig, uint32_t row, const struct oracle *o)
{
    int64_t begin = 0, last = 0, items = 0, value = 0;
    int events = 0, id = 0;
    for (size_t i = 0; i < o->n; i++) {
        const struct past_event *e = &o->at[i];
        if (e->beyond)
            continue;
        if (events == 0 || e->ts - last > 30 * MINUTE || (id && e->session && id != e->session)) {
            begin = e->ts;
            events = id = 0;
        }
        events++;
        last = e->ts;
        id = e->session ? e->session : id;
        int64_t quantity = llround(e->quantity * UNIT);
        if (e->type == EVENT_ADD_TO_CART) {
            items += quantity;
            value += e->amount;
        } else if (e->type == EVENT_REMOVE_FROM_CART) {
            items = items > quantity ? items - quantity : 0;
            value = items && value > e->amount ? value - e->amount : 0;
        } else if (e->type == EVENT_PURCHASE) {
            items = value = 0;
        }
    }
    assert_true(rig_column(rig, row, "session.events") == events);
    assert_true(rig_column(rig, row, "session.seconds") == (double)(last - begin) / SECOND);
    assert_true(rig_column(rig, row, "cart.items") == (double)items / UNIT);
    assert_true(rig_column(rig, row, "cart.value") == (double)value / UNIT);
}

static void check_row(const struct rig *rig, uint32_t row, const struct oracle *o, size_t at)
{
    const struct event_types *types = &rig->engine->types;
    for (int k = 0; k < WINDOWS; k++)
        check_window(rig, row, o, k);
    check_derived(rig, row, o);
    assert_true(rig_column(rig, row, "total.events") == (double)o->n);
    if (o->at[at].beyond)
        return; /* its surroundings are gone: since and gap are not known */
    for (uint32_t type = 0; type < types->n; type++) {
        char name[64];
        snprintf(name, sizeof name, "since.%s", types->name[type]);
        double got = rig_column(rig, row, name), right = oracle_since(o, at, (int)type);
        if (got != right)
            fail_msg("event %zu: %s is %g, should be %g", o->n, name, got, right);
    }
}

/* ---- random streams ------------------------------------------------------------------------------------------- */

static uint64_t draw(uint64_t *seed, uint64_t below)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return (*seed >> 11) % below;
}

static int64_t next_time(uint64_t *seed, int64_t t)
{
    switch (draw(seed, 20)) {
    case 0: return t;
    case 1: return t + (int64_t)draw(seed, 3 * DAY);
    case 2: return t + (int64_t)draw(seed, 6 * HOUR);
    case 3: return t - (int64_t)draw(seed, 2 * HOUR);          /* late, within the lateness */
    case 4: return t - (int64_t)draw(seed, 5 * MINUTE);
    case 5: return draw(seed, 25) ? t + HOUR : t + INT64_C(40) * DAY;
    default: return t + (int64_t)draw(seed, 2 * MINUTE);
    }
}

static struct past_event random_event(uint64_t *seed, const struct event_types *types, int64_t ts)
{
    struct past_event e = {.ts = ts, .type = (int)draw(seed, types->n), .quantity = 1};
    if (draw(seed, 3) == 0)
        e.type = EVENT_PURCHASE;
    if (draw(seed, 4) != 0)
        e.category = 1 + (int)draw(seed, 40);
    if (draw(seed, 2) != 0)
        e.session = 1 + (int)draw(seed, 2);
    e.quantity = 1 + (double)draw(seed, 3);
    e.amount = (int64_t)draw(seed, 1000000) * 100 * (int64_t)e.quantity;
    return e;
}

static void give(struct rig *rig, const struct past_event *e, const char *id)
{
    struct event *event = rig_event(rig, "u1", e->type, e->ts);
    char text[32];
    snprintf(text, sizeof text, "category-%d", e->category);
    event->category = e->category ? str_of(arena_copy(rig->batch.arena, text, strlen(text))) : (struct str){0};
    snprintf(text, sizeof text, "s%d", e->session);
    event->session = e->session ? str_of(arena_copy(rig->batch.arena, text, strlen(text))) : (struct str){0};
    event->has = HAS_PRICE | HAS_QUANTITY;
    event->quantity = e->quantity;
    event->price = (double)e->amount / UNIT / e->quantity;
    event->log_ms = e->ts;
    event->event_id = id ? str_of(arena_copy(rig->batch.arena, id, strlen(id))) : (struct str){0};
}

/* `round_trip`: every so many events the record goes to bytes and back. */
static void run_stream(int64_t ring, uint64_t seed, int events, int round_trip)
{
    struct rig *rig = rig_with(ring, 8);
    struct oracle o = {.at = calloc((size_t)events + 1, sizeof *o.at), .ring = (size_t)ring};
    int64_t t = T0;
    assert_non_null(o.at);
    for (int i = 0; i < events; i++) {
        int64_t ts = next_time(&seed, t);
        struct past_event e = random_event(&seed, &rig->engine->types, ts);
        char id[32];
        snprintf(id, sizeof id, "e%d", i);
        rig_clear(rig);
        give(rig, &e, id);
        if (draw(&seed, 10) == 0)
            give(rig, &e, id); /* the producer sends it again */
        rig_run(rig);
        assert_int_equal(rig->batch.events[0].verdict, EVENT_OK);
        for (uint32_t j = 1; j < rig->batch.n; j++)
            assert_int_equal(rig->batch.events[j].verdict, EVENT_DUPLICATE);
        size_t at = oracle_add(&o, e);
        check_row(rig, 0, &o, at);
        t = newest(&o);
        if (round_trip && i % round_trip == round_trip - 1)
            rig_round_trip(rig, "u1");
    }
    assert_false(rig_user(rig, "u1")->degraded);
    assert_true(rig_metric(rig, "gait_window_tiles_refused_total") == 0);
    free(o.at);
    rig_free(&rig);
}

static void windows_equal_the_oracle(void **state)
{
    (void)state;
    static const int64_t rings[] = {1, 2, 3, 28, 200};
    for (size_t r = 0; r < sizeof rings / sizeof rings[0]; r++)
        for (uint64_t seed = 1; seed <= 4; seed++)
            run_stream(rings[r], seed * 7919, 700, 0);
}

static void round_trips_change_nothing(void **state)
{
    (void)state;
    static const int64_t rings[] = {1, 2, 28};
    for (size_t r = 0; r < sizeof rings / sizeof rings[0]; r++)
        for (int every = 1; every <= 16; every *= 4)
            run_stream(rings[r], 104729, 400, every);
}

/* Two rigs with the same events: one undisturbed, one that saves and loads its record all the time. */
static void a_loaded_record_goes_on_bit_for_bit(void **state)
{
    (void)state;
    struct rig *a = rig_with(5, 8), *b = rig_with(5, 8);
    uint64_t seed = 31337;
    int64_t t = T0;
    for (int i = 0; i < 1500; i++) {
        struct past_event e = random_event(&seed, &a->engine->types, next_time(&seed, t));
        t = e.ts > t ? e.ts : t;
        rig_clear(a);
        rig_clear(b);
        give(a, &e, NULL);
        give(b, &e, NULL);
        rig_run(a);
        rig_run(b);
        assert_int_equal(a->batch.events[0].verdict, b->batch.events[0].verdict);
        assert_memory_equal(batch_row(&a->batch, 0), batch_row(&b->batch, 0), a->batch.columns_n * sizeof(double));
        rig_round_trip(b, "u1");
    }
    rig_free(&a);
    rig_free(&b);
}

/* ---- earlier moments ------------------------------------------------------------------------------------------ */

/* Rows recomputed from the ring equal those that were written when the events came. */
static void columns_at_an_earlier_event(void **state)
{
    (void)state;
    struct rig *rig = rig_with(28, 8);
    struct instance *in = &rig->engine->instances[0];
    uint64_t seed = 99;
    int64_t t = T0;
    uint32_t width = columns_width(rig->engine->columns);
    double *rows = calloc(28 * (size_t)width, sizeof *rows), *row = calloc(width, sizeof *row);
    assert_true(rows && row);
    for (int i = 0; i < 28; i++) {
        t += (int64_t)draw(&seed, 20 * MINUTE);
        struct past_event e = random_event(&seed, &rig->engine->types, t);
        rig_clear(rig);
        give(rig, &e, NULL);
        rig_run(rig);
        memcpy(rows + (size_t)i * width, batch_row(&rig->batch, 0), width * sizeof *rows);
    }
    struct user *user = rig_user(rig, "u1");
    assert_int_equal(window_ring_count(in, user), 28);
    assert_int_equal(window_ring_size(in), 28);
    for (uint32_t i = 0; i < 28; i++) {
        window_columns_at(in, user, i, -1, row);
        assert_memory_equal(row, rows + i * width, width * sizeof *row);
    }
    free(rows);
    free(row);
    rig_free(&rig);
}

/* Leaving an event out gives the row of a user who never had it. */
static void columns_without_an_event(void **state)
{
    (void)state;
    enum { EVENTS = 12 };
    for (uint32_t skip = 0; skip < EVENTS - 1; skip++) {
        struct rig *with = rig_with(28, 0), *without = rig_with(28, 0);
        uint64_t seed = 4242;
        int64_t t = T0;
        for (uint32_t i = 0; i < EVENTS; i++) {
            t += (int64_t)draw(&seed, 20 * MINUTE);
            struct past_event e = random_event(&seed, &with->engine->types, t);
            rig_clear(with);
            give(with, &e, NULL);
            rig_run(with);
            if (i == skip)
                continue;
            rig_clear(without);
            give(without, &e, NULL);
            rig_run(without);
        }
        size_t bytes = with->batch.columns_n * sizeof(double);
        double *row = malloc(bytes);
        assert_non_null(row);
        window_columns_at(&with->engine->instances[0], rig_user(with, "u1"), EVENTS - 1, (int32_t)skip, row);
        assert_memory_equal(row, batch_row(&without->batch, 0), bytes);
        free(row);
        rig_free(&with);
        rig_free(&without);
    }
}

/* ---- records -------------------------------------------------------------------------------------------------- */

/* Any byte of the section may be anything: it is refused or read, and never more than that. */
static void damaged_records(void **state)
{
    (void)state;
    struct rig *rig = rig_with(3, 4);
    struct instance *in = &rig->engine->instances[0];
    uint64_t seed = 5;
    int64_t t = T0;
    for (int i = 0; i < 40; i++) {
        struct past_event e = random_event(&seed, &rig->engine->types, t += (int64_t)draw(&seed, HOUR));
        char id[16];
        snprintf(id, sizeof id, "%d", i);
        give(rig, &e, id);
    }
    rig_run(rig);
    uint8_t whole[8192], bytes[8192];
    struct record_io io = {.at = whole, .end = whole + sizeof whole, .writing = true, .version = 1};
    window_rolling.record(in, rig_user(rig, "u1"), &io);
    assert_false(io.failed);
    size_t n = (size_t)(io.at - whole);
    rig_clear(rig);
    for (int round = 0; round < 30000; round++) {
        bool made;
        struct user *user = users_get(rig->engine->users, 0, str_of("u2"), &made);
        memcpy(bytes, whole, n);
        size_t cut = draw(&seed, 3) == 0 ? draw(&seed, n) : n;
        for (uint64_t flips = draw(&seed, 4); flips > 0; flips--)
            bytes[draw(&seed, n)] = (uint8_t)draw(&seed, 256);
        struct record_io in_io = {.at = bytes, .end = bytes + cut, .version = 1};
        window_rolling.record(in, user, &in_io);
        user->state = USER_READY;
        if (!in_io.failed) {
            rig_event(rig, "u2", EVENT_PURCHASE, t + HOUR)->log_ms = t + HOUR;
            rig_run(rig);
            rig_clear(rig);
        }
        if (user->dirty_from >= 0) {
            users_saving(rig->engine->users, &rig->partition, user);
            users_saved(rig->engine->users, &rig->partition, user, true);
        }
        users_remove(rig->engine->users, user);
    }
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_equal_the_oracle),
        cmocka_unit_test(round_trips_change_nothing),
        cmocka_unit_test(a_loaded_record_goes_on_bit_for_bit),
        cmocka_unit_test(columns_at_an_earlier_event),
        cmocka_unit_test(columns_without_an_event),
        cmocka_unit_test(damaged_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
