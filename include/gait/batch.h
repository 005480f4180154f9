/* SPDX-License-Identifier: Apache-2.0 */
/* batch.h - up to batch_events events on their way through the stages, and what the stages say of them.
 *
 *   filling ─► loading ─► ready ─► (window, model, score, rule, sink) ─► free again
 *                                                        └► its ticket lives on until every output is durable
 *
 * Arrays are [n] or [n × width], row-major, 64-byte aligned, and belong to the engine. */
#ifndef GAIT_BATCH_H
#define GAIT_BATCH_H

#include "gait/arena.h"
#include "gait/event.h"

enum { SCORE_TOP_MAX = 32, SCORE_LABELS_MAX = 8 /* MODEL_HEADS_MAX */, ALERT_SYMBOLS_MAX = 24 };

/* What score_ says after one event. Ids index the model's category vocabulary. */
struct score {
    bool publish;         /* goes to the score topic */
    bool degraded;        /* the record is known to lack events */
    uint8_t n;            /* entries in top */
    float intent;         /* 0..1: will buy within the horizon; NaN when the model has no such head */
    float surprise;       /* -ln p(this event's category) as predicted before it; NaN when not known */
    float labels[SCORE_LABELS_MAX]; /* 0..1 of each of the model's heads with a target label:NAME, by head */
    uint32_t top_id[SCORE_TOP_MAX];
    float top_p[SCORE_TOP_MAX]; /* descending */
};

struct alert_symbol {
    const char *name;      /* the rule's */
    double weight, value, threshold;
    const char *text;      /* for people, in the arena */
};

struct alert {
    uint32_t event;        /* index in the batch */
    uint64_t id;           /* hash of partition, offset and rule set: a repeated delivery is recognised by it */
    const char *action;    /* the band's name */
    double score;          /* sum of weights */
    uint32_t n;
    struct alert_symbol *symbols;
    uint32_t n_event_ids;  /* the events that led to it, newest first; may be 0 */
    struct str *event_ids;
};

/* Counts what is not durable yet of one batch. The engine holds it until all sinks have run. */
struct ticket;
void ticket_hold(struct ticket *ticket, uint32_t times);
void ticket_release(struct ticket *ticket, uint32_t times);
/* The same for what only the records have to wait for: C moves on, the save of the batch's records does not. The
 * serving hash is written this way, so that no crash leaves a record that says "applied" beside a hash that lacks the
 * event. */
void ticket_hold_save(struct ticket *ticket, uint32_t times);
void ticket_release_save(struct ticket *ticket, uint32_t times);

struct model;

struct batch {
    struct event *events;
    uint32_t n, cap;
    struct arena *arena;
    struct ticket *ticket;
    uint64_t seq;            /* 1, 2, 3 … in the order of computing */
    int64_t now_ms;          /* wall clock when computing began */

    double *columns;         /* [n × columns_n]: window features and signals, see columns.h; undefined if dropped */
    uint32_t columns_n;
    const struct model *model; /* borrowed from model_ until the batch ends; NULL without a model */
    float *hidden;           /* [n × hidden_n] top layer's h after the event */
    float *hidden_before;    /* [n × hidden_n] before it */
    uint8_t *has_before;     /* [n] 1 when the user had a state before the event */
    uint32_t hidden_n;
    struct score *scores;    /* [n]; zeroed; n = 0 where there is none */
    float *risk;             /* [n] sum of rule weights, 0 when none fired */
    struct alert *alerts;
    uint32_t alerts_n;       /* at most one an event, in event order */

    void *input;                               /* the source's, e.g. the messages the slices point into */
    void (*input_done)(void *input);           /* called by the engine when the batch ends; NULL = nothing to do */

    struct user **loading;   /* records that the store has to fetch in this run: [loading_from … loading_n) */
    uint32_t loading_from, loading_n;

    /* engine's own */
    uint32_t loads;          /* of those, not there yet; plus one while the load stage runs */
    uint32_t waves;          /* number of waves */
    uint64_t phase_ns;
};

/* model_: room for hidden and hidden_before, `width` floats an event. Allocates only when it never was as wide. */
void batch_hidden(struct batch *b, uint32_t width);

static inline double *batch_row(const struct batch *b, uint32_t i)
{
    return b->columns + (size_t)i * b->columns_n;
}

#endif
