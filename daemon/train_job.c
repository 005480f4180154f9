// SPDX-License-Identifier: Apache-2.0
// train_job.c - `gaitd train` step by step.
#include "train_job.h"
#include "train_catalogue.h"
#include "train_checkpoint.h"
#include "train_reference.h"

#include "gait/version.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Up to so many classes the full softmax is as fast as the rest of the network. */
enum { FULL_SOFTMAX_MAX = 6000 };

/* A run of one job, and all that it has to give back. */
struct run {
    const struct train_job *job;
    struct train_collected collected;
    struct train_set *set;
    struct model *outline, *model;
    struct train_task task;
    struct train_catalogue *catalogue;     /* NULL = none */
    uint32_t in_catalogue;                 /* items of the vocabulary that it knows */
    struct train_network *networks[TRAIN_ENSEMBLE_MAX];
    uint32_t networks_n;
    uint32_t epochs[TRAIN_ENSEMBLE_MAX];   /* the best epoch of each */
    struct train_checkpoint *checkpoint;
    int64_t split_ms;                      /* INT64_MAX = no validation */
    json_t *folds;                         /* NULL = not asked for */
    json_t *history, *metrics, *scores;    /* scores: what the model said, for the daemon to compare with */
    double events_per_s;
    bool interrupted, refitted;
};

static void show(void *self, const struct train_progress *p)
{
    const struct run *r = self;
    (void)r;
    char bar[21] = "....................";
    memset(bar, '#', (size_t)(p->share * 20 > 20 ? 20 : p->share * 20));
    double left_s = p->left_s > 0 ? p->left_s : 0;
    fprintf(stderr, "\repoch %2u of at most %u [%s] loss %.4f  %.0f events/s  %.0f s left   ", p->epoch, p->epochs, bar,
            p->loss, p->events_per_s, left_s);
    fflush(stderr);
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static int read_events(struct run *r, struct error *err)
{
    const struct train_job *job = r->job;
    struct train_collect_options o = {.conf = job->conf, .files = job->files, .files_n = job->files_n,
                                      .from_kafka = job->from_kafka, .columns = job->features,
                                      .columns_n = job->features_n,
                                      .csv_delimiter = job->csv_delimiter, .default_columns = job->default_features,
                                      .exclude = &job->exclude, .stop = job->stop,
                                      .show_progress = job->progress};
    int rc = train_collect(&o, &r->collected, err);
    r->set = r->collected.set;
    if (!job->quiet && r->set)
        train_report_data(stdout, &r->collected);
    if (rc < 0)
        return -1;
    train_set_arrange(r->set, job->sequence);
    return 0;
}

static int compare_times(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* The moment after which the last share of events lies. */
static int64_t split_time(const struct train_set *s, double valid)
{
    if (valid <= 0)
        return INT64_MAX;
    int64_t *times = malloc((s->n + 1) * sizeof *times);
    assert(times);
    memcpy(times, s->ts_ms, s->n * sizeof *times);
    qsort(times, s->n, sizeof *times, compare_times);
    size_t at = (size_t)((double)s->n * (1 - valid));
    int64_t split = times[at < s->n ? at : s->n - 1];
    free(times);
    return split;
}

/* ---- learning --------------------------------------------------------------------------------------------------- */

/* Vocabularies, features and answers as a model of time `split_ms` could know them. */
static int prepare(struct run *r, int64_t split_ms, struct error *err)
{
    struct train_outline outline = r->job->outline;
    struct train_task_options task = r->job->task;
    outline.until_ms = split_ms;
    task.known_until_ms = r->set->last_ms;
    task.labels = r->job->labels;
    train_task_destroy(&r->task);
    model_destroy(&r->outline);
    r->outline = train_outline(&outline, r->set, err);
    if (!r->outline || train_task_create(&r->task, r->outline, r->set, &task, err) < 0)
        return -1;
    if (r->job->samples)
        train_task_sample(&r->task, FULL_SOFTMAX_MAX, r->job->samples, (struct train_span){INT64_MIN, split_ms});
    for (uint32_t e = 0; e < r->outline->embeddings_n && r->catalogue; e++)
        if (r->outline->embeddings[e].field == MODEL_ITEM)
            r->in_catalogue = train_catalogue_apply(r->catalogue, &r->outline->embeddings[e], e, &r->task.shape);
    return 0;
}

/* A head that cannot be learned is better refused than silently useless. */
static int check_answers(const struct run *r, struct error *err)
{
    struct train_span learn = {INT64_MIN, r->split_ms};
    for (uint32_t h = 0; h < r->outline->heads_n; h++) {
        uint64_t n = 0, ones = 0;
        for (size_t i = 0; i < r->set->n; i++)
            if (train_counts(&r->task.data, h, i, learn)) {
                n++;
                ones += r->task.targets[h].value[i] == 1;
            }
        const char *target = r->outline->heads[h].target;
        if (n == 0 && r->task.targets[h].is_label && r->task.unknown_users > 0)
            return error_set(err, "--target %s: none of the label file's %" PRIu64 " users is among the events", target,
                             r->task.unknown_users);
        if (n == 0)
            return error_set(err, "--target %s: no event has a known answer before the validation part; with intent "
                             "the events have to span more than the horizon", target);
        if (r->task.targets[h].is_label && (ones == 0 || ones == n))
            return error_set(err, "--target %s: all %" PRIu64 " answers in the training part are %s; two classes are "
                             "needed to learn anything", target, n, ones ? "1" : "0 (no positives)");
    }
    return 0;
}

static json_t *history_of(const struct train_result *result)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < result->epochs; i++) {
        const struct train_epoch *e = &result->history[i];
        json_array_append_new(list, json_pack("{s:f,s:o}", "loss", e->loss, "valid_loss",
                                              isnan(e->valid_loss) ? json_null() : json_real(e->valid_loss)));
    }
    return list;
}

static void note_network(struct run *r, uint32_t k, const struct train_result *result)
{
    r->epochs[k] = result->best_epoch;
    r->interrupted |= result->interrupted;
    json_array_append_new(r->history, history_of(result));
    const struct train_epoch *best = &result->history[result->best_epoch - 1];
    if (!r->job->quiet)
        fprintf(stderr, "\r%90s\rnetwork %u: best after %u of %u epochs, loss %.4f, validation %.4f; %.0f "
                "events/s\n", "", k + 1, result->best_epoch, result->epochs, best->loss, best->valid_loss,
                result->events_per_s);
}

/* As it was when the run was broken off. */
static int take_finished(struct run *r, uint32_t k, const struct train_finished *f, struct error *err)
{
    struct train_result result = {.epochs = f->epochs, .best_epoch = f->best_epoch, .history = f->history};
    if (f->weights_n != r->networks[k]->weights_n)
        return error_set(err, "the checkpoint is of another network; begin anew without --resume");
    memcpy(r->networks[k]->weights, f->weights, f->weights_n * sizeof *f->weights);
    train_network_refresh(r->networks[k]);
    note_network(r, k, &result);
    return 0;
}

static int learn_one(struct run *r, uint32_t k, struct train_span learn, struct train_span valid, uint32_t epochs,
                     uint32_t round, struct error *err)
{
    struct train_options o = r->job->learn;
    struct train_random random;
    struct train_result result;
    struct train_keeper keeper;
    o.seed += k;
    o.epochs = epochs;
    train_network_destroy(&r->networks[k]);
    r->networks[k] = train_network_create(&r->task.shape, dense_choose(NULL));
    const struct train_finished *finished = r->checkpoint ? train_checkpoint_finished(r->checkpoint, round, k) : NULL;
    if (finished)
        return take_finished(r, k, finished, err);
    train_random_seed(&random, o.seed);
    train_network_init(r->networks[k], &random);
    if (r->checkpoint) {
        train_checkpoint_keeper(r->checkpoint, round, k, &keeper);
        o.keeper = &keeper;
    }
    int rc = train_learn(r->networks[k], &r->task.data, &o, learn, valid, r->job->stop,
                         r->job->progress ? show : NULL, r, &result, err);
    if (rc == 0) {
        note_network(r, k, &result);
        if (!result.interrupted && r->checkpoint)
            train_checkpoint_finish(r->checkpoint, round, k, &result, r->networks[k]->weights,
                                    r->networks[k]->weights_n);
    }
    free(result.history);
    return rc;
}

static int learn_all(struct run *r, struct train_span learn, struct train_span valid, bool refit, struct error *err)
{
    for (uint32_t k = 0; k < r->job->ensemble && !(r->interrupted && k > 0); k++) {
        if (learn_one(r, k, learn, valid, refit ? r->epochs[k] : r->job->learn.epochs, refit,
                      err) < 0)
            return -1;
        if (r->networks_n < k + 1)
            r->networks_n = k + 1;
    }
    model_destroy(&r->model);
    r->model = train_merge(r->networks, r->networks_n, r->outline, err);
    return r->model ? 0 : -1;
}

/* A model judged on what lies in `judged`, beside baselines that counted all before it: figures by head; and what it
 * said there, unless `said` is NULL. */
static json_t *judge_model(const struct run *r, const struct model *m, struct train_span judged, json_t **said,
                           struct error *err)
{
    struct train_task_options options = r->job->task;
    struct train_task task;
    options.tie = false;
    options.known_until_ms = r->set->last_ms;
    options.labels = r->job->labels;
    if (train_task_create(&task, m, r->set, &options, err) < 0)
        return NULL;
    json_t *figures = json_object();
    struct train_network *n = train_network_create(&task.shape, dense_choose(NULL));
    train_weights_from_model(n, m);
    struct eval_request request = {.span = judged, .fit = {INT64_MIN, judged.from_ms}, .purchase = options.purchase,
                                   .intervals = true};
    for (uint32_t h = 0; h < m->heads_n; h++)
        json_object_set_new(figures, m->heads[h].name, eval_head(n, &task, m, h, &r->job->learn, &request));
    if (said)
        *said = train_reference_scores(n, &task, m, &r->job->learn, request.span);
    train_network_destroy(&n);
    train_task_destroy(&task);
    return figures;
}

/* The model as it will be saved. */
static int judge(struct run *r, struct error *err)
{
    json_t *figures = judge_model(r, r->model, (struct train_span){r->split_ms, INT64_MAX}, &r->scores, err);
    if (!figures)
        return -1;
    json_object_update(r->metrics, figures);
    json_decref(figures);
    return 0;
}

static bool same_features(const struct model *m, const struct train_set *s)
{
    bool same = m->features_n == s->columns_n;
    for (uint32_t f = 0; same && f < m->features_n; f++)
        same = strcmp(m->features[f].column, s->column_names[f]) == 0;
    return same;
}

static int64_t learned_until_ms(const struct model *m)
{
    json_t *training = m->training ? json_loads(m->training, 0, NULL) : NULL;
    int64_t ms = json_integer_value(json_object_get(training, "last_ms"));
    json_decref(training);
    return ms;
}

/* The model that is in use, on the same part. That it cannot be judged here is said, and no reason not to train. */
static void judge_against(struct run *r)
{
    struct error err;
    struct model *m = model_load(r->job->against, &err);
    json_t *figures = NULL;
    if (m && !same_features(m, r->set))
        error_set(&err, "its features are others than these");
    else if (m)
        figures = judge_model(r, m, (struct train_span){r->split_ms, INT64_MAX}, NULL, &err);
    if (!figures) {
        fprintf(stderr, "gaitd train: --against %s cannot be judged here: %s\n", r->job->against, err.text);
    } else if (!r->job->quiet) {
        printf("For comparison, model %s on the same part%s\n", model_id(m),
               learned_until_ms(m) > r->split_ms ? " (it has learned from some of it, which flatters it)" : "");
        train_report_metrics(stdout, figures);
    }
    json_decref(figures);
    model_destroy(&m);
}

static int learn_fold(struct run *r, const struct train_fold *fold, json_t *judged, struct error *err)
{
    struct train_span learn = {INT64_MIN, fold->valid_ms}, valid = {fold->valid_ms, fold->judged.from_ms};
    r->split_ms = fold->valid_ms;
    if (prepare(r, fold->valid_ms, err) < 0 || check_answers(r, err) < 0 || learn_all(r, learn, valid, false, err) < 0)
        return -1;
    if (r->interrupted)
        return error_set(err, "interrupted while folds were measured; nothing is saved");
    json_t *figures = judge_model(r, r->model, fold->judged, NULL, err);
    return figures ? json_array_append_new(judged, figures) : -1;
}

/* Models that are thrown away: what they show is how good the recipe is, and how much that depends on the time. */
static int learn_folds(struct run *r, struct error *err)
{
    struct train_fold folds[TRAIN_FOLDS_MAX];
    uint32_t n = r->job->folds;
    json_t *judged = json_array();
    int rc = train_folds_cut(r->set, r->job->valid, n, folds, err);
    for (uint32_t k = 0; k < n && rc == 0; k++) {
        if (!r->job->quiet)
            fprintf(stderr, "fold %u of %u\n", k + 1, n);
        rc = learn_fold(r, &folds[k], judged, err);
        if (rc < 0)
            error_prefix(err, "fold %u", k + 1);
    }
    if (rc == 0) {
        r->folds = train_folds_sum(judged, folds);
        json_array_clear(r->history);
        if (!r->job->quiet)
            train_report_folds(stdout, r->folds);
    }
    json_decref(judged);
    return rc;
}

/* ---- saving ----------------------------------------------------------------------------------------------------- */

static void describe(struct run *r)
{
    char hash[17];
    snprintf(hash, sizeof hash, "%016" PRIx64, r->set->hash);
    json_t *t = json_pack(
        "{s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:s,s:I,s:b,s:b,s:O}", "tool", "gaitd " GAIT_VERSION, "command",
        r->job->command, "data_hash", hash, "events", (json_int_t)r->set->n, "users", (json_int_t)r->set->users.n,
        "sequences", (json_int_t)r->set->sequences_n, "first_ms", (json_int_t)r->set->first_ms, "last_ms",
        (json_int_t)r->set->last_ms, "sequence", r->job->sequence == TRAIN_BY_USER ? "user" : "session", "seed",
        (json_int_t)r->job->learn.seed, "refit", r->refitted, "interrupted", r->interrupted, "history", r->history);
    json_object_set_new(t, "excluded_events", json_integer((json_int_t)r->collected.excluded));
    json_t *reference = json_pack("{s:o}", "features",
                                  train_reference_features(r->set, r->refitted ? INT64_MAX : r->split_ms));
    if (r->scores)
        json_object_set(reference, "scores", r->scores);
    json_object_set_new(t, "reference", reference);
    free(r->model->training);
    free(r->model->metrics);
    r->model->training = json_dumps(t, JSON_COMPACT);
    const char *name;
    json_t *folds;
    json_object_foreach(r->folds, name, folds)
        json_object_set(json_object_get(r->metrics, name), "folds", folds);
    r->model->metrics = json_dumps(r->metrics, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(t);
}

/* Once more on everything, for as many epochs as were best. Interrupted, the model before it stays. */
static int refit(struct run *r, struct error *err)
{
    struct train_span all = {INT64_MIN, INT64_MAX}, none = {0, 0};
    struct model *judged = r->model;
    r->model = NULL;
    if (!r->job->quiet)
        fputs("once more on everything, validation part included\n", stderr);
    int rc = prepare(r, INT64_MAX, err);
    if (rc == 0)
        rc = learn_all(r, all, none, true, err);
    r->refitted = rc == 0 && !r->interrupted;
    if (r->refitted) {
        model_destroy(&judged);
        return 0;
    }
    model_destroy(&r->model);
    r->model = judged;
    return rc;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Better now than after an hour: whether a file can be made where the model is to go. */
static int check_writable(const char *name, const char *path, struct error *err)
{
    char *probe = NULL;
    if (asprintf(&probe, "%s.XXXXXX", path) < 0)
        abort();
    int fd = mkostemp(probe, O_CLOEXEC), rc = 0;
    size_t len = strlen(path);
    if (fd < 0)
        rc = error_set(err, "%s: no file can be made at %s: %s", name, path, strerror(errno));
    else if (len == 0 || path[len - 1] == '/' || is_folder(path))
        rc = error_set(err, "%s: %s is a folder; it has to be a file's name", name, path);
    if (fd >= 0) {
        close(fd);
        unlink(probe);
    }
    free(probe);
    return rc;
}

static int open_checkpoint(struct run *r, struct error *err)
{
    json_t *settings = train_settings(r->job, r->set, err);
    if (!settings)
        return -1;
    r->checkpoint = train_checkpoint_open(r->job->out, settings, r->job->resume, err);
    if (r->checkpoint && r->job->resume && !r->job->quiet)
        fputs(train_checkpoint_found(r->checkpoint) ? "going on from the checkpoint\n"
                                                    : "no checkpoint there: from the beginning\n", stderr);
    return r->checkpoint ? 0 : -1;
}

static int learn_and_save(struct run *r, struct error *err)
{
    const struct train_job *job = r->job;
    struct train_span learn = {INT64_MIN, r->split_ms}, none = {0, 0};
    struct train_span valid = r->split_ms == INT64_MAX ? none : (struct train_span){r->split_ms, INT64_MAX};
    if (prepare(r, r->split_ms, err) < 0 || check_answers(r, err) < 0)
        return -1;
    if (!job->quiet)
        train_report_task(stdout, r->outline, &r->task);
    if (!job->quiet && r->catalogue)
        printf("  catalogue   knows %u of the items\n", r->in_catalogue);
    if (learn_all(r, learn, valid, false, err) < 0)
        return -1;
    if (r->split_ms != INT64_MAX && judge(r, err) < 0)
        return -1;
    if (!job->quiet)
        train_report_metrics(stdout, r->metrics);
    if (job->against && r->split_ms != INT64_MAX)
        judge_against(r);
    if (job->refit && r->split_ms != INT64_MAX && !r->interrupted && refit(r, err) < 0)
        return -1;
    describe(r);
    if (model_save(r->model, job->out, err) < 0)
        return -1;
    return train_report_card(job, r->model, r->set, &r->collected, r->metrics, r->folds, r->refitted, err);
}

int train_job_run(const struct train_job *job, struct error *err)
{
    struct run r = {.job = job, .history = json_array(), .metrics = json_object()};
    assert(r.history && r.metrics && job->ensemble <= TRAIN_ENSEMBLE_MAX);
    int rc = check_writable("--out", job->out, err);
    if (rc == 0 && job->card)
        rc = check_writable("--card", job->card, err);
    if (rc == 0 && job->catalogue) {
        r.catalogue = train_catalogue_load(job->catalogue, err);
        rc = r.catalogue ? 0 : error_prefix(err, "--catalogue");
    }
    if (rc == 0)
        rc = read_events(&r, err);
    if (rc == 0 && job->folds)
        rc = learn_folds(&r, err);
    if (rc == 0) {
        r.split_ms = split_time(r.set, job->valid);
        rc = open_checkpoint(&r, err);
    }
    if (rc == 0) {
        rc = learn_and_save(&r, err);
    }
    train_checkpoint_close(&r.checkpoint, rc == 0 && !r.interrupted);
    if (rc == 0 && !job->quiet && r.interrupted)
        fputs("interrupted; the same command with --resume goes on\n", stderr);
    if (rc == 0 && !job->quiet)
        printf("%s: model %s%s\n", job->out, model_id(r.model), r.interrupted ? " (interrupted: the best so far)" : "");
    for (uint32_t k = 0; k < TRAIN_ENSEMBLE_MAX; k++)
        train_network_destroy(&r.networks[k]);
    train_task_destroy(&r.task);
    train_catalogue_destroy(&r.catalogue);
    model_destroy(&r.outline);
    model_destroy(&r.model);
    train_set_destroy(&r.set);
    json_decref(r.folds);
    json_decref(r.history);
    json_decref(r.metrics);
    json_decref(r.scores);
    return rc;
}
