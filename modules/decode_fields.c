// SPDX-License-Identifier: Apache-2.0
// decode_fields.c - what a payload says of an event, checked field by field. Part of decode_json.
//
// The first fault decides the verdict; consent comes before everything else, because an event without it must not reach
// the dead-letter output for another fault. Refused, not repaired: nobody finds a
// wrong price that was taken for 0.
#include "decode_fields.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

/* Bounds that leave room for sums: price × quantity in 1/10,000 units stays below 2^63 / 100. */
static const double PRICE_MAX = 1e12, QUANTITY_MAX = 1e6, AMOUNT_MAX = 9e12, LOAD_MS_MAX = 86400e3;

enum { DETAIL_BYTES = 200, SHOWN_BYTES = 40, NUMBER_BYTES = 24 };

const char *const decode_field_names[DECODE_FIELDS] = {
    [DECODE_TYPE] = "type",         [DECODE_USER] = "user_id",     [DECODE_TS] = "ts",
    [DECODE_EVENT_ID] = "event_id", [DECODE_SESSION] = "session_id", [DECODE_ITEM] = "item_id",
    [DECODE_CATEGORY] = "category", [DECODE_PRICE] = "price",      [DECODE_QUANTITY] = "quantity",
    [DECODE_CURRENCY] = "currency", [DECODE_IP] = "ip",            [DECODE_DEVICE] = "device_id",
    [DECODE_COUNTRY] = "country",   [DECODE_LAT] = "lat",          [DECODE_LON] = "lon",
    [DECODE_PAGE] = "page",         [DECODE_LOAD_MS] = "load_ms",  [DECODE_CAMPAIGN] = "campaign",
    [DECODE_CONSENT] = "consent",
};

/* One event on its way through the checks. */
struct reading {
    const struct decode_rules *rules;
    struct decode_values *values;
    struct event *event;
    struct arena *arena;
};

/* ---- what was wrong -------------------------------------------------------------------------------------------- */

/* The value as a person would recognise it: "text 'abc'", "number -5". */
static void show_value(const struct reading *r, enum decode_field field, char *out, size_t cap)
{
    const union decode_value *v = &r->values->at[field];
    switch (r->values->kind[field]) {
    case DECODE_TEXT: {
        uint32_t len = v->text.len;
        if (len > SHOWN_BYTES) { /* cut where a character begins */
            len = SHOWN_BYTES;
            while (len > 0 && (v->text.at[len] & 0xC0) == 0x80)
                len--;
        }
        snprintf(out, cap, "text '%.*s'%s", (int)len, v->text.at, len < v->text.len ? "…" : "");
        break;
    }
    case DECODE_INT: snprintf(out, cap, "number %lld", (long long)v->integer); break;
    case DECODE_UINT: snprintf(out, cap, "number %llu", (unsigned long long)v->natural); break;
    case DECODE_REAL: snprintf(out, cap, "number %.17g", v->real); break;
    case DECODE_BOOL: snprintf(out, cap, "%s", v->truth ? "true" : "false"); break;
    case DECODE_NESTED: snprintf(out, cap, "an object or array"); break;
    default: snprintf(out, cap, "nothing"); break;
    }
}

/* Returns false, so that checks can `return refuse(…)`. */
static bool refuse(struct reading *r, enum event_verdict verdict, enum decode_field field, const char *expected)
{
    char shown[DETAIL_BYTES / 2], text[DETAIL_BYTES];
    show_value(r, field, shown, sizeof shown);
    int n = snprintf(text, sizeof text, "%s: expected %s, found %s", decode_field_names[field], expected, shown);
    r->event->verdict = verdict;
    r->event->detail = arena_copy(r->arena, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
    return false;
}

/* ---- single values --------------------------------------------------------------------------------------------- */

static bool present(const struct reading *r, enum decode_field field)
{
    return r->values->kind[field] != DECODE_ABSENT;
}

static bool write_integer(struct reading *r, uint64_t magnitude, bool negative, struct str *to)
{
    char *text = arena_take(r->arena, NUMBER_BYTES);
    if (!text) {
        decode_out_of_room(r->event);
        return false;
    }
    char *at = text + NUMBER_BYTES;
    do
        *--at = (char)('0' + magnitude % 10);
    while (magnitude /= 10);
    if (negative)
        *--at = '-';
    *to = (struct str){at, (uint32_t)(text + NUMBER_BYTES - at)};
    return true;
}

/* Text; whole numbers too, because many shops number their users and items. */
static bool take_text(struct reading *r, enum decode_field field, struct str *to)
{
    const union decode_value *v = &r->values->at[field];
    switch (r->values->kind[field]) {
    case DECODE_ABSENT: return true;
    case DECODE_TEXT: *to = v->text; return true;
    case DECODE_INT:
        return write_integer(r, v->integer < 0 ? 0 - (uint64_t)v->integer : (uint64_t)v->integer, v->integer < 0, to);
    case DECODE_UINT: return write_integer(r, v->natural, false, to);
    default: return refuse(r, EVENT_WRONG_TYPE, field, "text or a whole number");
    }
}

/* A number, or text that is one from end to end: several systems send "99.50". */
static bool take_number(struct reading *r, enum decode_field field, double min, double max, const char *expected,
                        double *to)
{
    const union decode_value *v = &r->values->at[field];
    switch (r->values->kind[field]) {
    case DECODE_ABSENT: return true;
    case DECODE_INT: *to = (double)v->integer; break;
    case DECODE_UINT: *to = (double)v->natural; break;
    case DECODE_REAL: *to = v->real; break;
    case DECODE_TEXT:
        if (!decode_number(v->text, to))
            return refuse(r, EVENT_WRONG_TYPE, field, expected);
        break;
    default: return refuse(r, EVENT_WRONG_TYPE, field, expected);
    }
    if (!(*to >= min && *to <= max))
        return refuse(r, EVENT_BAD_NUMBER, field, expected);
    return true;
}

static bool text_is(struct str text, const char *word)
{
    return text.len == strlen(word) && strncasecmp(text.at, word, text.len) == 0;
}

/* ---- fields ---------------------------------------------------------------------------------------------------- */

static bool check_consent(struct reading *r)
{
    const union decode_value *v = &r->values->at[DECODE_CONSENT];
    bool given = true;
    uint8_t kind = r->values->kind[DECODE_CONSENT];
    if (!r->rules->obey_consent || kind == DECODE_ABSENT || (kind == DECODE_TEXT && text_is(v->text, "unset")))
        return true;
    if (kind == DECODE_BOOL)
        given = v->truth;
    else if (kind == DECODE_INT && (v->integer == 0 || v->integer == 1))
        given = v->integer == 1;
    else if (kind == DECODE_TEXT && (text_is(v->text, "false") || text_is(v->text, "no") || text_is(v->text, "denied")))
        given = false;
    else if (kind != DECODE_TEXT
             || !(text_is(v->text, "true") || text_is(v->text, "yes") || text_is(v->text, "granted")))
        return refuse(r, EVENT_WRONG_TYPE, DECODE_CONSENT, "true or false");
    if (!given)
        r->event->verdict = EVENT_NO_CONSENT;
    return given;
}

static bool check_type(struct reading *r)
{
    if (!present(r, DECODE_TYPE))
        return refuse(r, EVENT_MISSING_FIELD, DECODE_TYPE, "the name of an event type");
    if (r->values->kind[DECODE_TYPE] != DECODE_TEXT)
        return refuse(r, EVENT_WRONG_TYPE, DECODE_TYPE, "the name of an event type");
    int type = decode_types_find(r->rules->types, r->values->at[DECODE_TYPE].text);
    if (type == DECODE_TYPE_IGNORED || (type < 0 && r->rules->ignore_unknown)) {
        r->event->verdict = EVENT_IGNORED;
        return false;
    }
    if (type < 0)
        return refuse(r, EVENT_UNKNOWN_TYPE, DECODE_TYPE, "a known event type");
    r->event->type = (uint8_t)type;
    return true;
}

/* A line break or a quote in a user id is nearly always a fault of whoever wrote it, and trouble for those who read
 * keys, logs and labels. */
static bool is_plain(struct str user)
{
    for (uint32_t i = 0; i < user.len; i++)
        if ((unsigned char)user.at[i] < ' ' || user.at[i] == 0x7f || user.at[i] == '"')
            return false;
    return true;
}

static bool check_user(struct reading *r)
{
    struct str *user = &r->event->user;
    if (!present(r, DECODE_USER))
        return refuse(r, EVENT_MISSING_FIELD, DECODE_USER, "a user id");
    if (!take_text(r, DECODE_USER, user))
        return false;
    if (user->len > r->rules->user_bytes)
        return refuse(r, EVENT_BAD_USER, DECODE_USER, "a user id within engine.user_id_bytes");
    if (memchr(user->at, 0, user->len))
        return refuse(r, EVENT_BAD_USER, DECODE_USER, "a user id without NUL");
    if (!r->rules->any_user && !is_plain(*user))
        return refuse(r, EVENT_BAD_USER, DECODE_USER,
                      "a user id without quotes and control characters (user_ids: any)");
    return true;
}

static bool check_time(struct reading *r)
{
    static const char *const expected[] = {
        [DECODE_TIME_AUTO] = "a time as a number or ISO 8601", [DECODE_TIME_MS] = "a time in milliseconds since 1970",
        [DECODE_TIME_S] = "a time in seconds since 1970",      [DECODE_TIME_US] = "a time in microseconds since 1970",
        [DECODE_TIME_ISO8601] = "a time as ISO 8601",
    };
    uint8_t kind = r->values->kind[DECODE_TS];
    const char *wanted = expected[r->rules->time];
    if (kind == DECODE_ABSENT)
        return refuse(r, EVENT_MISSING_FIELD, DECODE_TS, wanted);
    if (kind == DECODE_BOOL || kind == DECODE_NESTED)
        return refuse(r, EVENT_WRONG_TYPE, DECODE_TS, wanted);
    if (!decode_time(r->rules->time, kind, &r->values->at[DECODE_TS], &r->event->ts_ms))
        return refuse(r, EVENT_BAD_TIME, DECODE_TS, wanted);
    return true;
}

static bool check_texts(struct reading *r)
{
    static const struct {
        enum decode_field field;
        size_t offset;
    } texts[] = {
        {DECODE_EVENT_ID, offsetof(struct event, event_id)}, {DECODE_SESSION, offsetof(struct event, session)},
        {DECODE_ITEM, offsetof(struct event, item)},         {DECODE_CATEGORY, offsetof(struct event, category)},
        {DECODE_CURRENCY, offsetof(struct event, currency)}, {DECODE_IP, offsetof(struct event, ip)},
        {DECODE_DEVICE, offsetof(struct event, device)},     {DECODE_COUNTRY, offsetof(struct event, country)},
        {DECODE_PAGE, offsetof(struct event, page)},         {DECODE_CAMPAIGN, offsetof(struct event, campaign)},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!take_text(r, texts[i].field, (struct str *)((char *)r->event + texts[i].offset)))
            return false;
    return true;
}

static bool check_numbers(struct reading *r)
{
    struct event *e = r->event;
    if (!take_number(r, DECODE_PRICE, 0, PRICE_MAX, "a number from 0 to 1e12", &e->price)
        || !take_number(r, DECODE_QUANTITY, 0, QUANTITY_MAX, "a number from 0 to 1e6", &e->quantity)
        || !take_number(r, DECODE_LOAD_MS, 0, LOAD_MS_MAX, "milliseconds from 0 to a day", &e->load_ms)
        || !take_number(r, DECODE_LAT, -90, 90, "degrees from -90 to 90", &e->lat)
        || !take_number(r, DECODE_LON, -180, 180, "degrees from -180 to 180", &e->lon))
        return false;
    if (e->price * e->quantity > AMOUNT_MAX)
        return refuse(r, EVENT_BAD_NUMBER, DECODE_PRICE, "a price that times quantity stays below 9e12");
    if (present(r, DECODE_LAT) != present(r, DECODE_LON)) {
        enum decode_field lacking = present(r, DECODE_LAT) ? DECODE_LON : DECODE_LAT;
        return refuse(r, EVENT_MISSING_FIELD, lacking, "lat and lon together");
    }
    e->has = (present(r, DECODE_PRICE) ? HAS_PRICE : 0) | (present(r, DECODE_QUANTITY) ? HAS_QUANTITY : 0)
             | (present(r, DECODE_LAT) ? HAS_PLACE : 0) | (present(r, DECODE_LOAD_MS) ? HAS_LOAD : 0);
    return true;
}

void decode_out_of_room(struct event *event)
{
    event->verdict = EVENT_TOO_LARGE;
    event->detail = "the batch's memory is used up";
}

void decode_fields(const struct decode_rules *rules, struct decode_values *values, struct event *event,
                   struct arena *arena)
{
    struct reading r = {.rules = rules, .values = values, .event = event, .arena = arena};
    event->verdict = EVENT_OK;
    if (!check_consent(&r) || !check_type(&r) || !check_user(&r) || !check_time(&r) || !check_texts(&r))
        return;
    check_numbers(&r);
}
