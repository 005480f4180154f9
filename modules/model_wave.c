// SPDX-License-Identifier: Apache-2.0
// model_wave.c - see model_wave.h. Knows neither where a state lies nor which model is at work.
#include "model_wave.h"

#include "gait/window.h"

#include <assert.h>
#include <stdlib.h>

void wave_create(struct wave *w)
{
    *w = (struct wave){0};
    w->x = calloc((size_t)WAVE_ROWS_MAX * MODEL_WIDTH_MAX, sizeof *w->x);
    w->rows = calloc((size_t)WAVE_ROWS_MAX * MODEL_EMBEDDINGS_MAX, sizeof *w->rows);
    assert(w->x && w->rows);
}

void wave_free(struct wave *w)
{
    free(w->events);
    free(w->x);
    free(w->rows);
    free(w->columns);
    free(w->own);
    *w = (struct wave){0};
}

void wave_grow(struct wave *w, uint32_t events, uint32_t columns)
{
    if (w->events_cap < events) {
        free(w->events);
        w->events = calloc(events, sizeof *w->events);
        w->events_cap = events;
    }
    if (w->columns_cap < columns) {
        free(w->columns);
        w->columns = calloc(columns, sizeof *w->columns);
        w->columns_cap = columns;
    }
    assert((w->events || !events) && (w->columns || !columns));
}

/* ---- the waves of a batch --------------------------------------------------------------------------------------- */

/* Event `i` of a user, or the next one of the same user that counts. */
static int32_t next_counting(const struct batch *b, int32_t i)
{
    while (i >= 0 && b->events[i].verdict != EVENT_OK)
        i = b->events[i].next_of_user;
    return i;
}

uint32_t wave_first(struct wave *w, const struct batch *b)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        int32_t first = b->events[i].record && b->events[i].wave == 0 ? next_counting(b, (int32_t)i) : -1;
        if (first >= 0)
            w->events[n++] = first;
    }
    return n;
}

uint32_t wave_next(struct wave *w, const struct batch *b, uint32_t n)
{
    uint32_t kept = 0;
    for (uint32_t k = 0; k < n; k++) {
        int32_t next = next_counting(b, b->events[w->events[k]].next_of_user);
        if (next >= 0)
            w->events[kept++] = next;
    }
    return kept;
}

/* ---- rebuilding from the ring ----------------------------------------------------------------------------------- */

static bool same_event(const struct window_event *kept, const struct event *event)
{
    return kept->ts_ms == event->ts_ms && kept->type == event->type &&
           kept->category == window_hash32(event->category) && kept->item == window_hash32(event->item);
}

/* The window stage has put this batch's events into the ring already, each in its place in time: look for them from the
 * newest on, and take each once. Of two equal events it does not matter which is taken. */
static void mark_own(struct wave *w, const struct instance *window, const struct batch *b, int32_t first, uint32_t n)
{
    struct user *user = b->events[first].record;
    if (n == 0)
        return;
    memset(w->own, 0, n);
    for (int32_t i = first; i >= 0; i = b->events[i].next_of_user) {
        if (b->events[i].verdict != EVENT_OK)
            continue;
        for (uint32_t at = n; at-- > 0;) {
            struct window_event kept = window_ring_at(window, user, at);
            if (!w->own[at] && same_event(&kept, &b->events[i])) {
                w->own[at] = 1;
                break;
            }
        }
    }
}

uint32_t rebuild_plan(struct wave *w, const struct instance *window, struct batch *b, int32_t first,
                      struct rebuild *plan)
{
    struct user *user = b->events[first].record;
    uint32_t ring = window_ring_count(window, user);
    if (w->own_cap < ring) {
        free(w->own);
        w->own_cap = window_ring_size(window);
        w->own = calloc(w->own_cap, 1);
        assert(w->own && w->own_cap >= ring);
    }
    mark_own(w, window, b, first, ring);
    plan->user = user;
    plan->n = plan->done = 0;
    plan->index = arena_take(b->arena, (ring + 1) * sizeof *plan->index);
    for (uint32_t at = 0; at < ring && plan->index; at++)
        if (!w->own[at])
            plan->index[plan->n++] = at;
    return plan->n;
}

/* One step of all plans that have one left, as a wave. */
static uint32_t rebuild_wave(struct wave *w, const struct instance *window, const struct lstm *l,
                             const struct model_binding *binding, uint32_t width, struct rebuild *plans, uint32_t n)
{
    uint32_t used = 0;
    for (uint32_t p = 0; p < n; p++) {
        if (plans[p].done == plans[p].n)
            continue;
        uint32_t index = plans[p].index[plans[p].done++], *rows = w->rows + (size_t)used * l->model->embeddings_n;
        struct window_event event = window_ring_at(window, plans[p].user, index);
        memset(w->columns, 0, width * sizeof *w->columns);
        window_columns_at(window, plans[p].user, index, -1, w->columns);
        model_rows_of_ring(binding, &event, rows);
        lstm_input(l, binding, rows, w->columns, w->x + (size_t)used * l->input);
        w->state[used++] = plans[p].state;
    }
    lstm_step(l, used, w->rows, w->x, w->state);
    return used;
}

uint64_t rebuild_run(struct wave *w, const struct instance *window, const struct lstm *l,
                     const struct model_binding *binding, struct columns *columns, struct rebuild *plans, uint32_t n)
{
    uint64_t steps = 0;
    assert(n <= WAVE_ROWS_MAX);
    for (uint32_t used = 1; used > 0; steps += used)
        used = rebuild_wave(w, window, l, binding, columns_width(columns), plans, n);
    return steps;
}

/* ---- loading ---------------------------------------------------------------------------------------------------- */

struct lstm *wave_model_load(const struct instance *in, const char *path, const struct lstm_kernel *kernel,
                             struct model **model, struct model_binding *binding, struct error *err)
{
    *model = model_load(path, err);
    if (!*model)
        return NULL;
    if (model_bind(binding, *model, in->types, in->columns, err) == 0)
        return lstm_create(*model, kernel, true);
    error_prefix(err, "model %s", path);
    model_destroy(model);
    return NULL;
}
