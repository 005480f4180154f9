// SPDX-License-Identifier: Apache-2.0
// check_tests.c - runs one test of a configuration: a real engine with the file's decode, window, model, score and
// rule; source, store and sinks lie in memory. Every test begins with an empty store.
#include "check_compare.h"
#include "config_tests.h"
#include "engine.h"
#include "module.h"

#include "gait/output.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum { RUN_SECONDS_MAX = 60, COLUMNS_MAX = 256 };

struct line {
    char *at;
    size_t len;
};

/* A column that the test asks for. */
struct wanted {
    const char *user, *name;
    int place;
};

struct run {
    const struct config_test *test;
    const char *folder;        /* of the configuration, for files with events */
    int folder_len;
    struct line *lines;
    size_t lines_n, lines_cap, next;
    bool assigned, started;
    json_t *scores, *alerts, *dead_letters, *windows; /* what came out */
    struct wanted wanted[COLUMNS_MAX];
    size_t wanted_n;
    char *buffer;
    size_t buffer_bytes;
};

/* ---- events in --------------------------------------------------------------------------------------------------- */

static json_t *scalar_json(const struct node *node)
{
    const char *text = node->text;
    char *end;
    if (node->quoted)
        return json_string(text);
    if (node_is_null(node))
        return json_null();
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        return json_boolean(*text == 't');
    if (strspn(text, "0123456789+-.eE") < strlen(text)) /* not "inf", "0x1f" or a name */
        return json_string(text);
    errno = 0;
    long long integer = strtoll(text, &end, 10);
    if (*end == 0 && errno == 0)
        return json_integer(integer);
    double real = strtod(text, &end);
    return *end == 0 && isfinite(real) ? json_real(real) : json_string(text);
}

static json_t *node_json(const struct node *node)
{
    if (node->kind == NODE_SCALAR)
        return scalar_json(node);
    json_t *json = node->kind == NODE_MAP ? json_object() : json_array();
    for (const struct node *child = node->children; child; child = child->next) {
        if (node->kind == NODE_MAP)
            json_object_set_new(json, child->key->text, node_json(child));
        else
            json_array_append_new(json, node_json(child));
    }
    return json;
}

static void add_line(struct run *run, char *text, size_t len)
{
    if (run->lines_n == run->lines_cap) {
        run->lines_cap = run->lines_cap ? 2 * run->lines_cap : 64;
        run->lines = realloc(run->lines, run->lines_cap * sizeof *run->lines);
        assert(run->lines);
    }
    assert(text);
    run->lines[run->lines_n++] = (struct line){text, len};
}

static int add_file(struct run *run, const char *name, struct error *err)
{
    char path[4096], *text = NULL;
    size_t cap = 0;
    snprintf(path, sizeof path, "%.*s%s", *name == '/' ? 0 : run->folder_len, run->folder, name);
    FILE *file = fopen(path, "re");
    if (!file)
        return error_set(err, "events: %s cannot be opened: %s", path, strerror(errno));
    for (ssize_t n; (n = getline(&text, &cap, file)) >= 0; text = NULL, cap = 0)
        add_line(run, text, (size_t)n - (n > 0 && text[n - 1] == '\n'));
    free(text);
    bool failed = ferror(file);
    fclose(file);
    return failed ? error_set(err, "events: %s cannot be read", path) : 0;
}

static int add_events(struct run *run, struct error *err)
{
    for (const struct node *e = run->test->events->children; e; e = e->next) {
        const struct node *file = e->kind == NODE_MAP && e->n == 1 ? node_find(e, "file") : NULL;
        if (file && add_file(run, file->text, err) < 0)
            return -1;
        if (file)
            continue;
        json_t *json = e->kind == NODE_SCALAR ? NULL : node_json(e);
        char *text = json ? json_dumps(json, JSON_COMPACT) : strdup(e->text);
        json_decref(json);
        add_line(run, text, strlen(text));
    }
    return 0;
}

/* ---- source ------------------------------------------------------------------------------------------------------ */

static int open_source(struct instance *in, bool check, struct error *err)
{
    (void)check, (void)err;
    in->self = in->conf;
    in->input = "tests";
    return 0;
}

static void run_source(struct instance *in, struct batch *b)
{
    struct run *run = in->self;
    for (; run->started && run->next < run->lines_n && b->n < b->cap; run->next++)
        b->events[b->n++] = (struct event){
            .raw = {run->lines[run->next].at, (uint32_t)run->lines[run->next].len},
            .offset = (int64_t)run->next,
            .fetched_ns = clock_mono_ns(in->clock),
        };
    if (run->started && run->next == run->lines_n && b->n == 0)
        engine_input_ended(in->engine, true);
}

static void flow_source(struct instance *in, const struct flow *flow)
{
    struct run *run = in->self;
    if (flow->kind == FLOW_START) {
        run->started = true;
    } else if (flow->kind == FLOW_CLOSED) {
        run->started = false;
    } else if (flow->kind == FLOW_TICK && !run->assigned) {
        run->assigned = true;
        partition_assigned(in->engine, 0, OFFSET_NONE);
    }
}

static void commit_source(struct instance *in, struct commit *c)
{
    commit_done(in->engine, in, c, true);
}

static const struct module source_test = {
    .name = "source_test",
    .summary = "Events of a test of the configuration.",
    .stage = STAGE_SOURCE,
    .open = open_source,
    .run = run_source,
    .flow = flow_source,
    .commit = commit_source,
};

/* ---- sink -------------------------------------------------------------------------------------------------------- */

static int open_sink(struct instance *in, bool check, struct error *err)
{
    struct run *run = in->self = in->conf;
    (void)check;
    for (size_t i = 0; i < run->wanted_n; i++) {
        struct wanted *w = &run->wanted[i];
        w->place = columns_want(in->columns, w->name);
        if (w->place >= 0)
            continue;
        const char *near = columns_nearest(in->columns, w->name);
        return error_set(err, "windows: there is no column '%s'%s%s%s", w->name, near ? "; did you mean '" : "",
                         near ? near : "", near ? "'?" : "");
    }
    return 0;
}

static size_t write_output(const struct batch *b, uint32_t event, const struct alert *alert, char *buffer, size_t cap)
{
    if (alert)
        return output_alert(b, alert, buffer, cap);
    if (b->events[event].verdict == EVENT_OK)
        return output_score(b, event, buffer, cap);
    return output_dead(b, event, buffer, cap);
}

static void keep_output(struct run *run, const struct batch *b, uint32_t event, const struct alert *alert, json_t *list)
{
    size_t n;
    while ((n = write_output(b, event, alert, run->buffer, run->buffer_bytes)) == 0) {
        run->buffer_bytes = run->buffer_bytes ? 2 * run->buffer_bytes : 1 << 16;
        run->buffer = realloc(run->buffer, run->buffer_bytes);
        assert(run->buffer);
    }
    json_t *json = json_loadb(run->buffer, n, JSON_ALLOW_NUL, NULL);
    assert(json); /* output.c writes JSON */
    json_array_append_new(list, json);
}

static void keep_columns(struct run *run, const struct batch *b, uint32_t event)
{
    struct str user = b->events[event].user;
    for (size_t i = 0; i < run->wanted_n; i++) {
        struct wanted *w = &run->wanted[i];
        if (strlen(w->user) != user.len || memcmp(w->user, user.at, user.len) != 0)
            continue;
        json_t *map = json_object_get(run->windows, w->user);
        if (!map)
            json_object_set_new(run->windows, w->user, map = json_object());
        double value = batch_row(b, event)[w->place];
        bool whole = value == floor(value) && fabs(value) < 1e15;
        json_object_set_new(map, w->name, whole ? json_integer((json_int_t)value)
                                          : isfinite(value) ? json_real(value) : json_null());
    }
}

static void run_sink(struct instance *in, struct batch *b)
{
    struct run *run = in->self;
    uint32_t alert = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        enum event_verdict verdict = b->events[i].verdict;
        if (event_verdict_is_dead(verdict))
            keep_output(run, b, i, NULL, run->dead_letters);
        for (; alert < b->alerts_n && b->alerts[alert].event == i; alert++)
            keep_output(run, b, i, &b->alerts[alert], run->alerts);
        if (verdict != EVENT_OK)
            continue;
        if (b->scores[i].publish)
            keep_output(run, b, i, NULL, run->scores);
        keep_columns(run, b, i);
    }
}

static const struct module sink_test = {
    .name = "sink_test",
    .summary = "Outputs of a test of the configuration.",
    .stage = STAGE_SINK,
    .open = open_sink,
    .run = run_sink,
};

/* ---- the engine -------------------------------------------------------------------------------------------------- */

static int64_t fixed_wall_ms(void *self)
{
    const struct config_test *test = self;
    return test->now_ms ? test->now_ms : clock_wall_ms(&clock_system);
}

static uint64_t mono_ns(void *self)
{
    (void)self;
    return clock_mono_ns(&clock_system);
}

static int run_engine(struct run *run, struct config *config, struct error *err)
{
    const struct clock clock = {fixed_wall_ms, mono_ns, (void *)(uintptr_t)run->test};
    struct engine *e = engine_create(config, NULL, &clock, false, err);
    if (!e)
        return -1;
    uint64_t until_ms = engine_mono_ms(e) + RUN_SECONDS_MAX * 1000;
    engine_start(e);
    while (e->phase != ENGINE_STOPPED && engine_mono_ms(e) < until_ms)
        if (!engine_step(e))
            engine_tick(e);
    int rc = e->phase == ENGINE_STOPPED ? 0 : error_set(err, "not finished after %d s", RUN_SECONDS_MAX);
    engine_destroy(&e);
    return rc;
}

/* The file's flow between our source and our sink. `store` is filled by its defaults, not by the file. */
static int run_flow(struct run *run, const struct config *config, struct error *err)
{
    static const char text[] = "source: {file: {paths: x}}\nstore: {memory: {}}\n";
    struct config_errors errors = {0};
    struct config *defaults = config_parse(text, sizeof text - 1, "tests", &errors);
    assert(defaults && defaults->modules_n >= 3);
    struct config_module flow[CONFIG_MODULES_MAX];
    struct config own = *config;
    size_t n = 0;
    flow[n++] = (struct config_module){.module = &source_test, .name = (char *)"source.test", .conf = run};
    for (size_t i = 0; i < config->modules_n; i++) {
        enum stage stage = config->modules[i].module->stage;
        if (stage == STAGE_STORE)
            for (size_t k = 0; k < defaults->modules_n; k++)
                if (defaults->modules[k].module->stage == STAGE_STORE)
                    flow[n++] = defaults->modules[k];
        if (stage != STAGE_SOURCE && stage != STAGE_STORE && stage != STAGE_SINK)
            flow[n++] = config->modules[i];
    }
    flow[n++] = (struct config_module){.module = &sink_test, .name = (char *)"sink.test", .conf = run};
    own.modules = flow;
    own.modules_n = n;
    own.engine.delivery = DELIVERY_AT_LEAST_ONCE;
    int rc = run_engine(run, &own, err);
    config_destroy(&defaults);
    return rc;
}

static int want_columns(struct run *run, struct error *err)
{
    const struct node *windows = run->test->windows;
    for (const struct node *user = windows ? windows->children : NULL; user; user = user->next) {
        for (const struct node *column = user->children; column; column = column->next) {
            if (run->wanted_n == COLUMNS_MAX)
                return error_set(err, "windows: more than %d columns", COLUMNS_MAX);
            run->wanted[run->wanted_n++] = (struct wanted){.user = user->key->text, .name = column->key->text};
        }
    }
    return 0;
}

/* ---- the outcome ------------------------------------------------------------------------------------------------- */

static unsigned compare_list(const struct node *expected, const json_t *found, bool exact,
                             const struct config_test *test, const char *path, FILE *out)
{
    if (!expected)
        return 0;
    json_t *json = node_json(expected);
    unsigned n = check_list(json, found, exact, test->tolerance, path, out);
    json_decref(json);
    return n;
}

static unsigned compare_windows(const struct run *run, FILE *out)
{
    const struct node *windows = run->test->windows;
    unsigned n = 0;
    for (const struct node *user = windows ? windows->children : NULL; user; user = user->next) {
        const json_t *found = json_object_get(run->windows, user->key->text);
        json_t *expected = node_json(user);
        char path[256];
        snprintf(path, sizeof path, "windows.%.200s", user->key->text);
        n += check_fields(expected, found, run->test->tolerance, path, out);
        json_decref(expected);
    }
    return n;
}

static unsigned compare(const struct run *run, FILE *out)
{
    const struct config_test *t = run->test;
    return compare_list(t->scores, run->scores, false, t, "scores", out) +
           compare_list(t->alerts, run->alerts, true, t, "alerts", out) +
           compare_list(t->dead_letters, run->dead_letters, true, t, "dead_letters", out) + compare_windows(run, out);
}

bool config_test_run(const struct config *config, const struct config_test *test, FILE *out)
{
    const char *slash = strrchr(config->name, '/');
    struct run *run = calloc(1, sizeof *run);
    assert(run);
    *run = (struct run){.test = test, .folder = config->name, .folder_len = slash ? (int)(slash - config->name) + 1 : 0,
                        .scores = json_array(), .alerts = json_array(), .dead_letters = json_array(),
                        .windows = json_object()};
    struct error err;
    char *differences = NULL;
    size_t len;
    FILE *text = open_memstream(&differences, &len);
    assert(text);
    if (want_columns(run, &err) < 0 || add_events(run, &err) < 0 || run_flow(run, config, &err) < 0)
        fprintf(text, "      %s\n", err.text);
    else
        compare(run, text);
    fclose(text);
    if (len == 0)
        fprintf(out, "ok    %s\n", test->name);
    else
        fprintf(out, "FAIL  %s (%s:%d)\n%s", test->name, config->name, test->line, differences);
    bool passed = len == 0;
    free(differences);
    for (size_t i = 0; i < run->lines_n; i++)
        free(run->lines[i].at);
    free(run->lines);
    free(run->buffer);
    json_decref(run->scores);
    json_decref(run->alerts);
    json_decref(run->dead_letters);
    json_decref(run->windows);
    free(run);
    return passed;
}
