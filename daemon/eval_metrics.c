// SPDX-License-Identifier: Apache-2.0
// eval_metrics.c - from ranks and probabilities to figures with intervals.
#include "eval.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FIGURES_MAX = 16, CALIBRATION_GROUPS = 10 };

struct figures {
    size_t n;
    const char *name[FIGURES_MAX];
    double value[FIGURES_MAX];
};

static void put(struct figures *f, const char *name, double value)
{
    assert(f->n < FIGURES_MAX);
    f->name[f->n] = name;
    f->value[f->n++] = value;
}

/* ---- resampling ------------------------------------------------------------------------------------------------- */

/* How often a sequence is drawn in resample `round`: Poisson(1), which is the bootstrap without its bookkeeping. A
 * function of both numbers, so that nothing has to be kept. */
static uint32_t times_drawn(uint32_t sequence, uint32_t round)
{
    struct train_random r;
    train_random_seed(&r, (uint64_t)round << 32 | sequence);
    double u = train_random_unit(&r), p = 0.36787944117144233, sum = p;
    uint32_t k = 0;
    while (u > sum && k < 12) {
        p /= ++k;
        sum += p;
    }
    return k;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

typedef void figures_fn(const void *rows, size_t n, uint32_t round, struct figures *out);

/* The figures of the rows as they are, and from the resamples the 2.5 % and 97.5 % quantiles of each. */
static json_t *with_intervals(figures_fn *compute, const void *rows, size_t n, bool intervals)
{
    struct figures all = {0};
    json_t *out = json_object(), *ranges = json_object();
    compute(rows, n, 0, &all);
    double *drawn = calloc((size_t)FIGURES_MAX * EVAL_RESAMPLES, sizeof *drawn);
    assert(out && ranges && drawn);
    for (uint32_t round = 1; intervals && round <= EVAL_RESAMPLES; round++) {
        struct figures f = {0};
        compute(rows, n, round, &f);
        for (size_t i = 0; i < f.n; i++)
            drawn[i * EVAL_RESAMPLES + round - 1] = f.value[i];
    }
    for (size_t i = 0; i < all.n; i++) {
        double *d = drawn + i * EVAL_RESAMPLES;
        json_object_set_new(out, all.name[i], isfinite(all.value[i]) ? json_real(all.value[i]) : json_null());
        if (!intervals || !isfinite(all.value[i]))
            continue;
        qsort(d, EVAL_RESAMPLES, sizeof *d, compare_doubles);
        json_object_set_new(ranges, all.name[i], json_pack("[f,f]", d[EVAL_RESAMPLES / 40],
                                                           d[EVAL_RESAMPLES - 1 - EVAL_RESAMPLES / 40]));
    }
    if (intervals)
        json_object_set_new(out, "interval", ranges);
    else
        json_decref(ranges);
    free(drawn);
    return out;
}

/* ---- ranks ------------------------------------------------------------------------------------------------------ */

static void rank_figures(const void *rows, size_t n, uint32_t round, struct figures *out)
{
    const struct eval_rank *ranks = rows;
    double total = 0, hits[4] = {0}, reciprocal = 0, gain = 0, loss = 0, losses = 0;
    static const float cut[4] = {1, 5, 10, 20};
    for (size_t i = 0; i < n; i++) {
        double times = round ? times_drawn(ranks[i].sequence, round) : 1;
        float rank = ranks[i].rank;
        total += times;
        for (int k = 0; k < 4; k++)
            hits[k] += rank <= cut[k] ? times : 0;
        reciprocal += rank <= 20 ? times / rank : 0;
        gain += rank <= 20 ? times / log2(1 + rank) : 0;
        if (!isnan(ranks[i].loss)) {
            loss += times * ranks[i].loss;
            losses += times;
        }
    }
    put(out, "recall@1", hits[0] / total);
    put(out, "recall@5", hits[1] / total);
    put(out, "recall@10", hits[2] / total);
    put(out, "recall@20", hits[3] / total);
    put(out, "mrr@20", reciprocal / total);
    put(out, "ndcg@20", gain / total);
    if (losses > 0)
        put(out, "log_loss", loss / losses);
}

json_t *eval_ranks(const struct eval_rank *ranks, size_t n, bool intervals)
{
    return with_intervals(rank_figures, ranks, n, intervals);
}

/* ---- probabilities ---------------------------------------------------------------------------------------------- */

static int compare_guesses(const void *a, const void *b)
{
    const struct eval_guess *x = a, *y = b;
    if (x->p != y->p)
        return x->p > y->p ? -1 : 1;
    return x->event < y->event ? -1 : x->event > y->event;
}

struct tally {
    double ones, zeros, loss, squares, absolute, true_positive, false_positive;
    double area_roc, area_pr;
};

/* Highest p first; equal ones are passed as one group, so that their order cannot matter. Average precision: the sum of
 * precision × gain in recall over the groups. */
static struct tally tally_of(const struct eval_guess *g, size_t n, uint32_t round)
{
    struct tally t = {0};
    for (size_t i = 0; i < n;) {
        double ones = 0, zeros = 0;
        size_t from = i;
        for (; i < n && g[i].p == g[from].p; i++) {
            double times = round ? times_drawn(g[i].sequence, round) : 1, p = g[i].p, y = g[i].yes;
            ones += g[i].yes ? times : 0;
            zeros += g[i].yes ? 0 : times;
            t.loss -= times * log(fmax(g[i].yes ? p : 1 - p, 1e-12));
            t.squares += times * (p - y) * (p - y);
            t.absolute += times * fabs(p - y);
        }
        t.area_roc += zeros * (t.ones + ones / 2);
        t.ones += ones;
        t.zeros += zeros;
        t.area_pr += ones > 0 ? ones * t.ones / (t.ones + t.zeros) : 0;
        if (g[from].p >= 0.5f) {
            t.true_positive = t.ones;
            t.false_positive = t.zeros;
        }
    }
    return t;
}

static void guess_figures(const void *rows, size_t n, uint32_t round, struct figures *out)
{
    struct tally t = tally_of(rows, n, round);
    double all = t.ones + t.zeros, said = t.true_positive + t.false_positive;
    double precision = said > 0 ? t.true_positive / said : NAN, recall = t.true_positive / t.ones;
    put(out, "roc_auc", t.area_roc / (t.ones * t.zeros));
    put(out, "pr_auc", t.area_pr / t.ones);
    put(out, "log_loss", t.loss / all);
    put(out, "brier", t.squares / all);
    put(out, "mae", t.absolute / all);
    put(out, "accuracy", (t.true_positive + t.zeros - t.false_positive) / all);
    put(out, "precision", precision);
    put(out, "recall", recall);
    put(out, "f1", 2 * t.true_positive / (said + t.ones));
    put(out, "positives", t.ones / all);
}

static json_t *calibration_of(const struct eval_guess *g, size_t n)
{
    json_t *groups = json_array();
    for (size_t k = CALIBRATION_GROUPS; k-- > 0;) {
        size_t from = n * k / CALIBRATION_GROUPS, until = n * (k + 1) / CALIBRATION_GROUPS;
        double p = 0, ones = 0, count = (double)(until - from);
        for (size_t i = from; i < until; i++) {
            p += g[i].p;
            ones += g[i].yes;
        }
        if (until > from)
            json_array_append_new(groups, json_pack("{s:f,s:f,s:I}", "predicted", p / count, "observed", ones / count,
                                                    "n", (json_int_t)(until - from)));
    }
    return groups;
}

json_t *eval_guesses(struct eval_guess *guesses, size_t n, bool intervals)
{
    qsort(guesses, n, sizeof *guesses, compare_guesses);
    json_t *out = with_intervals(guess_figures, guesses, n, intervals);
    json_object_set_new(out, "calibration", calibration_of(guesses, n));
    return out;
}

json_t *eval_pr_curve(const struct eval_guess *g, size_t n)
{
    json_t *points = json_array();
    double all = 0, ones = 0;
    for (size_t i = 0; i < n; i++)
        all += g[i].yes;
    size_t step = n / 100 + 1, next = 0;
    for (size_t i = 0; i < n; i++) {
        ones += g[i].yes;
        bool group_ends = i + 1 == n || g[i + 1].p != g[i].p; /* equal ones cannot be told apart */
        if (!group_ends || (i < next && i + 1 < n) || all == 0)
            continue;
        json_array_append_new(points, json_pack("[f,f]", ones / all, ones / (double)(i + 1)));
        next = i + step;
    }
    return points;
}
