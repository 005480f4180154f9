// SPDX-License-Identifier: Apache-2.0
// shop_fraud.c - the four frauds that the shop knows, and their labels. Part of shop.h's generator. A fraud takes the
// place of one session of its victim and remembers the ids of its events until the label is told.
//
//   take_over          another continent, new device: failed logins, a login, dear goods bought in a hurry
//   card_testing       many tiny purchases and declined cards within minutes
//   bot                a crawler: one product after the other, as regular as a clock
//   impossible_travel  a login at home, then within the hour one from another continent
#include "shop_inside.h"

#include <assert.h>
#include <stdlib.h>

enum scenario { TAKE_OVER, CARD_TESTING, BOT, IMPOSSIBLE_TRAVEL, SCENARIOS };
enum { EVENTS_MAX = 256 };

struct shop_fraud {
    struct shop_fraud *previous, *next; /* those under way, so that the end of the run can tell them */
    enum scenario scenario;
    struct shop_place place;    /* where the thief is */
    uint64_t device, session;
    uint32_t ip;
    int32_t step, failures, purchases, events; /* planned numbers of each */
    int32_t item;
    int64_t period_ms;
    int64_t first_ms, last_ms;
    size_t n;
    uint64_t ids[EVENTS_MAX];
};

static const char *const scenario_names[SCENARIOS] = {"take_over", "card_testing", "bot", "impossible_travel"};

static struct shop_place far_from(struct shop *shop, uint8_t country)
{
    uint8_t other;
    do
        other = (uint8_t)random_below(&shop->random, SHOP_COUNTRIES);
    while (!country_is_far(country, other));
    return country_place(other, random_bits(&shop->random));
}

void fraud_begin(struct shop *shop, struct shop_user *user)
{
    struct random *r = &shop->random;
    struct shop_fraud *f = calloc(1, sizeof *f);
    assert(f);
    uint32_t x = random_below(r, 10);
    f->scenario = x < 4 ? TAKE_OVER : x < 6 ? CARD_TESTING : x < 8 ? BOT : IMPOSSIBLE_TRAVEL;
    f->device = random_bits(r) & UINT64_C(0xffffffffff);
    f->session = random_bits(r) & UINT64_C(0xffffffffff);
    f->ip = (198u << 24) + (19u << 16) + random_below(r, 65536);
    f->place = f->scenario == TAKE_OVER || f->scenario == IMPOSSIBLE_TRAVEL ? far_from(shop, user->place.country)
                                                                            : user->place;
    f->failures = 3 + (int32_t)random_below(r, 5);
    f->purchases = f->scenario == CARD_TESTING ? 14 + (int32_t)random_below(r, 24) : 2 + (int32_t)random_below(r, 3);
    f->events = 70 + (int32_t)random_below(r, 150);
    f->period_ms = 1500 + (int64_t)random_below(r, 2500);
    f->item = (int32_t)random_below(r, (SHOP_CATEGORIES - 2) * SHOP_ITEMS_PER_CATEGORY);
    f->next = shop->frauds;
    if (f->next)
        f->next->previous = f;
    shop->frauds = f;
    user->fraud = f;
    user->campaign = SHOP_NONE;
}

/* Phones and laptops are sold on quickly; of them the dearest of a few. */
static int32_t dear_item(struct shop *shop)
{
    int32_t best = 0;
    for (int i = 0; i < 6; i++) {
        int32_t item = catalogue_item(shop, random_chance(&shop->random, 0.5) ? 12 : 14);
        if (i == 0 || catalogue_price_cents(item) > catalogue_price_cents(best))
            best = item;
    }
    return best;
}

/* login_failed × failures, login, front page, (product_view, add_to_cart, checkout, purchase) × purchases */
static int64_t step_take_over(struct shop *shop, struct shop_user *user, struct shop_event *event)
{
    struct shop_fraud *f = user->fraud;
    int32_t step = f->step++;
    session_page(shop, user, event);
    if (step < f->failures + 2) {
        event->type = step < f->failures ? EVENT_LOGIN_FAILED : step == f->failures ? EVENT_LOGIN : EVENT_PAGE_VIEW;
        return 2500 + random_below(&shop->random, 4000);
    }
    static const enum event_type round[] = {EVENT_PRODUCT_VIEW, EVENT_ADD_TO_CART, EVENT_CHECKOUT, EVENT_PURCHASE};
    int32_t in_round = (step - f->failures - 2) % 4;
    if (in_round == 0)
        f->item = dear_item(shop);
    event->type = round[in_round];
    session_goods(event, f->item, in_round == 3 && random_chance(&shop->random, 0.3) ? 2 : 1);
    bool done = in_round == 3 && --f->purchases == 0;
    return done ? -1 : 3000 + (int64_t)random_below(&shop->random, 9000);
}

/* login, then purchases of a few units each; about a third of the cards are declined first */
static int64_t step_card_testing(struct shop *shop, struct shop_user *user, struct shop_event *event)
{
    struct shop_fraud *f = user->fraud;
    session_page(shop, user, event);
    if (f->step++ == 0) {
        event->type = EVENT_LOGIN;
    } else if (random_chance(&shop->random, 0.33)) {
        event->type = EVENT_ERROR;
    } else {
        event->type = EVENT_PURCHASE;
        session_goods(event, 24 * SHOP_ITEMS_PER_CATEGORY + f->item % SHOP_ITEMS_PER_CATEGORY, 1);
        event->price_cents = 95 + 100 * (int64_t)random_below(&shop->random, 4);
        if (--f->purchases == 0)
            return -1;
    }
    return 7000 + random_below(&shop->random, 14000);
}

static int64_t step_bot(struct shop *shop, struct shop_user *user, struct shop_event *event)
{
    struct shop_fraud *f = user->fraud;
    session_page(shop, user, event);
    event->type = EVENT_PRODUCT_VIEW;
    session_goods(event, f->item++, 1);
    return ++f->step == f->events ? -1 : f->period_ms + random_below(&shop->random, 9) - 4;
}

/* At home: login, three views. Far away, too soon: login, views, perhaps a purchase. */
static int64_t step_impossible_travel(struct shop *shop, struct shop_user *user, struct shop_event *event)
{
    enum { AT_HOME = 4, AFTER = 5 };
    struct shop_fraud *f = user->fraud;
    int32_t step = f->step++;
    session_page(shop, user, event);
    if (step == 0 || step == AT_HOME) {
        event->type = EVENT_LOGIN;
    } else {
        bool last = step == AT_HOME + AFTER;
        event->type = last && random_chance(&shop->random, 0.4) ? EVENT_PURCHASE : EVENT_PRODUCT_VIEW;
        session_goods(event, step < AT_HOME ? catalogue_item(shop, user->favourites[0]) : dear_item(shop), 1);
        if (last)
            return -1;
    }
    uint32_t extra = random_below(&shop->random, 20000);
    return step == AT_HOME - 1 ? (12 + extra % 35) * INT64_C(60000) : 5000 + extra;
}

int64_t fraud_step(struct shop *shop, struct shop_user *user, struct shop_event *event)
{
    struct shop_fraud *f = user->fraud;
    bool at_home = f->scenario == IMPOSSIBLE_TRAVEL && f->step < 4;
    if (!at_home) {
        event->session = f->session;
        event->device = f->device;
        event->ip = f->ip;
        event->country = country_code(f->place.country);
        place_position(&f->place, &event->lat_e4, &event->lon_e4);
    }
    switch (f->scenario) {
    case TAKE_OVER: return step_take_over(shop, user, event);
    case CARD_TESTING: return step_card_testing(shop, user, event);
    case BOT: return step_bot(shop, user, event);
    case IMPOSSIBLE_TRAVEL: return step_impossible_travel(shop, user, event);
    case SCENARIOS: break;
    }
    assert(!"a scenario without steps");
    return -1;
}

void fraud_told(struct shop_user *user, const struct shop_event *event)
{
    struct shop_fraud *f = user->fraud;
    assert(f->n < EVENTS_MAX); /* the longest is a bot's 219 */
    if (f->n == 0)
        f->first_ms = event->ts_ms;
    f->last_ms = event->ts_ms;
    f->ids[f->n++] = event->id;
}

void fraud_end(struct shop *shop, struct shop_user *user)
{
    struct shop_fraud *f = user->fraud;
    struct shop_label label = {
        .user = user->id, .scenario = scenario_names[f->scenario],
        .first_ms = f->first_ms, .last_ms = f->last_ms, .event_ids = f->ids, .n = f->n,
    };
    if (f->n && shop->label)
        shop->label(shop->self, &label);
    if (f->previous)
        f->previous->next = f->next;
    else
        shop->frauds = f->next;
    if (f->next)
        f->next->previous = f->previous;
    free(f);
    user->fraud = NULL;
}
