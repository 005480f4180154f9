// SPDX-License-Identifier: Apache-2.0
// sim_modules.c - source, store and sink for the engine under simulation. They keep the same promises as the real ones:
// order on a connection, a question asked again after a reset, outputs acknowledged or sent again.
#include "sim_world.h"

#include "gait/log.h"
#include "gait/output.h"

#include <assert.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t output_sum(const char *text, size_t n)
{
    return XXH3_64bits(text, n);
}

static int sim_open(struct instance *in, bool check, struct error *err)
{
    (void)check, (void)err;
    in->self = ((struct sim_conf *)in->conf)->member;
    return 0;
}

static uint32_t user_number(struct str name)
{
    uint32_t n = 0;
    for (uint32_t i = 1; i < name.len; i++)
        n = n * 10 + (uint32_t)(name.at[i] - '0');
    assert(name.at[0] == 'u' && n < USERS);
    return n;
}

/* ---- source ---------------------------------------------------------------------------------------------------- */

static struct request *ask_broker(struct member *m, enum request_kind kind)
{
    struct request *r = connection_ask(&m->broker, kind);
    r->joined = m->joined;
    return r;
}

static void ask_committed(struct member *m, int32_t p)
{
    struct request *r = ask_broker(m, REQUEST_ASK);
    r->partition = p;
    r->number = ++m->held[p].question;
}

void source_assign(struct member *m, int32_t p)
{
    m->held[p] = (struct held){.mine = true, .question = m->held[p].question};
    ask_committed(m, p);
}

void source_revoke(struct member *m, int32_t p)
{
    m->held[p].revoking = true;
    m->held[p].reading = false;
    if (engine_partition(m->engine, p))
        partition_revoked(m->engine, p);
    else
        m->held[p].mine = false;
}

void source_lost(struct member *m)
{
    for (int32_t p = 0; p < PARTITIONS; p++) {
        m->held[p].mine = m->held[p].reading = false;
        partition_lost(m->engine, p);
    }
}

/* All those that are there when a partition starts come before its clicks. */
void source_feed(struct member *m)
{
    for (int32_t p = 0; p < PARTITIONS; p++) {
        struct held *h = &m->held[p];
        for (; h->reading && h->erasures < m->world->erasures_end; h->erasures++) {
            const struct sim_erasure *erasure = &m->world->erasures[h->erasures];
            char name[16];
            snprintf(name, sizeof name, "u%u", erasure->user);
            if (!engine_erase(m->engine, p, str_of(name), erasure->erased_ms, h->erasures))
                break;
        }
    }
}

static void source_run(struct instance *in, struct batch *b)
{
    struct member *m = in->self;
    struct world *w = m->world;
    uint32_t want = 1 + (uint32_t)world_random(w, b->cap);
    for (uint32_t tries = 0; tries < want && b->n < b->cap && !m->paused && !m->draining; tries++) {
        int32_t p = (int32_t)world_random(w, PARTITIONS);
        struct held *h = &m->held[p];
        if (!h->reading || h->position >= w->log_end[p] || h->erasures < h->erasures_first)
            continue;
        if (h->position > 0 && world_chance(w, 10))
            h->position--; /* delivered a second time */
        const struct log_event *event = &w->log[p][h->position];
        b->events[b->n++] = (struct event){
            .raw = str_of(event->text), .partition = p, .offset = h->position, .fetched_ns = w->now_ns, .log_ms = -1,
        };
        h->position++;
    }
}

static void source_flow(struct instance *in, const struct flow *flow)
{
    struct member *m = in->self;
    struct held *h = flow->partition ? &m->held[flow->partition->id] : NULL;
    switch (flow->kind) {
    case FLOW_START:
        h->reading = true;
        h->position = flow->offset < 0 ? 0 : flow->offset;
        h->erasures = flow->partition->erase_next < 0 ? 0 : flow->partition->erase_next;
        h->erasures_first = m->world->erasures_end;
        break;
    case FLOW_CLOSED:
        h->reading = false;
        if (h->revoking)
            h->mine = h->revoking = false;
        break;
    case FLOW_REOPEN:
        if (m->held[flow->id].mine && !m->held[flow->id].revoking)
            ask_committed(m, flow->id);
        break;
    case FLOW_PAUSE:
    case FLOW_RESUME:
        m->paused = flow->kind == FLOW_PAUSE;
        break;
    case FLOW_DRAIN:
        m->draining = true;
        break;
    default:
        break;
    }
}

static void source_commit(struct instance *in, struct commit *c)
{
    struct request *r = ask_broker(in->self, REQUEST_OFFSET);
    r->partition = c->partition->id;
    r->offset = c->offset;
    r->commit = c;
}

const struct module sim_source = {
    .name = "source_sim",
    .stage = STAGE_SOURCE,
    .open = sim_open,
    .run = source_run,
    .flow = source_flow,
    .commit = source_commit,
};

/* ---- store ----------------------------------------------------------------------------------------------------- */

static struct instance *store_of(struct member *m)
{
    return engine_instance(m->engine, STAGE_STORE);
}

/* Our partition, still the same life of it? */
static struct partition *current(struct member *m, const struct request *r)
{
    struct partition *p = engine_partition(m->engine, r->partition);
    return p && p->generation == r->generation ? p : NULL;
}

static struct request *ask_compared(struct member *m, enum request_kind kind, const struct partition *p)
{
    struct request *r = connection_ask(&m->redis, kind);
    r->partition = p->id;
    r->generation = p->generation;
    r->fence = m->held[p->id].fence;
    r->saved = p->saved_next;
    r->saves = p->saves;
    return r;
}

static void ask_open(struct member *m, const struct partition *p)
{
    struct request *r = connection_ask(&m->redis, REQUEST_OPEN);
    r->partition = p->id;
    r->generation = p->generation;
    r->new_fence = ++m->world->fences;
}

/* Before anything else on a new connection: what the broken one has still on its way can then do nothing any more. */
static void ask_renew(struct member *m, const struct partition *p)
{
    struct request *r = ask_compared(m, REQUEST_RENEW, p);
    r->new_fence = ++m->world->fences;
    m->held[p->id].fence = r->new_fence;
}

static void ask_load(struct member *m, struct user *user)
{
    struct request *r = ask_compared(m, REQUEST_LOAD, engine_partition(m->engine, user->partition));
    r->user = user_number((struct str){user->name, user->name_len});
    r->record = user;
}

static void store_run(struct instance *in, struct batch *b)
{
    for (uint32_t i = b->loading_from; i < b->loading_n; i++)
        ask_load(in->self, b->loading[i]);
}

static void store_flow(struct instance *in, const struct flow *flow)
{
    if (flow->kind == FLOW_OPEN)
        ask_open(in->self, flow->partition);
}

static void store_commit(struct instance *in, struct commit *c)
{
    struct member *m = in->self;
    struct request *r = ask_compared(m, REQUEST_SAVE, c->partition);
    r->offset = c->offset;
    r->erased = m->world->bug == BUG_RECEIPT_TOO_EARLY ? c->partition->erase_next : c->erase_offset;
    r->commit = c;
    r->items = calloc(USERS, sizeof *r->items);
    assert(r->items);
    for (uint32_t i = 0; i < c->n; i++) {
        struct bytes *item = &r->items[user_number(c->items[i].name)];
        assert(!item->at);
        *item = bytes_copy(c->items[i].bytes, c->items[i].len);
    }
}

static void opened(struct member *m, struct request *r)
{
    struct partition *p = current(m, r);
    if (!p || p->state != PARTITION_OPENING)
        return;
    struct held *h = &m->held[r->partition];
    h->fence = r->new_fence;
    p->saves = r->saves;
    p->erase_saved = r->erased;
    partition_opened(m->engine, p, (int64_t)r->new_fence, r->offset);
}

static void refused(struct member *m, struct request *r)
{
    struct partition *p = current(m, r);
    if (p && p->state != PARTITION_LOST)
        partition_fenced(m->engine, p);
}

static void loaded(struct member *m, struct request *r)
{
    if (!r->ok)
        refused(m, r);
    load_done(m->engine, r->record, r->bytes.at, r->bytes.n);
}

static void saved(struct member *m, struct request *r)
{
    if (!r->ok)
        refused(m, r);
    else
        r->commit->partition->saves = r->saves;
    commit_done(m->engine, store_of(m), r->commit, r->ok);
}

bool redis_answer(struct member *m)
{
    struct connection *c = &m->redis;
    if (c->first == c->executed)
        return false;
    struct request r = c->at[c->first++ % REQUESTS_MAX];
    if (r.kind == REQUEST_OPEN)
        opened(m, &r);
    else if (r.kind == REQUEST_LOAD)
        loaded(m, &r);
    else if (r.kind == REQUEST_RENEW && !r.ok)
        refused(m, &r);
    else if (r.kind == REQUEST_SAVE)
        saved(m, &r);
    request_free(&r);
    return true;
}

/* A save that Redis has not read yet may be carried out much later, when the member has long gone on. */
static void leave_behind(struct world *w, struct request *r)
{
    if (r->kind != REQUEST_SAVE || r->executed || world_chance(w, 500))
        return;
    *connection_ask(&w->late, REQUEST_SAVE) = *r;
    r->items = NULL;
}

/* What was under way may have been done or not. Questions are asked again, saves are reported as failed. */
void redis_reset(struct member *m)
{
    struct connection *c = &m->redis;
    size_t end = c->end;
    c->executed = end;
    for (size_t i = 0; i < m->engine->partitions_n && m->world->bug != BUG_KEEP_FENCE; i++)
        if (m->engine->partitions[i]->state == PARTITION_OPEN || m->engine->partitions[i]->state == PARTITION_CLOSING)
            ask_renew(m, m->engine->partitions[i]);
    while (c->first < end) {
        struct request r = c->at[c->first++ % REQUESTS_MAX];
        leave_behind(m->world, &r);
        if (r.kind == REQUEST_SAVE)
            commit_done(m->engine, store_of(m), r.commit, false);
        else if (r.kind == REQUEST_LOAD)
            ask_load(m, r.record);
        else if (current(m, &r) && current(m, &r)->state == PARTITION_OPENING)
            ask_open(m, current(m, &r));
        request_free(&r);
    }
}

const struct module sim_store = {
    .name = "store_sim",
    .stage = STAGE_STORE,
    .open = sim_open,
    .run = store_run,
    .flow = store_flow,
    .commit = store_commit,
};

/* ---- chain ---------------------------------------------------------------------------------------------------------
 * A score that depends on every event of the user and on their order: what windows may forgive, this does not. */

static int chain_open(struct instance *in, bool check, struct error *err)
{
    in->user_size = sizeof(uint64_t);
    return sim_open(in, check, err);
}

static void chain_run(struct instance *in, struct batch *b)
{
    struct member *m = in->self;
    bool forget = m->swapped && m->world->bug == BUG_RELOAD_FORGETS;
    m->swapped = false;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct event *event = &b->events[i];
        if (event->verdict != EVENT_OK)
            continue;
        uint64_t *chain = user_section(event->record, in->user_offset);
        if (forget)
            *chain = 0;
        *chain = XXH3_64bits_withSeed(event->raw.at, event->raw.len, *chain);
        b->scores[i].publish = true;
        b->scores[i].intent = (float)(*chain >> 40) / 16777216.0f;
    }
}

static void chain_flow(struct instance *in, const struct flow *flow)
{
    if (flow->kind == FLOW_SWAP)
        ((struct member *)in->self)->swapped = true;
}

static void chain_record(struct instance *in, struct user *user, struct record_io *io)
{
    record_u64(io, user_section(user, in->user_offset));
}

const struct module sim_chain = {
    .name = "score_chain",
    .stage = STAGE_SCORE,
    .record_version = 1,
    .open = chain_open,
    .run = chain_run,
    .flow = chain_flow,
    .record = chain_record,
};

/* ---- sink ------------------------------------------------------------------------------------------------------ */

static int sink_open(struct instance *in, bool check, struct error *err)
{
    in->transactional = in->exactly_once;
    return sim_open(in, check, err);
}

static void send_output(struct member *m, struct ticket *ticket, const struct output *output)
{
    struct world *w = m->world;
    if (w->exactly_once) {
        outputs_add(&m->transaction, output);
        return;
    }
    struct request *r = ask_broker(m, REQUEST_OUTPUT);
    r->output = *output;
    if (w->bug != BUG_SAVE_BEFORE_ACK) {
        r->ticket = ticket;
        ticket_hold(ticket, 1);
    }
}

static void send_event(struct member *m, const struct batch *b, char kind, const struct event *event, uint64_t sum)
{
    send_output(m, b->ticket,
                &(struct output){.partition = event->partition, .offset = event->offset, .kind = kind, .sum = sum});
}

static void sink_flow(struct instance *in, const struct flow *flow)
{
    struct member *m = in->self;
    if (flow->kind != FLOW_ERASED)
        return;
    const struct erasure *erasure = flow->erasure;
    send_output(m, erasure->ticket,
                &(struct output){.partition = erasure->partition, .offset = erasure->offset, .kind = 'r'});
}

static void sink_run(struct instance *in, struct batch *b)
{
    char text[8192];
    uint32_t alert = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct event *event = &b->events[i];
        bool alerted = alert < b->alerts_n && b->alerts[alert].event == i;
        alert += alerted;
        if (event->silent)
            continue;
        if (event->verdict == EVENT_OK && b->scores[i].publish)
            send_event(in->self, b, 's', event, output_sum(text, output_score(b, i, text, sizeof text)));
        if (alerted)
            send_event(in->self, b, 'a', event,
                        output_sum(text, output_alert(b, &b->alerts[alert - 1], text, sizeof text)));
        if (event_verdict_is_dead(event->verdict))
            send_event(in->self, b, 'd', event, output_sum(event->raw.at, event->raw.len));
    }
}

static void sink_commit(struct instance *in, struct commit *c)
{
    struct member *m = in->self;
    struct request *r = ask_broker(m, REQUEST_TRANSACTION);
    r->commit = c;
    r->outputs = m->transaction;
    m->transaction = (struct outputs){0};
    for (int p = 0; p < PARTITIONS; p++)
        r->offsets[p] = -1, r->assigned[p] = m->world->assigned[p];
    for (uint32_t i = 0; i < c->offsets_n; i++)
        r->offsets[c->offsets[i].partition] = c->offsets[i].offset;
}

static void transaction_done(struct member *m, struct commit *c, bool ok)
{
    ok = ok && !c->abort;
    if (!ok)
        m->transaction.n = 0;
    commit_done(m->engine, m->engine->transactional, c, ok);
}

static void committed_answered(struct member *m, const struct request *r)
{
    const struct held *h = &m->held[r->partition];
    if (!h->mine || h->revoking || r->number != h->question)
        return;
    if (r->ok)
        partition_assigned(m->engine, r->partition, r->offset);
    else
        ask_committed(m, r->partition); /* until the group tells us more */
}

bool broker_answer(struct member *m)
{
    struct connection *c = &m->broker;
    if (c->first == c->executed)
        return false;
    struct request r = c->at[c->first++ % REQUESTS_MAX];
    if (r.kind == REQUEST_ASK)
        committed_answered(m, &r);
    else if (r.kind == REQUEST_OFFSET)
        commit_done(m->engine, engine_instance(m->engine, STAGE_SOURCE), r.commit, r.ok);
    else if (r.kind == REQUEST_TRANSACTION)
        transaction_done(m, r.commit, r.ok);
    else if (r.ticket)
        ticket_release(r.ticket, 1);
    request_free(&r);
    return true;
}

/* The client sends what was not acknowledged again: at least once. A transaction with an unknown end is over for us. */
void broker_reset(struct member *m)
{
    struct connection *c = &m->broker;
    size_t end = c->end;
    c->executed = end;
    while (c->first < end) {
        struct request r = c->at[c->first++ % REQUESTS_MAX];
        if (r.kind == REQUEST_OUTPUT) {
            struct request *again = ask_broker(m, REQUEST_OUTPUT);
            again->output = r.output;
            again->ticket = r.ticket;
        } else if (r.kind == REQUEST_OFFSET) {
            commit_done(m->engine, engine_instance(m->engine, STAGE_SOURCE), r.commit, false);
        } else if (r.kind == REQUEST_TRANSACTION) {
            transaction_done(m, r.commit, false);
        } else if (r.number == m->held[r.partition].question) {
            ask_committed(m, r.partition);
        }
        request_free(&r);
    }
}

const struct module sim_sink = {
    .name = "sink_sim",
    .stage = STAGE_SINK,
    .open = sink_open,
    .run = sink_run,
    .flow = sink_flow,
    .commit = sink_commit,
};
