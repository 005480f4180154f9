/* SPDX-License-Identifier: Apache-2.0 */
/* user.h - the bounded in-memory table of user records, and how a record becomes bytes.
 *
 *   one slot (fixed size, all slots are carved from one region of table_bytes):
 *   ┌─────────────┬───────────┬────────────────┬───────────────┬───────────────┐
 *   │ struct user │ name      │ window section │ model section │ rule section  │
 *   └─────────────┴───────────┴────────────────┴───────────────┴───────────────┘
 *   A user who needs more (tiles of old events) chains further slots of the same size: user_block_add().
 *
 * A record is a deterministic function of that user's events in partition order. The table is the truth while the user
 * is in it; Redis (the store) has a copy that lags. States change only in users.c. */
#ifndef GAIT_USER_H
#define GAIT_USER_H

#include "gait/error.h"
#include "gait/metrics.h"
#include "gait/str.h"

enum user_state {
    USER_LOADING, /* the store has been asked; sections are not valid yet */
    USER_READY,
};

/* A tombstone on its way to the store. */
enum user_tombstone { TOMBSTONE_NONE /* or saved */, TOMBSTONE_UNSAVED, TOMBSTONE_SAVING };

struct batch;

struct partition;

struct user_block {
    struct user_block *next; /* NULL = last */
    unsigned char data[];    /* users_block_bytes() of it */
};

struct user {
    uint64_t hash;           /* of partition and name */
    int64_t next;            /* offset after the last event applied; -1 = none yet */
    int64_t dirty_from;      /* first offset that the saved record lacks; -1 = clean */
    int64_t saving_from;     /* the same for the save under way; -1 = none under way */
    int64_t dirty_ms;        /* monotonic, when it became dirty: how long the saved record lags */
    int64_t touched_ms;      /* wall clock of the last event applied, for the time to live */
    int64_t erased_ms;       /* events of this time or older are refused (tombstone); INT64_MIN = never erased */
    struct user *dirty_previous, *dirty_next;    /* in order of dirty_from, per partition */
    struct user_block *blocks;
    struct user *serving_next;                   /* sink_redis: waiting to be written to the serving hash */
    struct batch *loading_for;                   /* while USER_LOADING: the batch that waits for it */
    int32_t partition;
    uint32_t pins;           /* batches in work that refer to it */
    int32_t last_in_batch;   /* engine's scratch: index of this user's latest event in the batch, -1 = none */
    uint16_t blocks_n;
    uint16_t name_len;
    uint8_t state;           /* enum user_state */
    bool degraded;           /* events are known to be missing from it; reported with each score */
    uint8_t tombstone;       /* enum user_tombstone */
    bool serving_queued;
    bool fresh;              /* the store had no record of this user, or it was unreadable */
    char name[];             /* name_len bytes and a NUL; the sections follow at users_sections_offset() */
};

struct users;
struct instance;

extern const struct metric users_metrics[]; /* the table's rows */

struct users_conf {
    size_t table_bytes;      /* bound on everything the table takes */
    size_t name_bytes;       /* longest user id */
    size_t section_bytes;    /* sum of all instances' user_size, each rounded up to 8 */
};

/* NULL with a text when table_bytes cannot hold even 64 users. */
struct users *users_create(const struct users_conf *conf, struct metrics *metrics, struct error *err);
void users_destroy(struct users **users);

/* The record of (partition, name), marked as used; a new one is USER_LOADING with zeroed sections, `*made` tells.
 * NULL: no room, and nothing clean and unpinned to evict (second-chance order: a sweep over the slots). */
struct user *users_get(struct users *users, int32_t partition, struct str name, bool *made);
struct user *users_find(const struct users *users, int32_t partition, struct str name); /* NULL when not in the table */
/* Hints that it will soon be looked up: fetch its place in the index; and a little later, by the hash that this
 * returned, the head of its record. */
uint64_t users_prefetch_index(const struct users *users, int32_t partition, struct str name);
void users_prefetch_record(const struct users *users, uint64_t hash, struct str name);
void users_remove(struct users *users, struct user *user);        /* unpinned; frees its blocks */
void users_remove_partition(struct users *users, struct partition *p); /* all of its, saved or not; none pinned */

static inline void *user_section(struct user *user, size_t offset)
{
    return (unsigned char *)user + offset;
}

/* Start of the sections in a slot, in bytes from `struct user`. */
size_t users_sections_offset(const struct users *users);

/* A further block for this user, zeroed, appended at the chain's end. NULL when the table is full of unsaved users,
 * when blocks take half of all slots, or when the user holds USER_BLOCKS_MAX. All go with the user. */
enum { USER_BLOCKS_MAX = 64 };
struct user_block *users_block_add(struct users *users, struct user *user);
size_t users_block_bytes(const struct users *users); /* usable bytes of one block */
void users_blocks_drop(struct users *users, struct user *user); /* all of them */

size_t users_name_bytes(const struct users *users); /* longest user id */
size_t users_count(const struct users *users);
size_t users_clean(const struct users *users);      /* of those, with nothing unsaved */
size_t users_slots(const struct users *users);      /* users and blocks that fit */
size_t users_slots_used(const struct users *users);
size_t users_slot_bytes(const struct users *users);

/* Dirty, saving, clean: changed here only. The partition's list holds dirty users, oldest dirty_from first. */
void users_dirty(struct users *users, struct partition *p, struct user *user, int64_t offset, int64_t mono_ms);
void users_saving(struct users *users, struct partition *p, struct user *user);            /* off the list */
void users_saved(struct users *users, struct partition *p, struct user *user, bool ok); /* not ok: back on the list */

/* ---- a record as bytes -------------------------------------------------------------------------------------------
 * Little-endian:  "GAIT" | u8 format (1) | u8 flags (1 degraded, 2 tombstone) | u16 sections | u64 XXH3 of all that
 * follows | i64 next | i64 erased_ms | i64 touched_ms | sections, each:
 * u8 name length, name, u16 version, u32 length, bytes.
 * A section's layout is described once, by the module's `record` function, which runs for reading and for writing. */
struct record_io {
    uint8_t *at, *end;
    bool writing;
    bool failed;      /* ran past the end, or a value cannot be: the rest of the calls do nothing */
    uint16_t version; /* of the section: reading, what was found; writing, what the module sets */
};

void record_u8(struct record_io *io, uint8_t *value);
void record_u16(struct record_io *io, uint16_t *value);
void record_u32(struct record_io *io, uint32_t *value);
void record_u64(struct record_io *io, uint64_t *value);
void record_i64(struct record_io *io, int64_t *value);
void record_f32(struct record_io *io, float *value);   /* reading: NaN and infinities fail */
void record_f64(struct record_io *io, double *value);
void record_f32s(struct record_io *io, float *values, size_t n);
void record_bytes(struct record_io *io, void *bytes, size_t n);

struct engine;
/* Write `user` into `out`; returns the bytes used, 0 when `cap` is too small. */
size_t record_encode(struct engine *engine, struct user *user, uint8_t *out, size_t cap);
/* Fill a USER_LOADING record from bytes. -1 with a text: not ours, wrong version or checksum, cut short; the sections
 * are then zeroed. An unknown section is passed over; a missing one stays zeroed. */
int record_decode(struct engine *engine, struct user *user, const uint8_t *bytes, size_t n, struct error *err);
/* Zero the sections that are saved: the record then contains no event. */
void record_empty(struct engine *engine, struct user *user);
size_t record_bytes_max(struct engine *engine); /* of any record */

#endif
