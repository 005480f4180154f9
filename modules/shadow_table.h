/* SPDX-License-Identifier: Apache-2.0 */
/* shadow_table.h - the challenger's state of each user, beside the user table: bounded, never saved.
 *
 * Sets of SHADOW_WAYS entries; a user's hash names the set. A new user takes the place of the one in the set that was
 * away longest. What was forgotten, or does not continue where the record stands (a partition came back, events were
 * replayed), is rebuilt from the ring of last events. */
#ifndef GAIT_SHADOW_TABLE_H
#define GAIT_SHADOW_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHADOW_WAYS = 8 };

/* One prediction of intent whose outcome is waited for. The next begins when it is over: each weighs the same, whether
 * somebody bought or not. */
struct shadow_wait {
    int64_t until_ms;
    float p[2];            /* of the model at work, of the challenger */
    bool open, bought;
};

struct shadow {
    uint64_t hash;         /* of the record */
    uint64_t seq;          /* of the batch that touched it last; 0 = free */
    int64_t next;          /* offset after the last event in it */
    bool warm;             /* events are in the state */
    struct shadow_wait wait;
    float state[];
};

struct shadow_table;

/* As many entries as fit into `bytes`, at least one set. */
struct shadow_table *shadow_table_create(size_t bytes, uint32_t state_floats);
void shadow_table_destroy(struct shadow_table **table);
/* The user's entry, found or made in batch `seq`. NULL when all of its set are in use by this very batch. `*evicted` is
 * set when somebody else had to go. A new one is not warm and continues nowhere (next = INT64_MIN). */
struct shadow *shadow_table_take(struct shadow_table *t, uint64_t hash, uint64_t seq, bool *evicted);
void shadow_table_forget(struct shadow_table *t, uint64_t hash);
size_t shadow_table_used(const struct shadow_table *t);
size_t shadow_table_size(const struct shadow_table *t);
/* Entry `i` below shadow_table_size(), NULL when free: for sweeps. */
struct shadow *shadow_table_at(struct shadow_table *t, size_t i);

#endif
