// SPDX-License-Identifier: Apache-2.0
// sim_world.c - the servers of the simulator: what the broker and Redis do with a request when it reaches them.
#include "sim_world.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

const char *const bug_names[BUGS] = {
    [BUG_NONE] = "none",
    [BUG_SKIP_FENCE] = "skip-fence",
    [BUG_SAVE_BEFORE_ACK] = "save-before-ack",
    [BUG_FORGET_NEXT] = "forget-next",
    [BUG_W_TOO_FAR] = "w-too-far",
    [BUG_RESUME_AT_C] = "resume-at-c",
    [BUG_DROP_TOMBSTONE] = "drop-tombstone",
    [BUG_IGNORE_TAIL_LOSS] = "ignore-tail-loss",
    [BUG_UNCOUNTED_SAVES] = "uncounted-saves",
    [BUG_RECEIPT_TOO_EARLY] = "receipt-too-early",
    [BUG_KEEP_FENCE] = "keep-fence",
    [BUG_COMMIT_POISONED] = "commit-poisoned",
    [BUG_RELOAD_FORGETS] = "reload-forgets",
};

/* splitmix64 */
uint64_t world_random(struct world *w, uint64_t below)
{
    uint64_t z = (w->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % below;
}

bool world_chance(struct world *w, unsigned per_mille)
{
    return world_random(w, 1000) < per_mille;
}

void world_say(const struct world *w, const char *format, ...)
{
    if (!w->verbose)
        return;
    va_list args;
    va_start(args, format);
    printf("%9.3f ", (double)w->now_ns * 1e-9);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

struct bytes bytes_copy(const uint8_t *at, size_t n)
{
    struct bytes b = {malloc(n ? n : 1), n};
    assert(b.at);
    memcpy(b.at, at, n);
    return b;
}

/* The one who asked for an erasure reads the receipts; nobody else does. */
void world_output(struct world *w, const struct output *output)
{
    if (output->kind == 'r')
        w->erasures[output->offset].receipts[output->partition]++;
    else
        outputs_add(&w->outputs, output);
}

void outputs_add(struct outputs *outputs, const struct output *output)
{
    if (outputs->n == outputs->cap) {
        outputs->cap = outputs->cap ? outputs->cap * 2 : 256;
        outputs->at = realloc(outputs->at, outputs->cap * sizeof *outputs->at);
        assert(outputs->at);
    }
    outputs->at[outputs->n++] = *output;
}

bool is_zombie(const struct member *m)
{
    return m->joined != m->world->joined[m->index];
}

/* ---- connections ----------------------------------------------------------------------------------------------- */

struct request *connection_ask(struct connection *c, enum request_kind kind)
{
    assert(c->end - c->first < REQUESTS_MAX);
    struct request *r = &c->at[c->end++ % REQUESTS_MAX];
    *r = (struct request){.kind = kind};
    return r;
}

void request_free(struct request *r)
{
    free(r->bytes.at);
    for (int u = 0; r->items && u < USERS; u++)
        free(r->items[u].at);
    free(r->items);
    free(r->outputs.at);
    *r = (struct request){0};
}

void connection_clear(struct connection *c)
{
    for (; c->first < c->end; c->first++)
        request_free(&c->at[c->first % REQUESTS_MAX]);
    c->executed = c->first;
}

static struct request *next_request(struct connection *c)
{
    return c->executed < c->end ? &c->at[c->executed++ % REQUESTS_MAX] : NULL;
}

/* ---- Redis ----------------------------------------------------------------------------------------------------- */

static struct undo *journal(struct world *w, int32_t p, int32_t user)
{
    assert(w->journal_n < JOURNAL_MAX);
    struct undo *u = &w->journal[w->journal_n++];
    *u = (struct undo){.partition = p, .user = user, .old_fence = w->fence[p], .old_w = w->w[p],
                       .old_saves = w->saves[p], .old_erased = w->erased[p]};
    if (user >= 0)
        u->old = w->records[p][user];
    return u;
}

/* Everything since then was in memory only when the server died: W and the records fall back together. */
void redis_lose_tail(struct world *w, size_t writes)
{
    for (; writes > 0 && w->journal_n > 0; writes--) {
        struct undo *u = &w->journal[--w->journal_n];
        if (u->user >= 0) {
            free(w->records[u->partition][u->user].at);
            w->records[u->partition][u->user] = u->old;
        }
        w->fence[u->partition] = u->old_fence;
        w->w[u->partition] = u->old_w;
        w->saves[u->partition] = u->old_saves;
        w->erased[u->partition] = u->old_erased;
    }
}

void redis_flush(struct world *w)
{
    for (size_t i = 0; i < w->journal_n; i++)
        free(w->journal[i].old.at);
    w->journal_n = 0;
    for (int p = 0; p < PARTITIONS; p++) {
        w->fence[p] = 0;
        w->w[p] = w->erased[p] = -1;
        w->saves[p] = 0;
        for (int u = 0; u < USERS; u++) {
            free(w->records[p][u].at);
            w->records[p][u] = (struct bytes){0};
        }
    }
}

/* Is the caller the owner, and is what was acknowledged to it still here? W may be further than it knows, by a save
 * whose answer was lost. A save of tombstones need not move W, so the saves are counted too. */
static bool is_current(struct world *w, const struct request *r)
{
    if (w->bug == BUG_SKIP_FENCE)
        return true;
    if (w->fence[r->partition] != r->fence)
        return false;
    if (w->bug == BUG_IGNORE_TAIL_LOSS)
        return true;
    return w->w[r->partition] >= r->saved && (w->bug == BUG_UNCOUNTED_SAVES || w->saves[r->partition] >= r->saves);
}

static void redis_open(struct world *w, struct request *r)
{
    journal(w, r->partition, -1);
    w->fence[r->partition] = r->new_fence;
    r->offset = w->w[r->partition];
    r->erased = w->erased[r->partition];
    r->saves = w->saves[r->partition];
    if (w->bug == BUG_RESUME_AT_C && r->offset >= 0)
        r->offset = w->committed[r->partition] >= 0 ? w->committed[r->partition] : r->offset;
    r->ok = true;
}

static void redis_renew(struct world *w, struct request *r)
{
    r->ok = is_current(w, r);
    if (!r->ok)
        return;
    journal(w, r->partition, -1);
    w->fence[r->partition] = r->new_fence;
}

static void forget_next(struct bytes *record)
{
    int64_t next = -1;
    memcpy(record->at + 16, &next, sizeof next);
    uint64_t sum = XXH3_64bits(record->at + 16, record->n - 16);
    memcpy(record->at + 8, &sum, sizeof sum);
}

static void redis_load(struct world *w, struct request *r)
{
    r->ok = is_current(w, r);
    const struct bytes *record = &w->records[r->partition][r->user];
    if (!r->ok || !record->at)
        return;
    r->bytes = bytes_copy(record->at, record->n);
    if (w->bug == BUG_FORGET_NEXT)
        forget_next(&r->bytes);
}

/* An erased user of whom nothing has come since. */
static bool is_tombstone(const struct bytes *record)
{
    int64_t next;
    memcpy(&next, record->at + 16, sizeof next);
    return (record->at[5] & 2) && next < 0;
}

static void redis_save(struct world *w, struct request *r)
{
    int32_t p = r->partition;
    r->ok = is_current(w, r);
    if (!r->ok)
        return;
    /* Losing the tail may cut between these writes, W first: harsher than the real one, whose calls are atomic. */
    for (int u = 0; u < USERS; u++) {
        if (!r->items[u].at)
            continue;
        journal(w, p, u);
        if (w->bug == BUG_DROP_TOMBSTONE && is_tombstone(&r->items[u])) {
            w->records[p][u] = (struct bytes){0};
            continue;
        }
        w->records[p][u] = r->items[u];
        r->items[u] = (struct bytes){0};
    }
    journal(w, p, -1);
    r->saves = ++w->saves[p];
    if (r->erased > w->erased[p])
        w->erased[p] = r->erased;
    int64_t to = r->offset + (w->bug == BUG_W_TOO_FAR ? (int64_t)world_random(w, 3) : 0);
    if (to > w->w[p])
        w->w[p] = to;
}

bool redis_execute(struct world *w, struct connection *c)
{
    struct request *r = next_request(c);
    if (!r)
        return false;
    r->executed = true;
    if (r->kind == REQUEST_OPEN)
        redis_open(w, r);
    else if (r->kind == REQUEST_RENEW)
        redis_renew(w, r);
    else if (r->kind == REQUEST_LOAD)
        redis_load(w, r);
    else
        redis_save(w, r);
    return true;
}

/* ---- broker ---------------------------------------------------------------------------------------------------- */

/* The group has moved on since the member asked: it is not its partition any more. */
static bool is_outdated(const struct world *w, const struct member *m, const struct request *r)
{
    if (r->joined != w->joined[m->index])
        return true;
    for (int p = 0; p < PARTITIONS; p++)
        if (r->offsets[p] >= 0 && r->assigned[p] != w->assigned[p])
            return true;
    return false;
}

static void broker_transaction(struct world *w, const struct member *m, struct request *r)
{
    bool abort = r->commit->abort && w->bug != BUG_COMMIT_POISONED;
    r->ok = !is_outdated(w, m, r) && !abort;
    if (!r->ok)
        return;
    for (size_t i = 0; i < r->outputs.n; i++)
        world_output(w, &r->outputs.at[i]);
    for (int p = 0; p < PARTITIONS; p++)
        if (r->offsets[p] >= 0)
            w->committed[p] = r->offsets[p];
}

bool broker_execute(struct world *w, struct member *m)
{
    struct request *r = next_request(&m->broker);
    if (!r)
        return false;
    r->executed = r->ok = true;
    switch (r->kind) {
    case REQUEST_OUTPUT:
        world_output(w, &r->output);
        break;
    case REQUEST_OFFSET:
        r->ok = r->joined == w->joined[m->index] && w->owner[r->partition] == m->index;
        if (r->ok)
            w->committed[r->partition] = r->offset;
        break;
    case REQUEST_TRANSACTION:
        broker_transaction(w, m, r);
        break;
    default:
        assert(r->kind == REQUEST_ASK);
        r->ok = r->joined == w->joined[m->index] && w->owner[r->partition] == m->index;
        r->offset = w->committed[r->partition];
    }
    return true;
}
