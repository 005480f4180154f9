// SPDX-License-Identifier: Apache-2.0
// window_tiles.c - what is left of events that have left the ring: counts by type, sums and a sketch of the categories,
// for spans of time that grow with age.
//
//   oldest ─────────────────────────────────────────────────────────────────────────► newest ─► (the ring)
//   [  28 h   ][  28 h   ][ 7 h ][ 7 h ] [1 h][1 h][1 h] [2.5 m][2.5 m] [12.5 s][12.5 s]
//   └ 7d..28d ──────────┘└ 24h..7d ────┘└ 1h..24h ─────┘└ 5m..1h ─────┘└ ..5m ─────────┘  tail[k]: first in window k
//
// Each event is in one tile. A tile that a window has left is merged with its older neighbour as far as the next longer
// window's tile size allows; the longest window's tiles are dropped. Only spans with events take a tile, so a user has
// as many as there were visits, and at most some 50 for each window.
//
// Totals of every window are kept beside: reading a window touches no tile. A tile counts as long as its newest event
// is inside, so a window never counts too few, and too many by at most a part of one tile.
//
// Tiles and totals lie in the user's chain of blocks. They are numbered through all blocks, from 1; 0 = none.
#include "window_parts.h"

#include <assert.h>
#include <string.h>

enum { BLOCKS_AT_HAND = 16 };

struct tiles {
    uint16_t oldest, newest; /* of the list */
    uint16_t free;           /* unused ones, chained by `older` */
    uint16_t carved;         /* numbers up to it have been used at least once */
    uint16_t tail[WINDOWS_MAX];       /* oldest in each window; 0 = the window is empty */
    int64_t tail_newest[WINDOWS_MAX]; /* its newest_ms; INT64_MAX without one */
    struct user_block *block[BLOCKS_AT_HAND]; /* the chain's first ones: following it would miss the cache each time */
    int64_t totals[]; /* sums[sums][windows], and behind them uint32_t counts[types + 1][windows] */
};

void tiles_layout(struct window *w)
{
    w->tile_bytes = (sizeof(struct window_tile) + w->sums * 8 + w->types * 4 + 7) / 8 * 8;
    w->tiles_head_bytes = (sizeof(struct tiles) + w->windows * (w->sums * 8 + (w->types + 1) * 4) + 7) / 8 * 8;
    /* A tile is as long as divides the window at least so finely and fits the tiles of the shorter windows. */
    for (uint32_t k = 0; k < w->windows; k++) {
        int64_t tile = w->duration_ms[k] / WINDOW_TILES_PER_WINDOW, finer = k ? w->tile_ms[k - 1] : 1;
        w->tile_ms[k] = tile < finer ? finer : tile / finer * finer;
    }
}

static struct tiles *tiles_of(const struct user *user)
{
    return user->blocks ? (struct tiles *)user->blocks->data : NULL;
}

static int64_t *sum_totals(struct tiles *tiles)
{
    return tiles->totals;
}

static uint32_t *count_totals(const struct window *w, struct tiles *tiles)
{
    return (uint32_t *)(tiles->totals + (size_t)w->sums * w->windows);
}

const uint32_t *tiles_counts(const struct instance *in, struct user *user, uint32_t k)
{
    struct tiles *tiles = tiles_of(user);
    return tiles ? count_totals(window_self(in), tiles) + k : NULL;
}

const int64_t *tiles_sums(struct user *user, uint32_t k)
{
    struct tiles *tiles = tiles_of(user);
    return tiles ? sum_totals(tiles) + k : NULL;
}

/* ---- numbers and memory --------------------------------------------------------------------------------------- */

static struct window_tile *tile_at(const struct instance *in, struct user *user, uint16_t number)
{
    const struct window *w = window_self(in);
    struct user_block *block = user->blocks;
    uint32_t i = number - 1u;
    if (i < w->tiles_first)
        return (struct window_tile *)(block->data + w->tiles_head_bytes + i * w->tile_bytes);
    i -= w->tiles_first;
    uint32_t n = 1 + i / w->tiles_each;
    i %= w->tiles_each;
    if (n < BLOCKS_AT_HAND)
        block = tiles_of(user)->block[n];
    else
        for (block = tiles_of(user)->block[BLOCKS_AT_HAND - 1]; n >= BLOCKS_AT_HAND; n--)
            block = block->next;
    return (struct window_tile *)(block->data + i * w->tile_bytes);
}

static uint32_t tiles_room(const struct instance *in, const struct user *user)
{
    const struct window *w = window_self(in);
    return user->blocks_n ? w->tiles_first + (user->blocks_n - 1u) * w->tiles_each : 0;
}

static bool tiles_grow(struct instance *in, struct user *user)
{
    struct window *w = window_self(in);
    struct user_block *block = users_block_add(in->users, user);
    if (!block)
        return false;
    if (user->blocks_n <= BLOCKS_AT_HAND)
        tiles_of(user)->block[user->blocks_n - 1] = block;
    if (user->blocks_n > 1)
        return true;
    size_t bytes = users_block_bytes(in->users); /* the same for all, but not known when the module opened */
    w->tiles_first = (uint32_t)((bytes - w->tiles_head_bytes) / w->tile_bytes);
    w->tiles_each = (uint32_t)(bytes / w->tile_bytes);
    for (uint32_t k = 0; k < WINDOWS_MAX; k++)
        tiles_of(user)->tail_newest[k] = INT64_MAX;
    return true;
}

/* A zeroed tile, 0 when there is no room. */
static uint16_t tile_take(struct instance *in, struct user *user)
{
    struct tiles *tiles = tiles_of(user);
    uint16_t number = tiles ? tiles->free : 0;
    if (number) {
        tiles->free = tile_at(in, user, number)->older;
    } else {
        if ((!tiles || tiles->carved == tiles_room(in, user)) && !tiles_grow(in, user))
            return 0;
        tiles = tiles_of(user);
        if (tiles->carved == UINT16_MAX)
            return 0;
        number = ++tiles->carved;
    }
    memset(tile_at(in, user, number), 0, window_self(in)->tile_bytes);
    return number;
}

/* ---- the list ------------------------------------------------------------------------------------------------- */

/* Between `older` and `newer`, either of which may be 0. */
static void list_insert(struct instance *in, struct user *user, uint16_t number, uint16_t older, uint16_t newer)
{
    struct tiles *tiles = tiles_of(user);
    struct window_tile *tile = tile_at(in, user, number);
    tile->older = older;
    tile->newer = newer;
    if (older)
        tile_at(in, user, older)->newer = number;
    else
        tiles->oldest = number;
    if (newer)
        tile_at(in, user, newer)->older = number;
    else
        tiles->newest = number;
}

static void list_remove(struct instance *in, struct user *user, uint16_t number)
{
    struct tiles *tiles = tiles_of(user);
    struct window_tile *tile = tile_at(in, user, number);
    if (tile->older)
        tile_at(in, user, tile->older)->newer = tile->newer;
    else
        tiles->oldest = tile->newer;
    if (tile->newer)
        tile_at(in, user, tile->newer)->older = tile->older;
    else
        tiles->newest = tile->older;
    tile->older = tiles->free;
    tiles->free = number;
}

struct window_tile *tiles_oldest(const struct instance *in, struct user *user)
{
    const struct tiles *tiles = tiles_of(user);
    return tiles && tiles->oldest ? tile_at(in, user, tiles->oldest) : NULL;
}

struct window_tile *tiles_newest(const struct instance *in, struct user *user)
{
    const struct tiles *tiles = tiles_of(user);
    return tiles && tiles->newest ? tile_at(in, user, tiles->newest) : NULL;
}

struct window_tile *tiles_newer(const struct instance *in, struct user *user, const struct window_tile *tile)
{
    return tile->newer ? tile_at(in, user, tile->newer) : NULL;
}

struct window_tile *tiles_older(const struct instance *in, struct user *user, const struct window_tile *tile)
{
    return tile->older ? tile_at(in, user, tile->older) : NULL;
}

void tiles_prefetch(const struct instance *in, struct user *user)
{
    enum { CACHE_LINE = 64 };
    const struct tiles *tiles = tiles_of(user);
    const uint16_t wanted[] = {tiles->newest, tiles->tail[0]};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        const char *at = wanted[i] ? (const char *)tile_at(in, user, wanted[i]) : NULL;
        for (size_t k = 0; at && k < window_self(in)->tile_bytes; k += CACHE_LINE)
            __builtin_prefetch(at + k, 1);
    }
}

/* ---- windows over the list ------------------------------------------------------------------------------------ */

/* The shortest window that an event of `ts_ms` is in; w->windows when it is behind all. */
static uint32_t level_of(const struct window *w, int64_t t, int64_t ts_ms)
{
    uint32_t k = 0;
    while (k < w->windows && ts_ms <= t - w->duration_ms[k])
        k++;
    return k;
}

static void tail_set(const struct instance *in, struct user *user, uint32_t k, uint16_t number)
{
    struct tiles *tiles = tiles_of(user);
    tiles->tail[k] = number;
    tiles->tail_newest[k] = number ? tile_at(in, user, number)->newest_ms : INT64_MAX;
}

/* Add a tile's content to window k's totals, or take it away. */
static void totals_change(const struct window *w, struct tiles *tiles, uint32_t k, struct window_tile *tile, bool add)
{
    const uint32_t *counts = tile_counts(w, tile);
    uint32_t *totals = count_totals(w, tiles) + k, all = 0;
    int64_t *sums = sum_totals(tiles) + k;
    for (uint32_t i = 0; i < w->types; i++) {
        totals[i * w->windows] += add ? counts[i] : -counts[i];
        all += counts[i];
    }
    totals[w->types * w->windows] += add ? all : -all;
    for (uint32_t i = 0; i < w->sums; i++) {
        int64_t *sum = &sums[i * w->windows];
        *sum = add ? window_add(*sum, tile->sums[i]) : window_subtract(*sum, tile->sums[i]);
    }
}

/* The tile has left window k - 1 and is now in window k's care: it becomes one with its older neighbour if that is in
 * this window too and both lie in one tile of its size. */
static void merge_older(struct instance *in, struct user *user, int64_t t, uint16_t number, uint32_t k)
{
    const struct window *w = window_self(in);
    struct tiles *tiles = tiles_of(user);
    struct window_tile *tile = tile_at(in, user, number);
    if (tiles->tail[k] == number || !tile->older)
        return;
    uint16_t into_number = tile->older;
    struct window_tile *into = tile_at(in, user, into_number);
    bool inside = into->newest_ms > t - w->duration_ms[k]; /* or it is about to leave, which is not yet noted */
    if (!inside || into->newest_ms / w->tile_ms[k] != tile->newest_ms / w->tile_ms[k])
        return;
    uint32_t *into_counts = tile_counts(w, into);
    const uint32_t *counts = tile_counts(w, tile);
    for (uint32_t i = 0; i < w->types; i++)
        into_counts[i] += counts[i];
    for (uint32_t i = 0; i < w->sums; i++)
        into->sums[i] = window_add(into->sums[i], tile->sums[i]);
    for (uint32_t i = 0; i < WINDOW_SKETCH_WORDS; i++)
        into->sketch[i] |= tile->sketch[i];
    into->newest_ms = tile->newest_ms;
    list_remove(in, user, number);
    for (uint32_t i = k; i < w->windows; i++)
        if (tiles->tail[i] == into_number)
            tiles->tail_newest[i] = into->newest_ms;
}

void tiles_advance(struct instance *in, struct user *user, int64_t t)
{
    const struct window *w = window_self(in);
    struct tiles *tiles = tiles_of(user);
    if (!tiles)
        return;
    for (uint32_t k = 0; k < w->windows; k++) {
        while (tiles->tail_newest[k] <= t - w->duration_ms[k]) {
            uint16_t number = tiles->tail[k];
            struct window_tile *tile = tile_at(in, user, number);
            totals_change(w, tiles, k, tile, false);
            tail_set(in, user, k, tile->newer);
            if (k + 1 < w->windows)
                merge_older(in, user, t, number, k + 1);
            else
                list_remove(in, user, number);
        }
    }
    if (!tiles->newest)
        users_blocks_drop(in->users, user);
}

/* Put a new tile into the list and into the windows that it is in, without its content. */
static void tile_link(struct instance *in, struct user *user, int64_t t, uint16_t number, uint16_t older,
                      uint16_t newer)
{
    const struct window *w = window_self(in);
    struct tiles *tiles = tiles_of(user);
    list_insert(in, user, number, older, newer);
    for (uint32_t k = level_of(w, t, tile_at(in, user, number)->newest_ms); k < w->windows; k++)
        if (tiles->tail[k] == 0 || tiles->tail[k] == newer)
            tail_set(in, user, k, number);
}

/* Can an event of `ts_ms` be counted in this tile? Only one that the same windows hold, within one tile's span. */
static bool tile_takes(const struct window *w, int64_t t, const struct window_tile *tile, int64_t ts_ms, uint32_t level)
{
    return level_of(w, t, tile->newest_ms) == level && tile->newest_ms / w->tile_ms[level] == ts_ms / w->tile_ms[level];
}

/* The tile for an event of `ts_ms`, made if need be; 0 when there is no room. Events leave the ring in order, so it is
 * nearly always the newest; a late one may find its place further back. */
static uint16_t tile_for(struct instance *in, struct user *user, int64_t t, int64_t ts_ms, uint32_t level)
{
    const struct window *w = window_self(in);
    struct tiles *tiles = tiles_of(user);
    uint16_t older = tiles ? tiles->newest : 0, newer = 0;
    while (older && tile_at(in, user, older)->newest_ms > ts_ms) {
        newer = older;
        older = tile_at(in, user, older)->older;
    }
    if (newer && tile_takes(w, t, tile_at(in, user, newer), ts_ms, level))
        return newer;
    if (older && tile_takes(w, t, tile_at(in, user, older), ts_ms, level)) {
        tile_at(in, user, older)->newest_ms = ts_ms;
        for (uint32_t k = level; k < w->windows; k++)
            if (tiles->tail[k] == older)
                tiles->tail_newest[k] = ts_ms;
        return older;
    }
    uint16_t number = tile_take(in, user);
    if (!number)
        return 0;
    tile_at(in, user, number)->newest_ms = ts_ms;
    tile_link(in, user, t, number, older, newer);
    return number;
}

bool tiles_add(struct instance *in, struct user *user, int64_t t, const struct window_event *event)
{
    const struct window *w = window_self(in);
    uint32_t level = level_of(w, t, event->ts_ms);
    if (level == w->windows)
        return true; /* behind every window: nobody will ask for it */
    uint16_t number = tile_for(in, user, t, event->ts_ms, level);
    if (!number)
        return false;
    struct window_tile *tile = tile_at(in, user, number);
    struct tiles *tiles = tiles_of(user);
    int sum = w->sum_of[event->type];
    tile_counts(w, tile)[event->type]++;
    if (event->category)
        sketch_add(tile->sketch, event->category);
    uint32_t *totals = count_totals(w, tiles);
    for (uint32_t k = level; k < w->windows; k++) {
        totals[event->type * w->windows + k]++;
        totals[w->types * w->windows + k]++;
    }
    if (sum < 0)
        return true;
    tile->sums[sum] = window_add(tile->sums[sum], event->amount);
    int64_t *sums = sum_totals(tiles) + (uint32_t)sum * w->windows;
    for (uint32_t k = level; k < w->windows; k++)
        sums[k] = window_add(sums[k], event->amount);
    return true;
}

bool tiles_append(struct instance *in, struct user *user, int64_t t, struct window_tile *tile)
{
    const struct window *w = window_self(in);
    uint32_t level = level_of(w, t, tile->newest_ms);
    if (level == w->windows)
        return true;
    uint16_t number = tile_take(in, user);
    if (!number)
        return false;
    struct window_tile *to = tile_at(in, user, number);
    struct tiles *tiles = tiles_of(user);
    memcpy(to, tile, w->tile_bytes);
    tile_link(in, user, t, number, tiles->newest, 0);
    for (uint32_t k = level; k < w->windows; k++)
        totals_change(w, tiles, k, to, true);
    return true;
}
