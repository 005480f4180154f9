// SPDX-License-Identifier: Apache-2.0
// rule_signals.c - what rule_fraud remembers of each user beyond the windows, and the columns made of it.
//
// All of it is a function of the user's events in partition order. An event that comes late is compared with what is
// known but does not move it back. A signal that cannot be known is 0 (speeds and distances: -1), so that no rule of
// the form `signal >= number` fires on ignorance.
#include "rule_parts.h"

#include <assert.h>
#include <math.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { VISIT_PAUSE_MS = 5 * 60 * 1000, AMOUNTS_MOST = 64 };

static const struct { const char *name, *help; } columns[SIGNALS] = {
    [SIGNAL_TRAVEL_KMH] = {"travel.kmh", "Login: speed needed since the last login with a place, in km/h, as if "
                           "a second had passed at least; -1 when one of the places is not known."},
    [SIGNAL_TRAVEL_KM] = {"travel.km", "Login: distance to the last login with a place, in km; -1 when not known."},
    [SIGNAL_DEVICE_NEW] = {"device.new", "1 when the user had other devices before and this one is new (see new_for)."},
    [SIGNAL_COUNTRY_NEW] = {"country.new", "1 when the user was in other countries before and this one is new."},
    [SIGNAL_AMOUNT_Z] = {"amount.z", "Purchase: how many standard deviations its price times quantity lies above the "
                         "mean of the user's own purchases; 0 as long as there are too few of them."},
    [SIGNAL_FAILED_BEFORE] = {"login.failed_before_success", "Login: failed logins shortly before it (option "
                              "failed_within) and after the last successful one, at most 16."},
    [SIGNAL_REGULARITY] = {"click.regularity", "1 less the coefficient of variation of the gaps between the last "
                           "clicks: near 1 for a machine, below 0.7 for people; 0 when unknown."},
    [SIGNAL_CLICK_RATE] = {"click.rate", "Clicks a minute over this visit's last clicks; 0 when there are too few."},
};

void signals_announce(struct signals *signals, struct instance *in)
{
    for (int i = 0; i < SIGNALS; i++)
        signals->column[i] = columns_add(in->columns, columns[i].name, columns[i].help);
    signals->width = UINT32_MAX;
}

void signals_plan(struct signals *signals, const struct instance *in)
{
    uint32_t width = columns_width(in->columns);
    if (signals->width == width)
        return;
    signals->width = width;
    for (int i = 0; i < SIGNALS; i++)
        signals->place[i] = columns_place(in->columns, signals->column[i]);
}

static void put(const struct signals *signals, double *row, enum signal_column column, double value)
{
    if (signals->place[column] >= 0)
        row[signals->place[column]] = value;
}

/* ---- places --------------------------------------------------------------------------------------------------- */

/* Great circle by the haversine formula, mean radius of the earth. */
static double distance_km(double lat1, double lon1, double lat2, double lon2)
{
    const double radius_km = 6371.0088, degree = 0.017453292519943295;
    double north = sin((lat2 - lat1) * degree / 2), east = sin((lon2 - lon1) * degree / 2);
    double a = north * north + cos(lat1 * degree) * cos(lat2 * degree) * east * east;
    return 2 * radius_km * asin(fmin(1, sqrt(a)));
}

static void step_travel(const struct signals *signals, struct signal_state *state, const struct event *event,
                        double *row)
{
    double km = -1, kmh = -1;
    bool place = event->type == EVENT_LOGIN && event->has & HAS_PLACE;
    if (place && state->login_known) {
        double hours = fabs((double)(event->ts_ms - state->login_ms)) / 3600000;
        km = distance_km(state->login_lat, state->login_lon, event->lat, event->lon);
        kmh = km / fmax(hours, 1.0 / 3600);
    }
    put(signals, row, SIGNAL_TRAVEL_KM, km);
    put(signals, row, SIGNAL_TRAVEL_KMH, kmh);
    if (!place || (state->login_known && event->ts_ms < state->login_ms))
        return;
    state->login_known = 1;
    state->login_ms = event->ts_ms;
    state->login_lat = (float)event->lat;
    state->login_lon = (float)event->lon;
}

/* ---- devices and countries ------------------------------------------------------------------------------------ */

/* Is `value` one that the user has had for less than new_ms? It moves to the front; the one that was not used for
 * longest makes room. A user's very first one is never new. */
static double seen(const struct signals *signals, struct signal_seen *at, uint8_t *n, uint32_t most, struct str value,
                   int64_t ts_ms)
{
    if (value.len == 0)
        return 0;
    uint32_t hash = (uint32_t)XXH3_64bits(value.at, value.len), i = 0;
    while (i < *n && at[i].hash != hash)
        i++;
    struct signal_seen this = {.hash = hash, .first_ms = *n ? ts_ms : 0};
    if (i < *n)
        this = at[i];
    else if (*n < most)
        (*n)++;
    else
        i = most - 1;
    if (i > 0)
        memmove(&at[1], &at[0], i * sizeof *at);
    at[0] = this;
    return this.first_ms > 0 && ts_ms - this.first_ms < signals->new_ms;
}

/* ---- amounts -------------------------------------------------------------------------------------------------- */

/* Welford's mean and spread; beyond AMOUNTS_MOST purchases old ones fade. What lies more than four standard deviations
 * off moves them no further than that, so that one theft does not make the next look normal. */
static void learn_amount(const struct signals *signals, struct signal_state *state, double amount)
{
    if (state->amounts >= signals->amount_purchases) {
        double most = 4 * fmax(sqrt(state->amount_spread), 0.05 * fabs(state->amount_mean));
        amount = fmax(state->amount_mean - most, fmin(state->amount_mean + most, amount));
    }
    if (state->amounts < AMOUNTS_MOST)
        state->amounts++;
    double weight = 1.0 / state->amounts, off = amount - state->amount_mean;
    state->amount_mean += weight * off;
    state->amount_spread = (1 - weight) * (state->amount_spread + weight * off * off);
}

/* The standard deviation counts for 5 % of the mean at least: who always pays the same may pay a little more. */
static void step_amount(const struct signals *signals, struct signal_state *state, const struct event *event,
                        double *row)
{
    const double most = 1e9;
    double z = 0;
    if (event->type == EVENT_PURCHASE && event->has & HAS_PRICE) {
        double amount = event->price * (event->has & HAS_QUANTITY ? event->quantity : 1);
        amount = fmax(-most, fmin(most, amount));
        double deviation = fmax(fmax(sqrt(state->amount_spread), 0.05 * fabs(state->amount_mean)), 0.01);
        if (state->amounts >= signals->amount_purchases)
            z = (amount - state->amount_mean) / deviation;
        learn_amount(signals, state, amount);
    }
    put(signals, row, SIGNAL_AMOUNT_Z, z);
}

/* ---- failed logins -------------------------------------------------------------------------------------------- */

static void step_failures(const struct signals *signals, struct signal_state *state, const struct event *event,
                          double *row)
{
    double failed = 0;
    if (event->type == EVENT_LOGIN_FAILED) {
        if (state->failures_n == SIGNAL_FAILURES)
            memmove(&state->failures[0], &state->failures[1], --state->failures_n * sizeof state->failures[0]);
        state->failures[state->failures_n++] = event->ts_ms;
    } else if (event->type == EVENT_LOGIN) {
        for (uint32_t i = 0; i < state->failures_n; i++) {
            int64_t age_ms = event->ts_ms - state->failures[i];
            failed += age_ms >= 0 && age_ms < signals->failed_ms;
        }
        state->failures_n = 0;
    }
    put(signals, row, SIGNAL_FAILED_BEFORE, failed);
}

/* ---- clicks --------------------------------------------------------------------------------------------------- */

static bool is_click(const struct event *event)
{
    return event->type == EVENT_PAGE_VIEW || event->type == EVENT_PRODUCT_VIEW || event->type == EVENT_SEARCH ||
           event->type == EVENT_CAMPAIGN_CLICK || event->type == EVENT_ADD_TO_CART ||
           event->type == EVENT_REMOVE_FROM_CART;
}

static void note_click(struct signal_state *state, int64_t ts_ms)
{
    int64_t gap_ms = ts_ms - state->click_ms;
    if (state->click_ms && gap_ms < 0)
        return;
    if (!state->click_ms || gap_ms > VISIT_PAUSE_MS)
        state->gaps_n = state->gaps_first = 0;
    else if (state->gaps_n < SIGNAL_GAPS)
        state->gaps[state->gaps_n++] = (float)gap_ms / 1000;
    else
        state->gaps[state->gaps_first++ % SIGNAL_GAPS] = (float)gap_ms / 1000;
    state->gaps_first %= SIGNAL_GAPS;
    state->click_ms = ts_ms;
}

static void step_clicks(const struct signals *signals, struct signal_state *state, const struct event *event,
                        double *row)
{
    double regularity = 0, rate = 0;
    if (is_click(event)) {
        note_click(state, event->ts_ms);
        bool wanted = signals->place[SIGNAL_REGULARITY] >= 0 || signals->place[SIGNAL_CLICK_RATE] >= 0;
        if (wanted && state->gaps_n >= signals->regularity_clicks) {
            double sum = 0, squares = 0, n = state->gaps_n;
            for (uint32_t i = 0; i < state->gaps_n; i++) {
                sum += state->gaps[i];
                squares += (double)state->gaps[i] * state->gaps[i];
            }
            double mean = sum / n, variance = fmax(0, squares / n - mean * mean);
            rate = 60 * n / fmax(sum, 0.001);
            if (mean > 0)
                regularity = fmax(0, 1 - sqrt(variance) / mean);
        }
    }
    put(signals, row, SIGNAL_REGULARITY, regularity);
    put(signals, row, SIGNAL_CLICK_RATE, rate);
}

void signals_step(const struct signals *signals, struct signal_state *state, const struct event *event, double *row)
{
    step_clicks(signals, state, event, row);
    step_failures(signals, state, event, row);
    step_travel(signals, state, event, row);
    step_amount(signals, state, event, row);
    put(signals, row, SIGNAL_DEVICE_NEW,
        seen(signals, state->devices, &state->devices_n, SIGNAL_DEVICES, event->device, event->ts_ms));
    put(signals, row, SIGNAL_COUNTRY_NEW,
        seen(signals, state->countries, &state->countries_n, SIGNAL_COUNTRIES, event->country, event->ts_ms));
}

/* ---- record --------------------------------------------------------------------------------------------------- */

static void record_count(struct record_io *io, uint8_t *n, uint32_t most)
{
    record_u8(io, n);
    if (*n > most) {
        *n = 0;
        io->failed = true;
    }
}

static void record_ms(struct record_io *io, int64_t *ms)
{
    const int64_t most = INT64_C(253402300799999); /* the year 9999: differences do not overflow */
    record_i64(io, ms);
    if (*ms < 0 || *ms > most) {
        *ms = 0;
        io->failed = true;
    }
}

static void record_seen(struct record_io *io, struct signal_seen *at, uint8_t *n, uint32_t most)
{
    record_count(io, n, most);
    for (uint32_t i = 0; i < *n; i++) {
        record_u32(io, &at[i].hash);
        record_ms(io, &at[i].first_ms);
    }
}

/* Version 1. Each part begins with how much of it there is. */
void signals_record(struct signal_state *state, struct record_io *io)
{
    record_ms(io, &state->click_ms);
    record_ms(io, &state->alert_ms);
    record_f64(io, &state->alert_score);
    record_count(io, &state->gaps_n, SIGNAL_GAPS);
    record_count(io, &state->gaps_first, SIGNAL_GAPS - 1);
    record_f32s(io, state->gaps, state->gaps_n);
    record_seen(io, state->devices, &state->devices_n, SIGNAL_DEVICES);
    record_seen(io, state->countries, &state->countries_n, SIGNAL_COUNTRIES);
    record_count(io, &state->login_known, 1);
    if (state->login_known) {
        record_ms(io, &state->login_ms);
        record_f32(io, &state->login_lat);
        record_f32(io, &state->login_lon);
    }
    record_u32(io, &state->amounts);
    if (state->amounts) {
        record_f64(io, &state->amount_mean);
        record_f64(io, &state->amount_spread);
    }
    record_count(io, &state->failures_n, SIGNAL_FAILURES);
    for (uint32_t i = 0; i < state->failures_n; i++)
        record_ms(io, &state->failures[i]);
    bool sane = state->amount_spread >= 0 && state->amount_spread < 1e20 && fabs(state->amount_mean) < 1e10;
    if (state->amounts > AMOUNTS_MOST || !sane)
        io->failed = true;
}
