// SPDX-License-Identifier: Apache-2.0
// save.c - the checkpoint: unsaved records to the store, W behind them, C to the source.
//
//   dirty list ─(due, at a batch boundary: encode)─► save ─(all batches up to its seq savable)─► store.commit ─► clean
//
// The order is what makes a crash harmless: outputs are durable first, then the records that say so, and W last (in the
// same atomic call). W is the first offset that some unsaved record still needs. C may be ahead of W: events between
// them are replayed silently.
#include "engine.h"

#include <assert.h>
#include <stdlib.h>

enum { SAVE_RETRY_MS = 500, COMMIT_RETRY_MS = 100, CHECK_MS = 20, VERIFY_MS = 10000, SAVE_MAX_BYTES = 1 << 20 };

void saves_create(struct engine *e)
{
    size_t cap = (size_t)e->conf.save_records, bytes = record_bytes_max(e);
    if (bytes < SAVE_MAX_BYTES)
        bytes = SAVE_MAX_BYTES;
    for (size_t i = 0; i < SAVES_MAX; i++) {
        struct save *save = &e->saves[i];
        save->users = calloc(cap, sizeof(struct user *));
        save->commit.items = calloc(cap, sizeof *save->commit.items);
        save->bytes = malloc(bytes);
        save->bytes_cap = bytes;
        assert(save->users && save->commit.items && save->bytes);
    }
}

void saves_destroy(struct engine *e)
{
    for (size_t i = 0; i < SAVES_MAX; i++) {
        free(e->saves[i].users);
        free(e->saves[i].commit.items);
        free(e->saves[i].bytes);
    }
    for (size_t i = 0; i < e->partitions_n; i++)
        free(e->partitions[i]->commit);
}

static struct save *save_free(struct engine *e)
{
    for (size_t i = 0; i < SAVES_MAX; i++)
        if (!e->saves[i].in_use)
            return &e->saves[i];
    return NULL;
}

static bool save_add(struct engine *e, struct save *save, struct user *user)
{
    uint8_t *at = save->bytes + save->bytes_n;
    size_t n = record_encode(e, user, at, save->bytes_cap - save->bytes_n);
    if (n == 0)
        return false;
    save->users[save->commit.n] = user;
    save->commit.items[save->commit.n++] = (struct save_item){
        .user = user,
        .name = {user->name, user->name_len},
        .bytes = at,
        .len = (uint32_t)n,
        .idle_until_ms = user->touched_ms + e->conf.record_ttl_ms,
    };
    save->bytes_n += n;
    return true;
}

static bool save_is_hurried(const struct engine *e, const struct partition *p)
{
    return p->state == PARTITION_CLOSING || e->save_urgent;
}

/* W lags behind without anything to save when the last events changed no record (dropped ones, say). And a partition
 * that lies still writes its W again now and then: the answer tells whether the store still has all that it
 * acknowledged. */
static bool watermark_is_due(const struct engine *e, const struct partition *p, uint64_t mono_ms)
{
    bool behind = p->applied_next > p->saved_next || p->erase_done > p->erase_saved;
    if (p->applied_next < 0 && !behind)
        return false;
    if (!behind)
        return mono_ms >= p->saved_ms + VERIFY_MS;
    return p->state == PARTITION_CLOSING || mono_ms >= p->saved_ms + (uint64_t)e->conf.save_ms;
}

/* The first offset that some unsaved record needs. An erasure may have changed one before any event was read; then it
 * is not known yet where W lies. */
static int64_t watermark(const struct partition *p)
{
    if (!p->dirty_first || p->applied_next < 0)
        return p->applied_next;
    return p->dirty_first->dirty_from > p->start ? p->dirty_first->dirty_from : p->start;
}

static void save_begin(struct engine *e, struct partition *p, uint64_t mono_ms)
{
    bool hurried = save_is_hurried(e, p);
    uint64_t due = mono_ms - (uint64_t)e->conf.save_ms;
    bool first_due = p->dirty_first && (hurried || (int64_t)due >= p->dirty_first->dirty_ms);
    if (!first_due && (p->dirty_first || !watermark_is_due(e, p, mono_ms)))
        return;
    struct save *save = save_free(e);
    if (!save)
        return;
    save->commit.partition = p;
    save->commit.n = 0;
    save->bytes_n = 0;
    while (p->dirty_first && save->commit.n < (uint32_t)e->conf.save_records) {
        struct user *user = p->dirty_first;
        if (user->saving_from >= 0 || (!hurried && user->dirty_ms > (int64_t)due) || !save_add(e, save, user))
            break;
        users_saving(e->users, p, user);
    }
    save->commit.offset = watermark(p);
    save->commit.erase_offset = p->erase_done;
    save->seq = e->seq;
    save->sent = false;
    save->in_use = true;
    p->save = save;
}

static void save_send(struct engine *e, struct save *save)
{
    if (save->sent || save->seq > e->savable_seq)
        return;
    save->sent = true;
    save->begun_ns = clock_mono_ns(&e->clock);
    e->store->module->commit(e->store, &save->commit);
}

static void save_done(struct engine *e, struct save *save, bool ok)
{
    struct partition *p = save->commit.partition;
    uint64_t mono_ms = engine_mono_ms(e);
    for (uint32_t i = save->commit.n; i-- > 0;) /* the newest first: failed ones go back before all others */
        users_saved(e->users, p, save->users[i], ok);
    if (ok) {
        metric_add(e->m_saved, save->commit.n);
        p->saved_next = save->commit.offset;
        p->erase_saved = save->commit.erase_offset;
        p->saved_ms = mono_ms;
    } else {
        metric_add(e->m_save_failed, 1);
        p->save_retry_ms = (int64_t)mono_ms + SAVE_RETRY_MS;
    }
    metric_observe_ns(e->m_save_time, clock_mono_ns(&e->clock) - save->begun_ns, 1);
    p->save = NULL;
    save->in_use = false;
    e->checked_ms = 0;
}

void save_cancel(struct engine *e, struct partition *p)
{
    struct save *save = p->save;
    if (!save || save->sent)
        return;
    for (uint32_t i = save->commit.n; i-- > 0;)
        users_saved(e->users, p, save->users[i], false);
    p->save = NULL;
    save->in_use = false;
}

/* ---- C --------------------------------------------------------------------------------------------------------- */

static void offset_commit_begin(struct engine *e, struct partition *p, uint64_t mono_ms)
{
    if (e->transactional || p->commit || p->durable_next < 0 || p->durable_next <= p->committed_next ||
        p->state == PARTITION_LOST || (int64_t)mono_ms < p->commit_retry_ms)
        return;
    if (p->state != PARTITION_CLOSING && mono_ms < p->committed_ms + (uint64_t)e->conf.commit_ms)
        return;
    p->commit = calloc(1, sizeof *p->commit);
    assert(p->commit);
    p->commit->partition = p;
    p->commit->offset = p->durable_next;
    p->committed_ms = mono_ms;
    e->source->module->commit(e->source, p->commit);
}

static void offset_commit_done(struct engine *e, struct commit *c, bool ok)
{
    struct partition *p = c->partition;
    if (ok) {
        p->committed_next = c->offset;
        metric_add(e->m_committed, 1);
    } else {
        p->commit_retry_ms = (int64_t)engine_mono_ms(e) + COMMIT_RETRY_MS;
    }
    p->commit = NULL;
    free(c);
}

void commit_done(struct engine *e, struct instance *in, struct commit *c, bool ok)
{
    if (in->module->stage == STAGE_SOURCE)
        offset_commit_done(e, c, ok);
    else if (in->module->stage == STAGE_SINK)
        epoch_done(e, ok);
    else
        save_done(e, (struct save *)c, ok);
    engine_wake(e);
}

/* ---- all partitions -------------------------------------------------------------------------------------------- */

bool saves_idle(const struct partition *p)
{
    return !p->dirty_first && p->durable_next == p->applied_next && p->committed_next >= p->durable_next &&
           p->saved_next >= p->applied_next && p->erase_saved >= p->erase_done;
}

void saves_advance(struct engine *e, uint64_t mono_ms)
{
    for (size_t i = 0; i < e->partitions_n; i++)
        if (e->partitions[i]->save && e->partitions[i]->state != PARTITION_OPENING)
            save_send(e, e->partitions[i]->save);
    bool hurried = e->save_urgent || e->phase != ENGINE_RUNNING;
    if (!hurried && mono_ms < e->checked_ms + CHECK_MS)
        return;
    e->checked_ms = mono_ms;
    for (size_t i = 0; i < e->partitions_n; i++) {
        struct partition *p = e->partitions[i];
        if (p->state != PARTITION_OPEN && p->state != PARTITION_CLOSING)
            continue;
        if (!p->save && (int64_t)mono_ms >= p->save_retry_ms)
            save_begin(e, p, mono_ms);
        if (p->save)
            save_send(e, p->save);
        offset_commit_begin(e, p, mono_ms);
    }
    if (e->save_urgent && users_clean(e->users) > 0)
        e->save_urgent = false;
}
