// SPDX-License-Identifier: Apache-2.0
// state_replay.c - what the log makes of the users that `gaitd state verify` has chosen. The daemon's own engine runs
// with the configuration's decode, window, model, score and rule; around them lie a source that reads the log from its
// beginning (log_source.h), a stage that passes over everybody else's events, and a store that keeps what is saved in
// `struct verify`.
#include "engine.h"
#include "module.h"
#include "state_verify.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static int open_part(struct instance *in, bool check, struct error *err)
{
    (void)check, (void)err;
    in->self = in->conf;
    return 0;
}

/* ---- behind decode: the chosen users' events --------------------------------------------------------------------- */

static void note_silence(struct verify_user *user, int64_t log_ms)
{
    if (user->seen_ms > 0 && log_ms - user->seen_ms > user->silence_ms)
        user->silence_ms = log_ms - user->seen_ms;
    if (log_ms > user->seen_ms)
        user->seen_ms = log_ms;
}

static void run_pick(struct instance *in, struct batch *b)
{
    struct verify *v = in->self;
    for (uint32_t i = 0; i < b->n; i++) {
        struct event *event = &b->events[i];
        if (event->verdict != EVENT_OK)
            continue;
        struct verify_user *user = verify_find(v, event->partition, event->user);
        if (user)
            note_silence(user, event->log_ms);
        else
            event->verdict = EVENT_IGNORED;
    }
}

static const struct module decode_pick = {
    .name = "decode_pick",
    .summary = "Passes over users that are not compared.",
    .stage = STAGE_DECODE,
    .open = open_part,
    .run = run_pick,
};

/* ---- store ------------------------------------------------------------------------------------------------------- */

static void run_store(struct instance *in, struct batch *b)
{
    for (uint32_t i = b->loading_from; i < b->loading_n; i++) {
        struct user *user = b->loading[i];
        const struct verify_user *own = verify_find(in->self, user->partition,
                                                    (struct str){user->name, user->name_len});
        assert(own);
        load_done(in->engine, user, own->computed, own->computed_n);
    }
}

static void commit_store(struct instance *in, struct commit *c)
{
    for (uint32_t i = 0; i < c->n; i++) {
        const struct save_item *item = &c->items[i];
        struct verify_user *own = verify_find(in->self, c->partition->id, item->name);
        assert(own);
        free(own->computed);
        own->computed = malloc(item->len);
        assert(own->computed);
        memcpy(own->computed, item->bytes, item->len);
        own->computed_n = item->len;
    }
    commit_done(in->engine, in, c, true);
}

static void flow_store(struct instance *in, const struct flow *flow)
{
    if (flow->kind == FLOW_OPEN)
        partition_opened(in->engine, flow->partition, 1, OFFSET_NONE);
}

static const struct module store_verify = {
    .name = "store_verify",
    .summary = "Keeps the records that are compared.",
    .stage = STAGE_STORE,
    .open = open_part,
    .run = run_store,
    .flow = flow_store,
    .commit = commit_store,
};

/* ---- the engine -------------------------------------------------------------------------------------------------- */

struct engine *replay_create(struct verify *v, const struct config *config, struct config *own,
                             struct config_module *flow, struct error *err)
{
    const struct config_module parts[] = {
        log_source_module(&v->log),
        {.module = &decode_pick, .name = (char *)"decode.pick", .conf = v},
        {.module = &store_verify, .name = (char *)"store.verify", .conf = v},
    };
    size_t n = 0;
    flow[n++] = parts[0];
    for (size_t i = 0; i < config->modules_n; i++) {
        enum stage stage = config->modules[i].module->stage;
        if (stage != STAGE_SOURCE && stage != STAGE_STORE && stage != STAGE_SINK)
            flow[n++] = config->modules[i];
        if (stage == STAGE_DECODE) {
            flow[n++] = parts[1];
            flow[n++] = parts[2];
        }
    }
    *own = *config;
    own->modules = flow;
    own->modules_n = n;
    own->engine.delivery = DELIVERY_AT_LEAST_ONCE;
    return engine_create(own, NULL, &clock_system, false, err);
}

int replay_run(struct engine *e, struct verify *v, struct error *err)
{
    engine_start(e);
    while (e->phase != ENGINE_STOPPED)
        if (!engine_step(e))
            engine_tick(e);
    if (v->log.failed)
        *err = v->log.error;
    return v->log.failed ? -1 : 0;
}
