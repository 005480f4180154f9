// SPDX-License-Identifier: Apache-2.0
// train_network.c - the network's weights: where each matrix lies, how it begins, and its packed copies for products.
#include "train_network.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SPARSE_ROWS_MIN = 4096 };

static size_t place(struct train_network *n, size_t rows, size_t columns, const char *kind, uint32_t index,
                    const char *part)
{
    assert(n->matrices_n < TRAIN_MATRICES_MAX);
    struct train_matrix *m = &n->matrices[n->matrices_n++];
    snprintf(m->name, sizeof m->name, "%s.%u.%s", kind, index, part);
    m->offset = n->weights_n;
    m->rows = rows;
    m->columns = columns;
    n->weights_n += (rows * columns + 15) / 16 * 16; /* each begins at a cache line */
    return m->offset;
}

static void place_head(struct train_network *n, uint32_t i)
{
    const struct train_head *head = &n->shape.heads[i];
    n->head_bias[i] = place(n, head->classes, 1, "head", i, "bias");
    if (head->tied < 0) {
        n->head[i] = place(n, head->classes, n->top, "head", i, "weight");
        return;
    }
    uint32_t width = n->shape.width[head->tied];
    assert(n->shape.rows[head->tied] == head->classes + 1);
    n->projection[i] = place(n, width, n->top, "head", i, "projection");
    n->projection_bias[i] = place(n, width, 1, "head", i, "projection_bias");
}

static uint32_t head_width(const struct train_network *n, uint32_t i)
{
    int tied = n->shape.heads[i].tied;
    return tied < 0 ? n->top : n->shape.width[tied];
}

static void create_packed(struct train_network *n)
{
    for (uint32_t i = 0; i < n->shape.layers_n; i++) {
        size_t gates = 4 * n->shape.hidden[i];
        n->layer_forward[i] = dense_alloc(dense_packed_floats(n->width[i], gates));
        n->layer_backward[i] = dense_alloc(dense_packed_floats(gates, n->width[i]));
    }
    for (uint32_t i = 0; i < n->shape.heads_n; i++) {
        size_t classes = n->shape.heads[i].classes, width = head_width(n, i);
        n->head_forward[i] = dense_alloc(dense_packed_floats(width, classes));
        n->head_backward[i] = dense_alloc(dense_packed_floats(classes, width));
        if (n->shape.heads[i].tied < 0)
            continue;
        n->projection_forward[i] = dense_alloc(dense_packed_floats(n->top, width));
        n->projection_backward[i] = dense_alloc(dense_packed_floats(width, n->top));
    }
}

/* Large embeddings, unless every row has a derivative each time: by a full softmax tied to it, or by attributes. */
static void find_sparse(struct train_network *n)
{
    const struct train_shape *s = &n->shape;
    for (uint32_t e = 0; e < s->embeddings_n; e++) {
        n->sparse[e] = s->rows[e] > SPARSE_ROWS_MIN && s->attributes_n[e] == 0;
        for (uint32_t i = 0; i < s->heads_n; i++)
            n->sparse[e] &= s->heads[i].tied != (int)e || s->heads[i].sampler;
    }
}

struct train_network *train_network_create(const struct train_shape *shape, const struct dense *dense)
{
    struct train_network *n = calloc(1, sizeof *n);
    assert(n && shape->layers_n > 0 && shape->heads_n > 0);
    n->shape = *shape;
    n->dense = dense;
    for (uint32_t i = 0; i < shape->embeddings_n; i++) {
        n->embedding[i] = place(n, shape->rows[i], shape->width[i], "embedding", i, "weight");
        n->input += shape->width[i];
        for (uint32_t k = 0; k < shape->attributes_n[i]; k++)
            n->attribute[i][k] = place(n, shape->attributes[i][k].values, shape->width[i], "attribute", i, "weight");
    }
    n->input += shape->features_n;
    for (uint32_t i = 0; i < shape->layers_n; i++) {
        n->width[i] = (i ? shape->hidden[i - 1] : n->input) + shape->hidden[i];
        n->layer[i] = place(n, 4 * shape->hidden[i], n->width[i], "lstm", i, "weight");
        n->layer_bias[i] = place(n, 4 * shape->hidden[i], 1, "lstm", i, "bias");
    }
    n->top = shape->hidden[shape->layers_n - 1];
    find_sparse(n);
    for (uint32_t i = 0; i < shape->heads_n; i++)
        place_head(n, i);
    n->weights = dense_alloc(n->weights_n);
    for (uint32_t i = 0; i < shape->embeddings_n; i++)
        n->table[i] = shape->attributes_n[i] ? dense_alloc((size_t)shape->rows[i] * shape->width[i])
                                             : n->weights + n->embedding[i];
    create_packed(n);
    return n;
}

void train_network_destroy(struct train_network **network)
{
    struct train_network *n = *network;
    if (!n)
        return;
    for (uint32_t i = 0; i < MODEL_LAYERS_MAX; i++) {
        free(n->layer_forward[i]);
        free(n->layer_backward[i]);
    }
    for (uint32_t i = 0; i < MODEL_HEADS_MAX; i++) {
        free(n->head_forward[i]);
        free(n->head_backward[i]);
        free(n->projection_forward[i]);
        free(n->projection_backward[i]);
    }
    for (uint32_t i = 0; i < n->shape.embeddings_n; i++)
        if (n->shape.attributes_n[i])
            free(n->table[i]);
    free(n->weights);
    free(n);
    *network = NULL;
}

static void fill(float *w, size_t n, double limit, struct train_random *random)
{
    for (size_t i = 0; i < n; i++)
        w[i] = (float)((2 * train_random_unit(random) - 1) * limit);
}

static void init_layer(struct train_network *n, uint32_t i, struct train_random *random)
{
    uint32_t hidden = n->shape.hidden[i], input = n->width[i] - hidden;
    for (uint32_t row = 0; row < 4 * hidden; row++) {
        float *w = n->weights + n->layer[i] + (size_t)row * n->width[i];
        fill(w, input, sqrt(6.0 / (input + hidden)), random);
        fill(w + input, hidden, sqrt(3.0 / hidden), random);
    }
    /* A forget gate that begins open lets early gradients reach far back (Jozefowicz and others, 2015). */
    for (uint32_t j = hidden; j < 2 * hidden; j++)
        n->weights[n->layer_bias[i] + j] = 1;
}

void train_network_init(struct train_network *n, struct train_random *random)
{
    const struct train_shape *s = &n->shape;
    memset(n->weights, 0, n->weights_n * sizeof *n->weights);
    for (uint32_t i = 0; i < s->embeddings_n; i++) {
        double limit = sqrt(3.0 / s->width[i] / (1 + s->attributes_n[i])) * 0.5;
        fill(n->weights + n->embedding[i], (size_t)s->rows[i] * s->width[i], limit, random);
        for (uint32_t k = 0; k < s->attributes_n[i]; k++)
            fill(n->weights + n->attribute[i][k], (size_t)s->attributes[i][k].values * s->width[i], limit, random);
    }
    for (uint32_t i = 0; i < s->layers_n; i++)
        init_layer(n, i, random);
    for (uint32_t i = 0; i < s->heads_n; i++) {
        uint32_t out = s->heads[i].tied < 0 ? s->heads[i].classes : head_width(n, i);
        size_t at = s->heads[i].tied < 0 ? n->head[i] : n->projection[i];
        fill(n->weights + at, (size_t)out * n->top, sqrt(6.0 / (n->top + out)), random);
    }
}

int train_network_sparse(const struct train_network *n, const struct train_matrix *m)
{
    for (uint32_t e = 0; e < n->shape.embeddings_n; e++)
        if (n->sparse[e] && n->embedding[e] == m->offset)
            return (int)e;
    return -1;
}

size_t train_head_offset(const struct train_network *n, uint32_t head)
{
    int tied = n->shape.heads[head].tied;
    return tied < 0 ? n->head[head] : n->embedding[tied] + n->shape.width[tied];
}

const float *train_head_weights(const struct train_network *n, uint32_t head)
{
    int tied = n->shape.heads[head].tied;
    return tied < 0 ? n->weights + n->head[head] : n->table[tied] + n->shape.width[tied];
}

void train_network_compose(struct train_network *n, uint32_t part, uint32_t parts)
{
    const struct train_shape *s = &n->shape;
    for (uint32_t e = 0; e < s->embeddings_n; e++) {
        size_t width = s->width[e], until = (size_t)s->rows[e] * (part + 1) / parts;
        for (size_t row = (size_t)s->rows[e] * part / parts; row < until && s->attributes_n[e]; row++) {
            float *to = n->table[e] + row * width;
            memcpy(to, n->weights + n->embedding[e] + row * width, width * sizeof *to);
            for (uint32_t k = 0; k < s->attributes_n[e]; k++)
                n->dense->add(width, to, n->weights + n->attribute[e][k] + s->attributes[e][k].of_row[row] * width);
        }
    }
}

void train_network_spread(const struct train_network *n, float *gradient)
{
    const struct train_shape *s = &n->shape;
    for (uint32_t e = 0; e < s->embeddings_n; e++)
        for (size_t row = 0, width = s->width[e]; row < s->rows[e] && s->attributes_n[e]; row++)
            for (uint32_t k = 0; k < s->attributes_n[e]; k++)
                n->dense->add(width, gradient + n->attribute[e][k] + s->attributes[e][k].of_row[row] * width,
                              gradient + n->embedding[e] + row * width);
}

/* W [rows × columns] as the right side of x·Wᵀ (forward) and of dy·W (backward). */
static void pack_both(float *forward, float *backward, const float *w, size_t rows, size_t columns)
{
    dense_pack(forward, w, columns, rows, 1, columns);
    dense_pack(backward, w, rows, columns, columns, 1);
}

void train_network_pack(struct train_network *n, uint32_t part, uint32_t parts)
{
    const struct train_shape *s = &n->shape;
    uint32_t turn = 0;
    for (uint32_t i = 0; i < s->layers_n; i++) {
        const float *w = n->weights + n->layer[i];
        if (turn++ % parts == part)
            dense_pack(n->layer_forward[i], w, n->width[i], 4 * s->hidden[i], 1, n->width[i]);
        if (turn++ % parts == part)
            dense_pack(n->layer_backward[i], w, 4 * s->hidden[i], n->width[i], n->width[i], 1);
    }
    for (uint32_t i = 0; i < s->heads_n; i++) {
        if (turn++ % parts != part)
            continue;
        uint32_t width = head_width(n, i);
        if (!s->heads[i].sampler)
            pack_both(n->head_forward[i], n->head_backward[i], train_head_weights(n, i), s->heads[i].classes, width);
        if (s->heads[i].tied >= 0)
            pack_both(n->projection_forward[i], n->projection_backward[i], n->weights + n->projection[i], width,
                      n->top);
    }
}

void train_network_refresh(struct train_network *n)
{
    train_network_compose(n, 0, 1);
    train_network_pack(n, 0, 1);
    for (uint32_t i = 0; i < n->shape.heads_n; i++)
        if (n->shape.heads[i].sampler)
            pack_both(n->head_forward[i], n->head_backward[i], train_head_weights(n, i), n->shape.heads[i].classes,
                      head_width(n, i));
}
