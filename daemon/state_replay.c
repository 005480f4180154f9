// SPDX-License-Identifier: Apache-2.0
// state_replay.c - what the log makes of the users that `gaitd state verify` has chosen. The daemon's own engine runs
// with the configuration's decode, window, model, score and rule; around them lie a source that reads the log from its
// beginning, a stage that passes over everybody else's events, and a store that keeps what is saved in `struct verify`.
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
    in->input = "verify";
    return 0;
}

/* ---- source: one partition after the other ----------------------------------------------------------------------- */

/* 1 = `m` is the next message, 0 = all partitions have been read. */
static int next_message(struct verify *v, struct offline_message *m)
{
    for (; v->reading < v->partitions_n; v->reading++, v->begun = false) {
        const struct verify_partition *p = &v->partitions[v->reading];
        if (p->until <= p->low)
            continue;
        if (!v->begun && offline_read_begin(v->offline, v->reading, p->low, p->until, &v->error) < 0)
            return -1;
        v->begun = true;
        int rc = offline_read_next(v->offline, m, &v->error);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* The bytes of a message are only lent: they are copied into the batch. */
static void run_source(struct instance *in, struct batch *b)
{
    struct verify *v = in->self;
    struct offline_message m;
    if (!v->assigned)
        return;
    while (b->n < b->cap) {
        int rc = v->failed ? -1 : next_message(v, &m);
        v->failed |= rc < 0;
        if (rc <= 0)
            break;
        char *raw = m.value.at ? arena_copy(b->arena, m.value.at, m.value.len) : NULL;
        char *key = m.key.at ? arena_copy(b->arena, m.key.at, m.key.len) : NULL;
        if ((m.value.at && !raw) || (m.key.at && !key)) {
            v->failed = true;
            error_set(&v->error, "partition %d: a batch has no room for the message at %lld; a smaller "
                      "engine.batch_events helps", v->reading, (long long)m.offset);
            break;
        }
        b->events[b->n++] = (struct event){
            .raw = {raw, m.value.len}, .key = {key, m.key.len}, .partition = v->reading, .offset = m.offset,
            .fetched_ns = clock_mono_ns(in->clock), .log_ms = m.time_ms, .verdict = raw ? EVENT_OK : EVENT_EMPTY,
        };
    }
    if (b->n == 0)
        engine_input_ended(in->engine, !v->failed);
}

static void flow_source(struct instance *in, const struct flow *flow)
{
    struct verify *v = in->self;
    if (flow->kind != FLOW_TICK || v->assigned)
        return;
    v->assigned = true;
    for (int32_t p = 0; p < v->partitions_n; p++)
        if (v->partitions[p].until > v->partitions[p].low)
            partition_assigned(in->engine, p, OFFSET_NONE);
}

static void commit_source(struct instance *in, struct commit *c)
{
    commit_done(in->engine, in, c, true);
}

static const struct module source_verify = {
    .name = "source_verify",
    .summary = "The log from its beginning, for a comparison with the records.",
    .stage = STAGE_SOURCE,
    .open = open_part,
    .run = run_source,
    .flow = flow_source,
    .commit = commit_source,
};

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
        {.module = &source_verify, .name = (char *)"source.verify", .conf = v},
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
    if (v->failed)
        *err = v->error;
    return v->failed ? -1 : 0;
}
