// SPDX-License-Identifier: Apache-2.0
// score_drift.c - watches whether the shop is still the one that the model was trained on: the model's features and the
// scores, over a sliding window, against the distributions in the model's file.
//
// Stands beside score_interest, behind it in the flow. Counts every N-th event only; changes nothing.
#include "drift.h"

#include "gait/log.h"
#include "gait/lstm.h"
#include "gait/module.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { TELL_TICKS = 100, VALUES_MIN = 1000 };

struct conf {
    int64_t window_ms, every;
};

struct self {
    uint64_t model;              /* id of the one whose reference this is; 0 = none seen yet */
    struct drift drift;
    uint32_t features;           /* items below it are features, then come intent and top1, if they are there */
    int place[MODEL_FEATURES_MAX];
    int intent, top1;            /* items; -1 = the reference has none */
    struct metric_cell **cells;  /* [drift.n] NULL = nothing said yet */
    uint64_t seen;               /* events, for every N-th */
    uint64_t slot_ms;            /* monotonic: when the slot that fills began */
    unsigned ticks;
    struct metric_cell *m_values;
};

/* ---- the reference ---------------------------------------------------------------------------------------------- */

static bool is_feature(const struct model *m, const char *column)
{
    for (uint32_t f = 0; f < m->features_n; f++)
        if (strcmp(m->features[f].column, column) == 0)
            return true;
    return false;
}

static int add_score(struct self *self, const json_t *scores, const char *key, const char *name)
{
    const json_t *bins = json_object_get(scores, key);
    return bins && drift_add(&self->drift, name, bins) ? (int)self->drift.n - 1 : -1;
}

static void forget(struct self *self)
{
    for (uint32_t i = 0; i < self->drift.n; i++)
        if (self->cells[i])
            metric_set(self->cells[i], NAN); /* said of another model */
    free(self->cells);
    self->cells = NULL;
    drift_free(&self->drift);
    self->features = 0;
    self->intent = self->top1 = -1;
}

/* Another model is at work: its file's distributions, and counting from zero. */
static void take_reference(struct instance *in, const struct model *m)
{
    struct self *self = in->self;
    json_t *training = m->training ? json_loads(m->training, 0, NULL) : NULL;
    json_t *reference = json_object_get(training, "reference"), *features = json_object_get(reference, "features");
    const char *column;
    json_t *bins;
    forget(self);
    self->model = m->id;
    json_object_foreach(features, column, bins) {
        /* The time of day is the clock's and no trait of the shop: a window of a day has one day of the week. */
        if (strncmp(column, "time.", 5) == 0 || !is_feature(m, column) || !drift_add(&self->drift, column, bins))
            continue;
        self->place[self->features++] = columns_want(in->columns, column); /* wanted by the model already */
    }
    self->intent = add_score(self, json_object_get(reference, "scores"), "intent", "score.intent");
    self->top1 = add_score(self, json_object_get(reference, "scores"), "top1", "score.top1");
    json_decref(training);
    if (self->drift.n == 0)
        log_notice(in->name, "model %s says nothing of the data it was trained on: drift is not measured", model_id(m));
    self->cells = calloc(self->drift.n + 1, sizeof(struct metric_cell *));
    assert(self->cells);
}

/* ---- the module ------------------------------------------------------------------------------------------------- */

static void drift_run(struct instance *in, struct batch *b)
{
    struct self *self = in->self;
    const struct conf *conf = in->conf;
    if (!b->model || b->model->id != self->model || self->drift.n == 0)
        return;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct score *score = &b->scores[i];
        if (b->events[i].verdict != EVENT_OK || b->events[i].silent || ++self->seen % (uint64_t)conf->every != 0)
            continue;
        const double *row = batch_row(b, i);
        for (uint32_t f = 0; f < self->features; f++)
            drift_count(&self->drift, f, (float)row[self->place[f]]);
        if (self->intent >= 0 && score->publish)
            drift_count(&self->drift, (uint32_t)self->intent, score->intent);
        if (self->top1 >= 0 && score->n > 0)
            drift_count(&self->drift, (uint32_t)self->top1, score->top_p[0]);
        metric_add(self->m_values, 1);
    }
}

static void tell(struct instance *in)
{
    struct self *self = in->self;
    for (uint32_t i = 0; i < self->drift.n; i++) {
        if (drift_values(&self->drift, i) < VALUES_MIN)
            continue; /* chance alone would look like drift */
        if (!self->cells[i])
            self->cells[i] = metric_cell(in->metrics, "gait_drift_psi", self->drift.items[i].name);
        metric_set(self->cells[i], drift_psi(&self->drift, i));
    }
}

static void drift_flow(struct instance *in, const struct flow *flow)
{
    struct self *self = in->self;
    const struct conf *conf = in->conf;
    struct instance *stage = engine_instance(in->engine, STAGE_MODEL);
    if (flow->kind != FLOW_TICK || !stage)
        return;
    uint64_t now_ms = clock_mono_ns(in->clock) / 1000000, slot = (uint64_t)conf->window_ms / DRIFT_SLOTS;
    const struct model *m = lstm_at_work(stage)->model;
    if (m->id != self->model) {
        take_reference(in, m);
        self->slot_ms = now_ms;
    }
    for (int i = 0; now_ms - self->slot_ms >= slot && i < DRIFT_SLOTS; i++) {
        drift_advance(&self->drift);
        self->slot_ms += slot;
    }
    if (now_ms - self->slot_ms >= slot)
        self->slot_ms = now_ms; /* was away for longer than the whole window */
    if (++self->ticks % TELL_TICKS == 0)
        tell(in);
}

static void drift_close(struct instance *in)
{
    struct self *self = in->self;
    if (!self)
        return;
    drift_free(&self->drift);
    free(self->cells);
    free(self);
    in->self = NULL;
}

static const struct metric drift_metrics[] = {
    {"gait_drift_psi", METRIC_GAUGE, "feature",
     "Population stability index of a feature, of score.intent and of score.top1, in the sliding window against the "
     "model's training data; 0.1 is a small shift, 0.25 a large one. Absent below 1,000 values, or when the model's "
     "file has no such data."},
    {"gait_drift_events_total", METRIC_COUNTER, NULL, "Events counted for that: every N-th (score.drift.every)."},
    {NULL, 0, NULL, NULL},
};

static int drift_open(struct instance *in, bool check, struct error *err)
{
    (void)check;
    (void)err;
    struct self *self = in->self = calloc(1, sizeof *self);
    assert(self);
    self->intent = self->top1 = -1;
    self->m_values = metric_cell(in->metrics, "gait_drift_events_total", NULL);
    return 0;
}

static const struct option drift_options[] = {
    {.name = "window", .type = OPTION_DURATION, .offset = offsetof(struct conf, window_ms), .initial = "24h",
     .min = 60000, .max = 90 * 86400000.0,
     .help = "How far back the distribution reaches that is compared with the training data's. It slides in steps of a "
             "24th, by the clock."},
    {.name = "every", .type = OPTION_INT, .offset = offsetof(struct conf, every), .initial = "16", .min = 1,
     .max = 1000000, .help = "Every so many events one is counted; 1 counts all, which takes time with many features."},
    {.name = NULL},
};

const struct module score_drift = {
    .name = "score_drift",
    .summary = "Compares features and scores with what the model was trained on.",
    .stage = STAGE_SCORE,
    .beside = "interest",
    .options = drift_options,
    .conf_size = sizeof(struct conf),
    .metrics = drift_metrics,
    .open = drift_open,
    .run = drift_run,
    .flow = drift_flow,
    .close = drift_close,
};
