// SPDX-License-Identifier: Apache-2.0
// explain.c - the variants of a user's past, walked side by side as one wave: row 0 is what was, then one row for each
// event left out, then one for each feature held at its mean. Owns its scratch; the record is only read.
#include "explain.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* A walk through the ring: the rows of one step, and every variant's state. */
struct walk {
    const struct explain_with *with;
    struct user *user;
    struct explanation *x;
    uint32_t rows_n;
    uint32_t *rows;         /* [rows_n × embeddings_n] */
    float *input;           /* [rows_n × lstm->input] */
    float *states;          /* [rows_n × state_floats] */
    float **state;          /* [rows_n] of the rows of one step */
    double *columns;        /* one row */
};

static struct walk walk_begin(const struct explain_with *with, struct user *user, struct explanation *x)
{
    const struct lstm *l = with->lstm;
    struct walk w = {.with = with, .user = user, .x = x, .rows_n = 1 + x->events_n + x->features_n};
    w.rows = calloc((size_t)w.rows_n * (l->model->embeddings_n + 1), sizeof *w.rows);
    w.input = calloc((size_t)w.rows_n * (l->input + 1), sizeof *w.input);
    w.states = calloc((size_t)w.rows_n * l->state_floats, sizeof *w.states);
    w.state = calloc(w.rows_n, sizeof *w.state);
    w.columns = calloc(with->columns_width + 1, sizeof *w.columns);
    assert(w.rows && w.input && w.states && w.state && w.columns);
    return w;
}

static void walk_end(struct walk *w)
{
    free(w->rows);
    free(w->input);
    free(w->states);
    free(w->state);
    free(w->columns);
}

static float *variant(const struct walk *w, uint32_t row)
{
    return w->states + (size_t)row * w->with->lstm->state_floats;
}

/* One more row for this step: event `index` as seen by a user who never made event `skip` (-1 = made them all). */
static float *walk_add(struct walk *w, uint32_t *n, uint32_t row, uint32_t index, int32_t skip)
{
    const struct explain_with *with = w->with;
    const struct lstm *l = with->lstm;
    struct window_event event = window_ring_at(with->window, w->user, index);
    uint32_t *rows = w->rows + (size_t)*n * l->model->embeddings_n;
    float *input = w->input + (size_t)*n * l->input;
    memset(w->columns, 0, with->columns_width * sizeof *w->columns);
    window_columns_at(with->window, w->user, index, skip, w->columns);
    model_rows_of_ring(with->binding, &event, rows);
    lstm_input(l, with->binding, rows, w->columns, input);
    w->state[(*n)++] = variant(w, row);
    return input;
}

/* Columns of what was, at the newest event: shown beside a feature's effect. */
static void keep_features(struct walk *w, const float *features)
{
    for (uint32_t f = 0; f < w->x->features_n; f++) {
        w->x->features[f].column = w->columns[w->with->binding->place[f]];
        w->x->features[f].x = features[f];
    }
}

static void walk_step(struct walk *w, uint32_t index)
{
    struct explanation *x = w->x;
    const struct lstm *l = w->with->lstm;
    uint32_t features_at = l->input - x->features_n, n = 0;
    const float *real = walk_add(w, &n, 0, index, -1);
    if (index + 1 == x->ring_n)
        keep_features(w, real + features_at);
    for (uint32_t f = 0; f < x->features_n; f++) { /* the same input but for one number: 0 is the mean */
        float *input = w->input + (size_t)n * l->input;
        memcpy(input, real, l->input * sizeof *input);
        memcpy(w->rows + (size_t)n * l->model->embeddings_n, w->rows, l->model->embeddings_n * sizeof *w->rows);
        input[features_at + f] = 0;
        w->state[n++] = variant(w, 1 + x->events_n + f);
    }
    for (uint32_t e = 0; e < x->events_n; e++)
        if (x->events[e].index != index)
            walk_add(w, &n, 1 + e, index, (int32_t)x->events[e].index);
    lstm_step(l, n, w->rows, w->input, w->state);
}

/* ---- scores ----------------------------------------------------------------------------------------------------- */

/* Both heads of one h: of class *top, which with `choose` becomes the best one. ln(p / (1 − p)) straight from the
 * logits, since 1 − p of a sure thing is nothing in floats. */
static void score(const struct lstm *l, const float *h, uint32_t *top, bool choose, struct explain_score *scores)
{
    const struct model *m = l->model;
    if (m->interest >= 0) {
        const struct model_head *head = &m->heads[m->interest];
        float *y = calloc(head->classes, sizeof *y);
        double others = 0;
        assert(y);
        lstm_head(l, (uint32_t)m->interest, 1, h, y);
        for (uint32_t k = 0; k < head->classes && choose; k++)
            if (k == 0 || y[k] > y[*top])
                *top = k;
        for (uint32_t k = 0; k < head->classes; k++)
            others += k == *top ? 0 : exp((double)y[k] - y[*top]);
        scores[EXPLAIN_INTEREST] = (struct explain_score){1 / (1 + others), -log(fmin(fmax(others, 1e-300), 1e300))};
        free(y);
    }
    if (m->intent >= 0) {
        float y;
        lstm_head(l, (uint32_t)m->intent, 1, h, &y);
        scores[EXPLAIN_INTENT] = (struct explain_score){1 / (1 + exp(-(double)y)), y};
    }
}

static void score_all(struct walk *w, const float *stored)
{
    struct explanation *x = w->x;
    const struct lstm *l = w->with->lstm;
    size_t top = l->h_at[l->model->layers_n - 1];
    float *nothing = calloc(model_hidden(l->model), sizeof *nothing);
    assert(nothing);
    score(l, variant(w, 0) + top, &x->top, true, x->rebuilt);
    score(l, nothing, &x->top, false, x->empty);
    free(nothing);
    if (stored)
        score(l, stored, &x->top, false, x->stored);
    x->has_stored = stored;
    for (uint32_t e = 0; e < x->events_n; e++) {
        struct explain_event *event = &x->events[e];
        score(l, variant(w, 1 + e) + top, &x->top, false, event->without);
        for (int t = 0; t < EXPLAIN_TARGETS; t++) {
            event->effect[t] = x->rebuilt[t].log_odds - event->without[t].log_odds;
            x->sum[t] += event->effect[t];
        }
    }
    for (uint32_t f = 0; f < x->features_n; f++) {
        score(l, variant(w, 1 + x->events_n + f) + top, &x->top, false, x->features[f].mean);
        for (int t = 0; t < EXPLAIN_TARGETS; t++)
            x->features[f].effect[t] = x->rebuilt[t].log_odds - x->features[f].mean[t].log_odds;
    }
}

struct explanation *explain_make(const struct explain_with *with, struct user *user, const float *stored,
                                 struct error *err)
{
    const struct model *m = with->lstm->model;
    uint32_t ring = window_ring_count(with->window, user);
    if (ring == 0) {
        error_set(err, "the record holds no events: there is nothing to explain");
        return NULL;
    }
    struct explanation *x = calloc(1, sizeof *x);
    assert(x);
    x->there[EXPLAIN_INTEREST] = m->interest >= 0;
    x->there[EXPLAIN_INTENT] = m->intent >= 0;
    x->ring_n = ring;
    x->events_n = ring < EXPLAIN_EVENTS_MAX ? ring : EXPLAIN_EVENTS_MAX;
    x->features_n = m->features_n;
    x->events = calloc(x->events_n, sizeof *x->events);
    x->features = calloc(x->features_n + 1, sizeof *x->features);
    assert(x->events && x->features);
    for (uint32_t e = 0; e < x->events_n; e++) {
        x->events[e].index = ring - x->events_n + e;
        x->events[e].event = window_ring_at(with->window, user, x->events[e].index);
    }
    for (uint32_t f = 0; f < x->features_n; f++)
        x->features[f].feature = f;
    struct walk w = walk_begin(with, user, x);
    for (uint32_t index = 0; index < ring; index++)
        walk_step(&w, index);
    score_all(&w, stored);
    walk_end(&w);
    return x;
}

void explain_destroy(struct explanation **explanation)
{
    struct explanation *x = *explanation;
    if (!x)
        return;
    free(x->events);
    free(x->features);
    free(x);
    *explanation = NULL;
}
