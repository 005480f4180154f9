// SPDX-License-Identifier: Apache-2.0
// train_reference.c - see train_reference.h.
#include "train_reference.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { BINS = 10, VALUES_MAX = 1 << 18 };

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

json_t *train_reference_bins(float *values, size_t n)
{
    size_t numbers = 0;
    for (size_t i = 0; i < n; i++)
        if (isfinite(values[i]))
            values[numbers++] = values[i];
    if (numbers == 0)
        return NULL;
    qsort(values, numbers, sizeof *values, compare_floats);
    json_t *edges = json_array(), *shares = json_array();
    size_t below = 0; /* values up to the last edge */
    for (size_t k = 1; k < BINS; k++) {
        size_t at = k * numbers / BINS;
        if (at < below) /* many values are the same: one bin holds them all */
            continue;
        float edge = values[at];
        size_t end = at + 1;
        while (end < numbers && values[end] == edge)
            end++;
        json_array_append_new(edges, json_real((double)edge));
        json_array_append_new(shares, json_real((double)(end - below) / (double)numbers));
        below = end;
    }
    json_array_append_new(shares, json_real((double)(numbers - below) / (double)numbers));
    return json_pack("{s:o,s:o}", "edges", edges, "shares", shares);
}

json_t *train_reference_features(const struct train_set *s, int64_t until_ms)
{
    json_t *out = json_object();
    size_t every = s->n / VALUES_MAX + 1;
    float *values = malloc((s->n / every + 1) * sizeof *values);
    assert(out && values);
    for (uint32_t c = 0; c < s->columns_n; c++) {
        size_t n = 0;
        for (size_t i = 0; i < s->n; i += every)
            if (s->ts_ms[i] < until_ms)
                values[n++] = s->columns[i * s->columns_n + c];
        json_t *bins = train_reference_bins(values, n);
        if (bins)
            json_object_set_new(out, s->column_names[c], bins);
    }
    free(values);
    return out;
}

/* ---- scores ----------------------------------------------------------------------------------------------------- */

struct said {
    const struct train_task *task;
    const struct model *model;
    float *top1, *intent; /* [events] NaN = nothing was said */
};

/* Each event has its own place, so threads do not meet. */
static void note(void *self, uint32_t thread, uint32_t head, size_t event, const float *p)
{
    struct said *said = self;
    (void)thread;
    if ((int)head == said->model->intent)
        said->intent[event] = p[0];
    if ((int)head != said->model->interest)
        return;
    float top = 0;
    for (uint32_t i = 0; i < said->task->shape.heads[head].classes; i++)
        top = p[i] > top ? p[i] : top;
    said->top1[event] = top;
}

json_t *train_reference_scores(struct train_network *n, const struct train_task *t, const struct model *m,
                               const struct train_options *o, struct train_span span)
{
    size_t events = t->data.set->n;
    struct said said = {.task = t, .model = m};
    said.top1 = malloc((events + 1) * sizeof *said.top1);
    said.intent = malloc((events + 1) * sizeof *said.intent);
    assert(said.top1 && said.intent);
    for (size_t i = 0; i < events; i++)
        said.top1[i] = said.intent[i] = NAN;
    train_measure(n, &t->data, o, span, note, &said);
    json_t *out = json_object(), *top1 = train_reference_bins(said.top1, events);
    json_t *intent = train_reference_bins(said.intent, events);
    if (top1)
        json_object_set_new(out, "top1", top1);
    if (intent)
        json_object_set_new(out, "intent", intent);
    free(said.top1);
    free(said.intent);
    return out;
}
