// SPDX-License-Identifier: Apache-2.0
// train_measure.c - what a network says on answers that it is judged by: sequences run from their beginning, as the
// daemon runs them, without dropout; threads share the mini-batches.
#include "train_loop.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

struct measuring {
    const struct train_network *network;
    const struct train_data *data;
    const struct train_options *options;
    struct train_span span;
    const struct train_pieces *pieces;
    train_answer_fn *each;
    void *self;
    uint32_t index, threads;
    double loss[MODEL_HEADS_MAX], targets[MODEL_HEADS_MAX];
    /* where the rows of the chunk at hand come from */
    const struct train_piece *lanes;
    const struct train_batch *batch;
    uint32_t chunk;
};

/* A row of a batch back to its event. */
static size_t event_of(const struct measuring *m, uint32_t row)
{
    uint32_t t = 0;
    while (m->batch->start[t + 1] <= row)
        t++;
    return m->lanes[row - m->batch->start[t]].start + m->chunk * m->options->steps + t;
}

static void pass_on(void *self, uint32_t head, const uint32_t *rows, uint32_t n, const float *p)
{
    struct measuring *m = self;
    for (uint32_t i = 0; i < n; i++)
        m->each(m->self, m->index, head, event_of(m, rows[i]), p + (size_t)i * m->data->shape->heads[head].classes);
}

static void *run(void *argument)
{
    struct measuring *m = argument;
    const struct train_options *o = m->options;
    struct train_workspace *w = train_workspace_create(m->network, o->lanes, o->steps, false);
    struct train_batch b;
    train_batch_create(&b, m->data->shape, o->lanes, o->steps);
    m->batch = &b;
    for (size_t from = o->lanes * m->index; from < m->pieces->n; from += o->lanes * m->threads) {
        uint32_t lanes = (uint32_t)(m->pieces->n - from < o->lanes ? m->pieces->n - from : o->lanes);
        m->lanes = m->pieces->at + from;
        for (m->chunk = 0; m->chunk * o->steps < m->lanes[0].length; m->chunk++) {
            train_batch_fill(&b, m->data, m->lanes, lanes, m->chunk, o->steps, 0, 1, m->span);
            train_forward(w, &b, false);
            train_heads(w, &b, false, m->each ? pass_on : NULL, m);
        }
    }
    for (uint32_t h = 0; h < m->data->shape->heads_n; h++) {
        m->loss[h] = w->loss[h];
        m->targets[h] = w->targets[h];
    }
    train_batch_destroy(&b);
    train_workspace_destroy(&w);
    return NULL;
}

double train_measure(struct train_network *n, const struct train_data *data, const struct train_options *o,
                     struct train_span span, train_answer_fn *each, void *self)
{
    struct train_pieces pieces = train_pieces_find(data, o, false, span);
    train_pieces_shuffle(&pieces, o, NULL);
    uint32_t threads = o->threads ? o->threads : 1;
    struct measuring calls[TRAIN_THREADS_MAX];
    pthread_t ids[TRAIN_THREADS_MAX];
    for (uint32_t k = 0; k < threads; k++)
        calls[k] = (struct measuring){.network = n, .data = data, .options = o, .span = span, .pieces = &pieces,
                                      .each = each, .self = self, .index = k, .threads = threads};
    for (uint32_t k = 1; k < threads; k++) {
        int rc = pthread_create(&ids[k], NULL, run, &calls[k]);
        assert(rc == 0);
    }
    run(&calls[0]);
    for (uint32_t k = 1; k < threads; k++)
        pthread_join(ids[k], NULL);
    double sum = NAN;
    for (uint32_t h = 0; h < data->shape->heads_n; h++) {
        double loss = 0, targets = 0;
        for (uint32_t k = 0; k < threads; k++) {
            loss += calls[k].loss[h];
            targets += calls[k].targets[h];
        }
        if (targets > 0)
            sum = (isnan(sum) ? 0 : sum) + loss / targets * data->shape->heads[h].weight;
    }
    free(pieces.at);
    return sum;
}
