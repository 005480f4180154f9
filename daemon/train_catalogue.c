// SPDX-License-Identifier: Apache-2.0
// train_catalogue.c - reads a catalogue of items into attribute numbers.
#include "train_catalogue.h"

#include "train_set.h"
#include "value.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 16384, PLAIN_VALUES = 32, GROUPS = 16 };

struct train_catalogue {
    struct train_names items, values[TRAIN_ATTRIBUTES_MAX];
    uint32_t columns;
    size_t cap;
    uint32_t *value[TRAIN_ATTRIBUTES_MAX];   /* [item id] value id */
    uint32_t *of_row[TRAIN_ATTRIBUTES_MAX];  /* of the last train_catalogue_apply() */
};

/* The next field of a CSV line, unquoted in place; NULL after the last. -1 in *bad when a quote is not closed. */
static char *next_field(char **rest, int *bad)
{
    char *from = *rest, *to = from, *p = from;
    if (!from)
        return NULL;
    bool quoted = *p == '"';
    for (p += quoted; *p && (quoted || *p != ','); p++) {
        if (quoted && *p == '"' && p[1] != '"') {
            quoted = false;
            continue;
        }
        p += quoted && *p == '"';
        *to++ = *p;
    }
    *bad |= quoted ? -1 : 0;
    *rest = *p ? p + 1 : NULL;
    *to = 0;
    return from;
}

static int add_line(struct train_catalogue *c, char *line, struct error *err)
{
    int bad = 0;
    char *rest = line, *item = next_field(&rest, &bad);
    uint32_t id = train_names_add(&c->items, str_of(item)), k = 0;
    if (id == 0)
        return error_set(err, "the item's id is empty");
    if (id >= c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 1024;
        for (uint32_t i = 0; i < c->columns; i++) {
            c->value[i] = realloc(c->value[i], cap * sizeof *c->value[i]);
            assert(c->value[i]);
            memset(c->value[i] + c->cap, 0, (cap - c->cap) * sizeof *c->value[i]);
        }
        c->cap = cap;
    }
    for (char *field; (field = next_field(&rest, &bad)) != NULL; k++)
        if (k < c->columns)
            c->value[k][id] = train_names_add(&c->values[k], str_of(field));
    if (bad)
        return error_set(err, "a quote is not closed");
    return k == c->columns ? 0 : error_set(err, "%u attributes; the header has %u", k, c->columns);
}

static int read_header(struct train_catalogue *c, char *line, struct error *err)
{
    int bad = 0;
    char *rest = line;
    next_field(&rest, &bad);
    while (next_field(&rest, &bad))
        c->columns++;
    if (c->columns >= 1 && c->columns <= TRAIN_ATTRIBUTES_MAX)
        return 0;
    return error_set(err, "the header names %u attributes after the item's id; 1 to %d are possible", c->columns,
                     TRAIN_ATTRIBUTES_MAX);
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

struct number {
    double value;
    uint32_t id;
};

static int compare_numbers(const void *a, const void *b)
{
    const struct number *x = a, *y = b;
    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* A price is no name of its own: neighbours share a group. Leaves a column alone that is not all numbers. */
static void group_numbers(struct train_catalogue *c, uint32_t column)
{
    struct train_names *names = &c->values[column];
    if (names->n <= PLAIN_VALUES)
        return;
    struct number *numbers = calloc(names->n, sizeof *numbers);
    uint32_t *group = calloc((size_t)names->n + 1, sizeof *group);
    assert(numbers && group);
    bool all = true;
    for (uint32_t id = 1; id <= names->n; id++) {
        numbers[id - 1].id = id;
        all &= value_real(names->name[id], &numbers[id - 1].value, NULL) == 0;
    }
    qsort(numbers, names->n, sizeof *numbers, compare_numbers);
    for (uint32_t i = 0; i < names->n; i++)
        group[numbers[i].id] = 1 + (uint32_t)((uint64_t)i * GROUPS / names->n);
    for (uint32_t item = 1; item <= c->items.n && all; item++)
        c->value[column][item] = group[c->value[column][item]];
    free(numbers), free(group);
}

static uint32_t values_of(const struct train_catalogue *c, uint32_t column)
{
    uint32_t most = 0;
    for (uint32_t item = 1; item <= c->items.n; item++)
        if (c->value[column][item] > most)
            most = c->value[column][item];
    return most + 1;
}

/* ---- in and out -------------------------------------------------------------------------------------------------- */

static int read_file(struct train_catalogue *c, FILE *in, struct error *err)
{
    char line[LINE_BYTES];
    size_t number = 0;
    while (fgets(line, sizeof line, in)) {
        number++;
        size_t len = strcspn(line, "\r\n");
        if (!line[len] && !feof(in))
            return error_set(err, "line %zu: longer than %d bytes", number, LINE_BYTES);
        line[len] = 0;
        if (!*line)
            continue;
        int rc = number == 1 ? read_header(c, line, err) : add_line(c, line, err);
        if (rc < 0)
            return error_prefix(err, "line %zu", number);
    }
    if (ferror(in))
        return error_set(err, "cannot be read");
    return c->items.n ? 0 : error_set(err, "no item in it");
}

struct train_catalogue *train_catalogue_load(const char *path, struct error *err)
{
    struct train_catalogue *c = calloc(1, sizeof *c);
    assert(c);
    FILE *in = fopen(path, "re");
    int rc = in ? read_file(c, in, err) : error_set(err, "%s", strerror(errno));
    if (in)
        fclose(in);
    if (rc < 0) {
        error_prefix(err, "%s", path);
        train_catalogue_destroy(&c);
        return NULL;
    }
    for (uint32_t k = 0; k < c->columns; k++)
        group_numbers(c, k);
    return c;
}

void train_catalogue_destroy(struct train_catalogue **catalogue)
{
    struct train_catalogue *c = *catalogue;
    if (!c)
        return;
    train_names_destroy(&c->items);
    for (uint32_t k = 0; k < TRAIN_ATTRIBUTES_MAX; k++) {
        train_names_destroy(&c->values[k]);
        free(c->value[k]);
        free(c->of_row[k]);
    }
    free(c);
    *catalogue = NULL;
}

uint32_t train_catalogue_apply(struct train_catalogue *c, const struct model_embedding *items, uint32_t embedding,
                               struct train_shape *shape)
{
    uint32_t n = items->vocabulary.n, known = 0;
    shape->attributes_n[embedding] = c->columns;
    for (uint32_t k = 0; k < c->columns; k++) {
        free(c->of_row[k]);
        c->of_row[k] = calloc((size_t)n + 1, sizeof *c->of_row[k]);
        assert(c->of_row[k]);
        shape->attributes[embedding][k] = (struct train_attribute){values_of(c, k), c->of_row[k]};
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = train_names_find(&c->items, items->vocabulary.name[i]);
        known += id > 0;
        for (uint32_t k = 0; k < c->columns && id; k++)
            c->of_row[k][i + 1] = c->value[k][id];
    }
    return known;
}
