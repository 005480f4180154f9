/* SPDX-License-Identifier: Apache-2.0 */
/* drift.h - how far what passes now differs from what the model was trained on: the population stability index of
 * each feature and score.
 *
 *   PSI = Σ over bins of (live share − reference share) · ln(live share / reference share)
 *
 * twice the symmetrised Kullback-Leibler divergence (Jeffreys 1946); in credit scoring, where it comes from, 0.1 counts
 * as a small shift and 0.25 as a large one (N. Siddiqi, Credit Risk Scorecards, 2006). The reference is what `gaitd
 * train` wrote into the model's file (gait-formats(7)); the live shares are of a sliding window. */
#ifndef GAIT_DRIFT_H
#define GAIT_DRIFT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { DRIFT_BINS_MAX = 16, DRIFT_SLOTS = 24 };

struct drift_item {
    char *name;
    uint32_t bins;                       /* edges and one more */
    float edge[DRIFT_BINS_MAX - 1];      /* ascending; a value's bin is how many of them lie below it */
    double share[DRIFT_BINS_MAX];        /* of the reference */
    uint32_t count[DRIFT_SLOTS][DRIFT_BINS_MAX];
};

struct drift {
    uint32_t n, cap, slot;               /* slot: the one that fills now */
    struct drift_item *items;
};

void drift_free(struct drift *d);
/* One more distribution to watch, {"edges":[…],"shares":[…]}. False when that is not what `bins` is. */
bool drift_add(struct drift *d, const char *name, const json_t *bins);
/* A value of item `i`; what is no number is passed over. */
void drift_count(struct drift *d, uint32_t i, float value);
/* Time for the next slot: what the oldest one held is out of the window. */
void drift_advance(struct drift *d);
uint64_t drift_values(const struct drift *d, uint32_t i);  /* in the window */
double drift_psi(const struct drift *d, uint32_t i);       /* NaN without values */

#endif
