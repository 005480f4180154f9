// SPDX-License-Identifier: Apache-2.0
// partition.c - taking partitions over and handing them on. A partition's state changes here only.
//
//   assigned ─► OPENING ─(store: fence, W)─► OPEN ─(revoked, drain)─► CLOSING ─(saved, committed)─► gone
//      ▲                                      └─(lost, fenced, transaction aborted)─► LOST ─(no batch holds it)─► gone
//      └──────────────────── (FLOW_REOPEN: still ours by the group's word) ◄─────────────────────────────────────┘
#include "engine.h"

#include "gait/log.h"

#include <assert.h>
#include <stdlib.h>

struct partition *engine_partition(struct engine *e, int32_t id)
{
    for (size_t i = 0; i < e->partitions_n; i++)
        if (e->partitions[i]->id == id)
            return e->partitions[i];
    return NULL;
}

void engine_input_partitions_set(struct engine *e, int32_t partitions)
{
    e->input_partitions = partitions;
}

int32_t engine_input_partitions(const struct engine *e)
{
    return e->input_partitions;
}

static void partition_ask_store(struct engine *e, struct partition *p)
{
    e->store->module->flow(e->store, &(struct flow){.kind = FLOW_OPEN, .partition = p});
}

void partition_assigned(struct engine *e, int32_t id, int64_t committed)
{
    struct partition *p = engine_partition(e, id);
    if (p) { /* the old life has to end first; partitions_advance() begins the new one */
        assert(p->state == PARTITION_CLOSING || p->state == PARTITION_LOST);
        p->reassigned = committed;
        return;
    }
    if (e->partitions_n == e->partitions_cap) {
        e->partitions_cap = e->partitions_cap ? e->partitions_cap * 2 : 16;
        e->partitions = realloc(e->partitions, e->partitions_cap * sizeof(struct partition *));
        assert(e->partitions);
    }
    p = calloc(1, sizeof *p);
    assert(p);
    p->id = id;
    p->generation = ++e->generations;
    p->committed = committed;
    p->fence = p->start = p->read_next = p->applied_next = p->durable_next = OFFSET_NONE;
    p->committed_next = p->saved_next = p->low = p->high = OFFSET_NONE;
    p->erase_next = p->erase_done = p->erase_saved = OFFSET_NONE;
    p->reassigned = INT64_MIN;
    p->state = PARTITION_OPENING;
    e->partitions[e->partitions_n++] = p;
    log_info("engine", "partition %d: taking over, committed offset %lld", id, (long long)committed);
    partition_ask_store(e, p);
}

/* Where to read from. With W: there. Without W but with C: this partition's state was lost, so the log is replayed from
 * its earliest event, silently up to C (or, by configuration, taken up at C with records that are known to be
 * incomplete). With neither: this group is new here, and the source's own policy decides. */
static int64_t partition_start(struct engine *e, struct partition *p, int64_t saved)
{
    if (saved >= 0)
        return saved;
    if (p->committed < 0)
        return OFFSET_NONE;
    metric_add(e->m_state_lost, 1);
    if (e->conf.state_lost == STATE_LOST_CONTINUE) {
        log_warning("engine", "partition %d: the store has no state for it; continuing at %lld with incomplete records",
                    p->id, (long long)p->committed);
        p->degraded = true;
        return p->committed;
    }
    log_warning("engine", "partition %d: the store has no state for it; replaying from the earliest retained event, "
                "without outputs below %lld", p->id, (long long)p->committed);
    return OFFSET_EARLIEST;
}

void partition_opened(struct engine *e, struct partition *p, int64_t fence, int64_t saved)
{
    p->fence = fence;
    if (p->state != PARTITION_OPENING) {
        engine_wake(e);
        return;
    }
    p->saved_next = saved;
    p->start = partition_start(e, p, saved);
    if (p->start >= 0)
        p->read_next = p->applied_next = p->durable_next = p->start;
    p->committed_next = p->committed;
    p->erase_next = p->erase_done = p->erase_saved;
    p->state = PARTITION_OPEN;
    log_info("engine", "partition %d: fence %lld, reading from %lld, silent below %lld", p->id, (long long)fence,
             (long long)p->start, (long long)p->committed);
    e->source->module->flow(e->source, &(struct flow){.kind = FLOW_START, .partition = p, .offset = p->start});
    engine_wake(e);
}

void partition_revoked(struct engine *e, int32_t id)
{
    struct partition *p = engine_partition(e, id);
    if (!p)
        return;
    p->reassigned = INT64_MIN;
    p->reopen = false;
    if (p->state == PARTITION_OPENING)
        p->state = PARTITION_LOST; /* nothing was read yet */
    else if (p->state == PARTITION_OPEN)
        p->state = PARTITION_CLOSING;
    engine_wake(e);
}

/* Events of it that are on their way lose their records: they change nothing and produce nothing any more. */
static void forget_events(struct engine *e, const struct partition *p)
{
    for (uint32_t q = 0; q < e->queue_n; q++) {
        struct batch *b = &e->queue[q]->batch;
        for (uint32_t i = 0; i < b->n; i++)
            if (b->events[i].partition == p->id)
                b->events[i].verdict = EVENT_GIVEN_UP;
    }
}

void partition_drop(struct engine *e, struct partition *p, const char *why)
{
    if (p->state == PARTITION_LOST)
        return;
    if (p->applied_next > p->committed_next)
        e->epoch.poisoned = true; /* its new owner produces those outputs */
    log_warning("engine", "partition %d: %s; its %zu unsaved records are dropped, their new owner rebuilds them", p->id,
                why, p->dirty_n);
    p->state = PARTITION_LOST;
    save_cancel(e, p);
    forget_events(e, p);
    engine_wake(e);
}

void partition_lost(struct engine *e, int32_t id)
{
    struct partition *p = engine_partition(e, id);
    if (!p)
        return;
    p->reassigned = INT64_MIN;
    p->reopen = false;
    partition_drop(e, p, "lost to another member of the group");
}

void partition_fenced(struct engine *e, struct partition *p)
{
    metric_add(e->m_fenced, 1);
    p->reopen = p->state == PARTITION_OPEN || p->state == PARTITION_OPENING;
    partition_drop(e, p, "the store refuses our fence");
}

static bool partition_finished(const struct partition *p)
{
    if (p->in_work > 0 || p->save || p->commit)
        return false;
    return p->state == PARTITION_LOST || (p->state == PARTITION_CLOSING && saves_idle(p));
}

/* What stays at its last value would look like a lag that nobody works off. */
static void forget_lag(struct engine *e, int32_t id)
{
    char text[16];
    snprintf(text, sizeof text, "%d", id);
    metric_set(metric_cell(e->metrics, "gait_lag_events", text), 0);
}

static void partition_remove(struct engine *e, size_t index)
{
    struct partition *p = e->partitions[index];
    bool lost = p->state == PARTITION_LOST, reopen = p->reopen;
    int64_t reassigned = p->reassigned;
    int32_t id = p->id;
    engine_flow(e, &(struct flow){.kind = FLOW_CLOSED, .partition = p}); /* nobody refers to its users any more */
    users_remove_partition(e->users, p);
    if (p->high >= 0)
        forget_lag(e, id);
    log_info("engine", "partition %d: %s at %lld", id, lost ? "dropped" : "saved, committed and released",
             (long long)p->applied_next);
    e->partitions[index] = e->partitions[--e->partitions_n];
    free(p);
    if (reassigned != INT64_MIN)
        partition_assigned(e, id, reassigned);
    else if (reopen && e->phase == ENGINE_RUNNING)
        e->source->module->flow(e->source, &(struct flow){.kind = FLOW_REOPEN, .id = id});
}

void partitions_advance(struct engine *e)
{
    for (size_t i = 0; i < e->partitions_n;) {
        if (partition_finished(e->partitions[i]))
            partition_remove(e, i);
        else
            i++;
    }
}

void partitions_close_all(struct engine *e)
{
    for (size_t i = 0; i < e->partitions_n; i++)
        partition_revoked(e, e->partitions[i]->id);
}

void partitions_destroy(struct engine *e)
{
    for (size_t i = 0; i < e->partitions_n; i++)
        free(e->partitions[i]);
    free(e->partitions);
}
