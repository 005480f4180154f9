// SPDX-License-Identifier: Apache-2.0
// eval_baselines.c - what counting alone would say: the three baselines that every model has to beat.
#include "eval.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *eval_baseline_name(enum eval_baseline baseline)
{
    static const char *const names[] = {"popularity", "repeat_last", "markov"};
    return names[baseline];
}

/* ---- next item or category -------------------------------------------------------------------------------------- */

struct follower {
    uint32_t class, count;
};

/* What came after one class, and how often. */
struct row {
    struct follower *at;
    uint32_t n, cap;
};

/* Row k: after class k; row `classes`: after anything else, and for popularity after everything. */
struct counts {
    struct row *rows;
    uint32_t classes;
};

static void count(struct row *row, uint32_t class)
{
    uint32_t i = 0;
    while (i < row->n && row->at[i].class != class)
        i++;
    if (i == row->cap) {
        row->cap = row->cap ? row->cap * 2 : 8;
        row->at = realloc(row->at, row->cap * sizeof *row->at);
        assert(row->at);
    }
    if (i == row->n)
        row->at[row->n++] = (struct follower){.class = class};
    row->at[i].count++;
}

/* 1 + those counted more often + half of the others counted as often; what was never counted ties at 0. */
static float rank_in(const struct row *row, uint32_t class, uint32_t classes)
{
    uint32_t own = 0, above = 0, equal = 0;
    for (uint32_t i = 0; i < row->n; i++)
        if (row->at[i].class == class)
            own = row->at[i].count;
    for (uint32_t i = 0; i < row->n; i++) {
        above += row->at[i].count > own;
        equal += row->at[i].count == own;
    }
    if (own == 0)
        equal = classes - row->n;
    return 1 + (float)above + (float)(equal - 1) / 2;
}

struct ranker {
    const struct train_task *task;
    enum eval_baseline baseline;
    enum model_field field;
    uint32_t head;
    struct counts counts;
};

/* The class of the event that the prediction comes after; `classes` when it has none. */
static uint32_t class_before(const struct ranker *r, size_t event)
{
    int32_t class = r->task->class_of[r->head][r->task->data.set->fields[r->field][event]];
    return class >= 0 ? (uint32_t)class : r->counts.classes;
}

static struct row *row_of(const struct ranker *r, size_t event)
{
    return &r->counts.rows[r->baseline == EVAL_MARKOV ? class_before(r, event) : r->counts.classes];
}

static float rank_of(const struct ranker *r, size_t event)
{
    int32_t class = r->task->targets[r->head].value[event];
    uint32_t classes = r->counts.classes;
    if (class < 0)
        return INFINITY;
    if (r->baseline != EVAL_REPEAT_LAST)
        return rank_in(row_of(r, event), (uint32_t)class, classes);
    uint32_t before = class_before(r, event);
    if (before == classes)
        return ((float)classes + 1) / 2;
    return before == (uint32_t)class ? 1 : 2 + (float)(classes - 2) / 2;
}

static void learn(struct ranker *r, size_t event)
{
    int32_t class = r->task->targets[r->head].value[event];
    if (class >= 0 && r->baseline != EVAL_REPEAT_LAST)
        count(row_of(r, event), (uint32_t)class);
}

struct due {
    int64_t known_ms;
    size_t event;
};

static int compare_due(const void *a, const void *b)
{
    const struct due *x = a, *y = b;
    if (x->known_ms != y->known_ms)
        return x->known_ms < y->known_ms ? -1 : 1;
    return x->event < y->event ? -1 : x->event > y->event;
}

/* Predict, then count, in the order of time. */
static void rank_as_it_goes(struct ranker *r, struct eval_rank *ranks, size_t n)
{
    struct due *order = calloc(n + 1, sizeof *order);
    float *rank = calloc(r->task->data.set->n + 1, sizeof *rank);
    assert(order && rank);
    for (size_t i = 0; i < n; i++)
        order[i] = (struct due){r->task->targets[r->head].known_ms[ranks[i].event], ranks[i].event};
    qsort(order, n, sizeof *order, compare_due);
    for (size_t i = 0; i < n; i++) {
        rank[order[i].event] = rank_of(r, order[i].event);
        learn(r, order[i].event);
    }
    for (size_t i = 0; i < n; i++)
        ranks[i].rank = rank[ranks[i].event];
    free(order), free(rank);
}

void eval_baseline_ranks(enum eval_baseline baseline, const struct train_task *t, const struct model *m, uint32_t head,
                         struct train_span fit, struct eval_rank *ranks, size_t n)
{
    struct ranker r = {.task = t, .baseline = baseline, .head = head, .counts.classes = m->heads[head].classes,
                       .field = (enum model_field)train_target_field(m->heads[head].target)};
    r.counts.rows = calloc((size_t)r.counts.classes + 1, sizeof *r.counts.rows);
    assert(r.counts.rows);
    if (fit.from_ms < fit.until_ms) {
        for (size_t i = 0; i < t->data.set->n; i++)
            if (train_counts(&t->data, head, i, fit))
                learn(&r, i);
        for (size_t i = 0; i < n; i++)
            ranks[i].rank = rank_of(&r, ranks[i].event);
    } else {
        rank_as_it_goes(&r, ranks, n);
    }
    for (size_t i = 0; i < n; i++)
        ranks[i].loss = NAN;
    for (uint32_t k = 0; k <= r.counts.classes; k++)
        free(r.counts.rows[k].at);
    free(r.counts.rows);
}

/* ---- labels ----------------------------------------------------------------------------------------------------- */

/* For each event whether its user bought within the horizon up to and including it. Sequences may be visits; a purchase
 * of an earlier visit counts where it was met before, which holds for sequences in the order of their first event. */
static uint8_t *bought_before(const struct train_set *s, const char *purchase, int64_t horizon_ms)
{
    uint32_t type = train_names_find(&s->names[MODEL_TYPE], str_of(purchase));
    uint8_t *bought = calloc(s->n + 1, 1);
    int64_t *last = malloc((s->users.n + 1) * sizeof *last);
    assert(bought && last);
    for (uint32_t u = 0; u <= s->users.n; u++)
        last[u] = INT64_MIN;
    for (size_t i = 0; i < s->n; i++) {
        if (type && s->fields[MODEL_TYPE][i] == type)
            last[s->user[i]] = s->ts_ms[i];
        int64_t since = last[s->user[i]];
        bought[i] = since != INT64_MIN && since <= s->ts_ms[i] && s->ts_ms[i] - since <= horizon_ms;
    }
    free(last);
    return bought;
}

struct rate {
    double ones, n;
};

static float rate_of(const struct rate *group, const struct rate *all)
{
    /* Ten answers' worth of the general rate, so that a group met twice does not say 0 or 1. */
    double general = (all->ones + 0.5) / (all->n + 1);
    return (float)((group->ones + 10 * general) / (group->n + 10));
}


void eval_baseline_guesses(enum eval_baseline baseline, const struct train_task *t, const struct model *m,
                           uint32_t head, const char *purchase, struct train_span fit, struct eval_guess *guesses,
                           size_t n)
{
    const struct train_set *s = t->data.set;
    const struct train_target *target = &t->targets[head];
    uint8_t *bought = bought_before(s, purchase, m->intent_horizon_ms ? m->intent_horizon_ms : INT64_MAX / 2);
    uint32_t groups = baseline == EVAL_MARKOV ? s->names[MODEL_TYPE].n + 1 : 2;
    struct rate *rates = calloc(groups, sizeof *rates), all = {0};
    struct due *order = calloc(s->n + 1, sizeof *order);
    float *p = calloc(s->n + 1, sizeof *p);
    uint8_t *listed = calloc(s->n + 1, 1);
    assert(rates && order && p && listed);
    size_t known = 0;
    for (size_t i = 0; i < n; i++)
        listed[guesses[i].event] = 1;
    for (size_t i = 0; i < s->n; i++)
        if (listed[i] || train_counts(&t->data, head, i, fit))
            order[known++] = (struct due){target->known_ms[i], i};
    qsort(order, known, sizeof *order, compare_due);
    bool fitted = fit.from_ms < fit.until_ms;
    for (int pass = fitted ? 0 : 1; pass < 2; pass++)
        for (size_t k = 0; k < known; k++) {
            size_t i = order[k].event;
            uint32_t group = baseline == EVAL_MARKOV ? s->fields[MODEL_TYPE][i]
                             : baseline == EVAL_REPEAT_LAST ? bought[i] : 0;
            if (pass == 1 && listed[i])
                p[i] = rate_of(&rates[group], &all);
            if (fitted ? pass == 0 && train_counts(&t->data, head, i, fit) : true) {
                rates[group].ones += target->value[i];
                rates[group].n++;
                all.ones += target->value[i];
                all.n++;
            }
        }
    for (size_t i = 0; i < n; i++)
        guesses[i].p = p[guesses[i].event];
    free(bought), free(rates), free(order), free(p), free(listed);
}
