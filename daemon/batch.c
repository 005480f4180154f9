// SPDX-License-Identifier: Apache-2.0
// batch.c - batches: their arrays, the step from events to records (pins, waves, loads), and the tickets that remember
// what of each batch is not durable yet.
#include "engine.h"

#include "gait/log.h"

#include <assert.h>
#include <stdlib.h>

enum { ARRAY_ALIGN = 64, ARENA_FIRST_BYTES = 256 << 10, ARENA_LIMIT_BYTES = 256 << 20, PREFETCH_EVENTS = 16 };

static void *array_take(size_t n, size_t size)
{
    size_t bytes = (n * size + ARRAY_ALIGN - 1) / ARRAY_ALIGN * ARRAY_ALIGN;
    void *at = aligned_alloc(ARRAY_ALIGN, bytes ? bytes : ARRAY_ALIGN);
    assert(at);
    memset(at, 0, bytes);
    return at;
}

void batches_create(struct engine *e)
{
    size_t cap = (size_t)e->conf.batch_events;
    for (int64_t i = 0; i < e->conf.batches; i++) {
        struct batch_slot *slot = &e->batches[i];
        struct batch *b = &slot->batch;
        slot->engine = e;
        b->cap = (uint32_t)cap;
        b->events = array_take(cap, sizeof *b->events);
        b->scores = array_take(cap, sizeof *b->scores);
        b->risk = array_take(cap, sizeof *b->risk);
        b->alerts = array_take(cap, sizeof *b->alerts);
        b->has_before = array_take(cap, 1);
        b->loading = array_take(cap, sizeof *b->loading);
        b->arena = arena_create(ARENA_FIRST_BYTES, ARENA_LIMIT_BYTES);
    }
    for (size_t i = 0; i < TICKETS_MAX; i++)
        e->tickets[i].engine = e;
}

void batches_destroy(struct engine *e)
{
    for (size_t i = 0; i < BATCHES_MAX; i++) {
        struct batch *b = &e->batches[i].batch;
        if (b->input_done)
            b->input_done(b->input);
        free(b->events);
        free(b->scores);
        free(b->risk);
        free(b->alerts);
        free(b->has_before);
        free(b->loading);
        free(b->columns);
        free(b->hidden);
        free(b->hidden_before);
        arena_destroy(&b->arena);
    }
    for (size_t i = 0; i < TICKETS_MAX; i++)
        free(e->tickets[i].spans);
}

struct batch_slot *batch_free_slot(struct engine *e)
{
    for (int64_t i = 0; i < e->conf.batches; i++)
        if (e->batches[i].state == BATCH_FREE)
            return &e->batches[i];
    return NULL;
}

/* Offsets may have holes (transactions, compaction); it is a loss where the source says that retention has passed what
 * we were to read next: at the start of a partition or, if we are very slow, later. */
static void report_gap(struct engine *e, struct partition *p)
{
    int64_t lost = p->low - p->read_next;
    metric_add(e->m_gap, (double)lost);
    log_error("engine",
              "partition %d: retention deleted %lld events (%lld to %lld) before they were read; the records of "
              "this partition are marked as degraded", p->id, (long long)lost, (long long)p->read_next,
              (long long)p->low - 1);
    p->degraded = true;
}

/* What the source put in: each event counts for its partition. Those of a partition that is not ours any more are
 * dropped here, before anything has been done with them; their new owner reads them. */
void batch_accept(struct engine *e, struct batch *b)
{
    struct partition *p = NULL;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        struct event *event = &b->events[i];
        if (!p || p->id != event->partition)
            p = engine_partition(e, event->partition);
        if (!p || p->state != PARTITION_OPEN || event->offset < p->read_next) /* or delivered a second time */
            continue;
        if (p->read_next >= 0 && event->offset > p->read_next && p->low > p->read_next)
            report_gap(e, p);
        if (p->start < 0)
            p->start = event->offset;
        p->in_work++;
        p->read_next = event->offset + 1;
        if (kept != i)
            b->events[kept] = *event;
        kept++;
    }
    b->n = kept;
}

/* ---- events to records ----------------------------------------------------------------------------------------- */

/* The user's earlier event in this batch, if any, is followed by this one: the k-th event of each user is wave k. */
static void chain_event(struct batch *b, uint32_t i, struct user *user)
{
    struct event *event = &b->events[i];
    event->record = user;
    event->next_of_user = -1;
    event->wave = 0;
    if (user->last_in_batch >= 0) {
        struct event *before = &b->events[user->last_in_batch];
        before->next_of_user = (int32_t)i;
        event->wave = before->wave + 1;
    } else {
        user->pins++;
    }
    user->last_in_batch = (int32_t)i;
    if (event->wave >= b->waves)
        b->waves = event->wave + 1;
}

static void resolve_event(struct engine *e, struct batch *b, uint32_t i, struct user *user, bool made)
{
    if (made) {
        user->loading_for = b;
        b->loading[b->loading_n++] = user;
        b->loads++;
        metric_add(e->m_loads, 1);
    } else if (user->state == USER_LOADING && user->loading_for->n == 0) {
        /* An erasure or a lookup asked for it, which no batch waits for: from now on this one does. Of two batches the
         * later one is computed after the one that waits already. */
        user->loading_for->loads--;
        user->loading_for = b;
        b->loads++;
    }
    chain_event(b, i, user);
}

/* Index and records of the events from `from` on: mostly out of the cache, so fetched several at once. */
static void prefetch_users(const struct users *users, const struct batch *b, uint32_t from)
{
    uint64_t hash[PREFETCH_EVENTS];
    uint32_t to = from + PREFETCH_EVENTS < b->n ? from + PREFETCH_EVENTS : b->n;
    for (uint32_t i = from; i < to; i++)
        if (b->events[i].verdict == EVENT_OK)
            hash[i - from] = users_prefetch_index(users, b->events[i].partition, b->events[i].user);
    for (uint32_t i = from; i < to; i++)
        if (b->events[i].verdict == EVENT_OK)
            users_prefetch_record(users, hash[i - from], b->events[i].user);
}

/* last_in_batch is scratch of this pass only: two batches can be between resolving and computing at once. When the
 * table is full the pass stops and is taken up again later, so the chain ends are restored first and cleared after. */
void batch_resolve(struct engine *e, struct batch_slot *slot)
{
    struct batch *b = &slot->batch;
    uint32_t from = slot->resolved, to = from;
    struct partition *p = NULL;
    for (uint32_t i = 0; i < from; i++)
        if (b->events[i].record)
            b->events[i].record->last_in_batch = (int32_t)i;
    for (; to < b->n; to++) {
        struct event *event = &b->events[to];
        if ((to - from) % PREFETCH_EVENTS == 0)
            prefetch_users(e->users, b, to);
        event->record = NULL;
        event->next_of_user = -1;
        if (!p || p->id != event->partition)
            p = engine_partition(e, event->partition);
        event->silent = p && event->offset < p->committed;
        if (event->verdict != EVENT_OK)
            continue;
        bool made;
        struct user *user = users_get(e->users, event->partition, event->user, &made);
        if (!user) {
            e->save_urgent = true;
            break;
        }
        resolve_event(e, b, to, user, made);
    }
    for (uint32_t i = 0; i < to; i++)
        if (b->events[i].record)
            b->events[i].record->last_in_batch = -1;
    slot->resolved = to;
    slot->state = to < b->n ? BATCH_RESOLVING : BATCH_LOADING;
}

bool batch_is_ready(const struct batch_slot *slot)
{
    return slot->state == BATCH_LOADING && slot->batch.loads == 0;
}

/* A record that the store gave us. An unreadable one is counted, logged with its key, and begun anew: the events that
 * the log retains above W rebuild it. */
void load_done(struct engine *e, struct user *user, const uint8_t *bytes, size_t n)
{
    struct batch *b = user->loading_for;
    assert(user->state == USER_LOADING && b && b->loads > 0);
    struct error err;
    user->fresh = true;
    if (bytes) {
        if (record_decode(e, user, bytes, n, &err) == 0) {
            user->fresh = false;
        } else {
            metric_add(e->m_bad_records, 1);
            log_often(LOG_ERROR, "engine",
                      "the stored record of user %s in partition %d is unreadable (%s): begun anew",
                      user->name, user->partition, err.text);
            user->degraded = true;
        }
    }
    struct partition *p = engine_partition(e, user->partition);
    if (p && p->degraded)
        user->degraded = true;
    user->state = USER_READY;
    user->loading_for = NULL;
    if (--b->loads == 0)
        engine_wake(e);
}

/* ---- computing: begin and end ---------------------------------------------------------------------------------- */

static void ticket_add_span(struct ticket *t, const struct partition *p, int64_t next)
{
    for (uint32_t i = 0; i < t->spans_n; i++) {
        if (t->spans[i].partition == p->id) {
            t->spans[i].next = next;
            return;
        }
    }
    if (t->spans_n == t->spans_cap) {
        t->spans_cap = t->spans_cap ? t->spans_cap * 2 : 4;
        t->spans = realloc(t->spans, t->spans_cap * sizeof *t->spans);
        assert(t->spans);
    }
    t->spans[t->spans_n++] = (struct ticket_span){p->id, p->generation, next};
}

void batch_prepare(struct engine *e, struct batch *b)
{
    uint32_t columns = columns_width(e->columns);
    struct batch_slot *slot = (struct batch_slot *)b;
    b->columns_n = columns;
    if (slot->column_floats < (size_t)b->cap * columns) {
        free(b->columns);
        slot->column_floats = (size_t)b->cap * columns;
        b->columns = array_take(slot->column_floats, sizeof *b->columns);
    }
    b->ticket = ticket_take(e);
    b->seq = b->ticket->seq;
    b->now_ms = clock_wall_ms(&e->clock);
    b->model = NULL;
    b->alerts_n = 0;
    memset(b->risk, 0, b->n * sizeof *b->risk);
    for (uint32_t i = 0; i < b->n; i++) {
        b->scores[i].n = 0;
        b->scores[i].publish = false;
    }
}

void batch_hidden(struct batch *b, uint32_t hidden_n)
{
    struct batch_slot *slot = (struct batch_slot *)b;
    b->hidden_n = hidden_n;
    if (slot->hidden_floats < (size_t)b->cap * hidden_n) {
        free(b->hidden);
        free(b->hidden_before);
        slot->hidden_floats = (size_t)b->cap * hidden_n;
        b->hidden = array_take(slot->hidden_floats, sizeof *b->hidden);
        b->hidden_before = array_take(slot->hidden_floats, sizeof *b->hidden_before);
    }
}

/* Everything has seen the batch: records move on, pins and input are given back, the ticket waits for the outputs. */
void batch_finish(struct engine *e, struct batch_slot *slot)
{
    struct batch *b = &slot->batch;
    int64_t mono_ms = (int64_t)engine_mono_ms(e);
    struct partition *p = NULL;
    for (uint32_t i = 0; i < b->n; i++) {
        struct event *event = &b->events[i];
        struct user *user = event->record;
        if (!p || p->id != event->partition)
            p = engine_partition(e, event->partition);
        assert(p && p->in_work > 0);
        p->in_work--;
        metric_add(e->m_result[event->verdict], 1);
        if (event->silent)
            metric_add(e->m_silent, 1);
        if (event->offset >= p->applied_next)
            p->applied_next = event->offset + 1, p->applied_ms = event->log_ms;
        if (!user)
            continue;
        if (event->verdict == EVENT_OK) { /* a refused one leaves no trace: a replay refuses it again */
            user->touched_ms = b->now_ms;
            user->next = event->offset + 1;
            users_dirty(e->users, p, user, event->offset, mono_ms);
        }
        if (event->next_of_user < 0)
            user->pins--;
    }
    for (uint32_t i = 0; i < b->n; i++)
        if (i + 1 == b->n || b->events[i + 1].partition != b->events[i].partition)
            ticket_add_span(b->ticket, engine_partition(e, b->events[i].partition), b->events[i].offset + 1);
    if (b->input_done)
        b->input_done(b->input);
    b->input_done = NULL;
    arena_reset(b->arena);
    ticket_complete(b->ticket);
    b->ticket = NULL;
    b->n = b->loading_n = b->loading_from = b->waves = 0;
    slot->resolved = 0;
    slot->state = BATCH_FREE;
}

/* ---- tickets --------------------------------------------------------------------------------------------------- */

bool ticket_free(const struct engine *e)
{
    return e->seq - e->savable_seq < TICKETS_MAX;
}

/* The next number in the order of computing, held by the engine until ticket_complete(). */
struct ticket *ticket_take(struct engine *e)
{
    assert(ticket_free(e));
    struct ticket *t = &e->tickets[++e->seq % TICKETS_MAX];
    t->seq = e->seq;
    t->holds = e->transactional ? 2 : 1; /* the second one is the epoch's */
    t->save_holds = 0;
    t->computed = false;
    t->spans_n = 0;
    return t;
}

void ticket_complete(struct ticket *t)
{
    t->computed = true;
    ticket_release(t, 1);
}

void ticket_hold(struct ticket *t, uint32_t times)
{
    assert(t->holds > 0 && t->holds + times > t->holds);
    t->holds += times;
}

void ticket_release(struct ticket *t, uint32_t times)
{
    assert(times > 0 && t->holds >= times);
    t->holds -= times;
    if (t->holds == 0 && t->seq == t->engine->durable_seq + 1)
        engine_wake(t->engine);
}

void ticket_hold_save(struct ticket *t, uint32_t times)
{
    assert(t->holds > 0 && t->save_holds + times > t->save_holds);
    t->save_holds += times;
}

void ticket_release_save(struct ticket *t, uint32_t times)
{
    assert(times > 0 && t->save_holds >= times);
    t->save_holds -= times;
    if (t->save_holds == 0 && t->seq == t->engine->savable_seq + 1)
        engine_wake(t->engine);
}

/* In order: what may be committed first, what may be saved behind it. */
void tickets_retire(struct engine *e)
{
    while (e->durable_seq < e->seq) {
        struct ticket *t = &e->tickets[(e->durable_seq + 1) % TICKETS_MAX];
        assert(t->seq == e->durable_seq + 1);
        if (t->holds > 0 || !t->computed)
            break;
        for (uint32_t i = 0; i < t->spans_n; i++) {
            struct partition *p = engine_partition(e, t->spans[i].partition);
            if (p && p->generation == t->spans[i].generation && t->spans[i].next > p->durable_next)
                p->durable_next = t->spans[i].next;
        }
        e->durable_seq++;
    }
    while (e->savable_seq < e->durable_seq && e->tickets[(e->savable_seq + 1) % TICKETS_MAX].save_holds == 0)
        e->savable_seq++;
}
