// SPDX-License-Identifier: Apache-2.0
// eval.c - one head of a model on one set: its answers, their figures, and the baselines' beside them.
#include "eval.h"
#include "eval_slices.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

struct answers {
    const struct train_task *task;
    uint32_t head;
    float *rank, *loss;  /* [events]; for labels: rank is the probability */
};

/* Each event has its own place, so threads do not meet. */
static void note_answer(void *self, uint32_t thread, uint32_t head, size_t event, const float *p)
{
    struct answers *a = self;
    (void)thread;
    if (head != a->head)
        return;
    const struct train_head *h = &a->task->shape.heads[head];
    uint32_t truth = (uint32_t)a->task->targets[head].value[event];
    if (h->kind == MODEL_SIGMOID) {
        a->rank[event] = p[0];
        return;
    }
    uint32_t above = 0, equal = 0;
    float own = p[truth];
    for (uint32_t i = 0; i < h->classes; i++) {
        above += p[i] > own;
        equal += p[i] == own;
    }
    a->rank[event] = 1 + (float)above + (float)(equal - 1) / 2;
    a->loss[event] = -logf(fmaxf(own, 1e-30f));
}

/* Whether an answer is judged: like train_counts(), but an answer that the model cannot give is a miss, not nothing. */
static bool is_judged(const struct train_task *t, uint32_t head, size_t event, struct train_span span)
{
    const struct train_target *x = &t->targets[head];
    bool inside = x->known_ms[event] >= span.from_ms && x->known_ms[event] < span.until_ms;
    return train_counts(&t->data, head, event, span) || (x->value[event] == TRAIN_UNSAYABLE && inside);
}

static json_t *judge_ranks(struct answers *a, const struct model *m, const struct eval_request *r)
{
    const struct train_set *s = a->task->data.set;
    struct eval_rank *ranks = calloc(s->n + 1, sizeof *ranks);
    assert(ranks);
    size_t n = 0, unsayable = 0;
    for (size_t k = 0; k < s->sequences_n; k++)
        for (size_t i = s->sequences[k].start; i < s->sequences[k].start + s->sequences[k].length; i++) {
            if (!is_judged(a->task, a->head, i, r->span))
                continue;
            bool sayable = a->task->targets[a->head].value[i] >= 0;
            unsayable += !sayable;
            ranks[n++] = (struct eval_rank){.event = i, .sequence = (uint32_t)k,
                                            .rank = sayable ? a->rank[i] : INFINITY,
                                            .loss = sayable ? a->loss[i] : NAN};
        }
    json_t *out = json_pack("{s:I,s:I}", "predictions", (json_int_t)n, "not_in_vocabulary", (json_int_t)unsayable);
    if (n == 0) {
        free(ranks);
        return out;
    }
    for (size_t i = 0; i < n && r->ranks; i++)
        fprintf(r->ranks, "%g\n", ranks[i].rank);
    json_t *figures = eval_ranks(ranks, n, r->intervals), *baselines = json_object();
    json_object_update(out, figures);
    json_decref(figures);
    if (r->by)
        json_object_set_new(out, "slices", eval_slices_ranks(r->by, s, ranks, n));
    for (int b = 0; b < EVAL_BASELINES; b++) {
        eval_baseline_ranks((enum eval_baseline)b, a->task, m, a->head, r->fit, ranks, n);
        json_object_set_new(baselines, eval_baseline_name((enum eval_baseline)b), eval_ranks(ranks, n, r->intervals));
    }
    json_object_set_new(out, "baselines", baselines);
    free(ranks);
    return out;
}

static json_t *judge_guesses(struct answers *a, const struct model *m, const struct eval_request *r)
{
    const struct train_set *s = a->task->data.set;
    struct eval_guess *guesses = calloc(s->n + 1, sizeof *guesses);
    assert(guesses);
    size_t n = 0;
    for (size_t k = 0; k < s->sequences_n; k++)
        for (size_t i = s->sequences[k].start; i < s->sequences[k].start + s->sequences[k].length; i++)
            if (train_counts(&a->task->data, a->head, i, r->span))
                guesses[n++] = (struct eval_guess){.event = i, .sequence = (uint32_t)k, .p = a->rank[i],
                                                   .yes = a->task->targets[a->head].value[i] == 1};
    json_t *out = json_pack("{s:I}", "predictions", (json_int_t)n);
    if (n == 0) {
        free(guesses);
        return out;
    }
    json_t *figures = eval_guesses(guesses, n, r->intervals), *baselines = json_object();
    json_object_update(out, figures);
    json_decref(figures);
    if (r->by)
        json_object_set_new(out, "slices", eval_slices_guesses(r->by, s, guesses, n));
    if (r->curves)
        json_object_set_new(out, "pr_curve", eval_pr_curve(guesses, n));
    for (int b = 0; b < EVAL_BASELINES; b++) {
        eval_baseline_guesses((enum eval_baseline)b, a->task, m, a->head, r->purchase, r->fit, guesses, n);
        figures = eval_guesses(guesses, n, r->intervals);
        json_object_del(figures, "calibration");
        json_object_set_new(baselines, eval_baseline_name((enum eval_baseline)b), figures);
    }
    json_object_set_new(out, "baselines", baselines);
    free(guesses);
    return out;
}

json_t *eval_head(struct train_network *n, const struct train_task *t, const struct model *m, uint32_t head,
                  const struct train_options *o, const struct eval_request *r)
{
    struct answers a = {.task = t, .head = head};
    a.rank = calloc(t->data.set->n + 1, sizeof *a.rank);
    a.loss = calloc(t->data.set->n + 1, sizeof *a.loss);
    assert(a.rank && a.loss);
    train_measure(n, &t->data, o, r->span, note_answer, &a);
    json_t *out = m->heads[head].kind == MODEL_SOFTMAX ? judge_ranks(&a, m, r) : judge_guesses(&a, m, r);
    json_object_set_new(out, "target", json_string(m->heads[head].target));
    json_object_set_new(out, "baselines_count", json_string(r->fit.from_ms < r->fit.until_ms
                                                            ? "events before the judged ones"
                                                            : "as they go: each answer after it was predicted"));
    free(a.rank);
    free(a.loss);
    return out;
}
