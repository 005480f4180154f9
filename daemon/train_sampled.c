// SPDX-License-Identifier: Apache-2.0
// train_sampled.c - a softmax over tens of thousands of classes, learned by comparing with a few drawn ones.
#include "train_network.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A logit that counts as none: e^(x − max) is 0 for it. */
static const float nothing = -1e30f;

void train_sampler_create(struct train_sampler *s, uint32_t n, const uint32_t *counts, uint32_t classes)
{
    s->n = n;
    s->cumulated = calloc(classes, sizeof *s->cumulated);
    s->log_expected = calloc(classes, sizeof *s->log_expected);
    assert(s->cumulated && s->log_expected && n > 0);
    double sum = 0;
    for (uint32_t k = 0; k < classes; k++)
        s->cumulated[k] = sum += pow(counts[k] + 1.0, 0.75);
    for (uint32_t k = 0; k < classes; k++) {
        s->log_expected[k] = (float)log(n * pow(counts[k] + 1.0, 0.75) / sum);
        s->cumulated[k] /= sum;
    }
}

void train_sampler_destroy(struct train_sampler *s)
{
    free(s->cumulated);
    free(s->log_expected);
    *s = (struct train_sampler){0};
}

void train_sampler_draw(const struct train_sampler *s, uint32_t classes, struct train_random *random, uint32_t *drawn)
{
    for (uint32_t i = 0; i < s->n; i++) {
        double u = train_random_unit(random);
        uint32_t low = 0, high = classes - 1;
        while (low < high) {
            uint32_t middle = (low + high) / 2;
            if (s->cumulated[middle] > u)
                high = middle;
            else
                low = middle + 1;
        }
        drawn[i] = low;
    }
}

/* Rows [n × (draws + 1)]: the drawn classes' logits, then the target's. Out: derivatives. */
static void loss_of_rows(struct train_workspace *w, const struct train_batch *b, uint32_t head, const uint32_t *rows,
                         uint32_t n, const float *u, size_t width)
{
    const struct train_network *net = w->network;
    const struct train_sampler *s = net->shape.heads[head].sampler;
    const float *weights = train_head_weights(net, head), *bias = net->weights + net->head_bias[head];
    size_t row = s->n + 1;
    for (uint32_t i = 0; i < n; i++) {
        float *x = w->logits + i * row;
        uint32_t target = (uint32_t)b->target[head][rows[i]];
        for (uint32_t k = 0; k < s->n; k++)
            if (w->drawn[k] == target)
                x[k] = nothing;
        x[s->n] = net->dense->dot(width, u + i * width, weights + target * width) + bias[target] -
                  s->log_expected[target];
        float logit = x[s->n];
        w->loss[head] += net->dense->softmax(row, x, b->scale[head]) - logit;
        x[s->n] -= b->scale[head];
    }
}

/* to[width] += factor · from */
static void add_scaled(size_t width, float *to, const float *from, float factor)
{
    for (size_t j = 0; j < width; j++)
        to[j] += factor * from[j];
}

/* A class's weights are the tied embedding's row class + 1. */
static void touch(struct train_workspace *w, uint32_t head, uint32_t class)
{
    int tied = w->network->shape.heads[head].tied;
    if (tied >= 0 && w->network->sparse[tied])
        w->touched[tied][class + 1] = 1;
}

static void backward_rows(struct train_workspace *w, const struct train_batch *b, uint32_t head, const uint32_t *rows,
                          uint32_t n, const float *u, float *du, size_t width)
{
    const struct train_network *net = w->network;
    const struct train_sampler *s = net->shape.heads[head].sampler;
    const float *weights = train_head_weights(net, head);
    float *gradient = w->gradient + train_head_offset(net, head), *bias = w->gradient + net->head_bias[head];
    size_t row = s->n + 1;
    dense_pack(w->packed, u, n, width, width, 1);
    dense_multiply(net->dense, s->n, width, n, w->logits, 1, row, w->packed, w->drawn_gradient, width, false,
                   w->scratch);
    dense_pack(w->drawn_packed, w->drawn_weight, s->n, width, width, 1);
    dense_multiply(net->dense, n, width, s->n, w->logits, row, 1, w->drawn_packed, du, width, false, NULL);
    for (uint32_t k = 0; k < s->n; k++) {
        touch(w, head, w->drawn[k]);
        net->dense->add(width, gradient + w->drawn[k] * width, w->drawn_gradient + k * width);
    }
    for (uint32_t i = 0; i < n; i++) {
        const float *x = w->logits + i * row;
        uint32_t target = (uint32_t)b->target[head][rows[i]];
        touch(w, head, target);
        add_scaled(width, gradient + target * width, u + i * width, x[s->n]);
        add_scaled(width, du + i * width, weights + target * width, x[s->n]);
        bias[target] += x[s->n];
    }
    memset(w->drawn_bias, 0, row * sizeof *w->drawn_bias);
    net->dense->add_rows(n, row, w->drawn_bias, w->logits, row);
    for (uint32_t k = 0; k < s->n; k++)
        bias[w->drawn[k]] += w->drawn_bias[k];
}

void train_head_sampled(struct train_workspace *w, const struct train_batch *b, uint32_t head, uint32_t n,
                        size_t width, const float *u, float *du)
{
    const struct train_network *net = w->network;
    const struct train_head *h = &net->shape.heads[head];
    const float *weights = train_head_weights(net, head), *bias = net->weights + net->head_bias[head];
    size_t row = h->sampler->n + 1;
    train_sampler_draw(h->sampler, h->classes, &w->random, w->drawn);
    for (uint32_t k = 0; k < h->sampler->n; k++)
        memcpy(w->drawn_weight + k * width, weights + w->drawn[k] * width, width * sizeof *weights);
    uint32_t block = (uint32_t)(w->logits_floats / row);
    for (uint32_t from = 0; from < n; from += block) {
        uint32_t rows = n - from < block ? n - from : block;
        dense_pack(w->drawn_packed, w->drawn_weight, width, h->sampler->n, 1, width);
        for (uint32_t k = 0; k < h->sampler->n; k++)
            w->drawn_bias[k] = bias[w->drawn[k]] - h->sampler->log_expected[w->drawn[k]];
        for (uint32_t i = 0; i < rows; i++)
            memcpy(w->logits + i * row, w->drawn_bias, h->sampler->n * sizeof *w->logits);
        dense_multiply(net->dense, rows, h->sampler->n, width, u + from * width, width, 1, w->drawn_packed,
                       w->logits, row, true, NULL);
        loss_of_rows(w, b, head, w->picked + from, rows, u + from * width, width);
        backward_rows(w, b, head, w->picked + from, rows, u + from * width, du + from * width, width);
    }
}
