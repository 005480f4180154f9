// SPDX-License-Identifier: Apache-2.0
// train_backward.c - back-propagation through time: from the derivatives by the outputs to those by every weight.
#include "train_network.h"

#include <string.h>

/* Derivatives by one layer's h, from the layer above or the heads, through its dropout. */
static void fill_dh(struct train_workspace *w, const struct train_batch *b, uint32_t layer)
{
    const struct train_network *n = w->network;
    struct train_layer_state *s = &w->layers[layer];
    size_t hidden = n->shape.hidden[layer];
    bool last = layer + 1 == n->shape.layers_n;
    const float *from = last ? w->dout : w->dx;
    if (n->shape.dropout > 0)
        n->dense->mask(b->rows * hidden, s->dh, from, s->mask);
    else
        memcpy(s->dh, from, b->rows * hidden * sizeof *from);
}

/* One step back: gates become derivatives; the share by x goes to dx, that by h to the step before. */
static void backward_step(struct train_workspace *w, const struct train_batch *b, uint32_t layer, uint32_t t)
{
    const struct train_network *n = w->network;
    struct train_layer_state *s = &w->layers[layer];
    size_t hidden = n->shape.hidden[layer], width = n->width[layer], input = width - hidden;
    size_t first = b->start[t], count = b->active[t];
    float *gates = s->gates + first * 4 * hidden;
    n->dense->cell_backward(count, hidden, gates, s->c_before + first * hidden, s->tanh_c + first * hidden,
                            s->dh + first * hidden, s->dc);
    dense_multiply(n->dense, count, width, 4 * hidden, gates, 4 * hidden, 1, n->layer_backward[layer], w->dxh, width,
                   false, NULL);
    for (size_t i = 0; i < count; i++) {
        memcpy(w->dx + (first + i) * input, w->dxh + i * width, input * sizeof *w->dx);
        if (t > 0)
            n->dense->add(hidden, s->dh + (b->start[t - 1] + i) * hidden, w->dxh + i * width + input);
    }
}

/* dx of the first layer into the embeddings that were looked up. */
static void backward_input(struct train_workspace *w, const struct train_batch *b)
{
    const struct train_network *n = w->network;
    const struct train_shape *s = &n->shape;
    size_t embedded = n->input - s->features_n;
    for (uint32_t row = 0; row < b->rows; row++) {
        float *dx = w->dx + (size_t)row * n->input;
        if (s->dropout_input > 0)
            n->dense->mask(embedded, dx, dx, w->input_mask + row * embedded);
        for (uint32_t e = 0; e < s->embeddings_n; e++) {
            if (n->sparse[e])
                w->touched[e][b->ids[e][row]] = 1;
            n->dense->add(s->width[e], w->gradient + n->embedding[e] + (size_t)b->ids[e][row] * s->width[e], dx);
            dx += s->width[e];
        }
    }
}

void train_backward(struct train_workspace *w, const struct train_batch *b)
{
    const struct train_network *n = w->network;
    for (uint32_t layer = n->shape.layers_n; layer-- > 0;) {
        struct train_layer_state *s = &w->layers[layer];
        size_t hidden = n->shape.hidden[layer], width = n->width[layer];
        fill_dh(w, b, layer);
        memset(s->dc, 0, (size_t)b->lanes * hidden * sizeof *s->dc);
        for (uint32_t t = b->steps; t-- > 0;)
            backward_step(w, b, layer, t);
        n->dense->add_rows(b->rows, 4 * hidden, w->gradient + n->layer_bias[layer], s->gates, 4 * hidden);
        dense_pack(w->packed, s->xh, b->rows, width, width, 1);
        dense_multiply(n->dense, 4 * hidden, width, b->rows, s->gates, 1, 4 * hidden, w->packed,
                       w->gradient + n->layer[layer], width, true, w->scratch);
    }
    backward_input(w, b);
    train_network_spread(n, w->gradient);
}
