// SPDX-License-Identifier: Apache-2.0
// support.h - a bench for modules that work on user records: instances in flow order, a real user table, real record
// bytes, and batches made by hand. No source, no store, no loop; the clock is the test's.
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

#include "../daemon/engine.h"

enum { RIG_BATCH_EVENTS = 1024 };

struct rig {
    struct engine *engine;     /* of it: instances, types, users, metrics, columns, clock */
    union {
        struct batch batch;    /* events are added, run, and stay readable until the next rig_clear() */
        struct batch_slot slot; /* around it: batch_hidden() keeps the arrays' capacity there */
    };
    struct partition partition;
    int64_t wall_ms;           /* what the clock says */
    uint64_t mono_ns;
    int64_t offset;            /* of the next event */
};

/* `more_types`: names beside the built-in event types, ended by NULL; NULL = none. */
struct rig *rig_new(const char *const *more_types);
void rig_free(struct rig **rig);

/* Configuration of a module: conf_size bytes with the defaults of its option table. The rig frees it. */
void *rig_conf(struct rig *rig, const struct module *module);
/* Set the member that option `name` points at: `size` bytes from `value`. */
void rig_set(void *conf, const struct module *module, const char *name, const void *value, size_t size);
void rig_set_int(void *conf, const struct module *module, const char *name, int64_t value);
void rig_set_list(void *conf, const struct module *module, const char *name, const void *at, size_t n);
/* Add an instance and open it. NULL with `err` filled when it refuses. Asserts instead when `err` is NULL. */
struct instance *rig_open(struct rig *rig, const struct module *module, void *conf, struct error *err);
/* All modules are open: make the table and place the sections. */
void rig_ready(struct rig *rig, size_t table_bytes);

/* Append an event, EVENT_OK, with the user's record found or made. The caller fills in more. */
struct event *rig_event(struct rig *rig, const char *user, int type, int64_t ts_ms);
void rig_run(struct rig *rig);   /* every instance over the batch, in order; then what batch_finish does to records */
void rig_clear(struct rig *rig); /* the next batch is empty */
void rig_tick(struct rig *rig);

struct user *rig_user(struct rig *rig, const char *name); /* NULL when not in the table */
/* The user's record to bytes, out of the table, and back from the bytes. Returns the number of bytes. */
size_t rig_round_trip(struct rig *rig, const char *name);
/* The value of column `name` in the row of event i; columns must have been wanted before the run. */
double rig_column(const struct rig *rig, uint32_t i, const char *name);
void rig_want(struct rig *rig, const char *name);
double rig_metric(const struct rig *rig, const char *name);

#endif
