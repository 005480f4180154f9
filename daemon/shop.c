// SPDX-License-Identifier: Apache-2.0
// shop.c - the clock of the shop: a heap of users by the time of their next event. Whoever is due makes one step of a
// session and goes back into the heap. People in a session come back within seconds, the others within hours, so the
// one at the top rarely sinks far. See shop.h.
#include "shop_inside.h"

#include <assert.h>
#include <stdlib.h>

static void heap_sink(struct shop *shop, uint32_t at)
{
    struct shop_due *heap = shop->due, moving = heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= shop->due_n)
            break;
        if (child + 1 < shop->due_n && heap[child + 1].at_ms < heap[child].at_ms)
            child++;
        if (heap[child].at_ms >= moving.at_ms)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

/* Mean of the rhythm over the run, all countries by their share of the customers. */
static double mean_intensity(const struct shop *shop)
{
    enum { POINTS = 2000 };
    double span_ms = (double)shop->conf.events / shop->conf.rate * 1000, sum = 0;
    for (int i = 0; i < POINTS; i++)
        for (uint8_t c = 0; c < SHOP_COUNTRIES; c++)
            sum += country_weight(c) * people_intensity(shop, c, shop->conf.start_ms + (int64_t)(span_ms * i / POINTS));
    return sum / POINTS;
}

struct shop *shop_create(const struct shop_conf *conf, void (*label)(void *self, const struct shop_label *label),
                         void *self)
{
    assert(conf->users > 0 && conf->rate > 0 && conf->start_ms >= SHOP_START_MIN);
    struct shop *shop = calloc(1, sizeof *shop);
    assert(shop);
    shop->conf = *conf;
    shop->random = random_seeded(conf->seed);
    shop->label = label;
    shop->self = self;
    shop->users = calloc(conf->users, sizeof *shop->users);
    shop->due = calloc(conf->users, sizeof *shop->due);
    assert(shop->users && shop->due);
    catalogue_create(shop);
    people_create(shop);
    shop->intensity_mean = mean_intensity(shop);
    for (uint32_t i = 0; i < conf->users; i++) {
        struct shop_user *user = &shop->users[i];
        /* The doors opened a little earlier, so that visits are under way when the run starts. */
        int64_t opened = conf->start_ms - (int64_t)(3 * SESSION_MS * user->pace);
        shop->due[i] = (struct shop_due){people_next_visit_ms(shop, user, opened), i};
    }
    shop->due_n = conf->users;
    for (uint32_t i = conf->users / 2; i-- > 0;)
        heap_sink(shop, i);
    return shop;
}

/* Frauds that the end of the run cuts off get their label all the same. */
static void end_frauds(struct shop *shop)
{
    for (uint32_t i = 0; i < shop->conf.users && shop->frauds; i++)
        if (shop->users[i].fraud)
            fraud_end(shop, &shop->users[i]);
}

void shop_destroy(struct shop **shop)
{
    struct shop *s = *shop;
    if (!s)
        return;
    s->label = NULL;
    end_frauds(s);
    free(s->due);
    free(s->users);
    free(s);
    *shop = NULL;
}

static void fill_who(const struct shop_user *user, struct shop_event *event)
{
    *event = (struct shop_event){
        .ts_ms = event->ts_ms,
        .user = user->id,
        .session = user->session,
        .device = user->device,
        .category = SHOP_NONE,
        .item = SHOP_NONE,
        .price_cents = SHOP_NONE,
        .load_ms = SHOP_NONE,
        .campaign = user->campaign,
        .country = country_code(user->place.country),
        .currency = country_currency(user->home.country),
        .ip = (198u << 24) + (18u << 16) + (uint32_t)(random_mix(user->key + user->place.country) & 0xffff),
        .consent = user->consent,
    };
    place_position(&user->place, &event->lat_e4, &event->lon_e4);
    event->lat_e4 += user->drift_e4;
    event->lon_e4 -= user->drift_e4;
}

/* One step of this user; when it ends the session, the next visit is planned. */
static int64_t step(struct shop *shop, struct shop_user *user, struct shop_event *event)
{
    if (user->step == STEP_END) {
        session_begin(shop, user, event->ts_ms);
        /* The first visits of a person are honest: a fraud has to differ from something. */
        if (user->sessions > 2 && event->ts_ms >= shop->conf.start_ms && random_chance(&shop->random, shop->conf.fraud))
            fraud_begin(shop, user);
    }
    fill_who(user, event);
    int64_t pause = user->fraud ? fraud_step(shop, user, event) : session_step(shop, user, event);
    if (pause >= 0)
        return event->ts_ms + pause;
    user->step = STEP_END;
    return people_next_visit_ms(shop, user, event->ts_ms + people_drift(shop, user));
}

bool shop_next(struct shop *shop, struct shop_event *event)
{
    const struct shop_conf *conf = &shop->conf;
    if (shop->events == conf->events) {
        end_frauds(shop);
        return false;
    }
    struct shop_user *user;
    do {
        user = &shop->users[shop->due[0].user];
        event->ts_ms = shop->due[0].at_ms;
        shop->due[0].at_ms = step(shop, user, event);
        heap_sink(shop, 0);
    } while (event->ts_ms < conf->start_ms);
    /* Steady load is made now, and again: the second run's events are others, not duplicates of the first one's. */
    event->id = random_mix(random_mix(conf->seed + (conf->even ? (uint64_t)conf->start_ms : 0)) + ++shop->events);
    if (conf->even)
        event->ts_ms = conf->start_ms + (int64_t)((double)(shop->events - 1) * 1000 / conf->rate);
    if (user->fraud) {
        fraud_told(user, event);
        if (user->step == STEP_END)
            fraud_end(shop, user);
    }
    return true;
}
