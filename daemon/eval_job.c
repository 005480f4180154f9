// SPDX-License-Identifier: Apache-2.0
// eval_job.c - `gaitd eval` step by step: the model's own features collected, warm-up events first, one head judged.
#include "eval_html.h"
#include "train_job.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static int collect(const struct eval_job *job, const struct model *m, bool warmup_only, struct train_collected *out,
                   struct error *err)
{
    const char *files[2 * TRAIN_FILES_MAX], *columns[MODEL_FEATURES_MAX];
    size_t n = 0;
    for (size_t i = 0; i < job->warmup_n; i++)
        files[n++] = job->warmup[i];
    for (size_t i = 0; i < job->files_n && !warmup_only; i++)
        files[n++] = job->files[i];
    for (uint32_t f = 0; f < m->features_n; f++)
        columns[f] = m->features[f].column;
    struct train_collect_options o = {.conf = job->conf, .files = files, .files_n = n, .from_kafka = job->from_kafka,
                                      .columns = columns,
                                      .columns_n = m->features_n, .csv_delimiter = job->csv_delimiter,
                                      .stop = job->stop};
    return train_collect(&o, out, err);
}

/* Answers that lie in the warm-up are known before all others: for the baselines to count, not to be judged. */
static void mark_early(struct train_task *t, const struct train_set *s)
{
    for (size_t k = 0; k < s->sequences_n; k++)
        for (size_t i = s->sequences[k].start, end = i + s->sequences[k].length; i < end; i++)
            for (uint32_t h = 0; h < t->shape.heads_n; h++) {
                bool early = t->targets[h].is_label ? s->early[i] : i + 1 < end && s->early[i + 1];
                if (early && t->targets[h].value[i] != TRAIN_NOTHING)
                    t->targets[h].known_ms[i] = INT64_MIN;
            }
}

static int find_head(const struct model *m, const char *target, struct error *err)
{
    char all[512] = "";
    for (uint32_t h = 0; h < m->heads_n; h++) {
        if (!target || strcmp(m->heads[h].target, target) == 0)
            return (int)h;
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", h ? ", " : "", m->heads[h].target);
    }
    return error_set(err, "the model has no head for '%s'; it has %s", target, all);
}

static json_t *judge(const struct eval_job *job, const struct model *m, struct train_set *s, int head,
                     struct error *err)
{
    struct train_task_options options = {.purchase = job->purchase, .known_until_ms = s->last_ms, .labels = job->labels,
                                         .positive_weight = 1};
    struct train_options learn = {.lanes = 64, .steps = 28, .threads = job->threads};
    struct train_task task;
    if (train_task_create(&task, m, s, &options, err) < 0)
        return NULL;
    mark_early(&task, s);
    for (uint32_t h = 0; h < task.shape.heads_n; h++)
        for (size_t i = 0; i < s->n && (int)h != head; i++)
            task.targets[h].value[i] = TRAIN_NOTHING; /* no need to compute the other heads */
    struct train_network *n = train_network_create(&task.shape, dense_choose(NULL));
    train_weights_from_model(n, m);
    struct eval_request request = {.span = {INT64_MIN + 1, INT64_MAX}, .purchase = job->purchase,
                                   .intervals = job->intervals, .ranks = job->ranks,
                                   .by = job->sliced ? &job->by : NULL, .curves = job->html != NULL};
    if (job->warmup_n)
        request.fit = (struct train_span){INT64_MIN, INT64_MIN + 1};
    json_t *out = eval_head(n, &task, m, (uint32_t)head, &learn, &request);
    if (json_integer_value(json_object_get(out, "predictions")) == 0) {
        json_decref(out);
        out = NULL;
        error_set(err, "nothing to judge: no event has a known answer for '%s'", m->heads[head].target);
    }
    train_network_destroy(&n);
    train_task_destroy(&task);
    return out;
}

static json_t *run(const struct eval_job *job, const struct model *m, struct error *err)
{
    struct train_collected warm = {0}, all = {0};
    size_t early = 0;
    int head = find_head(m, job->target, err);
    if (head < 0)
        return NULL;
    /* The warm-up alone tells how many of the events are its own; with the state that it leaves behind they are then
     * read together. */
    if (job->warmup_n) {
        int rc = collect(job, m, true, &warm, err);
        early = warm.set ? warm.set->n : 0;
        train_set_destroy(&warm.set);
        if (rc < 0) {
            error_prefix(err, "--warmup");
            return NULL;
        }
    }
    json_t *out = NULL;
    if (collect(job, m, false, &all, err) == 0) {
        memset(all.set->early, 1, early < all.set->n ? early : all.set->n);
        train_set_arrange(all.set, job->sequence);
        out = judge(job, m, all.set, head, err);
    }
    train_set_destroy(&all.set);
    return out;
}

enum train_sequence_kind eval_job_sequence(const char *model)
{
    struct model *m = model_load(model, NULL);
    json_t *training = m && m->training ? json_loads(m->training, 0, NULL) : NULL;
    const char *kind = json_string_value(json_object_get(training, "sequence"));
    bool session = kind && strcmp(kind, "session") == 0;
    json_decref(training);
    model_destroy(&m);
    return session ? TRAIN_BY_SESSION : TRAIN_BY_USER;
}

/* The curve is the page's alone: too long for the figures. */
static int write_page(const struct eval_job *job, const struct model *m, json_t *figures, struct error *err)
{
    json_t *training = m->training ? json_loads(m->training, 0, NULL) : NULL;
    int rc = eval_html_save(job->html, figures, training, model_id(m), err);
    json_object_del(figures, "pr_curve");
    json_decref(training);
    return rc;
}

json_t *eval_job_run(const struct eval_job *job, struct error *err)
{
    struct model *m = model_load(job->model, err);
    if (!m)
        return NULL;
    json_t *out = run(job, m, err);
    if (out)
        json_object_set_new(out, "model", json_string(model_id(m)));
    if (out && job->html && write_page(job, m, out, err) < 0) {
        json_decref(out);
        out = NULL;
    }
    model_destroy(&m);
    return out;
}
