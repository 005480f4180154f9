// SPDX-License-Identifier: Apache-2.0
// cmd_eval.c - `gaitd eval`: the command line. The work is in eval_job.c.
#include "arguments.h"
#include "cmd.h"
#include "train_job.h"
#include "value.h"

#include "gait/log.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static void print_usage(FILE *out)
{
    fputs("Usage: gaitd eval --model MODEL {--events FILE... | --from-kafka} [OPTION...]\n\n"
          "Says how good a model is on events that it has not learned from: one prediction for each event after a\n"
          "sequence's first, beside three baselines (popularity, repeat_last, first-order markov) on the same ones.\n\n"
          "  --model MODEL         the model\n"
          "  --events FILE...      JSON lines or CSV, plain, gzip or zstd, in the order of time\n"
          "  --from-kafka          instead: the topic of the configuration's source.kafka, from beginning to end\n"
          "  --csv-delimiter C     (, and a tab for .tsv)\n"
          "  --warmup FILE         events before those (may be repeated): they fill windows and states, and the\n"
          "                        baselines count them; without it baselines count as they go, after each prediction\n"
          "  --target NAME         item, category, intent or label:NAME (the model's first head)\n"
          "  --sequence KIND       user or session (as the model was trained)\n"
          "  --labels FILE,...     for label:NAME\n"
          "  --purchase TYPE       the event type that intent looks for (purchase)\n"
          "  -c, --config FILE     the daemon's configuration (defaults)\n"
          "  --threads N           (1)\n"
          "  --json                one JSON object: shares between 0 and 1, \"interval\" with 95 % bounds over\n"
          "                        resampled sequences, \"baselines\"\n"
          "  --by FIELD            also for each group: type, category, item, country, campaign, page, currency;\n"
          "                        with disparate impact ratio and equalised-odds gap\n"
          "  --fair-bound X        warn where a ratio is below X or a gap above 1 - X (0.8)\n"
          "  --select-at P         with --by, a label counts as given from this probability on (0.5)\n"
          "  --html FILE           a report of one page with plots, which needs neither network nor script\n"
          "  --no-intervals        leave out the intervals (faster)\n"
          "  --ranks FILE          the rank of each answer (item, category), a line each; ties counted half\n"
          "  -h, --help            print this text\n\n"
          "Example: gaitd eval --model shop.safetensors --warmup may.jsonl.gz --events june.jsonl.gz --json\n", out);
}

struct request {
    struct eval_job job;
    bool json, sequence_given;
};

static int add(const char **list, size_t *n, const char *path, struct error *err)
{
    if (*n == TRAIN_FILES_MAX)
        return error_set(err, "more than %d files", TRAIN_FILES_MAX);
    list[(*n)++] = path;
    return 0;
}

static int set_share(double *share, const char *name, const char *value, struct error *err)
{
    if (value_real(value, share, err) < 0)
        return error_prefix(err, "--%s", name);
    return *share >= 0 && *share <= 1 ? 0 : error_set(err, "--%s: %s is not within 0 and 1", name, value);
}

static int set_by(struct eval_job *job, const char *value, struct error *err)
{
    for (int f = 0; f < MODEL_FIELDS; f++)
        if (strcmp(value, model_field_name((enum model_field)f)) == 0) {
            job->by.field = (enum model_field)f;
            job->sliced = true;
            return 0;
        }
    return error_set(err, "--by: '%s' is none of type, category, item, country, campaign, page, currency", value);
}

static int set_option(struct request *r, int option, const char *value, struct error *err)
{
    struct eval_job *job = &r->job;
    int64_t threads;
    switch (option) {
    case 'm': job->model = value; return 0;
    case 'c': job->conf = value; return 0;
    case 't': job->target = value; return 0;
    case 'l': job->labels = value; return 0;
    case 'p': job->purchase = value; return 0;
    case 'd':
        job->csv_delimiter = strcmp(value, "\\t") == 0 ? '\t' : *value;
        return strlen(value) == 1 || job->csv_delimiter == '\t' ? 0 : error_set(err, "--csv-delimiter: one byte");
    case 'r':
        if (job->ranks)
            fclose(job->ranks);
        job->ranks = fopen(value, "we");
        return job->ranks ? 0 : error_set(err, "--ranks: cannot write %s: %s", value, strerror(errno));
    case 'H': job->html = value; return 0;
    case 'b': return set_by(job, value, err);
    case 'f': return set_share(&job->by.bound, "fair-bound", value, err);
    case 'a': return set_share(&job->by.select_at, "select-at", value, err);
    case 'K': job->from_kafka = true; return 0;
    case 'j': r->json = true; return 0;
    case 'n': job->intervals = false; return 0;
    case 'e': return add(job->files, &job->files_n, value, err);
    case 'w': return add(job->warmup, &job->warmup_n, value, err);
    case 's':
        r->sequence_given = true;
        job->sequence = strcmp(value, "session") == 0 ? TRAIN_BY_SESSION : TRAIN_BY_USER;
        return strcmp(value, "session") == 0 || strcmp(value, "user") == 0
                   ? 0 : error_set(err, "--sequence: '%s' is none of user, session", value);
    default:
        if (value_int(value, &threads, err) < 0)
            return error_prefix(err, "--threads");
        if (threads < 1 || threads > TRAIN_THREADS_MAX)
            return error_set(err, "--threads: %s is not within 1 and %d", value, TRAIN_THREADS_MAX);
        job->threads = (uint32_t)threads;
        return 0;
    }
}

/* 0 = go on; else the exit status + 1. */
static int parse(int argc, char **argv, struct request *r)
{
    static const struct long_option options[] = {
        {"model", required_argument, NULL, 'm'},  {"events", required_argument, NULL, 'e'},
        {"warmup", required_argument, NULL, 'w'}, {"target", required_argument, NULL, 't'},
        {"config", required_argument, NULL, 'c'}, {"sequence", required_argument, NULL, 's'},
        {"labels", required_argument, NULL, 'l'}, {"purchase", required_argument, NULL, 'p'},
        {"threads", required_argument, NULL, 'T'}, {"json", no_argument, NULL, 'j'},
        {"csv-delimiter", required_argument, NULL, 'd'}, {"ranks", required_argument, NULL, 'r'},
        {"from-kafka", no_argument, NULL, 'K'}, {"by", required_argument, NULL, 'b'},
        {"html", required_argument, NULL, 'H'},
        {"fair-bound", required_argument, NULL, 'f'}, {"select-at", required_argument, NULL, 'a'},
        {"no-intervals", no_argument, NULL, 'n'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
    };
    struct error err;
    int rc = 0;
    for (int c; rc == 0 && (c = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        if (c == 'h' || c == '?') {
            print_usage(c == 'h' ? stdout : stderr);
            return c == 'h' ? 1 : 3;
        }
        rc = set_option(r, c, optarg, &err);
    }
    for (; optind < argc && rc == 0; optind++)
        rc = add(r->job.files, &r->job.files_n, argv[optind], &err);
    if (rc == 0 && r->job.from_kafka && (r->job.files_n || r->job.warmup_n || !r->job.conf))
        rc = error_set(&err, "--from-kafka %s", r->job.conf ? "excludes --events and --warmup"
                                                            : "needs --config, which names broker and topic");
    if (rc == 0 && (!r->job.model || !(r->job.files_n || r->job.from_kafka)))
        rc = error_set(&err, "--%s is missing", r->job.model ? "events (or --from-kafka)" : "model");
    if (rc < 0)
        fprintf(stderr, "gaitd eval: %s\n", err.text);
    return rc < 0 ? 3 : 0;
}

int cmd_eval(int argc, char **argv)
{
    struct train_stop stop = {0};
    struct request r = {.job = {.purchase = "purchase", .threads = 1, .intervals = true, .stop = &stop,
                                .by = {.bound = 0.8, .select_at = 0.5}}};
    struct error err;
    signal(SIGPIPE, SIG_IGN);
    log_setup(LOG_WARNING, LOG_FORMAT_TEXT);
    int status = parse(argc, argv, &r);
    if (status)
        return status - 1;
    if (!r.sequence_given)
        r.job.sequence = eval_job_sequence(r.job.model);
    json_t *figures = eval_job_run(&r.job, &err);
    if (r.job.ranks && fclose(r.job.ranks) != 0 && figures) {
        json_decref(figures);
        figures = NULL;
        error_set(&err, "--ranks: cannot be written: %s", strerror(errno));
    }
    if (!figures) {
        fprintf(stderr, "gaitd eval: %s\n", err.text);
        return 1;
    }
    if (r.json) {
        json_dumpf(figures, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
        putchar('\n');
    } else {
        json_t *one = json_pack("{s:O}", json_string_value(json_object_get(figures, "target")), figures);
        train_report_metrics(stdout, one);
        if (r.job.sliced)
            eval_slices_print(stdout, json_object_get(figures, "slices"));
        json_decref(one);
    }
    json_decref(figures);
    return 0;
}
