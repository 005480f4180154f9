// SPDX-License-Identifier: Apache-2.0
// train_batches.c - from sequences to mini-batches: which pieces of them, in which order, and their rows.
#include "train_loop.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool train_counts(const struct train_data *data, uint32_t head, size_t event, struct train_span span)
{
    const struct train_target *t = &data->targets[head];
    if (t->value[event] < 0 || t->known_ms[event] < span.from_ms || t->known_ms[event] >= span.until_ms)
        return false;
    return !t->is_label || data->set->ts_ms[event] >= span.from_ms;
}

/* Adds the piece unless no answer in it counts. */
static void add_piece(struct train_pieces *p, const struct train_data *data, size_t start, uint32_t length,
                      struct train_span span)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < length; i++)
        for (uint32_t h = 0; h < data->shape->heads_n; h++)
            if (train_counts(data, h, start + i, span)) {
                used = i + 1;
                p->targets++;
            }
    if (!used)
        return;
    p->at[p->n++] = (struct train_piece){.start = start, .length = used};
    p->events += used;
}

struct train_pieces train_pieces_find(const struct train_data *data, const struct train_options *o, bool windows,
                                      struct train_span span)
{
    const struct train_set *s = data->set;
    size_t most = s->sequences_n + (windows ? s->n / o->steps : 0);
    struct train_pieces p = {.at = calloc(most + 1, sizeof *p.at)};
    assert(p.at);
    for (size_t k = 0; k < s->sequences_n; k++) {
        const struct train_sequence *q = &s->sequences[k];
        uint32_t step = windows ? o->steps : q->length;
        for (uint32_t from = 0; from < q->length; from += step)
            add_piece(&p, data, q->start + from, q->length - from < step ? q->length - from : step, span);
    }
    return p;
}

struct sort_key {
    uint32_t steps;
};

static int compare_chunks(const void *a, const void *b, void *self)
{
    const struct train_piece *x = a, *y = b;
    const struct sort_key *key = self;
    uint32_t cx = (x->length - 1) / key->steps, cy = (y->length - 1) / key->steps;
    return cx != cy ? (cx > cy ? -1 : 1) : 0;
}

/* Longer first; by place where equal, so that the order is the same on every machine. */
static int compare_length(const void *a, const void *b)
{
    const struct train_piece *x = a, *y = b;
    if (x->length != y->length)
        return x->length > y->length ? -1 : 1;
    return x->start < y->start ? -1 : x->start > y->start;
}

static void shuffle(struct train_piece *at, size_t n, struct train_random *random)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = train_random_below(random, i);
        struct train_piece kept = at[i - 1];
        at[i - 1] = at[j];
        at[j] = kept;
    }
}

void train_pieces_shuffle(struct train_pieces *p, const struct train_options *o, struct train_random *random)
{
    if (random)
        shuffle(p->at, p->n, random);
    /* Where the sort is not stable, pieces of one number of chunks come in another, equally random order. */
    qsort_r(p->at, p->n, sizeof *p->at, compare_chunks, &(struct sort_key){o->steps});
    for (size_t from = 0; from < p->n; from += o->lanes) {
        size_t n = p->n - from < o->lanes ? p->n - from : o->lanes;
        qsort(p->at + from, n, sizeof *p->at, compare_length);
    }
}

static void fill_row(struct train_batch *b, const struct train_data *data, uint32_t row, size_t event,
                     struct train_span span)
{
    const struct train_shape *shape = data->shape;
    for (uint32_t e = 0; e < shape->embeddings_n; e++)
        b->ids[e][row] = data->row_of[e][data->set->fields[data->embedded[e]][event]];
    memcpy(b->features + (size_t)row * shape->features_n, data->features + event * shape->features_n,
           shape->features_n * sizeof *b->features);
    for (uint32_t h = 0; h < shape->heads_n; h++)
        b->target[h][row] = train_counts(data, h, event, span) ? data->targets[h].value[event] : -1;
}

void train_batch_fill(struct train_batch *b, const struct train_data *data, const struct train_piece *pieces,
                      uint32_t lanes, uint32_t chunk, uint32_t steps, uint32_t first, uint32_t stride,
                      struct train_span span)
{
    uint32_t base = chunk * steps;
    b->lanes = b->steps = b->rows = 0;
    b->carried = chunk > 0;
    for (uint32_t t = 0; t < steps; t++) {
        uint32_t active = 0;
        for (uint32_t lane = first; lane < lanes && pieces[lane].length > base + t; lane += stride, active++)
            fill_row(b, data, b->rows + active, pieces[lane].start + base + t, span);
        if (active == 0)
            break;
        if (t == 0)
            b->lanes = active;
        b->active[t] = active;
        b->start[t] = b->rows;
        b->rows += active;
        b->start[++b->steps] = b->rows;
    }
}
