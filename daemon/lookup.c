// SPDX-License-Identifier: Apache-2.0
// lookup.c - one user's record for who asks from outside the flow: out of the table or else of the store.
//
//   lookup_begin: for each open partition ─► in the table │ asked of the store ─► all there: `done` ─► unpinned
//
// Which partition a user belongs to is the producer's secret, so each of ours is tried. Records from the store
// stay in the table as clean ones; those that the store does not have are taken out again. The records are pinned
// meanwhile and count as work of their partition, so neither an eviction nor a rebalance takes them away under us.
#include "engine.h"

#include <assert.h>
#include <stdlib.h>

enum { LOOKUPS_MAX = 8 };

struct lookup {
    struct lookup *next;
    struct batch_slot loading;  /* carries the records that the store is asked for */
    struct user **users;        /* [n] pinned */
    bool *made;                 /* [n] by us */
    uint32_t n;
    lookup_done done;           /* NULL = nobody waits any more */
    void *self;
};

static void lookup_free(struct lookup *l)
{
    free(l->loading.batch.loading);
    free(l->users);
    free(l->made);
    free(l);
}

/* False when the table is full of unsaved records. */
static bool add_record(struct engine *e, struct lookup *l, struct partition *p, struct str name)
{
    bool made;
    struct user *user = users_get(e->users, p->id, name, &made);
    if (!user)
        return false;
    struct batch *b = &l->loading.batch;
    if (made) {
        user->loading_for = b;
        b->loading[b->loading_n++] = user;
        b->loads++;
        metric_add(e->m_loads, 1);
    }
    user->pins++;
    p->in_work++;
    l->made[l->n] = made;
    l->users[l->n++] = user;
    return true;
}

struct lookup *lookup_begin(struct engine *e, struct str name, lookup_done done, void *self)
{
    assert(name.len > 0 && name.len <= users_name_bytes(e->users));
    uint32_t under_way = 0;
    for (const struct lookup *l = e->lookups; l; l = l->next)
        under_way++;
    if (under_way >= LOOKUPS_MAX)
        return NULL;
    struct lookup *l = calloc(1, sizeof *l);
    size_t most = e->partitions_n ? e->partitions_n : 1;
    assert(l);
    *l = (struct lookup){.next = e->lookups, .users = calloc(most, sizeof *l->users), .made = calloc(most, 1),
                         .done = done, .self = self};
    l->loading.engine = e;
    l->loading.batch.loading = calloc(most, sizeof *l->users);
    assert(l->users && l->made && l->loading.batch.loading);
    e->lookups = l;
    for (size_t i = 0; i < e->partitions_n; i++)
        if (e->partitions[i]->state == PARTITION_OPEN && !add_record(e, l, e->partitions[i], name))
            break;
    l->loading.batch.phase_ns = clock_mono_ns(&e->clock);
    if (l->loading.batch.loading_n > 0)
        engine_load(e, &l->loading.batch, 0);
    engine_wake(e);
    return l;
}

void lookup_cancel(struct lookup *l)
{
    l->done = NULL;
}

/* A record that the store does not have and that no event has touched meanwhile. */
static bool is_empty(const struct user *user)
{
    return user->fresh && user->next < 0 && user->pins == 0 && user->dirty_from < 0 && user->saving_from < 0 &&
           user->erased_ms == INT64_MIN && !user->serving_queued;
}

static bool all_there(const struct lookup *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (l->users[i]->state != USER_READY)
            return false;
    return true;
}

static void finish(struct engine *e, struct lookup *l)
{
    struct user *found = NULL;
    bool made = false;
    for (uint32_t i = 0; i < l->n; i++) { /* after a repartitioning there may be two: the newer one counts */
        struct user *user = l->users[i];
        if ((user->next >= 0 || user->erased_ms != INT64_MIN) && (!found || user->touched_ms > found->touched_ms)) {
            found = user;
            made = l->made[i];
        }
    }
    if (l->done)
        l->done(l->self, found, made);
    for (uint32_t i = 0; i < l->n; i++) {
        struct partition *p = engine_partition(e, l->users[i]->partition);
        assert(p && p->in_work > 0);
        p->in_work--;
        l->users[i]->pins--;
        if (l->made[i] && is_empty(l->users[i]))
            users_remove(e->users, l->users[i]);
    }
    lookup_free(l);
}

void lookups_advance(struct engine *e)
{
    for (struct lookup **at = &e->lookups; *at;) {
        struct lookup *l = *at;
        if (!all_there(l)) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        finish(e, l);
    }
}

void lookups_destroy(struct engine *e)
{
    while (e->lookups) {
        struct lookup *l = e->lookups;
        e->lookups = l->next;
        lookup_free(l);
    }
}
