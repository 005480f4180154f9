/* SPDX-License-Identifier: Apache-2.0 */
/* arena.h - memory that lives as long as one batch: taken piece by piece, given back with one reset.
 *
 * The first chunk is allocated at creation. Growth allocates further chunks up to `limit_bytes`; a reset keeps the
 * first chunk only, so that one huge batch does not hold its memory for ever. */
#ifndef GAIT_ARENA_H
#define GAIT_ARENA_H

#include <stddef.h>

struct arena;

struct arena *arena_create(size_t first_bytes, size_t limit_bytes);
void arena_destroy(struct arena **arena); /* accepts NULL inside; nulls it */

/* Memory aligned to 16 bytes, not cleared; NULL when the limit is reached (the caller drops with a reason). */
void *arena_take(struct arena *arena, size_t bytes);

/* A copy of `len` bytes plus a closing NUL; NULL at the limit. */
char *arena_copy(struct arena *arena, const void *from, size_t len);

void arena_reset(struct arena *arena);
size_t arena_used(const struct arena *arena); /* bytes taken since the last reset */

#endif
