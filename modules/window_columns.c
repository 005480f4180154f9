// SPDX-License-Identifier: Apache-2.0
// window_columns.c - the columns of window_rolling: their names, the plan of those that somebody wants, and one row.
//
// A row is one walk from the newest event back through the ring. Windows are taken in ascending length: whenever the
// walk reaches a window's old edge, that window's columns are what has been counted so far. A window whose edge lies
// beyond the ring gets the totals of its tiles added. The same walk, begun further back, answers for earlier moments.
#include "window_parts.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

enum { DAY_MS = 86400000, HOUR_MS = 3600000, MINUTE_MS = 60000, SECOND_MS = 1000 };
enum { NAME_BYTES = 128, SKETCH_BITS = WINDOW_SKETCH_WORDS * 64 };

/* ---- names ---------------------------------------------------------------------------------------------------- */

static const struct { const char *name, *help; } scalars[SCALARS] = {
    [SCALAR_GAP] = {"gap", "Seconds since the user's previous event; -1 when none is known."},
    [SCALAR_SESSION_EVENTS] = {"session.events", "Events of the visit under way."},
    [SCALAR_SESSION_SECONDS] = {"session.seconds", "Length of the visit under way, in seconds."},
    [SCALAR_CART_ITEMS] = {"cart.items", "Items in the cart: added less removed since the last purchase."},
    [SCALAR_CART_VALUE] = {"cart.value", "Value of the cart, in the currency's unit."},
    [SCALAR_RING_EVENTS] = {"ring.events", "Events that are kept one by one."},
    [SCALAR_TOTAL_EVENTS] = {"total.events", "Events of the user since the record began."},
    [SCALAR_PRICE] = {"event.price", "Price in this event; 0 when it has none."},
    [SCALAR_QUANTITY] = {"event.quantity", "Quantity in this event; 0 when it has none."},
    [SCALAR_LOAD_MS] = {"event.load_ms", "Load time in this event, in milliseconds; 0 when it has none."},
    [SCALAR_DAY_SIN] = {"time.day_sin", "Sine of the time of day (UTC, to the minute)."},
    [SCALAR_DAY_COS] = {"time.day_cos", "Cosine of the time of day (UTC, to the minute)."},
    [SCALAR_WEEK_SIN] = {"time.week_sin", "Sine of the time of the week (UTC, from Monday, to the minute)."},
    [SCALAR_WEEK_COS] = {"time.week_cos", "Cosine of the time of the week (UTC, from Monday, to the minute)."},
};

/* One name for each duration: days from two on, else hours, minutes, seconds, milliseconds, whichever divides it. */
static void duration_name(int64_t ms, char *out, size_t cap)
{
    static const struct { int64_t ms; const char *unit; } units[] = {
        {HOUR_MS, "h"}, {MINUTE_MS, "m"}, {SECOND_MS, "s"}, {1, "ms"},
    };
    if (ms % DAY_MS == 0 && ms >= 2 * DAY_MS) {
        snprintf(out, cap, "%lldd", (long long)(ms / DAY_MS));
        return;
    }
    size_t i = 0;
    while (ms % units[i].ms != 0)
        i++;
    snprintf(out, cap, "%lld%s", (long long)(ms / units[i].ms), units[i].unit);
}

static void announce_window(struct instance *in, uint32_t k)
{
    struct window *w = window_self(in);
    char name[NAME_BYTES], help[2 * NAME_BYTES], window[32];
    duration_name(w->duration_ms[k], window, sizeof window);
    for (uint32_t type = 0; type <= w->types; type++) {
        const char *what = type < w->types ? in->types->name[type] : "all";
        snprintf(name, sizeof name, "count.%s.%s", what, window);
        snprintf(help, sizeof help, "Events%s%s in the last %s.", type < w->types ? " of type " : "",
                 type < w->types ? what : "", window);
        w->count_id[k][type] = columns_add(in->columns, name, help);
    }
    for (uint32_t i = 0; i < w->sums; i++) {
        snprintf(name, sizeof name, "sum.%s.%s", in->types->name[w->sum_type[i]], window);
        snprintf(help, sizeof help, "Sum of price times quantity of %s in the last %s.",
                 in->types->name[w->sum_type[i]], window);
        w->sum_id[k][i] = columns_add(in->columns, name, help);
    }
    snprintf(name, sizeof name, "distinct.category.%s", window);
    snprintf(help, sizeof help, "Different categories in the last %s; exact within the ring, beyond it estimated "
             "(standard error about 7 %%, at most 621).", window);
    w->distinct_id[k] = columns_add(in->columns, name, help);
}

void row_announce(struct instance *in)
{
    struct window *w = window_self(in);
    char name[NAME_BYTES], help[2 * NAME_BYTES];
    for (uint32_t k = 0; k < w->windows; k++)
        announce_window(in, k);
    for (uint32_t type = 0; type < w->types; type++) {
        snprintf(name, sizeof name, "since.%s", in->types->name[type]);
        snprintf(help, sizeof help, "Seconds since the last %s before this event; -1 when none is known.",
                 in->types->name[type]);
        w->since_id[type] = columns_add(in->columns, name, help);
    }
    for (uint32_t i = 0; i < SCALARS; i++)
        w->scalar_id[i] = columns_add(in->columns, scalars[i].name, scalars[i].help);
    w->plan.width = UINT32_MAX;
    w->time_minute = INT64_MIN;
}

/* ---- the plan ------------------------------------------------------------------------------------------------- */

/* Where a column's value goes: its place in the row or, in a plan of every column, its id. */
static int place_of(const struct instance *in, uint32_t id)
{
    return window_self(in)->plan_of_all ? (int)id : columns_place(in->columns, id);
}

static bool plan_add(const struct instance *in, uint32_t id, enum plan_kind kind, uint32_t index,
                     struct plan_item *item)
{
    int place = place_of(in, id);
    if (place < 0)
        return false;
    assert(place <= INT16_MAX);
    *item = (struct plan_item){.place = (uint16_t)place, .kind = (uint8_t)kind, .index = (uint8_t)index};
    return true;
}

static uint32_t plan_window_items(const struct instance *in, uint32_t k, uint32_t at)
{
    struct window *w = window_self(in);
    struct window_plan *plan = &w->plan;
    for (uint32_t type = 0; type < w->types; type++)
        at += plan_add(in, w->count_id[k][type], PLAN_COUNT, type, &plan->items[at]);
    at += plan_add(in, w->count_id[k][w->types], PLAN_COUNT_ALL, w->types, &plan->items[at]);
    for (uint32_t i = 0; i < w->sums; i++) {
        if (plan_add(in, w->sum_id[k][i], PLAN_SUM, i, &plan->items[at])) {
            plan->sums = true;
            at++;
        }
    }
    if (plan_add(in, w->distinct_id[k], PLAN_DISTINCT, 0, &plan->items[at])) {
        plan->distinct = true;
        at++;
    }
    return at;
}

void row_plan(struct instance *in)
{
    struct window *w = window_self(in);
    struct window_plan *plan = &w->plan;
    uint32_t width = columns_width(in->columns), at = 0;
    if (plan->width == width)
        return;
    *plan = (struct window_plan){.width = width};
    for (uint32_t k = 0; k < w->windows; k++) {
        uint32_t from = at;
        at = plan_window_items(in, k, at);
        if (at > from)
            plan->windows[plan->windows_n++] = (struct plan_window){(uint8_t)k, (uint16_t)from, (uint16_t)at};
    }
    for (uint32_t type = 0; type < w->types; type++) {
        if (plan_add(in, w->since_id[type], PLAN_COUNT, type, &plan->since[plan->since_n])) {
            plan->since_n++;
            plan->since_types |= UINT32_C(1) << type;
        }
    }
    for (uint32_t i = 0; i < SCALARS; i++)
        plan->scalar[i] = (int16_t)place_of(in, w->scalar_id[i]);
    plan->day = plan->scalar[SCALAR_DAY_SIN] >= 0 || plan->scalar[SCALAR_DAY_COS] >= 0;
    plan->week = plan->scalar[SCALAR_WEEK_SIN] >= 0 || plan->scalar[SCALAR_WEEK_COS] >= 0;
}

/* ---- the walk ------------------------------------------------------------------------------------------------- */

/* Where the walk stands and what it has counted. */
struct walk {
    struct instance *in;
    struct user *user;
    unsigned char *base;
    int32_t next, skip;          /* next ring event to look at, going back; one to leave out */
    bool live;                   /* from the newest event: the tiles' totals hold */
    uint32_t all, counts[EVENT_TYPES_MAX];
    int64_t sums[WINDOW_SUMS_MAX];
    uint64_t sketch[WINDOW_SKETCH_WORDS];
    const struct window_tile *tile; /* next one to look at, going back */
    bool tiles_begun, tiles_seen;
    uint32_t distinct, set_mask;
    uint32_t set[2 * WINDOW_RING_MAX]; /* categories seen; an open-addressed set of set_mask + 1 places */
};

static void walk_begin(struct walk *walk, struct instance *in, struct user *user, uint32_t from, int32_t skip,
                       bool live)
{
    const struct window *w = window_self(in);
    walk->in = in;
    walk->user = user;
    walk->base = window_base(in, user);
    walk->next = (int32_t)from;
    walk->skip = skip;
    walk->live = live;
    walk->all = 0;
    memset(walk->counts, 0, w->types * sizeof walk->counts[0]);
    memset(walk->sums, 0, sizeof walk->sums);
    walk->tiles_begun = walk->tiles_seen = false;
    if (!w->plan.distinct)
        return;
    memset(walk->sketch, 0, sizeof walk->sketch);
    walk->distinct = 0;
    uint32_t places = 16;
    while (places < 2 * (from + 1))
        places *= 2;
    walk->set_mask = places - 1;
    memset(walk->set, 0, places * sizeof walk->set[0]);
}

static void see_category(struct walk *walk, uint32_t category)
{
    if (category == 0)
        return;
    uint32_t i = category & walk->set_mask;
    while (walk->set[i] && walk->set[i] != category)
        i = (i + 1) & walk->set_mask;
    if (walk->set[i])
        return;
    walk->set[i] = category;
    walk->distinct++;
    sketch_add(walk->sketch, category);
}

/* Count ring events back to `edge` (not included). */
static void walk_ring(struct walk *walk, int64_t edge)
{
    const struct window *w = window_self(walk->in);
    const int64_t *ts = window_ts(w, walk->base);
    const uint8_t *types = window_types(w, walk->base);
    bool distinct = w->plan.distinct;
    uint32_t sums = w->plan.sums ? w->sum_types : 0;
    if (walk->next < 0)
        return;
    uint32_t slot = window_slot(w, (const struct window_head *)walk->base, (uint32_t)walk->next);
    for (; walk->next >= 0 && ts[slot] > edge; walk->next--, slot = slot ? slot - 1 : w->ring - 1) {
        if (walk->next == walk->skip)
            continue;
        uint8_t type = types[slot];
        walk->all++;
        walk->counts[type]++;
        if (sums & UINT32_C(1) << type) {
            int64_t *sum = &walk->sums[w->sum_of[type]];
            *sum = window_add(*sum, window_rests(w, walk->base)[slot].amount);
        }
        if (distinct)
            see_category(walk, window_categories(w, walk->base)[slot]);
    }
}

static void add_tile(struct walk *walk, struct window_tile *tile)
{
    const struct window *w = window_self(walk->in);
    const uint32_t *counts = tile_counts(w, tile);
    for (uint32_t i = 0; i < w->types; i++) {
        walk->counts[i] += counts[i];
        walk->all += counts[i];
    }
    for (uint32_t i = 0; i < w->sums; i++)
        walk->sums[i] = window_add(walk->sums[i], tile->sums[i]);
}

/* Tiles back to `edge`: their sketches, and their content too where the totals do not hold. */
static void walk_tiles(struct walk *walk, int64_t edge)
{
    const struct window *w = window_self(walk->in);
    if (!walk->tiles_begun) {
        walk->tiles_begun = true;
        walk->tile = tiles_newest(walk->in, walk->user);
    }
    for (; walk->tile && walk->tile->newest_ms > edge; walk->tile = tiles_older(walk->in, walk->user, walk->tile)) {
        walk->tiles_seen = true;
        if (!walk->live)
            add_tile(walk, (struct window_tile *)(uintptr_t)walk->tile);
        if (w->plan.distinct)
            for (uint32_t i = 0; i < WINDOW_SKETCH_WORDS; i++)
                walk->sketch[i] |= walk->tile->sketch[i];
    }
}

/* Linear counting (Whang, Vander-Zanden, Taylor 1990): -m ln(share of bits that are 0). */
static double sketch_estimate(const uint64_t *sketch)
{
    int ones = 0;
    for (uint32_t i = 0; i < WINDOW_SKETCH_WORDS; i++)
        ones += __builtin_popcountll(sketch[i]);
    int zeros = ones < SKETCH_BITS ? SKETCH_BITS - ones : 1;
    return round(-SKETCH_BITS * log((double)zeros / SKETCH_BITS));
}

static double distinct_now(const struct walk *walk)
{
    if (!walk->tiles_seen)
        return walk->distinct;
    return fmax(walk->distinct, sketch_estimate(walk->sketch));
}

static void write_window(const struct walk *walk, const struct plan_window *pw, bool beyond, double *row)
{
    const struct window *w = window_self(walk->in);
    const uint32_t *counts = beyond && walk->live ? tiles_counts(walk->in, walk->user, pw->window) : NULL;
    const int64_t *sums = beyond && walk->live ? tiles_sums(walk->user, pw->window) : NULL;
    for (uint32_t i = pw->from; i < pw->to; i++) {
        const struct plan_item *item = &w->plan.items[i];
        size_t at = (size_t)item->index * w->windows;
        switch ((enum plan_kind)item->kind) {
        case PLAN_COUNT:
            row[item->place] = walk->counts[item->index] + (counts ? counts[at] : 0);
            break;
        case PLAN_COUNT_ALL:
            row[item->place] = walk->all + (counts ? counts[at] : 0);
            break;
        case PLAN_SUM:
            row[item->place] = (double)window_add(walk->sums[item->index], sums ? sums[at] : 0) / WINDOW_AMOUNT_UNIT;
            break;
        case PLAN_DISTINCT:
            row[item->place] = distinct_now(walk);
            break;
        }
    }
}

static void walk_windows(struct walk *walk, int64_t t, double *row)
{
    const struct window *w = window_self(walk->in);
    for (uint32_t i = 0; i < w->plan.windows_n; i++) {
        const struct plan_window *pw = &w->plan.windows[i];
        int64_t edge = t - w->duration_ms[pw->window];
        walk_ring(walk, edge);
        bool beyond = walk->next < 0 && walk->user->blocks;
        if (beyond && (!walk->live || w->plan.distinct))
            walk_tiles(walk, edge);
        write_window(walk, pw, beyond, row);
    }
}

/* ---- what belongs to no window -------------------------------------------------------------------------------- */

/* Time since the last event of each wanted type before ring event `index`. */
static void write_since(struct instance *in, unsigned char *base, int32_t index, int32_t skip, int64_t ts_ms,
                        double *row)
{
    const struct window *w = window_self(in);
    const struct window_head *head = (const struct window_head *)base;
    const int64_t *ts = window_ts(w, base);
    const uint8_t *types = window_types(w, base);
    double since[EVENT_TYPES_MAX];
    uint32_t open = w->plan.since_types;
    for (int32_t i = index - 1; i >= 0 && open; i--) {
        uint32_t slot = window_slot(w, head, (uint32_t)i), bit = UINT32_C(1) << types[slot];
        if (i == skip || !(open & bit))
            continue;
        since[types[slot]] = (double)(ts_ms - ts[slot]) / SECOND_MS;
        open &= ~bit;
    }
    for (uint32_t i = 0; i < w->plan.since_n; i++) {
        uint8_t type = w->plan.since[i].index;
        double value = -1;
        if (!(open & UINT32_C(1) << type))
            value = since[type];
        else if (index >= 0 && head->folded_types & UINT32_C(1) << type)
            value = (double)(ts_ms - window_folded_last(w, base)[type]) / SECOND_MS;
        row[w->plan.since[i].place] = value;
    }
}

static double gap_before(const struct window *w, unsigned char *base, int32_t index, int32_t skip, int64_t ts_ms)
{
    const struct window_head *head = (const struct window_head *)base;
    int32_t before = index - 1 == skip ? index - 2 : index - 1;
    if (index >= 0 && before >= 0)
        return (double)(ts_ms - window_ts(w, base)[window_slot(w, head, (uint32_t)before)]) / SECOND_MS;
    if (index >= 0 && head->folded.session.events > 0)
        return (double)(ts_ms - head->folded.session.last_ms) / SECOND_MS;
    return -1;
}

/* Neighbouring events mostly share the minute, so the four are kept for one. The epoch was a Thursday. */
static void write_time(struct window *w, int64_t ts_ms, double *row)
{
    enum { DAY_MINUTES = 1440, WEEK_MINUTES = 7 * DAY_MINUTES, MONDAY = 3 * DAY_MINUTES };
    const double turn = 6.283185307179586;
    int64_t minute = ts_ms / MINUTE_MS;
    if (minute != w->time_minute) {
        w->time_minute = minute;
        sincos(turn * (double)(minute % DAY_MINUTES) / DAY_MINUTES, &w->time_of[0], &w->time_of[1]);
        sincos(turn * (double)((minute + MONDAY) % WEEK_MINUTES) / WEEK_MINUTES, &w->time_of[2], &w->time_of[3]);
    }
    for (int i = 0; i < 4; i++)
        if (w->plan.scalar[SCALAR_DAY_SIN + i] >= 0)
            row[w->plan.scalar[SCALAR_DAY_SIN + i]] = w->time_of[i];
}

static void write_scalar(const struct window *w, enum window_scalar scalar, double value, double *row)
{
    if (w->plan.scalar[scalar] >= 0)
        row[w->plan.scalar[scalar]] = value;
}

static void write_derived(const struct window *w, const struct window_derived *d, double *row)
{
    write_scalar(w, SCALAR_SESSION_EVENTS, d->session.events, row);
    write_scalar(w, SCALAR_SESSION_SECONDS, (double)(d->session.last_ms - d->session.begin_ms) / SECOND_MS, row);
    write_scalar(w, SCALAR_CART_ITEMS, (double)d->cart.items / WINDOW_AMOUNT_UNIT, row);
    write_scalar(w, SCALAR_CART_VALUE, (double)d->cart.value / WINDOW_AMOUNT_UNIT, row);
}

static void write_event(struct window *w, const struct window_event *event, double *row)
{
    write_scalar(w, SCALAR_PRICE, event->price, row);
    write_scalar(w, SCALAR_QUANTITY, event->quantity, row);
    write_scalar(w, SCALAR_LOAD_MS, event->load_ms, row);
    if (w->plan.day || w->plan.week)
        write_time(w, event->ts_ms, row);
}

/* ---- rows ----------------------------------------------------------------------------------------------------- */

void row_fill(struct instance *in, struct user *user, const struct window_event *event, int32_t index, double *row)
{
    struct window *w = window_self(in);
    unsigned char *base = window_base(in, user);
    const struct window_head *head = (const struct window_head *)base;
    struct walk walk;
    walk_begin(&walk, in, user, head->n - 1u, -1, true);
    walk_windows(&walk, ring_newest_ms(w, base), row);
    if (w->plan.since_n)
        write_since(in, base, index, -1, event->ts_ms, row);
    if (w->plan.scalar[SCALAR_GAP] >= 0)
        row[w->plan.scalar[SCALAR_GAP]] = gap_before(w, base, index, -1, event->ts_ms);
    write_derived(w, &head->live, row);
    write_scalar(w, SCALAR_RING_EVENTS, head->n, row);
    write_scalar(w, SCALAR_TOTAL_EVENTS, (double)head->total, row);
    write_event(w, event, row);
}

void window_columns_at(const struct instance *window, struct user *user, uint32_t index, int32_t skip, double *row)
{
    struct instance *in = (struct instance *)(uintptr_t)window; /* the plan and the minute are caches, no state */
    struct window *w = window_self(in);
    unsigned char *base = window_base(in, user);
    const struct window_head *head = (const struct window_head *)base;
    assert(index < head->n && skip != (int32_t)index);
    struct window_event event = ring_get(w, base, index);
    row_plan(in);
    struct walk walk;
    walk_begin(&walk, in, user, index, skip, false);
    walk_windows(&walk, event.ts_ms, row);
    bool skipped = skip >= 0 && (uint32_t)skip < index;
    if (w->plan.since_n)
        write_since(in, base, (int32_t)index, skip, event.ts_ms, row);
    if (w->plan.scalar[SCALAR_GAP] >= 0)
        row[w->plan.scalar[SCALAR_GAP]] = gap_before(w, base, (int32_t)index, skip, event.ts_ms);
    struct window_derived derived = ring_derived_at(w, base, index, skip);
    write_derived(w, &derived, row);
    write_scalar(w, SCALAR_RING_EVENTS, index + 1 - skipped, row);
    write_scalar(w, SCALAR_TOTAL_EVENTS, (double)(head->total - (head->n - 1u - index) - skipped), row);
    write_event(w, &event, row);
}

void window_columns_all(const struct instance *window, struct user *user, uint32_t index, double *by_id)
{
    struct instance *in = (struct instance *)(uintptr_t)window;
    struct window *w = window_self(in);
    struct window_plan wanted = w->plan;
    w->plan_of_all = true;
    w->plan.width = UINT32_MAX;
    row_plan(in);
    window_columns_at(window, user, index, -1, by_id);
    w->plan_of_all = false;
    w->plan = wanted;
}
