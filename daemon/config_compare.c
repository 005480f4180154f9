// SPDX-License-Identifier: Apache-2.0
// config_compare.c - what a reload would change, and the exchange of values. Knows no setting by name: the option rows
// say where each value lies and of which type it is.
#include "config_compare.h"

#include "config_value.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* ---- one value --------------------------------------------------------------------------------------------------- */

static size_t value_bytes_of(enum option_type type)
{
    static const size_t bytes[] = {
        [OPTION_BOOL] = sizeof(bool), [OPTION_INT] = sizeof(int64_t), [OPTION_REAL] = sizeof(double),
        [OPTION_STRING] = sizeof(char *), [OPTION_PATH] = sizeof(char *), [OPTION_ENUM] = sizeof(int),
        [OPTION_DURATION] = sizeof(int64_t), [OPTION_BYTES] = sizeof(int64_t),
        [OPTION_STRINGS] = sizeof(struct option_strings), [OPTION_PATHS] = sizeof(struct option_strings),
        [OPTION_DURATIONS] = sizeof(struct option_durations), [OPTION_MAP] = sizeof(struct option_map),
    };
    assert((size_t)type < sizeof bytes / sizeof *bytes && bytes[type]);
    return bytes[type];
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_strings(const struct option_strings *a, const struct option_strings *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; i < a->n && same; i++)
        same = same_text(a->at[i], b->at[i]);
    return same;
}

static bool same_maps(const struct option_map *a, const struct option_map *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; i < a->n && same; i++)
        same = same_text(a->at[i].key, b->at[i].key) && same_strings(&a->at[i].values, &b->at[i].values);
    return same;
}

static bool same_durations(const struct option_durations *a, const struct option_durations *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->at, b->at, a->n * sizeof *a->at) == 0);
}

static bool same_value(const struct option *o, const void *one, const void *other)
{
    const void *a = (const char *)one + o->offset, *b = (const char *)other + o->offset;
    switch (o->type) {
    case OPTION_STRING:
    case OPTION_PATH: return same_text(*(const char *const *)a, *(const char *const *)b);
    case OPTION_STRINGS:
    case OPTION_PATHS: return same_strings(a, b);
    case OPTION_DURATIONS: return same_durations(a, b);
    case OPTION_MAP: return same_maps(a, b);
    default: return memcmp(a, b, value_bytes_of(o->type)) == 0;
    }
}

/* ---- as text ----------------------------------------------------------------------------------------------------- */

static void put_duration(FILE *out, int64_t ms)
{
    char text[VALUE_TEXT_MAX];
    int64_t back;
    value_duration_text(ms, text);
    if (value_duration(text, true, &back, NULL) == 0 && back == ms)
        fputs(text, out);
    else
        fprintf(out, "%" PRId64 "ms", ms);
}

static void put_bytes(FILE *out, int64_t bytes)
{
    char text[VALUE_TEXT_MAX];
    int64_t back;
    value_bytes_text(bytes, text);
    if (value_bytes(text, &back, NULL) == 0 && back == bytes)
        fputs(text, out);
    else
        fprintf(out, "%" PRId64, bytes);
}

static void put_strings(FILE *out, const struct option_strings *strings)
{
    fputc('[', out);
    for (size_t i = 0; i < strings->n; i++)
        fprintf(out, "%s'%s'", i ? ", " : "", strings->at[i]);
    fputc(']', out);
}

static void put_map(FILE *out, const struct option_map *map)
{
    fputc('{', out);
    for (size_t i = 0; i < map->n; i++) {
        fprintf(out, "%s%s: ", i ? ", " : "", map->at[i].key);
        put_strings(out, &map->at[i].values);
    }
    fputc('}', out);
}

static void put_durations(FILE *out, const struct option_durations *durations)
{
    fputc('[', out);
    for (size_t i = 0; i < durations->n; i++) {
        fputs(i ? ", " : "", out);
        put_duration(out, durations->at[i]);
    }
    fputc(']', out);
}

static void put_value(FILE *out, const struct option *o, const void *conf)
{
    const void *at = (const char *)conf + o->offset;
    const char *text;
    switch (o->type) {
    case OPTION_BOOL: fputs(*(const bool *)at ? "true" : "false", out); break;
    case OPTION_INT: fprintf(out, "%" PRId64, *(const int64_t *)at); break;
    case OPTION_REAL: fprintf(out, "%.17g", *(const double *)at); break;
    case OPTION_STRING:
    case OPTION_PATH:
        text = *(const char *const *)at;
        fprintf(out, text ? "'%s'" : "not set", text);
        break;
    case OPTION_ENUM: fputs(o->choices[*(const int *)at], out); break;
    case OPTION_DURATION: put_duration(out, *(const int64_t *)at); break;
    case OPTION_BYTES: put_bytes(out, *(const int64_t *)at); break;
    case OPTION_STRINGS:
    case OPTION_PATHS: put_strings(out, at); break;
    case OPTION_DURATIONS: put_durations(out, at); break;
    case OPTION_MAP: put_map(out, at); break;
    }
}

/* Cut to fit, with dots to show it. */
static void value_text(const struct option *o, const void *conf, char out[CONFIG_VALUE_TEXT_MAX])
{
    char *whole = NULL;
    size_t len = 0;
    FILE *stream = open_memstream(&whole, &len);
    assert(stream);
    put_value(stream, o, conf);
    fclose(stream);
    size_t n = len < CONFIG_VALUE_TEXT_MAX ? len : CONFIG_VALUE_TEXT_MAX - 4;
    while (n < len && n > 0 && ((unsigned char)whole[n] & 0xC0) == 0x80) /* not in the middle of a character */
        n--;
    snprintf(out, CONFIG_VALUE_TEXT_MAX, "%.*s%s", (int)n, whole, n < len ? "…" : "");
    free(whole);
}

/* ---- two configurations ------------------------------------------------------------------------------------------ */

static void compare_rows(const char *where, const struct option *rows, const void *running, const void *next,
                         config_difference_call *call, void *self)
{
    for (const struct option *o = rows; o && o->name; o++) {
        if (same_value(o, running, next))
            continue;
        struct config_difference d = {.restart = o->flags & OPTION_RESTART};
        char before[CONFIG_VALUE_TEXT_MAX], after[CONFIG_VALUE_TEXT_MAX];
        snprintf(d.where, sizeof d.where, "%s.%s", where, o->name);
        value_text(o, running, before);
        value_text(o, next, after);
        if (o->flags & OPTION_SECRET)
            snprintf(d.text, sizeof d.text, "a secret, changed");
        else if (strcmp(before, after) == 0) /* the difference lies behind the cut */
            snprintf(d.text, sizeof d.text, "%s, changed", before);
        else
            snprintf(d.text, sizeof d.text, "%s → %s", before, after);
        call(self, &d);
    }
}

static const struct config_module *module_named(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->modules_n; i++)
        if (strcmp(config->modules[i].name, name) == 0)
            return &config->modules[i];
    return NULL;
}

static void tell_module(const char *name, const char *what, config_difference_call *call, void *self)
{
    struct config_difference d = {.restart = true};
    snprintf(d.where, sizeof d.where, "%s", name);
    snprintf(d.text, sizeof d.text, "%s", what);
    call(self, &d);
}

void config_compare(const struct config *running, const struct config *next, config_difference_call *call, void *self)
{
    for (const struct config_section *s = config_sections; s->name; s++)
        compare_rows(s->name, s->options, (const char *)running + s->offset, (const char *)next + s->offset, call,
                     self);
    for (size_t i = 0; i < running->modules_n; i++) {
        const struct config_module *old = &running->modules[i], *new = module_named(next, old->name);
        if (new)
            compare_rows(old->name, old->module->options, old->conf, new->conf, call, self);
        else
            tell_module(old->name, "removed", call, self);
    }
    for (size_t i = 0; i < next->modules_n; i++)
        if (!module_named(running, next->modules[i].name))
            tell_module(next->modules[i].name, "added", call, self);
}

static void exchange_rows(const struct option *rows, void *running, void *next)
{
    char room[sizeof(struct option_map) + sizeof(struct option_strings)];
    for (const struct option *o = rows; o && o->name; o++) {
        size_t bytes = value_bytes_of(o->type);
        assert(bytes <= sizeof room);
        if (o->flags & OPTION_RESTART)
            continue;
        char *a = (char *)running + o->offset, *b = (char *)next + o->offset;
        memcpy(room, a, bytes);
        memcpy(a, b, bytes);
        memcpy(b, room, bytes);
    }
}

void config_exchange(struct config *running, struct config *next)
{
    for (const struct config_section *s = config_sections; s->name; s++)
        exchange_rows(s->options, (char *)running + s->offset, (char *)next + s->offset);
    for (size_t i = 0; i < running->modules_n; i++) {
        const struct config_module *new = module_named(next, running->modules[i].name);
        assert(new && new->module == running->modules[i].module);
        exchange_rows(new->module->options, running->modules[i].conf, new->conf);
    }
    /* Values that need a restart lie in the memory of the start, which stays; the others in that of the last reload. */
    struct arena *before = running->reloaded;
    running->reloaded = next->memory;
    next->memory = before;
}

/* ---- a fingerprint ----------------------------------------------------------------------------------------------- */

static bool is_path(const struct option *o)
{
    return o->type == OPTION_PATH || o->type == OPTION_PATHS;
}

static void put_rows(FILE *out, const char *where, const struct option *rows, const void *conf, bool paths)
{
    for (const struct option *o = rows; o && o->name; o++) {
        if (o->flags & OPTION_SECRET || (is_path(o) && !paths))
            continue;
        fprintf(out, "%s.%s=", where, o->name);
        put_value(out, o, conf);
        fputc('\n', out);
    }
}

uint64_t config_hash(const struct config *config)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    assert(out);
    for (const struct config_section *s = config_sections; s->name; s++)
        put_rows(out, s->name, s->options, (const char *)config + s->offset, true);
    for (size_t i = 0; i < config->modules_n; i++) {
        fprintf(out, "%s\n", config->modules[i].name);
        put_rows(out, config->modules[i].name, config->modules[i].module->options, config->modules[i].conf,
                 true);
    }
    fclose(out);
    uint64_t hash = XXH3_64bits(text, len);
    free(text);
    return hash;
}

void config_put_stage(const struct config *config, enum stage stage, FILE *out)
{
    for (size_t i = 0; i < config->modules_n; i++) {
        const struct config_module *m = &config->modules[i];
        if (m->module->stage == stage)
            put_rows(out, m->name, m->module->options, m->conf, false);
    }
}
