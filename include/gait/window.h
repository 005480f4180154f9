/* SPDX-License-Identifier: Apache-2.0 */
/* window.h - what window_rolling keeps of each user and what others may ask of it.
 *
 * Windows are (t - d, t] in event time, t = this user's newest event time. The last `ring` events are kept exactly;
 * older ones are folded into tiles. A window whose events are all in the ring is exact to the event. A longer one is
 * exact to one tile: an event at its old edge counts while any part of its tile lies inside.
 *
 * Columns it adds (TYPE of event.h or "all"; WINDOW as configured, e.g. 5m):
 *   count.TYPE.WINDOW   sum.TYPE.WINDOW (price × quantity, for the configured sum types)   distinct.category.WINDOW
 *   since.TYPE (seconds since the last one before this event; -1 = none known)   gap (seconds since the previous event)
 *   session.events   session.seconds   cart.items   cart.value   ring.events   total.events
 *   event.price   event.quantity   event.load_ms   time.day_sin   time.day_cos   time.week_sin   time.week_cos */
#ifndef GAIT_WINDOW_H
#define GAIT_WINDOW_H

#include "gait/event.h"
#include "gait/user.h"

/* One event as the ring keeps it: what the model, an explanation or a rebuild needs. 56 bytes. */
struct window_event {
    int64_t ts_ms;
    int64_t amount;      /* price × quantity in 1/10,000 of the currency's unit; exact, so sums do not drift */
    uint64_t id_hash;    /* XXH3 of event_id, 0 when it has none: duplicates are recognised by it */
    uint32_t category;   /* hash32 of the category's name, 0 = none: stays valid when the vocabulary changes */
    uint32_t item;       /* hash32 of item_id, 0 = none */
    uint32_t session;    /* hash32 of session_id, 0 = none */
    float quantity;
    float price;
    float load_ms;
    uint8_t type;        /* event type's id */
    uint8_t has;         /* enum event_field bits */
    uint16_t reserved;
};

/* The 32-bit hash that ring and vocabularies share: low half of XXH3-64, 0 replaced by 1 for non-empty text. */
uint32_t window_hash32(struct str text);

struct instance;

/* Events in the ring, oldest = 0. */
uint32_t window_ring_count(const struct instance *window, struct user *user);
const struct window_event *window_ring_at(const struct instance *window, struct user *user, uint32_t index);
uint32_t window_ring_size(const struct instance *window);

/* The window columns as they were right after ring event `index` (events after it left out), into a full row
 * of columns. Used to rebuild h and c under a new model, and to explain. `skip` leaves out one ring event
 * (its index), -1 = none. */
void window_columns_at(const struct instance *window, struct user *user, uint32_t index, int32_t skip, double *row);

#endif
