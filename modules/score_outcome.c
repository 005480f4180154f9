// SPDX-License-Identifier: Apache-2.0
// score_outcome.c - see score_outcome.h.
#include "score_outcome.h"

#include <math.h>

static struct score_outcome *place_of(struct score_outcomes *o, uint64_t hash)
{
    return &o->at[(hash >> 32) % SCORE_OUTCOMES];
}

bool score_outcome_event(struct score_outcomes *o, uint64_t hash, int64_t ts_ms, bool purchase, float *p, bool *bought)
{
    struct score_outcome *place = place_of(o, hash);
    if (!place->open)
        return false;
    if (ts_ms <= place->until_ms) {
        place->bought |= purchase && place->hash == hash;
        return false;
    }
    *p = place->p;
    *bought = place->bought;
    place->open = false;
    return true;
}

void score_outcome_predict(struct score_outcomes *o, uint64_t hash, int64_t ts_ms, int64_t horizon_ms, float p)
{
    struct score_outcome *place = place_of(o, hash);
    if (!place->open && !isnan(p))
        *place = (struct score_outcome){.hash = hash, .until_ms = ts_ms + horizon_ms, .p = p, .open = true};
}
