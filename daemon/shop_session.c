// SPDX-License-Identifier: Apache-2.0
// shop_session.c - one visit, click by click. Part of shop.h's generator; shop.c calls it for whoever is due.
//
//   login? ─► entry (mail, search, front page) ─► browse ⇄ cart ─► checkout ─► purchase ─► browse, log out, leave
//                                                   └─────────┴───────┴── leave
//
// What is clicked next depends on the visit's mission, which only shows in the past: somebody who strayed from the
// running shoes to shirts comes back to the running shoes. A Markov chain sees the shirts alone.
#include "shop_inside.h"

#include <assert.h>

enum { SLOW_MS = 3000, BROKEN_MS = 9000 };

static const double leave_chance[] = {[MOOD_STROLL] = 0.17, [MOOD_RESEARCH] = 0.10, [MOOD_BUY] = 0.05};
static const double cart_chance[] = {[MOOD_STROLL] = 0.03, [MOOD_RESEARCH] = 0.08, [MOOD_BUY] = 0.34};
static const double again_chance[] = {[MOOD_STROLL] = 0.10, [MOOD_RESEARCH] = 0.30, [MOOD_BUY] = 0.45};
static const double dwell_ms[] = {[MOOD_STROLL] = 11e3, [MOOD_RESEARCH] = 24e3, [MOOD_BUY] = 32e3};

void session_begin(struct shop *shop, struct shop_user *user, int64_t ts_ms)
{
    struct random *r = &shop->random;
    struct shop_campaign campaign = people_campaign(shop, ts_ms);
    bool by_mail = campaign.id != SHOP_NONE && random_chance(r, 0.04 + 0.5 * campaign.pull);
    double which = random_unit(r);
    user->sessions++;
    user->session = random_mix(user->key + user->sessions) & UINT64_C(0xffffffffff);
    user->device = people_device(user, random_chance(r, 0.85) ? user->devices - 1u : random_below(r, user->devices));
    user->campaign = by_mail ? campaign.id : SHOP_NONE;
    if (by_mail && random_chance(r, 0.7))
        user->mission = campaign.category;
    else
        user->mission = which < 0.55 ? user->favourites[0] : which < 0.75 ? user->favourites[1] :
                        which < 0.85 ? user->favourites[2] : catalogue_popular(shop);
    /* Ripe for a purchase are those who came back to their first favourite again and again. */
    double buy = user->mission == user->favourites[0] ? 0.05 + 0.5 * (double)user->heat : 0.06;
    double mood = random_unit(r);
    user->mood = mood < buy ? MOOD_BUY : mood < buy + 0.35 ? MOOD_RESEARCH : MOOD_STROLL;
    user->comparing = user->mood != MOOD_STROLL && user->comparer && random_chance(r, 0.7);
    user->rival = random_chance(r, 0.7) ? catalogue_complement(user->mission) : catalogue_sibling(shop, user->mission);
    user->category = user->mission;
    user->seen_n = user->cart_n = user->bought = 0;
    user->views = 0;
    user->drift_e4 = (int16_t)((int)random_below(r, 200) - 100);
    user->logged_in = false;
    user->after_login = STEP_ENTRY;
    user->step = random_chance(r, 0.25) ? STEP_LOGIN : STEP_ENTRY;
}

void session_goods(struct shop_event *event, int32_t item, int32_t quantity)
{
    event->item = item;
    event->category = catalogue_category(item);
    event->price_cents = catalogue_price_cents(item);
    event->quantity = quantity;
}

void session_page(struct shop *shop, const struct shop_user *user, struct shop_event *event)
{
    double slow = people_slowness(shop, event->ts_ms);
    double line = 0.6 + (double)(user->key >> 40 & 255) / 128; /* some have a slow line, always */
    double ms = (90 + 260 * random_exponential(&shop->random)) * line * slow;
    event->load_ms = ms < 60000 ? (int32_t)ms : 60000;
}

static uint8_t next_category(struct shop *shop, struct shop_user *user)
{
    struct random *r = &shop->random;
    double x = random_unit(r);
    if (user->comparing && x < 0.85)
        return user->category == user->mission ? user->rival : user->mission;
    x = random_unit(r);
    if (user->category == user->mission)
        return x < 0.62 ? user->mission : x < 0.82 ? catalogue_complement(user->mission) :
               x < 0.90 ? catalogue_sibling(shop, user->mission) :
               x < 0.95 ? user->favourites[1] : catalogue_popular(shop);
    return x < 0.66 ? user->mission : x < 0.86 ? user->category :
           x < 0.94 ? catalogue_complement(user->category) : catalogue_popular(shop);
}

static int32_t choose_item(struct shop *shop, struct shop_user *user, uint8_t category)
{
    struct random *r = &shop->random;
    if (user->seen_n && random_chance(r, again_chance[user->mood])) {
        uint32_t n = user->seen_n < SHOP_SEEN ? user->seen_n : SHOP_SEEN;
        int32_t item = user->seen[random_below(r, n)];
        if (catalogue_category(item) == category)
            return item;
    }
    int32_t item = catalogue_item(shop, category);
    user->seen[user->seen_n % SHOP_SEEN] = item;
    user->seen_n = (uint8_t)(user->seen_n == 2 * SHOP_SEEN - 1 ? SHOP_SEEN : user->seen_n + 1);
    return item;
}

static enum shop_step step_login(struct shop *shop, struct shop_user *user, struct shop_event *event)
{
    session_page(shop, user, event);
    if (random_chance(&shop->random, 0.05)) {
        event->type = EVENT_LOGIN_FAILED;
        return random_chance(&shop->random, 0.1) ? STEP_END : STEP_LOGIN;
    }
    event->type = EVENT_LOGIN;
    user->logged_in = true;
    return user->after_login;
}

static enum shop_step step_entry(struct shop *shop, struct shop_user *user, struct shop_event *event)
{
    session_page(shop, user, event);
    if (user->campaign != SHOP_NONE)
        event->type = EVENT_CAMPAIGN_CLICK;
    else
        event->type = random_chance(&shop->random, 0.45) ? EVENT_SEARCH : EVENT_PAGE_VIEW;
    if (event->type != EVENT_PAGE_VIEW) /* the front page belongs to no category */
        event->category = user->mission;
    /* The bounce: one look and away. Slow pages make it worse. */
    return random_chance(&shop->random, event->load_ms > SLOW_MS ? 0.55 : 0.14) ? STEP_END : STEP_BROWSE;
}

/* After a look at goods: into the cart with it, on, or away. */
static enum shop_step after_view(struct shop *shop, struct shop_user *user, const struct shop_event *event)
{
    struct random *r = &shop->random;
    double usual = (double)event->price_cents /
                   (double)catalogue_price_cents(event->category * SHOP_ITEMS_PER_CATEGORY);
    double cart = cart_chance[user->mood] * (usual < 1 ? 1.2 : 0.9);
    if (user->cart_n < SHOP_CART && user->views > 1 && random_chance(r, cart)) {
        user->cart[user->cart_n] = event->item;
        user->quantity[user->cart_n] = (uint8_t)(random_chance(r, 0.12) ? 2 : 1);
        return STEP_CART;
    }
    return random_chance(r, leave_chance[user->mood] + (event->load_ms > SLOW_MS ? 0.3 : 0)) ? STEP_END : STEP_BROWSE;
}

static enum shop_step step_browse(struct shop *shop, struct shop_user *user, struct shop_event *event)
{
    struct random *r = &shop->random;
    double kind = random_unit(r);
    session_page(shop, user, event);
    if (event->load_ms > BROKEN_MS || kind < 0.004) {
        event->type = EVENT_ERROR;
        return random_chance(r, 0.5) ? STEP_END : STEP_BROWSE;
    }
    if (kind < 0.06) { /* a banner, shown and not asked for: it leads nowhere */
        event->type = EVENT_IMPRESSION;
        event->load_ms = SHOP_NONE;
        session_goods(event, catalogue_item(shop, catalogue_complement(user->category)), 1);
        return STEP_BROWSE;
    }
    user->category = next_category(shop, user);
    event->category = user->category;
    if (kind < 0.20) {
        event->type = kind < 0.11 ? EVENT_SEARCH : EVENT_PAGE_VIEW;
        return random_chance(r, leave_chance[user->mood] * 0.5) ? STEP_END : STEP_BROWSE;
    }
    event->type = EVENT_PRODUCT_VIEW;
    session_goods(event, choose_item(shop, user, user->category), 1);
    user->views++;
    if (user->category == user->favourites[0])
        user->heat += (1 - user->heat) * 0.04f;
    return after_view(shop, user, event);
}

static enum shop_step step_cart(struct shop *shop, struct shop_user *user, struct shop_event *event)
{
    event->type = EVENT_ADD_TO_CART;
    session_goods(event, user->cart[user->cart_n], user->quantity[user->cart_n]);
    user->cart_n++;
    double x = random_unit(&shop->random);
    if (user->mood != MOOD_BUY)
        x = 0.35 + x * 0.65;
    enum shop_step pay = user->logged_in ? STEP_CHECKOUT : STEP_LOGIN;
    user->after_login = STEP_CHECKOUT;
    return x < 0.55 ? pay : x < 0.80 ? STEP_BROWSE : x < 0.86 ? STEP_REMOVE : STEP_END;
}

static enum shop_step step_remove(struct shop_user *user, struct shop_event *event)
{
    event->type = EVENT_REMOVE_FROM_CART;
    user->cart_n--;
    session_goods(event, user->cart[user->cart_n], user->quantity[user->cart_n]);
    return STEP_BROWSE;
}

static enum shop_step step_checkout(struct shop *shop, struct shop_user *user, struct shop_event *event)
{
    event->type = EVENT_CHECKOUT;
    session_page(shop, user, event);
    event->category = catalogue_category(user->cart[0]);
    user->bought = 0;
    double pay = event->load_ms > SLOW_MS ? 0.4 : user->mood == MOOD_BUY ? 0.85 : 0.6;
    return random_chance(&shop->random, pay) ? STEP_PURCHASE : STEP_END;
}

/* One event for each line of the order. Bought is bought: the interest cools down. */
static enum shop_step step_purchase(struct shop *shop, struct shop_user *user, struct shop_event *event)
{
    event->type = EVENT_PURCHASE;
    session_goods(event, user->cart[user->bought], user->quantity[user->bought]);
    if (event->category == user->favourites[0])
        user->heat = user->heat * 0.2f;
    if (++user->bought < user->cart_n)
        return STEP_PURCHASE;
    user->cart_n = 0;
    user->mood = MOOD_STROLL;
    user->mission = user->rival = catalogue_complement(user->mission); /* the laces that go with the shoes */
    double x = random_unit(&shop->random);
    return x < 0.3 ? STEP_BROWSE : x < 0.5 ? STEP_LOGOUT : STEP_END;
}

/* Pause before the next click, by what was just seen. */
static double pause_ms(struct shop *shop, const struct shop_user *user, const struct shop_event *event)
{
    double spread = 0.25 + 0.75 * random_exponential(&shop->random);
    switch (event->type) {
    case EVENT_PRODUCT_VIEW: return dwell_ms[user->mood] * spread;
    case EVENT_PURCHASE: return user->step == STEP_PURCHASE ? 1 : 15e3 * spread;
    case EVENT_LOGIN: case EVENT_LOGIN_FAILED: return 6e3 * spread;
    case EVENT_CHECKOUT: return 45e3 * spread;
    case EVENT_IMPRESSION: return 1e3 * spread;
    default: return 12e3 * spread;
    }
}

int64_t session_step(struct shop *shop, struct shop_user *user, struct shop_event *event)
{
    switch ((enum shop_step)user->step) {
    case STEP_LOGIN: user->step = step_login(shop, user, event); break;
    case STEP_ENTRY: user->step = step_entry(shop, user, event); break;
    case STEP_BROWSE: user->step = step_browse(shop, user, event); break;
    case STEP_CART: user->step = step_cart(shop, user, event); break;
    case STEP_REMOVE: user->step = step_remove(user, event); break;
    case STEP_CHECKOUT: user->step = step_checkout(shop, user, event); break;
    case STEP_PURCHASE: user->step = step_purchase(shop, user, event); break;
    case STEP_LOGOUT:
        event->type = EVENT_LOGOUT;
        user->step = STEP_END;
        break;
    case STEP_END: assert(!"a session that is over"); break;
    }
    if (user->step == STEP_END)
        return -1;
    double ms = (pause_ms(shop, user, event) * user->tempo + (event->load_ms > 0 ? event->load_ms : 0)) * user->pace;
    return ms < 1 ? 1 : (int64_t)ms;
}
