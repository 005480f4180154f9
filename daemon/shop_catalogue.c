// SPDX-License-Identifier: Apache-2.0
// shop_catalogue.c - what the shop sells and where its customers live. Constant tables; part of shop.h's generator.
#include "shop_inside.h"

enum { DEPARTMENT_SIZE = 4 };

struct category {
    const char *name;
    int32_t price_cents;  /* a typical price */
    uint8_t complement;   /* index of what people look at next */
};

/* Eight departments of four. The complement leads out of the department as often as not, so that what follows depends
 * on where one is (a Markov chain can learn it) and on where one came from (only a memory can). */
static const struct category categories[SHOP_CATEGORIES] = {
    {"shoes.running", 11900, 8},      {"shoes.sneakers", 8900, 4},      {"shoes.boots", 14900, 6},
    {"shoes.kids", 4900, 29},         {"clothing.shirts", 3900, 5},     {"clothing.jeans", 7900, 1},
    {"clothing.jackets", 15900, 2},   {"clothing.dresses", 6900, 20},   {"sports.fitness", 3500, 9},
    {"sports.outdoor", 9900, 2},      {"sports.cycling", 21900, 8},     {"sports.football", 4500, 0},
    {"electronics.phones", 59900, 13}, {"electronics.audio", 12900, 12}, {"electronics.laptops", 99900, 15},
    {"electronics.games", 5900, 13},  {"home.kitchen", 5500, 17},       {"home.furniture", 24900, 18},
    {"home.lamps", 7500, 17},         {"home.garden", 4200, 9},         {"beauty.skin", 2400, 21},
    {"beauty.perfume", 6200, 7},      {"beauty.hair", 1800, 20},        {"beauty.health", 2100, 8},
    {"books.novels", 1400, 25},       {"books.science", 2900, 14},      {"books.children", 1200, 28},
    {"books.travel", 1900, 9},        {"toys.building", 4400, 26},      {"toys.dolls", 2900, 3},
    {"toys.puzzles", 1900, 30},       {"toys.outdoor", 3300, 19},
};

struct country {
    char code[3], currency[4];
    int16_t utc_minutes;
    uint8_t weight;        /* per cent of the customers */
    uint8_t region;        /* countries of different regions are far apart */
    int32_t city[SHOP_CITIES][2]; /* latitude, longitude in 1/10,000 degrees */
};

static const struct country countries[SHOP_COUNTRIES] = {
    {"DE", "EUR", 60, 26, 0, {{525200, 134050}, {481370, 115760}, {535510, 99940}}},
    {"FR", "EUR", 60, 13, 0, {{488570, 23520}, {457640, 48360}, {432970, 53810}}},
    {"GB", "GBP", 0, 14, 0, {{515070, -1280}, {534810, -22420}, {559530, -31880}}},
    {"NL", "EUR", 60, 6, 0, {{523680, 49040}, {519240, 44770}, {520910, 51220}}},
    {"ES", "EUR", 60, 7, 0, {{404170, -37030}, {413870, 21690}, {373890, -59840}}},
    {"PL", "PLN", 60, 6, 0, {{522300, 210120}, {500650, 199450}, {543520, 186470}}},
    {"US", "USD", -360, 16, 1, {{407130, -740060}, {418780, -876300}, {297600, -953700}}},
    {"BR", "BRL", -180, 4, 2, {{-235510, -466330}, {-229070, -431730}, {-199170, -439350}}},
    {"IN", "INR", 330, 4, 3, {{190760, 728780}, {286140, 772090}, {129720, 775950}}},
    {"JP", "JPY", 540, 4, 4, {{356760, 1396500}, {346940, 1355020}, {351810, 1369060}}},
};

const char *shop_category_name(int32_t category)
{
    return categories[category].name;
}

/* Weights 1 / rank: the first item of a category sells twice as often as the second. */
void catalogue_create(struct shop *shop)
{
    double sum = 0;
    for (int i = 0; i < SHOP_ITEMS_PER_CATEGORY; i++)
        shop->item_sum[i] = sum += 1.0 / (i + 1);
    uint16_t at = 0;
    for (int i = 0; i < 1024; i++) {
        while (shop->item_sum[at] <= sum * i / 1024)
            at++;
        shop->item_guide[i] = at;
    }
    sum = 0;
    for (int i = 0; i < SHOP_CATEGORIES; i++) {
        /* 7 and 32 share no divisor, so the popular ranks are spread over the departments. */
        int rank = i * 7 % SHOP_CATEGORIES;
        shop->category_sum[i] = sum += 1.0 / (rank + 3);
    }
}

uint8_t catalogue_popular(struct shop *shop)
{
    double x = random_unit(&shop->random) * shop->category_sum[SHOP_CATEGORIES - 1];
    uint8_t c = 0;
    while (c < SHOP_CATEGORIES - 1 && shop->category_sum[c] <= x)
        c++;
    return c;
}

uint8_t catalogue_complement(uint8_t category)
{
    return categories[category].complement;
}

uint8_t catalogue_sibling(struct shop *shop, uint8_t category)
{
    uint32_t step = 1 + random_below(&shop->random, DEPARTMENT_SIZE - 1);
    return (uint8_t)(category / DEPARTMENT_SIZE * DEPARTMENT_SIZE + (category + step) % DEPARTMENT_SIZE);
}

int32_t catalogue_item(struct shop *shop, uint8_t category)
{
    double u = random_unit(&shop->random), x = u * shop->item_sum[SHOP_ITEMS_PER_CATEGORY - 1];
    int32_t rank = shop->item_guide[(int)(u * 1024)];
    while (rank < SHOP_ITEMS_PER_CATEGORY - 1 && shop->item_sum[rank] <= x)
        rank++;
    return category * SHOP_ITEMS_PER_CATEGORY + rank;
}

/* Between 0.4 and 2 times the category's typical price, ending in .95; an item's price never changes. */
int64_t catalogue_price_cents(int32_t item)
{
    int64_t typical = categories[catalogue_category(item)].price_cents;
    int64_t spread = 400 + (int64_t)(random_mix((uint64_t)item + 1) % 1600);
    return typical * spread / 1000 / 100 * 100 + 95;
}

const char *country_code(uint8_t country)
{
    return countries[country].code;
}

const char *country_currency(uint8_t country)
{
    return countries[country].currency;
}

double country_weight(uint8_t country)
{
    return countries[country].weight * 0.01;
}

int64_t country_local_ms(uint8_t country, int64_t ts_ms)
{
    return ts_ms + (int64_t)countries[country].utc_minutes * 60000;
}

uint8_t country_draw(struct shop *shop)
{
    uint32_t x = random_below(&shop->random, 100);
    uint8_t c = 0;
    while (c < SHOP_COUNTRIES - 1 && x >= countries[c].weight)
        x -= countries[c++].weight;
    return c;
}

bool country_is_far(uint8_t a, uint8_t b)
{
    return countries[a].region != countries[b].region;
}

struct shop_place country_place(uint8_t country, uint64_t key)
{
    return (struct shop_place){
        .country = country,
        .city = (uint8_t)(key % SHOP_CITIES),
        .north_e4 = (int16_t)((int)((key >> 8) % 1200) - 600), /* within 6 km of the centre or so */
        .east_e4 = (int16_t)((int)((key >> 24) % 1200) - 600),
    };
}

void place_position(const struct shop_place *place, int32_t *lat_e4, int32_t *lon_e4)
{
    const int32_t *city = countries[place->country].city[place->city];
    *lat_e4 = city[0] + place->north_e4;
    *lon_e4 = city[1] + place->east_e4;
}
