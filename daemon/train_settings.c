// SPDX-License-Identifier: Apache-2.0
// train_settings.c - everything that a run's weights depend on, as name → text, by the names of the options: for a
// checkpoint to say which of them is another than before.
#include "train_job.h"

#include "gait/version.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static void __attribute__((format(printf, 3, 4))) put(json_t *to, const char *name, const char *format, ...)
{
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    json_object_set_new(to, name, json_string(text));
}

/* The content, not the name. */
static int add_file(const char *name, const char *path, uint64_t *hash, struct error *err)
{
    FILE *in = fopen(path, "re");
    if (!in)
        return error_set(err, "%s: %s: %s", name, path, strerror(errno));
    char block[16384];
    for (size_t n; (n = fread(block, 1, sizeof block, in)) > 0;)
        *hash = XXH3_64bits_withSeed(block, n, *hash);
    fclose(in);
    return 0;
}

/* Of one or, with commas, several; NULL = none. */
static int put_files(json_t *to, const char *name, const char *paths, struct error *err)
{
    char *all = strdup(paths ? paths : ""), *rest = paths ? all : NULL;
    uint64_t hash = 0;
    int rc = 0;
    assert(all);
    for (char *path; rc == 0 && (path = strsep(&rest, ",")) != NULL;)
        rc = add_file(name, path, &hash, err);
    if (paths)
        put(to, name, "of hash %016" PRIx64, hash);
    else
        put(to, name, "none");
    free(all);
    return rc;
}

static void put_lists(json_t *to, const struct train_job *job, const struct train_set *s)
{
    const struct train_outline *o = &job->outline;
    char text[2048] = "";
    for (uint32_t i = 0; i < o->targets_n; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? "," : "", o->targets[i]);
    put(to, "--target", "%s", text);
    *text = 0;
    for (uint32_t i = 0; i < o->layers_n; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%u", i ? "," : "", o->hidden[i]);
    put(to, "--layers", "%s", text);
    *text = 0;
    for (int f = 0; f < MODEL_FIELDS; f++)
        if (o->width[f])
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s=%u", *text ? "," : "",
                     model_field_name((enum model_field)f), o->width[f]);
    put(to, "--embed", "%s", text);
    uint64_t hash = 0;
    for (uint32_t i = 0; i < s->columns_n; i++)
        hash = XXH3_64bits_withSeed(s->column_names[i], strlen(s->column_names[i]), hash);
    put(to, "--features", "%u columns (hash %016" PRIx64 ")", s->columns_n, hash);
}

json_t *train_settings(const struct train_job *job, const struct train_set *s, struct error *err)
{
    static const char *const schedules[] = {"constant", "cosine", "halving"};
    const struct train_options *l = &job->learn;
    json_t *to = json_object();
    assert(to);
    put(to, "version", GAIT_VERSION);
    put(to, "kernel", "%s", dense_choose(NULL) == &dense_generic ? "generic"
                            : dense_choose(NULL) == &dense_avx2 ? "avx2" : "avx512");
    put(to, "--events", "%zu events in %zu sequences (hash %016" PRIx64 ")", s->n, s->sequences_n, s->hash);
    put_lists(to, job, s);
    put(to, "--sequence", "%s", job->sequence == TRAIN_BY_USER ? "user" : "session");
    put(to, "--purchase", "%s", job->task.purchase);
    put(to, "--horizon", "%" PRId64 "ms", job->outline.intent_horizon_ms);
    put(to, "--valid", "%.17g", job->valid);
    put(to, "--no-tie", "%s", job->task.tie ? "off" : "on");
    put(to, "--min-count", "%u", job->outline.min_count);
    put(to, "--vocabulary", "%u", job->outline.vocabulary_max);
    put(to, "--ensemble", "%u", job->ensemble);
    put(to, "--no-refit", "%s", job->refit ? "off" : "on");
    put(to, "--epochs", "%u", l->epochs);
    put(to, "--patience", "%u", l->patience);
    put(to, "--batch", "%u", l->lanes);
    put(to, "--steps", "%u", l->steps);
    put(to, "--windows", "%s", l->windows ? "on" : "off");
    put(to, "--rate", "%.17g", l->rate);
    put(to, "--schedule", "%s", schedules[l->schedule]);
    put(to, "--dropout", "%.9g", (double)job->task.dropout);
    put(to, "--input-dropout", "%.9g", (double)job->task.dropout_input);
    put(to, "--clip", "%.17g", l->clip);
    put(to, "--l1", "%.17g", l->l1);
    put(to, "--l2", "%.17g", l->l2);
    put(to, "--class-weights", "%s", job->task.positive_weight == 0 ? "balanced" : "none");
    put(to, "--samples", "%u", job->samples);
    put(to, "--threads", "%u", l->threads);
    put(to, "--seed", "%" PRIu64, l->seed);
    if (put_files(to, "--labels", job->labels, err) == 0 && put_files(to, "--catalogue", job->catalogue, err) == 0)
        return to;
    json_decref(to);
    return NULL;
}
