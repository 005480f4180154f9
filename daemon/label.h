/* SPDX-License-Identifier: Apache-2.0 */
/* label.h - what `gaitd label` says after each event: answers that the rest of the history gives, written as a label
 * file for `gaitd train --target label:NAME`.
 *
 *   churn    1 = the user begins no other session within the time        (after every event)
 *   returns  1 = the user begins one                                     (the same turned round: its complement)
 *   abandon  1 = something is in the cart, and no purchase follows within the time (only while something is in it)
 *
 * An answer is known when the time is over, not before, for a yes as for a no; so what the data's end leaves open gets
 * none, and a model can be kept from learning answers that its time could not know. */
#ifndef GAIT_LABEL_H
#define GAIT_LABEL_H

#include "train_set.h"

#include <stdio.h>

enum label_kind { LABEL_CHURN, LABEL_RETURNS, LABEL_ABANDON, LABEL_KINDS };

const char *label_kind_name(enum label_kind kind);

struct label_counts {
    uint64_t ones, zeros, open; /* open: the data ends before the answer is known */
    uint64_t unwritable;        /* users whose name has a comma or a line's end: they are left out */
};

/* For every event of the set (arranged by session) 1, 0, or TRAIN_NOTHING. `out` is [s->n]. */
void label_answers(const struct train_set *s, enum label_kind kind, int64_t within_ms, int8_t *out);
/* The label file: header "user,NAME,ts,known", a line for every answer, users together. */
void label_write(FILE *out, const struct train_set *s, const char *name, const int8_t *answers, int64_t within_ms,
                 struct label_counts *counts);

#endif
