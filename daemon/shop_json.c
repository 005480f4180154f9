// SPDX-License-Identifier: Apache-2.0
// shop_json.c - a shop_event as a line of JSON. Hand-written, for the benchmarks wait for it. No text in it needs
// an escape: all strings come from our own tables.
#include "shop.h"

#include <assert.h>
#include <string.h>

static const char *const type_names[] = {
    [EVENT_PAGE_VIEW] = "page_view", [EVENT_PRODUCT_VIEW] = "product_view", [EVENT_SEARCH] = "search",
    [EVENT_IMPRESSION] = "impression", [EVENT_CAMPAIGN_CLICK] = "campaign_click", [EVENT_ADD_TO_CART] = "add_to_cart",
    [EVENT_REMOVE_FROM_CART] = "remove_from_cart", [EVENT_CHECKOUT] = "checkout", [EVENT_PURCHASE] = "purchase",
    [EVENT_LOGIN] = "login", [EVENT_LOGIN_FAILED] = "login_failed", [EVENT_LOGOUT] = "logout", [EVENT_ERROR] = "error",
};

static char *put(char *p, const char *text)
{
    size_t n = strlen(text);
    memcpy(p, text, n);
    return p + n;
}

static char *put_number(char *p, uint64_t value)
{
    char digits[20];
    int n = 0;
    do
        digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n > 0)
        *p++ = digits[--n];
    return p;
}

/* value / 10^decimals, with all its decimals */
static char *put_fixed(char *p, int64_t value, int decimals)
{
    uint64_t unit = 1;
    for (int i = 0; i < decimals; i++)
        unit *= 10;
    if (value < 0)
        *p++ = '-';
    uint64_t size = value < 0 ? (uint64_t)-value : (uint64_t)value;
    p = put_number(p, size / unit);
    *p++ = '.';
    for (size %= unit; decimals-- > 0; size %= unit) {
        unit /= 10;
        *p++ = (char)('0' + size / unit);
    }
    return p;
}

static char *put_hex(char *p, uint64_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--)
        *p++ = "0123456789abcdef"[value >> (4 * i) & 15];
    return p;
}

static char *put_item(char *p, int32_t item)
{
    p = put(p, "sku-");
    for (int32_t unit = 10000; unit > 0; unit /= 10)
        *p++ = (char)('0' + item / unit % 10);
    return p;
}

static char *put_page(char *p, const struct shop_event *e)
{
    switch (e->type) {
    case EVENT_PRODUCT_VIEW: case EVENT_IMPRESSION:
        return put_item(put(p, "/p/"), e->item);
    case EVENT_PAGE_VIEW: case EVENT_CAMPAIGN_CLICK:
        return e->category == SHOP_NONE ? put(p, "/") : put(put(p, "/c/"), shop_category_name(e->category));
    case EVENT_SEARCH: return put(put(p, "/search?in="), shop_category_name(e->category));
    case EVENT_ADD_TO_CART: case EVENT_REMOVE_FROM_CART: return put(p, "/cart");
    case EVENT_CHECKOUT: return put(p, "/checkout");
    case EVENT_PURCHASE: return put(p, "/thanks");
    case EVENT_ERROR: return put(p, "/error");
    case EVENT_LOGOUT: return put(p, "/logout");
    default: return put(p, "/login");
    }
}

size_t shop_user_name(uint32_t user, char *buf)
{
    *buf = 'u';
    return (size_t)(put_number(buf + 1, user) - buf);
}

size_t shop_event_id(uint64_t id, char *buf)
{
    return (size_t)(put_hex(put(buf, "e-"), id, 16) - buf);
}

static char *put_goods(char *p, const struct shop_event *e)
{
    if (e->item != SHOP_NONE)
        p = put_item(put(p, "\",\"item_id\":\""), e->item);
    if (e->category != SHOP_NONE)
        p = put(put(p, "\",\"category\":\""), shop_category_name(e->category));
    *p++ = '"';
    if (e->price_cents != SHOP_NONE) {
        p = put_fixed(put(p, ",\"price\":"), e->price_cents, 2);
        p = put_number(put(p, ",\"quantity\":"), (uint64_t)e->quantity);
    }
    return p;
}

size_t shop_event_json(const struct shop_event *e, char *buf)
{
    char *p = put(buf, "{\"event_id\":\"");
    p += shop_event_id(e->id, p);
    p = put(put(p, "\",\"type\":\""), type_names[e->type]);
    p = put(p, "\",\"user_id\":\"");
    p += shop_user_name(e->user, p);
    p = put_number(put(p, "\",\"ts\":"), (uint64_t)e->ts_ms);
    p = put_hex(put(p, ",\"session_id\":\"s-"), e->session, 10);
    p = put_goods(p, e);
    p = put(put(p, ",\"currency\":\""), e->currency);
    p = put(p, "\",\"ip\":\"");
    for (int shift = 24; shift >= 0; shift -= 8) {
        p = put_number(p, e->ip >> shift & 255);
        *p++ = shift ? '.' : '"';
    }
    p = put_hex(put(p, ",\"device_id\":\"d-"), e->device, 10);
    p = put(put(p, "\",\"country\":\""), e->country);
    p = put_fixed(put(p, "\",\"lat\":"), e->lat_e4, 4);
    p = put_fixed(put(p, ",\"lon\":"), e->lon_e4, 4);
    p = put_page(put(p, ",\"page\":\""), e);
    *p++ = '"';
    if (e->load_ms != SHOP_NONE)
        p = put_number(put(p, ",\"load_ms\":"), (uint64_t)e->load_ms);
    if (e->campaign != SHOP_NONE) {
        p = put_number(put(p, ",\"campaign\":\"c"), (uint64_t)e->campaign);
        *p++ = '"';
    }
    p = put(p, e->consent ? ",\"consent\":true}\n" : ",\"consent\":false}\n");
    assert(p - buf <= SHOP_JSON_MAX);
    return (size_t)(p - buf);
}
