// SPDX-License-Identifier: Apache-2.0
// shadow_table.c - see shadow_table.h. Pages are touched as users come, so a table that is never filled costs little.
#include "shadow_table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct shadow_table {
    unsigned char *at;
    size_t entry_bytes, sets, used;
    uint32_t state_floats;
};

struct shadow_table *shadow_table_create(size_t bytes, uint32_t state_floats)
{
    struct shadow_table *t = calloc(1, sizeof *t);
    assert(t && state_floats > 0);
    t->state_floats = state_floats;
    t->entry_bytes = (sizeof(struct shadow) + state_floats * sizeof(float) + 63) / 64 * 64;
    t->sets = bytes / (t->entry_bytes * SHADOW_WAYS);
    t->sets = t->sets ? t->sets : 1;
    t->at = calloc(t->sets * SHADOW_WAYS, t->entry_bytes);
    if (t->at)
        return t;
    free(t);
    return NULL;
}

void shadow_table_destroy(struct shadow_table **table)
{
    if (*table)
        free((*table)->at);
    free(*table);
    *table = NULL;
}

static struct shadow *entry(const struct shadow_table *t, size_t i)
{
    return (struct shadow *)(void *)(t->at + i * t->entry_bytes);
}

static size_t first_of_set(const struct shadow_table *t, uint64_t hash)
{
    return (size_t)((unsigned __int128)hash * t->sets >> 64) * SHADOW_WAYS;
}

struct shadow *shadow_table_take(struct shadow_table *t, uint64_t hash, uint64_t seq, bool *evicted)
{
    size_t first = first_of_set(t, hash);
    struct shadow *oldest = entry(t, first);
    assert(seq > 0);
    *evicted = false;
    for (size_t way = 0; way < SHADOW_WAYS; way++) {
        struct shadow *s = entry(t, first + way);
        if (s->seq && s->hash == hash)
            return s;
        if (s->seq < oldest->seq)
            oldest = s;
    }
    if (oldest->seq == seq)
        return NULL;
    *evicted = oldest->seq > 0;
    t->used += oldest->seq == 0;
    memset(oldest, 0, sizeof *oldest + t->state_floats * sizeof(float));
    oldest->hash = hash;
    oldest->seq = seq;
    oldest->next = INT64_MIN;
    return oldest;
}

void shadow_table_forget(struct shadow_table *t, uint64_t hash)
{
    size_t first = first_of_set(t, hash);
    for (size_t way = 0; way < SHADOW_WAYS; way++) {
        struct shadow *s = entry(t, first + way);
        if (!s->seq || s->hash != hash)
            continue;
        memset(s, 0, sizeof *s + t->state_floats * sizeof(float));
        t->used--;
    }
}

size_t shadow_table_used(const struct shadow_table *t)
{
    return t->used;
}

size_t shadow_table_size(const struct shadow_table *t)
{
    return t->sets * SHADOW_WAYS;
}

struct shadow *shadow_table_at(struct shadow_table *t, size_t i)
{
    struct shadow *s = entry(t, i);
    return s->seq ? s : NULL;
}
