// SPDX-License-Identifier: Apache-2.0
// train_set.c - events into columns of arrays, then into sequences.
#include "train_set.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { SESSION_GAP_MS = 30 * 60 * 1000 };

static void *zeroed(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    assert(p);
    return p;
}

struct train_set *train_set_create(const char *const *column_names, uint32_t columns_n)
{
    struct train_set *s = zeroed(1, sizeof *s);
    s->columns_n = columns_n;
    s->column_names = zeroed(columns_n, sizeof *s->column_names);
    for (uint32_t i = 0; i < columns_n; i++) {
        s->column_names[i] = strdup(column_names[i]);
        assert(s->column_names[i]);
    }
    return s;
}

void train_set_destroy(struct train_set **set)
{
    struct train_set *s = *set;
    if (!s)
        return;
    for (uint32_t i = 0; i < s->columns_n; i++)
        free(s->column_names[i]);
    for (int f = 0; f < MODEL_FIELDS; f++) {
        free(s->fields[f]);
        train_names_destroy(&s->names[f]);
    }
    train_names_destroy(&s->users);
    train_names_destroy(&s->sessions);
    free(s->column_names);
    free(s->ts_ms);
    free(s->user);
    free(s->session);
    free(s->early);
    free(s->columns);
    free(s->sequences);
    free(s);
    *set = NULL;
}

static void grow(void **p, size_t cap, size_t size)
{
    *p = realloc(*p, cap * size + 1);
    assert(*p);
}

static void reserve(struct train_set *s)
{
    if (s->n < s->cap)
        return;
    s->cap = s->cap ? s->cap * 2 : 4096;
    grow((void **)&s->ts_ms, s->cap, sizeof *s->ts_ms);
    grow((void **)&s->user, s->cap, sizeof *s->user);
    grow((void **)&s->session, s->cap, sizeof *s->session);
    grow((void **)&s->early, s->cap, sizeof *s->early);
    grow((void **)&s->columns, s->cap * s->columns_n, sizeof *s->columns);
    for (int f = 0; f < MODEL_FIELDS; f++)
        grow((void **)&s->fields[f], s->cap, sizeof *s->fields[f]);
}

static void add_hash(struct train_set *s, const void *bytes, size_t n)
{
    s->hash = XXH3_64bits_withSeed(bytes, n, s->hash);
}

void train_set_add(struct train_set *s, const struct train_event *e)
{
    reserve(s);
    size_t i = s->n++;
    s->ts_ms[i] = e->ts_ms;
    s->early[i] = 0;
    s->user[i] = train_names_add(&s->users, e->user);
    s->session[i] = train_names_add(&s->sessions, e->session);
    add_hash(s, e->user.at, e->user.len);
    add_hash(s, &e->ts_ms, sizeof e->ts_ms);
    for (int f = 0; f < MODEL_FIELDS; f++) {
        s->fields[f][i] = train_names_add(&s->names[f], e->fields[f]);
        add_hash(s, e->fields[f].at, e->fields[f].len);
    }
    for (uint32_t c = 0; c < s->columns_n; c++)
        s->not_numbers += !isfinite(s->columns[i * s->columns_n + c] = e->columns[c]);
    add_hash(s, e->columns, s->columns_n * sizeof *e->columns);
    if (i == 0 || e->ts_ms < s->first_ms)
        s->first_ms = e->ts_ms;
    if (i == 0 || e->ts_ms > s->last_ms)
        s->last_ms = e->ts_ms;
}

/* ---- arranging -------------------------------------------------------------------------------------------------- */

/* What tells one sequence from another: user and session, or a user's n-th visit where there is no session. */
static uint64_t key_of(const struct train_set *s, size_t i, enum train_sequence_kind kind, uint32_t *visits,
                       int64_t *seen)
{
    uint32_t user = s->user[i];
    if (kind == TRAIN_BY_USER)
        return (uint64_t)user << 32;
    if (s->session[i])
        return (uint64_t)user << 32 | s->session[i] << 1;
    if (visits[user] == 0 || s->ts_ms[i] - seen[user] > SESSION_GAP_MS)
        visits[user]++;
    seen[user] = s->ts_ms[i];
    return (uint64_t)user << 32 | visits[user] << 1 | 1;
}

/* Number the sequences in the order of their first event; returns how many. */
static size_t number_sequences(const struct train_set *s, enum train_sequence_kind kind, uint32_t *of_event)
{
    size_t mask = 1023, n = 0;
    while (mask < s->n * 2)
        mask = mask * 2 + 1;
    uint64_t *keys = zeroed(mask + 1, sizeof *keys);
    uint32_t *ids = zeroed(mask + 1, sizeof *ids), *visits = zeroed(s->users.n + 1, sizeof *visits);
    int64_t *seen = zeroed(s->users.n + 1, sizeof *seen);
    for (size_t i = 0; i < s->n; i++) {
        uint64_t key = key_of(s, i, kind, visits, seen);
        size_t at = XXH3_64bits(&key, sizeof key) & mask;
        while (ids[at] && keys[at] != key)
            at = (at + 1) & mask;
        if (!ids[at]) {
            keys[at] = key;
            ids[at] = (uint32_t)++n;
        }
        of_event[i] = ids[at] - 1;
    }
    free(keys), free(ids), free(visits), free(seen);
    return n;
}

/* Element i of the array moves to place[i]. */
static void permute(void **array, const size_t *place, size_t n, size_t size)
{
    char *to = zeroed(n, size + 1);
    for (size_t i = 0; i < n; i++)
        memcpy(to + place[i] * size, (char *)*array + i * size, size);
    free(*array);
    *array = to;
}

void train_set_arrange(struct train_set *s, enum train_sequence_kind kind)
{
    uint32_t *of_event = zeroed(s->n, sizeof *of_event);
    free(s->sequences);
    s->sequences_n = number_sequences(s, kind, of_event);
    s->sequences = zeroed(s->sequences_n, sizeof *s->sequences);
    for (size_t i = 0; i < s->n; i++)
        s->sequences[of_event[i]].length++;
    for (size_t k = 1; k < s->sequences_n; k++)
        s->sequences[k].start = s->sequences[k - 1].start + s->sequences[k - 1].length;
    size_t *place = zeroed(s->n, sizeof *place), *next = zeroed(s->sequences_n, sizeof *next);
    for (size_t k = 0; k < s->sequences_n; k++)
        next[k] = s->sequences[k].start;
    for (size_t i = 0; i < s->n; i++)
        place[i] = next[of_event[i]]++;
    permute((void **)&s->ts_ms, place, s->n, sizeof *s->ts_ms);
    permute((void **)&s->user, place, s->n, sizeof *s->user);
    permute((void **)&s->session, place, s->n, sizeof *s->session);
    permute((void **)&s->early, place, s->n, sizeof *s->early);
    permute((void **)&s->columns, place, s->n, s->columns_n * sizeof *s->columns);
    for (int f = 0; f < MODEL_FIELDS; f++)
        permute((void **)&s->fields[f], place, s->n, sizeof *s->fields[f]);
    s->cap = s->n;
    s->backwards = 0;
    for (size_t k = 0; k < s->sequences_n; k++)
        for (size_t i = s->sequences[k].start + 1; i < s->sequences[k].start + s->sequences[k].length; i++)
            s->backwards += s->ts_ms[i] < s->ts_ms[i - 1];
    free(of_event), free(place), free(next);
}

static int compare_by_user(const void *a, const void *b, void *self)
{
    const struct train_set *s = self;
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    if (s->user[x] != s->user[y])
        return s->user[x] < s->user[y] ? -1 : 1;
    if (s->ts_ms[x] != s->ts_ms[y])
        return s->ts_ms[x] < s->ts_ms[y] ? -1 : 1;
    return x < y ? -1 : x > y;
}

size_t *train_set_by_user(const struct train_set *s)
{
    size_t *order = malloc((s->n + 1) * sizeof *order);
    assert(order);
    for (size_t i = 0; i < s->n; i++)
        order[i] = i;
    qsort_r(order, s->n, sizeof *order, compare_by_user, (void *)s);
    return order;
}
