// SPDX-License-Identifier: Apache-2.0
// epoch.c - delivery: exactly_once. Outputs and offsets become visible in one transaction an epoch:
//
//   batches computed ─► transaction n (their outputs, applied_next of each partition as C) ─► durable ─► save ─► W
//
// While transaction n is being committed the engine computes on; the sink keeps what it is handed for the next one.
// A failed transaction takes every output since the last good one with it, and the records in the table have moved on
// meanwhile: all partitions are dropped and taken over anew, which is the same as what another member would do.
#include "engine.h"

#include "gait/log.h"

#include <assert.h>
#include <stdlib.h>

void epochs_destroy(struct engine *e)
{
    free(e->epoch.commit.offsets);
}

static bool epoch_is_due(const struct engine *e, uint64_t mono_ms)
{
    if (e->epoch.poisoned)
        return true;
    if (e->seq == e->epoch.done_seq)
        return false;
    if (e->save_urgent || e->phase != ENGINE_RUNNING || mono_ms >= e->epoch.begun_ms + (uint64_t)e->conf.epoch_ms)
        return true;
    for (size_t i = 0; i < e->partitions_n; i++)
        if (e->partitions[i]->state == PARTITION_CLOSING && e->partitions[i]->in_work == 0)
            return true;
    return false;
}

/* What C of each partition will be. Never below the C of the take-over: those events ran silently. */
static void collect_offsets(struct engine *e)
{
    struct commit *c = &e->epoch.commit;
    if (e->epoch.offsets_cap < e->partitions_n) {
        e->epoch.offsets_cap = (uint32_t)e->partitions_n;
        c->offsets = realloc(c->offsets, e->epoch.offsets_cap * sizeof *c->offsets);
        assert(c->offsets);
    }
    c->offsets_n = 0;
    for (size_t i = 0; i < e->partitions_n; i++) {
        const struct partition *p = e->partitions[i];
        if ((p->state == PARTITION_OPEN || p->state == PARTITION_CLOSING) && p->applied_next > p->committed_next)
            c->offsets[c->offsets_n++] = (struct commit_offset){p->id, p->generation, p->applied_next};
    }
}

void epoch_advance(struct engine *e, uint64_t mono_ms)
{
    if (!e->transactional || e->epoch.in_flight || !epoch_is_due(e, mono_ms))
        return;
    e->epoch.commit.abort = e->epoch.poisoned;
    e->epoch.poisoned = false;
    e->epoch.upto_seq = e->seq;
    e->epoch.in_flight = true;
    collect_offsets(e);
    e->transactional->module->commit(e->transactional, &e->epoch.commit);
}

static void release_batches(struct engine *e, uint64_t upto_seq)
{
    while (e->epoch.done_seq < upto_seq)
        ticket_release(&e->tickets[++e->epoch.done_seq % TICKETS_MAX], 1);
}

/* Nothing since the last good transaction has been seen by anybody. */
static void start_over(struct engine *e)
{
    log_warning("engine", "the transaction was aborted: taking all partitions over anew from their last checkpoint");
    metric_add(e->m_aborted, 1);
    for (size_t i = 0; i < e->partitions_n; i++) {
        struct partition *p = e->partitions[i];
        if (p->state == PARTITION_OPENING)
            continue; /* nothing of it was in the transaction */
        if (p->state == PARTITION_OPEN)
            p->reopen = true;
        partition_drop(e, p, "its transaction was aborted");
    }
    e->epoch.poisoned = false;
    release_batches(e, e->seq);
}

void epoch_done(struct engine *e, bool ok)
{
    struct commit *c = &e->epoch.commit;
    assert(e->epoch.in_flight && !(ok && c->abort));
    e->epoch.in_flight = false;
    e->epoch.begun_ms = engine_mono_ms(e);
    if (!ok) {
        start_over(e);
        return;
    }
    for (uint32_t i = 0; i < c->offsets_n; i++) {
        struct partition *p = engine_partition(e, c->offsets[i].partition);
        if (p && p->generation == c->offsets[i].generation)
            p->committed_next = c->offsets[i].offset;
    }
    metric_add(e->m_committed, c->offsets_n);
    release_batches(e, e->epoch.upto_seq);
}
