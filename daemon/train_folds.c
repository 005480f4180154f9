// SPDX-License-Identifier: Apache-2.0
// train_folds.c - where the folds lie, and what they say together.
#include "train_folds.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare_times(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

int train_folds_cut(const struct train_set *s, double valid, uint32_t n, struct train_fold *folds, struct error *err)
{
    int64_t *times = malloc((s->n + 1) * sizeof *times);
    assert(times && n > 0 && n <= TRAIN_FOLDS_MAX);
    memcpy(times, s->ts_ms, s->n * sizeof *times);
    qsort(times, s->n, sizeof *times, compare_times);
    int rc = s->n < 10 * (size_t)(n + 1) ? error_set(err, "--folds %u: %zu events are too few", n, s->n) : 0;
    for (uint32_t k = 0; k < n && rc == 0; k++) {
        size_t from = s->n * (k + 1) / (n + 1), until = s->n * (k + 2) / (n + 1);
        folds[k].judged = (struct train_span){times[from], k + 1 < n ? times[until] : INT64_MAX};
        folds[k].valid_ms = valid > 0 ? times[(size_t)((double)from * (1 - valid))] : times[from];
        if (times[from] == times[0] || folds[k].judged.from_ms == folds[k].judged.until_ms)
            rc = error_set(err, "--folds %u: too many events have the same time", n);
    }
    free(times);
    return rc;
}

/* Mean and standard deviation over the folds of each figure of `of[k]`; a figure that is undefined in a fold is left
 * out there. */
static json_t *sum_figures(json_t *const *of, size_t n)
{
    json_t *mean = json_object(), *sd = json_object(), *value;
    const char *name;
    json_object_foreach(of[0], name, value) {
        double sum = 0, squares = 0, count = 0;
        for (size_t k = 0; k < n; k++) {
            const json_t *x = json_object_get(of[k], name);
            double v = json_number_value(x);
            if (!json_is_real(x))
                continue;
            sum += v;
            squares += v * v;
            count++;
        }
        if (count == 0)
            continue;
        double variance = count > 1 ? (squares - sum * sum / count) / (count - 1) : 0;
        json_object_set_new(mean, name, json_real(sum / count));
        json_object_set_new(sd, name, json_real(variance > 0 ? sqrt(variance) : 0));
    }
    return json_pack("{s:o,s:o}", "mean", mean, "sd", sd);
}

static json_t *sum_head(const json_t *judged, const char *head, const struct train_fold *folds)
{
    json_t *of[TRAIN_FOLDS_MAX], *baseline, *each = json_array(), *baselines = json_object();
    size_t n = json_array_size(judged);
    const char *name;
    for (size_t k = 0; k < n; k++) {
        of[k] = json_object_get(json_array_get(judged, k), head);
        json_array_append_new(each, json_pack("{s:I,s:O}", "from_ms", (json_int_t)folds[k].judged.from_ms, "figures",
                                              of[k]));
    }
    json_t *out = sum_figures(of, n);
    json_object_foreach(json_object_get(of[0], "baselines"), name, baseline) {
        json_t *theirs[TRAIN_FOLDS_MAX];
        for (size_t k = 0; k < n; k++)
            theirs[k] = json_object_get(json_object_get(of[k], "baselines"), name);
        json_object_set_new(baselines, name, sum_figures(theirs, n));
    }
    json_object_set_new(out, "n", json_integer((json_int_t)n));
    json_object_set_new(out, "baselines", baselines);
    json_object_set_new(out, "each", each);
    return out;
}

json_t *train_folds_sum(const json_t *judged, const struct train_fold *folds)
{
    json_t *out = json_object(), *head;
    const char *name;
    json_object_foreach(json_array_get(judged, 0), name, head)
        json_object_set_new(out, name, sum_head(judged, name, folds));
    return out;
}
