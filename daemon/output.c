// SPDX-License-Identifier: Apache-2.0
// output.c - scores, alerts and dead letters as JSON text, the same bytes for every sink.
//
// A score message is written for every event, so no printf here: names come escaped from the model, numbers are scaled
// to integers. Everything goes through one bounded writer; a message that does not fit is given up as a whole.
#include "gait/output.h"

#include "gait/model.h"
#include "gait/module.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

enum { SCORE_DECIMALS = 6, DECIMALS_MAX = 9, NUMBER_TEXT_MAX = 400 /* 1.8e308 in full, with decimals */ };

struct writer {
    char *at, *end;
    bool full;
};

static inline void put(struct writer *w, const void *bytes, size_t n)
{
    if ((size_t)(w->end - w->at) < n) {
        w->full = true;
        w->end = w->at; /* nothing shorter may slip in behind the gap */
        return;
    }
    memcpy(w->at, bytes, n);
    w->at += n;
}

/* A constant text: its length is known to the compiler, which then needs no call. */
#define PUT(w, text) put(w, text, sizeof(text) - 1)

static size_t written(const struct writer *w, const char *buf)
{
    return w->full ? 0 : (size_t)(w->at - buf);
}

/* ---- numbers --------------------------------------------------------------------------------------------------- */

static const char digit_pairs[200] =
    "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
    "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

/* Digits that end at `end`; returns where they begin. At most 20. */
static char *digits_before(char *end, uint64_t value)
{
    while (value >= 100) {
        end -= 2;
        memcpy(end, digit_pairs + value % 100 * 2, 2);
        value /= 100;
    }
    if (value < 10) {
        *--end = (char)('0' + value);
        return end;
    }
    end -= 2;
    memcpy(end, digit_pairs + value * 2, 2);
    return end;
}

static void put_integer(struct writer *w, int64_t value)
{
    char text[24], *end = text + sizeof text;
    char *at = digits_before(end, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
    if (value < 0)
        *--at = '-';
    put(w, at, (size_t)(end - at));
}

/* value × scale (below 2^52) to the nearest whole number, a half to the even one, of the exact product. The product as
 * computed is off by less than its last bit: only where it lies on a half does the part that was rounded off decide. */
static uint64_t scaled(double value, double scale)
{
    double product = value * scale;
    uint64_t n = (uint64_t)product;
    double past_half = product - (double)n - 0.5;
    if (past_half == 0)
        past_half = fma(value, scale, -product);
    return n + (past_half > 0 || (past_half == 0 && (n & 1)));
}

static void put_large(struct writer *w, double value, int decimals)
{
    char text[NUMBER_TEXT_MAX];
    int n = snprintf(text, sizeof text, "%.*f", decimals, value);
    assert(n > 0 && (size_t)n < sizeof text);
    while (decimals > 0 && text[n - 1] == '0')
        n--;
    if (text[n - 1] == '.')
        n--;
    put(w, text, (size_t)n);
}

static void put_number(struct writer *w, double value, int decimals)
{
    static const double scales[DECIMALS_MAX + 1] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};
    static const uint64_t powers[DECIMALS_MAX + 1] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000,
                                                      1000000000};
    assert(decimals >= 0 && decimals <= DECIMALS_MAX);
    double magnitude = fabs(value);
    if (!isfinite(value)) {
        PUT(w, "null");
        return;
    }
    if (magnitude * scales[decimals] >= 0x1p52) {
        if (magnitude < 0x1p63 && value == trunc(value))
            put_integer(w, (int64_t)value); /* times, above all */
        else
            put_large(w, value, decimals);
        return;
    }
    char text[32], *end = text + sizeof text, *at = end;
    uint64_t n = scaled(magnitude, scales[decimals]);
    uint64_t whole = n / powers[decimals], fraction = n % powers[decimals];
    if (fraction) {
        for (; fraction % 10 == 0; decimals--)
            fraction /= 10;
        at = digits_before(end, fraction);
        while (at > end - decimals)
            *--at = '0';
        *--at = '.';
    }
    at = digits_before(at, whole);
    if (value < 0 && n)
        *--at = '-';
    put(w, at, (size_t)(end - at));
}

/* ---- text ------------------------------------------------------------------------------------------------------ */

/* Bytes of the UTF-8 character at `at`, 0 when it is none (overlong, surrogate, above U+10FFFF, cut short). */
static size_t character_bytes(const unsigned char *at, size_t room)
{
    unsigned char c = at[0];
    size_t n = c < 0x80 ? 1 : c >= 0xC2 && c <= 0xDF ? 2 : (c & 0xF0) == 0xE0 ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 0;
    if (n > room)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    if ((c == 0xE0 && at[1] < 0xA0) || (c == 0xED && at[1] > 0x9F) || (c == 0xF0 && at[1] < 0x90)
        || (c == 0xF4 && at[1] > 0x8F))
        return 0;
    return n;
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

static void put_escape(struct writer *w, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    switch (c) {
    case '"': PUT(w, "\\\""); break;
    case '\\': PUT(w, "\\\\"); break;
    case '\n': PUT(w, "\\n"); break;
    case '\r': PUT(w, "\\r"); break;
    case '\t': PUT(w, "\\t"); break;
    default: put(w, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6); break;
    }
}

static void put_escaped(struct writer *w, struct str text)
{
    const unsigned char *at = (const unsigned char *)text.at, *end = at + text.len;
    while (at < end) {
        const unsigned char *from = at;
        while (at < end && is_plain(*at))
            at++;
        put(w, from, (size_t)(at - from));
        if (at == end)
            return;
        size_t n = character_bytes(at, (size_t)(end - at));
        if (n > 1)
            put(w, at, n);
        else if (n == 1)
            put_escape(w, *at);
        else
            PUT(w, "\xEF\xBF\xBD");
        at += n ? n : 1;
    }
}

static void put_quoted(struct writer *w, struct str text)
{
    PUT(w, "\"");
    put_escaped(w, text);
    PUT(w, "\"");
}

static bool is_utf8(struct str text)
{
    const unsigned char *at = (const unsigned char *)text.at, *end = at + text.len;
    while (at < end) {
        size_t n = character_bytes(at, (size_t)(end - at));
        if (n == 0)
            return false;
        at += n;
    }
    return true;
}

static void put_base64(struct writer *w, struct str bytes)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *at = (const unsigned char *)bytes.at;
    for (size_t left = bytes.len; left > 0 && !w->full; left -= left < 3 ? left : 3, at += 3) {
        uint32_t three = (uint32_t)at[0] << 16 | (left > 1 ? (uint32_t)at[1] << 8 : 0) | (left > 2 ? at[2] : 0);
        char four[4] = {letters[three >> 18], letters[three >> 12 & 63], left > 1 ? letters[three >> 6 & 63] : '=',
                        left > 2 ? letters[three & 63] : '='};
        put(w, four, sizeof four);
    }
}

/* ---- messages -------------------------------------------------------------------------------------------------- */

static void put_interests(struct writer *w, const struct batch *b, uint32_t event)
{
    const struct score *score = &b->scores[event];
    PUT(w, "[");
    for (uint32_t i = 0; i < score->n; i++) {
        struct str name = model_category_json(b->model, score->top_id[i]);
        if (i > 0)
            PUT(w, ",");
        PUT(w, "{\"category\":");
        put(w, name.at, name.len);
        PUT(w, ",\"score\":");
        put_number(w, (double)score->top_p[i], SCORE_DECIMALS);
        PUT(w, "}");
    }
    PUT(w, "]");
}

static void put_position(struct writer *w, const struct event *event)
{
    PUT(w, ",\"partition\":");
    put_integer(w, event->partition);
    PUT(w, ",\"offset\":");
    put_integer(w, event->offset);
}

/* Whose and when: the beginning that scores and alerts share. */
static void put_head(struct writer *w, const struct event *event)
{
    PUT(w, "\"user\":");
    put_quoted(w, event->user);
    PUT(w, ",\"ts\":");
    put_integer(w, event->ts_ms);
    put_position(w, event);
}

/* {"churn":0.12}: only where the model has such heads, so that readers of others see no new field. */
static void put_labels(struct writer *w, const struct batch *b, uint32_t event)
{
    bool any = false;
    for (uint32_t h = 0; b->model && h < b->model->heads_n; h++) {
        if (!model_head_is_label(&b->model->heads[h]))
            continue;
        if (any)
            PUT(w, ",");
        else
            PUT(w, ",\"labels\":{");
        put_quoted(w, str_of(b->model->heads[h].name));
        PUT(w, ":");
        put_number(w, (double)b->scores[event].labels[h], SCORE_DECIMALS);
        any = true;
    }
    if (any)
        PUT(w, "}");
}

size_t output_score(const struct batch *b, uint32_t event, char *buf, size_t cap)
{
    struct writer w = {.at = buf, .end = buf + cap};
    const struct score *score = &b->scores[event];
    PUT(&w, "{");
    put_head(&w, &b->events[event]);
    PUT(&w, ",\"interests\":");
    put_interests(&w, b, event);
    PUT(&w, ",\"intent\":");
    put_number(&w, (double)score->intent, SCORE_DECIMALS);
    put_labels(&w, b, event);
    PUT(&w, ",\"model\":");
    if (b->model)
        put_quoted(&w, str_of(model_id(b->model)));
    else
        PUT(&w, "null");
    if (score->degraded)
        PUT(&w, ",\"degraded\":true}");
    else
        PUT(&w, ",\"degraded\":false}");
    return written(&w, buf);
}

size_t output_interests(const struct batch *b, uint32_t event, char *buf, size_t cap)
{
    struct writer w = {.at = buf, .end = buf + cap};
    put_interests(&w, b, event);
    return written(&w, buf);
}

static void put_symbol(struct writer *w, const struct alert_symbol *symbol)
{
    PUT(w, "{\"name\":");
    put_quoted(w, str_of(symbol->name));
    PUT(w, ",\"weight\":");
    put_number(w, symbol->weight, SCORE_DECIMALS);
    PUT(w, ",\"value\":");
    put_number(w, symbol->value, SCORE_DECIMALS);
    PUT(w, ",\"threshold\":");
    put_number(w, symbol->threshold, SCORE_DECIMALS);
    PUT(w, ",\"text\":");
    put_quoted(w, str_of(symbol->text));
    PUT(w, "}");
}

size_t output_alert(const struct batch *b, const struct alert *alert, char *buf, size_t cap)
{
    struct writer w = {.at = buf, .end = buf + cap};
    char id[17];
    snprintf(id, sizeof id, "%016llx", (unsigned long long)alert->id);
    PUT(&w, "{\"alert_id\":");
    put_quoted(&w, str_of(id));
    PUT(&w, ",");
    put_head(&w, &b->events[alert->event]);
    PUT(&w, ",\"action\":");
    put_quoted(&w, str_of(alert->action));
    PUT(&w, ",\"score\":");
    put_number(&w, alert->score, SCORE_DECIMALS);
    PUT(&w, ",\"symbols\":[");
    for (uint32_t i = 0; i < alert->n; i++) {
        if (i > 0)
            PUT(&w, ",");
        put_symbol(&w, &alert->symbols[i]);
    }
    PUT(&w, "],\"event_ids\":[");
    for (uint32_t i = 0; i < alert->n_event_ids; i++) {
        if (i > 0)
            PUT(&w, ",");
        put_quoted(&w, alert->event_ids[i]);
    }
    PUT(&w, "]}");
    return written(&w, buf);
}

size_t output_dead(const struct batch *b, uint32_t event, char *buf, size_t cap)
{
    struct writer w = {.at = buf, .end = buf + cap};
    const struct event *e = &b->events[event];
    PUT(&w, "{\"reason\":");
    put_quoted(&w, str_of(event_verdict_name(e->verdict)));
    PUT(&w, ",\"detail\":");
    if (e->detail)
        put_quoted(&w, str_of(e->detail));
    else
        PUT(&w, "null");
    put_position(&w, e);
    if (is_utf8(e->raw)) {
        PUT(&w, ",\"value\":");
        put_quoted(&w, e->raw);
    } else {
        PUT(&w, ",\"base64\":\"");
        put_base64(&w, e->raw);
        PUT(&w, "\"");
    }
    PUT(&w, "}");
    return written(&w, buf);
}

size_t output_erased(const struct erasure *erasure, int32_t partitions, char *buf, size_t cap)
{
    struct writer w = {.at = buf, .end = buf + cap};
    PUT(&w, "{\"user\":");
    put_quoted(&w, erasure->name);
    PUT(&w, ",\"partition\":");
    put_integer(&w, erasure->partition);
    PUT(&w, ",\"partitions\":");
    put_integer(&w, partitions);
    PUT(&w, ",\"offset\":");
    put_integer(&w, erasure->offset);
    PUT(&w, ",\"erased_ms\":");
    put_integer(&w, erasure->erased_ms);
    PUT(&w, ",\"saved_ms\":");
    put_integer(&w, erasure->saved_ms);
    PUT(&w, "}");
    return written(&w, buf);
}

size_t output_escape(struct str text, char *buf, size_t cap)
{
    struct writer w = {.at = buf, .end = buf + cap};
    put_escaped(&w, text);
    return written(&w, buf);
}

size_t output_number(double value, int decimals, char *buf, size_t cap)
{
    struct writer w = {.at = buf, .end = buf + cap};
    put_number(&w, value, decimals);
    return written(&w, buf);
}
