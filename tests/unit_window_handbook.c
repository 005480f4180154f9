// SPDX-License-Identifier: Apache-2.0
// unit_window_handbook.c - window_rolling against windows that others have published: card transactions of the Fraud
// Detection Handbook (Université Libre de Bruxelles), replayed as purchases, compared with the handbook's columns
// CUSTOMER_ID_NB_TX and CUSTOMER_ID_AVG_AMOUNT over 1, 7 and 30 days.
//
// The files are looked for in $GAIT_DATA/handbook, by default ../shared/data/handbook. Without them the test is
// skipped.
#include "support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include <cmocka.h>

extern const struct module window_rolling;

enum { CUSTOMERS = 5000, WINDOWS = 3, TILES = 24, RING = 28, RING_LARGE = 256 };
#define DAY_MS INT64_C(86400000)

static const int64_t durations[WINDOWS] = {DAY_MS, 7 * DAY_MS, 30 * DAY_MS};
static const char *const counts[WINDOWS] = {"count.purchase.24h", "count.purchase.7d", "count.purchase.30d"};
static const char *const sums[WINDOWS] = {"sum.purchase.24h", "sum.purchase.7d", "sum.purchase.30d"};

/* One published row. */
struct published {
    double n[WINDOWS], average[WINDOWS];
};

struct handbook {
    struct published *rows; /* by transaction id - first */
    long first, rows_n;
};

/* The customers' transactions so far, for the bound on what a tile may add. */
struct history {
    int64_t *ts;
    size_t n, cap;
};

static gzFile open_data(const char *name)
{
    const char *folder = getenv("GAIT_DATA");
    char path[512];
    snprintf(path, sizeof path, "%s/handbook/%s", folder && *folder ? folder : "../shared/data", name);
    gzFile file = gzopen(path, "rb");
    if (!file)
        print_message("skipped: %s is not there (set GAIT_DATA to the folder that holds handbook/)\n", path);
    else
        gzbuffer(file, 1 << 18);
    return file;
}

/* The n-th comma-separated field. */
static const char *field(const char *line, int n)
{
    while (n-- > 0)
        line = strchr(line, ',') + 1;
    return line;
}

static bool read_published(struct handbook *h)
{
    gzFile file = open_data("transformed_2018-07-25_2018-08-14.csv.gz");
    char line[1024];
    if (!file)
        return false;
    size_t cap = 250000;
    h->rows = calloc(cap, sizeof *h->rows);
    assert_non_null(h->rows);
    assert_non_null(gzgets(file, line, sizeof line));
    while (gzgets(file, line, sizeof line)) {
        long id = strtol(line, NULL, 10);
        if (h->rows_n == 0)
            h->first = id;
        assert_true(id >= h->first && (size_t)(id - h->first) < cap);
        struct published *row = &h->rows[id - h->first];
        for (int k = 0; k < WINDOWS; k++) {
            row->n[k] = strtod(field(line, 11 + 2 * k), NULL);
            row->average[k] = strtod(field(line, 12 + 2 * k), NULL);
        }
        h->rows_n++;
    }
    gzclose(file);
    return true;
}

static void remember(struct history *past, int64_t ts)
{
    if (past->n == past->cap) {
        past->cap = past->cap ? past->cap * 2 : 256;
        past->ts = realloc(past->ts, past->cap * sizeof *past->ts);
        assert_non_null(past->ts);
    }
    past->ts[past->n++] = ts;
}

static double count_since(const struct history *past, int64_t edge)
{
    size_t n = 0;
    while (n < past->n && past->ts[past->n - 1 - n] > edge)
        n++;
    return (double)n;
}

struct outcome {
    long compared, exact;
    double most_over; /* largest excess of a count, as a share of it */
};

static void compare(const struct rig *rig, uint32_t i, const struct published *row, const struct history *past,
                    int64_t ring, struct outcome *outcome)
{
    int64_t t = past->ts[past->n - 1];
    for (int k = 0; k < WINDOWS; k++) {
        double n = rig_column(rig, i, counts[k]), sum = rig_column(rig, i, sums[k]);
        outcome->compared++;
        if (row->n[k] <= (double)ring || n == row->n[k]) {
            if (n != row->n[k])
                fail_msg("%s is %g, published %g", counts[k], n, row->n[k]);
            if (fabs(sum / n - row->average[k]) > 1e-6)
                fail_msg("%s / %s is %.9f, published %.9f", sums[k], counts[k], sum / n, row->average[k]);
            outcome->exact++;
            continue;
        }
        if (n < row->n[k] || n > count_since(past, t - durations[k] - durations[k] / TILES))
            fail_msg("%s is %g, published %g: more than one tile off", counts[k], n, row->n[k]);
        outcome->most_over = fmax(outcome->most_over, (n - row->n[k]) / row->n[k]);
    }
}

static struct rig *rig_with_ring(int64_t ring)
{
    struct rig *rig = rig_new(NULL);
    void *conf = rig_conf(rig, &window_rolling);
    rig_set_int(conf, &window_rolling, "ring", ring);
    rig_set_list(conf, &window_rolling, "windows", durations, WINDOWS);
    rig_open(rig, &window_rolling, conf, NULL);
    for (int k = 0; k < WINDOWS; k++) {
        rig_want(rig, counts[k]);
        rig_want(rig, sums[k]);
    }
    rig_ready(rig, 256 << 20);
    return rig;
}

/* Run the batch and compare those of its transactions that are published. `ids`: their numbers. */
static void run_batch(struct rig *rig, const struct handbook *h, struct history *past, const long *ids, int64_t ring,
                      struct outcome *outcome)
{
    rig_run(rig);
    for (uint32_t i = 0; i < rig->batch.n; i++) {
        const struct event *event = &rig->batch.events[i];
        assert_int_equal(event->verdict, EVENT_OK);
        struct history *own = &past[strtol(event->user.at, NULL, 10)];
        remember(own, event->ts_ms);
        if (ids[i] >= h->first && ids[i] < h->first + h->rows_n)
            compare(rig, i, &h->rows[ids[i] - h->first], own, ring, outcome);
    }
    rig_clear(rig);
}

static void replay(gzFile raw, const struct handbook *h, int64_t ring, struct outcome *outcome)
{
    const int64_t begin_s = 1529877600; /* 2018-06-25, one window before the first published day */
    struct rig *rig = rig_with_ring(ring);
    struct history *past = calloc(CUSTOMERS, sizeof *past);
    long ids[RIG_BATCH_EVENTS];
    char line[256], name[16];
    assert_non_null(past);
    assert_non_null(gzgets(raw, line, sizeof line));
    while (gzgets(raw, line, sizeof line)) {
        long id = strtol(line, NULL, 10), customer = strtol(field(line, 2), NULL, 10);
        int64_t ts = strtoll(field(line, 1), NULL, 10);
        if (ts < begin_s)
            continue;
        if (id >= h->first + h->rows_n)
            break;
        assert_true(customer >= 0 && customer < CUSTOMERS);
        snprintf(name, sizeof name, "%ld", customer);
        ids[rig->batch.n] = id;
        struct event *event = rig_event(rig, name, EVENT_PURCHASE, ts * 1000);
        event->price = strtod(field(line, 4), NULL);
        event->has = HAS_PRICE;
        if (rig->batch.n == 64)
            run_batch(rig, h, past, ids, ring, outcome);
    }
    run_batch(rig, h, past, ids, ring, outcome);
    for (int i = 0; i < CUSTOMERS; i++)
        free(past[i].ts);
    free(past);
    assert_true(rig_metric(rig, "gait_window_tiles_refused_total") == 0);
    rig_free(&rig);
}

static void replay_with_ring(int64_t ring, struct outcome *outcome)
{
    struct handbook h = {0};
    gzFile raw = NULL;
    if (!read_published(&h) || !(raw = open_data("raw_transactions.csv.gz"))) {
        free(h.rows);
        skip();
    }
    replay(raw, &h, ring, outcome);
    gzclose(raw);
    assert_int_equal(outcome->compared, 3 * h.rows_n);
    print_message("ring of %lld: %ld of %ld windows equal to the event, the largest count %.2f %% too high\n",
                  (long long)ring, outcome->exact, outcome->compared, 100 * outcome->most_over);
    free(h.rows);
}

/* Equal wherever the window's events fit in the ring, within one tile elsewhere. */
static void published_windows_within_the_bound(void **state)
{
    (void)state;
    struct outcome outcome = {0};
    replay_with_ring(RING, &outcome);
    assert_true(outcome.exact > outcome.compared / 2);
}

static void published_windows_equal_with_a_large_ring(void **state)
{
    (void)state;
    struct outcome outcome = {0};
    replay_with_ring(RING_LARGE, &outcome);
    assert_int_equal(outcome.exact, outcome.compared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_windows_within_the_bound),
        cmocka_unit_test(published_windows_equal_with_a_large_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
