// SPDX-License-Identifier: Apache-2.0
// window_record.c - the section of window_rolling as bytes, version 1:
//
//   u8 n, u32 hash × n        names of the types beyond the built-in ones
//   u8 n, u8 type × n         types with sums
//   u64 total | u32 types that have left the ring, i64 time of the last of each
//   session and cart as they were when the ring begins (only if something has left it)
//   i64 newest time | u16 n, tiles, oldest first | u16 n, ring events, oldest first | u16 n, u64 event ids
//
// Only what is there is written: no empty slots, no zero fields. The configuration may change between writing and
// reading: types are found by name and those that are gone are left out, a smaller ring folds its oldest events into
// tiles, new windows get their totals from the tiles that are there. Nothing read is trusted: what cannot be fails.
#include "window_parts.h"

#include <assert.h>
#include <math.h>

enum { FIELD_AMOUNT = 1, FIELD_CATEGORY = 2, FIELD_ITEM = 4, FIELD_SESSION = 8, FIELD_QUANTITY = 16, FIELD_PRICE = 32,
       FIELD_LOAD = 64 };
enum { TILE_BYTES_MAX = 1024 };

/* How the record's numbers of types and sums translate into ours. */
struct names {
    uint32_t types;                    /* known to the record */
    int8_t type[EVENT_TYPES_MAX];      /* ours; -1 = gone */
    uint8_t sums;
    int8_t sum[WINDOW_SUMS_MAX];
};

static void fail_unless(struct record_io *io, bool good)
{
    if (!good)
        io->failed = true;
}

static void record_time(struct record_io *io, int64_t *ts_ms)
{
    record_i64(io, ts_ms);
    fail_unless(io, *ts_ms >= 0 && *ts_ms <= WINDOW_TS_MAX);
}

/* ---- names ---------------------------------------------------------------------------------------------------- */

static int8_t type_by_hash(const struct window *w, uint32_t hash)
{
    for (uint32_t i = EVENT_TYPES_BUILTIN; i < w->types; i++)
        if (w->type_hash[i] == hash)
            return (int8_t)i;
    return -1;
}

static void record_type_names(const struct window *w, struct record_io *io, struct names *names)
{
    uint8_t more = (uint8_t)(w->types - EVENT_TYPES_BUILTIN);
    record_u8(io, &more);
    fail_unless(io, more <= EVENT_TYPES_MAX - EVENT_TYPES_BUILTIN);
    if (io->failed)
        return;
    names->types = EVENT_TYPES_BUILTIN + more;
    for (uint32_t i = 0; i < names->types; i++) {
        names->type[i] = (int8_t)i;
        if (i < EVENT_TYPES_BUILTIN)
            continue;
        uint32_t hash = io->writing ? w->type_hash[i] : 0;
        record_u32(io, &hash);
        names->type[i] = type_by_hash(w, hash);
    }
}

static void record_sum_names(const struct window *w, struct record_io *io, struct names *names)
{
    names->sums = (uint8_t)w->sums;
    record_u8(io, &names->sums);
    fail_unless(io, names->sums <= WINDOW_SUMS_MAX);
    for (uint32_t i = 0; i < names->sums && !io->failed; i++) {
        uint8_t type = io->writing ? w->sum_type[i] : 0;
        record_u8(io, &type);
        fail_unless(io, type < names->types);
        int8_t ours = io->failed ? -1 : names->type[type];
        names->sum[i] = ours < 0 ? -1 : w->sum_of[ours];
    }
}

/* ---- what has left the ring ----------------------------------------------------------------------------------- */

static void record_session(struct record_io *io, struct window_session *s)
{
    record_time(io, &s->begin_ms);
    record_time(io, &s->last_ms);
    record_u32(io, &s->events);
    record_u32(io, &s->id);
}

static void record_folded(const struct window *w, unsigned char *base, struct record_io *io, const struct names *names)
{
    struct window_head *head = (struct window_head *)base;
    uint32_t mask = head->folded_types, ours = 0;
    record_u64(io, &head->total);
    record_u32(io, &mask);
    fail_unless(io, names->types == EVENT_TYPES_MAX || mask >> names->types == 0);
    for (uint32_t i = 0; i < names->types && !io->failed; i++) {
        if (!(mask & UINT32_C(1) << i))
            continue;
        int64_t last = io->writing ? window_folded_last(w, base)[i] : 0;
        record_time(io, &last);
        if (io->writing || names->type[i] < 0)
            continue;
        window_folded_last(w, base)[names->type[i]] = last;
        ours |= UINT32_C(1) << names->type[i];
    }
    if (!io->writing)
        head->folded_types = ours;
    if (!mask)
        return;
    record_session(io, &head->folded.session);
    record_i64(io, &head->folded.cart.items);
    record_i64(io, &head->folded.cart.value);
}

/* ---- tiles ---------------------------------------------------------------------------------------------------- */

static void write_tile(const struct window *w, struct record_io *io, struct window_tile *tile)
{
    uint32_t *counts = tile_counts(w, tile), mask = 0;
    for (uint32_t i = 0; i < w->types; i++)
        mask |= counts[i] ? UINT32_C(1) << i : 0;
    record_i64(io, &tile->newest_ms);
    record_bytes(io, tile->sketch, sizeof tile->sketch);
    record_u32(io, &mask);
    for (uint32_t i = 0; i < w->types; i++)
        if (counts[i])
            record_u32(io, &counts[i]);
    for (uint32_t i = 0; i < w->sums; i++)
        record_i64(io, &tile->sums[i]);
}

static void read_tile(const struct window *w, struct record_io *io, const struct names *names, struct window_tile *tile)
{
    uint32_t mask = 0;
    memset(tile, 0, w->tile_bytes);
    record_time(io, &tile->newest_ms);
    record_bytes(io, tile->sketch, sizeof tile->sketch);
    record_u32(io, &mask);
    fail_unless(io, names->types == EVENT_TYPES_MAX || mask >> names->types == 0);
    for (uint32_t i = 0; i < names->types && !io->failed; i++) {
        uint32_t count = 0;
        if (!(mask & UINT32_C(1) << i))
            continue;
        record_u32(io, &count);
        if (names->type[i] >= 0)
            tile_counts(w, tile)[names->type[i]] = count;
    }
    for (uint32_t i = 0; i < names->sums; i++) {
        int64_t sum = 0;
        record_i64(io, &sum);
        if (names->sum[i] >= 0)
            tile->sums[names->sum[i]] = sum;
    }
}

static void no_room(struct instance *in, struct user *user)
{
    metric_add(window_self(in)->m_refused, 1);
    user->degraded = true;
}

static void write_tiles(struct instance *in, struct user *user, struct record_io *io)
{
    uint16_t n = 0;
    for (struct window_tile *tile = tiles_oldest(in, user); tile; tile = tiles_newer(in, user, tile))
        n++;
    record_u16(io, &n);
    for (struct window_tile *tile = tiles_oldest(in, user); tile; tile = tiles_newer(in, user, tile))
        write_tile(window_self(in), io, tile);
}

static void read_tiles(struct instance *in, struct user *user, struct record_io *io, const struct names *names,
                       int64_t t)
{
    const struct window *w = window_self(in);
    union {
        struct window_tile tile;
        unsigned char room[TILE_BYTES_MAX];
    } one;
    uint16_t n = 0;
    int64_t before_ms = 0;
    assert(w->tile_bytes <= sizeof one);
    record_u16(io, &n);
    for (uint32_t i = 0; i < n && !io->failed; i++) {
        read_tile(w, io, names, &one.tile);
        fail_unless(io, one.tile.newest_ms >= before_ms);
        before_ms = one.tile.newest_ms;
        if (!io->failed && !tiles_append(in, user, t, &one.tile))
            no_room(in, user);
    }
}

/* ---- the ring ------------------------------------------------------------------------------------------------- */

static void record_event(struct record_io *io, struct window_event *event)
{
    uint8_t fields = (uint8_t)((event->amount ? FIELD_AMOUNT : 0) | (event->category ? FIELD_CATEGORY : 0) |
                               (event->item ? FIELD_ITEM : 0) | (event->session ? FIELD_SESSION : 0) |
                               (event->quantity != 0 ? FIELD_QUANTITY : 0) | (event->price != 0 ? FIELD_PRICE : 0) |
                               (event->load_ms != 0 ? FIELD_LOAD : 0));
    record_u8(io, &fields);
    record_u8(io, &event->type);
    record_u8(io, &event->has);
    record_time(io, &event->ts_ms);
    if (fields & FIELD_AMOUNT)
        record_i64(io, &event->amount);
    if (fields & FIELD_CATEGORY)
        record_u32(io, &event->category);
    if (fields & FIELD_ITEM)
        record_u32(io, &event->item);
    if (fields & FIELD_SESSION)
        record_u32(io, &event->session);
    if (fields & FIELD_QUANTITY)
        record_f32(io, &event->quantity);
    if (fields & FIELD_PRICE)
        record_f32(io, &event->price);
    if (fields & FIELD_LOAD)
        record_f32(io, &event->load_ms);
}

static void write_ring(const struct window *w, unsigned char *base, struct record_io *io)
{
    uint16_t n = ((struct window_head *)base)->n;
    record_u16(io, &n);
    for (uint32_t i = 0; i < n; i++) {
        struct window_event event = ring_get(w, base, i);
        record_event(io, &event);
    }
}

static void read_ring(struct instance *in, struct user *user, struct record_io *io, const struct names *names,
                      int64_t t)
{
    const struct window *w = window_self(in);
    unsigned char *base = window_base(in, user);
    struct window_head *head = (struct window_head *)base;
    uint16_t n = 0;
    int64_t before_ms = 0;
    uint64_t total = head->total;
    record_u16(io, &n);
    for (uint32_t i = 0; i < n && !io->failed; i++) {
        struct window_event event = {0}, left;
        int32_t index;
        record_event(io, &event);
        fail_unless(io, event.type < names->types && event.ts_ms >= before_ms && event.ts_ms <= t);
        before_ms = event.ts_ms;
        if (io->failed || names->type[event.type] < 0)
            continue;
        event.type = (uint8_t)names->type[event.type];
        if (ring_insert(w, base, &event, &left, &index) && !tiles_add(in, user, t, &left))
            no_room(in, user);
    }
    head->total = total;
    ring_recompute(w, base);
}

static void record_ids(const struct window *w, unsigned char *base, struct record_io *io)
{
    struct window_head *head = (struct window_head *)base;
    uint16_t n = head->ids_n;
    record_u16(io, &n);
    for (uint32_t i = 0; i < n && !io->failed; i++) {
        uint64_t id = io->writing ? ring_id(w, base, i) : 0;
        record_u64(io, &id);
        if (!io->writing && w->ids)
            ring_add_id(w, base, id);
    }
}

void window_record(struct instance *in, struct user *user, struct record_io *io)
{
    const struct window *w = window_self(in);
    unsigned char *base = window_base(in, user);
    const struct window_head *head = (const struct window_head *)base;
    struct names names = {0};
    int64_t t = head->n ? ring_newest_ms(w, base) : 0;
    record_type_names(w, io, &names);
    record_sum_names(w, io, &names);
    record_folded(w, base, io, &names);
    record_time(io, &t);
    if (io->writing)
        write_tiles(in, user, io);
    else
        read_tiles(in, user, io, &names, t);
    if (io->writing)
        write_ring(w, base, io);
    else if (!io->failed)
        read_ring(in, user, io, &names, t);
    record_ids(w, base, io);
}
