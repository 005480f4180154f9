// SPDX-License-Identifier: Apache-2.0
// model_input.c - from an event and its row of columns to the model's input vector. Training and serving both come
// through here, so that they cannot drift apart.
#include "gait/model.h"

#include "gait/columns.h"
#include "gait/window.h"

#include <assert.h>
#include <math.h>

void model_bind_features(struct model_binding *b, const struct model *m)
{
    *b = (struct model_binding){.model = m};
    for (uint32_t f = 0; f < m->features_n; f++) {
        b->place[f] = (int)f;
        b->logarithm[f] = m->features[f].transform == MODEL_LOG1P ? UINT32_MAX : 0;
        b->mean[f] = m->features[f].mean;
        b->factor[f] = 1.0f / m->features[f].scale;
        b->clip[f] = m->features[f].clip;
    }
}

int model_bind(struct model_binding *b, const struct model *m, const struct event_types *types, struct columns *columns,
               struct error *err)
{
    model_bind_features(b, m);
    for (uint32_t f = 0; f < m->features_n; f++) {
        const char *name = m->features[f].column;
        b->place[f] = columns_want(columns, name);
        if (b->place[f] >= 0)
            continue;
        const char *near = columns_nearest(columns, name);
        return error_set(err, "the model's feature '%s' is no column here%s%s%s; the windows have to be configured as "
                         "they were for training", name, near ? "; the nearest is '" : "", near ? near : "",
                         near ? "'" : "");
    }
    for (uint32_t e = 0; e < m->embeddings_n; e++)
        for (uint32_t type = 0; m->embeddings[e].field == MODEL_TYPE && type < types->n; type++)
            b->type_row[type] =
                (uint32_t)(model_vocabulary_find_name(&m->embeddings[e].vocabulary, str_of(types->name[type])) + 1);
    return 0;
}

static struct str event_field(const struct event *event, enum model_field field)
{
    switch (field) {
    case MODEL_CATEGORY: return event->category;
    case MODEL_ITEM: return event->item;
    case MODEL_COUNTRY: return event->country;
    case MODEL_CAMPAIGN: return event->campaign;
    case MODEL_PAGE: return event->page;
    case MODEL_CURRENCY: return event->currency;
    default: return (struct str){0};
    }
}

/* By hash, as the ring does it: a rebuilt state must be the same even where two names share a hash. */
void model_rows_of_event(const struct model_binding *b, const struct event *event, uint32_t *rows)
{
    const struct model *m = b->model;
    for (uint32_t e = 0; e < m->embeddings_n; e++) {
        const struct model_embedding *embedding = &m->embeddings[e];
        if (embedding->field == MODEL_TYPE) {
            rows[e] = b->type_row[event->type];
            continue;
        }
        struct str name = event_field(event, embedding->field);
        rows[e] = name.len ? (uint32_t)(model_vocabulary_find(&embedding->vocabulary, window_hash32(name)) + 1) : 0;
    }
}

void model_rows_of_ring(const struct model_binding *b, const struct window_event *event, uint32_t *rows)
{
    const struct model *m = b->model;
    for (uint32_t e = 0; e < m->embeddings_n; e++) {
        const struct model_embedding *embedding = &m->embeddings[e];
        uint32_t hash = embedding->field == MODEL_CATEGORY ? event->category
                      : embedding->field == MODEL_ITEM     ? event->item
                                                           : 0;
        rows[e] = embedding->field == MODEL_TYPE ? b->type_row[event->type]
                                                 : (uint32_t)(model_vocabulary_find(&embedding->vocabulary, hash) + 1);
    }
}

/* ln(1 + x) for x >= 0, absolute error below 1.2e-7 · (1 + ln(1 + x)): far below what a feature's scale resolves.
 * Without a branch or a call, so that the compiler makes vectors of it; a step has some thirty features.
 *
 * 1 + x = 2^e · (1 + f), −1/3 ≤ f ≤ 1/3: the bits of 2/3 are taken away, so that the exponent changes at 4/3. Then
 * ln(1 + f) = f − f²/2 + f³·P(f), P fitted at Chebyshev nodes with weight |f|³: error 9.4e-9. */
static inline float log1p_positive(float x)
{
    float sum = 1.0f + x;
    uint32_t bits, exponent;
    memcpy(&bits, &sum, sizeof bits);
    exponent = (bits - 0x3f2aaaabu) & 0xff800000u;
    bits -= exponent;
    float f;
    memcpy(&f, &bits, sizeof f);
    f -= 1.0f;
    float p = 0.14223835f;
    p = p * f - 0.15288109f;
    p = p * f + 0.13950959f;
    p = p * f - 0.16443358f;
    p = p * f + 0.20014334f;
    p = p * f - 0.25005445f;
    p = p * f + 0.33333132f;
    float square = f * f;
    return (float)((int32_t)exponent >> 23) * 0.69314718f + (f - 0.5f * square + square * f * p);
}

/* `mask` (all bits or none) ? a : b, as bits: a choice that stays a vector. */
static inline float choose(uint32_t mask, float a, float b)
{
    uint32_t x, y;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    x = (x & mask) | (y & ~mask);
    memcpy(&a, &x, sizeof a);
    return a;
}

static inline float clamp(float x, float bound)
{
    x = x > bound ? bound : x;
    x = x < -bound ? -bound : x;
    return x == x ? x : 0.0f; /* what is no number says nothing */
}

void model_features(const struct model_binding *b, const double *columns, float *x)
{
    uint32_t n = b->model->features_n;
    for (uint32_t f = 0; f < n; f++)
        x[f] = (float)columns[b->place[f]];
    for (uint32_t f = 0; f < n; f++) {
        float size = fabsf(x[f]);
        float logarithm = copysignf(log1p_positive(size), x[f]);
        float value = choose(b->logarithm[f], logarithm, x[f]);
        x[f] = clamp((value - b->mean[f]) * b->factor[f], b->clip[f]);
    }
}

void model_input(const struct model_binding *b, const uint32_t *rows, const double *columns, float *x)
{
    for (uint32_t e = 0; e < b->model->embeddings_n; e++) {
        const struct model_embedding *embedding = &b->model->embeddings[e];
        assert(rows[e] <= embedding->vocabulary.n);
        memcpy(x, embedding->weight + (size_t)rows[e] * embedding->width, embedding->width * sizeof *x);
        x += embedding->width;
    }
    model_features(b, columns, x);
}
