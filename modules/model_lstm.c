// SPDX-License-Identifier: Apache-2.0
// model_lstm.c - the model stage: advances each user's LSTM state by one step for each event, in waves.
//
// The k-th event of every user in the batch forms a wave: no user twice in it, so the wave is one matrix
// multiplication, and each user's events stay in order. The state (h and c of each layer) lies in the user's record
// with the id of the model that made it. A record with another model's state, or with none, is rebuilt from the ring
// of last events before its first event of the batch: a new model does not begin cold, and a bad model's states do
// not outlive it.
//
// The module owns the model; batches borrow it until they end. A changed file is loaded beside the model at work and
// takes its place between two batches, or is refused with a text while the old one goes on; a reload of the
// configuration does the same, together with all that changes elsewhere.
#include "file_mark.h"
#include "model_wave.h"

#include "gait/cpu.h"
#include "gait/log.h"
#include "gait/lstm.h"
#include "gait/module.h"
#include "gait/window.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { PREFETCH_ROWS = 6, LINE = 64, WATCH_TICKS = 10 };

struct conf {
    const char *path;
    int kernel;
    bool watch;
};

/* A model ready to run: complete before it takes the other's place. */
struct loaded {
    struct model *model;
    struct lstm *lstm;
    struct model_binding binding;
    struct file_mark mark;        /* of the file it came from */
};

/* A record's section. */
struct section {
    uint64_t model_id;  /* whose state it is; 0 = none yet */
    uint64_t reserved;  /* the state begins on a multiple of 16 bytes */
    float state[];
};

struct self {
    const struct lstm_kernel *kernel;
    struct loaded at_work;
    struct loaded next;           /* between FLOW_PREPARE and FLOW_SWAP; .model NULL = at_work stays */
    uint32_t state_max;           /* floats that the section has room for */
    struct file_mark seen;        /* of the file when last looked at, good or not */
    unsigned ticks;
    struct wave wave;
    struct metric_cell *m_steps, *m_rebuilt, *m_rebuild_steps, *m_unknown, *m_loaded, *m_refused;
};

/* ---- loading ---------------------------------------------------------------------------------------------------- */

static void loaded_free(struct loaded *loaded)
{
    lstm_destroy(&loaded->lstm);
    model_destroy(&loaded->model);
}

static int loaded_make(struct instance *in, const char *path, struct loaded *loaded, struct error *err)
{
    struct self *self = in->self;
    *loaded = (struct loaded){0};
    if (!file_mark_take(&loaded->mark, path)) /* before reading: a change meanwhile is seen later */
        return error_set(err, "model %s: cannot be opened: %s", path, strerror(errno));
    loaded->lstm = wave_model_load(in, path, self->kernel, &loaded->model, &loaded->binding, err);
    if (!loaded->lstm)
        return -1;
    if (self->state_max && loaded->lstm->state_floats > self->state_max) {
        error_set(err, "model %s: a user's state would take %u numbers; the records were laid out for %u when the "
                  "daemon started: restart it", path, loaded->lstm->state_floats, self->state_max);
        loaded_free(loaded);
        return -1;
    }
    return 0;
}

/* Between batches, so nobody borrows the old one. */
static void use(struct instance *in, const struct loaded *next)
{
    struct self *self = in->self;
    metric_add(self->m_loaded, 1);
    log_notice(in->name, "model %s takes the place of %s", model_id(next->model), model_id(self->at_work.model));
    loaded_free(&self->at_work);
    self->at_work = *next;
}

static bool load_changed(struct instance *in)
{
    struct self *self = in->self;
    struct loaded next;
    struct error err;
    if (loaded_make(in, ((const struct conf *)in->conf)->path, &next, &err) == 0) {
        use(in, &next);
        return true;
    }
    metric_add(self->m_refused, 1);
    log_error(in->name, "%s; model %s goes on", err.text, model_id(self->at_work.model));
    return false;
}

bool lstm_renew(struct instance *model)
{
    struct self *self = model->self;
    const struct conf *conf = model->conf;
    return !file_mark_renewed(&self->seen, conf->path) || load_changed(model);
}

uint32_t lstm_state_room(const struct instance *model)
{
    return ((const struct self *)model->self)->state_max;
}

const char *lstm_path(const struct instance *model)
{
    return ((const struct conf *)model->conf)->path;
}

/* A reload reads the file unless it is the very one that is at work. */
static void prepare(struct instance *in, struct flow_change *change)
{
    struct self *self = in->self;
    const struct conf *old = in->conf, *new = change->conf;
    struct file_mark now = {0};
    if (strcmp(old->path, new->path) == 0 && file_mark_take(&now, new->path) &&
        file_mark_same(&now, &self->at_work.mark))
        return;
    if (loaded_make(in, new->path, &self->next, &change->text) < 0) {
        metric_add(self->m_refused, 1);
        change->refused = true;
    } else if (self->next.model->id != self->at_work.model->id) {
        error_set(&change->text, "model %s → %s", model_id(self->at_work.model), model_id(self->next.model));
    }
}

static void swap(struct instance *in)
{
    struct self *self = in->self;
    if (!self->next.model)
        return;
    self->seen = self->next.mark;
    use(in, &self->next);
    self->next = (struct loaded){0};
}

const struct lstm *lstm_at_work(const struct instance *model)
{
    return ((const struct self *)model->self)->at_work.lstm;
}

/* ---- one block of rows ------------------------------------------------------------------------------------------ */

static struct section *section_of(const struct instance *in, struct user *user)
{
    return user_section(user, in->user_offset);
}

const float *lstm_user_hidden(const struct instance *model, struct user *user)
{
    const struct lstm *l = lstm_at_work(model);
    const struct section *section = section_of(model, user);
    return section->model_id == l->model->id ? section->state + l->h_at[l->model->layers_n - 1] : NULL;
}

static void prefetch_section(const struct instance *in, const struct batch *b, int32_t event, uint32_t floats)
{
    const char *at = user_section(b->events[event].record, in->user_offset);
    for (size_t byte = 0; byte < sizeof(struct section) + floats * sizeof(float); byte += LINE)
        __builtin_prefetch(at + byte, 1);
}

static void rows_unknown(struct self *self, const struct event *event, const uint32_t *rows)
{
    const struct model *m = self->at_work.model;
    for (uint32_t e = 0; e < m->embeddings_n; e++)
        if (rows[e] == 0 && (m->embeddings[e].field == MODEL_CATEGORY ? event->category.len > 0
                             : m->embeddings[e].field == MODEL_ITEM   ? event->item.len > 0
                                                                      : false))
            metric_add(self->m_unknown, 1);
}

/* The state before the step, and the step's inputs. */
static void gather_block(struct instance *in, struct batch *b, const int32_t *events, uint32_t n)
{
    struct self *self = in->self;
    const struct lstm *l = self->at_work.lstm;
    const struct model *m = l->model;
    uint32_t width = b->hidden_n;
    size_t top = l->h_at[m->layers_n - 1];
    for (uint32_t row = 0; row < n; row++) {
        if (row + PREFETCH_ROWS < n)
            prefetch_section(in, b, events[row + PREFETCH_ROWS], l->state_floats);
        int32_t i = events[row];
        struct section *section = section_of(in, b->events[i].record);
        uint32_t *rows = self->wave.rows + (size_t)row * m->embeddings_n;
        self->wave.state[row] = section->state;
        b->has_before[i] = section->model_id == m->id;
        if (!b->has_before[i]) { /* nothing in the ring to rebuild it from: the user's first event */
            memset(section->state, 0, l->state_floats * sizeof *section->state);
            section->model_id = m->id;
        }
        memcpy(b->hidden_before + (size_t)i * width, section->state + top, width * sizeof(float));
        model_rows_of_event(&self->at_work.binding, &b->events[i], rows);
        rows_unknown(self, &b->events[i], rows);
        lstm_input(l, &self->at_work.binding, rows, batch_row(b, (uint32_t)i), self->wave.x + (size_t)row * l->input);
    }
}

static void run_block(struct instance *in, struct batch *b, const int32_t *events, uint32_t n)
{
    struct self *self = in->self;
    const struct lstm *l = self->at_work.lstm;
    size_t top = l->h_at[l->model->layers_n - 1];
    gather_block(in, b, events, n);
    lstm_step(l, n, self->wave.rows, self->wave.x, self->wave.state);
    for (uint32_t row = 0; row < n; row++)
        memcpy(b->hidden + (size_t)events[row] * b->hidden_n, self->wave.state[row] + top, b->hidden_n * sizeof(float));
}

/* ---- rebuilding from the ring ----------------------------------------------------------------------------------- */

/* Users in this block of a wave whose state is not this model's. Without anything in the ring they stay as they are. */
static void rebuild_block(struct instance *in, struct batch *b, const int32_t *events, uint32_t n)
{
    struct self *self = in->self;
    const struct lstm *l = self->at_work.lstm;
    const struct instance *window = engine_instance(in->engine, STAGE_WINDOW);
    struct rebuild plans[WAVE_ROWS_MAX];
    uint32_t plans_n = 0;
    for (uint32_t row = 0; row < n && window; row++) {
        struct section *section = section_of(in, b->events[events[row]].record);
        if (section->model_id == l->model->id)
            continue;
        plans[plans_n].state = section->state;
        if (rebuild_plan(&self->wave, window, b, events[row], &plans[plans_n]) == 0)
            continue;
        memset(section->state, 0, l->state_floats * sizeof *section->state);
        section->model_id = l->model->id;
        plans_n++;
    }
    if (plans_n == 0)
        return;
    metric_add(self->m_rebuilt, plans_n);
    metric_add(self->m_rebuild_steps, (double)rebuild_run(&self->wave, window, l, &self->at_work.binding, in->columns,
                                                          plans, plans_n));
}

/* ---- the batch -------------------------------------------------------------------------------------------------- */

static void lstm_run(struct instance *in, struct batch *b)
{
    struct self *self = in->self;
    b->model = self->at_work.model;
    batch_hidden(b, model_hidden(b->model));
    wave_grow(&self->wave, b->cap, columns_width(in->columns));
    uint32_t n = wave_first(&self->wave, b);
    for (bool first = true; n > 0; first = false) {
        for (uint32_t from = 0; from < n; from += WAVE_ROWS_MAX) {
            uint32_t rows = n - from < WAVE_ROWS_MAX ? n - from : WAVE_ROWS_MAX;
            for (uint32_t row = 0; row < rows && row < PREFETCH_ROWS; row++)
                prefetch_section(in, b, self->wave.events[from + row], self->at_work.lstm->state_floats);
            if (first)
                rebuild_block(in, b, self->wave.events + from, rows);
            run_block(in, b, self->wave.events + from, rows);
        }
        metric_add(self->m_steps, n);
        n = wave_next(&self->wave, b, n);
    }
}

static void lstm_flow(struct instance *in, const struct flow *flow)
{
    struct self *self = in->self;
    const struct conf *conf = in->conf;
    if (flow->kind == FLOW_PREPARE)
        prepare(in, flow->change);
    else if (flow->kind == FLOW_SWAP)
        swap(in);
    else if (flow->kind == FLOW_DISCARD)
        loaded_free(&self->next);
    else if (flow->kind == FLOW_TICK && conf->watch && ++self->ticks % WATCH_TICKS == 0)
        lstm_renew(in);
}

/* u64 model id, u32 floats, floats. A state of another size is another model's: it is passed over, and rebuilt. */
static void lstm_record(struct instance *in, struct user *user, struct record_io *io)
{
    struct self *self = in->self;
    struct section *section = section_of(in, user);
    uint32_t expected = self->at_work.lstm->state_floats, n = section->model_id ? expected : 0;
    if (io->writing && section->model_id != self->at_work.model->id)
        n = 0;
    uint64_t id = n ? section->model_id : 0;
    record_u64(io, &id);
    record_u32(io, &n);
    if (io->failed || io->writing) {
        record_f32s(io, section->state, io->failed ? 0 : n);
        return;
    }
    if (n > (size_t)(io->end - io->at) / sizeof(float)) {
        io->failed = true;
        return;
    }
    if (n != expected || id != self->at_work.model->id) {
        io->at += n * sizeof(float);
        section->model_id = 0;
        return;
    }
    record_f32s(io, section->state, n);
    section->model_id = id;
}

static void lstm_close(struct instance *in)
{
    struct self *self = in->self;
    if (!self)
        return;
    loaded_free(&self->at_work);
    loaded_free(&self->next);
    wave_free(&self->wave);
    free(self);
    in->self = NULL;
}

static const struct metric lstm_metrics[] = {
    {"gait_model_steps_total", METRIC_COUNTER, NULL, "LSTM steps: one for each event."},
    {"gait_model_rebuilt_users_total", METRIC_COUNTER, NULL,
     "Users whose state was rebuilt from the ring of last events."},
    {"gait_model_rebuild_steps_total", METRIC_COUNTER, NULL, "LSTM steps spent on rebuilding."},
    {"gait_model_unknown_names_total", METRIC_COUNTER, NULL,
     "Categories and items of events that the model's vocabulary does not have."},
    {"gait_model_loads_total", METRIC_COUNTER, "result", "Model files loaded while running, by result."},
    {NULL, 0, NULL, NULL},
};

static int lstm_open(struct instance *in, bool check, struct error *err)
{
    (void)check;
    const struct conf *conf = in->conf;
    struct self *self = in->self = calloc(1, sizeof *self);
    assert(self);
    self->kernel = lstm_kernel_find(lstm_kernel_names[conf->kernel], cpu_features(), err);
    if (!self->kernel)
        return -1;
    if (loaded_make(in, conf->path, &self->at_work, err) < 0)
        return error_prefix(err, "path");
    self->seen = self->at_work.mark;
    const struct lstm *l = self->at_work.lstm;
    self->state_max = l->state_floats;
    in->user_size = sizeof(struct section) + l->state_floats * sizeof(float);
    wave_create(&self->wave);
    self->m_steps = metric_cell(in->metrics, "gait_model_steps_total", NULL);
    self->m_rebuilt = metric_cell(in->metrics, "gait_model_rebuilt_users_total", NULL);
    self->m_rebuild_steps = metric_cell(in->metrics, "gait_model_rebuild_steps_total", NULL);
    self->m_unknown = metric_cell(in->metrics, "gait_model_unknown_names_total", NULL);
    self->m_loaded = metric_cell(in->metrics, "gait_model_loads_total", "loaded");
    self->m_refused = metric_cell(in->metrics, "gait_model_loads_total", "refused");
    log_notice(in->name, "model %s of %s, kernel %s", model_id(self->at_work.model), conf->path, self->kernel->name);
    return 0;
}

static const struct option lstm_options[] = {
    {.name = "path", .type = OPTION_PATH, .offset = offsetof(struct conf, path), .flags = OPTION_REQUIRED,
     .help = "The model file, made by gaitd train: safetensors."},
    {.name = "kernel", .type = OPTION_ENUM, .offset = offsetof(struct conf, kernel), .initial = "auto",
     .choices = lstm_kernel_names, .flags = OPTION_RESTART,
     .help = "Which instructions compute the model. auto takes the widest that processor and system allow."},
    {.name = "watch", .type = OPTION_BOOL, .offset = offsetof(struct conf, watch), .initial = "true",
     .help = "Look at the file every second and take over a new model between two batches. A file that cannot be "
             "loaded is refused with a line in the log, and the old model goes on."},
    {.name = NULL},
};

const struct module model_lstm = {
    .name = "model_lstm",
    .summary = "Advances each user's LSTM state by one step for each event.",
    .stage = STAGE_MODEL,
    .options = lstm_options,
    .conf_size = sizeof(struct conf),
    .metrics = lstm_metrics,
    .record_version = 1,
    .open = lstm_open,
    .run = lstm_run,
    .flow = lstm_flow,
    .record = lstm_record,
    .close = lstm_close,
};
