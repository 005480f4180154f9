/* SPDX-License-Identifier: Apache-2.0 */
/* score_rank.h - what came true of a prediction, and at which place the prediction had it. */
#ifndef GAIT_SCORE_RANK_H
#define GAIT_SCORE_RANK_H

#include "gait/event.h"
#include "gait/model.h"
#include "gait/window.h"

/* The recalls that are counted: recall@1 … */
static const uint32_t score_recall_at[] = {1, 5, 10, 20};
enum { SCORE_RECALLS = sizeof score_recall_at / sizeof *score_recall_at };

/* The class that came true; -1 when the event has none, or one that the vocabulary does not know. */
static inline int score_truth(const struct model_head *head, const struct event *event)
{
    struct str name = strcmp(head->target, "item") == 0 ? event->item : event->category;
    return name.len ? model_vocabulary_find(&head->vocabulary, window_hash32(name)) : -1;
}

/* A tie counts half, as usual: two classes of equal probability have rank 1.5. */
static inline float score_rank(const float *p, uint32_t classes, uint32_t truth)
{
    uint32_t higher = 0, equal = 0;
    for (uint32_t i = 0; i < classes; i++) {
        higher += p[i] > p[truth];
        equal += p[i] == p[truth]; /* itself, too */
    }
    return 1.0f + (float)higher + 0.5f * (float)(equal - 1);
}

#endif
