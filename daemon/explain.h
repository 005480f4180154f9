/* SPDX-License-Identifier: Apache-2.0 */
/* explain.h - why a user has this score: what it would be if one of the last events had not been, or if one feature had
 * its mean.
 *
 * Everything is computed from the ring of last events, with a state that begins empty: each variant walks all events
 * of the ring, without one of them, or with one feature replaced. The columns that a variant sees are those of a user
 * without that event. Effects are in log-odds, ln(p / (1 − p)): positive = this made the score larger. They do not add
 * up to the score: events work together, and what they all share is in none of the differences. */
#ifndef GAIT_EXPLAIN_H
#define GAIT_EXPLAIN_H

#include "gait/lstm.h"
#include "gait/window.h"

#include <jansson.h>

enum explain_target { EXPLAIN_INTEREST, EXPLAIN_INTENT, EXPLAIN_TARGETS };
enum { EXPLAIN_EVENTS_MAX = 64 };

struct explain_score {
    double p, log_odds;
};

struct explain_event {
    uint32_t index;                            /* in the ring */
    struct window_event event;
    struct explain_score without[EXPLAIN_TARGETS];
    double effect[EXPLAIN_TARGETS];            /* log-odds with it − without it */
};

struct explain_feature {
    uint32_t feature;                          /* of the model */
    double column;                             /* at the newest event, as the window has it */
    float x;                                   /* as the model sees it */
    struct explain_score mean[EXPLAIN_TARGETS]; /* with its mean at every event */
    double effect[EXPLAIN_TARGETS];
};

struct explanation {
    bool there[EXPLAIN_TARGETS];               /* the model has such a head */
    uint32_t top;                              /* the class of EXPLAIN_INTEREST: the rebuilt state's best */
    struct explain_score rebuilt[EXPLAIN_TARGETS]; /* from the ring alone: what is explained */
    struct explain_score empty[EXPLAIN_TARGETS];   /* of a user of whom nothing is known */
    struct explain_score stored[EXPLAIN_TARGETS];  /* by the record's own state, which knows older events too */
    bool has_stored;                           /* the record's state is this model's */
    double sum[EXPLAIN_TARGETS];               /* of the events' effects */
    uint32_t ring_n, events_n, features_n;
    struct explain_event *events;              /* [events_n] the newest of the ring, oldest first */
    struct explain_feature *features;          /* [features_n] in the model's order */
};

/* What it is computed with; all borrowed. `columns_width` is that of the window's rows. */
struct explain_with {
    const struct lstm *lstm;
    const struct model_binding *binding;
    const struct instance *window;
    uint32_t columns_width;
};

/* At most EXPLAIN_EVENTS_MAX of the newest events are explained, each at the price of walking the whole ring: 28 events
 * and 40 features take about 5 ms. NULL with a text when there is nothing to explain. `stored` [hidden] is the top
 * layer's h of the record, NULL = none of this model's. */
struct explanation *explain_make(const struct explain_with *with, struct user *user, const float *stored,
                                 struct error *err);
void explain_destroy(struct explanation **explanation);

/* As an object; names of types by `types`, of categories and items by the model's vocabularies. */
json_t *explain_json(const struct explanation *x, const struct model *m, const struct event_types *types);
/* The same for people. */
void explain_print(const struct explanation *x, const struct model *m, const struct event_types *types, FILE *out);

#endif
