/* SPDX-License-Identifier: Apache-2.0 */
/* score_outcome.h - predictions of intent that wait for their outcome: whether the user bought within the horizon.
 *
 * A bounded sample: a user's hash names a place, and a place holds one prediction until its horizon is over, whatever
 * happens meanwhile; the next prediction that comes by is taken then. So those who buy and those who do not are counted
 * alike. Event time alone counts. */
#ifndef GAIT_SCORE_OUTCOME_H
#define GAIT_SCORE_OUTCOME_H

#include <stdbool.h>
#include <stdint.h>

enum { SCORE_OUTCOMES = 1024 };

struct score_outcome {
    uint64_t hash;       /* the user's */
    int64_t until_ms;
    float p;
    bool open, bought;
};

struct score_outcomes {
    struct score_outcome at[SCORE_OUTCOMES];
};

/* An event of user `hash` at ts_ms. True when a prediction (not necessarily of this user) got its outcome: *p and
 * *bought. */
bool score_outcome_event(struct score_outcomes *o, uint64_t hash, int64_t ts_ms, bool purchase, float *p, bool *bought);
/* What is predicted after that event; taken when the place is free. Not a number: nothing is. */
void score_outcome_predict(struct score_outcomes *o, uint64_t hash, int64_t ts_ms, int64_t horizon_ms, float p);

#endif
