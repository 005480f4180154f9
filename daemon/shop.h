/* SPDX-License-Identifier: Apache-2.0 */
/* shop.h - a believable shop: who clicks what, when, from where, and who is a fraud. Used by `gaitd gen` and by tests.
 *
 *   cmd_gen ─► shop_next() ─► struct shop_event ─► shop_event_json() ─► a line of JSON
 *
 * People have a few favourite categories that drift, come in sessions by their country's day and week, follow a funnel
 * (entry → views → cart → checkout → purchase) and leave at every step of it. Events come out in the order of time.
 *
 * The same configuration gives the same bytes on any machine: the random numbers are our own (shop_random.h), and the
 * only floating-point operations are + - * /, which IEEE 754 fixes to the last bit. The Makefile compiles these files
 * with -ffp-contract=off, so that no compiler fuses two of them. Memory is bounded by the number of users. */
#ifndef GAIT_SHOP_H
#define GAIT_SHOP_H

#include "gait/event.h"

#include <stddef.h>

struct shop_conf {
    uint32_t users;     /* 1 .. 100,000,000 */
    uint64_t events;    /* shop_next() ends after so many */
    uint64_t seed;
    int64_t start_ms;   /* Unix time at which the events begin; at least SHOP_START_MIN */
    double rate;        /* events per second of event time, as a mean over the whole run; > 0 */
    bool even;          /* exactly start + n / rate as the time of event n: for load at a steady rate */
    bool skew;          /* nine tenths of the events come from one fiftieth of the users */
    double fraud;       /* share of sessions that are fraudulent, 0 .. 1 */
};

/* The truth about one fraud, told when its last event is out. */
struct shop_label {
    uint32_t user;
    const char *scenario;        /* take_over, card_testing, bot, impossible_travel */
    int64_t first_ms, last_ms;
    const uint64_t *event_ids;   /* as in shop_event.id, in order */
    size_t n;
};

enum { SHOP_NONE = -1, SHOP_START_MIN = 86400000 /* times before 1970 have no place in this calendar */ };

struct shop_event {
    uint64_t id;          /* unique within a seed */
    int64_t ts_ms;
    uint32_t user;        /* 0 .. users - 1 */
    enum event_type type;
    uint64_t session, device;
    int32_t category;     /* SHOP_NONE, or an index for shop_category_name() */
    int32_t item;         /* SHOP_NONE, or an item's number */
    int64_t price_cents;  /* SHOP_NONE: no price, no quantity */
    int32_t quantity;
    uint32_t ip;          /* in 198.18.0.0/15, which belongs to nobody */
    const char *country, *currency;
    int32_t lat_e4, lon_e4; /* in 1/10,000 degrees */
    int32_t load_ms;      /* SHOP_NONE: not a page */
    int32_t campaign;     /* SHOP_NONE, or its number */
    bool consent;
};

struct shop;

/* `label` may be NULL; it is called from within the shop_next() that returns a fraud's last event. */
struct shop *shop_create(const struct shop_conf *conf, void (*label)(void *self, const struct shop_label *label),
                         void *self);
void shop_destroy(struct shop **shop);

/* The next event. False when all are out; labels of frauds cut off by the end have then been told too. */
bool shop_next(struct shop *shop, struct shop_event *event);

enum { SHOP_CATEGORIES = 32, SHOP_ITEMS_PER_CATEGORY = 250, SHOP_JSON_MAX = 640, SHOP_USER_MAX = 12, SHOP_ID_MAX = 20 };
const char *shop_category_name(int32_t category);

/* The event as one line of JSON in the default format, ended by a newline; buf holds SHOP_JSON_MAX bytes. */
size_t shop_event_json(const struct shop_event *event, char *buf);
size_t shop_user_name(uint32_t user, char *buf);   /* "u17"; SHOP_USER_MAX bytes, no NUL; returns the length */
size_t shop_event_id(uint64_t id, char *buf);      /* "e-0123456789abcdef"; SHOP_ID_MAX bytes, no NUL */

#endif
