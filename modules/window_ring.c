// SPDX-License-Identifier: Apache-2.0
// window_ring.c - the last events of a user, in order of time, and what follows from the order: session and cart.
//
// Session and cart are kept twice: `live` after the newest event, brought forward with each event, and `folded` after
// the newest event that has left the ring. Live is always what folded becomes when the ring's events are taken one by
// one; that is how it is made anew when a late event falls between others, and how earlier moments are answered.
#include "window_parts.h"

#include <assert.h>
#include <math.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { ID_STRIDE = 8 };

uint32_t window_hash32(struct str text)
{
    if (text.len == 0)
        return 0;
    uint32_t hash = (uint32_t)XXH3_64bits(text.at, text.len);
    return hash ? hash : 1;
}

void ring_layout(struct window *w)
{
    size_t at = sizeof(struct window_head);
    w->at_last = at;
    at += w->types * sizeof(int64_t);
    w->at_ts = at;
    at += w->ring * sizeof(int64_t);
    w->at_id_low = at;
    at += (w->ids + ID_STRIDE - 1) / ID_STRIDE * ID_STRIDE * sizeof(uint32_t);
    w->at_category = at;
    at += w->ring * sizeof(uint32_t);
    w->at_type = at;
    at += w->ring;
    w->at_has = at;
    at += w->ring;
    w->hot_bytes = at;
    w->at_rest = (at + 31) / 32 * 32; /* an entry never straddles a cache line when the section begins at one */
    w->at_id_high = w->at_rest + w->ring * sizeof(struct window_rest);
    w->bytes = w->at_id_high + w->ids * sizeof(uint32_t);
}

struct window_event ring_get(const struct window *w, unsigned char *base, uint32_t index)
{
    const struct window_head *head = (const struct window_head *)base;
    assert(index < head->n);
    uint32_t slot = window_slot(w, head, index);
    const struct window_rest *rest = &window_rests(w, base)[slot];
    return (struct window_event){
        .ts_ms = window_ts(w, base)[slot],
        .amount = rest->amount,
        .category = window_categories(w, base)[slot],
        .item = rest->item,
        .session = rest->session,
        .quantity = rest->quantity,
        .price = rest->price,
        .load_ms = rest->load_ms,
        .type = window_types(w, base)[slot],
        .has = base[w->at_has + slot],
    };
}

static void ring_put(const struct window *w, unsigned char *base, uint32_t index, const struct window_event *event)
{
    uint32_t slot = window_slot(w, (const struct window_head *)base, index);
    window_ts(w, base)[slot] = event->ts_ms;
    window_categories(w, base)[slot] = event->category;
    window_types(w, base)[slot] = event->type;
    base[w->at_has + slot] = event->has;
    window_rests(w, base)[slot] = (struct window_rest){
        .amount = event->amount,
        .item = event->item,
        .session = event->session,
        .quantity = event->quantity,
        .price = event->price,
        .load_ms = event->load_ms,
    };
}

/* ---- session and cart ----------------------------------------------------------------------------------------- */

static void session_step(const struct window *w, struct window_session *s, const struct window_event *event)
{
    bool other = s->id && event->session && s->id != event->session;
    if (s->events == 0 || other || event->ts_ms - s->last_ms > w->session_gap_ms)
        *s = (struct window_session){.begin_ms = event->ts_ms};
    s->events++;
    s->last_ms = event->ts_ms;
    if (event->session)
        s->id = event->session;
}

/* A removal without a price takes the items at their average; a cart never holds less than nothing; a purchase empties
 * it. */
static void cart_step(struct window_cart *cart, const struct window_event *event)
{
    if (event->type == EVENT_PURCHASE) {
        *cart = (struct window_cart){0};
        return;
    }
    if (event->type != EVENT_ADD_TO_CART && event->type != EVENT_REMOVE_FROM_CART)
        return;
    double quantity = event->has & HAS_QUANTITY ? (double)event->quantity : 1;
    int64_t items = quantity > 0 ? llround(fmin(quantity, 1e9) * WINDOW_AMOUNT_UNIT) : 0;
    if (event->type == EVENT_ADD_TO_CART) {
        cart->items = window_add(cart->items, items);
        cart->value = window_add(cart->value, event->amount);
    } else if (items >= cart->items) {
        cart->items = 0;
    } else {
        int64_t average = (int64_t)((__int128)cart->value * items / cart->items);
        cart->items -= items;
        cart->value = window_subtract(cart->value, event->has & HAS_PRICE ? event->amount : average);
    }
    if (cart->items <= 0 || cart->value < 0)
        cart->value = 0;
    if (cart->items < 0)
        cart->items = 0;
}

static void derived_step(const struct window *w, struct window_derived *d, const struct window_event *event)
{
    session_step(w, &d->session, event);
    cart_step(&d->cart, event);
}

struct window_derived ring_derived_at(const struct window *w, unsigned char *base, uint32_t index, int32_t skip)
{
    struct window_derived d = ((const struct window_head *)base)->folded;
    for (uint32_t i = 0; i <= index; i++) {
        struct window_event event = ring_get(w, base, i);
        if ((int32_t)i != skip)
            derived_step(w, &d, &event);
    }
    return d;
}

void ring_recompute(const struct window *w, unsigned char *base)
{
    struct window_head *head = (struct window_head *)base;
    head->live = head->n ? ring_derived_at(w, base, head->n - 1u, -1) : head->folded;
}

/* ---- insertion ------------------------------------------------------------------------------------------------ */

/* What `since` needs to know of an event that the ring no longer holds. */
static void note_folded(const struct window *w, unsigned char *base, const struct window_event *event)
{
    struct window_head *head = (struct window_head *)base;
    int64_t *last = &window_folded_last(w, base)[event->type];
    uint32_t bit = UINT32_C(1) << event->type;
    if (!(head->folded_types & bit) || event->ts_ms > *last)
        *last = event->ts_ms;
    head->folded_types |= bit;
}

static struct window_event fold_oldest(const struct window *w, unsigned char *base)
{
    struct window_head *head = (struct window_head *)base;
    struct window_event oldest = ring_get(w, base, 0);
    derived_step(w, &head->folded, &oldest);
    note_folded(w, base, &oldest);
    head->first = (uint16_t)window_slot(w, head, 1);
    head->n--;
    return oldest;
}

/* The first place whose event is newer; equal times stay in order of arrival. */
static uint32_t place_of(const struct window *w, unsigned char *base, int64_t ts_ms)
{
    const struct window_head *head = (const struct window_head *)base;
    uint32_t place = head->n;
    while (place > 0 && window_ts(w, base)[window_slot(w, head, place - 1)] > ts_ms)
        place--;
    return place;
}

bool ring_insert(const struct window *w, unsigned char *base, const struct window_event *event,
                 struct window_event *left, int32_t *index)
{
    struct window_head *head = (struct window_head *)base;
    uint32_t place = place_of(w, base, event->ts_ms);
    bool full = head->n == w->ring;
    head->total++;
    if (full && place == 0) {
        note_folded(w, base, event);
        *left = *event;
        *index = -1;
        return true;
    }
    if (full) {
        *left = fold_oldest(w, base);
        place--;
    }
    bool last = place == head->n;
    for (uint32_t i = head->n; i > place; i--) {
        struct window_event moved = ring_get(w, base, i - 1);
        ring_put(w, base, i, &moved);
    }
    ring_put(w, base, place, event);
    head->n++;
    *index = (int32_t)place;
    if (last)
        derived_step(w, &head->live, event);
    else
        ring_recompute(w, base);
    return full;
}

/* ---- event ids ------------------------------------------------------------------------------------------------ */

/* Nearly every id is new: strides of fixed length without a branch inside, which the compiler turns into vectors. What
 * lies behind the last id is zero or stale and is sorted out by the second look. */
bool ring_knows_id(const struct window *w, unsigned char *base, uint64_t id)
{
    const struct window_head *head = (const struct window_head *)base;
    const uint32_t *low = window_id_low(w, base), *high = window_id_high(w, base), want = (uint32_t)id;
    for (uint32_t i = 0; i < head->ids_n; i += ID_STRIDE) {
        uint32_t hits = 0;
        for (uint32_t j = 0; j < ID_STRIDE; j++)
            hits |= low[i + j] == want;
        for (uint32_t j = 0; hits && j < ID_STRIDE && i + j < head->ids_n; j++)
            if (low[i + j] == want && high[i + j] == (uint32_t)(id >> 32))
                return true;
    }
    return false;
}

uint64_t ring_id(const struct window *w, unsigned char *base, uint32_t index)
{
    uint32_t at = (((const struct window_head *)base)->ids_first + index) % w->ids;
    return (uint64_t)window_id_high(w, base)[at] << 32 | window_id_low(w, base)[at];
}

void ring_add_id(const struct window *w, unsigned char *base, uint64_t id)
{
    struct window_head *head = (struct window_head *)base;
    uint32_t at = head->ids_n;
    if (at < w->ids) {
        head->ids_n++;
    } else {
        at = head->ids_first;
        head->ids_first = (uint16_t)(at + 1 == w->ids ? 0 : at + 1);
    }
    window_id_low(w, base)[at] = (uint32_t)id;
    window_id_high(w, base)[at] = (uint32_t)(id >> 32);
}
