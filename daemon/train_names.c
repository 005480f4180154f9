// SPDX-License-Identifier: Apache-2.0
// train_names.c - names to numbers, in the order in which they are met, with how often.
#include "train_set.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static void *grown(void *p, size_t n, size_t size)
{
    p = realloc(p, n * size);
    assert(p);
    return p;
}

static void rehash(struct train_names *t)
{
    t->mask = t->mask ? t->mask * 2 + 1 : 255;
    free(t->slot);
    t->slot = calloc((size_t)t->mask + 1, sizeof *t->slot);
    assert(t->slot);
    for (uint32_t id = 1; id <= t->n; id++) {
        uint32_t at = (uint32_t)XXH3_64bits(t->name[id], t->length[id]) & t->mask;
        while (t->slot[at])
            at = (at + 1) & t->mask;
        t->slot[at] = id;
    }
}

/* Where the name is, or the empty slot where it belongs. */
static uint32_t slot_of(const struct train_names *t, struct str name)
{
    uint32_t at = (uint32_t)XXH3_64bits(name.at, name.len) & t->mask;
    while (t->slot[at] && !str_equal(train_names_at(t, t->slot[at]), name))
        at = (at + 1) & t->mask;
    return at;
}

uint32_t train_names_add(struct train_names *t, struct str name)
{
    if (name.len == 0)
        return 0;
    if (!t->slot || t->n * 2 >= t->mask)
        rehash(t);
    uint32_t at = slot_of(t, name);
    if (!t->slot[at]) {
        if (t->n + 2 > t->cap) {
            t->cap = t->cap ? t->cap * 2 : 256;
            t->name = grown(t->name, t->cap, sizeof *t->name);
            t->length = grown(t->length, t->cap, sizeof *t->length);
            t->count = grown(t->count, t->cap, sizeof *t->count);
        }
        uint32_t id = ++t->n;
        t->name[id] = calloc(name.len + 1, 1); /* a name may hold NULs */
        assert(t->name[id]);
        memcpy(t->name[id], name.at, name.len);
        t->length[id] = name.len;
        t->count[id] = 0;
        t->slot[at] = id;
    }
    t->count[t->slot[at]]++;
    return t->slot[at];
}

uint32_t train_names_find(const struct train_names *t, struct str name)
{
    return t->slot && name.len ? t->slot[slot_of(t, name)] : 0;
}

struct str train_names_at(const struct train_names *t, uint32_t id)
{
    return id ? (struct str){t->name[id], t->length[id]} : (struct str){NULL, 0};
}

void train_names_destroy(struct train_names *t)
{
    for (uint32_t id = 1; id <= t->n; id++)
        free(t->name[id]);
    free(t->name);
    free(t->length);
    free(t->count);
    free(t->slot);
    *t = (struct train_names){0};
}
