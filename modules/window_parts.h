// SPDX-License-Identifier: Apache-2.0
// window_parts.h - the inside of window_rolling, shared by its files:
//
//   window_rolling.c   options, the batch loop, the verdicts late, duplicate, erased
//   window_ring.c      the last events and what follows from their order (session, cart)
//   window_tiles.c     what is left of events that have left the ring
//   window_columns.c   names, the plan of wanted columns, one row
//   window_record.c    the section as bytes
//
// Calls go down this list's first four lines and from window_record.c upwards, never in a circle.
//
// A user's section, sized at opening. Zeroed memory is a valid, empty section:
//
//   head | folded_last[types] | ts[ring] | id_low[ids] | category[ring] | type[ring] | has[ring] | rest[ring] | id_high
//   └───────────────────────── hot: read at every event ──────────────────────────┘ └ one line of it written ┘
//
// The user's chain of blocks (user.h) belongs to the tiles and is empty as long as no event has left the ring.
#ifndef WINDOW_PARTS_H
#define WINDOW_PARTS_H

#include "gait/module.h"
#include "gait/window.h"

enum {
    WINDOWS_MAX = 8,
    WINDOW_SUMS_MAX = 8,
    WINDOW_TILES_PER_WINDOW = 24, /* a tile is at most this part of its window: the bound on the error */
    WINDOW_SKETCH_WORDS = 2,      /* 128 bits of linear counting for distinct categories beyond the ring */
    WINDOW_RING_MAX = 1024,
    WINDOW_AMOUNT_UNIT = 10000,
};

#define WINDOW_TS_MAX INT64_C(253402300799999) /* the end of the year 9999: no sum of times overflows */

struct window_conf {
    struct option_durations windows;
    int64_t ring, ids, lateness_ms, future_ms, session_gap_ms;
    struct option_strings sum_types;
};

/* The visit under way. events = 0: none. */
struct window_session {
    int64_t begin_ms, last_ms;
    uint32_t events, id;
};

struct window_cart {
    int64_t items, value; /* in 1/10,000 */
};

/* What follows from a sequence of events, taken one after the other in order of time. */
struct window_derived {
    struct window_session session;
    struct window_cart cart;
};

struct window_head {
    uint64_t total;               /* events applied, ever */
    uint16_t first, n;            /* the ring: slot of the oldest, number */
    uint16_t ids_first, ids_n;    /* event ids, in order of arrival */
    uint32_t folded_types;        /* bits: types of which some event has left the ring */
    uint32_t reserved;
    struct window_derived live;   /* after the newest event */
    struct window_derived folded; /* after the newest event that has left the ring */
};

/* The fields of a ring event that counting does not need; half a cache line. */
struct window_rest {
    int64_t amount;
    uint32_t item, session;
    float quantity, price, load_ms;
    uint32_t reserved;
};

/* Columns of one event that belong to no window. */
enum window_scalar {
    SCALAR_GAP, SCALAR_SESSION_EVENTS, SCALAR_SESSION_SECONDS, SCALAR_CART_ITEMS, SCALAR_CART_VALUE, SCALAR_RING_EVENTS,
    SCALAR_TOTAL_EVENTS, SCALAR_PRICE, SCALAR_QUANTITY, SCALAR_LOAD_MS, SCALAR_DAY_SIN, SCALAR_DAY_COS, SCALAR_WEEK_SIN,
    SCALAR_WEEK_COS, SCALARS,
};

enum plan_kind { PLAN_COUNT, PLAN_COUNT_ALL, PLAN_SUM, PLAN_DISTINCT };

struct plan_item {
    uint16_t place;
    uint8_t kind;                 /* enum plan_kind */
    uint8_t index;                /* type, or index of the sum */
};

struct plan_window {
    uint8_t window;
    uint16_t from, to;            /* its items */
};

enum { PLAN_ITEMS_MAX = WINDOWS_MAX * (EVENT_TYPES_MAX + 1 + WINDOW_SUMS_MAX + 1) };

/* What somebody wants, compiled from the columns; renewed when their number has changed. */
struct window_plan {
    uint32_t width;               /* columns_width() it was made for */
    uint32_t windows_n, since_n;
    bool sums, distinct;
    uint32_t since_types;         /* bits */
    int16_t scalar[SCALARS];      /* place or -1 */
    bool day, week;               /* some time-of-day column is wanted */
    struct plan_window windows[WINDOWS_MAX];
    struct plan_item since[EVENT_TYPES_MAX];
    struct plan_item items[PLAN_ITEMS_MAX];
};

struct window {
    struct metric_cell *m_late, *m_late_applied, *m_future, *m_duplicate, *m_refused;
    uint32_t ring, ids, types, windows, sums;
    int64_t duration_ms[WINDOWS_MAX]; /* ascending */
    int64_t tile_ms[WINDOWS_MAX];     /* each a multiple of the one before it */
    uint8_t sum_type[WINDOW_SUMS_MAX];
    int8_t sum_of[EVENT_TYPES_MAX];   /* index of the type's sum or -1 */
    uint32_t sum_types;               /* bits */
    int64_t lateness_ms, future_ms, session_gap_ms;
    size_t at_last, at_ts, at_id_low, at_id_high, at_category, at_type, at_has, at_rest, hot_bytes, bytes;
                                      /* offsets in the section, and its size */
    size_t tile_bytes, tiles_head_bytes;
    uint32_t tiles_first, tiles_each; /* tiles that fit into a user's first block and into each further one */
    uint32_t count_id[WINDOWS_MAX][EVENT_TYPES_MAX + 1], sum_id[WINDOWS_MAX][WINDOW_SUMS_MAX];
    uint32_t distinct_id[WINDOWS_MAX], since_id[EVENT_TYPES_MAX], scalar_id[SCALARS];
    struct window_plan plan;
    bool plan_of_all;                 /* while window_columns_all() runs */
    int64_t time_minute;              /* the minute that the four below are for */
    double time_of[4];
    uint32_t type_hash[EVENT_TYPES_MAX];
};

static inline struct window *window_self(const struct instance *in)
{
    return in->self;
}

static inline unsigned char *window_base(const struct instance *in, struct user *user)
{
    return user_section(user, in->user_offset);
}

static inline int64_t *window_folded_last(const struct window *w, unsigned char *base)
{
    return (int64_t *)(base + w->at_last);
}

static inline int64_t *window_ts(const struct window *w, unsigned char *base)
{
    return (int64_t *)(base + w->at_ts);
}

/* Ids in two halves: the search for duplicates reads the low ones only. */
static inline uint32_t *window_id_low(const struct window *w, unsigned char *base)
{
    return (uint32_t *)(base + w->at_id_low);
}

static inline uint32_t *window_id_high(const struct window *w, unsigned char *base)
{
    return (uint32_t *)(base + w->at_id_high);
}

static inline uint32_t *window_categories(const struct window *w, unsigned char *base)
{
    return (uint32_t *)(base + w->at_category);
}

static inline uint8_t *window_types(const struct window *w, unsigned char *base)
{
    return base + w->at_type;
}

static inline struct window_rest *window_rests(const struct window *w, unsigned char *base)
{
    return (struct window_rest *)(base + w->at_rest);
}

/* The slot of ring event `index`, 0 = oldest. */
static inline uint32_t window_slot(const struct window *w, const struct window_head *head, uint32_t index)
{
    uint32_t slot = head->first + index;
    return slot < w->ring ? slot : slot - w->ring;
}

/* The user's newest event time; the ring is not empty. */
static inline int64_t ring_newest_ms(const struct window *w, unsigned char *base)
{
    const struct window_head *head = (const struct window_head *)base;
    return window_ts(w, base)[window_slot(w, head, head->n - 1u)];
}

/* Sums wrap instead of overflowing: adding and taking away again is exact whatever comes. */
static inline int64_t window_add(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

static inline int64_t window_subtract(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a - (uint64_t)b);
}

/* ---- window_ring.c -------------------------------------------------------------------------------------------- */
void ring_layout(struct window *w);                                 /* sets the offsets */
struct window_event ring_get(const struct window *w, unsigned char *base, uint32_t index);
/* Put an event in its place in time. When the ring is full an event leaves it: the oldest, or this very one when it is
 * older than all; then `*left` is it and true is returned. `*index`: where the event stands now, -1 = it left. */
bool ring_insert(const struct window *w, unsigned char *base, const struct window_event *event,
                 struct window_event *left, int32_t *index);
void ring_recompute(const struct window *w, unsigned char *base);   /* live from folded and the ring */
/* Session and cart after ring event `index`, without ring event `skip` (-1 = none). */
struct window_derived ring_derived_at(const struct window *w, unsigned char *base, uint32_t index, int32_t skip);
uint64_t ring_id(const struct window *w, unsigned char *base, uint32_t index); /* 0 = the oldest kept */
bool ring_knows_id(const struct window *w, unsigned char *base, uint64_t id);
void ring_add_id(const struct window *w, unsigned char *base, uint64_t id);

/* ---- window_tiles.c ------------------------------------------------------------------------------------------- */
struct window_tile {
    int64_t newest_ms;   /* of the events in it: the tile is in a window as long as this is */
    uint64_t sketch[WINDOW_SKETCH_WORDS];
    uint16_t older, newer; /* neighbours; 0 = none */
    uint32_t reserved;
    int64_t sums[];      /* [sums], and behind them counts[types] */
};

static inline uint32_t *tile_counts(const struct window *w, struct window_tile *tile)
{
    return (uint32_t *)(tile->sums + w->sums);
}

void tiles_layout(struct window *w);
/* Time has come to t: windows let go of tiles that are behind them. */
void tiles_advance(struct instance *in, struct user *user, int64_t t);
/* An event that left the ring. False: no room; it is missing from the windows beyond the ring. */
bool tiles_add(struct instance *in, struct user *user, int64_t t, const struct window_event *event);
/* A tile read from a record, newer than all that are there. False: no room. The caller fills sums and counts of `tile`,
 * which has w->tile_bytes. */
bool tiles_append(struct instance *in, struct user *user, int64_t t, struct window_tile *tile);
struct window_tile *tiles_oldest(const struct instance *in, struct user *user); /* NULL when there is none */
struct window_tile *tiles_newest(const struct instance *in, struct user *user);
struct window_tile *tiles_newer(const struct instance *in, struct user *user, const struct window_tile *tile);
struct window_tile *tiles_older(const struct instance *in, struct user *user, const struct window_tile *tile);
/* Have those come nearer that the next event is likely to touch. The user has blocks, and the first is near. */
void tiles_prefetch(const struct instance *in, struct user *user);
/* Totals of the tiles in window k: counts [types + 1] with a stride (the last is "all"), sums [sums] likewise.
 * NULL when the user has no tiles. */
const uint32_t *tiles_counts(const struct instance *in, struct user *user, uint32_t k);
const int64_t *tiles_sums(struct user *user, uint32_t k);

static inline void sketch_add(uint64_t *sketch, uint32_t category)
{
    sketch[category / 64 % WINDOW_SKETCH_WORDS] |= UINT64_C(1) << (category % 64);
}

/* ---- window_columns.c ----------------------------------------------------------------------------------------- */
void row_announce(struct instance *in);
void row_plan(struct instance *in); /* renewed if somebody has asked for more */
/* The row right after `event` was applied; `index`: where it stands in the ring, -1 = it went past it. */
void row_fill(struct instance *in, struct user *user, const struct window_event *event, int32_t index, double *row);

/* ---- window_record.c ------------------------------------------------------------------------------------------ */
void window_record(struct instance *in, struct user *user, struct record_io *io);

#endif
