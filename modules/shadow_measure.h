/* SPDX-License-Identifier: Apache-2.0 */
/* shadow_measure.h - two models on the same events: what each had said before the event, and what came true. */
#ifndef GAIT_SHADOW_MEASURE_H
#define GAIT_SHADOW_MEASURE_H

#include "score_rank.h"
#include "sequential_test.h"
#include "shadow_table.h"

#include "gait/batch.h"
#include "gait/lstm.h"
#include "gait/metrics.h"

enum shadow_side { SHADOW_SERVING, SHADOW_CHALLENGER, SHADOW_SIDES };

/* Since the comparison began. Divided by n (intents for squares) they are the means. */
struct shadow_tally {
    uint64_t n, intents;
    double loss, reciprocal, hits[SCORE_RECALLS], squares;
};

struct shadow_cells {
    struct metric_cell *n, *loss, *reciprocal, *hits[SCORE_RECALLS], *intents, *squares;
};

struct shadow_measure {
    bool interest, intent;         /* which heads can be compared */
    struct sequential_test test;   /* on the log loss of interest; of intent, where that alone can be compared */
    struct shadow_tally tally[SHADOW_SIDES];
    struct shadow_cells cells[SHADOW_SIDES];
    const struct lstm *lstm[SHADOW_SIDES]; /* borrowed, renewed before each batch */
    float *hidden[SHADOW_SIDES], *logits[SHADOW_SIDES];
    size_t hidden_cap[SHADOW_SIDES], logits_cap[SHADOW_SIDES];
};

/* Up to BLOCK rows of a wave: the events, the users' entries, and whether the prediction before the event counts. */
enum { SHADOW_BLOCK = 96 };
struct shadow_rows {
    uint32_t n;
    uint32_t event[SHADOW_BLOCK];
    struct shadow *shadow[SHADOW_BLOCK];
    bool counts[SHADOW_BLOCK];
};

extern const struct metric shadow_metrics[];

void shadow_measure_cells(struct shadow_measure *m, struct metrics *metrics);
/* Begin anew between these two. -1 with a text when they have no head for the same question. */
int shadow_measure_begin(struct shadow_measure *m, const struct lstm *serving, const struct lstm *challenger,
                         double margin, double alpha, struct error *err);
/* Before and after the challenger's step over these rows. */
void shadow_measure_before(struct shadow_measure *m, const struct batch *b, const struct shadow_rows *rows);
void shadow_measure_after(struct shadow_measure *m, const struct batch *b, const struct shadow_rows *rows);
/* A prediction of intent whose time is over by `now_ms` (of the events) gets its answer. */
void shadow_measure_wait(struct shadow_measure *m, struct shadow *s, int64_t now_ms);
void shadow_measure_free(struct shadow_measure *m);

#endif
