// SPDX-License-Identifier: Apache-2.0
// train_heads.c - from h to probabilities, losses and their derivatives. A softmax over tens of thousands of classes
// goes block of rows by block of rows, so that its logits stay in the caches.
#include "train_network.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* The rows that have a target of this head, their h side by side. */
static uint32_t pick_rows(struct train_workspace *w, const struct train_batch *b, uint32_t head)
{
    size_t top = w->network->top;
    uint32_t picked = 0;
    for (uint32_t row = 0; row < b->rows; row++)
        if (b->target[head][row] >= 0) {
            memcpy(w->head_h + picked * top, w->out + row * top, top * sizeof *w->out);
            w->picked[picked++] = row;
        }
    return picked;
}

static void spread_bias(float *to, size_t rows, const float *bias, size_t width)
{
    for (size_t i = 0; i < rows; i++)
        memcpy(to + i * width, bias, width * sizeof *to);
}

/* Logits in, derivatives by them out (or, with `each`, also probabilities to it). */
static void softmax_block(struct train_workspace *w, const struct train_batch *b, uint32_t head, const uint32_t *rows,
                          uint32_t n, bool learning, train_scores_fn *each, void *self)
{
    const struct train_network *net = w->network;
    size_t classes = net->shape.heads[head].classes;
    float scale = each ? 1 : b->scale[head];
    for (uint32_t i = 0; i < n; i++) {
        float *x = w->logits + i * classes;
        int32_t target = b->target[head][rows[i]];
        float logit = x[target];
        w->loss[head] += net->dense->softmax(classes, x, scale) - logit;
    }
    if (each)
        each(self, head, rows, n, w->logits);
    assert(!each || !learning);
    for (uint32_t i = 0; i < n && learning; i++)
        w->logits[i * classes + (size_t)b->target[head][rows[i]]] -= scale;
}

static void sigmoid_block(struct train_workspace *w, const struct train_batch *b, uint32_t head, const uint32_t *rows,
                          uint32_t n, train_scores_fn *each, void *self)
{
    float positive = w->network->shape.heads[head].positive_weight;
    for (uint32_t i = 0; i < n; i++) {
        /* −ln p of what happened = ln(1 + e^−x) for 1, ln(1 + e^x) for 0, without overflow. */
        bool yes = b->target[head][rows[i]] == 1;
        float x = yes ? -w->logits[i] : w->logits[i];
        w->loss[head] += (yes ? positive : 1) * (fmaxf(x, 0) + log1pf(expf(-fabsf(x))));
        w->hits[head] += x < 0;
    }
    w->network->dense->sigmoid(n, w->logits);
    if (each)
        each(self, head, rows, n, w->logits);
    for (uint32_t i = 0; i < n; i++) {
        bool yes = b->target[head][rows[i]] == 1;
        w->logits[i] = (w->logits[i] - yes) * (yes ? positive : 1) * b->scale[head];
    }
}

/* Derivatives by the head's weights, and by its input u [n × width] into du. */
static void backward_block(struct train_workspace *w, uint32_t head, const float *u, float *du, uint32_t n,
                           size_t width)
{
    const struct train_network *net = w->network;
    size_t classes = net->shape.heads[head].classes;
    net->dense->add_rows(n, classes, w->gradient + net->head_bias[head], w->logits, classes);
    dense_pack(w->packed, u, n, width, width, 1);
    dense_multiply(net->dense, classes, width, n, w->logits, 1, classes, w->packed,
                   w->gradient + train_head_offset(net, head), width, true, w->scratch);
    dense_multiply(net->dense, n, width, classes, w->logits, classes, 1, net->head_backward[head], du, width, false,
                   NULL);
}

static void run_blocks(struct train_workspace *w, const struct train_batch *b, uint32_t head, uint32_t picked,
                       size_t width, bool learning, train_scores_fn *each, void *self)
{
    const struct train_network *net = w->network;
    const struct train_head *h = &net->shape.heads[head];
    const float *u = h->tied < 0 ? w->head_h : w->head_u;
    float *du = h->tied < 0 ? w->head_dh : w->head_du;
    uint32_t block = (uint32_t)(w->logits_floats / h->classes);
    for (uint32_t from = 0; from < picked; from += block) {
        uint32_t n = picked - from < block ? picked - from : block;
        spread_bias(w->logits, n, net->weights + net->head_bias[head], h->classes);
        dense_multiply(net->dense, n, h->classes, width, u + from * width, width, 1, net->head_forward[head], w->logits,
                       h->classes, true, NULL);
        if (h->kind == MODEL_SOFTMAX)
            softmax_block(w, b, head, w->picked + from, n, learning, each, self);
        else
            sigmoid_block(w, b, head, w->picked + from, n, each, self);
        if (learning)
            backward_block(w, head, u + from * width, du + from * width, n, width);
    }
}

/* u = h·Pᵀ + p before a tied head; the same backward. */
static void project(struct train_workspace *w, uint32_t head, uint32_t picked, size_t width)
{
    const struct train_network *net = w->network;
    spread_bias(w->head_u, picked, net->weights + net->projection_bias[head], width);
    dense_multiply(net->dense, picked, width, net->top, w->head_h, net->top, 1, net->projection_forward[head],
                   w->head_u, width, true, NULL);
}

static void project_backward(struct train_workspace *w, uint32_t head, uint32_t picked, size_t width)
{
    const struct train_network *net = w->network;
    net->dense->add_rows(picked, width, w->gradient + net->projection_bias[head], w->head_du, width);
    dense_pack(w->packed, w->head_h, picked, net->top, net->top, 1);
    dense_multiply(net->dense, width, net->top, picked, w->head_du, 1, width, w->packed,
                   w->gradient + net->projection[head], net->top, true, w->scratch);
    dense_multiply(net->dense, picked, net->top, width, w->head_du, width, 1, net->projection_backward[head],
                   w->head_dh, net->top, false, NULL);
}

void train_heads(struct train_workspace *w, const struct train_batch *b, bool learning, train_scores_fn *each,
                 void *self)
{
    const struct train_network *net = w->network;
    if (learning)
        memset(w->dout, 0, (size_t)b->rows * net->top * sizeof *w->dout);
    for (uint32_t head = 0; head < net->shape.heads_n; head++) {
        uint32_t picked = pick_rows(w, b, head);
        int tied = net->shape.heads[head].tied;
        size_t width = tied < 0 ? net->top : net->shape.width[tied];
        w->targets[head] += picked;
        if (picked == 0)
            continue;
        if (tied >= 0)
            project(w, head, picked, width);
        if (learning && net->shape.heads[head].sampler)
            train_head_sampled(w, b, head, picked, width, tied < 0 ? w->head_h : w->head_u,
                               tied < 0 ? w->head_dh : w->head_du);
        else
            run_blocks(w, b, head, picked, width, learning, each, self);
        if (!learning)
            continue;
        if (tied >= 0)
            project_backward(w, head, picked, width);
        for (uint32_t i = 0; i < picked; i++)
            net->dense->add(net->top, w->dout + (size_t)w->picked[i] * net->top, w->head_dh + (size_t)i * net->top);
    }
}
