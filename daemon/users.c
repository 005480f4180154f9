// SPDX-License-Identifier: Apache-2.0
// users.c - the bounded table of user records: slots carved from one region, an open-addressed index beside it,
// eviction by second chance, and the only place where a record turns dirty, saving or clean.
//
// The kind of every slot lies in a byte array of its own, so that the eviction sweep reads 64 slots per cache line and
// touches a record only when it is a candidate.
#include "gait/user.h"

#include "gait/metrics.h"
#include "gait/module.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SLOT_FREE, SLOT_USER, SLOT_BLOCK, SLOT_KIND = 3, SLOT_REFERENCED = 4 };
enum { SLOT_ALIGN = 64, SLOTS_MIN = 64 };

struct index_entry {
    uint32_t tag;  /* high half of the hash */
    uint32_t slot; /* + 1; 0 = empty */
};

struct free_slot {
    struct free_slot *next;
};

struct users {
    unsigned char *region;
    size_t region_bytes;
    size_t slot_bytes, sections_offset, section_bytes, name_bytes;
    size_t slots, carved;      /* carved: slots below it have been used at least once, so only they take memory */
    size_t used, blocks;
    size_t count, clean;
    struct free_slot *free;
    uint8_t *kind;             /* [slots] */
    struct index_entry *index; /* [index_mask + 1] */
    size_t index_mask;
    size_t hand;               /* of the eviction sweep */
    struct metric_cell *evicted, *refused;
};

const struct metric users_metrics[] = {
    {"gait_table_evictions_total", METRIC_COUNTER, NULL, "Clean user records evicted from the table to make room."},
    {"gait_table_full_total", METRIC_COUNTER, NULL, "Times a record found no room because all others were unsaved."},
    {NULL, 0, NULL, NULL},
};

static size_t round_up(size_t value, size_t to)
{
    return (value + to - 1) / to * to;
}

/* In large pages where the system has them: records are visited at random, and of small pages the processor forgets
 * where they are. Only a wish, so its answer does not matter. */
static void *map_pages(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    madvise(at, bytes, MADV_HUGEPAGE);
    return at;
}

/* The index and the kinds count against table_bytes too: at most half of the index is filled. */
static void size_table(struct users *t, size_t table_bytes)
{
    t->slots = table_bytes / t->slot_bytes;
    for (;;) {
        size_t index = 64;
        while (index < t->slots * 2)
            index *= 2;
        t->index_mask = index - 1;
        size_t beside = index * sizeof(struct index_entry) + t->slots;
        if (t->slots == 0 || t->slots * t->slot_bytes + beside <= table_bytes)
            return;
        size_t over = t->slots * t->slot_bytes + beside - table_bytes;
        size_t fewer = over / t->slot_bytes + 1;
        t->slots = t->slots > fewer ? t->slots - fewer : 0;
    }
}

struct users *users_create(const struct users_conf *conf, struct metrics *metrics, struct error *err)
{
    struct users *t = calloc(1, sizeof *t);
    assert(t);
    t->name_bytes = conf->name_bytes;
    t->section_bytes = conf->section_bytes;
    t->sections_offset = round_up(sizeof(struct user) + conf->name_bytes + 1, 16);
    t->slot_bytes = round_up(t->sections_offset + conf->section_bytes, SLOT_ALIGN);
    size_table(t, conf->table_bytes);
    if (t->slots < SLOTS_MIN || t->slots > UINT32_MAX - 1) {
        error_set(err, "engine.table_bytes: %zu bytes hold %zu users of %zu bytes each; at least %d are needed",
                  conf->table_bytes, t->slots, t->slot_bytes, SLOTS_MIN);
        users_destroy(&t);
        return NULL;
    }
    t->region_bytes = t->slots * t->slot_bytes;
    t->region = map_pages(t->region_bytes);
    t->kind = map_pages(t->slots);
    t->index = map_pages((t->index_mask + 1) * sizeof *t->index);
    if (!t->region || !t->kind || !t->index) {
        error_set(err, "engine.table_bytes: the system refuses %zu bytes of address space", conf->table_bytes);
        users_destroy(&t);
        return NULL;
    }
    metrics_declare(metrics, users_metrics);
    t->evicted = metric_cell(metrics, "gait_table_evictions_total", NULL);
    t->refused = metric_cell(metrics, "gait_table_full_total", NULL);
    return t;
}

void users_destroy(struct users **users)
{
    struct users *t = *users;
    if (!t)
        return;
    if (t->region)
        munmap(t->region, t->region_bytes);
    if (t->kind)
        munmap(t->kind, t->slots);
    if (t->index)
        munmap(t->index, (t->index_mask + 1) * sizeof *t->index);
    free(t);
    *users = NULL;
}

static void *slot_at(const struct users *t, size_t slot)
{
    return t->region + slot * t->slot_bytes;
}

static size_t slot_of(const struct users *t, const void *at)
{
    size_t offset = (size_t)((const unsigned char *)at - t->region);
    assert(offset < t->region_bytes && offset % t->slot_bytes == 0);
    return offset / t->slot_bytes;
}

static uint64_t hash_of(int32_t partition, struct str name)
{
    return XXH3_64bits_withSeed(name.at, name.len, (uint64_t)(uint32_t)partition + 1);
}

/* ---- index: linear probing; removal shifts the followers back, so there are no grave stones ---------------------- */

static size_t index_home(const struct users *t, uint64_t hash)
{
    return hash & t->index_mask;
}

static void index_insert(struct users *t, uint64_t hash, size_t slot)
{
    size_t i = index_home(t, hash);
    while (t->index[i].slot)
        i = (i + 1) & t->index_mask;
    t->index[i] = (struct index_entry){(uint32_t)(hash >> 32), (uint32_t)slot + 1};
}

static void index_remove(struct users *t, const struct user *user)
{
    size_t slot = slot_of(t, user), i = index_home(t, user->hash);
    while (t->index[i].slot != slot + 1) {
        assert(t->index[i].slot);
        i = (i + 1) & t->index_mask;
    }
    for (size_t j = (i + 1) & t->index_mask; t->index[j].slot; j = (j + 1) & t->index_mask) {
        const struct user *other = slot_at(t, t->index[j].slot - 1);
        size_t home = index_home(t, other->hash);
        if (((j - home) & t->index_mask) >= ((j - i) & t->index_mask)) {
            t->index[i] = t->index[j];
            i = j;
        }
    }
    t->index[i] = (struct index_entry){0, 0};
}

static struct user *index_find(const struct users *t, uint64_t hash, int32_t partition, struct str name)
{
    uint32_t tag = (uint32_t)(hash >> 32);
    for (size_t i = index_home(t, hash); t->index[i].slot; i = (i + 1) & t->index_mask) {
        if (t->index[i].tag != tag)
            continue;
        struct user *user = slot_at(t, t->index[i].slot - 1);
        if (user->hash == hash && user->partition == partition && user->name_len == name.len &&
            memcmp(user->name, name.at, name.len) == 0)
            return user;
    }
    return NULL;
}

/* ---- slots ----------------------------------------------------------------------------------------------------- */

static void slot_give_back(struct users *t, void *at)
{
    size_t slot = slot_of(t, at);
    assert((t->kind[slot] & SLOT_KIND) != SLOT_FREE);
    t->kind[slot] = SLOT_FREE;
    t->used--;
    struct free_slot *free = at;
    free->next = t->free;
    t->free = free;
}

static bool is_clean(const struct user *user)
{
    return user->dirty_from < 0 && user->saving_from < 0;
}

/* Second chance: a slot used since the last sweep is passed over once. */
static bool evict_one(struct users *t)
{
    if (t->clean == 0)
        return false;
    for (size_t steps = 0; steps < 2 * t->carved; steps++) {
        size_t slot = t->hand;
        t->hand = t->hand + 1 < t->carved ? t->hand + 1 : 0;
        uint8_t kind = t->kind[slot];
        if ((kind & SLOT_KIND) != SLOT_USER)
            continue;
        if (kind & SLOT_REFERENCED) {
            t->kind[slot] = SLOT_USER;
            continue;
        }
        struct user *user = slot_at(t, slot);
        if (user->pins == 0 && user->state == USER_READY && is_clean(user)) {
            users_remove(t, user);
            metric_add(t->evicted, 1);
            return true;
        }
    }
    return false;
}

static void *slot_take(struct users *t, uint8_t kind)
{
    if (!t->free && t->carved == t->slots && !evict_one(t)) {
        metric_add(t->refused, 1);
        return NULL;
    }
    void *at;
    if (t->free) {
        at = t->free;
        t->free = t->free->next;
    } else {
        at = slot_at(t, t->carved++);
    }
    t->kind[slot_of(t, at)] = kind;
    t->used++;
    memset(at, 0, t->slot_bytes);
    return at;
}

/* ---- users ----------------------------------------------------------------------------------------------------- */

struct user *users_get(struct users *t, int32_t partition, struct str name, bool *made)
{
    assert(name.len > 0 && name.len <= t->name_bytes);
    uint64_t hash = hash_of(partition, name);
    struct user *user = index_find(t, hash, partition, name);
    *made = !user;
    if (user) {
        t->kind[slot_of(t, user)] |= SLOT_REFERENCED;
        return user;
    }
    user = slot_take(t, SLOT_USER | SLOT_REFERENCED);
    if (!user)
        return NULL;
    user->hash = hash;
    user->partition = partition;
    user->next = user->dirty_from = user->saving_from = -1;
    user->erased_ms = INT64_MIN;
    user->last_in_batch = -1;
    user->state = USER_LOADING;
    user->name_len = (uint16_t)name.len;
    memcpy(user->name, name.at, name.len);
    index_insert(t, hash, slot_of(t, user));
    t->count++;
    t->clean++;
    return user;
}

struct user *users_find(const struct users *t, int32_t partition, struct str name)
{
    if (name.len == 0 || name.len > t->name_bytes)
        return NULL;
    return index_find(t, hash_of(partition, name), partition, name);
}

uint64_t users_prefetch_index(const struct users *t, int32_t partition, struct str name)
{
    uint64_t hash = hash_of(partition, name);
    __builtin_prefetch(&t->index[index_home(t, hash)]);
    return hash;
}

/* The tag alone decides: one in 2^32 fetches in vain. */
void users_prefetch_record(const struct users *t, uint64_t hash, struct str name)
{
    size_t i = index_home(t, hash);
    while (t->index[i].slot && t->index[i].tag != (uint32_t)(hash >> 32))
        i = (i + 1) & t->index_mask;
    if (!t->index[i].slot)
        return;
    const char *user = slot_at(t, t->index[i].slot - 1);
    for (size_t at = 0; at < sizeof(struct user) + name.len; at += SLOT_ALIGN)
        __builtin_prefetch(user + at, 1);
}

void users_remove(struct users *t, struct user *user)
{
    assert(user->pins == 0 && user->dirty_from < 0);
    users_blocks_drop(t, user);
    index_remove(t, user);
    t->count--;
    t->clean -= is_clean(user);
    slot_give_back(t, user);
}

static void dirty_unlink(struct partition *p, struct user *user)
{
    *(user->dirty_previous ? &user->dirty_previous->dirty_next : &p->dirty_first) = user->dirty_next;
    *(user->dirty_next ? &user->dirty_next->dirty_previous : &p->dirty_last) = user->dirty_previous;
    user->dirty_previous = user->dirty_next = NULL;
    p->dirty_n--;
}

void users_remove_partition(struct users *t, struct partition *p)
{
    while (p->dirty_first) {
        struct user *user = p->dirty_first;
        dirty_unlink(p, user);
        user->dirty_from = -1;
        t->clean += is_clean(user);
    }
    for (size_t slot = 0; slot < t->carved; slot++) {
        struct user *user = slot_at(t, slot);
        if ((t->kind[slot] & SLOT_KIND) == SLOT_USER && user->partition == p->id)
            users_remove(t, user);
    }
}

size_t users_sections_offset(const struct users *t)
{
    return t->sections_offset;
}

/* ---- blocks ---------------------------------------------------------------------------------------------------- */

struct user_block *users_block_add(struct users *t, struct user *user)
{
    if (user->blocks_n == USER_BLOCKS_MAX || t->blocks >= t->slots / 2)
        return NULL;
    user->pins++; /* the eviction must not take the one we work for */
    struct user_block *block = slot_take(t, SLOT_BLOCK);
    user->pins--;
    if (!block)
        return NULL;
    struct user_block **end = &user->blocks;
    while (*end)
        end = &(*end)->next;
    *end = block;
    user->blocks_n++;
    t->blocks++;
    return block;
}

size_t users_block_bytes(const struct users *t)
{
    return t->slot_bytes - sizeof(struct user_block);
}

void users_blocks_drop(struct users *t, struct user *user)
{
    while (user->blocks) {
        struct user_block *block = user->blocks;
        user->blocks = block->next;
        slot_give_back(t, block);
        t->blocks--;
    }
    user->blocks_n = 0;
}

/* ---- dirty, saving, clean -------------------------------------------------------------------------------------- */

void users_dirty(struct users *t, struct partition *p, struct user *user, int64_t offset, int64_t mono_ms)
{
    if (user->dirty_from >= 0)
        return;
    t->clean -= is_clean(user);
    user->dirty_from = offset;
    user->dirty_ms = mono_ms;
    user->dirty_previous = p->dirty_last;
    user->dirty_next = NULL;
    *(p->dirty_last ? &p->dirty_last->dirty_next : &p->dirty_first) = user;
    p->dirty_last = user;
    p->dirty_n++;
}

void users_saving(struct users *t, struct partition *p, struct user *user)
{
    (void)t;
    assert(user->dirty_from >= 0 && user->saving_from < 0);
    dirty_unlink(p, user);
    user->saving_from = user->dirty_from;
    user->dirty_from = -1;
    if (user->tombstone == TOMBSTONE_UNSAVED)
        user->tombstone = TOMBSTONE_SAVING;
}

/* A save that failed goes back to where its offset belongs: near the head, as older ones are saved first. */
static void dirty_insert_ordered(struct partition *p, struct user *user)
{
    struct user *after = NULL;
    for (struct user *at = p->dirty_first; at && at->dirty_from <= user->dirty_from; at = at->dirty_next)
        after = at;
    user->dirty_previous = after;
    user->dirty_next = after ? after->dirty_next : p->dirty_first;
    *(user->dirty_next ? &user->dirty_next->dirty_previous : &p->dirty_last) = user;
    *(after ? &after->dirty_next : &p->dirty_first) = user;
    p->dirty_n++;
}

void users_saved(struct users *t, struct partition *p, struct user *user, bool ok)
{
    assert(user->saving_from >= 0);
    if (!ok) {
        if (user->dirty_from >= 0)
            dirty_unlink(p, user);
        user->dirty_from = user->saving_from;
        dirty_insert_ordered(p, user);
    }
    user->saving_from = -1;
    if (user->tombstone == TOMBSTONE_SAVING) /* another erasure meanwhile is unsaved still */
        user->tombstone = ok ? TOMBSTONE_NONE : TOMBSTONE_UNSAVED;
    t->clean += is_clean(user);
}

/* ---- figures --------------------------------------------------------------------------------------------------- */

size_t users_name_bytes(const struct users *t)
{
    return t->name_bytes;
}

size_t users_count(const struct users *t)
{
    return t->count;
}

size_t users_clean(const struct users *t)
{
    return t->clean;
}

size_t users_slots(const struct users *t)
{
    return t->slots;
}

size_t users_slots_used(const struct users *t)
{
    return t->used;
}

size_t users_slot_bytes(const struct users *t)
{
    return t->slot_bytes;
}
