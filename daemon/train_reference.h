/* SPDX-License-Identifier: Apache-2.0 */
/* train_reference.h - what the features and the scores looked like in training, for the daemon to notice when the shop
 * has become another one (modules/drift.c). */
#ifndef GAIT_TRAIN_REFERENCE_H
#define GAIT_TRAIN_REFERENCE_H

#include "train_task.h"

#include <jansson.h>

/* Bins at the deciles of what was seen: {"edges":[…], "shares":[…]}, edges ascending, no two the same, one share more
 * than edges. A value belongs to the bin whose number is how many edges lie below it. Values that are no numbers are
 * passed over; NULL when there is nothing else. Reorders `values`. */
json_t *train_reference_bins(float *values, size_t n);
/* The raw features of events before until_ms, by column name. */
json_t *train_reference_features(const struct train_set *s, int64_t until_ms);
/* What the network says in the span: "intent" (the probability), "top1" (that of the likeliest category or item). */
json_t *train_reference_scores(struct train_network *n, const struct train_task *t, const struct model *m,
                               const struct train_options *o, struct train_span span);

#endif
