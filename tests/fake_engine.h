/* SPDX-License-Identifier: Apache-2.0 */
/* fake_engine.h - the calls of module.h for a test of one module: they only write down what the module said. A test
 * program includes it once; it then takes no other part of the engine from the library. */
#ifndef FAKE_ENGINE_H
#define FAKE_ENGINE_H

#include "gait/log.h"
#include "gait/module.h"
#include "value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { FAKE_PARTITIONS = 8, FAKE_LOADS = 4096 };

struct ticket {
    uint32_t holds;
    uint32_t save_holds;
};

struct fake_load {
    struct user *user;
    uint8_t *bytes; /* NULL = the store had none */
    size_t n;
};

struct engine {
    struct instance in;
    struct metrics *metrics;
    struct event_types types;
    struct columns *columns;
    struct clock clock;
    int64_t wall_ms;                 /* what the module's clock says; 0 = the real one */
    uint64_t skip_ns;                /* added to the monotonic clock */
    unsigned wakes, ended, damaged, ready_calls;
    bool ready;
    const char *not_ready_why;
    /* what the module said of partitions */
    unsigned assigned, revoked, lost, opened, fenced;
    int32_t assigned_ids[FAKE_PARTITIONS], revoked_ids[FAKE_PARTITIONS]; /* the last ones, a ring */
    int64_t assigned_committed, opened_fence, opened_saved;
    struct partition partitions[FAKE_PARTITIONS];
    size_t partitions_n;
    int32_t input_partitions, assigned_input_partitions; /* … as it was known at the last assignment */
    int32_t erased;
    const char *settings, *settings_content;
    /* answers */
    struct fake_load loads[FAKE_LOADS];
    size_t loads_n;
    unsigned commits_ok, commits_failed;
    struct error err;
};

void engine_wake(struct engine *engine)
{
    engine->wakes++;
}

void instance_busy(struct instance *in, bool busy)
{
    in->busy = busy;
}

void instance_ready(struct instance *in, bool ready, const char *why)
{
    in->engine->ready_calls++;
    in->engine->ready = ready;
    in->engine->not_ready_why = why;
}

struct partition *engine_partition(struct engine *engine, int32_t id)
{
    for (size_t i = 0; i < engine->partitions_n; i++)
        if (engine->partitions[i].id == id)
            return &engine->partitions[i];
    return NULL;
}

void partition_assigned(struct engine *engine, int32_t id, int64_t committed)
{
    engine->assigned_ids[engine->assigned++ % FAKE_PARTITIONS] = id;
    engine->assigned_committed = committed;
    engine->assigned_input_partitions = engine->input_partitions;
}

void partition_revoked(struct engine *engine, int32_t id)
{
    engine->revoked_ids[engine->revoked++ % FAKE_PARTITIONS] = id;
}

void partition_lost(struct engine *engine, int32_t id)
{
    (void)id;
    engine->lost++;
}

struct instance *engine_instance(struct engine *engine, enum stage stage)
{
    (void)stage;
    return &engine->in;
}

void engine_input_ended(struct engine *engine, bool whole)
{
    engine->ended++;
    engine->damaged += !whole;
}

void partition_opened(struct engine *engine, struct partition *p, int64_t fence, int64_t saved)
{
    engine->opened++;
    engine->opened_fence = fence;
    engine->opened_saved = saved;
    p->fence = fence;
    p->saved_next = saved;
    p->state = PARTITION_OPEN;
}

void partition_fenced(struct engine *engine, struct partition *p)
{
    engine->fenced++;
    p->state = PARTITION_LOST;
}

void load_done(struct engine *engine, struct user *user, const uint8_t *bytes, size_t n)
{
    assert_true(engine->loads_n < FAKE_LOADS);
    struct fake_load *load = &engine->loads[engine->loads_n++];
    *load = (struct fake_load){user, bytes ? malloc(n + 1) : NULL, n};
    if (bytes) {
        memcpy(load->bytes, bytes, n);
        load->bytes[n] = 0;
    }
    user->state = USER_READY;
}

void commit_done(struct engine *engine, struct instance *in, struct commit *c, bool ok)
{
    (void)in, (void)c;
    engine->commits_ok += ok;
    engine->commits_failed += !ok;
}

void ticket_hold(struct ticket *ticket, uint32_t times)
{
    ticket->holds += times;
}

void ticket_release(struct ticket *ticket, uint32_t times)
{
    assert_true(ticket->holds >= times);
    ticket->holds -= times;
}

void ticket_hold_save(struct ticket *ticket, uint32_t times)
{
    ticket->save_holds += times;
}

void ticket_release_save(struct ticket *ticket, uint32_t times)
{
    assert_true(ticket->save_holds >= times);
    ticket->save_holds -= times;
}

void engine_input_partitions_set(struct engine *engine, int32_t partitions)
{
    engine->input_partitions = partitions;
}

bool engine_erase(struct engine *engine, int32_t partition, struct str user, int64_t erased_ms, int64_t offset)
{
    (void)partition, (void)user, (void)erased_ms, (void)offset;
    engine->erased++;
    return true;
}

int32_t engine_input_partitions(const struct engine *engine)
{
    return engine->input_partitions;
}

char *engine_settings(struct engine *engine, bool content)
{
    return strdup(content ? engine->settings_content : engine->settings);
}

/* ---- building --------------------------------------------------------------------------------------------------- */

static inline int64_t fake_wall_ms(void *self)
{
    struct engine *e = self;
    return e->wall_ms ? e->wall_ms : clock_system.wall_ms(clock_system.self);
}

static inline uint64_t fake_mono_ns(void *self)
{
    struct engine *e = self;
    return clock_system.mono_ns(clock_system.self) + e->skip_ns;
}

/* The member that the option row `name` points at. */
static inline void *fake_option(struct engine *e, const char *name)
{
    for (const struct option *o = e->in.module->options; o->name; o++)
        if (strcmp(o->name, name) == 0)
            return (char *)e->in.conf + o->offset;
    fail_msg("no option %s", name);
    return NULL;
}

static inline void fake_text(struct engine *e, const char *name, const char *value)
{
    memcpy(fake_option(e, name), &value, sizeof value);
}

static inline void fake_int(struct engine *e, const char *name, int64_t value)
{
    memcpy(fake_option(e, name), &value, sizeof value);
}

static inline void fake_bool(struct engine *e, const char *name, bool value)
{
    memcpy(fake_option(e, name), &value, sizeof value);
}

/* Options that hold one value get their defaults; lists stay empty. */
static inline void fake_defaults(struct engine *e)
{
    struct error err;
    for (const struct option *o = e->in.module->options; o->name; o++) {
        void *member = (char *)e->in.conf + o->offset;
        if (!o->initial)
            continue;
        int rc = 0;
        if (o->type == OPTION_BOOL)
            rc = value_bool(o->initial, member, &err);
        else if (o->type == OPTION_INT)
            rc = value_int(o->initial, member, &err);
        else if (o->type == OPTION_REAL)
            rc = value_real(o->initial, member, &err);
        else if (o->type == OPTION_DURATION)
            rc = value_duration(o->initial, true, member, &err);
        else if (o->type == OPTION_BYTES)
            rc = value_bytes(o->initial, member, &err);
        else if (o->type == OPTION_STRING || o->type == OPTION_PATH)
            memcpy(member, &o->initial, sizeof o->initial);
        if (rc < 0)
            fail_msg("%s: default %s: %s", o->name, o->initial, err.text);
    }
}

static inline struct engine *fake_new(const struct module *module)
{
    struct engine *e = calloc(1, sizeof *e);
    assert_non_null(e);
    e->metrics = metrics_create();
    e->columns = columns_create();
    e->clock = (struct clock){fake_wall_ms, fake_mono_ns, e};
    assert_int_equal(event_types_init(&e->types, NULL, 0, NULL), 0);
    if (module->metrics)
        metrics_declare(e->metrics, module->metrics);
    if (module->shared_metrics)
        metrics_declare(e->metrics, module->shared_metrics);
    e->in = (struct instance){
        .module = module,
        .name = "tested",
        .conf = calloc(1, module->conf_size),
        .engine = e,
        .clock = &e->clock,
        .metrics = e->metrics,
        .types = &e->types,
        .columns = e->columns,
    };
    e->ready = true;
    e->settings = "window.rolling.ring=28\n";
    e->settings_content = "window.rolling.ring=28\nmodel=01\nrules=02\n";
    log_setup(LOG_ERROR, LOG_FORMAT_TEXT);
    fake_defaults(e);
    return e;
}

static inline void fake_open(struct engine *e)
{
    if (e->in.module->open(&e->in, false, &e->err) < 0)
        fail_msg("open: %s", e->err.text);
}

static inline void fake_forget_loads(struct engine *e)
{
    for (size_t i = 0; i < e->loads_n; i++)
        free(e->loads[i].bytes);
    e->loads_n = 0;
}

static inline void fake_free(struct engine *e)
{
    e->in.module->close(&e->in);
    fake_forget_loads(e);
    columns_destroy(&e->columns);
    metrics_destroy(&e->metrics);
    free(e->in.conf);
    free(e);
}

static inline struct partition *fake_partition(struct engine *e, int32_t id)
{
    assert_true(e->partitions_n < FAKE_PARTITIONS);
    struct partition *p = &e->partitions[e->partitions_n++];
    *p = (struct partition){.id = id, .committed = -1, .saved_next = -1, .applied_next = -1};
    p->state = PARTITION_OPENING;
    return p;
}

static inline void fake_flow(struct engine *e, enum flow_kind kind, struct partition *p, int64_t offset)
{
    e->in.module->flow(&e->in, &(struct flow){.kind = kind, .partition = p, .id = p ? p->id : 0, .offset = offset});
}

/* A folder of its own for each test, removed by fake_folder_remove. */
static inline void fake_folder(char path[64])
{
    strcpy(path, "/tmp/gait-unit.XXXXXX");
    assert_non_null(mkdtemp(path));
}

static inline void fake_folder_remove(const char *path)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

#endif
