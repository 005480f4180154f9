// SPDX-License-Identifier: Apache-2.0
// support.c - see support.h. What engine.c does around the stages is done here in its simplest form.
#include "support.h"

#include "../daemon/config_value.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

struct rig_extra {
    struct rig rig;            /* first */
    struct arena *conf_memory;
    void *confs[INSTANCES_MAX];
    size_t confs_n;
    double *columns;
    size_t columns_cap;
};

static int64_t rig_wall(void *self)
{
    return ((const struct rig *)self)->wall_ms;
}

static uint64_t rig_mono(void *self)
{
    return ((const struct rig *)self)->mono_ns;
}

struct rig *rig_new(const char *const *more_types)
{
    struct rig_extra *x = calloc(1, sizeof *x);
    assert(x);
    struct rig *rig = &x->rig;
    struct engine *e = rig->engine = calloc(1, sizeof *e);
    assert(e);
    size_t more = 0;
    while (more_types && more_types[more])
        more++;
    struct error err;
    assert(event_types_init(&e->types, more_types, more, &err) == 0);
    rig->wall_ms = INT64_C(1764000000000);
    e->clock = (struct clock){rig_wall, rig_mono, rig};
    e->metrics = metrics_create();
    e->columns = columns_create();
    x->conf_memory = arena_create(65536, 1 << 24);
    struct batch *b = &rig->batch;
    b->cap = RIG_BATCH_EVENTS;
    b->events = calloc(b->cap, sizeof *b->events);
    b->scores = calloc(b->cap, sizeof *b->scores);
    b->risk = calloc(b->cap, sizeof *b->risk);
    b->alerts = calloc(b->cap, sizeof *b->alerts);
    b->has_before = calloc(b->cap, 1);
    b->arena = arena_create(1 << 16, 1 << 26);
    assert(b->events && b->scores && b->risk && b->alerts && b->has_before);
    return rig;
}

void rig_free(struct rig **rig)
{
    struct rig_extra *x = (struct rig_extra *)*rig;
    struct engine *e = x->rig.engine;
    struct batch *b = &x->rig.batch;
    for (size_t i = e->instances_n; i-- > 0;)
        if (e->instances[i].module->close)
            e->instances[i].module->close(&e->instances[i]);
    users_destroy(&e->users);
    columns_destroy(&e->columns);
    metrics_destroy(&e->metrics);
    free(e);
    free(b->events);
    free(b->scores);
    free(b->risk);
    free(b->alerts);
    free(b->has_before);
    free(b->hidden);
    free(b->hidden_before);
    arena_destroy(&b->arena);
    for (size_t i = 0; i < x->confs_n; i++)
        free(x->confs[i]);
    arena_destroy(&x->conf_memory);
    free(x->columns);
    free(x);
    *rig = NULL;
}

void *rig_conf(struct rig *rig, const struct module *module)
{
    struct rig_extra *x = (struct rig_extra *)rig;
    struct config_errors errors = {.name = "defaults"};
    struct value_reader reader = {.memory = x->conf_memory, .folder = "", .errors = &errors, .where = module->name};
    void *conf = calloc(1, module->conf_size ? module->conf_size : 1);
    assert(conf && x->confs_n < INSTANCES_MAX);
    x->confs[x->confs_n++] = conf;
    config_values(&reader, module->options, NULL, conf);
    return conf;
}

void rig_set(void *conf, const struct module *module, const char *name, const void *value, size_t size)
{
    const struct option *o = module->options;
    while (o->name && strcmp(o->name, name) != 0)
        o++;
    assert(o->name);
    memcpy((char *)conf + o->offset, value, size);
}

void rig_set_int(void *conf, const struct module *module, const char *name, int64_t value)
{
    rig_set(conf, module, name, &value, sizeof value);
}

/* Lists of strings and of durations have the same shape: a pointer and a number. */
void rig_set_list(void *conf, const struct module *module, const char *name, const void *at, size_t n)
{
    struct option_strings list = {(const char **)(uintptr_t)at, n};
    rig_set(conf, module, name, &list, sizeof list);
}

struct instance *rig_open(struct rig *rig, const struct module *module, void *conf, struct error *err)
{
    struct engine *e = rig->engine;
    struct error own;
    assert(e->instances_n < INSTANCES_MAX && !e->users);
    struct instance *in = &e->instances[e->instances_n++];
    *in = (struct instance){
        .module = module,
        .name = module->name,
        .conf = conf ? conf : rig_conf(rig, module),
        .engine = e,
        .clock = &e->clock,
        .metrics = e->metrics,
        .types = &e->types,
        .columns = e->columns,
    };
    if (module->metrics)
        metrics_declare(e->metrics, module->metrics);
    if (module->shared_metrics)
        metrics_declare(e->metrics, module->shared_metrics);
    if (module->open(in, false, err ? err : &own) == 0)
        return in;
    if (!err)
        fprintf(stderr, "%s: %s\n", module->name, own.text);
    assert(err);
    return NULL;
}

void rig_ready(struct rig *rig, size_t table_bytes)
{
    struct engine *e = rig->engine;
    struct users_conf conf = {.table_bytes = table_bytes, .name_bytes = 64};
    struct error err;
    for (size_t i = 0; i < e->instances_n; i++)
        conf.section_bytes += (e->instances[i].user_size + 15) / 16 * 16;
    e->users = users_create(&conf, e->metrics, &err);
    assert(e->users);
    size_t offset = users_sections_offset(e->users);
    for (size_t i = 0; i < e->instances_n; i++) {
        e->instances[i].user_offset = offset;
        e->instances[i].users = e->users;
        offset += (e->instances[i].user_size + 15) / 16 * 16;
    }
}

struct event *rig_event(struct rig *rig, const char *user, int type, int64_t ts_ms)
{
    struct batch *b = &rig->batch;
    assert(b->n < b->cap);
    bool made;
    struct event *event = &b->events[b->n];
    const char *name = arena_copy(b->arena, user, strlen(user));
    *event = (struct event){
        .raw = str_of("{}"),
        .offset = rig->offset++,
        .user = str_of(name),
        .type = (uint8_t)type,
        .ts_ms = ts_ms,
        .next_of_user = -1,
    };
    event->record = users_get(rig->engine->users, 0, event->user, &made);
    assert(event->record);
    event->record->state = USER_READY;
    event->record->pins++;
    for (uint32_t i = b->n; i-- > 0;) {
        if (b->events[i].record != event->record)
            continue;
        b->events[i].next_of_user = (int32_t)b->n;
        event->wave = b->events[i].wave + 1;
        break;
    }
    b->n++;
    return event;
}

void rig_run(struct rig *rig)
{
    struct rig_extra *x = (struct rig_extra *)rig;
    struct engine *e = rig->engine;
    struct batch *b = &rig->batch;
    b->columns_n = columns_width(e->columns);
    if (x->columns_cap < b->columns_n) {
        x->columns_cap = b->columns_n;
        free(x->columns);
        x->columns = calloc((size_t)b->cap * x->columns_cap, sizeof *x->columns);
        assert(x->columns);
    }
    b->columns = x->columns;
    b->now_ms = rig->wall_ms;
    b->seq++;
    b->alerts_n = 0;
    memset(b->risk, 0, b->n * sizeof *b->risk);
    for (size_t i = 0; i < e->instances_n; i++)
        e->instances[i].module->run(&e->instances[i], b);
    for (uint32_t i = 0; i < b->n; i++) {
        struct user *user = b->events[i].record;
        if (b->events[i].verdict == EVENT_OK)
            users_dirty(e->users, &rig->partition, user, b->events[i].offset, 0);
        user->next = b->events[i].offset + 1;
        user->pins--;
    }
}

void rig_clear(struct rig *rig)
{
    rig->batch.n = 0;
    arena_reset(rig->batch.arena);
}

void rig_tick(struct rig *rig)
{
    engine_flow(rig->engine, &(struct flow){.kind = FLOW_TICK});
}

struct user *rig_user(struct rig *rig, const char *name)
{
    return users_find(rig->engine->users, 0, str_of(name));
}

size_t rig_round_trip(struct rig *rig, const char *name)
{
    struct engine *e = rig->engine;
    struct user *user = rig_user(rig, name);
    assert(user);
    size_t cap = record_bytes_max(e);
    uint8_t *bytes = malloc(cap);
    assert(bytes);
    size_t n = record_encode(e, user, bytes, cap);
    assert(n > 0);
    if (user->dirty_from >= 0) {
        users_saving(e->users, &rig->partition, user);
        users_saved(e->users, &rig->partition, user, true);
    }
    users_remove(e->users, user);
    bool made;
    struct error err = {0};
    user = users_get(e->users, 0, str_of(name), &made);
    assert(user && made);
    if (record_decode(e, user, bytes, n, &err) < 0) {
        fprintf(stderr, "record of %s: %s\n", name, err.text);
        assert(false);
    }
    user->state = USER_READY;
    free(bytes);
    return n;
}

void rig_want(struct rig *rig, const char *name)
{
    if (columns_want(rig->engine->columns, name) < 0) {
        fprintf(stderr, "no column %s\n", name);
        assert(false);
    }
}

double rig_column(const struct rig *rig, uint32_t i, const char *name)
{
    int place = columns_want(rig->engine->columns, name);
    assert(place >= 0 && (uint32_t)place < rig->batch.columns_n && i < rig->batch.n);
    return batch_row(&rig->batch, i)[place];
}

double rig_metric(const struct rig *rig, const char *name)
{
    return metrics_sum(rig->engine->metrics, name);
}
