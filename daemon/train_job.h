/* SPDX-License-Identifier: Apache-2.0 */
/* train_job.h - what `gaitd train` does from event files to a model file, and `gaitd eval` from a model to figures.
 *
 *   files ─► train_collect ─► train_set ─► report ─► outline, task ─► train_learn ─► eval ─► model and its card
 */
#ifndef GAIT_TRAIN_JOB_H
#define GAIT_TRAIN_JOB_H

#include "eval.h"
#include "eval_slices.h"
#include "train_collect.h"
#include "train_folds.h"
#include "train_task.h"

#include <stdio.h>

enum { TRAIN_FILES_MAX = 256, TRAIN_ENSEMBLE_MAX = 16 };

struct train_job {
    /* what to read */
    const char *conf, *labels, *catalogue;
    const char *files[TRAIN_FILES_MAX];
    size_t files_n;
    bool from_kafka;          /* instead of files */
    char csv_delimiter;       /* 0 = by the name */
    const char *features[MODEL_FEATURES_MAX];
    size_t features_n;
    bool default_features;
    struct train_days exclude;
    enum train_sequence_kind sequence;
    /* what to learn, and how */
    struct train_outline outline;
    struct train_task_options task;
    struct train_options learn;
    uint32_t samples;         /* classes that a large softmax learns from at a time; 0 = always all */
    double valid;             /* share of the time's end that validates; 0 = none */
    uint32_t folds;           /* first measure by so many forward-chaining folds; 0 = do not */
    uint32_t ensemble;        /* networks of different seeds, averaged */
    bool refit;               /* then once more on everything, for as many epochs as were best */
    /* where to */
    const char *out;
    const char *card;         /* NULL: beside the model, .md instead of .safetensors */
    const char *against;      /* a model to judge beside it on the validation part; NULL = none */
    const char *command;      /* for the record */
    bool resume;              /* go on from the checkpoint beside `out`, if there is one */
    bool quiet;
    bool progress;            /* show it on standard error */
    struct train_stop *stop;
};

int train_job_run(const struct train_job *job, struct error *err);

struct eval_job {
    const char *conf, *labels, *model, *target, *purchase;
    FILE *ranks;              /* see struct eval_request */
    const char *files[TRAIN_FILES_MAX], *warmup[TRAIN_FILES_MAX];
    size_t files_n, warmup_n;
    bool from_kafka;          /* instead of files */
    char csv_delimiter;
    enum train_sequence_kind sequence;
    struct eval_by by;
    bool sliced;              /* `by` is asked for */
    const char *html;         /* a report for people; NULL = none */
    uint32_t threads;
    bool intervals, quiet;
    struct train_stop *stop;
};

/* How the model's sequences were cut, by its own record; by user where it does not say (or cannot be read). */
enum train_sequence_kind eval_job_sequence(const char *model);
/* The object of eval_head(); NULL with a text. */
json_t *eval_job_run(const struct eval_job *job, struct error *err);

/* ---- train_settings.c ------------------------------------------------------------------------------------------- */
/* What the weights depend on: option → text, a new object. NULL with a text. */
json_t *train_settings(const struct train_job *job, const struct train_set *s, struct error *err);

/* ---- train_report.c --------------------------------------------------------------------------------------------- */
/* Rows, users, span, what was dropped and why. */
void train_report_data(FILE *out, const struct train_collected *c);
/* Vocabularies, features and classes as they were chosen. */
void train_report_task(FILE *out, const struct model *m, const struct train_task *t);
void train_report_metrics(FILE *out, const json_t *metrics);
/* The object of train_folds_sum(). */
void train_report_folds(FILE *out, const json_t *folds);
/* The model card; `folds` may be NULL. -1 with a text. */
int train_report_card(const struct train_job *job, const struct model *m, const struct train_set *s,
                      const struct train_collected *c, const json_t *metrics, const json_t *folds, bool refitted,
                      struct error *err);

#endif
