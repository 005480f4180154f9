// SPDX-License-Identifier: Apache-2.0
// train_forward.c - from a mini-batch to x, through the LSTM layers, to every h.
#include "train_network.h"

#include <assert.h>
#include <string.h>

/* 0 with probability p, else 1/(1 − p), so that the mean stays. Four decisions from one number of 64 bits. */
static void draw_mask(struct train_random *random, float *mask, size_t n, float p)
{
    uint32_t limit = (uint32_t)(p * 65536.0f + 0.5f);
    float keep = 1 / (1 - p);
    for (size_t i = 0; i < n; i += 4) {
        uint64_t bits = train_random_next(random);
        for (size_t j = i; j < i + 4 && j < n; j++, bits >>= 16)
            mask[j] = (bits & 0xffff) < limit ? 0 : keep;
    }
}

/* x of every row, into the first layer's [x | h]. */
static void fill_input(struct train_workspace *w, const struct train_batch *b, bool dropping)
{
    const struct train_network *n = w->network;
    const struct train_shape *s = &n->shape;
    size_t embedded = n->input - s->features_n;
    if (dropping)
        draw_mask(&w->random, w->input_mask, b->rows * embedded, s->dropout_input);
    for (uint32_t row = 0; row < b->rows; row++) {
        float *x = w->layers[0].xh + (size_t)row * n->width[0], *to = x;
        for (uint32_t e = 0; e < s->embeddings_n; e++) {
            assert(b->ids[e][row] < s->rows[e]);
            const float *from = n->table[e] + (size_t)b->ids[e][row] * s->width[e];
            memcpy(to, from, s->width[e] * sizeof *to);
            to += s->width[e];
        }
        if (dropping)
            n->dense->mask(embedded, x, x, w->input_mask + row * embedded);
        memcpy(to, b->features + (size_t)row * s->features_n, s->features_n * sizeof *to);
    }
}

/* h and c before step t into their places: from the step before, from the batch before, or zero. */
static void fill_before(const struct train_workspace *w, const struct train_batch *b, uint32_t layer, uint32_t t)
{
    const struct train_layer_state *s = &w->layers[layer];
    size_t hidden = w->network->shape.hidden[layer], width = w->network->width[layer], n = b->active[t];
    float *h_to = s->xh + b->start[t] * width + width - hidden, *c_to = s->c_before + b->start[t] * hidden;
    const float *h = t ? s->h + b->start[t - 1] * hidden : s->end_h;
    const float *c = t ? s->c + b->start[t - 1] * hidden : s->end_c;
    if (t == 0 && !b->carried) {
        memset(c_to, 0, n * hidden * sizeof *c_to);
        for (size_t i = 0; i < n; i++)
            memset(h_to + i * width, 0, hidden * sizeof *h_to);
        return;
    }
    memcpy(c_to, c, n * hidden * sizeof *c_to);
    for (size_t i = 0; i < n; i++)
        memcpy(h_to + i * width, h + i * hidden, hidden * sizeof *h_to);
}

static void forward_step(struct train_workspace *w, const struct train_batch *b, uint32_t layer, uint32_t t)
{
    const struct train_network *n = w->network;
    const struct train_layer_state *s = &w->layers[layer];
    size_t hidden = n->shape.hidden[layer], width = n->width[layer], first = b->start[t], count = b->active[t];
    fill_before(w, b, layer, t);
    float *gates = s->gates + first * 4 * hidden;
    for (size_t i = 0; i < count; i++)
        memcpy(gates + i * 4 * hidden, n->weights + n->layer_bias[layer], 4 * hidden * sizeof *gates);
    dense_multiply(n->dense, count, 4 * hidden, width, s->xh + first * width, width, 1, n->layer_forward[layer], gates,
                   4 * hidden, true, NULL);
    n->dense->cell_forward(count, hidden, gates, s->c_before + first * hidden, s->c + first * hidden,
                           s->tanh_c + first * hidden, s->h + first * hidden);
}

void train_forward(struct train_workspace *w, const struct train_batch *b, bool learning)
{
    const struct train_network *n = w->network;
    assert(b->rows <= w->rows_max && b->lanes <= w->lanes_max);
    fill_input(w, b, learning && n->shape.dropout_input > 0);
    for (uint32_t layer = 0; layer < n->shape.layers_n; layer++) {
        struct train_layer_state *s = &w->layers[layer];
        size_t hidden = n->shape.hidden[layer];
        for (uint32_t t = 0; t < b->steps; t++)
            forward_step(w, b, layer, t);
        memcpy(s->end_h, s->h + b->start[b->steps - 1] * hidden, b->active[b->steps - 1] * hidden * sizeof *s->h);
        memcpy(s->end_c, s->c + b->start[b->steps - 1] * hidden, b->active[b->steps - 1] * hidden * sizeof *s->c);
        bool last = layer + 1 == n->shape.layers_n, dropping = learning && n->shape.dropout > 0;
        float *to = last ? w->out : w->layers[layer + 1].xh;
        size_t stride = last ? hidden : n->width[layer + 1];
        if (dropping)
            draw_mask(&w->random, s->mask, b->rows * hidden, n->shape.dropout);
        for (size_t row = 0; row < b->rows; row++)
            if (dropping)
                n->dense->mask(hidden, to + row * stride, s->h + row * hidden, s->mask + row * hidden);
            else
                memcpy(to + row * stride, s->h + row * hidden, hidden * sizeof *to);
    }
}
