// SPDX-License-Identifier: Apache-2.0
// unit_config.c - whole configurations: sections become the engine's settings and modules in flow order; what is
// missing is filled in or missed; files that are none are refused.
#include "../daemon/config.h"
#include "../daemon/module.h"
#include "../daemon/reference.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define LEAST "source: {file: {paths: clicks.jsonl}}\nstore: {memory: {}}\n"

static struct config *accept(const char *text)
{
    struct config_errors errors = {0};
    struct config *config = config_parse(text, strlen(text), "/etc/gait/gaitd.yaml", &errors);
    if (!config)
        fail_msg("%s: %s", text, errors.at[0].text);
    assert_int_equal(errors.n, 0);
    return config;
}

/* Among its complaints is one at this place with these words. */
static void refuse(const char *text, int line, int column, const char *because)
{
    struct config_errors errors = {0};
    struct config *config = config_parse(text, strlen(text), "f.yaml", &errors);
    assert_null(config);
    for (size_t i = 0; i < errors.n; i++)
        if (errors.at[i].line == line && errors.at[i].column == column && strstr(errors.at[i].text, because))
            return;
    fail_msg("%s: %d:%d: %s; not %d:%d: %s", text, errors.at[0].line, errors.at[0].column, errors.at[0].text, line,
             column, because);
}

static void the_least_configuration_is_filled_in(void **state)
{
    (void)state;
    struct config *config = accept(LEAST);
    assert_string_equal(config->modules[0].name, "source.file");
    assert_int_equal(config->modules[0].line, 1);
    assert_string_equal(config->modules[1].name, "decode.json");
    assert_int_equal(config->modules[1].line, 0);
    assert_string_equal(config->modules[2].name, "store.memory");
    assert_int_equal(config->engine.batches, 3);
    assert_int_equal(config->engine.batch_events, 1024);
    assert_int_equal(config->engine.table_bytes, 256 << 20);
    assert_int_equal(config->engine.record_ttl_ms, 90 * 86400000LL);
    assert_int_equal(config->engine.state_lost, STATE_LOST_REPLAY);
    assert_int_equal(config->engine.delivery, DELIVERY_AT_LEAST_ONCE);
    assert_int_equal(config->log.level, LOG_NOTICE);
    assert_int_equal(config->log.format, LOG_FORMAT_TEXT);
    assert_null(config->metrics.file);
    config_destroy(&config);
    assert_null(config);
    config_destroy(&config);
}

static void a_model_brings_its_scores(void **state)
{
    (void)state;
    struct config *config = accept(LEAST "model: {lstm: {path: m.safetensors}}\n");
    const struct config_module *last = &config->modules[config->modules_n - 1];
    assert_string_equal(last[-3].name, "model.lstm");
    assert_string_equal(last[-2].name, "model.challenger"); /* it stands beside: there whether named or not */
    assert_string_equal(last[-1].name, "score.interest");
    assert_string_equal(last->name, "score.drift");
    assert_int_equal(last->line, 0);
    config_destroy(&config);
    config = accept(LEAST "model: {challenger: {share: 0.5}, lstm: {path: m.safetensors}}\n"); /* and always behind */
    last = &config->modules[config->modules_n - 1];
    assert_string_equal(last[-3].name, "model.lstm");
    assert_string_equal(last[-2].name, "model.challenger");
    assert_true(last[-2].line > 0);
    config_destroy(&config);
    refuse(LEAST "model: {challenger: {share: 0.5}}\n", 3, 9, "stands beside model.lstm, which is missing");
}

static void modules_come_in_flow_order(void **state)
{
    (void)state;
    struct config *config = accept("store:\n  memory:\nlog: {level: debug}\ndecode:\n  json: {}\n"
                                   "metrics: {file: m.prom}\nsource:\n  file: {paths: [a, b]}\n"
                                   "engine: {event_types: [wishlist], state_lost: continue, drain_ms: 2500}\n");
    for (size_t i = 1; i < config->modules_n; i++)
        assert_true(config->modules[i - 1].module->stage <= config->modules[i].module->stage);
    assert_int_equal(config->modules[0].line, 8);
    assert_int_equal(config->log.level, LOG_DEBUG);
    assert_string_equal(config->metrics.file, "/etc/gait/m.prom");
    assert_int_equal(config->engine.event_types.n, 1);
    assert_string_equal(config->engine.event_types.at[0], "wishlist");
    assert_int_equal(config->engine.state_lost, STATE_LOST_CONTINUE);
    assert_int_equal(config->engine.drain_ms, 2500);
    config_destroy(&config);
}

static void sections_are_known_and_complete(void **state)
{
    (void)state;
    refuse("store: {memory: {}}\n", 0, 0, "section 'source' is missing; it names one of: ");
    refuse("source: {file: {paths: a}}\n", 0, 0, "section 'store' is missing");
    refuse(LEAST "sotre: {redis: {}}\n", 3, 1, "there is no section 'sotre'; did you mean 'store'?");
    refuse(LEAST "elephants: 3\n", 3, 1, "there is no section 'elephants'; there are: source, decode");
    refuse(LEAST "engine: fast\n", 3, 9, "engine wants settings (key: value), not a single value");
    refuse(LEAST "engine: {batchs: 2}\n", 3, 10, "engine: there is no setting 'batchs'; did you mean 'batches'?");
    refuse(LEAST "engine: {event_types: [wish, login]}\n", 3, 23, "event type 'login' is there already");
    refuse(LEAST "log: [debug]\n", 3, 6, "log wants settings (key: value), not a list");
    refuse("- source\n", 1, 1, "a configuration is a map of sections");
    refuse("source\n", 1, 1, "a configuration is a map of sections");
    refuse("~\n", 1, 1, "holds no settings");
}

static void modules_are_known_and_few(void **state)
{
    (void)state;
    refuse("source: {flie: {}}\n", 1, 10, "there is no source 'flie'; did you mean 'file'?");
    refuse("source: {elephant: {}}\n", 1, 10, "there is no source 'elephant'; there are: ");
    refuse("source: file\n", 1, 9, "source wants a module by name and its settings");
    refuse("source: {}\n", 1, 9, "source names no module");
    refuse("source:\n", 1, 8, "source wants a module by name");
    refuse("source: {file: clicks.jsonl}\n", 1, 16, "source.file wants settings (key: value), not a single value");
    refuse("source: {file: [{paths: a}]}\n", 1, 16, "there can be one only, so it wants settings");
    refuse("source: {file: {}}\n", 1, 10, "source.file.paths is missing");
    refuse("store:\n  memory: {}\n  memory: {}\n", 3, 3, "'memory' is set twice");
    refuse("source:\n  file: {paths: a}\n  elephant: {}\n", 3, 3, "there can be one only, and 'file' in line 2 is it");
    refuse("decode: {json: {max_depth: deep}}\n", 1, 28, "decode.json.max_depth: 'deep' is not a whole number");
}

static void all_is_said_at_once(void **state)
{
    (void)state;
    static const char text[] = "sorce: {}\n"              /* unknown section, so no source */
                               "store:\n  memroy: {}\n"   /* unknown module */
                               "engine:\n  batches: 99\n  save_ms: 5 parsecs\n  elephant: 1\n"
                               "decode: {json: {time: sundial}}\n";
    struct config_errors errors = {0};
    assert_null(config_parse(text, strlen(text), "f.yaml", &errors));
    static const int lines[] = {0, 1, 3, 5, 6, 7, 8};
    assert_int_equal(errors.n, 7);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(errors.at[i].line, lines[i]);
}

static void files_that_are_none(void **state)
{
    (void)state;
    static const struct {
        const char *path, *because;
    } cases[] = {
        {"/nonexistent/gaitd.yaml", "cannot be opened: No such file"},
        {"/", "cannot be opened: Is a directory"},
        {"/dev/null", "the file is empty"},
        {"/dev/zero", "more than 1024 KB"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config_errors errors = {0};
        assert_null(config_load(cases[i].path, &errors));
        assert_int_equal(errors.n, 1);
        assert_string_equal(errors.name, cases[i].path);
        if (!strstr(errors.at[0].text, cases[i].because))
            fail_msg("%s: %s", cases[i].path, errors.at[0].text);
    }
}

static void a_file_is_loaded_and_paths_lie_beside_it(void **state)
{
    (void)state;
    char folder[] = "/tmp/unit_config.XXXXXX", path[64], expected[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/gaitd.yaml", folder);
    snprintf(expected, sizeof expected, "%s/metrics.prom", folder);
    FILE *out = fopen(path, "w");
    fputs(LEAST "metrics: {file: metrics.prom}\n", out);
    fclose(out);
    struct config_errors errors = {0};
    struct config *config = config_load(path, &errors);
    assert_non_null(config);
    assert_string_equal(config->name, path);
    assert_string_equal(config->metrics.file, expected);
    config_destroy(&config);
    unlink(path);
    rmdir(folder);
}

static void several_sinks_of_a_kind(void **state)
{
    (void)state;
    struct config *config = accept(LEAST "sink: {file: [{scores: a}, {alerts: b, scores: '-'}]}\n");
    const struct config_module *last = &config->modules[config->modules_n - 1];
    assert_string_equal(last[-1].name, "sink.file");
    assert_string_equal(last->name, "sink.file.2");
    assert_ptr_equal(last->module, last[-1].module);
    assert_ptr_not_equal(last->conf, last[-1].conf);
    config_destroy(&config);
    refuse(LEAST "sink: {file: [{}, {scroes: b}]}\n", 3, 20, "sink.file.2: there is no setting 'scroes'");
    char many[1024] = LEAST "sink: {file: [";
    for (int i = 0; i < 40; i++)
        strcat(many, "{}, ");
    refuse(strcat(many, "{}]}\n"), 3, 63, "more than 16 modules");
}

/* The full configuration that `gaitd options --yaml` prints is one that the parser takes, with every default. */
static void the_reference_is_a_configuration(void **state)
{
    (void)state;
    char *text;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    reference_yaml(out);
    fclose(out);
    struct config *config = accept(text);
    struct config *least = accept(LEAST);
    assert_memory_equal(&config->log, &least->log, sizeof config->log);
    assert_int_equal(config->engine.table_bytes, least->engine.table_bytes);
    assert_int_equal(config->engine.drain_ms, least->engine.drain_ms);
    config_destroy(&config);
    config_destroy(&least);
    free(text);
}

/* Each row of each module is one that the parser, the ranges and the reference can work with. */
static void option_rows_are_sound(void **state)
{
    (void)state;
    struct reference ref;
    for (size_t i = 0; reference_at(i, &ref); i++) {
        assert_non_null(ref.summary);
        for (const struct option *o = ref.options; o && o->name; o++) {
            char name[64];
            reference_name(&ref, name, sizeof name);
            if (!o->help || !*o->help || strspn(o->name, "abcdefghijklmnopqrstuvwxyz_0123456789") != strlen(o->name))
                fail_msg("%s.%s: no help, or a strange name", name, o->name);
            if (o->type == OPTION_ENUM && !o->choices)
                fail_msg("%s.%s: no choices", name, o->name);
            if (o->flags & OPTION_REQUIRED && o->initial)
                fail_msg("%s.%s: required and yet a default", name, o->name);
            for (const struct option *other = ref.options; other < o; other++)
                assert_string_not_equal(other->name, o->name);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_configuration_is_filled_in),
        cmocka_unit_test(a_model_brings_its_scores),
        cmocka_unit_test(modules_come_in_flow_order),
        cmocka_unit_test(sections_are_known_and_complete),
        cmocka_unit_test(modules_are_known_and_few),
        cmocka_unit_test(all_is_said_at_once),
        cmocka_unit_test(files_that_are_none),
        cmocka_unit_test(a_file_is_loaded_and_paths_lie_beside_it),
        cmocka_unit_test(several_sinks_of_a_kind),
        cmocka_unit_test(the_reference_is_a_configuration),
        cmocka_unit_test(option_rows_are_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
