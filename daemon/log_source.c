// SPDX-License-Identifier: Apache-2.0
// log_source.c - see log_source.h. Owns nothing: client and ends are the caller's, and a message that a batch had no
// room for stays lent until the next one.
#include "log_source.h"

#include "module.h"

/* 1 = `message` is the next one, 0 = all has been read. Where a partition begins is asked when its turn comes:
 * retention may have taken its beginning while others were read. */
static int next_message(struct log_source *s)
{
    if (s->pending)
        return 1;
    for (; s->reading < s->partitions_n; s->reading++, s->begun = false) {
        int64_t low = 0, high, until = s->until[s->reading];
        if (until <= 0)
            continue;
        if (!s->begun && offline_log_range(s->offline, s->reading, &low, &high, &s->error) < 0)
            return -1;
        if (!s->begun && low >= until)
            continue;
        if (!s->begun && offline_read_begin(s->offline, s->reading, low, until, &s->error) < 0)
            return -1;
        s->begun = true;
        int rc = offline_read_next(s->offline, &s->message, &s->error);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* The message's bytes are lent only: copied into the batch. A batch that is full keeps it for the next one; what not
 * even an empty batch holds goes the way of all events that are too large. */
static bool hand_over(struct log_source *s, struct instance *in, struct batch *b)
{
    const struct offline_message *m = &s->message;
    char *value = m->value.at ? arena_copy(b->arena, m->value.at, m->value.len) : NULL;
    char *key = m->key.at ? arena_copy(b->arena, m->key.at, m->key.len) : NULL;
    bool fits = (value || !m->value.at) && (key || !m->key.at);
    s->pending = !fits && b->n > 0;
    if (s->pending)
        return false;
    s->done++;
    b->events[b->n++] = (struct event){
        .raw = {fits ? value : NULL, fits ? m->value.len : 0}, .key = {fits ? key : NULL, fits ? m->key.len : 0},
        .partition = s->reading, .offset = m->offset, .fetched_ns = clock_mono_ns(in->clock), .log_ms = m->time_ms,
        .verdict = !fits ? EVENT_TOO_LARGE : value ? EVENT_OK : EVENT_EMPTY,
    };
    return true;
}

static int open_source(struct instance *in, bool check, struct error *err)
{
    (void)check, (void)err;
    in->self = in->conf;
    in->input = "log";
    return 0;
}

static void run_source(struct instance *in, struct batch *b)
{
    struct log_source *s = in->self;
    int rc = 1;
    if (!s->assigned || s->draining)
        return;
    while (b->n < b->cap) {
        rc = s->failed ? -1 : next_message(s);
        s->failed |= rc < 0;
        if (rc <= 0 || !hand_over(s, in, b))
            break;
    }
    if (b->n == 0 && rc <= 0)
        engine_input_ended(in->engine, !s->failed);
}

static void flow_source(struct instance *in, const struct flow *flow)
{
    struct log_source *s = in->self;
    s->draining |= flow->kind == FLOW_DRAIN;
    if (flow->kind != FLOW_TICK || s->assigned)
        return;
    s->assigned = true;
    for (int32_t p = 0; p < s->partitions_n; p++)
        partition_assigned(in->engine, p, OFFSET_NONE);
}

static void commit_source(struct instance *in, struct commit *c)
{
    commit_done(in->engine, in, c, true);
}

static const struct module source_log = {
    .name = "source_log",
    .summary = "The log once, from its beginning to a known end.",
    .stage = STAGE_SOURCE,
    .open = open_source,
    .run = run_source,
    .flow = flow_source,
    .commit = commit_source,
};

struct config_module log_source_module(struct log_source *source)
{
    return (struct config_module){.module = &source_log, .name = (char *)"source.log", .conf = source};
}
