// SPDX-License-Identifier: Apache-2.0
// train_weights.c - the weights from the network's layout into the model's and back; several networks into one model.
#include "train_task.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Where one of `parts` networks' numbers lie in a merged model: block `part` of every width. */
struct place {
    uint32_t part, parts;
};

static void put_embeddings(const struct train_network *n, struct model *m, struct place p)
{
    for (uint32_t e = 0; e < m->embeddings_n; e++) {
        size_t width = n->shape.width[e];
        for (size_t row = 0; row < n->shape.rows[e]; row++)
            memcpy(m->embeddings[e].weight + (row * p.parts + p.part) * width,
                   n->table[e] + row * width, width * sizeof(float));
    }
}

/* Column j of the network's layer input in the merged one's. Layer 0: each embedding is `parts` blocks, features are
 * shared; above: blocks of h. */
static size_t column_of(const struct train_network *n, uint32_t layer, size_t j, struct place p)
{
    if (layer > 0)
        return p.part * n->shape.hidden[layer - 1] + j;
    size_t at = 0;
    for (uint32_t e = 0; e < n->shape.embeddings_n; e++) {
        size_t width = n->shape.width[e];
        if (j < width)
            return at + p.part * width + j;
        j -= width;
        at += p.parts * width;
    }
    return at + j;
}

static void put_layer(const struct train_network *n, struct model *m, uint32_t layer, struct place p)
{
    struct model_layer *to = &m->layers[layer];
    size_t hidden = n->shape.hidden[layer], width = n->width[layer], input = width - hidden;
    for (size_t gate = 0; gate < 4; gate++)
        for (size_t k = 0; k < hidden; k++) {
            const float *from = n->weights + n->layer[layer] + (gate * hidden + k) * width;
            size_t row = gate * to->hidden + p.part * hidden + k;
            for (size_t j = 0; j < input; j++)
                to->weight_ih[row * to->input + column_of(n, layer, j, p)] = from[j];
            memcpy(to->weight_hh + row * to->hidden + p.part * hidden, from + input, hidden * sizeof *from);
            to->bias_ih[row] = n->weights[n->layer_bias[layer] + gate * hidden + k];
            to->bias_hh[row] = 0;
        }
}

/* A tied head becomes one of its own: logit = E·(P·h + p) + b = (E·P)·h + (E·p + b). */
static void put_head(const struct train_network *n, struct model *m, uint32_t head, struct place p)
{
    struct model_head *to = &m->heads[head];
    size_t top = n->top, all = top * p.parts;
    int tied = n->shape.heads[head].tied;
    size_t width = tied < 0 ? top : n->shape.width[tied];
    float share = 1.0f / (float)p.parts;
    for (size_t k = 0; k < to->classes; k++) {
        const float *from = train_head_weights(n, head) + k * width;
        float *row = to->weight + k * all + p.part * top;
        double bias = n->weights[n->head_bias[head] + k];
        for (size_t j = 0; j < top && tied < 0; j++)
            row[j] = from[j] * share;
        for (size_t j = 0; j < top && tied >= 0; j++) {
            double sum = 0;
            for (size_t i = 0; i < width; i++)
                sum += (double)from[i] * n->weights[n->projection[head] + i * top + j];
            row[j] = (float)sum * share;
        }
        for (size_t i = 0; i < width && tied >= 0; i++)
            bias += (double)from[i] * n->weights[n->projection_bias[head] + i];
        to->bias[k] += (float)bias * share;
    }
}

static void put_network(const struct train_network *n, struct model *m, struct place p)
{
    put_embeddings(n, m, p);
    for (uint32_t i = 0; i < m->layers_n; i++)
        put_layer(n, m, i, p);
    for (uint32_t i = 0; i < m->heads_n; i++)
        put_head(n, m, i, p);
}

void train_weights_to_model(const struct train_network *n, struct model *m)
{
    for (uint32_t i = 0; i < m->heads_n; i++)
        memset(m->heads[i].bias, 0, m->heads[i].classes * sizeof *m->heads[i].bias);
    put_network(n, m, (struct place){0, 1});
}

void train_weights_from_model(struct train_network *n, const struct model *m)
{
    for (uint32_t e = 0; e < m->embeddings_n; e++)
        memcpy(n->weights + n->embedding[e], m->embeddings[e].weight,
               (size_t)n->shape.rows[e] * n->shape.width[e] * sizeof(float));
    for (uint32_t layer = 0; layer < m->layers_n; layer++) {
        const struct model_layer *from = &m->layers[layer];
        for (size_t row = 0; row < 4 * from->hidden; row++) {
            float *to = n->weights + n->layer[layer] + row * n->width[layer];
            memcpy(to, from->weight_ih + row * from->input, from->input * sizeof *to);
            memcpy(to + from->input, from->weight_hh + row * from->hidden, from->hidden * sizeof *to);
            n->weights[n->layer_bias[layer] + row] = from->bias_ih[row] + from->bias_hh[row];
        }
    }
    for (uint32_t i = 0; i < m->heads_n; i++) {
        assert(n->shape.heads[i].tied < 0);
        memcpy(n->weights + n->head[i], m->heads[i].weight, (size_t)m->heads[i].classes * n->top * sizeof(float));
        memcpy(n->weights + n->head_bias[i], m->heads[i].bias, m->heads[i].classes * sizeof(float));
    }
    train_network_refresh(n);
}

struct model *train_merge(struct train_network *const *networks, uint32_t n, const struct model *outline,
                          struct error *err)
{
    struct model *m = model_create();
    int rc = 0;
    for (uint32_t e = 0; e < outline->embeddings_n && rc == 0; e++) {
        const struct model_embedding *x = &outline->embeddings[e];
        rc = model_add_embedding(m, x->field, x->width * n, x->vocabulary.name, x->vocabulary.n, err);
    }
    for (uint32_t f = 0; f < outline->features_n && rc == 0; f++)
        rc = model_add_feature(m, &outline->features[f], err);
    for (uint32_t i = 0; i < outline->layers_n && rc == 0; i++)
        rc = model_add_layer(m, outline->layers[i].hidden * n, err);
    for (uint32_t i = 0; i < outline->heads_n && rc == 0; i++) {
        const struct model_head *x = &outline->heads[i];
        rc = model_add_head(m, x->name, x->kind, x->target, x->vocabulary.name, x->vocabulary.n, err);
    }
    if (rc < 0) {
        model_destroy(&m);
        return NULL;
    }
    m->intent_horizon_ms = outline->intent_horizon_ms;
    for (uint32_t k = 0; k < n; k++)
        put_network(networks[k], m, (struct place){k, n});
    return m;
}
