/* SPDX-License-Identifier: Apache-2.0 */
/* window.h - what window_rolling keeps of each user and what others may ask of it.
 *
 * Windows are (t - d, t] in event time, t = this user's newest event time. The last `ring` events are kept exactly;
 * older ones are folded into tiles of at most 1/24 of the window. A window whose events are all in the ring is exact to
 * the event. A longer one is exact to one tile: it never counts too few, and too many only while the newest event of
 * the tile at its old edge is still inside.
 *
 * Columns it adds (TYPE of event.h or "all"; WINDOW as configured: 5m, 1h, 24h, 7d …):
 *   count.TYPE.WINDOW   sum.TYPE.WINDOW (price × quantity, for the configured sum types)   distinct.category.WINDOW
 *   since.TYPE (seconds since the last one before this event; -1 = none known)   gap (seconds since the previous event)
 *   session.events   session.seconds   cart.items   cart.value   ring.events   total.events
 *   event.price   event.quantity   event.load_ms   time.day_sin   time.day_cos   time.week_sin   time.week_cos */
#ifndef GAIT_WINDOW_H
#define GAIT_WINDOW_H

#include "gait/event.h"
#include "gait/user.h"

/* One event as the ring keeps it: what the model, an explanation or a rebuild needs. Handed out by value: in the record
 * the fields lie in separate arrays, so that the hot path touches few cache lines. */
struct window_event {
    int64_t ts_ms;
    int64_t amount;      /* price × quantity in 1/10,000 of the currency's unit; exact, so sums do not drift */
    uint32_t category;   /* hash32 of the category's name, 0 = none: stays valid when the vocabulary changes */
    uint32_t item;       /* hash32 of item_id, 0 = none */
    uint32_t session;    /* hash32 of session_id, 0 = none */
    float quantity;
    float price;
    float load_ms;
    uint8_t type;        /* event type's id */
    uint8_t has;         /* enum event_field bits */
};

/* The 32-bit hash that ring and vocabularies share: low half of XXH3-64, 0 replaced by 1 for non-empty text. */
uint32_t window_hash32(struct str text);

struct instance;

/* Events in the ring, oldest = 0. */
uint32_t window_ring_count(const struct instance *window, struct user *user);
struct window_event window_ring_at(const struct instance *window, struct user *user, uint32_t index);
uint32_t window_ring_size(const struct instance *window);

/* The window columns as they were right after ring event `index` (events after it left out), into a full row of
 * columns; other modules' columns are left alone. Used to rebuild h and c under a new model, and to explain. `skip`
 * leaves out one more ring event (its index, not `index`), -1 = none. Equal to what run() wrote at that event, except
 * for windows that reach beyond the ring: their tiles may since have been merged or dropped. */
void window_columns_at(const struct instance *window, struct user *user, uint32_t index, int32_t skip, double *row);
/* The same with every window column, wanted or not, for people who look at one user: by_id [columns_count()], the
 * window's columns at their ids; others are left alone. */
void window_columns_all(const struct instance *window, struct user *user, uint32_t index, double *by_id);

#endif
