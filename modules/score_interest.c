// SPDX-License-Identifier: Apache-2.0
// score_interest.c - the score stage: turns the hidden state after each event into interests (the k likeliest
// categories), intent, and surprise, and measures the model as it goes: each event was predicted before it was seen.
//
//   hidden        ─► head · h + b ─► softmax ─► top k            what they will look at next
//   hidden        ─► sigmoid                                     whether they will buy within the horizon; labels
//   hidden_before ─► softmax ─► −ln p(this event's category)     how surprising this event was
//
// Owns scratch for one block of events; everything else is the batch's or the model stage's.
#include "score_outcome.h"
#include "score_rank.h"

#include "gait/lstm.h"
#include "gait/module.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { BLOCK_MAX = 64, SCRATCH_FLOATS = 1 << 16, TOP_MAX = SCORE_TOP_MAX };
enum publish { PUBLISH_ALL, PUBLISH_LATEST };

static const char *const publish_names[] = {"all", "latest", NULL};
struct conf {
    int64_t top;
    int publish;
};

struct self {
    float *hidden, *logits;             /* [BLOCK_MAX × hidden_cap], [logits_cap] */
    size_t hidden_cap, logits_cap;
    float intent[BLOCK_MAX];            /* of a head with one answer */
    uint32_t events[BLOCK_MAX];         /* of the block */
    struct score_outcomes *outcomes;
    uint64_t outcomes_model;            /* id of the model whose predictions wait there */
    struct metric_cell *m_intents, *m_squares;
    struct metric_cell *m_predictions, *m_log_loss, *m_reciprocal, *m_recall[SCORE_RECALLS];
};

/* ---- top k ------------------------------------------------------------------------------------------------------ */

/* Probability and id in one integer: not negative, so the bits of a float order like the float; of two equal ones the
 * smaller id wins. */
static uint64_t top_key(float p, uint32_t id)
{
    uint32_t bits;
    memcpy(&bits, &p, sizeof bits);
    return (uint64_t)bits << 32 | (UINT32_MAX - id);
}

static uint32_t top_k(const float *p, uint32_t classes, uint32_t k, struct score *score)
{
    uint64_t top[TOP_MAX] = {0};
    k = k < classes ? k : classes;
    for (uint32_t id = 0; id < classes; id++) {
        uint64_t key = top_key(p[id], id);
        if (key <= top[k - 1])
            continue;
        uint32_t at = k - 1;
        for (; at > 0 && top[at - 1] < key; at--)
            top[at] = top[at - 1];
        top[at] = key;
    }
    for (uint32_t i = 0; i < k; i++) {
        uint32_t bits = (uint32_t)(top[i] >> 32);
        memcpy(&score->top_p[i], &bits, sizeof bits);
        score->top_id[i] = UINT32_MAX - (uint32_t)top[i];
    }
    return k;
}

/* ---- blocks of events ------------------------------------------------------------------------------------------- */

/* The user's last event of the batch that counts: behind it come only duplicates and the like. */
static bool is_latest(const struct batch *b, uint32_t i)
{
    int32_t next = b->events[i].next_of_user;
    while (next >= 0 && b->events[next].verdict != EVENT_OK)
        next = b->events[next].next_of_user;
    return next < 0;
}

static uint32_t block_rows(uint32_t classes)
{
    uint32_t rows = SCRATCH_FLOATS / classes;
    return rows < 1 ? 1 : rows > BLOCK_MAX ? BLOCK_MAX : rows;
}

static void scratch_grow(struct self *self, uint32_t hidden, uint32_t classes)
{
    size_t logits = (size_t)block_rows(classes) * classes;
    if (self->hidden_cap < hidden) {
        free(self->hidden);
        self->hidden_cap = hidden;
        self->hidden = malloc(BLOCK_MAX * self->hidden_cap * sizeof *self->hidden);
    }
    if (self->logits_cap < logits) {
        free(self->logits);
        self->logits_cap = logits;
        self->logits = malloc(self->logits_cap * sizeof *self->logits);
    }
    assert(self->hidden && self->logits);
}

/* Fill self->events with up to `max` events from `*from` on that pass `wanted`, and their rows of `all` side by
 * side. */
static uint32_t gather(struct self *self, const struct batch *b, uint32_t *from, uint32_t max, const float *all,
                       bool (*wanted)(const struct batch *, uint32_t))
{
    uint32_t n = 0;
    for (; *from < b->n && n < max; ++*from) {
        if (b->events[*from].verdict != EVENT_OK || !wanted(b, *from))
            continue;
        memcpy(self->hidden + (size_t)n * b->hidden_n, all + (size_t)*from * b->hidden_n, b->hidden_n * sizeof(float));
        self->events[n++] = *from;
    }
    return n;
}

static bool want_all(const struct batch *b, uint32_t i)
{
    (void)b;
    (void)i;
    return true;
}

static bool want_before(const struct batch *b, uint32_t i)
{
    return b->has_before[i];
}

/* ---- what the model says after the events ----------------------------------------------------------------------- */

static void score_interests(struct instance *in, const struct lstm *l, struct batch *b, uint32_t n)
{
    struct self *self = in->self;
    const struct conf *conf = in->conf;
    const struct model *m = l->model;
    uint32_t classes = m->heads[m->interest].classes;
    lstm_head(l, (uint32_t)m->interest, n, self->hidden, self->logits);
    for (uint32_t row = 0; row < n; row++) {
        float *p = self->logits + (size_t)row * classes;
        struct score *score = &b->scores[self->events[row]];
        l->kernel->softmax(p, classes);
        score->n = (uint8_t)top_k(p, classes, (uint32_t)conf->top, score);
    }
}

static void score_intent(struct instance *in, const struct lstm *l, struct batch *b, uint32_t n)
{
    struct self *self = in->self;
    lstm_head(l, (uint32_t)l->model->intent, n, self->hidden, self->intent);
    l->kernel->sigmoid(self->intent, n);
    for (uint32_t row = 0; row < n; row++)
        b->scores[self->events[row]].intent = self->intent[row];
}

/* Heads learned from label files: churn, abandoned carts and the like. */
static void score_labels(struct instance *in, const struct lstm *l, struct batch *b, uint32_t n)
{
    struct self *self = in->self;
    for (uint32_t h = 0; h < l->model->heads_n; h++) {
        if (!model_head_is_label(&l->model->heads[h]))
            continue;
        lstm_head(l, h, n, self->hidden, self->intent);
        l->kernel->sigmoid(self->intent, n);
        for (uint32_t row = 0; row < n; row++)
            b->scores[self->events[row]].labels[h] = self->intent[row];
    }
}

static void score_after(struct instance *in, const struct lstm *l, struct batch *b)
{
    struct self *self = in->self;
    const struct conf *conf = in->conf;
    const struct model *m = l->model;
    uint32_t max = block_rows(m->interest < 0 ? 1 : m->heads[m->interest].classes);
    for (uint32_t from = 0; from < b->n;) {
        uint32_t n = gather(self, b, &from, max, b->hidden, conf->publish == PUBLISH_ALL ? want_all : is_latest);
        for (uint32_t row = 0; row < n; row++) {
            struct score *score = &b->scores[self->events[row]];
            score->publish = true;
            score->degraded = b->events[self->events[row]].record->degraded;
        }
        if (m->interest >= 0)
            score_interests(in, l, b, n);
        if (m->intent >= 0)
            score_intent(in, l, b, n);
        score_labels(in, l, b, n);
    }
}

/* ---- what it had said before them ------------------------------------------------------------------------------- */

static void measure(struct self *self, float surprise, float rank)
{
    metric_add(self->m_predictions, 1);
    metric_add(self->m_log_loss, surprise);
    metric_add(self->m_reciprocal, 1 / rank);
    for (int i = 0; i < SCORE_RECALLS; i++)
        metric_add(self->m_recall[i], rank <= (float)score_recall_at[i]);
}

static void score_before(struct instance *in, const struct lstm *l, struct batch *b)
{
    struct self *self = in->self;
    const struct model *m = l->model;
    const struct model_head *head = &m->heads[m->interest];
    for (uint32_t from = 0; from < b->n;) {
        uint32_t n = gather(self, b, &from, block_rows(head->classes), b->hidden_before, want_before);
        lstm_head(l, (uint32_t)m->interest, n, self->hidden, self->logits);
        for (uint32_t row = 0; row < n; row++) {
            const struct event *event = &b->events[self->events[row]];
            float *p = self->logits + (size_t)row * head->classes;
            int truth = score_truth(head, event);
            if (truth < 0)
                continue;
            float logit = p[truth], surprise = l->kernel->softmax(p, head->classes) - logit;
            surprise = surprise > 0 ? surprise : 0; /* p = 1 but for rounding */
            b->scores[self->events[row]].surprise = surprise;
            if (!event->silent) /* a replayed event has been measured already */
                measure(self, surprise, score_rank(p, head->classes, (uint32_t)truth));
        }
    }
}

/* Whether those who were said to buy did. */
static void watch_outcomes(struct self *self, const struct batch *b)
{
    const struct model *m = b->model;
    if (self->outcomes_model != m->id)
        memset(self->outcomes, 0, sizeof *self->outcomes);
    self->outcomes_model = m->id;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct event *event = &b->events[i];
        float p;
        bool bought;
        if (event->verdict != EVENT_OK || event->silent)
            continue;
        uint64_t hash = event->record->hash;
        if (score_outcome_event(self->outcomes, hash, event->ts_ms, event->type == EVENT_PURCHASE, &p, &bought)) {
            metric_add(self->m_intents, 1);
            metric_add(self->m_squares, ((double)p - bought) * ((double)p - bought));
        }
        if (b->scores[i].publish)
            score_outcome_predict(self->outcomes, hash, event->ts_ms, m->intent_horizon_ms, b->scores[i].intent);
    }
}

/* ---- the module ------------------------------------------------------------------------------------------------- */

static void interest_run(struct instance *in, struct batch *b)
{
    for (uint32_t i = 0; i < b->n; i++) {
        b->scores[i].intent = NAN;
        b->scores[i].surprise = NAN;
    }
    struct instance *stage = engine_instance(in->engine, STAGE_MODEL);
    if (!b->model || !stage)
        return;
    const struct lstm *l = lstm_at_work(stage);
    const struct model *m = l->model;
    scratch_grow(in->self, b->hidden_n, m->interest < 0 ? 1 : m->heads[m->interest].classes);
    if (m->interest >= 0)
        score_before(in, l, b);
    score_after(in, l, b);
    if (m->intent >= 0)
        watch_outcomes(in->self, b);
}

static void interest_close(struct instance *in)
{
    struct self *self = in->self;
    if (!self)
        return;
    free(self->hidden);
    free(self->logits);
    free(self->outcomes);
    free(self);
    in->self = NULL;
}

static const struct metric interest_metrics[] = {
    {"gait_model_predictions_total", METRIC_COUNTER, NULL,
     "Events whose category (or item) was predicted before it was seen; replayed ones do not count."},
    {"gait_model_log_loss_total", METRIC_COUNTER, NULL,
     "Sum of -ln p(what came true) over those; divided by their number it is the log loss in nats."},
    {"gait_model_reciprocal_ranks_total", METRIC_COUNTER, NULL,
     "Sum of 1 / rank of what came true over those; divided by their number it is the mean reciprocal rank."},
    {"gait_model_hits_total", METRIC_COUNTER, "k",
     "Of those, how many had the truth among the k likeliest; divided by their number it is recall@k."},
    {"gait_model_intents_total", METRIC_COUNTER, NULL,
     "Predictions of intent, of a sample of users, whose horizon is over."},
    {"gait_model_intent_squares_total", METRIC_COUNTER, NULL,
     "Sum of (p - outcome)² over those, the outcome being 1 for a purchase within the horizon; divided by their "
     "number it is the Brier score."},
    {NULL, 0, NULL, NULL},
};

static int interest_open(struct instance *in, bool check, struct error *err)
{
    (void)check;
    (void)err;
    struct self *self = in->self = calloc(1, sizeof *self);
    assert(self);
    self->outcomes = calloc(1, sizeof *self->outcomes);
    assert(self->outcomes);
    self->m_intents = metric_cell(in->metrics, "gait_model_intents_total", NULL);
    self->m_squares = metric_cell(in->metrics, "gait_model_intent_squares_total", NULL);
    self->m_predictions = metric_cell(in->metrics, "gait_model_predictions_total", NULL);
    self->m_log_loss = metric_cell(in->metrics, "gait_model_log_loss_total", NULL);
    self->m_reciprocal = metric_cell(in->metrics, "gait_model_reciprocal_ranks_total", NULL);
    for (int i = 0; i < SCORE_RECALLS; i++) {
        char k[16];
        snprintf(k, sizeof k, "%u", score_recall_at[i]);
        self->m_recall[i] = metric_cell(in->metrics, "gait_model_hits_total", k);
    }
    return 0;
}

static const struct option interest_options[] = {
    {.name = "top", .type = OPTION_INT, .offset = offsetof(struct conf, top), .initial = "5", .min = 1, .max = TOP_MAX,
     .help = "How many interests a score names, the likeliest first."},
    {.name = "publish", .type = OPTION_ENUM, .offset = offsetof(struct conf, publish), .initial = "all",
     .choices = publish_names,
     .help = "all: a score for every event. latest: only for each user's last event of a batch, which is all that a "
             "reader of the newest state needs, and saves most of the output of busy users."},
    {.name = NULL},
};

const struct module score_interest = {
    .name = "score_interest",
    .summary = "Interests, intent and surprise from the model's state.",
    .stage = STAGE_SCORE,
    .options = interest_options,
    .conf_size = sizeof(struct conf),
    .metrics = interest_metrics,
    .open = interest_open,
    .run = interest_run,
    .close = interest_close,
};
