// SPDX-License-Identifier: Apache-2.0
// eval_slices.c - groups of answers side by side, and how far apart they are.
#include "eval_slices.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct group {
    uint32_t id;                 /* of the name; 0 = none */
    double n;
    double ones, selected, selected_ones, sum; /* labels */
    double hits, reciprocal;                   /* ranks */
};

/* ---- grouping --------------------------------------------------------------------------------------------------- */

static int compare_groups(const void *a, const void *b)
{
    const struct group *x = a, *y = b;
    if (x->n != y->n)
        return x->n > y->n ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static void merge(struct group *into, const struct group *g)
{
    into->n += g->n;
    into->ones += g->ones;
    into->selected += g->selected;
    into->selected_ones += g->selected_ones;
    into->sum += g->sum;
    into->hits += g->hits;
    into->reciprocal += g->reciprocal;
}

/* Largest first; those beyond the limit merged into the last. Returns how many; *others = there is such a one. */
static size_t arrange(struct group *groups, size_t n, bool *others)
{
    qsort(groups, n, sizeof *groups, compare_groups);
    while (n > 0 && groups[n - 1].n == 0)
        n--;
    *others = n > SLICES_MAX;
    for (size_t i = SLICES_MAX; i < n; i++)
        merge(&groups[SLICES_MAX - 1], &groups[i]);
    return n < SLICES_MAX ? n : SLICES_MAX;
}

static struct group *groups_of(const struct train_names *names)
{
    struct group *groups = calloc((size_t)names->n + 1, sizeof *groups);
    assert(groups);
    for (uint32_t id = 0; id <= names->n; id++)
        groups[id].id = id;
    return groups;
}

static json_t *name_of(const struct train_names *names, const struct group *g, bool others)
{
    struct str name = g->id ? train_names_at(names, g->id) : str_of("(none)");
    json_t *text = others ? json_string("(others)") : json_stringn(name.at, name.len);
    return text ? text : json_string("(not UTF-8)");
}

/* ---- how far apart ---------------------------------------------------------------------------------------------- */

struct spread {
    double low, high;
    size_t n;
};

static void widen(struct spread *s, double value)
{
    s->low = s->n && s->low < value ? s->low : value;
    s->high = s->n && s->high > value ? s->high : value;
    s->n++;
}

static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static double ratio_of(const struct spread *s)
{
    return s->n < 2 ? NAN : s->high > 0 ? s->low / s->high : 1;
}

static void warn(json_t *warnings, const char *what, double value, const char *relation, double bound)
{
    char text[160];
    snprintf(text, sizeof text, "%s is %.3f, %s the bound of %.3f", what, value, relation, bound);
    json_array_append_new(warnings, json_string(text));
}

static json_t *slices_of(const struct eval_by *by, json_t *groups, json_t **warnings)
{
    *warnings = json_array();
    return json_pack("{s:s,s:f,s:o,s:o}", "by", model_field_name(by->field), "bound", by->bound, "groups", groups,
                     "warnings", *warnings);
}

/* ---- labels ----------------------------------------------------------------------------------------------------- */

json_t *eval_slices_guesses(const struct eval_by *by, const struct train_set *s, const struct eval_guess *g, size_t n)
{
    const struct train_names *names = &s->names[by->field];
    struct group *groups = groups_of(names);
    struct spread rates = {0}, recalls = {0}, alarms = {0};
    bool others;
    for (size_t i = 0; i < n; i++) {
        bool selected = (double)g[i].p >= by->select_at;
        merge(&groups[s->fields[by->field][g[i].event]],
              &(struct group){.n = 1, .ones = g[i].yes, .selected = selected, .selected_ones = selected && g[i].yes,
                              .sum = g[i].p});
    }
    size_t count = arrange(groups, (size_t)names->n + 1, &others);
    json_t *list = json_array(), *warnings;
    for (size_t k = 0; k < count; k++) {
        const struct group *x = &groups[k];
        double zeros = x->n - x->ones, recall = x->selected_ones / x->ones,
               alarm = (x->selected - x->selected_ones) / zeros;
        bool small = x->n < SLICE_ANSWERS_MIN || x->ones < SLICE_KIND_MIN || zeros < SLICE_KIND_MIN;
        if (!small) {
            widen(&rates, x->selected / x->n);
            widen(&recalls, recall);
            widen(&alarms, alarm);
        }
        json_array_append_new(list, json_pack(
            "{s:o,s:I,s:I,s:f,s:o,s:o,s:f,s:f,s:b}", "name", name_of(names, x, others && k + 1 == count), "n",
            (json_int_t)x->n, "positives", (json_int_t)x->ones, "selection_rate", x->selected / x->n, "recall",
            number(recall), "false_positive_rate", number(alarm), "predicted", x->sum / x->n, "observed",
            x->ones / x->n, "small", small));
    }
    free(groups);
    json_t *out = slices_of(by, list, &warnings);
    double impact = ratio_of(&rates), gap = rates.n < 2 ? NAN : fmax(recalls.high - recalls.low,
                                                                     alarms.high - alarms.low);
    json_object_set_new(out, "select_at", json_real(by->select_at));
    json_object_set_new(out, "disparate_impact", number(impact));
    json_object_set_new(out, "equalised_odds_gap", number(gap));
    if (impact < by->bound)
        warn(warnings, "the disparate impact ratio", impact, "below", by->bound);
    if (gap > 1 - by->bound)
        warn(warnings, "the equalised-odds gap", gap, "above", 1 - by->bound);
    return out;
}

/* ---- ranks ------------------------------------------------------------------------------------------------------ */

json_t *eval_slices_ranks(const struct eval_by *by, const struct train_set *s, const struct eval_rank *r, size_t n)
{
    const struct train_names *names = &s->names[by->field];
    struct group *groups = groups_of(names);
    struct spread recalls = {0};
    bool others;
    for (size_t i = 0; i < n; i++)
        merge(&groups[s->fields[by->field][r[i].event]],
              &(struct group){.n = 1, .hits = r[i].rank <= 20,
                              .reciprocal = r[i].rank <= 20 ? 1 / (double)r[i].rank : 0});
    size_t count = arrange(groups, (size_t)names->n + 1, &others);
    json_t *list = json_array(), *warnings;
    for (size_t k = 0; k < count; k++) {
        const struct group *x = &groups[k];
        bool small = x->n < SLICE_ANSWERS_MIN;
        if (!small)
            widen(&recalls, x->hits / x->n);
        json_array_append_new(list, json_pack("{s:o,s:I,s:f,s:f,s:b}", "name",
                                              name_of(names, x, others && k + 1 == count), "n", (json_int_t)x->n,
                                              "recall@20", x->hits / x->n, "mrr@20", x->reciprocal / x->n, "small",
                                              small));
    }
    free(groups);
    json_t *out = slices_of(by, list, &warnings);
    double ratio = ratio_of(&recalls);
    json_object_set_new(out, "recall_ratio", number(ratio));
    if (ratio < by->bound)
        warn(warnings, "the ratio of the groups' recall@20", ratio, "below", by->bound);
    return out;
}

/* ---- for people ------------------------------------------------------------------------------------------------- */

/* Names come from events: nothing in them may steer the terminal. */
static void print_name(FILE *out, const char *name)
{
    int width = 0;
    for (; *name && width < 16; name++, width++)
        fputc((unsigned char)*name < 0x20 || *name == 0x7f || *name == '|' ? '?' : *name, out);
    fprintf(out, "%*s", 16 - width, "");
}

void eval_slices_print(FILE *out, const json_t *slices)
{
    static const char *const figures[] = {"n", "positives", "selection_rate", "recall", "false_positive_rate",
                                          "predicted", "observed", "recall@20", "mrr@20", NULL};
    json_t *groups = json_object_get(slices, "groups"), *group, *first = json_array_get(groups, 0), *warning;
    size_t k;
    fprintf(out, "\nBy %s\n\n| %-16s |", json_string_value(json_object_get(slices, "by")), "");
    for (int i = 0; figures[i]; i++)
        if (json_object_get(first, figures[i]))
            fprintf(out, " %7s |", figures[i]);
    fputs("\n|---|", out);
    for (int i = 0; figures[i]; i++)
        if (json_object_get(first, figures[i]))
            fputs("---|", out);
    fputc('\n', out);
    json_array_foreach(groups, k, group) {
        fputs("| ", out);
        print_name(out, json_string_value(json_object_get(group, "name")));
        fputs(" |", out);
        for (int i = 0; figures[i]; i++) {
            const json_t *x = json_object_get(group, figures[i]);
            int width = strlen(figures[i]) < 7 ? 7 : (int)strlen(figures[i]);
            if (json_is_integer(x))
                fprintf(out, " %*" JSON_INTEGER_FORMAT " |", width, json_integer_value(x));
            else if (json_is_real(x))
                fprintf(out, " %*.4f |", width, json_real_value(x));
            else if (x)
                fprintf(out, " %*s |", width, "");
        }
        fputs(json_is_true(json_object_get(group, "small")) ? " small: not compared\n" : "\n", out);
    }
    json_array_foreach(json_object_get(slices, "warnings"), k, warning)
        fprintf(out, "warning: %s\n", json_string_value(warning));
}
