/* SPDX-License-Identifier: Apache-2.0 */
/* challenger.h - what the challenger in shadow (model_challenger.c) tells the operators' pages. */
#ifndef GAIT_CHALLENGER_H
#define GAIT_CHALLENGER_H

#include "gait/model.h"

enum challenger_state {
    CHALLENGER_OFF,          /* no file is configured */
    CHALLENGER_WAITING,      /* there is no such file, or none that can be used */
    CHALLENGER_COMPARING,
    CHALLENGER_BETTER,       /* by the margin, with significance; it stays in shadow (promote: never, or a reason) */
    CHALLENGER_SAME,         /* it is the model at work */
    CHALLENGER_INCOMPARABLE, /* it answers other questions */
};

/* Means over the same events for both, since the comparison began; NaN where there are none. */
struct challenger_figures {
    double log_loss, reciprocal_rank, recall[4] /* at 1, 5, 10, 20 */, brier;
};

struct challenger_status {
    enum challenger_state state;
    const char *path;              /* NULL when off */
    const struct model *model;     /* NULL when there is none */
    const char *why;               /* why a better one is not promoted; NULL */
    bool promotes;
    double share, margin, alpha;
    uint64_t pairs, intents;       /* compared events; intents whose horizon is over */
    double advantage;              /* mean difference of log loss, clipped, in nats; > 0: the challenger is better */
    double p;                      /* anytime-valid; decided when it is at most alpha */
    struct challenger_figures serving, challenger;
    uint64_t users, users_max;     /* whose state is kept */
    uint64_t promotions;           /* since the start */
    char promoted[17], replaced[17]; /* ids of the last one */
};

struct instance;
void challenger_status(const struct instance *challenger, struct challenger_status *out);
const char *challenger_state_name(enum challenger_state state);

#endif
