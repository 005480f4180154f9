// SPDX-License-Identifier: Apache-2.0
// shop_people.c - who the customers are and when they come: traits, the rhythm of day and week, mails that draw crowds,
// days on which the shop is slow, journeys. Part of shop.h's generator.
#include "shop_inside.h"

#define DAY_MS INT64_C(86400000)
#define HOUR_MS INT64_C(3600000)

enum { SKEW_PART = 50, CAMPAIGN_MS = 3 * 3600000, TRAVEL_MS = 14 * 3600000 };

/* Visits by local hour in per cent of the mean hour; they add up to 2400. */
static const uint16_t hour_percent[24] = {
    40, 22, 14, 10, 12, 20, 38, 62, 86, 104, 114, 120, 126, 118, 112, 110, 114, 124, 144, 176, 206, 220, 188, 120,
};
/* By local weekday from Monday on; they add up to 700. */
static const uint16_t weekday_percent[7] = {100, 94, 92, 90, 88, 108, 128};

/* An upper bound of people_intensity(): 2.2 × 1.28 × (1 + the pull of a mail). */
static const double intensity_max = 2.2 * 1.28 * 2;

/* A number for this day that is the same whenever it is asked for. */
static uint64_t day_dice(const struct shop *shop, int64_t day, uint64_t what)
{
    return random_mix(random_mix(shop->conf.seed ^ what * UINT64_C(0x9e3779b97f4a7c15)) + (uint64_t)day);
}

struct shop_campaign people_campaign(const struct shop *shop, int64_t ts_ms)
{
    int64_t day = ts_ms / DAY_MS;
    uint64_t dice = day_dice(shop, day, 1);
    int64_t begin = day * DAY_MS + (int64_t)(6 + dice % 14) * HOUR_MS;
    struct shop_campaign none = {.id = SHOP_NONE}, c = {
        .id = (int32_t)(day % 1000000),
        .category = (uint8_t)((dice >> 8) % SHOP_CATEGORIES),
        .pull = 1 - (double)(ts_ms - begin) / CAMPAIGN_MS,
    };
    bool quiet = (dice >> 16) % 10 < 3; /* three days in ten without a mail */
    return quiet || ts_ms < begin || ts_ms >= begin + CAMPAIGN_MS ? none : c;
}

/* Every other day something breaks: for half an hour or so all pages take four to nine times as long. */
double people_slowness(const struct shop *shop, int64_t ts_ms)
{
    uint64_t dice = day_dice(shop, ts_ms / DAY_MS, 2);
    int64_t begin = (int64_t)(dice % 1380) * 60000, length = (int64_t)(20 + (dice >> 16) % 30) * 60000;
    int64_t into = ts_ms % DAY_MS - begin;
    return (dice >> 32) % 2 == 0 && into >= 0 && into < length ? 4 + (double)((dice >> 40) % 6) : 1;
}

double people_intensity(const struct shop *shop, uint8_t country, int64_t ts_ms)
{
    int64_t local = country_local_ms(country, ts_ms);
    /* 1970-01-01 was a Thursday, the fourth day from Monday on. */
    double rhythm = hour_percent[local / HOUR_MS % 24] * 0.01 * (weekday_percent[(local / DAY_MS + 3) % 7] * 0.01);
    struct shop_campaign campaign = people_campaign(shop, ts_ms);
    return campaign.id == SHOP_NONE ? rhythm : rhythm * (1 + campaign.pull);
}

/* Thinning (Lewis, Shedler 1979): visits at the greatest possible rate, each kept with the probability that the hour
 * deserves. */
int64_t people_next_visit_ms(struct shop *shop, const struct shop_user *user, int64_t after_ms)
{
    double step = user->rest_ms * shop->intensity_mean / intensity_max;
    double at = (double)after_ms;
    do
        at += step * random_exponential(&shop->random);
    while (random_unit(&shop->random) * intensity_max >= people_intensity(shop, user->place.country, (int64_t)at));
    return (int64_t)at;
}

uint64_t people_device(const struct shop_user *user, unsigned index)
{
    return random_mix(user->key + 77 * (uint64_t)(index + 1)) & UINT64_C(0xffffffffff);
}

/* What happens to a person between two visits: tastes drift, phones are replaced, some travel. A journey takes time:
 * nobody clicks from abroad within TRAVEL_MS of having clicked at home. Returns the least pause in ms. */
int64_t people_drift(struct shop *shop, struct shop_user *user)
{
    struct random *r = &shop->random;
    if (random_chance(r, 0.10)) {
        /* A new interest grows out of the strongest one, or out of nowhere; the weakest is forgotten. */
        uint8_t next = random_chance(r, 0.5) ? catalogue_complement(user->favourites[0]) : catalogue_popular(shop);
        user->favourites[SHOP_FAVOURITES - 1] = next;
    }
    if (random_chance(r, 0.12)) {
        unsigned i = 1 + random_below(r, SHOP_FAVOURITES - 1);
        uint8_t first = user->favourites[0];
        user->favourites[0] = user->favourites[i];
        user->favourites[i] = first;
        user->heat = user->heat * 0.3f;
    }
    if (user->devices < 200 && random_chance(r, 0.01))
        user->devices++;
    if (user->away) {
        if (--user->away > 0)
            return 0;
        user->place = user->home;
        return TRAVEL_MS;
    }
    if (user->pace < 1 || !random_chance(r, 0.004))
        return 0;
    user->away = (uint8_t)(2 + random_below(r, 5));
    uint8_t country = country_draw(shop);
    user->place = country_place(country, random_bits(r));
    return TRAVEL_MS;
}

static double activity(const struct shop *shop, struct random *r, uint32_t id)
{
    double own = 0.4 + 0.6 * random_exponential(r);
    uint32_t busy = (shop->conf.users + SKEW_PART - 1) / SKEW_PART;
    if (!shop->conf.skew || busy == shop->conf.users)
        return own;
    /* The busy ones are spread over all ids: those whose number ends a block of SKEW_PART. */
    bool is_busy = id % SKEW_PART == 0;
    return is_busy ? own * 0.9 / busy : own * 0.1 / (shop->conf.users - busy);
}

static void create_user(struct shop *shop, struct shop_user *user, uint32_t id)
{
    struct random *r = &shop->random;
    user->key = random_mix(shop->conf.seed + random_mix(id + UINT64_C(1)));
    user->id = id;
    user->step = STEP_END;
    user->campaign = SHOP_NONE;
    /* One draw a statement: C leaves the order within an initialiser or an argument list to the compiler. */
    user->tempo = (float)(0.6 + 0.8 * random_unit(r));
    user->devices = (uint8_t)(1 + random_below(r, 3));
    user->consent = !random_chance(r, 0.04);
    user->comparer = random_chance(r, 0.3);
    user->home = country_place(country_draw(shop), user->key >> 3);
    user->place = user->home;
    user->favourites[0] = catalogue_popular(shop);
    for (int i = 1; i < SHOP_FAVOURITES; i++)
        user->favourites[i] = random_chance(r, 0.4) ? catalogue_complement(user->favourites[i - 1])
                                                    : catalogue_popular(shop);
}

void people_create(struct shop *shop)
{
    double sum = 0;
    for (uint32_t i = 0; i < shop->conf.users; i++) {
        create_user(shop, &shop->users[i], i);
        shop->users[i].rest_ms = activity(shop, &shop->random, i);
        sum += shop->users[i].rest_ms;
    }
    double sessions_per_ms = shop->conf.rate / 1000 / SESSION_EVENTS;
    for (uint32_t i = 0; i < shop->conf.users; i++) {
        struct shop_user *user = &shop->users[i];
        double cycle_ms = 1 / (sessions_per_ms * user->rest_ms / sum);
        /* Who has to come more often than there is time for clicks faster. A session fills at most a seventh of the
         * time between two, so that a busy hour can still bring several times as many. */
        double pace = 0.15 * cycle_ms / SESSION_MS;
        user->pace = pace < 1 ? (float)pace : 1;
        user->rest_ms = cycle_ms - SESSION_MS * user->pace;
    }
}
