/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.h - counters, gauges and histograms, each a row with a name, a unit and a help text.
 *
 * A module declares its rows in a const table (struct module.metrics); the registry instantiates them at open, with an
 * optional label value per cell. Hot code keeps the pointer that metric_cell() returned and adds to it: one thread,
 * no atomics. Names follow Prometheus: gait_ prefix, base units (seconds, bytes), _total for counters. */
#ifndef GAIT_METRICS_H
#define GAIT_METRICS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define METRIC_VALUES_SEPARATOR "\x1f"

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric {
    const char *name;  /* "gait_events_total"; NULL ends a table */
    enum metric_kind kind;
    const char *label; /* the label's name, or NULL for a single cell; several: "version,compiler", and a cell's label
                        * value then holds as many parts, METRIC_VALUES_SEPARATOR between them */
    const char *help;  /* one sentence, with the unit */
};

/* A histogram of durations: logarithmic buckets, 8 to each doubling from 1 µs to 128 s. */
#define METRIC_BUCKETS (27 * 8 + 1)

struct metric_cell {
    double value;       /* counter or gauge; for a histogram the sum, in seconds */
    uint64_t *buckets;  /* histogram only: METRIC_BUCKETS counts */
};

struct metrics;

struct metrics *metrics_create(void);
void metrics_destroy(struct metrics **metrics);

/* Declare a table's rows (the same table twice is fine). Rows without a label get their cell at once, so that they show
 * as 0 before anything happened. */
void metrics_declare(struct metrics *metrics, const struct metric *table);

/* The cell of a declared row; `label_value` NULL for rows without a label. The pointer stays valid as long as
 * `metrics`. Asserts that the row was declared. At most 1,000 label values per row; further ones share "other". */
struct metric_cell *metric_cell(struct metrics *metrics, const char *name, const char *label_value);

static inline void metric_add(struct metric_cell *cell, double by)
{
    cell->value += by;
}

static inline void metric_set(struct metric_cell *cell, double to)
{
    cell->value = to;
}

void metric_observe_ns(struct metric_cell *cell, uint64_t ns, uint64_t times);
/* Quantile of a histogram in seconds, q in (0, 1]; 0 when empty. */
double metric_quantile(const struct metric_cell *cell, double q);

/* Sum of all cells of a row; 0 when none. For summaries and tests. */
double metrics_sum(const struct metrics *metrics, const char *name);

/* Prometheus text exposition, each row with HELP and TYPE. */
void metrics_write(const struct metrics *metrics, FILE *out);

/* The same to `path`, by a temporary file and rename. Returns -1 with errno set. */
int metrics_write_file(const struct metrics *metrics, const char *path);

#endif
