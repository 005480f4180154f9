// SPDX-License-Identifier: Apache-2.0
// erase.c - users who are to be forgotten.
//
//   engine_erase ─► WAITING (for a place in the table) ─► LOADING ─► emptied: SAVING ─(tombstone durable)─► SAVED
//                                                      ─► receipt sent: RECEIPT ─(durable)─► done: erase_done moves on
//
// Erasures come from a log of their own, beside the clicks. How far it was worked off (erase_done) lies in the store
// beside W and is moved after the receipt is durable, so a crash between any two steps repeats the erasure, which finds
// the tombstone and only sends the receipt again. When the store loses its tail, erase_done falls back together with
// the records, and the source hands the erasures over again before the clicks are replayed.
//
// What the erasure says is about event time: no event of erased_ms or older is contained afterwards. Events that were
// applied before it go with it, whatever their time. The record is emptied between two batches; events that are on
// their way meet the tombstone.
#include "engine.h"

#include "watch.h"

#include "gait/log.h"

#include <assert.h>
#include <stdlib.h>

void erases_create(struct engine *e)
{
    struct erases *all = &e->erases;
    size_t bytes = (size_t)e->conf.user_id_bytes;
    all->names = malloc(ERASES_MAX * bytes);
    all->loading.batch.loading = calloc(ERASES_MAX, sizeof(struct user *));
    assert(all->names && all->loading.batch.loading);
    all->loading.engine = e;
    for (size_t i = 0; i < ERASES_MAX; i++)
        all->at[i].name = all->names + i * bytes;
}

void erases_destroy(struct engine *e)
{
    free(e->erases.names);
    free(e->erases.loading.batch.loading);
}

bool erases_waiting(const struct engine *e)
{
    return e->erases.unapplied > 0;
}

/* They are kept in the order of their coming: what is finished is taken out by a shift of the few that there are. */
bool engine_erase(struct engine *e, int32_t partition, struct str user, int64_t erased_ms, int64_t offset)
{
    struct erases *all = &e->erases;
    struct partition *p = engine_partition(e, partition);
    if (!p || p->state != PARTITION_OPEN || (offset >= 0 && offset < p->erase_next))
        return true;
    if (all->n == ERASES_MAX)
        return false;
    if (offset >= 0)
        p->erase_next = offset + 1;
    if (user.len == 0 || user.len > users_name_bytes(e->users))
        return true; /* no record can have such a name */
    struct erase *erase = &all->at[all->n++];
    char *name = erase->name;
    memcpy(name, user.at, user.len);
    *erase = (struct erase){
        .state = ERASE_WAITING, .partition = partition, .generation = p->generation, .offset = offset,
        .erased_ms = erased_ms, .name = name, .name_len = (uint16_t)user.len,
    };
    p->in_work++;
    all->unapplied++;
    engine_wake(e);
    return true;
}

/* ---- one step of one ------------------------------------------------------------------------------------------- */

static struct erasure erasure_of(const struct erase *erase, struct ticket *ticket)
{
    return (struct erasure){
        .name = {erase->name, erase->name_len}, .partition = erase->partition, .offset = erase->offset,
        .erased_ms = erase->erased_ms, .saved_ms = erase->saved_ms, .ticket = ticket,
    };
}

/* False: the table is full of unsaved records. Those behind it wait too. */
static bool find_record(struct engine *e, struct erase *erase)
{
    bool made;
    struct user *user = users_get(e->users, erase->partition, (struct str){erase->name, erase->name_len}, &made);
    if (!user) {
        e->save_urgent = true;
        return false;
    }
    struct batch *b = &e->erases.loading.batch;
    if (made) {
        user->loading_for = b;
        b->loading[b->loading_n++] = user;
        b->loads++;
        metric_add(e->m_loads, 1);
    }
    user->pins++;
    erase->user = user;
    erase->state = ERASE_LOADING;
    return true;
}

/* Again after a crash it finds its own tombstone, and what came after that stays. What others keep of the user is told
 * to go in any case: it is no part of the checkpoint. */
static void apply(struct engine *e, struct erase *erase, struct partition *p, struct ticket *ticket)
{
    struct user *user = erase->user;
    struct erasure erasure = erasure_of(erase, ticket);
    erasure.user = user;
    engine_flow(e, &(struct flow){.kind = FLOW_ERASE, .partition = p, .erasure = &erasure});
    if (e->watch)
        watch_forget(e->watch, erasure.name);
    if (user->erased_ms < erase->erased_ms) {
        record_empty(e, user);
        user->erased_ms = erase->erased_ms;
        user->degraded = p->degraded;
        user->touched_ms = clock_wall_ms(&e->clock);
        user->tombstone = TOMBSTONE_UNSAVED;
        users_dirty(e->users, p, user, p->applied_next < 0 ? 0 : p->applied_next, (int64_t)engine_mono_ms(e));
    }
    erase->state = ERASE_SAVING;
    e->erases.unapplied--;
}

/* From here on the user may leave the table. */
static void send_receipt(struct engine *e, struct erase *erase, struct partition *p, struct ticket *ticket)
{
    erase->user->pins--;
    erase->user = NULL;
    struct erasure erasure = erasure_of(erase, ticket);
    engine_flow(e, &(struct flow){.kind = FLOW_ERASED, .partition = p, .erasure = &erasure});
    erase->seq = ticket->seq;
    erase->state = ERASE_RECEIPT;
}

/* The partition is leaving us: its next owner reads the erasure again. A record that is being loaded is waited for. */
static void abandon(struct engine *e, struct erase *erase, struct partition *p)
{
    if (erase->state == ERASE_LOADING && erase->user->state == USER_LOADING)
        return;
    if (erase->state == ERASE_WAITING || erase->state == ERASE_LOADING)
        e->erases.unapplied--;
    if (erase->user)
        erase->user->pins--;
    p->in_work--;
    erase->state = ERASE_FREE;
}

static void finish(struct engine *e, struct erase *erase, struct partition *p)
{
    metric_add(e->m_erased, 1);
    log_info("engine", "partition %d: a user was erased (request %lld), events up to %lld are refused", p->id,
             (long long)erase->offset, (long long)erase->erased_ms);
    p->in_work--;
    erase->state = ERASE_FREE;
}

static void look_at_save(struct engine *e, struct erase *erase)
{
    if (erase->user->tombstone != TOMBSTONE_NONE)
        return;
    erase->saved_ms = clock_wall_ms(&e->clock);
    erase->state = ERASE_SAVED;
}

/* ---- all of them ----------------------------------------------------------------------------------------------- */

static void find_records(struct engine *e)
{
    struct erases *all = &e->erases;
    struct batch *b = &all->loading.batch;
    if (b->loads == 0)
        b->loading_n = 0;
    uint32_t known = b->loading_n;
    for (uint32_t i = 0; i < all->n; i++) {
        struct partition *p = engine_partition(e, all->at[i].partition);
        if (all->at[i].state == ERASE_WAITING && p->state == PARTITION_OPEN &&
            (b->loading_n == ERASES_MAX || !find_record(e, &all->at[i])))
            break;
    }
    b->phase_ns = clock_mono_ns(&e->clock);
    if (b->loading_n > known)
        engine_load(e, b, known);
}

/* Those whose time has come, with one ticket for them all: a ticket is an entry in the order of what becomes
 * durable. */
static void hand_over(struct engine *e)
{
    struct erases *all = &e->erases;
    struct ticket *ticket = NULL;
    for (uint32_t i = 0; i < all->n; i++) {
        struct erase *erase = &all->at[i];
        struct partition *p = engine_partition(e, erase->partition);
        bool loaded = erase->state == ERASE_LOADING && erase->user->state == USER_READY;
        if ((!loaded && erase->state != ERASE_SAVED) || p->state != PARTITION_OPEN)
            continue;
        if (!ticket && (!ticket_free(e) || !engine_sinks_accept(e)))
            return;
        if (!ticket)
            ticket = ticket_take(e);
        if (loaded)
            apply(e, erase, p, ticket);
        else
            send_receipt(e, erase, p, ticket);
    }
    if (ticket)
        ticket_complete(ticket);
}

static void remove_finished(struct erases *all)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < all->n; i++) {
        if (all->at[i].state == ERASE_FREE)
            continue;
        struct erase erase = all->at[kept];
        all->at[kept] = all->at[i];
        if (kept != i)
            all->at[i] = erase; /* its name's place must not get lost */
        kept++;
    }
    all->n = kept;
}

/* Up to the first that is not done. A partition that is leaving has dropped some, so there it stands still. */
static void move_on(struct engine *e)
{
    for (size_t i = 0; i < e->partitions_n; i++) {
        struct partition *p = e->partitions[i];
        if (p->state != PARTITION_OPEN)
            continue;
        int64_t done = p->erase_next;
        for (uint32_t k = 0; k < e->erases.n; k++)
            if (e->erases.at[k].partition == p->id && e->erases.at[k].offset >= 0 && e->erases.at[k].offset < done)
                done = e->erases.at[k].offset;
        p->erase_done = done;
    }
}

void erases_advance(struct engine *e)
{
    struct erases *all = &e->erases;
    if (all->n > 0) {
        find_records(e);
        hand_over(e);
    }
    for (uint32_t i = 0; i < all->n; i++) {
        struct erase *erase = &all->at[i];
        struct partition *p = engine_partition(e, erase->partition);
        assert(p && p->generation == erase->generation); /* it stays as long as they count for it */
        if (p->state != PARTITION_OPEN)
            abandon(e, erase, p);
        else if (erase->state == ERASE_SAVING)
            look_at_save(e, erase);
        else if (erase->state == ERASE_RECEIPT && erase->seq <= e->durable_seq)
            finish(e, erase, p);
    }
    remove_finished(all);
    move_on(e);
}
