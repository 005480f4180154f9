// SPDX-License-Identifier: Apache-2.0
// unit_reload.c - a new configuration for an engine at work: the whole of it or nothing.
#include "../daemon/config_compare.h"
#include "../daemon/reload.h"
#include "model_maker.h"

#include "gait/lstm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { EVENTS = 400, BATCH = 32 };

/* What goes into the file; NULL = a value that works. */
struct settings {
    const char *engine, *score, *sink, *more, *rules_path, *store;
};

struct fixture {
    char folder[32];
    struct config *config;
    struct engine *engine;
    struct reload reload;
    unsigned done;
};

static void in_folder(const struct fixture *f, const char *name, char path[96])
{
    snprintf(path, 96, "%s/%s", f->folder, name);
}

static void write_file(const struct fixture *f, const char *name, const char *text)
{
    char path[96], beside[96];
    in_folder(f, name, path);
    in_folder(f, "beside", beside);
    FILE *out = fopen(beside, "w"); /* another inode, so that no clock has to tell them apart */
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
    assert_int_equal(rename(beside, path), 0);
}

static void write_rules(const struct fixture *f, const char *name, int threshold)
{
    char text[256];
    snprintf(text, sizeof text,
             "actions: {review: 5}\nrules:\n  - {name: many, on: purchase, when: count.purchase.1h >= %d, weight: 5, "
             "text: x}\n", threshold);
    write_file(f, name, text);
}

static void write_model(const struct fixture *f, uint64_t seed, uint32_t hidden)
{
    const struct model_shape shape = {.categories = 8, .category_width = 4, .hidden = {hidden}, .interest = true};
    struct model *m = model_make(&shape, seed);
    struct error err;
    char path[96];
    in_folder(f, "model", path);
    if (model_save(m, path, &err) < 0)
        fail_msg("%s", err.text);
    model_destroy(&m);
}

static void write_config(const struct fixture *f, const struct settings *s)
{
    char text[1024];
    snprintf(text, sizeof text,
             "source: {file: {paths: events}}\nstore: {memory: {%s}}\nmodel: {lstm: {path: model}}\n"
             "score: {interest: {%s}}\nrule: {fraud: {rules: %s}}\nsink: {file: {%s}}\n"
             "engine: {batch_events: 32, %s}\n%s\n",
             s->store ? s->store : "", s->score ? s->score : "top: 5", s->rules_path ? s->rules_path : "rules",
             s->sink ? s->sink : "scores: scores", s->engine ? s->engine : "save_ms: 2s", s->more ? s->more : "");
    write_file(f, "gaitd.yaml", text);
}

static void note_done(void *self)
{
    ((struct fixture *)self)->done++;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    static char path[96]; /* of the configuration; reload borrows it */
    strcpy(f->folder, "/tmp/unit_reload.XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    char *events = NULL;
    size_t len;
    FILE *out = open_memstream(&events, &len);
    for (int i = 0; i < EVENTS; i++)
        fprintf(out, "{\"type\":\"purchase\",\"user_id\":\"u%d\",\"ts\":%lld,\"category\":\"c%d\"}\n", i % 7,
                1764000000000LL + i * 1000, i % 8);
    fclose(out);
    write_file(f, "events", events);
    free(events);
    write_rules(f, "rules", 1000);
    write_model(f, 1, 8);
    write_config(f, &(struct settings){0});
    in_folder(f, "gaitd.yaml", path);
    struct config_errors errors = {0};
    struct error err;
    f->config = config_load(path, &errors);
    if (!f->config)
        config_errors_print(&errors, stderr);
    assert_non_null(f->config);
    log_setup(LOG_ERROR, LOG_FORMAT_TEXT);
    f->engine = engine_create(f->config, NULL, &clock_system, false, &err);
    if (!f->engine)
        fail_msg("%s", err.text);
    f->reload = (struct reload){.path = path, .config = f->config, .engine = f->engine, .done = note_done, .self = f};
    engine_start(f->engine);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    static const char *const files[] = {"events", "rules", "rules2", "model", "gaitd.yaml", "scores", "other"};
    struct fixture *f = *state;
    engine_destroy(&f->engine);
    config_destroy(&f->config);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[96];
        in_folder(f, files[i], path);
        unlink(path);
    }
    assert_int_equal(rmdir(f->folder), 0);
    free(f);
    return 0;
}

static struct reload_result reload_with(struct fixture *f, const struct settings *s)
{
    write_config(f, s);
    struct reload_result result = reload_request(&f->reload, "test");
    log_setup(LOG_ERROR, LOG_FORMAT_TEXT);
    return result;
}

static void assert_says(const struct reload_result *result, const char *what)
{
    if (!strstr(result->text.text, what))
        fail_msg("'%s' is not in: %s", what, result->text.text);
}

static const struct model *model_at_work(const struct fixture *f)
{
    return lstm_at_work(engine_instance(f->engine, STAGE_MODEL))->model;
}

static double metric(const struct fixture *f, const char *name, const char *label)
{
    return metric_cell(f->engine->metrics, name, label)->value;
}

static void step(struct fixture *f, int batches)
{
    for (double before = metric(f, "gait_batches_total", NULL);
         metric(f, "gait_batches_total", NULL) < before + batches && f->engine->phase != ENGINE_STOPPED;)
        engine_step(f->engine);
}

/* Everything that shows which configuration is at work. */
struct seen {
    uint64_t hash, model;
    double rules_read;
    struct engine_conf engine;
    const char *metrics_file;
};

static struct seen look(const struct fixture *f)
{
    return (struct seen){config_hash(f->config), model_at_work(f)->id, metric(f, "gait_rules", NULL), f->engine->conf,
                         f->config->metrics.file};
}

static void assert_refused_and_untouched(struct fixture *f, const struct seen *before,
                                         const struct reload_result *result)
{
    struct seen after = look(f);
    assert_int_equal(result->rc, -1);
    assert_int_equal(result->changes, 0);
    assert_int_equal(f->done, 0);
    assert_true(after.hash == before->hash && after.model == before->model && after.rules_read == before->rules_read);
    assert_memory_equal(&after.engine, &before->engine, sizeof after.engine);
    assert_ptr_equal(after.metrics_file, before->metrics_file);
    assert_true(metric(f, "gait_config_reloads_total", "refused") == 1);
    assert_true(metric(f, "gait_config_reloads_total", "ok") == 0);
    step(f, 1); /* and it goes on */
}

/* pgbouncer 1.18: one bad value in the file, and RELOAD reset four other settings and answered "ok". */
static void one_bad_value_leaves_all_others_as_they_were(void **state)
{
    struct fixture *f = *state;
    step(f, 2);
    struct seen before = look(f);
    write_rules(f, "rules", 1);
    write_model(f, 2, 8);
    struct reload_result result = reload_with(f, &(struct settings){
        .engine = "save_ms: 9s, drain_ms: 1s, commit_ms: 5 parsecs", .score = "top: 3, publish: latest"});
    assert_refused_and_untouched(f, &before, &result);
    assert_says(&result, "gaitd.yaml:7:");
    assert_says(&result, "parsecs");
}

/* The model, before the rules in the flow, was ready; it is let go of. */
static void one_bad_file_leaves_all_others_as_they_were(void **state)
{
    struct fixture *f = *state;
    step(f, 2);
    struct seen before = look(f);
    write_model(f, 2, 8);
    write_file(f, "rules", "actions: {review: 5}\n"
                           "rules: [{name: a, when: count.purchase.1h >= many, weight: 1, text: x}]\n");
    struct reload_result result = reload_with(f, &(struct settings){.engine = "save_ms: 9s", .score = "top: 3"});
    assert_refused_and_untouched(f, &before, &result);
    assert_says(&result, "rule.fraud: ");
    assert_says(&result, "rules:2:");
}

static void a_model_that_does_not_fit_the_records_is_refused(void **state)
{
    struct fixture *f = *state;
    struct seen before = look(f);
    write_model(f, 2, 16);
    struct reload_result result = reload_with(f, &(struct settings){.score = "top: 3"});
    assert_refused_and_untouched(f, &before, &result);
    assert_says(&result, "model.lstm: ");
    assert_says(&result, "restart");
}

static void what_needs_a_restart_is_named_with_both_values(void **state)
{
    struct fixture *f = *state;
    struct seen before = look(f);
    struct reload_result result = reload_with(f, &(struct settings){
        .sink = "scores: other", .engine = "save_ms: 9s, batches: 2, event_types: [a, b]",
        .more = "window: {rolling: {windows: [1h, 90s]}}"});
    assert_refused_and_untouched(f, &before, &result);
    assert_says(&result, "sink.file.scores needs a restart: '");
    assert_says(&result, "/scores' → '");
    assert_says(&result, "engine.batches needs a restart: 3 → 2");
    assert_says(&result, "engine.event_types needs a restart: [] → ['a', 'b']");
    assert_says(&result, "window.rolling.windows needs a restart: [5m, 1h, 1d, 7d, 28d] → [1h, 90s]");
    assert_null(strstr(result.text.text, "save_ms")); /* that would have worked */
}

static void modules_come_and_go_with_a_restart_only(void **state)
{
    struct fixture *f = *state;
    struct seen before = look(f);
    write_file(f, "gaitd.yaml", "source: {file: {paths: events}}\nstore: {memory: {}}\nengine: {batch_events: 32}\n"
                                "sink: {file: [{scores: scores}, {alerts: other}]}\nrule: {fraud: {rules: rules}}\n");
    struct reload_result result = reload_request(&f->reload, "test");
    assert_refused_and_untouched(f, &before, &result);
    assert_says(&result, "sink.file.2 needs a restart: added");
    assert_says(&result, "model.lstm needs a restart: removed");
    assert_says(&result, "score.interest needs a restart: removed");
}

static void a_missing_file_is_a_refusal(void **state)
{
    struct fixture *f = *state;
    struct seen before = look(f);
    assert_int_equal(unlink(f->reload.path), 0);
    struct reload_result result = reload_request(&f->reload, "test");
    assert_refused_and_untouched(f, &before, &result);
    assert_says(&result, "cannot be opened");
}

static int scores_written(const struct fixture *f, int top_least)
{
    char path[96], line[4096];
    int n = 0;
    in_folder(f, "scores", path);
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    while (fgets(line, sizeof line, in)) {
        int top = 0;
        for (const char *at = line; (at = strstr(at, "\"category\"")); at++)
            top++;
        n += top >= top_least;
    }
    fclose(in);
    return n;
}

static void everything_changes_between_two_batches(void **state)
{
    struct fixture *f = *state;
    step(f, 3);
    write_rules(f, "rules2", 1);
    write_model(f, 2, 8);
    uint64_t old_model = model_at_work(f)->id;
    struct reload_result result = reload_with(f, &(struct settings){
        .score = "top: 2", .engine = "save_ms: 9s, record_ttl_ms: 2d", .rules_path = "rules2",
        .store = "max_bytes: 8MB", .more = "metrics: {file: other}\nlog: {level: error}"});
    assert_int_equal(result.rc, 0);
    assert_int_equal(f->done, 1);
    assert_says(&result, "score.interest.top: 5 → 2");
    assert_says(&result, "engine.save_ms: 2s → 9s");
    assert_says(&result, "engine.record_ttl_ms: 90d → 2d");
    assert_says(&result, "store.memory.max_bytes: 4GB → 8MB");
    assert_says(&result, "metrics.file: not set → '");
    assert_says(&result, "rule.fraud.rules: '");
    assert_says(&result, "rule.fraud: other rules: 1 rules");
    assert_says(&result, "model.lstm: model ");
    assert_int_equal(f->engine->conf.save_ms, 9000);
    assert_true(model_at_work(f)->id != old_model);
    assert_true(metric(f, "gait_rule_fired_total", "many") == 0);
    while (f->engine->phase != ENGINE_STOPPED)
        engine_step(f->engine);
    assert_true(metric(f, "gait_rule_fired_total", "many") == EVENTS - 3 * BATCH);
    assert_true(metric(f, "gait_model_rebuilt_users_total", NULL) == 7); /* nobody begins cold */
    assert_true(metric(f, "gait_events_total", "ok") == EVENTS);
    assert_int_equal(scores_written(f, 1), EVENTS);
    assert_int_equal(scores_written(f, 3), 3 * BATCH);
}

/* Strings live with the reload that brought them; those of the start stay, whatever comes after. */
static void reload_after_reload(void **state)
{
    struct fixture *f = *state;
    const char *name = engine_instance(f->engine, STAGE_SINK)->name;
    for (int i = 0; i < 10; i++) {
        char more[64], file[16];
        snprintf(file, sizeof file, "other%d", i);
        snprintf(more, sizeof more, "metrics: {file: %s}", file);
        struct reload_result result = reload_with(f, &(struct settings){.more = more});
        assert_int_equal(result.rc, 0);
        assert_int_equal(result.changes, 1);
        assert_string_equal(strrchr(f->config->metrics.file, '/') + 1, file);
        step(f, 1);
    }
    assert_string_equal(name, "sink.file");
    while (f->engine->phase != ENGINE_STOPPED)
        engine_step(f->engine);
    assert_int_equal(scores_written(f, 5), EVENTS);
}

static void the_same_again_changes_nothing(void **state)
{
    struct fixture *f = *state;
    uint64_t hash = config_hash(f->config);
    const struct model *model = model_at_work(f);
    struct reload_result result = reload_with(f, &(struct settings){0});
    assert_int_equal(result.rc, 0);
    assert_int_equal(result.changes, 0);
    assert_string_equal(result.text.text, "nothing has changed");
    assert_true(config_hash(f->config) == hash && model_at_work(f) == model);
    /* A comment, another order: the same. */
    write_file(f, "gaitd.yaml", "# moved\nsink: {file: {scores: scores}}\nengine: {save_ms: 2000, batch_events: 32}\n"
                                "source: {file: {paths: events}}\nmodel: {lstm: {path: model}}\n"
                                "store: {memory: {}}\nrule: {fraud: {rules: rules}}\n");
    result = reload_request(&f->reload, "test");
    assert_int_equal(result.rc, 0);
    assert_int_equal(result.changes, 0);
}

static void a_daemon_that_stops_keeps_what_it_has(void **state)
{
    struct fixture *f = *state;
    step(f, 2);
    engine_drain(f->engine, 1000);
    struct reload_result result = reload_with(f, &(struct settings){.score = "top: 2"});
    assert_int_equal(result.rc, -1);
    assert_says(&result, "stopping");
    while (f->engine->phase != ENGINE_STOPPED)
        engine_step(f->engine);
    assert_int_equal(scores_written(f, 5), scores_written(f, 1));
}

/* A watched file is not read a second time behind a reload; a bad one is not forgiven because it was seen before. */
static void watching_and_reloading_know_of_each_other(void **state)
{
    struct fixture *f = *state;
    write_rules(f, "rules", 1);
    assert_int_equal(reload_with(f, &(struct settings){0}).rc, 0);
    double read = metric(f, "gait_rule_reloads_total", "ok");
    engine_tick(f->engine);
    assert_true(metric(f, "gait_rule_reloads_total", "ok") == read);
    write_file(f, "rules", "rules: [");
    engine_tick(f->engine);
    assert_true(metric(f, "gait_rule_reloads_total", "refused") == 1);
    assert_int_equal(reload_with(f, &(struct settings){.score = "top: 2"}).rc, -1);
    assert_true(metric(f, "gait_rules", NULL) == 1);
}

/* ---- comparing alone --------------------------------------------------------------------------------------------- */

static struct config *parse(const char *text)
{
    struct config_errors errors = {0};
    struct config *config = config_parse(text, strlen(text), "test.yaml", &errors);
    if (!config)
        config_errors_print(&errors, stderr);
    assert_non_null(config);
    return config;
}

struct differences {
    char text[4096];
};

static void note(void *self, const struct config_difference *d)
{
    struct differences *all = self;
    size_t n = strlen(all->text);
    snprintf(all->text + n, sizeof all->text - n, "%s%s %s\n", d->where, d->restart ? "!" : "", d->text);
}

static void secrets_are_compared_and_not_shown(void **state)
{
    (void)state;
    struct config *a = parse("source: {file: {paths: x}}\nstore: {redis: {password: hunter2}}\n");
    struct config *b = parse("source: {file: {paths: x}}\nstore: {redis: {password: hunter3}}\n");
    struct differences all = {0};
    config_compare(a, b, note, &all);
    assert_string_equal(all.text, "store.redis.password! a secret, changed\n");
    assert_true(config_hash(a) == config_hash(b));
    config_destroy(&a);
    config_destroy(&b);
}

static void long_values_are_cut_between_characters(void **state)
{
    (void)state;
    char text[2048], many[1024] = "";
    for (int i = 0; i < 200; i++)
        strcat(many, "ü");
    snprintf(text, sizeof text, "source: {file: {paths: x}}\nstore: {memory: {}}\nmetrics: {file: /%s}\n", many);
    struct config *a = parse(text);
    snprintf(text, sizeof text, "source: {file: {paths: x}}\nstore: {memory: {}}\nmetrics: {file: /%sz}\n", many);
    struct config *b = parse(text);
    struct differences all = {0};
    config_compare(a, b, note, &all);
    assert_non_null(strstr(all.text, "ü…, changed\n"));
    assert_true(config_hash(a) != config_hash(b));
    config_destroy(&a);
    config_destroy(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_bad_value_leaves_all_others_as_they_were, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_bad_file_leaves_all_others_as_they_were, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_model_that_does_not_fit_the_records_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_needs_a_restart_is_named_with_both_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(modules_come_and_go_with_a_restart_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_missing_file_is_a_refusal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(everything_changes_between_two_batches, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reload_after_reload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_same_again_changes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_daemon_that_stops_keeps_what_it_has, set_up, tear_down),
        cmocka_unit_test_setup_teardown(watching_and_reloading_know_of_each_other, set_up, tear_down),
        cmocka_unit_test(secrets_are_compared_and_not_shown),
        cmocka_unit_test(long_values_are_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
