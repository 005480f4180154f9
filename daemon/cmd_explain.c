// SPDX-License-Identifier: Apache-2.0
// cmd_explain.c - `gaitd explain`: why a user has this score, from the record in the store. Reads only: it takes no
// partition over and writes nothing, so it may run beside the daemons.
#include "arguments.h"
#include "cmd.h"
#include "engine.h"
#include "explain.h"
#include "fetch.h"

#include "gait/log.h"

#include <ev.h>
#include <stdlib.h>

static void print_usage(FILE *out)
{
    fputs("Usage: gaitd explain --user USER -c FILE [--json]\n\n"
          "Says which of a user's last events and which features made the present score: it takes the record out of\n"
          "the store (Redis, or the snapshot of store.memory), leaves the events out one by one, rebuilds the LSTM's\n"
          "state each time and compares; then holds each feature at its mean. Effects are in log-odds. Only what the\n"
          "ring of last events holds can be explained; columns of the fraud rules count as 0, as when a state is\n"
          "rebuilt.\n\n"
          "  -u, --user USER     the user's id\n"
          "  -c, --config FILE   the configuration that the daemons run with\n"
          "      --json          everything, as one JSON object\n"
          "  -h, --help          print this text\n\n"
          "Exit status: 0 explained, 1 no such user or something failed, 2 the command line is wrong.\n\n"
          "Example: gaitd explain --user u2954 -c /etc/gait/gaitd.yaml\n", out);
}

static int explain_record(struct engine *e, struct user *user, bool json, struct error *err)
{
    struct instance *stage = engine_instance(e, STAGE_MODEL), *window = engine_instance(e, STAGE_WINDOW);
    if (!stage || !window)
        return error_set(err, "the configuration has no model or no window: there are no scores to explain");
    struct model_binding binding;
    struct explain_with with = {.lstm = lstm_at_work(stage), .binding = &binding, .window = window};
    if (model_bind(&binding, with.lstm->model, &e->types, e->columns, err) < 0)
        return -1;
    with.columns_width = columns_width(e->columns);
    struct explanation *x = explain_make(&with, user, lstm_user_hidden(stage, user), err);
    if (!x)
        return -1;
    if (json) {
        json_t *object = explain_json(x, with.lstm->model, &e->types);
        json_object_set_new(object, "user", json_stringn(user->name, user->name_len));
        json_dumpf(object, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
        putchar('\n');
        json_decref(object);
    } else {
        printf("user %s, partition %d, ", user->name, user->partition);
        explain_print(x, with.lstm->model, &e->types, stdout);
    }
    explain_destroy(&x);
    return 0;
}

static int explain_user(struct config *config, const char *name, bool json)
{
    struct error err;
    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO); /* modules may want one when they open; it never runs */
    struct engine *engine = loop ? engine_create(config, loop, &clock_system, true, &err) : NULL;
    struct user *user = engine ? fetch_user(engine, config, str_of(name), &err) : NULL;
    int result = user ? explain_record(engine, user, json, &err) : -1;
    if (result < 0)
        fprintf(stderr, "gaitd explain: %s\n", loop ? err.text : "no event loop");
    engine_destroy(&engine);
    if (loop)
        ev_loop_destroy(loop);
    return result < 0;
}

int cmd_explain(int argc, char **argv)
{
    static const struct long_option options[] = {
        {"user", required_argument, NULL, 'u'}, {"config", required_argument, NULL, 'c'},
        {"json", no_argument, NULL, 'j'},       {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *name = NULL, *path = NULL;
    bool json = false;
    for (int c; (c = getopt_long(argc, argv, "u:c:h", options, NULL)) != -1;) {
        switch (c) {
        case 'u': name = optarg; break;
        case 'c': path = optarg; break;
        case 'j': json = true; break;
        default: print_usage(c == 'h' ? stdout : stderr); return c == 'h' ? 0 : 2;
        }
    }
    if (!name || !*name || !path || optind < argc) {
        fputs("gaitd explain: which --user, and which configuration (-c)?\n\n", stderr);
        print_usage(stderr);
        return 2;
    }
    struct config_errors errors = {0};
    struct config *config = config_load(path, &errors);
    if (!config) {
        config_errors_print(&errors, stderr);
        return 1;
    }
    log_setup(LOG_WARNING, LOG_FORMAT_TEXT);
    int status = explain_user(config, name, json);
    config_destroy(&config);
    return status;
}
