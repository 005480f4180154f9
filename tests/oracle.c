// SPDX-License-Identifier: Apache-2.0
// oracle.c - what records and outputs must be: the log applied by one engine that nothing ever happens to, one event to
// a batch, with servers that answer at once. No batches, waves, evictions, replays or transactions take part.
#include "sim_world.h"

#include <assert.h>
#include <stdlib.h>

static void serve(struct world *w, struct member *m)
{
    bool busy = true;
    while (busy) {
        busy = redis_execute(w, &m->redis);
        busy |= redis_answer(m);
        busy |= broker_execute(w, m);
        busy |= broker_answer(m);
    }
}

static int64_t wall_ms(void *self)
{
    (void)self;
    return 1767225600000;
}

static uint64_t mono_ns(void *self)
{
    return ((struct world *)self)->now_ns;
}

static void run(struct world *w, struct member *m)
{
    for (int p = 0; p < PARTITIONS; p++) {
        w->owner[p] = 0;
        source_assign(m, p);
    }
    engine_start(m->engine);
    bool drained = false;
    for (int steps = 0; m->engine->phase != ENGINE_STOPPED; steps++) {
        assert(steps < 100000);
        w->now_ns += 1000000;
        serve(w, m);
        source_feed(m);
        engine_step(m->engine);
        bool done = true;
        for (int p = 0; p < PARTITIONS; p++) {
            const struct partition *part = engine_partition(m->engine, p);
            done = done && part && part->applied_next == w->log_n[p] &&
                   part->erase_done + (w->erasures_n == 0) == w->erasures_n;
        }
        if (done && !drained) {
            engine_drain(m->engine, 0);
            drained = true;
        }
    }
    serve(w, m);
}

void oracle_work_out(struct oracle *oracle, const struct world *disturbed, bool erasures)
{
    struct world *w = calloc(1, sizeof *w);
    assert(w);
    w->random = 1;
    w->journal = calloc(JOURNAL_MAX, sizeof *w->journal);
    assert(w->journal);
    for (int p = 0; p < PARTITIONS; p++) {
        w->log[p] = disturbed->log[p];
        w->log_n[p] = w->log_end[p] = disturbed->log_n[p];
        w->committed[p] = w->w[p] = w->erased[p] = -1;
    }
    if (erasures) {
        memcpy(w->erasures, disturbed->erasures, sizeof w->erasures);
        w->erasures_n = w->erasures_end = disturbed->erasures_n;
    }
    struct member *m = &w->members[0];
    m->world = w;
    m->clock = (struct clock){.wall_ms = wall_ms, .mono_ns = mono_ns, .self = w};
    m->config = sim_config(m, &(struct sim_settings){.batch_events = 1, .table_kb = 4096});
    struct error err;
    m->engine = engine_create(m->config, NULL, &m->clock, false, &err);
    if (!m->engine) {
        fprintf(stderr, "the oracle cannot start: %s\n", err.text);
        abort();
    }
    run(w, m);
    engine_destroy(&m->engine);
    config_destroy(&m->config);
    oracle->outputs = w->outputs;
    memcpy(oracle->records, w->records, sizeof oracle->records);
    for (size_t i = 0; i < w->journal_n; i++)
        free(w->journal[i].old.at);
    free(w->journal);
    free(w);
}

void oracle_free(struct oracle *oracle)
{
    for (int p = 0; p < PARTITIONS; p++)
        for (int u = 0; u < USERS; u++)
            free(oracle->records[p][u].at);
    free(oracle->outputs.at);
}
