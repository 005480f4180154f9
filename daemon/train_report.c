// SPDX-License-Identifier: Apache-2.0
// train_report.c - what `gaitd train` says: of the data, of the outcome, and in the model card beside the model.
#include "part_file.h"
#include "train_job.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

static void print_time(FILE *out, int64_t ms)
{
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    char text[32] = "?";
    if (gmtime_r(&s, &tm))
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
    fputs(text, out);
}

void train_report_data(FILE *out, const struct train_collected *c)
{
    const struct train_set *s = c->set;
    fprintf(out, "Data\n  events      %zu of %u users, %u sessions\n  span        ", s->n, s->users.n, s->sessions.n);
    print_time(out, s->first_ms);
    fputs(" to ", out);
    print_time(out, s->last_ms);
    fputs(" UTC\n", out);
    for (int v = 1; v < EVENT_VERDICTS; v++)
        if (c->results[v])
            fprintf(out, "  dropped     %" PRIu64 " %s (%s)\n", c->results[v],
                    event_verdict_name((enum event_verdict)v), c->example[v]);
    if (c->excluded)
        fprintf(out, "  left out    %" PRIu64 " on excluded days; they count for the windows of later ones\n",
                c->excluded);
    if (s->not_numbers)
        fprintf(out, "  not numbers %zu feature values; they count as the mean\n", s->not_numbers);
    fputs("  types      ", out);
    for (uint32_t i = 1; i <= s->names[MODEL_TYPE].n && i <= 12; i++)
        fprintf(out, " %s %u", s->names[MODEL_TYPE].name[i], s->names[MODEL_TYPE].count[i]);
    fprintf(out, "\n  names       %u categories, %u items\n", s->names[MODEL_CATEGORY].n, s->names[MODEL_ITEM].n);
}

void train_report_task(FILE *out, const struct model *m, const struct train_task *t)
{
    const struct train_set *s = t->data.set;
    fprintf(out, "Model\n  input       %u wide:", m->input);
    for (uint32_t e = 0; e < m->embeddings_n; e++)
        fprintf(out, " %s %u×%u,", model_field_name(m->embeddings[e].field), m->embeddings[e].vocabulary.n + 1,
                m->embeddings[e].width);
    fprintf(out, " %u features\n  layers      LSTM", m->features_n);
    for (uint32_t i = 0; i < m->layers_n; i++)
        fprintf(out, " %u", m->layers[i].hidden);
    fprintf(out, "\n  sequences   %zu", s->sequences_n);
    if (s->backwards)
        fprintf(out, "; %zu events are older than the one before (kept, the daemon meets them so too)", s->backwards);
    fputc('\n', out);
    for (uint32_t h = 0; h < m->heads_n; h++) {
        const struct train_target *x = &t->targets[h];
        fprintf(out, "  %-11s %" PRIu64 " answers", m->heads[h].target, x->total);
        if (x->is_label)
            fprintf(out, ", %" PRIu64 " of them 1 (%.2f %%)", x->positives,
                    x->total ? 100.0 * (double)x->positives / (double)x->total : 0);
        else
            fprintf(out, " among %u classes; %" PRIu64 " are of names too rare to be one", m->heads[h].classes,
                    x->unsayable);
        fputc('\n', out);
    }
    if (t->clipped)
        fprintf(out, "  outliers    %" PRIu64 " feature values clipped at 6 standard deviations\n", t->clipped);
    if (t->unknown_users)
        fprintf(out, "  labels      %" PRIu64 " lines are of users without an event before their time\n",
                t->unknown_users);
}

/* ---- figures ---------------------------------------------------------------------------------------------------- */

static const char *const figure_names[] = {"recall@1", "recall@5", "recall@10", "recall@20", "mrr@20", "ndcg@20",
                                           "roc_auc", "pr_auc", "log_loss", "brier", "accuracy", "precision", "recall",
                                           "f1", NULL};

static void print_cell(FILE *out, const json_t *of, const char *figure)
{
    const json_t *value = of ? json_object_get(of, figure) : NULL;
    if (json_is_number(value))
        fprintf(out, " %11.4f |", json_number_value(value));
    else
        fprintf(out, " %11s |", "");
}

static void print_head(FILE *out, const char *name, const json_t *head)
{
    const json_t *baselines = json_object_get(head, "baselines");
    fprintf(out, "\n%s: %" JSON_INTEGER_FORMAT " predictions\n\n", name,
            json_integer_value(json_object_get(head, "predictions")));
    if (!baselines)
        return;
    fprintf(out, "| %-10s | %11s | %-17s |", "", "model", "95 % interval");
    for (int b = 0; b < EVAL_BASELINES; b++)
        fprintf(out, " %11s |", eval_baseline_name((enum eval_baseline)b));
    fputs("\n|---|---|---|---|---|---|\n", out);
    for (size_t i = 0; figure_names[i]; i++) {
        const char *f = figure_names[i];
        if (!json_is_number(json_object_get(head, f)))
            continue;
        fprintf(out, "| %-10s |", f);
        print_cell(out, head, f);
        const json_t *range = json_object_get(json_object_get(head, "interval"), f);
        if (!range)
            fprintf(out, " %17s |", "");
        else
            fprintf(out, " %7.4f … %7.4f |", json_number_value(json_array_get(range, 0)),
                    json_number_value(json_array_get(range, 1)));
        for (int b = 0; b < EVAL_BASELINES; b++)
            print_cell(out, json_object_get(baselines, eval_baseline_name((enum eval_baseline)b)), f);
        fputc('\n', out);
    }
}

void train_report_metrics(FILE *out, const json_t *metrics)
{
    const char *name;
    const json_t *head;
    json_object_foreach((json_t *)metrics, name, head)
        print_head(out, name, head);
}

/* The figure's mean ± spread. */
static void print_spread(FILE *out, const json_t *of, const char *figure)
{
    const json_t *mean = json_object_get(json_object_get(of, "mean"), figure);
    if (json_is_number(mean))
        fprintf(out, " %8.4f ± %6.4f |", json_number_value(mean),
                json_number_value(json_object_get(json_object_get(of, "sd"), figure)));
    else
        fprintf(out, " %17s |", "");
}

void train_report_folds(FILE *out, const json_t *folds)
{
    const char *name;
    json_t *head;
    json_object_foreach((json_t *)folds, name, head) {
        const json_t *baselines = json_object_get(head, "baselines");
        fprintf(out, "\n%s: %" JSON_INTEGER_FORMAT " folds, each learned from what lies before it; mean ± standard "
                "deviation\n\n| %-10s | %17s |", name, json_integer_value(json_object_get(head, "n")), "", "model");
        for (int b = 0; b < EVAL_BASELINES; b++)
            fprintf(out, " %17s |", eval_baseline_name((enum eval_baseline)b));
        fputs("\n|---|---|---|---|---|\n", out);
        for (size_t i = 0; figure_names[i]; i++) {
            if (!json_object_get(json_object_get(head, "mean"), figure_names[i]))
                continue;
            fprintf(out, "| %-10s |", figure_names[i]);
            print_spread(out, head, figure_names[i]);
            for (int b = 0; b < EVAL_BASELINES; b++)
                print_spread(out, json_object_get(baselines, eval_baseline_name((enum eval_baseline)b)),
                             figure_names[i]);
            fputc('\n', out);
        }
    }
}

/* ---- the card --------------------------------------------------------------------------------------------------- */

static void print_card(FILE *out, const struct train_job *job, const struct model *m, const struct train_set *s,
                       const struct train_collected *c, const json_t *metrics, const json_t *folds,
                       bool refitted)
{
    fprintf(out, "# Model %s\n\nMade by\n\n    %s\n\n## What it does\n\n", model_id(m), job->command);
    for (uint32_t h = 0; h < m->heads_n; h++) {
        const struct model_head *x = &m->heads[h];
        if (x->kind == MODEL_SOFTMAX)
            fprintf(out, "- `%s`: after each event, probabilities of the next event's %s among %u.\n", x->name,
                    x->target, x->classes);
        else if (strcmp(x->target, "intent") == 0)
            fprintf(out, "- `%s`: the probability that the user buys (`%s`) within %.3g hours.\n", x->name,
                    job->task.purchase, (double)m->intent_horizon_ms / 3.6e6);
        else
            fprintf(out, "- `%s`: the probability of the label.\n", x->name);
    }
    fprintf(out, "\n## Data\n\nHash %016" PRIx64 ".\n\n```\n", s->hash);
    train_report_data(out, c);
    fprintf(out, "```\n\n## How good it is\n\n");
    if (json_object_size(metrics) == 0)
        fputs("Not measured: trained without a validation part.\n", out);
    else
        fprintf(out, "On the last %.0f %% of the time, which was not learned from%s. Sequences are resampled for the "
                "intervals.\n", job->valid * 100,
                refitted ? " (the weights in the file were then learned once more, with this part included)" : "");
    train_report_metrics(out, metrics);
    if (folds)
        train_report_folds(out, folds);
    fputs("\n## Limits\n\n"
          "- It knows the names that its data had; anything new is \"unknown\" until it is trained again.\n"
          "- It was measured on this shop and this span of time. A season, a sale or another shop can differ.\n"
          "- Figures over all users hide groups: before decisions about people, compare groups.\n", out);
    if (job->task.positive_weight != 1)
        fputs("- Positives were given more weight than they have, so a probability of a label is a score, not a "
              "frequency; see the calibration in the metrics.\n", out);
}

int train_report_card(const struct train_job *job, const struct model *m, const struct train_set *s,
                      const struct train_collected *c, const json_t *metrics, const json_t *folds, bool refitted,
                      struct error *err)
{
    char path[4096];
    struct part_file file;
    size_t len = strlen(job->out);
    const char *suffix = ".safetensors";
    if (len > strlen(suffix) && strcmp(job->out + len - strlen(suffix), suffix) == 0)
        len -= strlen(suffix);
    if (len + 4 > sizeof path || (job->card && strlen(job->card) >= sizeof path))
        return error_set(err, "--out or --card: the path is too long");
    if (job->card)
        snprintf(path, sizeof path, "%s", job->card);
    else
        snprintf(path, sizeof path, "%.*s.md", (int)len, job->out);
    if (!part_file_open(&file, path, err))
        return -1;
    print_card(file.out, job, m, s, c, metrics, folds, refitted);
    return part_file_close(&file, err) < 0 ? error_prefix(err, "the model itself is saved, its card is not") : 0;
}
