/* SPDX-License-Identifier: Apache-2.0 */
/* eval_slices.h - the same figures for each group of events, by a field such as country: a mean over everybody hides
 * those for whom a model is worse.
 *
 * Of labels, "selected" means a probability of at least `select_at`:
 *   selection_rate      selected / all              recall               selected / all whose answer is 1
 *   predicted, observed mean p, share of ones       false_positive_rate  selected / all whose answer is 0
 *   disparate_impact    the smallest selection rate divided by the largest
 *   equalised_odds_gap  the larger of the spreads of recall and of false_positive_rate
 * Of ranks: recall@20 and mrr@20; recall_ratio is the smallest recall@20 divided by the largest.
 *
 * Groups of fewer than 100 answers (of labels: or 10 of either kind) are small: shown, but not compared. */
#ifndef GAIT_EVAL_SLICES_H
#define GAIT_EVAL_SLICES_H

#include "eval.h"

enum { SLICES_MAX = 40, SLICE_ANSWERS_MIN = 100, SLICE_KIND_MIN = 10 };

struct eval_by {
    enum model_field field;
    double bound;      /* ratios below it, and gaps above 1 − bound, are warned of */
    double select_at;
};

/* {"by":…, "groups":[…], the ratios, "warnings":[…]}. Beyond SLICES_MAX groups the smallest are one, "(others)"; events
 * without the field are "(none)". */
json_t *eval_slices_guesses(const struct eval_by *by, const struct train_set *s, const struct eval_guess *g, size_t n);
json_t *eval_slices_ranks(const struct eval_by *by, const struct train_set *s, const struct eval_rank *r, size_t n);
void eval_slices_print(FILE *out, const json_t *slices);

#endif
