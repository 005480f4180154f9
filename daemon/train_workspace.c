// SPDX-License-Identifier: Apache-2.0
// train_workspace.c - room for one thread's mini-batches: what goes in and what moves.
#include "train_network.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Floats of one block of logits: 16 MB, so that a block of rows goes through the caches once. */
enum { LOGITS_FLOATS = 4 << 20, LOGITS_ROWS_MIN = 24 };

void train_batch_create(struct train_batch *b, const struct train_shape *shape, uint32_t lanes, uint32_t steps)
{
    size_t rows = (size_t)lanes * steps;
    *b = (struct train_batch){.lanes_max = lanes, .steps_max = steps};
    b->active = calloc(steps, sizeof *b->active);
    b->start = calloc(steps + 1, sizeof *b->start);
    assert(b->active && b->start);
    for (uint32_t i = 0; i < shape->embeddings_n; i++) {
        b->ids[i] = calloc(rows, sizeof *b->ids[i]);
        assert(b->ids[i]);
    }
    for (uint32_t i = 0; i < shape->heads_n; i++) {
        b->target[i] = calloc(rows, sizeof *b->target[i]);
        assert(b->target[i]);
    }
    b->features = dense_alloc(rows * shape->features_n + 1);
}

void train_batch_destroy(struct train_batch *b)
{
    free(b->active);
    free(b->start);
    free(b->features);
    for (uint32_t i = 0; i < MODEL_EMBEDDINGS_MAX; i++)
        free(b->ids[i]);
    for (uint32_t i = 0; i < MODEL_HEADS_MAX; i++)
        free(b->target[i]);
    *b = (struct train_batch){0};
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void create_layer(struct train_workspace *w, uint32_t i, bool learning)
{
    struct train_layer_state *s = &w->layers[i];
    size_t hidden = w->network->shape.hidden[i], rows = w->rows_max;
    s->xh = dense_alloc(rows * w->network->width[i]);
    s->gates = dense_alloc(rows * 4 * hidden);
    s->c_before = dense_alloc(rows * hidden);
    s->c = dense_alloc(rows * hidden);
    s->tanh_c = dense_alloc(rows * hidden);
    s->h = dense_alloc(rows * hidden);
    s->end_h = dense_alloc(w->lanes_max * hidden);
    s->end_c = dense_alloc(w->lanes_max * hidden);
    if (!learning)
        return;
    s->mask = dense_alloc(rows * hidden);
    s->dc = dense_alloc(w->lanes_max * hidden);
    s->dh = dense_alloc(rows * hidden);
}

/* The largest right side that backward packs: [x | h] of all rows, or a block of the heads' inputs. */
static size_t packed_floats(const struct train_workspace *w)
{
    const struct train_network *n = w->network;
    size_t most = dense_packed_floats(w->rows_max, n->top);
    for (uint32_t i = 0; i < n->shape.layers_n; i++)
        most = larger(most, dense_packed_floats(w->rows_max, n->width[i]));
    for (uint32_t i = 0; i < n->shape.embeddings_n; i++)
        most = larger(most, dense_packed_floats(w->rows_max, n->shape.width[i]));
    return most;
}

/* Room for the head with the most draws. The logits' block is shared with the full softmax, hence many rows of
 * draws. */
static void create_sampled(struct train_workspace *w)
{
    const struct train_network *n = w->network;
    size_t draws = 0, width = n->top;
    for (uint32_t i = 0; i < n->shape.heads_n; i++) {
        const struct train_head *h = &n->shape.heads[i];
        if (!h->sampler)
            continue;
        draws = larger(draws, h->sampler->n);
        if (h->tied >= 0)
            width = larger(width, n->shape.width[h->tied]);
    }
    if (draws == 0)
        return;
    assert(w->logits_floats >= draws + 1);
    w->drawn = calloc(draws, sizeof *w->drawn);
    assert(w->drawn);
    w->drawn_bias = dense_alloc(draws + 1);
    w->drawn_weight = dense_alloc(draws * width);
    w->drawn_gradient = dense_alloc(draws * width);
    w->drawn_packed = dense_alloc(larger(dense_packed_floats(draws, width), dense_packed_floats(width, draws)));
}

struct train_workspace *train_workspace_create(const struct train_network *n, uint32_t lanes, uint32_t steps,
                                               bool learning)
{
    struct train_workspace *w = calloc(1, sizeof *w);
    assert(w);
    w->network = n;
    w->lanes_max = lanes;
    w->rows_max = lanes * steps;
    size_t rows = w->rows_max, widest = 0, widest_tied = 0, classes = 1;
    for (uint32_t i = 0; i < n->shape.layers_n; i++) {
        create_layer(w, i, learning);
        widest = larger(widest, n->width[i]);
    }
    for (uint32_t i = 0; i < n->shape.heads_n; i++) {
        classes = larger(classes, n->shape.heads[i].classes);
        if (n->shape.heads[i].tied >= 0)
            widest_tied = larger(widest_tied, n->shape.width[n->shape.heads[i].tied]);
    }
    w->logits_floats = larger(LOGITS_FLOATS, classes * LOGITS_ROWS_MIN);
    if (rows * classes < w->logits_floats)
        w->logits_floats = rows * classes;
    w->logits = dense_alloc(w->logits_floats);
    w->picked = calloc(rows, sizeof *w->picked);
    assert(w->picked);
    w->out = dense_alloc(rows * n->top);
    w->head_h = dense_alloc(rows * n->top);
    w->head_u = dense_alloc(rows * widest_tied + 1);
    w->scratch = dense_alloc(dense_scratch_floats());
    if (!learning)
        return w;
    w->gradient = dense_alloc(n->weights_n);
    for (uint32_t e = 0; e < n->shape.embeddings_n; e++)
        if (n->sparse[e]) {
            w->touched[e] = calloc(n->shape.rows[e], 1);
            assert(w->touched[e]);
        }
    w->input_mask = dense_alloc(rows * n->input);
    w->dxh = dense_alloc(lanes * widest);
    w->dx = dense_alloc(rows * widest);
    w->dout = dense_alloc(rows * n->top);
    w->head_dh = dense_alloc(rows * n->top);
    w->head_du = dense_alloc(rows * widest_tied + 1);
    create_sampled(w);
    w->packed_floats = packed_floats(w);
    w->packed = dense_alloc(w->packed_floats);
    return w;
}

void train_workspace_destroy(struct train_workspace **workspace)
{
    struct train_workspace *w = *workspace;
    if (!w)
        return;
    for (uint32_t i = 0; i < MODEL_LAYERS_MAX; i++) {
        struct train_layer_state *s = &w->layers[i];
        float *all[] = {s->xh, s->gates, s->c_before, s->c, s->tanh_c, s->h, s->mask, s->dc, s->dh, s->end_h, s->end_c};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++)
            free(all[j]);
    }
    float *all[] = {w->gradient, w->input_mask, w->dxh, w->dx, w->out, w->dout, w->head_h, w->head_dh, w->head_u,
                    w->head_du, w->logits, w->packed, w->scratch, w->drawn_weight, w->drawn_gradient,
                    w->drawn_packed, w->drawn_bias};
    for (size_t j = 0; j < sizeof all / sizeof *all; j++)
        free(all[j]);
    for (uint32_t e = 0; e < MODEL_EMBEDDINGS_MAX; e++)
        free(w->touched[e]);
    free(w->picked);
    free(w->drawn);
    free(w);
    *workspace = NULL;
}

/* A sparse embedding is cleared row by row. */
static void clear_gradient(struct train_workspace *w)
{
    const struct train_network *n = w->network;
    for (uint32_t k = 0; k < n->matrices_n; k++) {
        const struct train_matrix *m = &n->matrices[k];
        int sparse = train_network_sparse(n, m);
        if (sparse < 0)
            memset(w->gradient + m->offset, 0, m->rows * m->columns * sizeof *w->gradient);
        for (size_t row = 0; sparse >= 0 && row < m->rows; row++)
            if (w->touched[sparse][row])
                memset(w->gradient + m->offset + row * m->columns, 0, m->columns * sizeof *w->gradient);
        if (sparse >= 0)
            memset(w->touched[sparse], 0, m->rows);
    }
}

void train_workspace_clear(struct train_workspace *w)
{
    if (w->gradient)
        clear_gradient(w);
    memset(w->loss, 0, sizeof w->loss);
    memset(w->hits, 0, sizeof w->hits);
    memset(w->targets, 0, sizeof w->targets);
}
