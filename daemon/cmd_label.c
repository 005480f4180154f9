// SPDX-License-Identifier: Apache-2.0
// cmd_label.c - `gaitd label`: a label file from event files, for heads beside interest and intent.
#include "arguments.h"
#include "cmd.h"
#include "label.h"
#include "part_file.h"
#include "train_job.h"
#include "value.h"

#include "gait/log.h"

#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static void print_usage(FILE *out)
{
    fputs("Usage: gaitd label {--churn | --returns | --abandon} TIME --events FILE... [OPTION...]\n\n"
          "Says after each event what became of it, by the events that follow: a label file for gaitd train.\n\n"
          "  --churn TIME          1 when the user begins no other session within TIME, such as 30d\n"
          "  --returns TIME        1 when the user begins another session within TIME: when they come again,\n"
          "                        as classes of a day, a week … (one file for each)\n"
          "  --abandon TIME        1 when something is in the cart and no purchase follows within TIME, such as 1h\n"
          "  --name NAME           of the label (churn, returns or abandon)\n"
          "  --events FILE...      JSON lines or CSV, plain, gzip or zstd, in the order of time; - is standard input\n"
          "  --from-kafka          instead: the topic of the configuration's source.kafka\n"
          "  --csv-delimiter C     (, and a tab for .tsv)\n"
          "  -c, --config FILE     the daemon's configuration: mapping, event types (defaults)\n"
          "  --out FILE            (standard output)    -h, --help   print this text\n\n"
          "Answers that the end of the data leaves open are left out. Each has the time when it was known: training\n"
          "uses it, so that no model learns what it could not have known at its time.\n\n"
          "Example: gaitd label --churn 7d --events shop.jsonl.gz --out churn.csv\n"
          "         gaitd train --target category,label:churn --labels churn.csv --events shop.jsonl.gz \\\n"
          "             --out shop.safetensors\n", out);
}

struct request {
    struct train_collect_options collect;
    const char *files[TRAIN_FILES_MAX];
    enum label_kind kind;          /* LABEL_KINDS = not said */
    int64_t within_ms;
    const char *name, *out;
    struct train_stop stop;
};

static int add_file(struct request *r, const char *path, struct error *err)
{
    if (r->collect.files_n == TRAIN_FILES_MAX)
        return error_set(err, "more than %d event files", TRAIN_FILES_MAX);
    r->files[r->collect.files_n++] = path;
    return 0;
}

static int set_option(struct request *r, int option, const char *value, struct error *err)
{
    switch (option) {
    case 'C': case 'R': case 'A':
        if (r->kind != LABEL_KINDS)
            return error_set(err, "one of --churn, --returns and --abandon at a time");
        r->kind = option == 'C' ? LABEL_CHURN : option == 'R' ? LABEL_RETURNS : LABEL_ABANDON;
        return value_duration(value, false, &r->within_ms, err) < 0
                   ? error_prefix(err, "--%s", label_kind_name(r->kind)) : 0;
    case 'e': return add_file(r, value, err);
    case 'K': r->collect.from_kafka = true; return 0;
    case 'd':
        r->collect.csv_delimiter = strcmp(value, "\\t") == 0 ? '\t' : *value;
        return strlen(value) == 1 || r->collect.csv_delimiter == '\t' ? 0 : error_set(err, "--csv-delimiter: one byte");
    case 'c': r->collect.conf = value; return 0;
    case 'n':
        r->name = value;
        return *value && strlen(value) <= MODEL_NAME_MAX - strlen("label:") && !value[strcspn(value, ",\r\n\"")]
                   ? 0 : error_set(err, "--name: '%s' is no name for a label", value);
    case 'o': r->out = value; return 0;
    default: assert(!"an option without a case"); return -1;
    }
}

static int check(const struct request *r, struct error *err)
{
    if (r->kind == LABEL_KINDS)
        return error_set(err, "--churn, --returns or --abandon is missing");
    if (r->within_ms <= 0)
        return error_set(err, "--%s: the time has to be longer than 0", label_kind_name(r->kind));
    if (r->collect.from_kafka && (r->collect.files_n || !r->collect.conf))
        return error_set(err, "--from-kafka %s", r->collect.conf ? "and --events exclude each other"
                                                                 : "needs --config, which names broker and topic");
    return r->collect.files_n || r->collect.from_kafka ? 0 : error_set(err, "--events (or --from-kafka) is missing");
}

/* 0 = go on; else the exit status + 1. */
static int parse(int argc, char **argv, struct request *r)
{
    static const struct long_option options[] = {
        {"churn", required_argument, NULL, 'C'}, {"returns", required_argument, NULL, 'R'},
        {"abandon", required_argument, NULL, 'A'}, {"name", required_argument, NULL, 'n'},
        {"events", required_argument, NULL, 'e'}, {"from-kafka", no_argument, NULL, 'K'},
        {"csv-delimiter", required_argument, NULL, 'd'}, {"config", required_argument, NULL, 'c'},
        {"out", required_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
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
        rc = add_file(r, argv[optind], &err);
    if (rc == 0)
        rc = check(r, &err);
    if (rc < 0)
        fprintf(stderr, "gaitd label: %s\n", err.text);
    return rc < 0 ? 3 : 0;
}

static int write_file(const struct request *r, const struct train_set *s, const int8_t *answers,
                      struct label_counts *counts, struct error *err)
{
    struct part_file file;
    FILE *out = r->out ? part_file_open(&file, r->out, err) : stdout;
    if (!out)
        return error_prefix(err, "--out");
    label_write(out, s, r->name ? r->name : label_kind_name(r->kind), answers, r->within_ms, counts);
    if (!r->out)
        return 0; /* main() looks at standard output */
    return part_file_close(&file, err) < 0 ? error_prefix(err, "--out") : 0;
}

static int run(struct request *r, struct error *err)
{
    struct train_collected c;
    struct label_counts counts;
    int rc = train_collect(&r->collect, &c, err);
    if (rc == 0) {
        train_set_arrange(c.set, TRAIN_BY_SESSION);
        int8_t *answers = calloc(c.set->n + 1, 1);
        assert(answers);
        label_answers(c.set, r->kind, r->within_ms, answers);
        rc = write_file(r, c.set, answers, &counts, err);
        free(answers);
    }
    if (rc == 0)
        fprintf(stderr, "%" PRIu64 " answers, %" PRIu64 " of them 1; %" PRIu64 " are open when the data ends\n",
                counts.ones + counts.zeros, counts.ones, counts.open);
    if (rc == 0 && counts.unwritable)
        fprintf(stderr, "%" PRIu64 " are left out: their user's name has a comma or a line's end\n", counts.unwritable);
    train_set_destroy(&c.set);
    return rc;
}

int cmd_label(int argc, char **argv)
{
    struct request r = {.kind = LABEL_KINDS};
    struct error err;
    r.collect.files = r.files;
    r.collect.stop = &r.stop;
    signal(SIGPIPE, SIG_IGN);
    log_setup(LOG_WARNING, LOG_FORMAT_TEXT);
    int status = parse(argc, argv, &r);
    if (status)
        return status - 1;
    if (run(&r, &err) == 0)
        return 0;
    fprintf(stderr, "gaitd label: %s\n", err.text);
    return 1;
}
