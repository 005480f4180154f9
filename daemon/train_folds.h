/* SPDX-License-Identifier: Apache-2.0 */
/* train_folds.h - forward-chaining folds: the span of time is cut into K + 1 parts of equally many events, and fold k
 * learns from the first k of them and is judged on the next one.
 *
 *   fold 1  [learn |valid][judge]
 *   fold 2  [learn        |valid][judge]
 *   fold 3  [learn               |valid][judge]     ─► time
 *
 * Early stopping looks at the end of what a fold learns from, never at what judges it. */
#ifndef GAIT_TRAIN_FOLDS_H
#define GAIT_TRAIN_FOLDS_H

#include "train_loop.h"

#include <jansson.h>

enum { TRAIN_FOLDS_MAX = 20 };

struct train_fold {
    int64_t valid_ms;            /* learned from until here; from here to judged.from_ms stops early */
    struct train_span judged;
};

/* folds[n]; -1 with a text: too few events for so many folds. */
int train_folds_cut(const struct train_set *s, double valid, uint32_t n, struct train_fold *folds, struct error *err);
/* `judged` is an array of one object a fold, head name → eval_head(); for each head
 * {"n":K, "mean":{figure:…}, "sd":{…}, "baselines":{name:{"mean":{…},"sd":{…}}}, "each":[…]}. */
json_t *train_folds_sum(const json_t *judged, const struct train_fold *folds);

#endif
