// SPDX-License-Identifier: Apache-2.0
// columns.c - the catalogue of columns and the places in the row. Some hundred names, looked up at opening only.
#include "gait/columns.h"

#include "nearest.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct column {
    char *name, *help;
    int place; /* -1 = nobody wants it */
};

struct columns {
    struct column *at;
    uint32_t n, cap, width;
};

struct columns *columns_create(void)
{
    struct columns *columns = calloc(1, sizeof *columns);
    assert(columns);
    return columns;
}

void columns_destroy(struct columns **columns)
{
    struct columns *c = *columns;
    if (!c)
        return;
    for (uint32_t i = 0; i < c->n; i++) {
        free(c->at[i].name);
        free(c->at[i].help);
    }
    free(c->at);
    free(c);
    *columns = NULL;
}

static struct column *find(const struct columns *c, const char *name)
{
    for (uint32_t i = 0; i < c->n; i++)
        if (strcmp(c->at[i].name, name) == 0)
            return &c->at[i];
    return NULL;
}

uint32_t columns_add(struct columns *c, const char *name, const char *help)
{
    const struct column *known = find(c, name);
    if (known)
        return (uint32_t)(known - c->at);
    if (c->n == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 64;
        c->at = realloc(c->at, c->cap * sizeof *c->at);
        assert(c->at);
    }
    c->at[c->n] = (struct column){.name = strdup(name), .help = strdup(help), .place = -1};
    assert(c->at[c->n].name && c->at[c->n].help);
    return c->n++;
}

int columns_want(struct columns *c, const char *name)
{
    struct column *column = find(c, name);
    if (!column)
        return -1;
    if (column->place < 0)
        column->place = (int)c->width++;
    return column->place;
}

int columns_place(const struct columns *c, uint32_t id)
{
    assert(id < c->n);
    return c->at[id].place;
}

const char *columns_nearest(const struct columns *c, const char *name)
{
    struct nearest nearest = {0};
    for (uint32_t i = 0; i < c->n; i++)
        nearest_try(&nearest, name, c->at[i].name);
    return nearest.word;
}

const char *columns_name(const struct columns *c, uint32_t id)
{
    assert(id < c->n);
    return c->at[id].name;
}

uint32_t columns_count(const struct columns *c)
{
    return c->n;
}

uint32_t columns_width(const struct columns *c)
{
    return c->width;
}
