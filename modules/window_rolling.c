// SPDX-License-Identifier: Apache-2.0
// window_rolling.c - brings each user's windows up to date with each event and writes what somebody wants to know into
// the event's row. Stage window: after load, before model.
//
// Here: the options, the batch loop, and the verdicts that depend on the user's other events (erased, duplicate, late).
// All of it is a function of the user's events in partition order; the wall clock is asked only where neither the event
// nor the log says a credible time.
#include "window_parts.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { CACHE_LINE = 64, AHEAD_SECTION = 9, AHEAD_REST = 5, AHEAD_TILES = 2 };

static const struct option options[] = {
    {.name = "windows", .type = OPTION_DURATIONS, .offset = offsetof(struct window_conf, windows),
     .initial = "[5m, 1h, 24h, 7d, 28d]", .min = 1000, .max = 366.0 * 86400000, .flags = OPTION_RESTART,
     .help = "Lengths of the windows, up to 8, each 1s to 366d. Columns are named by them: count.purchase.1h."},
    {.name = "ring", .type = OPTION_INT, .offset = offsetof(struct window_conf, ring), .initial = "28", .min = 1,
     .max = WINDOW_RING_MAX, .flags = OPTION_RESTART,
     .help = "Events kept one by one for each user. Windows whose events are all in it are exact; beyond it a window "
             "is exact to 1/24 of its length. Each takes 46 bytes of the record."},
    {.name = "event_ids", .type = OPTION_INT, .offset = offsetof(struct window_conf, ids), .initial = "32", .max = 4096,
     .flags = OPTION_RESTART,
     .help = "Event ids remembered for each user: an event whose event_id is among the last so many is dropped as a "
             "duplicate. 0 turns this off. Each takes 8 bytes of the record."},
    {.name = "lateness", .type = OPTION_DURATION, .offset = offsetof(struct window_conf, lateness_ms), .initial = "1h",
     .max = 28.0 * 86400000, .flags = OPTION_RESTART,
     .help = "How far an event may lie behind the user's newest one and still count; later ones are dead-lettered."},
    {.name = "future", .type = OPTION_DURATION, .offset = offsetof(struct window_conf, future_ms), .initial = "5m",
     .max = 28.0 * 86400000, .flags = OPTION_RESTART,
     .help = "How far an event's time may lie ahead of the log's timestamp (without one: of the clock). One further "
             "ahead takes the log's time and is counted, so that it cannot make all that follow late."},
    {.name = "session_gap", .type = OPTION_DURATION, .offset = offsetof(struct window_conf, session_gap_ms),
     .initial = "30m", .min = 1000, .max = 86400000, .flags = OPTION_RESTART,
     .help = "A visit ends after so long without an event, or when the session id changes."},
    {.name = "sum_types", .type = OPTION_STRINGS, .offset = offsetof(struct window_conf, sum_types),
     .initial = "[purchase]", .flags = OPTION_RESTART,
     .help = "Event types whose price times quantity is summed, up to 8."},
    {.name = NULL},
};

static const struct metric metrics[] = {
    {"gait_window_late_total", METRIC_COUNTER, NULL, "Events later than the allowed lateness; they are dead-lettered."},
    {"gait_window_late_applied_total", METRIC_COUNTER, NULL, "Late events within the lateness, put in their place."},
    {"gait_window_future_total", METRIC_COUNTER, NULL, "Events from the future, which took the log's time instead."},
    {"gait_window_duplicates_total", METRIC_COUNTER, NULL, "Events dropped because their event_id was known."},
    {"gait_window_tiles_refused_total", METRIC_COUNTER, NULL,
     "Events or tiles missing from windows beyond the ring because the table had no room; their users are degraded."},
    {NULL, 0, NULL, NULL},
};

/* ---- opening -------------------------------------------------------------------------------------------------- */

static int by_length(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int open_windows(struct window *w, const struct window_conf *conf, struct error *err)
{
    if (conf->windows.n == 0 || conf->windows.n > WINDOWS_MAX)
        return error_set(err, "windows: %zu lengths given, 1 to %d are possible", conf->windows.n, WINDOWS_MAX);
    w->windows = (uint32_t)conf->windows.n;
    memcpy(w->duration_ms, conf->windows.at, w->windows * sizeof w->duration_ms[0]);
    qsort(w->duration_ms, w->windows, sizeof w->duration_ms[0], by_length);
    for (uint32_t k = 1; k < w->windows; k++)
        if (w->duration_ms[k] == w->duration_ms[k - 1])
            return error_set(err, "windows: %lld ms stands there twice", (long long)w->duration_ms[k]);
    return 0;
}

static int open_sums(struct window *w, const struct instance *in, const struct window_conf *conf, struct error *err)
{
    if (conf->sum_types.n > WINDOW_SUMS_MAX)
        return error_set(err, "sum_types: %zu types given, at most %d are possible", conf->sum_types.n,
                         WINDOW_SUMS_MAX);
    memset(w->sum_of, -1, sizeof w->sum_of);
    for (size_t i = 0; i < conf->sum_types.n; i++) {
        const char *name = conf->sum_types.at[i];
        int type = event_type_find(in->types, str_of(name));
        if (type < 0)
            return error_set(err, "sum_types: '%s' is no event type; engine.event_types adds further ones", name);
        if (w->sum_of[type] >= 0)
            return error_set(err, "sum_types: '%s' stands there twice", name);
        w->sum_of[type] = (int8_t)w->sums;
        w->sum_type[w->sums++] = (uint8_t)type;
        w->sum_types |= UINT32_C(1) << type;
    }
    return 0;
}

static void bind_metrics(struct window *w, struct metrics *m)
{
    w->m_late = metric_cell(m, "gait_window_late_total", NULL);
    w->m_late_applied = metric_cell(m, "gait_window_late_applied_total", NULL);
    w->m_future = metric_cell(m, "gait_window_future_total", NULL);
    w->m_duplicate = metric_cell(m, "gait_window_duplicates_total", NULL);
    w->m_refused = metric_cell(m, "gait_window_tiles_refused_total", NULL);
}

static int window_open(struct instance *in, bool check, struct error *err)
{
    const struct window_conf *conf = in->conf;
    struct window *w = calloc(1, sizeof *w);
    assert(w);
    (void)check;
    in->self = w;
    w->ring = (uint32_t)conf->ring;
    w->ids = (uint32_t)conf->ids;
    w->types = in->types->n;
    w->lateness_ms = conf->lateness_ms;
    w->future_ms = conf->future_ms;
    w->session_gap_ms = conf->session_gap_ms;
    if (open_windows(w, conf, err) < 0 || open_sums(w, in, conf, err) < 0)
        return -1;
    for (uint32_t i = 0; i < w->types; i++)
        w->type_hash[i] = window_hash32(str_of(in->types->name[i]));
    bind_metrics(w, in->metrics);
    ring_layout(w);
    tiles_layout(w);
    in->user_size = w->bytes;
    /* A block has the size of a whole slot: make sure that it can hold the totals and at least one tile. */
    size_t block = sizeof(struct user_block) + w->tiles_head_bytes + w->tile_bytes;
    if (in->user_size < block)
        in->user_size = block;
    row_announce(in);
    return 0;
}

static void window_close(struct instance *in)
{
    free(in->self);
    in->self = NULL;
}

/* ---- one event ------------------------------------------------------------------------------------------------ */

/* Amounts are kept in whole 1/10,000; a thousand million units is more than any shop sells at once. */
static int64_t amount_of(const struct event *event)
{
    const double most = 1e9;
    if (!(event->has & HAS_PRICE))
        return 0;
    double amount = event->price * (event->has & HAS_QUANTITY ? event->quantity : 1);
    return llround(fmax(-most, fmin(most, amount)) * WINDOW_AMOUNT_UNIT);
}

static float narrow(double value)
{
    const double most = 1e30;
    return (float)fmax(-most, fmin(most, value));
}

static struct window_event window_event_of(const struct event *event)
{
    return (struct window_event){
        .ts_ms = event->ts_ms,
        .amount = amount_of(event),
        .category = window_hash32(event->category),
        .item = window_hash32(event->item),
        .session = window_hash32(event->session),
        .quantity = narrow(event->quantity),
        .price = narrow(event->price),
        .load_ms = narrow(event->load_ms),
        .type = event->type,
        .has = (uint8_t)event->has,
    };
}

static void clamp_future(struct window *w, const struct batch *b, struct event *event)
{
    int64_t arrived_ms = event->log_ms > 0 ? event->log_ms : b->now_ms;
    if (event->ts_ms > w->future_ms && event->ts_ms - w->future_ms > arrived_ms) {
        event->ts_ms = arrived_ms;
        metric_add(w->m_future, 1);
    }
    if (event->ts_ms < 0 || event->ts_ms > WINDOW_TS_MAX) {
        event->verdict = EVENT_BAD_TIME;
        event->detail = "ts lies outside the years 1970 to 9999";
    }
}

/* EVENT_OK, or why this event is not applied to this user. */
static enum event_verdict judge(struct window *w, unsigned char *base, const struct event *event, uint64_t id)
{
    const struct window_head *head = (const struct window_head *)base;
    if (event->ts_ms <= event->record->erased_ms)
        return EVENT_ERASED;
    if (id && ring_knows_id(w, base, id)) {
        metric_add(w->m_duplicate, 1);
        return EVENT_DUPLICATE;
    }
    if (head->n == 0 || event->ts_ms >= ring_newest_ms(w, base))
        return EVENT_OK;
    if (event->ts_ms < ring_newest_ms(w, base) - w->lateness_ms) {
        metric_add(w->m_late, 1);
        return EVENT_LATE;
    }
    metric_add(w->m_late_applied, 1);
    return EVENT_OK;
}

static uint64_t id_of(const struct window *w, const struct event *event)
{
    if (event->event_id.len == 0 || w->ids == 0)
        return 0;
    uint64_t id = XXH3_64bits(event->event_id.at, event->event_id.len);
    return id ? id : 1;
}

static void apply(struct instance *in, struct batch *b, uint32_t i)
{
    struct window *w = window_self(in);
    struct event *event = &b->events[i];
    struct user *user = event->record;
    unsigned char *base = window_base(in, user);
    clamp_future(w, b, event);
    if (event->verdict != EVENT_OK)
        return;
    uint64_t id = id_of(w, event);
    event->verdict = judge(w, base, event, id);
    if (event->verdict != EVENT_OK)
        return;
    struct window_event added = window_event_of(event), left;
    int32_t index;
    bool folds = ring_insert(w, base, &added, &left, &index);
    int64_t t = ring_newest_ms(w, base);
    tiles_advance(in, user, t);
    if (folds && !tiles_add(in, user, t, &left)) {
        metric_add(w->m_refused, 1);
        user->degraded = true;
    }
    if (id)
        ring_add_id(w, base, id);
    row_fill(in, user, &added, index, batch_row(b, i));
}

/* ---- a batch -------------------------------------------------------------------------------------------------- */

static void prefetch(const void *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += CACHE_LINE)
        __builtin_prefetch((const unsigned char *)at + i, 1);
}

static struct user *user_at(const struct batch *b, uint32_t i)
{
    return i < b->n ? b->events[i].record : NULL;
}

/* Most users are out of cache. Well ahead: what every event reads. When that has come: the one line that will be
 * written, and the totals of those who have tiles. When those have come: the tiles. */
static void prefetch_ahead(struct instance *in, struct batch *b, uint32_t i)
{
    enum { HOT_BYTES_MOST = 1024 };
    const struct window *w = window_self(in);
    struct user *user = user_at(b, i + AHEAD_SECTION);
    if (user) {
        prefetch(user, sizeof *user);
        prefetch(window_base(in, user), w->hot_bytes < HOT_BYTES_MOST ? w->hot_bytes : HOT_BYTES_MOST);
    }
    if ((user = user_at(b, i + AHEAD_REST))) {
        unsigned char *base = window_base(in, user);
        const struct window_head *head = (const struct window_head *)base;
        uint32_t slot = window_slot(w, head, head->n < w->ring ? head->n : 0);
        prefetch(&window_rests(w, base)[slot], sizeof(struct window_rest));
        if (user->blocks)
            prefetch(user->blocks, sizeof(struct user_block) + w->tiles_head_bytes);
    }
    if ((user = user_at(b, i + AHEAD_TILES)) && user->blocks)
        tiles_prefetch(in, user);
}

static void window_run(struct instance *in, struct batch *b)
{
    row_plan(in);
    for (uint32_t i = 0; i < b->n; i++) {
        prefetch_ahead(in, b, i);
        if (b->events[i].verdict == EVENT_OK)
            apply(in, b, i);
    }
}

/* ---- what others ask ------------------------------------------------------------------------------------------ */

uint32_t window_ring_count(const struct instance *window, struct user *user)
{
    return ((const struct window_head *)window_base(window, user))->n;
}

struct window_event window_ring_at(const struct instance *window, struct user *user, uint32_t index)
{
    return ring_get(window_self(window), window_base(window, user), index);
}

uint32_t window_ring_size(const struct instance *window)
{
    return window_self(window)->ring;
}

const struct module window_rolling = {
    .name = "window_rolling",
    .summary = "Counts, sums and times of each user's events over rolling windows in event time.",
    .stage = STAGE_WINDOW,
    .options = options,
    .conf_size = sizeof(struct window_conf),
    .metrics = metrics,
    .record_version = 1,
    .open = window_open,
    .run = window_run,
    .record = window_record,
    .close = window_close,
};
