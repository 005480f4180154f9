// SPDX-License-Identifier: Apache-2.0
// explain_text.c - an explanation as JSON for programs and as a table for people.
#include "explain.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { FEATURES_SHOWN = 12, NAME_WIDTH = 28 };

static const char *const target_names[EXPLAIN_TARGETS] = {"interest", "intent"};

/* The ring keeps hashes; the vocabularies know most of the names. Without text when none does. */
static struct str name_find(const struct model *m, enum model_field field, uint32_t hash)
{
    for (uint32_t i = 0; i < m->embeddings_n && hash; i++) {
        const struct model_embedding *e = &m->embeddings[i];
        int id = e->field == field ? model_vocabulary_find(&e->vocabulary, hash) : -1;
        if (id >= 0)
            return e->vocabulary.name[id];
    }
    for (uint32_t i = 0; i < m->heads_n && hash; i++) {
        const struct model_head *h = &m->heads[i];
        bool same = h->kind == MODEL_SOFTMAX && strcmp(h->target, model_field_name(field)) == 0;
        int id = same ? model_vocabulary_find(&h->vocabulary, hash) : -1;
        if (id >= 0)
            return h->vocabulary.name[id];
    }
    return (struct str){0};
}

/* Names come from events: nothing in them may move the reader's cursor or colour the screen. */
static void print_name(struct str name, uint32_t hash, int width, FILE *out)
{
    char text[NAME_WIDTH + 1];
    uint32_t n = name.len < NAME_WIDTH ? name.len : NAME_WIDTH;
    snprintf(text, sizeof text, hash ? "#%08x" : "-", hash);
    for (uint32_t i = 0; i < n; i++)
        text[i] = (unsigned char)name.at[i] < ' ' || name.at[i] == 0x7f ? '?' : name.at[i];
    if (n)
        text[n] = 0;
    fprintf(out, "%-*s", width, text);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *scores_json(const struct explanation *x, const struct explain_score *scores)
{
    json_t *json = json_object();
    for (int t = 0; t < EXPLAIN_TARGETS; t++)
        if (x->there[t])
            json_object_set_new(json, target_names[t], json_pack("{s:o,s:o}", "p", number(scores[t].p), "log_odds",
                                                                 number(scores[t].log_odds)));
    return json;
}

static json_t *effects_json(const struct explanation *x, const double *effect)
{
    json_t *json = json_object();
    for (int t = 0; t < EXPLAIN_TARGETS; t++)
        if (x->there[t])
            json_object_set_new(json, target_names[t], number(effect[t]));
    return json;
}

static json_t *name_json(const struct model *m, enum model_field field, uint32_t hash)
{
    struct str name = name_find(m, field, hash);
    char unknown[16];
    snprintf(unknown, sizeof unknown, "#%08x", hash);
    return !hash ? json_null() : name.at ? json_stringn(name.at, name.len) : json_string(unknown);
}

static json_t *event_json(const struct explanation *x, const struct explain_event *e, const struct model *m,
                          const struct event_types *types)
{
    json_t *json = json_pack("{s:I,s:s}", "ts", (json_int_t)e->event.ts_ms, "type",
                             e->event.type < types->n ? types->name[e->event.type] : "unknown");
    json_object_set_new(json, "category", name_json(m, MODEL_CATEGORY, e->event.category));
    json_object_set_new(json, "item", name_json(m, MODEL_ITEM, e->event.item));
    json_object_set_new(json, "effect", effects_json(x, e->effect));
    json_object_set_new(json, "without", scores_json(x, e->without));
    return json;
}

json_t *explain_json(const struct explanation *x, const struct model *m, const struct event_types *types)
{
    json_t *json = json_object(), *events = json_array(), *features = json_array();
    json_object_set_new(json, "model", json_string(model_id(m)));
    json_object_set_new(json, "unit", json_string("log-odds, ln(p / (1 - p))"));
    if (x->there[EXPLAIN_INTEREST])
        json_object_set_new(json, "interest", json_string(model_category_name(m, x->top).at));
    json_object_set_new(json, "explained", scores_json(x, x->rebuilt));
    json_object_set_new(json, "stored", x->has_stored ? scores_json(x, x->stored) : json_null());
    json_object_set_new(json, "without_any_event", scores_json(x, x->empty));
    json_object_set_new(json, "sum_of_event_effects", effects_json(x, x->sum));
    json_object_set_new(json, "events_in_ring", json_integer(x->ring_n));
    for (uint32_t e = 0; e < x->events_n; e++)
        json_array_append_new(events, event_json(x, &x->events[e], m, types));
    for (uint32_t f = 0; f < x->features_n; f++) {
        const struct explain_feature *feature = &x->features[f];
        json_array_append_new(features, json_pack("{s:s,s:o,s:o,s:o,s:o}", "column", m->features[f].column, "value",
                                                  number(feature->column), "normalised", number((double)feature->x),
                                                  "effect", effects_json(x, feature->effect), "at_mean",
                                                  scores_json(x, feature->mean)));
    }
    json_object_set_new(json, "events", events);
    json_object_set_new(json, "features", features);
    return json;
}

/* ---- for people ------------------------------------------------------------------------------------------------- */

static void print_score(const struct explanation *x, const struct explain_score *scores, const char *what, FILE *out)
{
    fprintf(out, "%-34s", what);
    for (int t = 0; t < EXPLAIN_TARGETS; t++)
        if (x->there[t])
            fprintf(out, "  %8.4f (%+7.3f)", scores[t].p, scores[t].log_odds);
    fputc('\n', out);
}

static void print_effects(const struct explanation *x, const double *effect, FILE *out)
{
    for (int t = 0; t < EXPLAIN_TARGETS; t++)
        if (x->there[t])
            fprintf(out, "  %+9.3f", effect[t]);
}

static void print_events(const struct explanation *x, const struct model *m, const struct event_types *types, FILE *out)
{
    fprintf(out, "\n%-20s %-16s %-*s", "event, newest first", "", NAME_WIDTH, "");
    for (int t = 0; t < EXPLAIN_TARGETS; t++)
        if (x->there[t])
            fprintf(out, "  %9s", target_names[t]);
    fputc('\n', out);
    for (uint32_t e = x->events_n; e-- > 0;) {
        const struct explain_event *event = &x->events[e];
        char when[32];
        time_t seconds = (time_t)(event->event.ts_ms / 1000);
        struct tm utc = {0};
        gmtime_r(&seconds, &utc);
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
        fprintf(out, "%-20s %-16.16s ", when,
                event->event.type < types->n ? types->name[event->event.type] : "unknown");
        print_name(name_find(m, MODEL_CATEGORY, event->event.category), event->event.category, NAME_WIDTH, out);
        print_effects(x, event->effect, out);
        fputc('\n', out);
    }
    fprintf(out, "%-20s %-16s %-*s", "sum", "", NAME_WIDTH, "");
    print_effects(x, x->sum, out);
    fputc('\n', out);
}

static double strength(const struct explain_feature *f)
{
    double most = 0;
    for (int t = 0; t < EXPLAIN_TARGETS; t++)
        most = fabs(f->effect[t]) > most ? fabs(f->effect[t]) : most;
    return most;
}

static int by_strength(const void *a, const void *b)
{
    const struct explain_feature *const *first = a, *const *second = b;
    double x = strength(*first), y = strength(*second);
    return x > y ? -1 : x < y;
}

static void print_features(const struct explanation *x, const struct model *m, FILE *out)
{
    const struct explain_feature **order = calloc(x->features_n + 1, sizeof *order);
    for (uint32_t f = 0; f < x->features_n && order; f++)
        order[f] = &x->features[f];
    if (order)
        qsort(order, x->features_n, sizeof *order, by_strength);
    fprintf(out, "\n%-*s %11s %12s\n", NAME_WIDTH + 12, "feature instead of its mean", "now", "normalised");
    for (uint32_t f = 0; f < x->features_n && f < FEATURES_SHOWN && order; f++) {
        fprintf(out, "%-*s %11.5g %12.3f", NAME_WIDTH + 12, m->features[order[f]->feature].column, order[f]->column,
                (double)order[f]->x);
        print_effects(x, order[f]->effect, out);
        fputc('\n', out);
    }
    if (x->features_n > FEATURES_SHOWN)
        fprintf(out, "… and %u weaker ones (--json has all)\n", x->features_n - FEATURES_SHOWN);
    free(order);
}

void explain_print(const struct explanation *x, const struct model *m, const struct event_types *types, FILE *out)
{
    fprintf(out, "model %s", model_id(m));
    if (x->there[EXPLAIN_INTEREST]) {
        fputs(", strongest interest: ", out);
        print_name(model_category_name(m, x->top), 0, 0, out);
    }
    fprintf(out, "\n\n%-34s", "probability (log-odds)");
    for (int t = 0; t < EXPLAIN_TARGETS; t++)
        if (x->there[t])
            fprintf(out, "  %18s", target_names[t]);
    fputc('\n', out);
    char what[64];
    snprintf(what, sizeof what, "from the last %u events", x->ring_n);
    if (x->has_stored)
        print_score(x, x->stored, "as served, older events included", out);
    print_score(x, x->rebuilt, what, out);
    print_score(x, x->empty, "of a user who did nothing", out);
    print_events(x, m, types, out);
    if (x->features_n)
        print_features(x, m, out);
    fputs("\nEach number is the log-odds, ln(p / (1 - p)), from the last events minus the log-odds had this one event\n"
          "not been, or had this feature had its mean at every event: +0.7 doubles the odds, -0.7 halves them. The\n"
          "sum of the events' effects is not the score: events work together, and one that others repeat counts\n"
          "little.\n",
          out);
}
