// SPDX-License-Identifier: Apache-2.0
// train_task.c - brings a model and a set together.
#include "train_task.h"

#include "gait/window.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Name id → embedding row, the way the daemon finds it: by hash. */
static uint32_t *rows_of_names(const struct model_vocabulary *v, const struct train_names *names)
{
    uint32_t *rows = calloc((size_t)names->n + 1, sizeof *rows);
    assert(rows);
    for (uint32_t id = 1; id <= names->n; id++)
        rows[id] = (uint32_t)(model_vocabulary_find(v, window_hash32(train_names_at(names, id))) + 1);
    return rows;
}

static int32_t *classes_of_names(const struct model_vocabulary *v, const struct train_names *names)
{
    int32_t *classes = malloc(((size_t)names->n + 1) * sizeof *classes);
    assert(classes);
    classes[0] = TRAIN_NOTHING;
    for (uint32_t id = 1; id <= names->n; id++) {
        classes[id] = model_vocabulary_find_name(v, train_names_at(names, id));
        if (classes[id] < 0)
            classes[id] = TRAIN_UNSAYABLE;
    }
    return classes;
}

static void fill_features(struct train_task *t, const struct model *m, const struct train_set *s)
{
    struct model_binding binding;
    double row[MODEL_FEATURES_MAX];
    t->features = malloc((s->n * m->features_n + 1) * sizeof *t->features);
    assert(t->features && m->features_n == s->columns_n);
    model_bind_features(&binding, m);
    for (size_t i = 0; i < s->n; i++) {
        float *x = t->features + i * m->features_n;
        for (uint32_t f = 0; f < m->features_n; f++)
            row[f] = s->columns[i * s->columns_n + f];
        model_features(&binding, row, x);
        for (uint32_t f = 0; f < m->features_n; f++)
            t->clipped += fabsf(x[f]) >= m->features[f].clip;
    }
}

static int fill_target(struct train_task *t, const struct model *m, const struct train_set *s, uint32_t head,
                       const struct train_task_options *o, struct error *err)
{
    const struct model_head *h = &m->heads[head];
    struct train_target *target = &t->targets[head];
    train_target_create(target, s, h->kind == MODEL_SIGMOID);
    if (h->kind == MODEL_SOFTMAX) {
        int field = train_target_field(h->target);
        if (field < 0)
            return error_set(err, "the model's head '%s' predicts '%s', which this program knows no answers for",
                             h->name, h->target);
        t->class_of[head] = classes_of_names(&h->vocabulary, &s->names[field]);
        train_target_next(target, s, (enum model_field)field, t->class_of[head]);
    } else if (strcmp(h->target, "intent") == 0) {
        train_target_intent(target, s, o->purchase, m->intent_horizon_ms, o->known_until_ms);
    } else if (!o->labels) {
        return error_set(err, "--target %s needs --labels FILE", h->target);
    } else {
        return train_target_labels(target, s, o->labels, h->target + strlen("label:"), &t->unknown_users, err);
    }
    return 0;
}

/* An embedding with the same names in the same order as the head's classes; −1 = none. */
static int embedding_like(const struct model *m, const struct model_head *h)
{
    int field = train_target_field(h->target);
    for (uint32_t e = 0; e < m->embeddings_n; e++) {
        const struct model_vocabulary *v = &m->embeddings[e].vocabulary;
        bool same = (int)m->embeddings[e].field == field && v->n == h->classes;
        for (uint32_t i = 0; same && i < v->n; i++)
            same = str_equal(v->name[i], h->vocabulary.name[i]);
        if (same)
            return (int)e;
    }
    return -1;
}

static void fill_shape(struct train_task *t, const struct model *m, const struct train_task_options *o)
{
    t->shape = (struct train_shape){.embeddings_n = m->embeddings_n, .features_n = m->features_n,
                                    .layers_n = m->layers_n, .heads_n = m->heads_n, .dropout = o->dropout,
                                    .dropout_input = o->dropout_input};
    for (uint32_t e = 0; e < m->embeddings_n; e++) {
        t->shape.rows[e] = m->embeddings[e].vocabulary.n + 1;
        t->shape.width[e] = m->embeddings[e].width;
    }
    for (uint32_t i = 0; i < m->layers_n; i++)
        t->shape.hidden[i] = m->layers[i].hidden;
    for (uint32_t i = 0; i < m->heads_n; i++) {
        const struct model_head *h = &m->heads[i];
        bool softmax = h->kind == MODEL_SOFTMAX;
        t->shape.heads[i] = (struct train_head){.kind = h->kind, .classes = h->classes, .weight = 1,
                                                .positive_weight = o->positive_weight,
                                                .tied = softmax && o->tie ? embedding_like(m, h) : -1};
        if (!softmax && o->positive_weight == 0) {
            const struct train_target *x = &t->targets[i];
            double balance = x->positives ? (double)(x->total - x->positives) / (double)x->positives : 1;
            t->shape.heads[i].positive_weight = (float)fmin(fmax(balance, 1), 20);
        }
    }
}

int train_task_create(struct train_task *t, const struct model *m, const struct train_set *s,
                      const struct train_task_options *o, struct error *err)
{
    *t = (struct train_task){0};
    for (uint32_t e = 0; e < m->embeddings_n; e++) {
        t->data.embedded[e] = m->embeddings[e].field;
        t->data.row_of[e] = t->row_of[e] =
            rows_of_names(&m->embeddings[e].vocabulary, &s->names[m->embeddings[e].field]);
    }
    for (uint32_t h = 0; h < m->heads_n; h++)
        if (fill_target(t, m, s, h, o, err) < 0) {
            train_task_destroy(t);
            return -1;
        }
    fill_features(t, m, s);
    fill_shape(t, m, o);
    t->data.set = s;
    t->data.shape = &t->shape;
    t->data.features = t->features;
    t->data.targets = t->targets;
    return 0;
}

void train_task_sample(struct train_task *t, uint32_t most, uint32_t draws, struct train_span learn)
{
    for (uint32_t h = 0; h < t->shape.heads_n; h++) {
        struct train_head *head = &t->shape.heads[h];
        if (head->kind != MODEL_SOFTMAX || head->classes <= most || head->classes <= draws)
            continue;
        uint32_t *counts = calloc(head->classes, sizeof *counts);
        assert(counts);
        for (size_t i = 0; i < t->data.set->n; i++)
            if (train_counts(&t->data, h, i, learn))
                counts[t->targets[h].value[i]]++;
        train_sampler_create(&t->samplers[h], draws, counts, head->classes);
        head->sampler = &t->samplers[h];
        free(counts);
    }
}

void train_task_destroy(struct train_task *t)
{
    for (uint32_t e = 0; e < MODEL_EMBEDDINGS_MAX; e++)
        free(t->row_of[e]);
    for (uint32_t h = 0; h < MODEL_HEADS_MAX; h++) {
        free(t->class_of[h]);
        train_target_destroy(&t->targets[h]);
        train_sampler_destroy(&t->samplers[h]);
    }
    free(t->features);
    *t = (struct train_task){0};
}
