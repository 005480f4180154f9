/* SPDX-License-Identifier: Apache-2.0 */
/* shop_inside.h - the shop's inside, shared by shop.c (time order), shop_catalogue.c (goods and countries),
 * shop_people.c (traits and rhythm), shop_session.c (the funnel) and shop_fraud.c (the scenarios). */
#ifndef GAIT_SHOP_INSIDE_H
#define GAIT_SHOP_INSIDE_H

#include "shop.h"
#include "shop_random.h"

enum { SHOP_FAVOURITES = 3, SHOP_CART = 3, SHOP_SEEN = 4, SHOP_COUNTRIES = 10, SHOP_CITIES = 3 };

struct shop_place {
    uint8_t country, city;
    int16_t north_e4, east_e4; /* off the city's centre, in 1/10,000 degrees */
};

/* Where the next event of a session stands in the funnel. */
enum shop_step {
    STEP_LOGIN, STEP_ENTRY, STEP_BROWSE, STEP_CART, STEP_REMOVE, STEP_CHECKOUT, STEP_PURCHASE, STEP_LOGOUT, STEP_END,
};

/* How serious a visit is. Shows in dwell time, repeated views and, of course, in purchases. */
enum shop_mood { MOOD_STROLL, MOOD_RESEARCH, MOOD_BUY };

struct shop_fraud;

struct shop_user {
    uint64_t key;              /* all that never changes about this person follows from it */
    double rest_ms;            /* mean pause between two sessions */
    float pace;                /* factor on pauses within a session; below 1 only when the asked rate leaves no time */
    float tempo;               /* quick and slow people */
    float heat;                /* how ripe the first favourite is for a purchase, 0 .. 1; grows with each view of it */
    uint32_t id, sessions;
    struct shop_fraud *fraud;  /* the scenario under way; NULL in an honest session */
    struct shop_place home, place;
    uint8_t favourites[SHOP_FAVOURITES]; /* the strongest first */
    uint8_t devices;           /* how many this person has had so far */
    uint8_t away;              /* sessions left of a journey; 0 = at home */
    bool consent, comparer;
    /* this session */
    uint64_t session, device;
    int32_t campaign;          /* SHOP_NONE, or whose mail brought them */
    int32_t seen[SHOP_SEEN], cart[SHOP_CART];
    uint8_t quantity[SHOP_CART];
    uint8_t seen_n, cart_n, bought;
    uint8_t step, after_login, mood, mission, rival, category;
    uint16_t views;
    int16_t drift_e4;          /* where in town, this time */
    bool logged_in, comparing;
};

struct shop_campaign {
    int32_t id;     /* SHOP_NONE: none runs */
    uint8_t category;
    double pull;    /* 1 when the mail has just gone out, falling to 0 */
};

/* Heap of users by the time of their next event; the first entry is due. */
struct shop_due {
    int64_t at_ms;
    uint32_t user;
};

struct shop {
    struct shop_conf conf;
    struct random random;
    struct shop_user *users;
    struct shop_due *due;
    uint32_t due_n;
    double intensity_mean;          /* of the rhythm over the run, so that the asked rate is met wherever it starts */
    uint64_t events;                /* told so far */
    double item_sum[SHOP_ITEMS_PER_CATEGORY]; /* cumulated Zipf weights */
    uint16_t item_guide[1024];      /* where to begin looking in item_sum */
    double category_sum[SHOP_CATEGORIES];
    struct shop_fraud *frauds;      /* those under way */
    void (*label)(void *self, const struct shop_label *label);
    void *self;
};

/* ---- shop_catalogue.c ------------------------------------------------------------------------------------------- */
void catalogue_create(struct shop *shop);
uint8_t catalogue_popular(struct shop *shop);           /* a category, the popular ones more often */
uint8_t catalogue_complement(uint8_t category);         /* what goes with it: running shoes, then running shirts */
uint8_t catalogue_sibling(struct shop *shop, uint8_t category); /* another one of its department */
int32_t catalogue_item(struct shop *shop, uint8_t category);    /* by Zipf's law */
int64_t catalogue_price_cents(int32_t item);
static inline uint8_t catalogue_category(int32_t item)
{
    return (uint8_t)(item / SHOP_ITEMS_PER_CATEGORY);
}
const char *country_code(uint8_t country);
const char *country_currency(uint8_t country);
int64_t country_local_ms(uint8_t country, int64_t ts_ms);
double country_weight(uint8_t country);
struct shop_place country_place(uint8_t country, uint64_t key); /* somewhere near one of its towns */
void place_position(const struct shop_place *place, int32_t *lat_e4, int32_t *lon_e4);
uint8_t country_draw(struct shop *shop);
bool country_is_far(uint8_t a, uint8_t b);              /* an ocean or a continent apart */

/* ---- shop_people.c ---------------------------------------------------------------------------------------------- */
/* Traits of users [0 .. n); needs conf. */
void people_create(struct shop *shop);
/* How busy people of a country are at a time; 1 on average over a week without campaigns. */
double people_intensity(const struct shop *shop, uint8_t country, int64_t ts_ms);
int64_t people_next_visit_ms(struct shop *shop, const struct shop_user *user, int64_t after_ms);
struct shop_campaign people_campaign(const struct shop *shop, int64_t ts_ms);
double people_slowness(const struct shop *shop, int64_t ts_ms); /* factor on load times; 1 on a good day */
/* Interests, devices and journeys, between two sessions; returns how long the pause is at least, in ms. */
int64_t people_drift(struct shop *shop, struct shop_user *user);
uint64_t people_device(const struct shop_user *user, unsigned index);

/* ---- shop_session.c --------------------------------------------------------------------------------------------- */
/* Mean events and duration of an honest session at natural pace; measured, and checked by tests/unit_gen.c. */
#define SESSION_EVENTS 8.2
#define SESSION_MS 115e3
void session_begin(struct shop *shop, struct shop_user *user, int64_t ts_ms);
/* Fill the event (ts, user and who are set) and return the pause until the next in ms, or -1: the session is over. */
int64_t session_step(struct shop *shop, struct shop_user *user, struct shop_event *event);
/* The fields that depend on the type only; shared with the frauds. */
void session_page(struct shop *shop, const struct shop_user *user, struct shop_event *event);
void session_goods(struct shop_event *event, int32_t item, int32_t quantity);

/* ---- shop_fraud.c ----------------------------------------------------------------------------------------------- */
void fraud_begin(struct shop *shop, struct shop_user *user);
int64_t fraud_step(struct shop *shop, struct shop_user *user, struct shop_event *event);
void fraud_told(struct shop_user *user, const struct shop_event *event); /* it got its id and its time */
void fraud_end(struct shop *shop, struct shop_user *user);               /* tells the label */

#endif
