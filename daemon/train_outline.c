// SPDX-License-Identifier: Apache-2.0
// train_outline.c - draws the model that is to be trained: vocabularies from the names met, features with their
// normalisation from the values met, layers, heads.
#include "train_task.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int train_target_field(const char *target)
{
    return strcmp(target, "item") == 0 ? MODEL_ITEM : strcmp(target, "category") == 0 ? MODEL_CATEGORY : -1;
}

/* ---- vocabularies ----------------------------------------------------------------------------------------------- */

struct counted {
    uint32_t id, count;
};

static int compare_counted(const void *a, const void *b)
{
    const struct counted *x = a, *y = b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* The field's names before until_ms that are frequent enough, most frequent first. Returns how many; free *names. */
static size_t choose_names(const struct train_outline *o, const struct train_set *s, enum model_field field,
                           struct str **names)
{
    const struct train_names *all = &s->names[field];
    struct counted *counts = calloc((size_t)all->n + 1, sizeof *counts);
    *names = calloc((size_t)all->n + 1, sizeof **names);
    assert(counts && *names);
    for (uint32_t id = 1; id <= all->n; id++)
        counts[id - 1].id = id;
    for (size_t i = 0; i < s->n; i++)
        if (s->fields[field][i] && s->ts_ms[i] < o->until_ms)
            counts[s->fields[field][i] - 1].count++;
    qsort(counts, all->n, sizeof *counts, compare_counted);
    size_t n = 0;
    for (uint32_t k = 0; k < all->n && n < o->vocabulary_max; k++) {
        struct str name = train_names_at(all, counts[k].id);
        if (counts[k].count >= o->min_count && counts[k].count > 0 && !memchr(name.at, 0, name.len))
            (*names)[n++] = name;
    }
    free(counts);
    return n;
}

static int add_embedding(struct model *m, const struct train_outline *o, const struct train_set *s,
                         enum model_field field, struct error *err)
{
    struct str *names;
    size_t n = choose_names(o, s, field, &names);
    int rc = 0;
    if (n > 0)
        rc = model_add_embedding(m, field, o->width[field], names, n, err);
    free(names);
    return rc;
}

/* ---- features --------------------------------------------------------------------------------------------------- */

struct moments {
    double n, mean, variance, skew;
};

static double transformed(double x, enum model_transform t)
{
    return t == MODEL_LOG1P ? copysign(log1p(fabs(x)), x) : x;
}

static struct moments moments_of(const struct train_set *s, uint32_t column, enum model_transform t, int64_t until_ms)
{
    struct moments m = {0};
    for (int pass = 0; pass < 2; pass++) {
        double sum = 0, squares = 0, cubes = 0, n = 0;
        for (size_t i = 0; i < s->n; i++) {
            double raw = s->columns[i * s->columns_n + column];
            if (!isfinite(raw) || s->ts_ms[i] >= until_ms)
                continue;
            double x = transformed(raw, t) - m.mean;
            n++;
            sum += x;
            squares += x * x;
            cubes += x * x * x;
        }
        m.n = n;
        if (n == 0)
            return m;
        if (pass == 0)
            m.mean = sum / n;
        m.variance = squares / n;
        m.skew = m.variance > 0 ? cubes / n / pow(m.variance, 1.5) : 0;
    }
    return m;
}

/* Heavy tails (a skewness beyond 2: counts, sums, times) go through log1p, so that one big spender does not flatten
 * everybody else. */
static int add_feature(struct model *m, const struct train_set *s, uint32_t column, int64_t until_ms, struct error *err)
{
    enum model_transform t = MODEL_LINEAR;
    struct moments raw = moments_of(s, column, t, until_ms);
    if (fabs(raw.skew) > 2) {
        t = MODEL_LOG1P;
        raw = moments_of(s, column, t, until_ms);
    }
    double scale = sqrt(raw.variance);
    struct model_feature f = {.column = s->column_names[column], .transform = t, .mean = (float)raw.mean,
                              .scale = scale > 1e-6 * (1 + fabs(raw.mean)) ? (float)scale : 1, .clip = 6};
    return model_add_feature(m, &f, err);
}

/* ---- heads ------------------------------------------------------------------------------------------------------ */

static int add_head(struct model *m, const struct train_outline *o, const struct train_set *s, const char *target,
                    struct error *err)
{
    int field = train_target_field(target);
    if (field < 0 && strcmp(target, "intent") != 0 && strncmp(target, "label:", 6) != 0)
        return error_set(err, "--target '%s': it has to be item, category, intent or label:NAME", target);
    if (field < 0) {
        m->intent_horizon_ms = strcmp(target, "intent") == 0 ? o->intent_horizon_ms : m->intent_horizon_ms;
        const char *name = strncmp(target, "label:", 6) == 0 ? target + 6 : target;
        return model_add_head(m, name, MODEL_SIGMOID, target, NULL, 0, err);
    }
    struct str *names;
    size_t n = choose_names(o, s, (enum model_field)field, &names);
    int rc = n < 2 ? error_set(err, "--target %s: the events name %zu of them at least %u times; two are needed to "
                               "learn which comes next", target, n, o->min_count)
                   : model_add_head(m, strcmp(target, "category") == 0 ? "interest" : target, MODEL_SOFTMAX, target,
                                    names, n, err);
    free(names);
    return rc;
}

struct model *train_outline(const struct train_outline *o, const struct train_set *s, struct error *err)
{
    struct model *m = model_create();
    int rc = 0;
    for (int field = 0; field < MODEL_FIELDS && rc == 0; field++)
        if (o->width[field])
            rc = add_embedding(m, o, s, (enum model_field)field, err);
    for (uint32_t c = 0; c < s->columns_n && rc == 0; c++)
        rc = add_feature(m, s, c, o->until_ms, err);
    for (uint32_t i = 0; i < o->layers_n && rc == 0; i++)
        rc = model_add_layer(m, o->hidden[i], err);
    for (uint32_t i = 0; i < o->targets_n && rc == 0; i++)
        rc = add_head(m, o, s, o->targets[i], err);
    if (rc < 0)
        model_destroy(&m);
    return m;
}
