// SPDX-License-Identifier: Apache-2.0
// cmd_check.c - `gaitd check`: reads a configuration and the files that it names, connects to nothing, writes nothing,
// and says everything that is wrong; or, when nothing is, what would run.
#include "admin.h"
#include "arguments.h"
#include "cmd.h"
#include "engine.h"
#include "module.h"
#include "value.h"

#include "gait/log.h"

#include <ev.h>
#include <inttypes.h>

static void print_usage(FILE *out)
{
    fputs("Usage: gaitd check -c FILE\n\n"
          "Reads a configuration and the files it names (model, rules, presets) and says everything that is wrong,\n"
          "with file, line and column. Connects to nothing and writes nothing.\n\n"
          "  -c, --config FILE   the configuration\n"
          "  -h, --help          print this text\n\n"
          "Exit status: 0 nothing is wrong, 1 something is, 2 the command line is wrong.\n\n"
          "Example: gaitd check -c /etc/gait/gaitd.yaml && systemctl restart gaitd\n", out);
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

static int check_config(const char *path)
{
    struct config_errors errors = {0};
    struct config *config = config_load(path, &errors);
    if (!config) {
        config_errors_print(&errors, stderr);
        return 1;
    }
    log_setup(LOG_WARNING, LOG_FORMAT_TEXT); /* modules that say what they do would bury what is wrong */
    struct error err;
    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
    struct engine *engine = engine_create(config, loop, &clock_system, true, &err);
    int rc = engine ? 0 : 1;
    if (engine)
        print_flow(config, engine);
    else
        print_problems(config, err.text);
    if (admin_check(config, &err) < 0) {
        print_problems(config, err.text);
        rc = 1;
    }
    engine_destroy(&engine);
    if (loop)
        ev_loop_destroy(loop);
    config_destroy(&config);
    return rc;
}

int cmd_check(int argc, char **argv)
{
    static const struct long_option options[] = {
        {"config", required_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
    };
    const char *path = NULL;
    for (int c; (c = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        if (c != 'c') {
            print_usage(c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
        path = optarg;
    }
    if (!path || optind < argc) {
        if (path)
            fprintf(stderr, "gaitd check: what is '%s'?\n", argv[optind]);
        else
            fputs("gaitd check: -c FILE is missing\n", stderr);
        print_usage(stderr);
        return 2;
    }
    return check_config(path);
}
