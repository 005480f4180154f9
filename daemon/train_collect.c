// SPDX-License-Identifier: Apache-2.0
// train_collect.c - runs the engine over event files or a topic and keeps what comes out of the window stage.
#include "train_collect.h"

#include "engine.h"
#include "module.h"
#include "train_kafka.h"

#include "gait/csv.h"

#include <assert.h>
#include <ev.h>
#include <stdlib.h>
#include <string.h>

/* Features that say something in most shops; a configuration without one of the windows does without that feature. */
static const char *const useful_columns[] = {
    "gap", "count.all.5m", "count.all.1h", "count.product_view.24h", "count.search.24h", "count.add_to_cart.1h",
    "count.add_to_cart.24h", "count.remove_from_cart.24h", "count.checkout.24h", "count.purchase.28d",
    "sum.purchase.28d", "distinct.category.1h", "distinct.category.24h", "since.add_to_cart", "since.purchase",
    "since.login", "session.events", "session.seconds", "cart.items", "cart.value", "event.price", "event.quantity",
    "time.day_sin", "time.day_cos", "time.week_sin", "time.week_cos",
};

struct collect {
    const struct train_collect_options *options;
    struct train_collected *out;
    struct train_kafka *kafka;       /* NULL = files */
    int place[MODEL_FEATURES_MAX];
    float row[MODEL_FEATURES_MAX];
};

/* ---- the sink --------------------------------------------------------------------------------------------------- */

static void note_verdict(struct collect *c, const struct event *e)
{
    if (c->out->results[e->verdict]++ == 0 && e->verdict != EVENT_OK)
        snprintf(c->out->example[e->verdict], sizeof c->out->example[0], "%.80s, at byte %lld",
                 e->detail ? e->detail : "the first", (long long)e->offset);
}

static void collect_run(struct instance *in, struct batch *b)
{
    struct collect *c = in->conf;
    struct train_set *set = c->out->set;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct event *e = &b->events[i];
        note_verdict(c, e);
        if (e->verdict != EVENT_OK)
            continue;
        if (c->options->exclude && train_days_has(c->options->exclude, e->ts_ms)) {
            c->out->excluded++;
            continue;
        }
        const double *row = batch_row(b, i);
        for (uint32_t k = 0; k < set->columns_n; k++)
            c->row[k] = (float)row[c->place[k]];
        struct train_event copy = {.user = e->user, .session = e->session, .ts_ms = e->ts_ms, .columns = c->row};
        copy.fields[MODEL_TYPE] = str_of(in->types->name[e->type]);
        copy.fields[MODEL_CATEGORY] = e->category;
        copy.fields[MODEL_ITEM] = e->item;
        copy.fields[MODEL_COUNTRY] = e->country;
        copy.fields[MODEL_CAMPAIGN] = e->campaign;
        copy.fields[MODEL_PAGE] = e->page;
        copy.fields[MODEL_CURRENCY] = e->currency;
        train_set_add(set, &copy);
    }
}

static int collect_open(struct instance *in, bool check, struct error *err)
{
    (void)in, (void)check, (void)err;
    return 0;
}

static const struct module sink_collect = {
    .name = "sink_collect",
    .summary = "Keeps events in memory for training.",
    .stage = STAGE_SINK,
    .open = collect_open,
    .run = collect_run,
};

/* ---- the configuration ------------------------------------------------------------------------------------------ */

static void append_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

/* A configuration that reads the files and keeps state in memory. */
static struct config *file_config(const struct train_collect_options *o, struct config_errors *errors)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    assert(out);
    fputs("source: {file: {paths: [", out);
    for (size_t i = 0; i < o->files_n; i++) {
        fputs(i ? ", " : "", out);
        append_quoted(out, o->files[i]);
    }
    if (o->from_kafka)
        fputs("-", out); /* for the section to be complete; its source is not the one that is opened */
    fputs("]}}\ndecode: {json: {}}\nstore: {memory: {}}\nwindow: {rolling: {}}\n", out);
    fclose(out);
    struct config *config = config_parse(text, len, "train", errors);
    free(text);
    return config;
}

static const struct config_module *module_of(const struct config *config, enum stage stage)
{
    for (size_t i = 0; i < config->modules_n; i++)
        if (config->modules[i].module->stage == stage)
            return &config->modules[i];
    return NULL;
}

static int load_configs(const struct train_collect_options *o, struct config **files, struct config **user,
                        struct error *err)
{
    struct config_errors errors = {0};
    *files = file_config(o, &errors);
    if (*files && o->conf)
        *user = config_load(o->conf, &errors);
    if (*files && (!o->conf || *user))
        return 0;
    const struct config_error *first = &errors.at[0];
    return error_set(err, "%s:%d:%d: %s%s", o->conf ? o->conf : "train", first->line, first->column, first->text,
                     errors.n > 1 ? " (gaitd check says all that is wrong)" : "");
}

/* ---- the run ---------------------------------------------------------------------------------------------------- */

struct loop {
    struct ev_loop *loop;
    struct engine *engine;
    ev_idle idle;
    ev_timer tick;
    const struct collect *collect;
};

static void show_progress(const struct collect *c)
{
    fprintf(stderr, "\rreading: %zu events ", c->out->set->n);
    if (c->kafka) {
        int64_t done, all;
        train_kafka_progress(c->kafka, &done, &all);
        fprintf(stderr, "from %lld of %lld messages ", (long long)done, (long long)all);
    }
}

static void wake(void *self)
{
    struct loop *l = self;
    ev_idle_start(l->loop, &l->idle);
}

static void on_idle(struct ev_loop *loop, ev_idle *w, int events)
{
    struct loop *l = w->data;
    (void)events;
    if (!engine_step(l->engine))
        ev_idle_stop(loop, w);
    if (l->engine->phase == ENGINE_STOPPED)
        ev_break(loop, EVBREAK_ALL);
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int events)
{
    struct loop *l = w->data;
    (void)loop, (void)events;
    engine_tick(l->engine);
    if (train_stop_asked(l->collect->options->stop))
        engine_drain(l->engine, 0);
    if (l->collect->options->show_progress)
        show_progress(l->collect);
}

static void run_engine(struct engine *engine, struct ev_loop *loop, const struct collect *collect)
{
    struct loop l = {.loop = loop, .engine = engine, .collect = collect};
    engine->wake = wake;
    engine->wake_self = &l;
    ev_idle_init(&l.idle, on_idle);
    ev_timer_init(&l.tick, on_tick, 0.1, 0.1);
    l.idle.data = l.tick.data = &l;
    ev_timer_start(loop, &l.tick);
    engine_start(engine);
    ev_run(loop, 0);
    ev_timer_stop(loop, &l.tick);
    ev_idle_stop(loop, &l.idle);
    engine->wake = NULL;
    if (collect->options->show_progress) {
        show_progress(collect);
        fputc('\n', stderr);
    }
}

static int want_columns(struct collect *c, struct engine *engine, const char **names, uint32_t *n, struct error *err)
{
    const struct train_collect_options *o = c->options;
    size_t all = o->default_columns ? sizeof useful_columns / sizeof *useful_columns : o->columns_n;
    if (all > MODEL_FEATURES_MAX)
        return error_set(err, "%zu features; at most %d fit a model", all, MODEL_FEATURES_MAX);
    for (size_t i = 0; i < all; i++) {
        const char *name = o->default_columns ? useful_columns[i] : o->columns[i];
        int place = columns_want(engine->columns, name);
        if (place < 0 && o->default_columns)
            continue;
        if (place < 0) {
            const char *near = columns_nearest(engine->columns, name);
            return error_set(err, "the configuration has no column '%s'%s%s%s", name, near ? "; did you mean '" : "",
                             near ? near : "", near ? "'?" : "");
        }
        c->place[*n] = place;
        names[(*n)++] = name;
    }
    return 0;
}

static int collect_with(struct collect *c, struct config *config, struct error *err)
{
    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
    struct engine *engine = engine_create(config, loop, &clock_system, false, err);
    const char *names[MODEL_FEATURES_MAX];
    uint32_t n = 0;
    int rc = -1;
    if (engine && want_columns(c, engine, names, &n, err) == 0) {
        c->out->set = train_set_create(names, n);
        run_engine(engine, loop, c);
        rc = 0;
    }
    engine_destroy(&engine);
    ev_loop_destroy(loop);
    return rc;
}

static int no_event(const struct train_collected *c, struct error *err)
{
    int most = 0;
    for (int v = 1; v < EVENT_VERDICTS; v++)
        if (c->results[v] > c->results[most])
            most = v;
    if (most == 0)
        return error_set(err, "there is no event to read");
    return error_set(err, "no event could be used; %llu are %s (%s)", (unsigned long long)c->results[most],
                     event_verdict_name((enum event_verdict)most), c->example[most]);
}

static int collect_files(const struct train_collect_options *o, struct train_collected *out, struct error *err)
{
    struct config *files = NULL, *user = NULL;
    if (load_configs(o, &files, &user, err) < 0) {
        config_destroy(&files);
        return -1;
    }
    struct collect collect = {.options = o, .out = out};
    if (o->from_kafka) {
        assert(user);
        collect.kafka = train_kafka_open(user, err);
    }
    if (o->from_kafka && !collect.kafka) {
        config_destroy(&user);
        config_destroy(&files);
        return -1;
    }
    const struct config *own = user ? user : files;
    const struct config_module *window = module_of(own, STAGE_WINDOW);
    struct config_module flow[] = {
        collect.kafka ? train_kafka_source(collect.kafka) : *module_of(files, STAGE_SOURCE),
        *module_of(own, STAGE_DECODE),
        *module_of(files, STAGE_STORE),
        window ? *window : *module_of(files, STAGE_WINDOW),
        {.module = &sink_collect, .name = (char *)"sink.collect", .conf = &collect},
    };
    struct config config = *own;
    config.modules = flow;
    config.modules_n = sizeof flow / sizeof *flow;
    int rc = collect_with(&collect, &config, err);
    struct error broken;
    if (train_kafka_close(&collect.kafka, &broken) < 0 && rc == 0) {
        *err = broken;
        rc = -1;
    }
    if (rc == 0 && out->set->n == 0)
        rc = no_event(out, err);
    config_destroy(&user);
    config_destroy(&files);
    return rc;
}

/* CSV files become pipes of JSON lines. */
static int open_csv(const struct train_collect_options *o, struct csv **csv, const char **paths, struct error *err)
{
    for (size_t i = 0; i < o->files_n; i++) {
        paths[i] = o->files[i];
        if (!csv_is(o->files[i]))
            continue;
        csv[i] = csv_open(o->files[i], o->csv_delimiter, err);
        if (!csv[i])
            return -1;
        paths[i] = csv_path(csv[i]);
    }
    return 0;
}

int train_collect(const struct train_collect_options *asked, struct train_collected *out, struct error *err)
{
    struct train_collect_options o = *asked;
    struct csv **csv = calloc(o.files_n + 1, sizeof *csv);
    const char **paths = calloc(o.files_n + 1, sizeof *paths);
    struct error damage;
    assert(csv && paths);
    o.files = paths;
    memset(out, 0, sizeof *out);
    int rc = open_csv(asked, csv, paths, err);
    if (rc == 0)
        rc = collect_files(&o, out, err);
    for (size_t i = 0; i < o.files_n; i++)
        if (csv_close(&csv[i], &damage) < 0)
            rc = error_set(err, "%s: %s", asked->files[i], damage.text);
    free(csv), free(paths);
    return rc;
}
