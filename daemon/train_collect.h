/* SPDX-License-Identifier: Apache-2.0 */
/* train_collect.h - event files, or a topic, through a real engine into a train_set: the configuration's own decode and
 * window code, with the files as source, memory as store and a sink that copies what passes. So training sees what
 * serving sees. */
#ifndef GAIT_TRAIN_COLLECT_H
#define GAIT_TRAIN_COLLECT_H

#include "train_days.h"
#include "train_set.h"
#include "train_stop.h"

#include "gait/batch.h"

struct train_collect_options {
    const char *conf;                /* NULL = defaults */
    const char *const *files;        /* CSV by their names, else JSON lines */
    size_t files_n;
    bool from_kafka;                 /* instead of files: the topic of `conf`, see train_kafka.h */
    char csv_delimiter;              /* 0 = by the name */
    const char *const *columns;      /* each must be there */
    size_t columns_n;
    bool default_columns;            /* instead: those of a useful list that the configuration has */
    const struct train_days *exclude; /* events of these days count for the windows only; NULL = none */
    struct train_stop *stop;
    bool show_progress;
};

struct train_collected {
    struct train_set *set;           /* not arranged yet */
    uint64_t results[EVENT_VERDICTS];
    uint64_t excluded;               /* of those that are OK, on a day to leave out */
    char example[EVENT_VERDICTS][160]; /* what the first event of that verdict was about */
};

/* -1 with a text: a file or the configuration cannot be read, a column is unknown, no event was usable. */
int train_collect(const struct train_collect_options *o, struct train_collected *out, struct error *err);

#endif
