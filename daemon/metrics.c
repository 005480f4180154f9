// SPDX-License-Identifier: Apache-2.0
// metrics.c - the registry of metric rows and their cells, and their text form.
//
//   metrics ─► rows (one a declared metric) ─► cells (one a label value), each allocated on its own: pointers stay
#include "gait/metrics.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CELLS_MAX = 1000, BUCKETS_PER_DOUBLING = 8, BUCKET_FIRST_NS = 1000 };

struct cell {
    struct metric_cell cell; /* first: what callers hold */
    char *label_value;       /* NULL for a row without label */
};

struct row {
    const struct metric *metric;
    struct cell **cells;
    size_t cells_n, cells_cap;
};

struct metrics {
    struct row *rows;
    size_t n, cap;
};

struct metrics *metrics_create(void)
{
    struct metrics *metrics = calloc(1, sizeof *metrics);
    assert(metrics);
    return metrics;
}

void metrics_destroy(struct metrics **metrics)
{
    struct metrics *m = *metrics;
    if (!m)
        return;
    for (size_t i = 0; i < m->n; i++) {
        for (size_t j = 0; j < m->rows[i].cells_n; j++) {
            free(m->rows[i].cells[j]->cell.buckets);
            free(m->rows[i].cells[j]->label_value);
            free(m->rows[i].cells[j]);
        }
        free(m->rows[i].cells);
    }
    free(m->rows);
    free(m);
    *metrics = NULL;
}

static struct row *find_row(const struct metrics *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->rows[i].metric->name, name) == 0)
            return &m->rows[i];
    return NULL;
}

static struct cell *add_cell(struct row *row, const char *label_value)
{
    if (row->cells_n == row->cells_cap) {
        row->cells_cap = row->cells_cap ? row->cells_cap * 2 : 1;
        row->cells = realloc(row->cells, row->cells_cap * sizeof(struct cell *));
        assert(row->cells);
    }
    struct cell *cell = calloc(1, sizeof *cell);
    assert(cell);
    if (row->metric->kind == METRIC_HISTOGRAM) {
        cell->cell.buckets = calloc(METRIC_BUCKETS, sizeof(uint64_t));
        assert(cell->cell.buckets);
    }
    if (label_value) {
        cell->label_value = strdup(label_value);
        assert(cell->label_value);
    }
    row->cells[row->cells_n++] = cell;
    return cell;
}

void metrics_declare(struct metrics *m, const struct metric *table)
{
    for (const struct metric *metric = table; metric->name; metric++) {
        if (find_row(m, metric->name))
            continue;
        if (m->n == m->cap) {
            m->cap = m->cap ? m->cap * 2 : 64;
            m->rows = realloc(m->rows, m->cap * sizeof *m->rows);
            assert(m->rows);
        }
        m->rows[m->n] = (struct row){.metric = metric};
        if (!metric->label)
            add_cell(&m->rows[m->n], NULL);
        m->n++;
    }
}

struct metric_cell *metric_cell(struct metrics *m, const char *name, const char *label_value)
{
    struct row *row = find_row(m, name);
    assert(row && !row->metric->label == !label_value);
    if (!label_value)
        return &row->cells[0]->cell;
    for (;;) {
        for (size_t i = 0; i < row->cells_n; i++)
            if (strcmp(row->cells[i]->label_value, label_value) == 0)
                return &row->cells[i]->cell;
        if (row->cells_n < CELLS_MAX || strcmp(label_value, "other") == 0)
            return &add_cell(row, label_value)->cell;
        label_value = "other";
    }
}

/* ---- histograms --------------------------------------------------------------------------------------------------
 * Bucket 0 holds all up to 1 µs. Bucket 1 + 8·d + s holds up to 1 µs · 2^d · (1 + (s + 1)/8): linear steps within each
 * doubling, so the index needs no logarithm and the error is at most 1/8 of the value. */

static size_t bucket_of(uint64_t ns)
{
    if (ns <= BUCKET_FIRST_NS)
        return 0;
    uint64_t units = (ns - 1) / BUCKET_FIRST_NS; /* ≥ 1 exactly when ns > 1 µs */
    unsigned doubling = 63 - (unsigned)__builtin_clzll(units);
    uint64_t base = (uint64_t)BUCKET_FIRST_NS << doubling;
    size_t step = (size_t)((ns - 1 - base) * BUCKETS_PER_DOUBLING / base);
    size_t bucket = 1 + BUCKETS_PER_DOUBLING * (size_t)doubling + step;
    return bucket < METRIC_BUCKETS ? bucket : METRIC_BUCKETS - 1;
}

static double bucket_upper_seconds(size_t bucket)
{
    if (bucket == 0)
        return BUCKET_FIRST_NS * 1e-9;
    size_t doubling = (bucket - 1) / BUCKETS_PER_DOUBLING, step = (bucket - 1) % BUCKETS_PER_DOUBLING;
    return ldexp(BUCKET_FIRST_NS * 1e-9, (int)doubling) * (1 + (double)(step + 1) / BUCKETS_PER_DOUBLING);
}

void metric_observe_ns(struct metric_cell *cell, uint64_t ns, uint64_t times)
{
    cell->buckets[bucket_of(ns)] += times;
    cell->value += (double)ns * 1e-9 * (double)times;
}

static uint64_t observations(const struct metric_cell *cell)
{
    uint64_t n = 0;
    for (size_t i = 0; i < METRIC_BUCKETS; i++)
        n += cell->buckets[i];
    return n;
}

double metric_quantile(const struct metric_cell *cell, double q)
{
    assert(q > 0 && q <= 1);
    uint64_t n = observations(cell);
    uint64_t rank = (uint64_t)ceil(q * (double)n), below = 0;
    for (size_t i = 0; n > 0 && i < METRIC_BUCKETS; i++) {
        below += cell->buckets[i];
        if (below >= rank)
            return bucket_upper_seconds(i);
    }
    return 0;
}

double metrics_sum(const struct metrics *m, const char *name)
{
    const struct row *row = find_row(m, name);
    double sum = 0;
    for (size_t i = 0; row && i < row->cells_n; i++)
        sum += row->cells[i]->cell.value;
    return sum;
}

/* ---- text ------------------------------------------------------------------------------------------------------ */

static void write_escaped(const char *text, size_t len, FILE *out)
{
    for (; len-- > 0; text++) {
        if (*text == '\\' || *text == '"')
            fputc('\\', out);
        if (*text == '\n')
            fputs("\\n", out);
        else
            fputc(*text, out);
    }
}

/* label="value", for several labels each with its own part of the value. */
static void write_labels(const char *names, const char *values, FILE *out)
{
    for (;;) {
        size_t name_len = strcspn(names, ","), len = strcspn(values, METRIC_VALUES_SEPARATOR);
        fprintf(out, "%.*s=\"", (int)name_len, names);
        write_escaped(values, names[name_len] ? len : strlen(values), out);
        fputc('"', out);
        if (!names[name_len])
            return;
        fputc(',', out);
        names += name_len + 1;
        values += values[len] ? len + 1 : len;
    }
}

/* NAME{label="value",le="…"} with whichever of the two is there. */
static void write_name(const struct row *row, const struct cell *cell, const char *suffix, const char *le, FILE *out)
{
    fprintf(out, "%s%s", row->metric->name, suffix);
    if (!cell->label_value && !le) {
        fputc(' ', out);
        return;
    }
    fputc('{', out);
    if (cell->label_value) {
        write_labels(row->metric->label, cell->label_value, out);
        if (le)
            fputc(',', out);
    }
    if (le)
        fprintf(out, "le=\"%s\"", le);
    fputs("} ", out);
}

/* The fine buckets serve quantiles; the exposition shows each doubling, which is what a graph can use. */
static void write_histogram(const struct row *row, const struct cell *cell, FILE *out)
{
    uint64_t below = 0;
    for (size_t i = 0; i < METRIC_BUCKETS; i++) {
        below += cell->cell.buckets[i];
        if (i % BUCKETS_PER_DOUBLING != 0)
            continue;
        char le[32];
        snprintf(le, sizeof le, "%g", bucket_upper_seconds(i));
        write_name(row, cell, "_bucket", le, out);
        fprintf(out, "%llu\n", (unsigned long long)below);
    }
    write_name(row, cell, "_bucket", "+Inf", out);
    fprintf(out, "%llu\n", (unsigned long long)below);
    write_name(row, cell, "_sum", NULL, out);
    fprintf(out, "%.9g\n", cell->cell.value);
    write_name(row, cell, "_count", NULL, out);
    fprintf(out, "%llu\n", (unsigned long long)below);
}

void metrics_write(const struct metrics *m, FILE *out)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    for (size_t i = 0; i < m->n; i++) {
        const struct row *row = &m->rows[i];
        fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", row->metric->name, row->metric->help, row->metric->name,
                kinds[row->metric->kind]);
        for (size_t j = 0; j < row->cells_n; j++) {
            if (row->metric->kind == METRIC_HISTOGRAM) {
                write_histogram(row, row->cells[j], out);
                continue;
            }
            write_name(row, row->cells[j], "", NULL, out);
            if (isnan(row->cells[j]->cell.value))
                fputs("NaN\n", out); /* printf may give it a sign, which Prometheus does not read */
            else
                fprintf(out, "%.15g\n", row->cells[j]->cell.value);
        }
    }
}

int metrics_write_file(const struct metrics *m, const char *path)
{
    char temporary[4096];
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.new", path) >= sizeof temporary)
        return -1;
    FILE *out = fopen(temporary, "w");
    if (!out)
        return -1;
    metrics_write(m, out);
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed || rename(temporary, path) < 0) {
        unlink(temporary);
        return -1;
    }
    return 0;
}
