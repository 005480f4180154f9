// SPDX-License-Identifier: Apache-2.0
// cmd_check.c - `gaitd check`: reads a configuration and the files that it names, connects to nothing, writes nothing,
// and says everything that is wrong; or, when nothing is, what would run.
#include "admin.h"
#include "arguments.h"
#include "cmd.h"
#include "config_compare.h"
#include "config_tests.h"
#include "engine.h"
#include "module.h"
#include "value.h"

#include "gait/log.h"

#include <ev.h>
#include <inttypes.h>
#include <stdlib.h>

static void print_usage(FILE *out)
{
    fputs("Usage: gaitd check -c FILE [--against RUNNING] [--test]\n\n"
          "Reads a configuration and the files it names (model, rules, presets) and says everything that is wrong,\n"
          "with file, line and column. Connects to nothing and writes nothing.\n\n"
          "  -c, --config FILE   the configuration\n"
          "  --against RUNNING   say what a reload would change, and what it would refuse, in a daemon that runs with\n"
          "                      the settings of this file; what is in the files that both name is not compared\n"
          "  -t, --test          run the tests in the file's own section 'tests' (conf/tests.yaml has some): events\n"
          "                      through the file's decode, window, model, score and rule; outputs against "
          "expectations\n"
          "  -h, --help          print this text\n\n"
          "Exit status: 0 nothing is wrong, 1 something is or a reload would be refused or a test fails,\n"
          "2 the command line is.\n\n"
          "Example: gaitd check -c /etc/gait/gaitd.yaml && systemctl restart gaitd\n"
          "         gaitd check -c new.yaml --against /etc/gait/gaitd.yaml --test\n", out);
}

static void print_stage(const struct config *config, enum stage stage)
{
    bool any = false;
    for (size_t i = 0; i < config->modules_n; i++) {
        const struct config_module *cm = &config->modules[i];
        if (cm->module->stage != stage)
            continue;
        printf("  %-7s %s%s\n", any ? "" : stage_name(stage), cm->name, cm->line ? "" : " (filled in)");
        any = true;
    }
    if (!any)
        printf("  %-7s -%s\n", stage_name(stage), stage == STAGE_SINK ? "  nothing leaves, only records are kept" : "");
}

static void print_flow(const struct config *config, const struct engine *engine)
{
    char table[VALUE_TEXT_MAX];
    printf("%s: nothing is wrong. The flow:\n\n", config->name);
    for (int i = 0; i < STAGES; i++)
        print_stage(config, (enum stage)i);
    value_bytes_text(config->engine.table_bytes, table);
    printf("\n  %" PRId64 " batches of up to %" PRId64 " events; %s hold %zu users of %zu bytes; %" PRIu32
           " columns, %" PRIu32 " in use\n", config->engine.batches, config->engine.batch_events, table,
           users_slots(engine->users), users_slot_bytes(engine->users), columns_count(engine->columns),
           columns_width(engine->columns));
}

/* The engine's texts, one a line, each behind the place in the file when it begins with an instance's name. */
static void print_problems(const struct config *config, const char *text)
{
    while (*text) {
        int len = (int)strcspn(text, "\n"), line = 0;
        for (size_t i = 0; i < config->modules_n; i++) {
            size_t n = strlen(config->modules[i].name);
            if (strncmp(text, config->modules[i].name, n) == 0 && text[n] == ':')
                line = config->modules[i].line;
        }
        if (line)
            fprintf(stderr, "%s:%d: %.*s\n", config->name, line, len, text);
        else
            fprintf(stderr, "%s: %.*s\n", config->name, len, text);
        text += (size_t)len + (text[len] == '\n');
    }
}

static struct config *load(const char *path)
{
    struct config_errors errors = {0};
    struct config *config = config_load(path, &errors);
    if (!config)
        config_errors_print(&errors, stderr);
    return config;
}

struct comparison {
    bool refused;  /* which of the two kinds is told in this pass */
    unsigned n;
};

static void print_difference(void *self, const struct config_difference *d)
{
    struct comparison *c = self;
    if (d->restart != c->refused)
        return;
    if (c->n++ == 0)
        puts(c->refused ? "\nA reload would be refused; these need a restart:" : "\nA reload would change:");
    printf("  %s: %s\n", d->where, d->text);
}

/* By their full names, so that relative paths in them compare. 0 when a reload would do. */
static int print_comparison(const char *path, const char *running_path)
{
    char *full = realpath(path, NULL), *running_full = realpath(running_path, NULL);
    struct config *config = load(full ? full : path), *running = load(running_full ? running_full : running_path);
    struct comparison refused = {.refused = true}, changed = {0};
    int rc = 1;
    if (config && running) {
        config_compare(running, config, print_difference, &refused);
        config_compare(running, config, print_difference, &changed);
        if (refused.n + changed.n == 0)
            puts("\nA reload would change no setting.");
        rc = refused.n > 0;
    }
    config_destroy(&config);
    config_destroy(&running);
    free(full);
    free(running_full);
    return rc;
}

/* 0 when all that are there pass. */
static int run_tests(const struct config *config, const struct config_test *tests, size_t n)
{
    size_t passed = 0;
    for (size_t i = 0; i < n; i++) {
        passed += config_test_run(config, &tests[i], stdout);
        fflush(stdout);
    }
    if (n == 0)
        printf("%s has no section 'tests'\n", config->name);
    printf("%zu passed, %zu failed\n", passed, n - passed);
    return passed == n ? 0 : 1;
}

/* The section `tests` alone; then, if the rest is right too, its tests. */
static int check_tests(const struct config *config, bool run)
{
    struct config_test *tests = calloc(CONFIG_TESTS_MAX, sizeof *tests);
    struct config_errors errors = {0};
    size_t n = config_tests_read(config, tests, &errors);
    int rc = errors.n > 0;
    if (rc)
        config_errors_print(&errors, stderr);
    else if (run)
        rc = run_tests(config, tests, n);
    free(tests);
    return rc;
}

static int check_config(const char *path, const char *running, bool test)
{
    struct config *config = load(path);
    if (!config)
        return 1;
    log_setup(LOG_WARNING, LOG_FORMAT_TEXT); /* modules that say what they do would bury what is wrong */
    struct error err;
    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
    struct engine *engine = engine_create(config, loop, &clock_system, true, &err);
    int rc = engine ? 0 : 1;
    if (!engine)
        print_problems(config, err.text);
    if (admin_check(config, &err) < 0) {
        print_problems(config, err.text);
        rc = 1;
    }
    rc |= check_tests(config, false);
    if (rc == 0 && test)
        rc = check_tests(config, true);
    else if (rc == 0)
        print_flow(config, engine);
    if (rc == 0 && running)
        rc = print_comparison(path, running);
    engine_destroy(&engine);
    if (loop)
        ev_loop_destroy(loop);
    config_destroy(&config);
    return rc;
}

int cmd_check(int argc, char **argv)
{
    static const struct long_option options[] = {
        {"config", required_argument, NULL, 'c'}, {"against", required_argument, NULL, 'a'},
        {"test", no_argument, NULL, 't'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
    };
    const char *path = NULL, *running = NULL;
    bool test = false;
    for (int c; (c = getopt_long(argc, argv, "c:th", options, NULL)) != -1;) {
        if (c == 'c') {
            path = optarg;
        } else if (c == 'a') {
            running = optarg;
        } else if (c == 't') {
            test = true;
        } else {
            print_usage(c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
    }
    if (!path || optind < argc) {
        if (path)
            fprintf(stderr, "gaitd check: what is '%s'?\n", argv[optind]);
        else
            fputs("gaitd check: -c FILE is missing\n", stderr);
        print_usage(stderr);
        return 2;
    }
    return check_config(path, running, test);
}
