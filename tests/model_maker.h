// SPDX-License-Identifier: Apache-2.0
// model_maker.h - models with random weights for tests and benchmarks; the same seed gives the same model.
#ifndef TESTS_MODEL_MAKER_H
#define TESTS_MODEL_MAKER_H

#include "gait/model.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static inline uint64_t random_next(uint64_t *state) /* xorshift64*: Vigna 2016 */
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dULL;
}

/* Uniform in [-range, range). */
static inline float random_float(uint64_t *state, float range)
{
    return ((float)(random_next(state) >> 40) / (float)(1 << 24) * 2 - 1) * range;
}

static inline void random_fill(float *at, size_t n, float range, uint64_t *state)
{
    for (size_t i = 0; i < n; i++)
        at[i] = random_float(state, range);
}

/* What a test wants; zero leaves a part out. */
struct model_shape {
    uint32_t categories, category_width; /* names "c0", "c1" … */
    uint32_t types, type_width;          /* the first so many built-in event types */
    const char *const *columns;          /* features, ended by NULL */
    uint32_t hidden[MODEL_LAYERS_MAX];   /* ended by 0 */
    bool interest, intent;               /* heads: softmax over the categories; sigmoid */
};

static inline struct str *shape_names(uint32_t n)
{
    struct str *names = calloc(n + 1, sizeof *names);
    char *text = calloc(n + 1, 16);
    assert(names && text);
    for (uint32_t i = 0; i < n; i++) {
        snprintf(text + 16 * (size_t)i, 16, "c%u", i);
        names[i] = str_of(text + 16 * (size_t)i);
    }
    names[n].at = text;
    return names;
}

static inline void shape_names_free(struct str *names, uint32_t n)
{
    free((void *)(uintptr_t)names[n].at);
    free(names);
}

/* With weights as PyTorch begins: uniform within ±1/√hidden. */
static inline void model_randomise(struct model *m, uint64_t seed)
{
    seed = seed * 2 + 1;
    for (uint32_t i = 0; i < m->embeddings_n; i++)
        random_fill(m->embeddings[i].weight, (m->embeddings[i].vocabulary.n + 1) * (size_t)m->embeddings[i].width, 1,
                    &seed);
    for (uint32_t i = 0; i < m->layers_n; i++) {
        struct model_layer *l = &m->layers[i];
        float range = 1.0f / __builtin_sqrtf((float)l->hidden);
        random_fill(l->weight_ih, 4 * (size_t)l->hidden * l->input, range, &seed);
        random_fill(l->weight_hh, 4 * (size_t)l->hidden * l->hidden, range, &seed);
        random_fill(l->bias_ih, 4 * (size_t)l->hidden, range, &seed);
        random_fill(l->bias_hh, 4 * (size_t)l->hidden, range, &seed);
    }
    for (uint32_t i = 0; i < m->heads_n; i++) {
        random_fill(m->heads[i].weight, (size_t)m->heads[i].classes * model_hidden(m), 0.5f, &seed);
        random_fill(m->heads[i].bias, m->heads[i].classes, 0.5f, &seed);
    }
}

static inline struct model *model_make(const struct model_shape *shape, uint64_t seed)
{
    struct model *m = model_create();
    struct event_types types;
    struct error err;
    struct str *names = shape_names(shape->categories), type_names[EVENT_TYPES_MAX];
    int failed = event_types_init(&types, NULL, 0, &err);
    for (uint32_t i = 0; i < shape->types; i++)
        type_names[i] = str_of(types.name[i]);
    if (shape->categories && shape->category_width)
        failed |= model_add_embedding(m, MODEL_CATEGORY, shape->category_width, names, shape->categories, &err);
    if (shape->types)
        failed |= model_add_embedding(m, MODEL_TYPE, shape->type_width, type_names, shape->types, &err);
    for (uint32_t i = 0; shape->columns && shape->columns[i]; i++)
        failed |= model_add_feature(m, &(struct model_feature){.column = (char *)(uintptr_t)shape->columns[i],
                                                               .transform = i % 2 ? MODEL_LOG1P : MODEL_LINEAR,
                                                               .mean = 0.5f, .scale = 2, .clip = 5}, &err);
    for (uint32_t i = 0; i < MODEL_LAYERS_MAX && shape->hidden[i]; i++)
        failed |= model_add_layer(m, shape->hidden[i], &err);
    if (shape->interest)
        failed |= model_add_head(m, "interest", MODEL_SOFTMAX, "category", names, shape->categories, &err);
    if (shape->intent)
        failed |= model_add_head(m, "intent", MODEL_SIGMOID, "intent", NULL, 0, &err);
    m->intent_horizon_ms = 3600000;
    shape_names_free(names, shape->categories);
    assert(!failed);
    model_randomise(m, seed);
    failed = model_seal(m, &err);
    assert(!failed);
    return m;
}

#endif
