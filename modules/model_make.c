// SPDX-License-Identifier: Apache-2.0
// model_make.c - building a struct model piece by piece, for the trainer and for the reader of files alike: the rules
// of what a model may be are checked here and nowhere else.
#include "model_private.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

static const char *const field_names[] = {"type", "category", "item", "country", "campaign", "page", "currency", NULL};
static const char *const transform_names[] = {"linear", "log1p", NULL};
static const char *const head_kind_names[] = {"softmax", "sigmoid", NULL};

static int name_find(const char *const *names, const char *name)
{
    for (int i = 0; names[i]; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

const char *model_field_name(enum model_field field)
{
    return field_names[field];
}

const char *model_transform_name(enum model_transform transform)
{
    return transform_names[transform];
}

const char *model_head_kind_name(enum model_head_kind kind)
{
    return head_kind_names[kind];
}

int model_field_find(const char *name)
{
    return name_find(field_names, name);
}

int model_transform_find(const char *name)
{
    return name_find(transform_names, name);
}

int model_head_kind_find(const char *name)
{
    return name_find(head_kind_names, name);
}

static float *weights_take(size_t n)
{
    float *at = calloc(n ? n : 1, sizeof *at);
    assert(at);
    return at;
}

/* ---- create, destroy -------------------------------------------------------------------------------------------- */

struct model *model_create(void)
{
    struct model *m = calloc(1, sizeof *m);
    assert(m);
    m->interest = m->intent = -1;
    return m;
}

void model_destroy(struct model **model)
{
    struct model *m = *model;
    if (!m)
        return;
    for (uint32_t i = 0; i < m->embeddings_n; i++) {
        model_vocabulary_free(&m->embeddings[i].vocabulary);
        free(m->embeddings[i].weight);
    }
    for (uint32_t i = 0; i < m->features_n; i++)
        free(m->features[i].column);
    for (uint32_t i = 0; i < m->layers_n; i++) {
        free(m->layers[i].weight_ih);
        free(m->layers[i].weight_hh);
        free(m->layers[i].bias_ih);
        free(m->layers[i].bias_hh);
    }
    for (uint32_t i = 0; i < m->heads_n; i++) {
        model_vocabulary_free(&m->heads[i].vocabulary);
        free(m->heads[i].weight);
        free(m->heads[i].bias);
    }
    free(m->training);
    free(m->metrics);
    free(m);
    *model = NULL;
}

/* ---- add -------------------------------------------------------------------------------------------------------- */

static int width_check(const char *what, size_t width, struct error *err)
{
    if (width < 1 || width > MODEL_WIDTH_MAX)
        return error_set(err, "%s: %zu is not a possible width; 1 to %d are", what, width, MODEL_WIDTH_MAX);
    return 0;
}

int model_add_embedding(struct model *m, enum model_field field, uint32_t width, const struct str *names, size_t n,
                        struct error *err)
{
    assert(m->layers_n == 0 && m->features_n == 0 && field < MODEL_FIELDS);
    const char *name = model_field_name(field);
    if (m->embeddings_n == MODEL_EMBEDDINGS_MAX)
        return error_set(err, "embedding %s: a model has at most %d embeddings", name, MODEL_EMBEDDINGS_MAX);
    for (uint32_t i = 0; i < m->embeddings_n; i++)
        if (m->embeddings[i].field == field)
            return error_set(err, "embedding %s: the model has one already", name);
    if (width_check("embedding", width, err) < 0 || width_check("input", m->input + width, err) < 0)
        return error_prefix(err, "embedding %s", name);
    struct model_embedding *e = &m->embeddings[m->embeddings_n];
    if (model_vocabulary_init(&e->vocabulary, names, n, err) < 0)
        return error_prefix(err, "embedding %s", name);
    e->field = field;
    e->width = width;
    e->weight = weights_take((n + 1) * width);
    m->embeddings_n++;
    m->input += width;
    return 0;
}

int model_add_feature(struct model *m, const struct model_feature *feature, struct error *err)
{
    assert(m->layers_n == 0 && feature->transform < MODEL_TRANSFORMS);
    const char *name = feature->column;
    if (!name || !*name || strlen(name) > 255)
        return error_set(err, "feature %u: the column's name is empty or longer than 255 bytes", m->features_n);
    if (m->features_n == MODEL_FEATURES_MAX)
        return error_set(err, "feature %s: a model has at most %d features", name, MODEL_FEATURES_MAX);
    if (!isfinite(feature->mean))
        return error_set(err, "feature %s: the mean is not a finite number", name);
    if (!isfinite(feature->scale) || feature->scale <= 0 || !isfinite(1.0f / feature->scale))
        return error_set(err, "feature %s: scale %g has to be a number greater than 0", name, (double)feature->scale);
    if (!isfinite(feature->clip) || feature->clip <= 0)
        return error_set(err, "feature %s: clip %g has to be a number greater than 0", name, (double)feature->clip);
    if (width_check("input", (size_t)m->input + 1, err) < 0)
        return -1;
    struct model_feature *f = &m->features[m->features_n++];
    *f = *feature;
    f->column = strdup(name);
    assert(f->column);
    m->input++;
    return 0;
}

int model_add_layer(struct model *m, uint32_t hidden, struct error *err)
{
    assert(m->heads_n == 0);
    if (m->layers_n == MODEL_LAYERS_MAX)
        return error_set(err, "layer %u: a model has at most %d layers", m->layers_n, MODEL_LAYERS_MAX);
    if (m->input == 0)
        return error_set(err, "layer 0: the model has no inputs; give it an embedding or a feature first");
    if (width_check("hidden", hidden, err) < 0)
        return error_prefix(err, "layer %u", m->layers_n);
    uint32_t input = m->layers_n ? model_hidden(m) : m->input;
    m->layers[m->layers_n++] = (struct model_layer){
        .input = input,
        .hidden = hidden,
        .weight_ih = weights_take(4 * (size_t)hidden * input),
        .weight_hh = weights_take(4 * (size_t)hidden * hidden),
        .bias_ih = weights_take(4 * (size_t)hidden),
        .bias_hh = weights_take(4 * (size_t)hidden),
    };
    return 0;
}

static int head_check(const struct model *m, const char *name, enum model_head_kind kind, const char *target, size_t n,
                      struct error *err)
{
    size_t len = strlen(name);
    if (len < 1 || len > MODEL_NAME_MAX || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != len)
        return error_set(err, "a head's name is 1 to %d of a-z 0-9 _ -", MODEL_NAME_MAX);
    if (m->heads_n == MODEL_HEADS_MAX)
        return error_set(err, "a model has at most %d heads", MODEL_HEADS_MAX);
    for (uint32_t i = 0; i < m->heads_n; i++)
        if (strcmp(m->heads[i].name, name) == 0)
            return error_set(err, "the model has a head of this name already");
    if (m->layers_n == 0)
        return error_set(err, "the model has no LSTM layer to stand on");
    bool classes = strcmp(target, "category") == 0 || strcmp(target, "item") == 0;
    bool truth = strcmp(target, "intent") == 0 || (strncmp(target, "label:", 6) == 0 && target[6]);
    if (strlen(target) > MODEL_NAME_MAX || (kind == MODEL_SOFTMAX ? !classes : !truth))
        return error_set(err, "target '%.80s' does not suit a %s head; %s would", target, model_head_kind_name(kind),
                         kind == MODEL_SOFTMAX ? "category or item" : "intent or label:NAME");
    if (kind == MODEL_SOFTMAX ? n < 1 : n != 0)
        return error_set(err, kind == MODEL_SOFTMAX ? "a softmax head needs a vocabulary of at least one name"
                                                    : "a sigmoid head has no vocabulary");
    return 0;
}

/* Interests are of categories where the model has such a head, else of items. */
static void heads_choose(struct model *m)
{
    m->interest = m->intent = -1;
    for (int i = (int)m->heads_n - 1; i >= 0; i--) {
        const struct model_head *head = &m->heads[i];
        if (strcmp(head->target, "intent") == 0)
            m->intent = i;
        if (head->kind != MODEL_SOFTMAX)
            continue;
        if (m->interest < 0 || strcmp(head->target, "category") == 0 ||
            strcmp(m->heads[m->interest].target, "category") != 0)
            m->interest = i;
    }
}

int model_add_head(struct model *m, const char *name, enum model_head_kind kind, const char *target,
                   const struct str *names, size_t n, struct error *err)
{
    assert(kind < MODEL_HEAD_KINDS);
    struct model_head *head = &m->heads[m->heads_n];
    if (head_check(m, name, kind, target, n, err) < 0 || model_vocabulary_init(&head->vocabulary, names, n, err) < 0)
        return error_prefix(err, "head %.80s", name);
    snprintf(head->name, sizeof head->name, "%s", name);
    snprintf(head->target, sizeof head->target, "%s", target);
    head->kind = kind;
    head->classes = kind == MODEL_SOFTMAX ? (uint32_t)n : 1;
    head->weight = weights_take((size_t)head->classes * model_hidden(m));
    head->bias = weights_take(head->classes);
    m->heads_n++;
    heads_choose(m);
    return 0;
}

/* ---- tensors and identity --------------------------------------------------------------------------------------- */

static struct model_tensor *tensor_add(struct model_tensor *tensors, uint32_t *n, float *at, size_t rows,
                                       size_t columns)
{
    struct model_tensor *t = &tensors[(*n)++];
    *t = (struct model_tensor){.at = at, .dims = columns ? 2 : 1, .shape = {rows, columns}};
    return t;
}

#define TENSOR(at, rows, columns, ...) \
    snprintf(tensor_add(tensors, &n, at, rows, columns)->name, sizeof tensors->name, __VA_ARGS__)

uint32_t model_tensors(const struct model *m, struct model_tensor *tensors)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->embeddings_n; i++) {
        const struct model_embedding *e = &m->embeddings[i];
        TENSOR(e->weight, e->vocabulary.n + 1, e->width, "embedding.%s.weight", model_field_name(e->field));
    }
    for (uint32_t i = 0; i < m->layers_n; i++) {
        const struct model_layer *l = &m->layers[i];
        TENSOR(l->weight_ih, 4 * (size_t)l->hidden, l->input, "lstm.weight_ih_l%u", i);
        TENSOR(l->weight_hh, 4 * (size_t)l->hidden, l->hidden, "lstm.weight_hh_l%u", i);
        TENSOR(l->bias_ih, 4 * (size_t)l->hidden, 0, "lstm.bias_ih_l%u", i);
        TENSOR(l->bias_hh, 4 * (size_t)l->hidden, 0, "lstm.bias_hh_l%u", i);
    }
    for (uint32_t i = 0; i < m->heads_n; i++) {
        const struct model_head *h = &m->heads[i];
        TENSOR(h->weight, h->classes, model_hidden(m), "head.%s.weight", h->name);
        TENSOR(h->bias, h->classes, 0, "head.%s.bias", h->name);
    }
    return n;
}

static void hash_text(XXH3_state_t *hash, const char *text)
{
    XXH3_64bits_update(hash, text, strlen(text) + 1);
}

static void hash_vocabulary(XXH3_state_t *hash, const struct model_vocabulary *v)
{
    XXH3_64bits_update(hash, &v->n, sizeof v->n);
    for (uint32_t i = 0; i < v->n; i++)
        hash_text(hash, v->name[i].at);
}

/* Everything that a result depends on; not the notes on how it was trained. */
static uint64_t model_hash(const struct model *m, const struct model_tensor *tensors, uint32_t n)
{
    XXH3_state_t *hash = XXH3_createState();
    assert(hash);
    XXH3_64bits_reset(hash);
    for (uint32_t i = 0; i < m->embeddings_n; i++)
        hash_vocabulary(hash, &m->embeddings[i].vocabulary);
    for (uint32_t i = 0; i < m->features_n; i++) {
        const struct model_feature *f = &m->features[i];
        const float numbers[] = {f->mean, f->scale, f->clip};
        hash_text(hash, f->column);
        hash_text(hash, model_transform_name(f->transform));
        XXH3_64bits_update(hash, numbers, sizeof numbers);
    }
    for (uint32_t i = 0; i < m->heads_n; i++) {
        hash_text(hash, model_head_kind_name(m->heads[i].kind));
        hash_text(hash, m->heads[i].target);
        hash_vocabulary(hash, &m->heads[i].vocabulary);
    }
    XXH3_64bits_update(hash, &m->intent_horizon_ms, sizeof m->intent_horizon_ms);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t shape[] = {tensors[i].dims, tensors[i].shape[0], tensors[i].shape[1]};
        hash_text(hash, tensors[i].name);
        XXH3_64bits_update(hash, shape, sizeof shape);
        XXH3_64bits_update(hash, tensors[i].at, model_tensor_floats(&tensors[i]) * sizeof(float));
    }
    uint64_t id = XXH3_64bits_digest(hash);
    XXH3_freeState(hash);
    return id ? id : 1; /* 0 stands for "no model" in user records */
}

int model_seal(struct model *m, struct error *err)
{
    struct model_tensor tensors[MODEL_TENSORS_MAX];
    uint32_t n = model_tensors(m, tensors);
    if (m->layers_n == 0)
        return error_set(err, "the model has no LSTM layer");
    for (uint32_t i = 0; i < n; i++) {
        size_t floats = model_tensor_floats(&tensors[i]);
        for (size_t j = 0; j < floats; j++)
            if (!isfinite(tensors[i].at[j]))
                return error_set(err, "tensor %s: element %zu is %s; every weight has to be a finite number",
                                 tensors[i].name, j, isnan(tensors[i].at[j]) ? "NaN" : "infinite");
    }
    m->id = model_hash(m, tensors, n);
    snprintf(m->id_text, sizeof m->id_text, "%016" PRIx64, m->id);
    return 0;
}
