/* SPDX-License-Identifier: Apache-2.0 */
/* eval.h - how good a model is, said so that it cannot flatter: every figure with a 95 % interval, beside three
 * baselines on the same predictions.
 *
 *   train_measure ─► rank or probability of each answer ─┐
 *   eval_baselines.c ─► the same from counts alone ──────┴► eval_metrics.c ─► JSON
 *
 * Intervals are Poisson-bootstrapped over sequences, because events of one visit resemble each other. */
#ifndef GAIT_EVAL_H
#define GAIT_EVAL_H

#include "train_task.h"

#include <jansson.h>
#include <stdio.h>

/* One answer: what somebody predicted of it, and whose visit it belongs to. */
struct eval_rank {
    size_t event;
    uint32_t sequence;
    float rank;    /* 1 = best; ties counted half; infinite for a name that the model cannot say */
    float loss;    /* −ln p of what happened; NaN when not known */
};

struct eval_guess {
    size_t event;
    uint32_t sequence;
    float p;
    bool yes;
};

enum { EVAL_RESAMPLES = 200 };

/* ---- eval_metrics.c: a new JSON object -------------------------------------------------------------------------- */
/* recall@1 5 10 20, mrr@20, ndcg@20, log_loss, and "interval" with [low, high] of each. Shares, not percent. */
json_t *eval_ranks(const struct eval_rank *ranks, size_t n, bool intervals);
/* roc_auc, pr_auc, log_loss, brier, mae, at ½: accuracy, precision, recall, f1; positives; calibration: up to ten
 * groups of equal size {predicted: mean p, observed: share of ones, n}. Sorts `guesses` by p. */
json_t *eval_guesses(struct eval_guess *guesses, size_t n, bool intervals);

/* ---- eval_baselines.c ------------------------------------------------------------------------------------------- */
enum eval_baseline { EVAL_POPULARITY, EVAL_REPEAT_LAST, EVAL_MARKOV, EVAL_BASELINES };
const char *eval_baseline_name(enum eval_baseline baseline);
/* What the baseline, having counted the answers in `fit`, says of the answers listed in `ranks` (event is read, rank is
 * written). An empty `fit`: it counts as it goes, each answer after it was predicted, in the order of time. */
void eval_baseline_ranks(enum eval_baseline baseline, const struct train_task *t, const struct model *m, uint32_t head,
                         struct train_span fit, struct eval_rank *ranks, size_t n);
/* For labels: the rate among all; among those who had or had not bought within the horizon before; by the last event's
 * type. */
void eval_baseline_guesses(enum eval_baseline baseline, const struct train_task *t, const struct model *m,
                           uint32_t head, const char *purchase, struct train_span fit, struct eval_guess *guesses,
                           size_t n);

/* The precision-recall curve of guesses sorted as eval_guesses() leaves them: about 100 points [recall, precision]. */
json_t *eval_pr_curve(const struct eval_guess *guesses, size_t n);

/* ---- eval.c ----------------------------------------------------------------------------------------------------- */
struct eval_by;

struct eval_request {
    struct train_span span, fit; /* what is judged; what the baselines count */
    const char *purchase;
    bool intervals;
    const struct eval_by *by;    /* also by groups, as "slices", see eval_slices.h; NULL = not wanted */
    bool curves;                 /* also "pr_curve" */
    FILE *ranks;                 /* the model's rank of each answer, a line each; NULL = not wanted */
};

/* One head on one set: {"predictions":N, metrics…, "baselines":{"popularity":{…},…}}. The network has no tied heads, or
 * is the one that was just trained. */
json_t *eval_head(struct train_network *n, const struct train_task *t, const struct model *m, uint32_t head,
                  const struct train_options *o, const struct eval_request *r);

#endif
