// SPDX-License-Identifier: Apache-2.0
// drift.c - see drift.h.
#include "drift.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* An empty bin would make the index infinite: it counts as this share. */
#define SHARE_MIN 1e-4

void drift_free(struct drift *d)
{
    for (uint32_t i = 0; i < d->n; i++)
        free(d->items[i].name);
    free(d->items);
    *d = (struct drift){0};
}

bool drift_add(struct drift *d, const char *name, const json_t *bins)
{
    const json_t *edges = json_object_get(bins, "edges"), *shares = json_object_get(bins, "shares");
    size_t n = json_array_size(shares);
    struct drift_item item = {.bins = (uint32_t)n};
    double sum = 0;
    if (n < 1 || n > DRIFT_BINS_MAX || json_array_size(edges) + 1 != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        item.share[i] = json_number_value(json_array_get(shares, i));
        sum += item.share[i];
        if (!(item.share[i] >= 0))
            return false;
        if (i + 1 == n)
            break;
        if (!json_is_number(json_array_get(edges, i)))
            return false;
        item.edge[i] = (float)json_number_value(json_array_get(edges, i));
        if (i > 0 && !(item.edge[i] > item.edge[i - 1]))
            return false;
    }
    if (fabs(sum - 1) > 1e-3)
        return false;
    if (d->n == d->cap) {
        d->cap = d->cap ? 2 * d->cap : 32;
        d->items = realloc(d->items, d->cap * sizeof *d->items);
        assert(d->items);
    }
    item.name = strdup(name);
    assert(item.name);
    d->items[d->n++] = item;
    return true;
}

void drift_count(struct drift *d, uint32_t i, float value)
{
    struct drift_item *item = &d->items[i];
    uint32_t bin = 0;
    if (!isfinite(value))
        return;
    for (uint32_t k = 0; k + 1 < item->bins; k++)
        bin += value > item->edge[k];
    item->count[d->slot][bin]++;
}

void drift_advance(struct drift *d)
{
    d->slot = (d->slot + 1) % DRIFT_SLOTS;
    for (uint32_t i = 0; i < d->n; i++)
        memset(d->items[i].count[d->slot], 0, sizeof d->items[i].count[0]);
}

static uint64_t count_of(const struct drift_item *item, uint32_t bin)
{
    uint64_t n = 0;
    for (uint32_t slot = 0; slot < DRIFT_SLOTS; slot++)
        n += item->count[slot][bin];
    return n;
}

uint64_t drift_values(const struct drift *d, uint32_t i)
{
    uint64_t n = 0;
    for (uint32_t bin = 0; bin < d->items[i].bins; bin++)
        n += count_of(&d->items[i], bin);
    return n;
}

double drift_psi(const struct drift *d, uint32_t i)
{
    const struct drift_item *item = &d->items[i];
    double n = (double)drift_values(d, i), psi = 0;
    if (n == 0)
        return NAN;
    for (uint32_t bin = 0; bin < item->bins; bin++) {
        double live = fmax((double)count_of(item, bin) / n, SHARE_MIN), reference = fmax(item->share[bin], SHARE_MIN);
        psi += (live - reference) * log(live / reference);
    }
    return psi;
}
