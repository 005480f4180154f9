// SPDX-License-Identifier: Apache-2.0
// shadow_measure.c - see shadow_measure.h. Owns scratch for the heads of both models.
#include "shadow_measure.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { SCRATCH_FLOATS = 1 << 16 };
/* A name that a model cannot say has the loss of p = 1e-7, as has everything that it thinks less likely. The test clips
 * differences, so that a few of those do not decide it. */
#define LOSS_MAX 16.1180956509583
#define DIFFERENCE_MAX 4.0

const struct metric shadow_metrics[] = {
    {"gait_shadow_predictions_total", METRIC_COUNTER, "model",
     "Events that both the model at work (serving) and the challenger had predicted: the same ones for both."},
    {"gait_shadow_log_loss_total", METRIC_COUNTER, "model",
     "Sum of -ln p(what came true) over those, in nats, at most 16.1 each; a name that the model does not know counts "
     "as that."},
    {"gait_shadow_reciprocal_ranks_total", METRIC_COUNTER, "model", "Sum of 1 / rank of what came true over those."},
    {"gait_shadow_hits_total", METRIC_COUNTER, "model,k", "Of those, how many had the truth among the k likeliest."},
    {"gait_shadow_intents_total", METRIC_COUNTER, "model",
     "Predictions of intent whose horizon is over: one at a time for each user."},
    {"gait_shadow_intent_squares_total", METRIC_COUNTER, "model",
     "Sum of (p - outcome)² over those; divided by their number it is the Brier score."},
    {NULL, 0, NULL, NULL},
};

void shadow_measure_cells(struct shadow_measure *m, struct metrics *metrics)
{
    static const char *const names[] = {"serving", "challenger"};
    for (int side = 0; side < SHADOW_SIDES; side++) {
        struct shadow_cells *c = &m->cells[side];
        c->n = metric_cell(metrics, "gait_shadow_predictions_total", names[side]);
        c->loss = metric_cell(metrics, "gait_shadow_log_loss_total", names[side]);
        c->reciprocal = metric_cell(metrics, "gait_shadow_reciprocal_ranks_total", names[side]);
        c->intents = metric_cell(metrics, "gait_shadow_intents_total", names[side]);
        c->squares = metric_cell(metrics, "gait_shadow_intent_squares_total", names[side]);
        for (int k = 0; k < SCORE_RECALLS; k++) {
            char values[48];
            snprintf(values, sizeof values, "%s" METRIC_VALUES_SEPARATOR "%u", names[side], score_recall_at[k]);
            c->hits[k] = metric_cell(metrics, "gait_shadow_hits_total", values);
        }
    }
}

int shadow_measure_begin(struct shadow_measure *m, const struct lstm *serving, const struct lstm *challenger,
                         double margin, double alpha, struct error *err)
{
    const struct model *a = serving->model, *b = challenger->model;
    m->interest = a->interest >= 0 && b->interest >= 0 &&
                  strcmp(a->heads[a->interest].target, b->heads[b->interest].target) == 0;
    m->intent = a->intent >= 0 && b->intent >= 0 && a->intent_horizon_ms == b->intent_horizon_ms;
    memset(m->tally, 0, sizeof m->tally);
    sequential_test_begin(&m->test, DIFFERENCE_MAX, margin, alpha);
    if (m->interest || m->intent)
        return 0;
    return error_set(err, "it does not answer a question that model %s answers, too: category, item, or intent within "
                     "the same horizon", model_id(a));
}

void shadow_measure_free(struct shadow_measure *m)
{
    for (int side = 0; side < SHADOW_SIDES; side++) {
        free(m->hidden[side]);
        free(m->logits[side]);
    }
    *m = (struct shadow_measure){0};
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

static void scratch_grow(struct shadow_measure *m, int side, size_t hidden, size_t logits)
{
    if (m->hidden_cap[side] < hidden) {
        free(m->hidden[side]);
        m->hidden_cap[side] = hidden;
        m->hidden[side] = malloc(hidden * sizeof(float));
    }
    if (m->logits_cap[side] < logits) {
        free(m->logits[side]);
        m->logits_cap[side] = logits;
        m->logits[side] = malloc(logits * sizeof(float));
    }
    assert(m->hidden[side] && m->logits[side]);
}

/* The top layer's h of both models for the chosen rows, and what one head of each says of them. */
static void ask(struct shadow_measure *m, const struct batch *b, const float *serving_hidden,
                const struct shadow_rows *rows, const uint32_t *chosen, uint32_t n, const int heads[SHADOW_SIDES])
{
    for (int side = 0; side < SHADOW_SIDES; side++) {
        const struct lstm *l = m->lstm[side];
        const struct model *model = l->model;
        uint32_t width = model_hidden(model), classes = model->heads[heads[side]].classes;
        size_t top = l->h_at[model->layers_n - 1];
        scratch_grow(m, side, (size_t)SHADOW_BLOCK * width, (size_t)n * classes);
        for (uint32_t i = 0; i < n; i++)
            memcpy(m->hidden[side] + (size_t)i * width,
                   side == SHADOW_SERVING ? serving_hidden + (size_t)rows->event[chosen[i]] * b->hidden_n
                                          : rows->shadow[chosen[i]]->state + top, width * sizeof(float));
        lstm_head(l, (uint32_t)heads[side], n, m->hidden[side], m->logits[side]);
    }
}

/* ---- interest --------------------------------------------------------------------------------------------------- */

/* One prediction of one side: its loss. */
static double note_interest(struct shadow_measure *m, int side, int head, float *p, int truth)
{
    const struct lstm *l = m->lstm[side];
    uint32_t classes = l->model->heads[head].classes;
    struct shadow_tally *tally = &m->tally[side];
    const struct shadow_cells *cells = &m->cells[side];
    double loss = LOSS_MAX, rank = INFINITY;
    if (truth >= 0) {
        float logit = p[truth];
        loss = (double)(l->kernel->softmax(p, classes) - logit);
        loss = fmin(fmax(loss, 0), LOSS_MAX);
        rank = (double)score_rank(p, classes, (uint32_t)truth);
    }
    tally->n++;
    tally->loss += loss;
    tally->reciprocal += 1 / rank;
    metric_add(cells->n, 1);
    metric_add(cells->loss, loss);
    metric_add(cells->reciprocal, 1 / rank);
    for (int k = 0; k < SCORE_RECALLS; k++) {
        bool hit = rank <= (double)score_recall_at[k];
        tally->hits[k] += hit;
        metric_add(cells->hits[k], hit);
    }
    return loss;
}

static void measure_interest(struct shadow_measure *m, const struct batch *b, const struct shadow_rows *rows,
                             const uint32_t *chosen, uint32_t n, const int heads[SHADOW_SIDES])
{
    ask(m, b, b->hidden_before, rows, chosen, n, heads);
    for (uint32_t i = 0; i < n; i++) {
        const struct event *event = &b->events[rows->event[chosen[i]]];
        double loss[SHADOW_SIDES];
        int truth[SHADOW_SIDES];
        for (int side = 0; side < SHADOW_SIDES; side++)
            truth[side] = score_truth(&m->lstm[side]->model->heads[heads[side]], event);
        if (truth[SHADOW_SERVING] < 0 && truth[SHADOW_CHALLENGER] < 0)
            continue; /* a name that is new to both, or none */
        for (int side = 0; side < SHADOW_SIDES; side++) {
            uint32_t classes = m->lstm[side]->model->heads[heads[side]].classes;
            loss[side] = note_interest(m, side, heads[side], m->logits[side] + (size_t)i * classes, truth[side]);
        }
        sequential_test_add(&m->test, loss[SHADOW_SERVING] - loss[SHADOW_CHALLENGER]);
    }
}

void shadow_measure_before(struct shadow_measure *m, const struct batch *b, const struct shadow_rows *rows)
{
    if (!m->interest)
        return;
    const struct model *serving = m->lstm[SHADOW_SERVING]->model, *challenger = m->lstm[SHADOW_CHALLENGER]->model;
    const int heads[SHADOW_SIDES] = {serving->interest, challenger->interest};
    uint32_t a = serving->heads[heads[0]].classes, c = challenger->heads[heads[1]].classes;
    uint32_t max = SCRATCH_FLOATS / (a > c ? a : c), chosen[SHADOW_BLOCK], n = 0;
    max = max < 1 ? 1 : max > SHADOW_BLOCK ? SHADOW_BLOCK : max;
    for (uint32_t row = 0; row < rows->n; row++) {
        if (rows->counts[row])
            chosen[n++] = row;
        if (n == max || (n > 0 && row + 1 == rows->n)) {
            measure_interest(m, b, rows, chosen, n, heads);
            n = 0;
        }
    }
}

/* ---- intent ----------------------------------------------------------------------------------------------------- */

static double log_loss_of(double p, bool yes)
{
    return fmin(-log(yes ? p : 1 - p), LOSS_MAX);
}

void shadow_measure_wait(struct shadow_measure *m, struct shadow *s, int64_t now_ms)
{
    if (!s->wait.open || now_ms <= s->wait.until_ms)
        return;
    s->wait.open = false;
    double loss[SHADOW_SIDES];
    for (int side = 0; side < SHADOW_SIDES; side++) {
        double p = (double)s->wait.p[side], square = (p - s->wait.bought) * (p - s->wait.bought);
        m->tally[side].intents++;
        m->tally[side].squares += square;
        metric_add(m->cells[side].intents, 1);
        metric_add(m->cells[side].squares, square);
        loss[side] = log_loss_of(p, s->wait.bought);
    }
    if (!m->interest)
        sequential_test_add(&m->test, loss[SHADOW_SERVING] - loss[SHADOW_CHALLENGER]);
}

void shadow_measure_after(struct shadow_measure *m, const struct batch *b, const struct shadow_rows *rows)
{
    uint32_t chosen[SHADOW_BLOCK], n = 0;
    for (uint32_t row = 0; m->intent && row < rows->n; row++) {
        const struct event *event = &b->events[rows->event[row]];
        struct shadow *s = rows->shadow[row];
        if (event->silent)
            continue;
        shadow_measure_wait(m, s, event->ts_ms);
        if (s->wait.open)
            s->wait.bought |= event->type == EVENT_PURCHASE;
        else
            chosen[n++] = row;
    }
    if (n == 0)
        return;
    const int heads[SHADOW_SIDES] = {m->lstm[0]->model->intent, m->lstm[1]->model->intent};
    ask(m, b, b->hidden, rows, chosen, n, heads);
    int64_t horizon_ms = m->lstm[0]->model->intent_horizon_ms;
    for (int side = 0; side < SHADOW_SIDES; side++) {
        m->lstm[side]->kernel->sigmoid(m->logits[side], n);
        for (uint32_t i = 0; i < n; i++)
            rows->shadow[chosen[i]]->wait.p[side] = m->logits[side][i];
    }
    for (uint32_t i = 0; i < n; i++) {
        struct shadow_wait *wait = &rows->shadow[chosen[i]]->wait;
        int64_t from_ms = b->events[rows->event[chosen[i]]].ts_ms;
        wait->until_ms = from_ms + horizon_ms;
        wait->open = true;
        wait->bought = false;
    }
}
