// SPDX-License-Identifier: Apache-2.0
// model_input.c - from an event and its row of columns to the model's input vector. Training and serving both come
// through here, so that they cannot drift apart.
#include "gait/model.h"

#include "gait/columns.h"
#include "gait/window.h"

#include <assert.h>
#include <math.h>

int model_bind(struct model_binding *b, const struct model *m, const struct event_types *types, struct columns *columns,
               struct error *err)
{
    *b = (struct model_binding){.model = m};
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

static float feature_value(const struct model_feature *f, double column)
{
    double value = f->transform == MODEL_LOG1P ? copysign(log1p(fabs(column)), column) : column;
    float x = ((float)value - f->mean) / f->scale;
    if (isnan(x))
        return 0;
    return x > f->clip ? f->clip : x < -f->clip ? -f->clip : x;
}

void model_features(const struct model_binding *b, const double *columns, float *x)
{
    for (uint32_t f = 0; f < b->model->features_n; f++)
        x[f] = feature_value(&b->model->features[f], columns[b->place[f]]);
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
