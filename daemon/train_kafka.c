// SPDX-License-Identifier: Apache-2.0
// train_kafka.c - a source that reads the log once, for training and evaluation. Owns the client and, where a batch had
// no room for it any more, a message that is lent for the next one.
#include "train_kafka.h"

#include "module.h"

#include "gait/offline.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

struct train_kafka {
    struct offline *offline;
    int32_t partitions_n, reading;  /* reading: the partition at hand */
    int64_t *until;                 /* [partitions_n] where each ended when we began */
    bool begun, assigned, draining, failed;
    bool pending;                   /* `message` is still to be handed over */
    struct offline_message message;
    int64_t done, all;
    struct error error;
};

/* ---- the source ------------------------------------------------------------------------------------------------- */

/* 1 = `k->message` is the next one, 0 = all has been read. Where a partition begins is asked when its turn comes:
 * retention may have taken its beginning while others were read. */
static int next_message(struct train_kafka *k)
{
    if (k->pending)
        return 1;
    for (; k->reading < k->partitions_n; k->reading++, k->begun = false) {
        int64_t low = 0, high, until = k->until[k->reading];
        if (!k->begun && offline_log_range(k->offline, k->reading, &low, &high, &k->error) < 0)
            return -1;
        if (!k->begun && low >= until)
            continue;
        if (!k->begun && offline_read_begin(k->offline, k->reading, low, until, &k->error) < 0)
            return -1;
        k->begun = true;
        int rc = offline_read_next(k->offline, &k->message, &k->error);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* The message's bytes are lent only: copied into the batch. A batch that is full keeps it for the next one; what not
 * even an empty batch holds goes the way of all events that are too large. */
static bool hand_over(struct train_kafka *k, struct instance *in, struct batch *b)
{
    const struct offline_message *m = &k->message;
    char *value = m->value.at ? arena_copy(b->arena, m->value.at, m->value.len) : NULL;
    char *key = m->key.at ? arena_copy(b->arena, m->key.at, m->key.len) : NULL;
    bool fits = (value || !m->value.at) && (key || !m->key.at);
    k->pending = !fits && b->n > 0;
    if (k->pending)
        return false;
    k->done++;
    b->events[b->n++] = (struct event){
        .raw = {fits ? value : NULL, fits ? m->value.len : 0}, .key = {fits ? key : NULL, fits ? m->key.len : 0},
        .partition = k->reading, .offset = m->offset, .fetched_ns = clock_mono_ns(in->clock), .log_ms = m->time_ms,
        .verdict = !fits ? EVENT_TOO_LARGE : value ? EVENT_OK : EVENT_EMPTY,
    };
    return true;
}

static int open_source(struct instance *in, bool check, struct error *err)
{
    (void)check, (void)err;
    in->self = in->conf;
    in->input = "kafka";
    return 0;
}

static void run_source(struct instance *in, struct batch *b)
{
    struct train_kafka *k = in->self;
    int rc = 1;
    if (!k->assigned || k->draining)
        return;
    while (b->n < b->cap) {
        rc = k->failed ? -1 : next_message(k);
        k->failed |= rc < 0;
        if (rc <= 0 || !hand_over(k, in, b))
            break;
    }
    if (b->n == 0 && rc <= 0)
        engine_input_ended(in->engine, !k->failed);
}

static void flow_source(struct instance *in, const struct flow *flow)
{
    struct train_kafka *k = in->self;
    k->draining |= flow->kind == FLOW_DRAIN;
    if (flow->kind != FLOW_TICK || k->assigned)
        return;
    k->assigned = true;
    for (int32_t p = 0; p < k->partitions_n; p++)
        partition_assigned(in->engine, p, OFFSET_NONE);
}

static void commit_source(struct instance *in, struct commit *c)
{
    commit_done(in->engine, in, c, true);
}

static const struct module source_log = {
    .name = "source_log",
    .summary = "The topic once, from its beginning to its end as of now.",
    .stage = STAGE_SOURCE,
    .open = open_source,
    .run = run_source,
    .flow = flow_source,
    .commit = commit_source,
};

/* ---- opening and closing ---------------------------------------------------------------------------------------- */

static int find_ends(struct train_kafka *k, struct error *err)
{
    if (offline_partitions(k->offline, &k->partitions_n, err) < 0)
        return -1;
    k->until = calloc((size_t)k->partitions_n, sizeof *k->until);
    assert(k->until);
    for (int32_t p = 0; p < k->partitions_n; p++) {
        int64_t low;
        if (offline_log_range(k->offline, p, &low, &k->until[p], err) < 0)
            return -1;
        k->all += k->until[p] - low;
    }
    return k->all > 0 ? 0 : error_set(err, "the topic is empty: there is nothing to read");
}

struct train_kafka *train_kafka_open(const struct config *config, struct error *err)
{
    struct offline_module found[CONFIG_MODULES_MAX];
    struct train_kafka *k = calloc(1, sizeof *k);
    struct error ignored;
    assert(k);
    for (size_t i = 0; i < config->modules_n; i++)
        found[i] = (struct offline_module){config->modules[i].module, config->modules[i].conf};
    k->offline = offline_create(found, config->modules_n);
    assert(k->offline);
    if (find_ends(k, err) < 0) {
        train_kafka_close(&k, &ignored);
        error_prefix(err, "--from-kafka");
    }
    return k;
}

int train_kafka_close(struct train_kafka **kafka, struct error *err)
{
    struct train_kafka *k = *kafka;
    *kafka = NULL;
    if (!k)
        return 0;
    int rc = 0;
    if (k->failed) {
        *err = k->error;
        rc = error_prefix(err, "--from-kafka, after %" PRId64 " of %" PRId64 " messages", k->done, k->all);
    }
    offline_destroy(&k->offline);
    free(k->until);
    free(k);
    return rc;
}

struct config_module train_kafka_source(struct train_kafka *kafka)
{
    return (struct config_module){.module = &source_log, .name = (char *)"source.log", .conf = kafka};
}

void train_kafka_progress(const struct train_kafka *kafka, int64_t *done, int64_t *all)
{
    *done = kafka->done;
    *all = kafka->all;
}
