// SPDX-License-Identifier: Apache-2.0
// model_challenger.c - a second model in shadow: it sees the same events as the one at work, keeps states of its own
// for them, and is measured on the same predictions. What it says goes nowhere else: no score, no record, no offset
// depends on it. Without a file it costs a call a batch.
//
// Stands beside model_lstm, behind it in the flow. When the challenger is better by the margin with significance
// (sequential_test.h) and may be promoted, its file takes the place of the model's as by `gaitd model install`,
// between two batches, and model_lstm takes it over.
#include "file_mark.h"
#include "model_wave.h"
#include "shadow_measure.h"

#include "gait/challenger.h"
#include "gait/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

enum { WATCH_TICKS = 10, SWEEP_ENTRIES = 2048 };
enum promote { PROMOTE_NEVER, PROMOTE_AUTO };
static const char *const promote_names[] = {[PROMOTE_NEVER] = "never", [PROMOTE_AUTO] = "auto", NULL};

struct conf {
    const char *file;
    double share;
    int64_t bytes, events;
    int promote;
    double margin, alpha;
};

/* A challenger ready to run. .model NULL: there is none. */
struct loaded {
    struct model *model;
    struct lstm *lstm;
    struct model_binding binding;
    struct shadow_table *table;
    struct file_mark mark;
};

struct self {
    struct loaded at_work;
    struct loaded next;          /* between FLOW_PREPARE and FLOW_SWAP */
    bool changes;                /* … and whether it takes the other's place */
    struct file_mark seen;       /* of the file when last looked at, good or not */
    struct wave wave;            /* made with the first challenger */
    struct shadow_measure measure;
    uint64_t opponent;           /* id of the model at work that it is compared with; 0 = begin anew */
    double margin, alpha;        /* with which the comparison began */
    enum challenger_state state;
    const char *why;
    int64_t newest_ms;           /* event time */
    size_t sweep;
    unsigned ticks;
    uint64_t promotions;
    char promoted[17], replaced[17];
    struct metric_cell *m_users, *m_evicted, *m_crowded, *m_rebuilt, *m_p, *m_advantage;
    struct metric_cell *m_loaded, *m_refused, *m_promoted, *m_not_promoted;
};

static const char *const state_names[] = {
    [CHALLENGER_OFF] = "off", [CHALLENGER_WAITING] = "waiting", [CHALLENGER_COMPARING] = "comparing",
    [CHALLENGER_BETTER] = "better", [CHALLENGER_SAME] = "same", [CHALLENGER_INCOMPARABLE] = "incomparable",
};

const char *challenger_state_name(enum challenger_state state)
{
    assert((unsigned)state < sizeof state_names / sizeof *state_names);
    return state_names[state];
}

/* ---- loading ---------------------------------------------------------------------------------------------------- */

static void loaded_free(struct loaded *loaded)
{
    lstm_destroy(&loaded->lstm);
    model_destroy(&loaded->model);
    shadow_table_destroy(&loaded->table);
    *loaded = (struct loaded){0};
}

/* No file is no mistake: it may come later. */
static int loaded_make(struct instance *in, const struct conf *conf, struct loaded *loaded, struct error *err)
{
    struct instance *stage = engine_instance(in->engine, STAGE_MODEL);
    *loaded = (struct loaded){0};
    if (!conf->file)
        return 0;
    if (!file_mark_take(&loaded->mark, conf->file)) /* before reading: a change meanwhile is seen later */
        return errno == ENOENT ? 0 : error_set(err, "file: %s cannot be opened: %s", conf->file, strerror(errno));
    loaded->lstm = wave_model_load(in, conf->file, lstm_at_work(stage)->kernel, &loaded->model, &loaded->binding, err);
    if (!loaded->lstm)
        return error_prefix(err, "file");
    loaded->table = shadow_table_create((size_t)conf->bytes, loaded->lstm->state_floats);
    if (loaded->table)
        return 0;
    loaded_free(loaded);
    return error_set(err, "bytes: there is no memory for a table of this size");
}

/* Between batches. */
static void use(struct instance *in, const struct loaded *next)
{
    struct self *self = in->self;
    const struct conf *conf = in->conf;
    if (self->at_work.model && !next->model)
        log_notice(in->name, "challenger %s is gone", model_id(self->at_work.model));
    loaded_free(&self->at_work);
    self->at_work = *next;
    self->opponent = 0;
    self->state = conf->file ? CHALLENGER_WAITING : CHALLENGER_OFF;
    self->why = NULL;
    self->sweep = 0;
    metric_set(self->m_users, 0);
    metric_set(self->m_p, 1);
    metric_set(self->m_advantage, 0);
    if (!self->at_work.model)
        return;
    if (!self->wave.x)
        wave_create(&self->wave);
    shadow_measure_cells(&self->measure, in->metrics);
    metric_add(self->m_loaded, 1);
    log_notice(in->name, "challenger %s of %s, states of %zu users in %" PRId64 " bytes",
               model_id(self->at_work.model), conf->file, shadow_table_size(self->at_work.table), conf->bytes);
}

/* The file is another one than when last looked at, or is gone. */
static void load_changed(struct instance *in)
{
    struct self *self = in->self;
    const struct conf *conf = in->conf;
    struct file_mark now = {0};
    file_mark_take(&now, conf->file);
    if (file_mark_same(&now, &self->seen))
        return;
    self->seen = now;
    struct loaded next;
    struct error err;
    if (loaded_make(in, conf, &next, &err) == 0) {
        use(in, &next);
        return;
    }
    metric_add(self->m_refused, 1);
    log_error(in->name, "%s%s%s", err.text, self->at_work.model ? "; the challenger before it goes on: " : "",
              self->at_work.model ? model_id(self->at_work.model) : "");
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void prepare(struct instance *in, struct flow_change *change)
{
    struct self *self = in->self;
    const struct conf *old = in->conf, *new = change->conf;
    struct file_mark now = {0};
    if (new->file)
        file_mark_take(&now, new->file);
    self->changes = !same_text(old->file, new->file) || old->bytes != new->bytes ||
                    !file_mark_same(&now, &self->at_work.mark);
    if (!self->changes)
        return;
    if (loaded_make(in, new, &self->next, &change->text) < 0) {
        metric_add(self->m_refused, 1);
        change->refused = true;
    } else if (self->next.model || self->at_work.model) {
        error_set(&change->text, "challenger %s → %s", self->at_work.model ? model_id(self->at_work.model) : "none",
                  self->next.model ? model_id(self->next.model) : "none");
    }
}

static void swap(struct instance *in)
{
    struct self *self = in->self;
    const struct conf *conf = in->conf;
    if (self->changes) {
        self->seen = self->next.mark;
        use(in, &self->next);
        self->next = (struct loaded){0};
        self->changes = false;
    }
    if (self->margin != conf->margin || self->alpha != conf->alpha)
        self->opponent = 0; /* a test's terms are settled before it begins */
}

/* ---- comparing -------------------------------------------------------------------------------------------------- */

/* Against the model at work now. Its own states go on; predictions that wait for their outcome were made beside
 * another one. */
static void begin(struct instance *in, const struct lstm *serving)
{
    struct self *self = in->self;
    const struct conf *conf = in->conf;
    struct error err;
    self->opponent = serving->model->id;
    self->margin = conf->margin;
    self->alpha = conf->alpha;
    self->why = NULL;
    for (size_t i = 0; i < shadow_table_size(self->at_work.table); i++) {
        struct shadow *s = shadow_table_at(self->at_work.table, i);
        if (s)
            s->wait.open = false;
    }
    if (self->opponent == self->at_work.model->id) {
        self->state = CHALLENGER_SAME;
        log_notice(in->name, "challenger %s is the model at work: there is nothing to compare",
                   model_id(serving->model));
    } else if (shadow_measure_begin(&self->measure, serving, self->at_work.lstm, conf->margin, conf->alpha, &err) < 0) {
        self->state = CHALLENGER_INCOMPARABLE;
        log_warning(in->name, "challenger %s cannot be compared: %s", model_id(self->at_work.model), err.text);
    } else {
        self->state = CHALLENGER_COMPARING;
        log_notice(in->name, "challenger %s is compared with model %s", model_id(self->at_work.model),
                   model_id(serving->model));
    }
}

static bool is_shadowed(const struct conf *conf, const struct user *user)
{
    /* Other bits than those that choose a place in the tables. */
    return (double)(uint32_t)(user->hash * 0x9E3779B97F4A7C15u >> 32) < conf->share * 0x1p32;
}

/* The entries of a block's users. Those whose state does not continue where the record stands are rebuilt. Users
 * without an entry are left out. */
static void take_rows(struct instance *in, struct batch *b, const int32_t *events, uint32_t n, struct shadow_rows *rows)
{
    struct self *self = in->self;
    const struct instance *window = engine_instance(in->engine, STAGE_WINDOW);
    struct rebuild plans[WAVE_ROWS_MAX];
    uint32_t plans_n = 0;
    rows->n = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct event *event = &b->events[events[i]];
        bool evicted;
        struct shadow *s = shadow_table_take(self->at_work.table, event->record->hash, b->seq, &evicted);
        metric_add(self->m_evicted, evicted);
        metric_add(self->m_crowded, !s);
        if (!s)
            continue;
        if (s->next == INT64_MIN || (s->seq != b->seq && s->next != event->record->next)) {
            memset(s->state, 0, self->at_work.lstm->state_floats * sizeof *s->state);
            s->wait.open = false;
            plans[plans_n].state = s->state;
            s->warm = window && rebuild_plan(&self->wave, window, b, events[i], &plans[plans_n]) > 0;
            plans_n += s->warm;
        }
        rows->event[rows->n] = (uint32_t)events[i];
        rows->counts[rows->n] = s->warm && b->has_before[events[i]] && !event->silent;
        rows->shadow[rows->n++] = s;
        s->seq = b->seq;
        s->next = event->offset + 1;
        self->newest_ms = event->ts_ms > self->newest_ms ? event->ts_ms : self->newest_ms;
    }
    if (plans_n == 0)
        return;
    metric_add(self->m_rebuilt, plans_n);
    rebuild_run(&self->wave, window, self->at_work.lstm, &self->at_work.binding, in->columns, plans, plans_n);
}

static void run_block(struct instance *in, struct batch *b, const int32_t *events, uint32_t n)
{
    struct self *self = in->self;
    const struct lstm *l = self->at_work.lstm;
    struct shadow_rows rows;
    take_rows(in, b, events, n, &rows);
    shadow_measure_before(&self->measure, b, &rows);
    for (uint32_t row = 0; row < rows.n; row++) {
        uint32_t event = rows.event[row], *at = self->wave.rows + (size_t)row * l->model->embeddings_n;
        self->wave.state[row] = rows.shadow[row]->state;
        model_rows_of_event(&self->at_work.binding, &b->events[event], at);
        lstm_input(l, &self->at_work.binding, at, batch_row(b, event), self->wave.x + (size_t)row * l->input);
        rows.shadow[row]->warm = true;
    }
    lstm_step(l, rows.n, self->wave.rows, self->wave.x, self->wave.state);
    shadow_measure_after(&self->measure, b, &rows);
}

static void challenger_run(struct instance *in, struct batch *b)
{
    struct self *self = in->self;
    const struct conf *conf = in->conf;
    if (!self->at_work.model)
        return;
    const struct lstm *serving = lstm_at_work(engine_instance(in->engine, STAGE_MODEL));
    if (self->opponent != serving->model->id)
        begin(in, serving);
    if (self->state != CHALLENGER_COMPARING && self->state != CHALLENGER_BETTER)
        return;
    self->measure.lstm[SHADOW_SERVING] = serving;
    self->measure.lstm[SHADOW_CHALLENGER] = self->at_work.lstm;
    struct wave *w = &self->wave;
    wave_grow(w, b->cap, columns_width(in->columns));
    uint32_t all = wave_first(w, b), n = 0;
    for (uint32_t i = 0; i < all; i++)
        if (is_shadowed(conf, b->events[w->events[i]].record))
            w->events[n++] = w->events[i];
    for (; n > 0; n = wave_next(w, b, n))
        for (uint32_t from = 0; from < n; from += WAVE_ROWS_MAX)
            run_block(in, b, w->events + from, n - from < WAVE_ROWS_MAX ? n - from : WAVE_ROWS_MAX);
}

/* ---- promotion -------------------------------------------------------------------------------------------------- */

/* The challenger's file goes out of the way: a restart, or a rollback, must not begin the same contest again. */
static void put_away(struct instance *in)
{
    struct self *self = in->self;
    const struct conf *conf = in->conf;
    char *promoted = model_path_with(conf->file, ".promoted");
    if (rename(conf->file, promoted) < 0)
        log_error(in->name, "cannot rename %s to %s: %s", conf->file, promoted, strerror(errno));
    free(promoted);
    self->seen = (struct file_mark){0};
    file_mark_take(&self->seen, conf->file);
    use(in, &(struct loaded){0});
}

/* Puts it in place on the disk, as `gaitd model install` does, and has the model stage take it over. -1 with a text;
 * everything is then as before. */
static int install(struct instance *in, struct instance *stage, struct error *err)
{
    struct self *self = in->self;
    const char *path = lstm_path(stage);
    uint32_t needed = self->at_work.lstm->state_floats;
    if (needed > lstm_state_room(stage))
        return error_set(err, "a user's state would take %u numbers and the records have room for %u: put it in place "
                         "by hand (gaitd model install) and restart", needed, lstm_state_room(stage));
    if (model_install(self->at_work.model, path, err) < 0)
        return -1;
    if (lstm_renew(stage) && lstm_at_work(stage)->model->id == self->at_work.model->id)
        return 0;
    char *previous = model_path_with(path, ".previous");
    int back = model_link_over(previous, path, err);
    free(previous);
    return back < 0 ? -1 : error_set(err, "the model stage refused %s", path);
}

static void promote(struct instance *in)
{
    struct self *self = in->self;
    struct instance *stage = engine_instance(in->engine, STAGE_MODEL);
    struct error err;
    struct model *place = model_load(lstm_path(stage), NULL);
    bool settled = place && place->id == lstm_at_work(stage)->model->id;
    model_destroy(&place);
    if (!settled) { /* somebody is putting another model in place just now: the comparison will begin anew */
        log_often(LOG_WARNING, in->name, "the model at work is not the one at %s: waiting with the promotion",
                  lstm_path(stage));
        return;
    }
    char before[sizeof self->replaced], now[sizeof self->promoted];
    snprintf(before, sizeof before, "%s", model_id(lstm_at_work(stage)->model));
    snprintf(now, sizeof now, "%s", model_id(self->at_work.model));
    if (install(in, stage, &err) < 0) {
        metric_add(self->m_not_promoted, 1);
        self->why = "it could not be put in place; the log says why";
        log_error(in->name, "challenger %s is better, but not promoted: %s", now, err.text);
        return;
    }
    memcpy(self->replaced, before, sizeof before);
    memcpy(self->promoted, now, sizeof now);
    self->promotions++;
    metric_add(self->m_promoted, 1);
    log_notice(in->name, "challenger %s promoted in the place of %s: log loss lower by %.4f over %" PRIu64
               " events, p = %.2g; gaitd model rollback takes it back", now, before, self->measure.test.mean,
               self->measure.test.n, sequential_test_p(&self->measure.test));
    put_away(in);
}

static void decide(struct instance *in)
{
    struct self *self = in->self;
    const struct conf *conf = in->conf;
    const struct sequential_test *test = &self->measure.test;
    if (self->state == CHALLENGER_COMPARING && sequential_test_decided(test) && test->n >= (uint64_t)conf->events) {
        self->state = CHALLENGER_BETTER;
        log_notice(in->name, "challenger %s is better than model %s: log loss lower by %.4f over %" PRIu64
                   " events, p = %.2g", model_id(self->at_work.model),
                   model_id(lstm_at_work(engine_instance(in->engine, STAGE_MODEL))->model), test->mean, test->n,
                   sequential_test_p(test));
    }
    if (self->state == CHALLENGER_BETTER && conf->promote == PROMOTE_AUTO && !self->why &&
        self->ticks % WATCH_TICKS == 0)
        promote(in);
}

/* Predictions of intent whose users stay away get their answer, too; a slice of the table at a time. */
static void sweep(struct self *self)
{
    size_t size = shadow_table_size(self->at_work.table);
    for (size_t i = 0; i < SWEEP_ENTRIES && i < size; i++) {
        struct shadow *s = shadow_table_at(self->at_work.table, self->sweep);
        self->sweep = (self->sweep + 1) % size;
        if (s)
            shadow_measure_wait(&self->measure, s, self->newest_ms);
    }
}

static void tick(struct instance *in)
{
    struct self *self = in->self;
    const struct conf *conf = in->conf;
    if (conf->file && ++self->ticks % WATCH_TICKS == 0)
        load_changed(in);
    if (self->state != CHALLENGER_COMPARING && self->state != CHALLENGER_BETTER)
        return;
    sweep(self);
    metric_set(self->m_users, (double)shadow_table_used(self->at_work.table));
    metric_set(self->m_p, sequential_test_p(&self->measure.test));
    metric_set(self->m_advantage, self->measure.test.mean);
    /* The model at work may have changed since the last batch: only what was compared with it counts. */
    if (self->opponent == lstm_at_work(engine_instance(in->engine, STAGE_MODEL))->model->id)
        decide(in);
}

static void challenger_flow(struct instance *in, const struct flow *flow)
{
    struct self *self = in->self;
    if (flow->kind == FLOW_PREPARE)
        prepare(in, flow->change);
    else if (flow->kind == FLOW_SWAP)
        swap(in);
    else if (flow->kind == FLOW_DISCARD)
        loaded_free(&self->next);
    else if (flow->kind == FLOW_TICK)
        tick(in);
    else if (flow->kind == FLOW_ERASE && self->at_work.table)
        shadow_table_forget(self->at_work.table, flow->erasure->user->hash);
}

/* ---- status ----------------------------------------------------------------------------------------------------- */

static struct challenger_figures figures_of(const struct shadow_tally *t)
{
    struct challenger_figures f;
    double n = t->n ? (double)t->n : NAN;
    f.log_loss = t->loss / n;
    f.reciprocal_rank = t->reciprocal / n;
    for (int k = 0; k < SCORE_RECALLS; k++)
        f.recall[k] = t->hits[k] / n;
    f.brier = t->intents ? t->squares / (double)t->intents : NAN;
    return f;
}

void challenger_status(const struct instance *challenger, struct challenger_status *out)
{
    const struct self *self = challenger->self;
    const struct conf *conf = challenger->conf;
    const struct sequential_test *test = &self->measure.test;
    bool compared = self->state == CHALLENGER_COMPARING || self->state == CHALLENGER_BETTER;
    static const struct shadow_tally none;
    *out = (struct challenger_status){
        .state = self->state, .path = conf->file, .model = self->at_work.model, .why = self->why,
        .promotes = conf->promote == PROMOTE_AUTO, .share = conf->share, .margin = conf->margin, .alpha = conf->alpha,
        .pairs = compared ? test->n : 0, .intents = compared ? self->measure.tally[0].intents : 0,
        .advantage = compared && test->n ? test->mean : NAN, .p = compared ? sequential_test_p(test) : 1,
        .serving = figures_of(compared ? &self->measure.tally[SHADOW_SERVING] : &none),
        .challenger = figures_of(compared ? &self->measure.tally[SHADOW_CHALLENGER] : &none),
        .users = self->at_work.table ? shadow_table_used(self->at_work.table) : 0,
        .users_max = self->at_work.table ? shadow_table_size(self->at_work.table) : 0, .promotions = self->promotions,
    };
    memcpy(out->promoted, self->promoted, sizeof out->promoted);
    memcpy(out->replaced, self->replaced, sizeof out->replaced);
}

/* ---- the module ------------------------------------------------------------------------------------------------- */

static void challenger_close(struct instance *in)
{
    struct self *self = in->self;
    if (!self)
        return;
    loaded_free(&self->at_work);
    loaded_free(&self->next);
    wave_free(&self->wave);
    shadow_measure_free(&self->measure);
    free(self);
    in->self = NULL;
}

static const struct metric challenger_metrics[] = {
    {"gait_challenger_users", METRIC_GAUGE, NULL, "Users whose state under the challenger is kept."},
    {"gait_challenger_evicted_users_total", METRIC_COUNTER, NULL,
     "Users whose state under the challenger had to go for another's; it is rebuilt at their next event."},
    {"gait_challenger_crowded_events_total", METRIC_COUNTER, NULL,
     "Events that the challenger passed over, because its table had no room beside the same batch's users."},
    {"gait_challenger_rebuilt_users_total", METRIC_COUNTER, NULL,
     "Users whose state under the challenger was rebuilt from the ring of last events."},
    {"gait_challenger_p_value", METRIC_GAUGE, NULL,
     "How likely evidence as good for the challenger would be if it were not better by the margin, 0 to 1; valid "
     "however often it is looked at."},
    {"gait_challenger_advantage_nats", METRIC_GAUGE, NULL,
     "Mean log loss of the model at work minus the challenger's on the same events, each difference clipped to 4, in "
     "nats."},
    {"gait_challenger_loads_total", METRIC_COUNTER, "result", "Challengers' files loaded, by result."},
    {"gait_challenger_promotions_total", METRIC_COUNTER, "result",
     "Challengers that were better and could take the model's place, or could not: promoted or failed."},
    {NULL, 0, NULL, NULL},
};

/* A challenger that cannot be used keeps nobody from serving: it is said, and the daemon begins without it. */
static int challenger_open(struct instance *in, bool check, struct error *err)
{
    (void)check;
    (void)err;
    const struct conf *conf = in->conf;
    struct self *self = in->self = calloc(1, sizeof *self);
    struct loaded first;
    struct error why;
    assert(self);
    self->m_users = metric_cell(in->metrics, "gait_challenger_users", NULL);
    self->m_evicted = metric_cell(in->metrics, "gait_challenger_evicted_users_total", NULL);
    self->m_crowded = metric_cell(in->metrics, "gait_challenger_crowded_events_total", NULL);
    self->m_rebuilt = metric_cell(in->metrics, "gait_challenger_rebuilt_users_total", NULL);
    self->m_p = metric_cell(in->metrics, "gait_challenger_p_value", NULL);
    self->m_advantage = metric_cell(in->metrics, "gait_challenger_advantage_nats", NULL);
    self->m_loaded = metric_cell(in->metrics, "gait_challenger_loads_total", "loaded");
    self->m_refused = metric_cell(in->metrics, "gait_challenger_loads_total", "refused");
    self->m_promoted = metric_cell(in->metrics, "gait_challenger_promotions_total", "promoted");
    self->m_not_promoted = metric_cell(in->metrics, "gait_challenger_promotions_total", "failed");
    if (loaded_make(in, conf, &first, &why) < 0) {
        metric_add(self->m_refused, 1);
        log_warning(in->name, "%s; going on without a challenger", why.text);
        first = (struct loaded){0};
    }
    if (conf->file)
        file_mark_take(&self->seen, conf->file);
    use(in, &first);
    return 0;
}

static const struct option challenger_options[] = {
    {.name = "file", .type = OPTION_PATH, .offset = offsetof(struct conf, file),
     .help = "A model file to run in shadow: it sees the same events as the model at work and is measured on the same "
             "predictions, and nothing else depends on it. The file is looked at every second; it may come, change and "
             "go. Not set: no challenger."},
    {.name = "share", .type = OPTION_REAL, .offset = offsetof(struct conf, share), .initial = "1", .min = 0, .max = 1,
     .help = "Share of the users whom the challenger sees, chosen by a hash of partition and user."},
    {.name = "bytes", .type = OPTION_BYTES, .offset = offsetof(struct conf, bytes), .initial = "64MB", .min = 1 << 16,
     .max = 0x1p43,
     .help = "Bound on the table of users' states under the challenger. They are not saved: a user beyond it, or after "
             "a restart, has the state rebuilt from the ring of last events."},
    {.name = "promote", .type = OPTION_ENUM, .offset = offsetof(struct conf, promote), .initial = "never",
     .choices = promote_names,
     .help = "auto: a challenger that is better by the margin with significance takes the model's place, as by gaitd "
             "model install, and its file is renamed to FILE.promoted; gaitd model rollback takes it back. never: it "
             "is only said. Each daemon decides for itself and changes its own model.lstm.path, so with auto the "
             "daemons of a group are to share that folder: on several machines a new daemon with another model than "
             "the rest is refused its partitions."},
    {.name = "margin", .type = OPTION_REAL, .offset = offsetof(struct conf, margin), .initial = "0.01", .min = 0,
     .max = 2, .help = "By how much the challenger's log loss has to be lower, in nats an event."},
    {.name = "alpha", .type = OPTION_REAL, .offset = offsetof(struct conf, alpha), .initial = "0.01", .min = 1e-9,
     .max = 0.5,
     .help = "Most probability with which a challenger that is not better by the margin is ever found to be. It holds "
             "for one daemon: of several that share the file, each looks for itself."},
    {.name = "events", .type = OPTION_INT, .offset = offsetof(struct conf, events), .initial = "1000", .min = 1,
     .max = 1e12, .help = "Fewest compared events before a challenger is found better, whatever the evidence."},
    {.name = NULL},
};

const struct module model_challenger = {
    .name = "model_challenger",
    .summary = "Runs a second model in shadow beside the one at work, and tells which is better.",
    .stage = STAGE_MODEL,
    .beside = "lstm",
    .options = challenger_options,
    .conf_size = sizeof(struct conf),
    .metrics = challenger_metrics,
    .shared_metrics = shadow_metrics,
    .open = challenger_open,
    .run = challenger_run,
    .flow = challenger_flow,
    .close = challenger_close,
};
