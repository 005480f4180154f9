// SPDX-License-Identifier: Apache-2.0
// cmd_retrain.c - `gaitd retrain`, for a timer: trains a model like the one in place on the topic as it is now, says
// how both do on the last part of it, and puts the new one into shadow, where live traffic decides.
//
// It is `gaitd train` and `gaitd model challenge` with what the configuration and the model in place say already.
#include "arguments.h"
#include "cmd.h"
#include "cmd_model.h"
#include "config_find.h"
#include "eval.h"
#include "train_job.h"

#include "gait/model.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ARGUMENTS_MAX = 512 };

struct arguments {
    char *at[ARGUMENTS_MAX];  /* copies */
    int n;
};

static void print_usage(FILE *out)
{
    fputs("Usage: gaitd retrain -c FILE [OPTION...]\n\n"
          "Trains a model like the one in place (model.lstm.path), on the topic of the configuration; says how\n"
          "both do on the last part of the events; and puts the new one at model.challenger.file, where a\n"
          "running daemon takes it into shadow and, with promote: auto, lets it take over once it is better.\n\n"
          "  -c, --config FILE   the configuration that the daemons run with\n"
          "  -h, --help          print this text\n\n"
          "Everything else is for gaitd train and goes before what the model in place says: --events FILE... instead\n"
          "of the topic, --exclude-days 2026-11-27 to learn nothing from a sale, --threads 2, --epochs 10 …\n\n"
          "Example: gaitd retrain -c /etc/gait/gaitd.yaml --exclude-days 2026-11-27,2026-11-30\n", out);
}

static void add(struct arguments *a, const char *text)
{
    assert(a->n < ARGUMENTS_MAX - 1);
    a->at[a->n] = strdup(text);
    assert(a->at[a->n]);
    a->n++;
}

static void add_pair(struct arguments *a, const char *option, const char *value)
{
    add(a, option);
    add(a, value);
}

static void arguments_free(struct arguments *a)
{
    for (int i = 0; i < a->n; i++)
        free(a->at[i]);
    a->n = 0;
}

/* ---- what the model in place says ------------------------------------------------------------------------------- */

/* The option with a list of n parts, each written by `part`; "none" for an empty one. */
static void add_list(struct arguments *a, const char *option, const struct model *m, uint32_t n,
                     void (*part)(FILE *, const struct model *, uint32_t))
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    assert(out);
    for (uint32_t i = 0; i < n; i++) {
        fputs(i ? "," : "", out);
        part(out, m, i);
    }
    fclose(out);
    add_pair(a, option, n ? text : "none");
    free(text);
}

static void put_layer(FILE *out, const struct model *m, uint32_t i)
{
    fprintf(out, "%u", m->layers[i].hidden);
}

static void put_target(FILE *out, const struct model *m, uint32_t i)
{
    fputs(m->heads[i].target, out);
}

static void put_feature(FILE *out, const struct model *m, uint32_t i)
{
    fputs(m->features[i].column, out);
}

static void put_embedding(FILE *out, const struct model *m, uint32_t i)
{
    fprintf(out, "%s=%u", model_field_name(m->embeddings[i].field), m->embeddings[i].width);
}

static void add_model(struct arguments *a, const struct model *m, const char *path)
{
    char horizon[32];
    add_list(a, "--target", m, m->heads_n, put_target);
    add_list(a, "--layers", m, m->layers_n, put_layer);
    add_list(a, "--features", m, m->features_n, put_feature);
    add_list(a, "--embed", m, m->embeddings_n, put_embedding);
    add_pair(a, "--sequence", eval_job_sequence(path) == TRAIN_BY_SESSION ? "session" : "user");
    snprintf(horizon, sizeof horizon, "%" PRId64 "ms", m->intent_horizon_ms);
    if (m->intent >= 0)
        add_pair(a, "--horizon", horizon);
    add_pair(a, "--against", path);
}

/* ---- the two steps ---------------------------------------------------------------------------------------------- */

/* getopt begins anew, also where it stood in the middle of a word. */
static int call(int (*command)(int, char **), struct arguments *a)
{
    char *argv[ARGUMENTS_MAX]; /* getopt puts them into another order */
    memcpy(argv, a->at, (size_t)a->n * sizeof *argv);
    argv[a->n] = NULL;
    optind = 0;
    int status = command(a->n, argv);
    arguments_free(a);
    return status;
}

static int train(const char *conf, const struct model *m, const char *path, const char *candidate, const char *card,
                 int more, char **more_at)
{
    struct arguments a = {.n = 0};
    bool files = false;
    for (int i = 0; i < more; i++)
        files |= strncmp(more_at[i], "--events", 8) == 0;
    add(&a, "gaitd train");
    add_model(&a, m, path);
    add_pair(&a, "--config", conf);
    if (!files)
        add(&a, "--from-kafka");
    for (int i = 0; i < more; i++)
        add(&a, more_at[i]);
    add_pair(&a, "--out", candidate);
    add_pair(&a, "--card", card);
    return call(cmd_train, &a);
}

static int challenge(const char *conf, const char *candidate)
{
    struct arguments a = {.n = 0};
    add(&a, "challenge");
    add(&a, candidate);
    add_pair(&a, "--config", conf);
    return call(cmd_model_install, &a);
}

static int retrain(const char *conf, int more, char **more_at)
{
    struct config_errors errors = {0};
    struct config *config = config_load(conf, &errors);
    struct error err;
    if (!config) {
        config_errors_print(&errors, stderr);
        return 1;
    }
    const char *const *path = config_find(config, "model.lstm", "path");
    const char *const *file = config_find(config, "model.challenger", "file");
    int status = 1;
    struct model *m = path && *path ? model_load(*path, &err) : NULL;
    if (!path || !*path || !file || !*file) {
        fprintf(stderr, "gaitd retrain: %s needs model.lstm.path and model.challenger.file\n", conf);
    } else if (!m) {
        fprintf(stderr, "gaitd retrain: %s: %s; the first model is made by gaitd train\n", *path, err.text);
    } else {
        char *candidate = model_path_with(*file, ".candidate"), *card = model_path_with(*file, ".md");
        status = train(conf, m, *path, candidate, card, more, more_at);
        if (status == 0)
            status = challenge(conf, candidate);
        unlink(candidate); /* a copy is in its place, or it was refused */
        free(candidate);
        free(card);
    }
    model_destroy(&m);
    config_destroy(&config);
    return status;
}

/* All that is not ours is handed on, so getopt is not asked here. */
int cmd_retrain(int argc, char **argv)
{
    const char *conf = NULL;
    int more = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
            print_usage(stdout);
            return 0;
        }
        if ((strcmp(argv[i], "-c") == 0 || strcmp(argv[i], "--config") == 0) && i + 1 < argc)
            conf = argv[++i];
        else if (strncmp(argv[i], "--config=", 9) == 0)
            conf = argv[i] + 9;
        else
            argv[1 + more++] = argv[i];
    }
    if (!conf || more > ARGUMENTS_MAX / 2) {
        fprintf(stderr, "gaitd retrain: %s\n\n", conf ? "too many arguments" : "which configuration (-c)?");
        print_usage(stderr);
        return 2;
    }
    return retrain(conf, more, argv + 1);
}
