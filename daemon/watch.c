// SPDX-License-Identifier: Apache-2.0
// watch.c - the admin pages' view of the flow. The engine calls watch_batch() after the sinks; nothing here allocates
// but when another model comes. Minutes follow the monotonic clock: a wall clock that jumps leaves no hole and no
// double.
//
//   alerts:  text  [ ……… | a | b | c | ……… ]  a ring of bytes; the oldest give way to the one that is written
//            entry [ a b c … ]                a ring of WATCH_ALERTS, with hashes to filter by
#include "watch.h"

#include "gait/output.h"

#include <assert.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { TEXT_BYTES = 2 << 20, ALERT_BYTES_MAX = 32 << 10, ALERTS_OF_A_BATCH = 256 };

struct entry {
    uint64_t user;                      /* hash */
    uint32_t at, len;                   /* in text */
    uint32_t rules_n;
    uint32_t rules[ALERT_SYMBOLS_MAX];  /* hashes */
};

struct watch {
    char *text;                         /* [TEXT_BYTES] */
    uint32_t text_at;
    struct entry *entries;              /* [WATCH_ALERTS], by number */
    uint64_t newest, kept;

    uint64_t first_minute, minute;      /* of the monotonic clock */
    uint32_t events[WATCH_MINUTES][EVENT_TYPES_MAX];
    float *interest;                    /* [WATCH_MINUTES][classes] */
    uint32_t classes;
    uint64_t model_id;
    int64_t model_since_ms;
};

static uint64_t minute_of(uint64_t mono_ns)
{
    return mono_ns / UINT64_C(60000000000);
}

struct watch *watch_create(uint64_t mono_ns)
{
    struct watch *w = calloc(1, sizeof *w);
    assert(w);
    w->text = malloc(TEXT_BYTES);
    w->entries = calloc(WATCH_ALERTS, sizeof *w->entries);
    assert(w->text && w->entries);
    w->first_minute = w->minute = minute_of(mono_ns);
    return w;
}

void watch_destroy(struct watch **watch)
{
    struct watch *w = *watch;
    if (!w)
        return;
    free(w->text);
    free(w->entries);
    free(w->interest);
    free(w);
    *watch = NULL;
}

void watch_advance(struct watch *w, uint64_t mono_ns)
{
    uint64_t now = minute_of(mono_ns);
    for (uint32_t passed = 0; w->minute < now && passed < WATCH_MINUTES; passed++) {
        w->minute++;
        memset(w->events[w->minute % WATCH_MINUTES], 0, sizeof w->events[0]);
        if (w->interest)
            memset(w->interest + w->minute % WATCH_MINUTES * w->classes, 0, w->classes * sizeof *w->interest);
    }
    if (w->minute < now) { /* more than an hour: all of it was cleared, so only the names of the minutes move */
        w->minute = now;
        w->first_minute = now - (WATCH_MINUTES - 1);
    }
}

/* ---- alerts ---------------------------------------------------------------------------------------------------- */

static uint64_t user_hash(struct str user)
{
    return XXH3_64bits(user.at, user.len);
}

static uint32_t rule_hash(struct str rule)
{
    return (uint32_t)XXH3_64bits(rule.at, rule.len);
}

static struct entry *entry_of(const struct watch *w, uint64_t number)
{
    return &w->entries[number % WATCH_ALERTS];
}

/* Room for one alert: the oldest ones whose text lies there are forgotten. */
static char *text_room(struct watch *w)
{
    if (w->text_at + ALERT_BYTES_MAX > TEXT_BYTES) {
        /* what lies between here and the end is older than what lies at the beginning */
        while (w->kept > 0 && entry_of(w, w->newest - w->kept + 1)->at >= w->text_at)
            w->kept--;
        w->text_at = 0;
    }
    while (w->kept > 0) {
        const struct entry *oldest = entry_of(w, w->newest - w->kept + 1);
        if (oldest->at + oldest->len <= w->text_at || oldest->at >= w->text_at + ALERT_BYTES_MAX)
            break;
        w->kept--;
    }
    return w->text + w->text_at;
}

static void keep_alert(struct watch *w, const struct batch *b, const struct alert *alert)
{
    size_t n = output_alert(b, alert, text_room(w), ALERT_BYTES_MAX);
    if (n == 0)
        return; /* one of the longest: the sinks have it, the page does without */
    w->newest++;
    w->kept = w->kept < WATCH_ALERTS ? w->kept + 1 : WATCH_ALERTS;
    struct entry *entry = entry_of(w, w->newest);
    entry->user = user_hash(b->events[alert->event].user);
    entry->at = w->text_at;
    entry->len = (uint32_t)n;
    entry->rules_n = alert->n < ALERT_SYMBOLS_MAX ? alert->n : ALERT_SYMBOLS_MAX;
    for (uint32_t i = 0; i < entry->rules_n; i++)
        entry->rules[i] = rule_hash(str_of(alert->symbols[i].name));
    w->text_at += (uint32_t)n;
}

void watch_forget(struct watch *w, struct str user)
{
    uint64_t hash = user_hash(user);
    for (uint64_t number = w->newest - w->kept + 1; number <= w->newest; number++) {
        struct entry *entry = entry_of(w, number);
        if (entry->user != hash)
            continue;
        memset(w->text + entry->at, 0, entry->len);
        entry->len = 0;
    }
}

uint64_t watch_alerts_newest(const struct watch *w)
{
    return w->newest;
}

uint64_t watch_alerts_kept(const struct watch *w)
{
    return w->kept;
}

bool watch_alert_at(const struct watch *w, uint64_t number, struct str user, struct str rule, struct watch_alert *out)
{
    assert(number <= w->newest && number + w->kept > w->newest);
    const struct entry *entry = entry_of(w, number);
    if (entry->len == 0 || (user.at && entry->user != user_hash(user)))
        return false;
    bool found = !rule.at;
    for (uint32_t i = 0; i < entry->rules_n && !found; i++)
        found = entry->rules[i] == rule_hash(rule);
    *out = (struct watch_alert){number, {w->text + entry->at, entry->len}};
    return found;
}

/* ---- counts ---------------------------------------------------------------------------------------------------- */

/* Another model has other classes: what was counted for the old one means nothing any more. */
static void follow_model(struct watch *w, const struct batch *b)
{
    const struct model *m = b->model;
    if (!m || m->id == w->model_id)
        return;
    w->model_id = m->id;
    w->model_since_ms = b->now_ms;
    w->classes = m->interest >= 0 ? m->heads[m->interest].classes : 0;
    if (w->classes > WATCH_CLASSES_MAX)
        w->classes = WATCH_CLASSES_MAX; /* names are in the order of their frequency: the rare ones go uncounted */
    free(w->interest);
    w->interest = w->classes ? calloc((size_t)WATCH_MINUTES * w->classes, sizeof *w->interest) : NULL;
    assert(w->interest || !w->classes);
}

static void count_events(struct watch *w, const struct batch *b)
{
    uint32_t *events = w->events[w->minute % WATCH_MINUTES];
    float *interest = w->interest ? w->interest + w->minute % WATCH_MINUTES * w->classes : NULL;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct score *score = &b->scores[i];
        if (b->events[i].verdict != EVENT_OK || b->events[i].silent)
            continue;
        events[b->events[i].type]++;
        for (uint32_t k = 0; interest && k < score->n; k++)
            if (score->top_id[k] < w->classes)
                interest[score->top_id[k]] += score->top_p[k];
    }
}

void watch_batch(struct watch *w, const struct batch *b, uint64_t mono_ns)
{
    watch_advance(w, mono_ns);
    follow_model(w, b);
    count_events(w, b);
    uint32_t from = b->alerts_n > ALERTS_OF_A_BATCH ? b->alerts_n - ALERTS_OF_A_BATCH : 0;
    w->newest += from;
    w->kept = from ? 0 : w->kept; /* numbers that are kept have no hole */
    for (uint32_t i = from; i < b->alerts_n; i++)
        if (!b->events[b->alerts[i].event].silent)
            keep_alert(w, b, &b->alerts[i]);
}

uint32_t watch_minutes(const struct watch *w)
{
    uint64_t known = w->minute - w->first_minute + 1;
    return known < WATCH_MINUTES ? (uint32_t)known : WATCH_MINUTES;
}

void watch_events(const struct watch *w, uint32_t type, uint32_t *minutes)
{
    uint32_t n = watch_minutes(w);
    for (uint32_t i = 0; i < n; i++)
        minutes[i] = w->events[(w->minute - (n - 1 - i)) % WATCH_MINUTES][type];
}

void watch_interest(const struct watch *w, uint32_t id, float *minutes)
{
    uint32_t n = watch_minutes(w);
    for (uint32_t i = 0; i < n; i++)
        minutes[i] = w->interest ? w->interest[(w->minute - (n - 1 - i)) % WATCH_MINUTES * w->classes + id] : 0;
}

uint32_t watch_classes(const struct watch *w)
{
    return w->classes;
}

uint64_t watch_model_id(const struct watch *w)
{
    return w->model_id;
}

int64_t watch_model_since_ms(const struct watch *w)
{
    return w->model_since_ms;
}
