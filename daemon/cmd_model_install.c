// SPDX-License-Identifier: Apache-2.0
// cmd_model_install.c - `gaitd model install` puts a model in the place that a configuration names and keeps the one
// before as PATH.previous; `gaitd model rollback` lets the two change places. A running daemon takes the new file over
// by itself (model.lstm.watch) or at a reload; each user's state is then rebuilt from the last events.
// `gaitd model challenge` puts a model beside the one in place, into shadow.
//
// PATH is never absent: every step is one rename. A crash in the middle of a rollback leaves the model that was in
// place as PATH.spare. Before the first step the whole configuration is checked with the
// new model in it, so what is put in place is what the daemon will accept.
#include "arguments.h"
#include "cmd_model.h"
#include "engine.h"

#include "gait/log.h"
#include "gait/model.h"

#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <stdlib.h>
#include <unistd.h>

struct place {
    const char *path;
    char *previous, *spare; /* PATH.previous; PATH.spare is there for a moment of a rollback */
    bool watched;
    uint32_t state_floats;  /* of a user under the model in place; 0 = there is none that can be read */
    char id[17];            /* the same's */
};

static void install_usage(FILE *out)
{
    fputs("Usage: gaitd model install MODEL -c FILE\n"
          "       gaitd model challenge MODEL -c FILE\n"
          "       gaitd model rollback -c FILE\n\n"
          "install checks the configuration with MODEL in it, keeps the model in place as PATH.previous and puts\n"
          "MODEL at PATH, which is model.lstm.path of the configuration. rollback lets PATH and PATH.previous change\n"
          "places; a second one takes it back. A running daemon notices within a second (model.lstm.watch; else:\n"
          "SIGHUP) and swaps between two batches; a user's state is rebuilt at the user's next event from the ring\n"
          "of last events, as far as the batch's own events have not taken their places there.\n\n"
          "challenge checks in the same way and puts MODEL at model.challenger.file, where it runs in shadow beside\n"
          "the model in place: gaitd.conf(5) says how it is measured, and when it is promoted.\n\n"
          "  -c, --config FILE   the configuration that the daemons run with\n"
          "  -h, --help          print this text\n\n"
          "Example: gaitd model install candidate.safetensors -c /etc/gait/gaitd.yaml\n"
          "         gaitd model rollback -c /etc/gait/gaitd.yaml\n", out);
}

/* ---- what the configuration says -------------------------------------------------------------------------------- */

/* A member of the model stage's settings by its name; NULL when there is no such stage, or no such setting. */
static void *model_setting(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->modules_n; i++) {
        const struct config_module *cm = &config->modules[i];
        for (const struct option *o = cm->module->options; cm->module->stage == STAGE_MODEL && o && o->name; o++)
            if (strcmp(o->name, name) == 0)
                return (char *)cm->conf + o->offset;
    }
    return NULL;
}

static uint32_t state_floats(const struct model *m)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->layers_n; i++)
        n += 2 * m->layers[i].hidden;
    return n;
}

static int place_of(const struct config *config, struct place *place, struct error *err)
{
    const char *const *path = model_setting(config, "path");
    const bool *watch = model_setting(config, "watch");
    if (!path || !*path)
        return error_set(err, "%s has no model stage with a path", config->name);
    *place = (struct place){.path = *path, .previous = model_path_with(*path, ".previous"),
                            .spare = model_path_with(*path, ".spare"), .watched = watch && *watch};
    struct model *m = model_load(*path, NULL); /* may be absent or broken: then it is about to be replaced */
    if (m) {
        place->state_floats = state_floats(m);
        snprintf(place->id, sizeof place->id, "%s", model_id(m));
    }
    model_destroy(&m);
    return 0;
}

/* All that the daemon would check, with `path` as its model. */
static int check_with(struct config *config, const char *path, struct error *err)
{
    const char **setting = model_setting(config, "path"), *kept = *setting;
    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
    *setting = path;
    struct engine *engine = loop ? engine_create(config, loop, &clock_system, true, err) : NULL;
    int result = engine ? 0 : loop ? -1 : error_set(err, "no event loop");
    engine_destroy(&engine);
    if (loop)
        ev_loop_destroy(loop);
    *setting = kept;
    return result;
}

/* ---- changing places -------------------------------------------------------------------------------------------- */

static int install(struct config *config, const struct place *place, const char *from, struct error *err)
{
    struct model *m = model_load(from, err);
    if (!m)
        return -1;
    int result = check_with(config, from, err);
    if (result == 0 && strcmp(place->id, model_id(m)) == 0) {
        printf("%s: model %s is in place already\n", place->path, model_id(m));
        model_destroy(&m);
        return 0;
    }
    if (result == 0)
        result = model_install(m, place->path, err);
    if (result == 0)
        printf("%s: model %s is in place%s%s%s\n", place->path, model_id(m), *place->id ? ", " : "", place->id,
               *place->id ? " is kept as the previous one" : "");
    if (result == 0 && place->state_floats && state_floats(m) > place->state_floats)
        puts("A user's state is larger than before: daemons that run refuse it until they are restarted.");
    model_destroy(&m);
    return result;
}

static int rollback(struct config *config, const struct place *place, struct error *err)
{
    struct model *m = model_load(place->previous, err);
    int result = m ? check_with(config, place->previous, err) : -1;
    if (result == 0 && model_link_over(place->path, place->spare, err) < 0)
        result = -1;
    if (result == 0 && (rename(place->previous, place->path) < 0 || rename(place->spare, place->previous) < 0))
        result = error_set(err, "%s and %s cannot change places: %s", place->path, place->previous, strerror(errno));
    if (result == 0)
        printf("%s: model %s is in place again\n", place->path, model_id(m));
    if (result == 0 && place->state_floats && state_floats(m) > place->state_floats)
        puts("A user's state is larger than under the other model: a daemon that started with that one has to be "
             "restarted.");
    model_destroy(&m);
    return result;
}

static int challenge(struct config *config, const struct place *place, const char *from, struct error *err)
{
    const char *const *file = model_setting(config, "file");
    if (!file || !*file)
        return error_set(err, "%s has no model.challenger.file to put it at", config->name);
    struct model *m = model_load(from, err);
    if (!m)
        return -1;
    int result = check_with(config, from, err);
    if (result == 0 && strcmp(place->id, model_id(m)) == 0)
        printf("%s: model %s is in place already: there is nothing to compare\n", place->path, model_id(m));
    else if (result == 0 && (result = model_save(m, *file, err)) == 0)
        printf("%s: model %s is the challenger\n", *file, model_id(m));
    if (result == 0 && place->state_floats && state_floats(m) > place->state_floats)
        puts("A user's state is larger than under the model in place: it can be compared, but not promoted before a "
             "restart.");
    model_destroy(&m);
    return result;
}

static int run_with(const char *command, const char *path, const char *from)
{
    struct config_errors errors = {0};
    struct config *config = config_load(path, &errors);
    struct place place = {0};
    struct error err;
    if (!config) {
        config_errors_print(&errors, stderr);
        return 1;
    }
    log_setup(LOG_WARNING, LOG_FORMAT_TEXT);
    int result = place_of(config, &place, &err);
    if (result == 0)
        result = !from                               ? rollback(config, &place, &err)
                 : strcmp(command, "challenge") == 0 ? challenge(config, &place, from, &err)
                                                     : install(config, &place, from, &err);
    if (result < 0)
        fprintf(stderr, "gaitd model: %s\n", err.text);
    else if (!place.watched && strcmp(command, "challenge") != 0)
        puts("model.lstm.watch is off: send the daemons SIGHUP.");
    free(place.previous);
    free(place.spare);
    config_destroy(&config);
    return result < 0;
}

int cmd_model_install(int argc, char **argv)
{
    static const struct long_option options[] = {
        {"config", required_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
    };
    bool takes_model = strcmp(argv[0], "rollback") != 0;
    const char *path = NULL;
    for (int c; (c = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        if (c != 'c') {
            install_usage(c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
        path = optarg;
    }
    if (!path || argc - optind != takes_model) {
        fprintf(stderr, "gaitd model %s: %s\n\n", argv[0], !path ? "which configuration (-c)?"
                                                   : takes_model ? "exactly one model is needed"
                                                              : "it takes no model: the previous one comes back");
        install_usage(stderr);
        return 2;
    }
    return run_with(argv[0], path, takes_model ? argv[optind] : NULL);
}
