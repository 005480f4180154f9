// SPDX-License-Identifier: Apache-2.0
// arena.c - memory for one batch: a first chunk that stays, further chunks as long as the batch needs them.
//
//   chunks: newest ─► … ─► first      at = next free byte of the newest
#include "gait/arena.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_ALIGN = 16 };

struct chunk {
    struct chunk *older;
    size_t bytes, used;  /* of data */
    _Alignas(ARENA_ALIGN) unsigned char data[];
};

struct arena {
    struct chunk *newest;
    size_t first_bytes, limit_bytes;
    size_t allocated;    /* bytes of data of all chunks */
    size_t taken;
};

static struct chunk *chunk_create(size_t bytes, struct chunk *older)
{
    struct chunk *chunk = malloc(sizeof *chunk + bytes);
    assert(chunk);
    chunk->older = older;
    chunk->bytes = bytes;
    chunk->used = 0;
    return chunk;
}

struct arena *arena_create(size_t first_bytes, size_t limit_bytes)
{
    assert(first_bytes > 0 && first_bytes <= limit_bytes);
    struct arena *arena = calloc(1, sizeof *arena);
    assert(arena);
    arena->first_bytes = arena->allocated = first_bytes;
    arena->limit_bytes = limit_bytes;
    arena->newest = chunk_create(first_bytes, NULL);
    return arena;
}

void arena_destroy(struct arena **arena)
{
    struct arena *a = *arena;
    if (!a)
        return;
    while (a->newest) {
        struct chunk *chunk = a->newest;
        a->newest = chunk->older;
        free(chunk);
    }
    free(a);
    *arena = NULL;
}

/* Double what there is, so that the number of chunks stays small; never past the limit. */
static bool arena_grow(struct arena *a, size_t bytes)
{
    size_t room = a->limit_bytes - a->allocated, wanted = a->allocated;
    if (bytes > room)
        return false;
    if (wanted < bytes)
        wanted = bytes;
    if (wanted > room)
        wanted = room;
    a->newest = chunk_create(wanted, a->newest);
    a->allocated += wanted;
    return true;
}

void *arena_take(struct arena *a, size_t bytes)
{
    if (bytes > a->limit_bytes)
        return NULL;
    bytes = (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    if (a->newest->bytes - a->newest->used < bytes && !arena_grow(a, bytes))
        return NULL;
    void *at = a->newest->data + a->newest->used;
    a->newest->used += bytes;
    a->taken += bytes;
    return at;
}

char *arena_copy(struct arena *a, const void *from, size_t len)
{
    char *to = len < SIZE_MAX ? arena_take(a, len + 1) : NULL;
    if (!to)
        return NULL;
    if (len)
        memcpy(to, from, len);
    to[len] = '\0';
    return to;
}

void arena_reset(struct arena *a)
{
    while (a->newest->older) {
        struct chunk *chunk = a->newest;
        a->newest = chunk->older;
        a->allocated -= chunk->bytes;
        free(chunk);
    }
    a->newest->used = 0;
    a->taken = 0;
}

size_t arena_used(const struct arena *a)
{
    return a->taken;
}
