// SPDX-License-Identifier: Apache-2.0
// sim_compare.c - after everything has healed: are outputs, records and receipts what the oracle says?
#include "sim_world.h"

#include <stdlib.h>

static int by_place(const void *a, const void *b)
{
    const struct output *x = a, *y = b;
    if (x->partition != y->partition)
        return x->partition < y->partition ? -1 : 1;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return x->sum < y->sum ? -1 : x->sum > y->sum;
}

static const char *compare_outputs(struct world *w, struct outputs *right, char *text, size_t cap)
{
    struct outputs *got = &w->outputs;
    if (got->n)
        qsort(got->at, got->n, sizeof *got->at, by_place);
    if (right->n)
        qsort(right->at, right->n, sizeof *right->at, by_place);
    size_t g = 0;
    for (size_t r = 0; r < right->n; r++) {
        size_t copies = 0;
        if (g < got->n && by_place(&got->at[g], &right->at[r]) < 0)
            break;
        while (g < got->n && by_place(&got->at[g], &right->at[r]) == 0)
            g++, copies++;
        if ((copies == 0 && !right->at[r].optional) || (w->exactly_once && copies > 1)) {
            snprintf(text, cap, "output '%c' of partition %d offset %lld is there %zu times", right->at[r].kind,
                     right->at[r].partition, (long long)right->at[r].offset, copies);
            return text;
        }
    }
    if (g == got->n)
        return NULL;
    snprintf(text, cap, "output '%c' of partition %d offset %lld is not what the oracle says", got->at[g].kind,
             got->at[g].partition, (long long)got->at[g].offset);
    return text;
}

static const char *compare_records(const struct world *w, const struct oracle *oracle, char *text, size_t cap)
{
    for (int p = 0; p < PARTITIONS; p++) {
        if (w->w[p] != w->log_n[p] || w->committed[p] != w->log_n[p]) {
            snprintf(text, cap, "partition %d: W %lld and C %lld, not %lld", p, (long long)w->w[p],
                     (long long)w->committed[p], (long long)w->log_n[p]);
            return text;
        }
        for (int u = 0; u < USERS; u++) {
            const struct bytes *got = &w->records[p][u], *right = &oracle->records[p][u];
            if (got->n == right->n && (got->n == 0 || memcmp(got->at, right->at, got->n) == 0))
                continue;
            size_t at = 0;
            while (at < got->n && at < right->n && (got->at[at] == right->at[at] || (at >= 8 && at < 16)))
                at++;
            snprintf(text, cap,
                     "the record of user u%d in partition %d differs from byte %zu on (%zu bytes, %zu expected)",
                     u, p, at, got->n, right->n);
            return text;
        }
    }
    return NULL;
}

static const char *compare_receipts(const struct world *w, char *text, size_t cap)
{
    for (int64_t i = 0; i < w->erasures_n; i++) {
        for (int p = 0; p < PARTITIONS; p++) {
            if (w->erasures[i].receipts[p])
                continue;
            snprintf(text, cap, "the erasure of user u%u has no receipt from partition %d", w->erasures[i].user, p);
            return text;
        }
    }
    return NULL;
}

static bool contains(const struct outputs *outputs, const struct output *output)
{
    for (size_t i = 0; i < outputs->n; i++)
        if (by_place(&outputs->at[i], output) == 0)
            return true;
    return false;
}

/* What came of an erased user's clicks before the erasure may have gone out in time or not. */
static void allow_before_erasure(const struct world *w, struct outputs *right)
{
    struct oracle plain = {0};
    oracle_work_out(&plain, w, false);
    for (size_t i = 0; i < plain.outputs.n; i++) {
        struct output *output = &plain.outputs.at[i];
        uint32_t user = w->log[output->partition][output->offset].user;
        for (int64_t k = 0; k < w->erasures_n; k++) {
            const struct sim_erasure *erasure = &w->erasures[k];
            if (erasure->user != user || output->offset >= erasure->offset || contains(right, output))
                continue;
            output->optional = true;
            outputs_add(right, output);
        }
    }
    oracle_free(&plain);
}

const char *world_compare(struct world *w, char *text, size_t cap)
{
    struct oracle oracle = {0};
    oracle_work_out(&oracle, w, true);
    if (w->erasures_n > 0)
        allow_before_erasure(w, &oracle.outputs);
    const char *wrong = compare_outputs(w, &oracle.outputs, text, cap);
    if (!wrong)
        wrong = compare_records(w, &oracle, text, cap);
    if (!wrong)
        wrong = compare_receipts(w, text, cap);
    oracle_free(&oracle);
    return wrong;
}
