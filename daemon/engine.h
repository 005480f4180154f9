/* SPDX-License-Identifier: Apache-2.0 */
/* engine.h - the inside of the engine, shared by engine.c (the flow), batch.c (batches and tickets), partition.c
 * (take-over and hand-over), save.c (save and commit), epoch.c (transactions), erase.c (users to be forgotten),
 * lookup.c (records for the operators), settings.c (what a group has to have in common) and record.c.
 * Modules see none of it. */
#ifndef GAIT_ENGINE_PRIVATE_H
#define GAIT_ENGINE_PRIVATE_H

#include "gait/module.h"

#include "config.h"

enum { INSTANCES_MAX = CONFIG_MODULES_MAX, BATCHES_MAX = 8, TICKETS_MAX = 8192, SAVES_MAX = 8, ERASES_MAX = 256 };

struct watch;

enum batch_state { BATCH_FREE, BATCH_RESOLVING, BATCH_LOADING };

/* A batch and what the engine alone knows of it. */
struct batch_slot {
    struct batch batch;        /* first: a batch pointer is a slot pointer */
    struct engine *engine;
    enum batch_state state;
    uint32_t resolved;         /* events that have found their record; less than n while the table is full */
    size_t column_floats, hidden_floats; /* capacity of the arrays */
};

struct ticket_span {
    int32_t partition;
    uint64_t generation;
    int64_t next;              /* offset after the batch's last event of it */
};

struct ticket {
    struct engine *engine;
    uint64_t seq;
    uint32_t holds;
    uint32_t save_holds;       /* what only the save of the records waits for */
    bool computed;             /* the engine let go of it */
    uint32_t spans_n, spans_cap;
    struct ticket_span *spans;
};

/* Many records of one partition on their way to the store. */
struct save {
    struct commit commit;      /* first */
    bool in_use, sent;
    uint64_t begun_ns;         /* when it was sent */
    uint64_t seq;              /* wait until every batch up to it is durable */
    struct user **users;       /* [save_records]; parallel to commit.items */
    uint8_t *bytes;
    size_t bytes_n, bytes_cap;
};

/* delivery: exactly_once. Batches are durable when the transaction that holds their outputs and offsets is. */
struct epoch {
    struct commit commit;      /* the one under way */
    bool in_flight;
    bool poisoned;             /* outputs of a partition that was taken from us are in it: it must not be committed */
    uint64_t done_seq;         /* batches up to it are in a finished transaction */
    uint64_t upto_seq;         /* of the commit under way */
    uint64_t begun_ms;         /* when the last one was finished */
    uint32_t offsets_cap;
};

enum erase_state { ERASE_FREE, ERASE_WAITING, ERASE_LOADING, ERASE_SAVING, ERASE_SAVED, ERASE_RECEIPT };

/* One user that is being forgotten. */
struct erase {
    enum erase_state state;
    int32_t partition;
    uint64_t generation;
    int64_t offset, erased_ms, saved_ms;
    struct user *user;         /* LOADING … SAVED: pinned */
    uint64_t seq;              /* RECEIPT: durable together with the batches up to it */
    uint16_t name_len;
    char *name;                /* [user_id_bytes] */
};

struct erases {
    struct erase at[ERASES_MAX];
    uint32_t n;                /* not free */
    uint32_t unapplied;        /* of those, WAITING or LOADING */
    char *names;
    struct batch_slot loading; /* carries the records that the store is asked for */
};

enum engine_phase { ENGINE_RUNNING, ENGINE_DRAINING, ENGINE_STOPPED };

struct engine {
    struct engine_conf conf;
    const struct config *config;           /* borrowed; a reload changes its values in place */
    struct clock clock;
    struct metrics *metrics;
    struct columns *columns;
    struct event_types types;
    struct users *users;
    struct instance instances[INSTANCES_MAX];
    size_t instances_n;
    struct instance *source, *decode, *store;
    struct instance *transactional; /* the sink, NULL = at least once */
    struct epoch epoch;
    const char *not_ready[INSTANCES_MAX]; /* why; NULL = ready */
    bool was_ready;

    struct batch_slot batches[BATCHES_MAX];
    struct batch_slot *queue[BATCHES_MAX]; /* filled ones, oldest first */
    uint32_t queue_n;

    struct ticket tickets[TICKETS_MAX];    /* a ring by seq */
    uint64_t seq;                          /* of the last batch computed */
    uint64_t durable_seq;                  /* every batch up to it is durable */
    uint64_t savable_seq;                  /* … and the records as they were after it may be saved; <= durable_seq */

    struct partition **partitions;
    size_t partitions_n, partitions_cap;
    uint64_t generations;
    int32_t input_partitions;              /* that the whole input has; 0 = not known */

    struct save saves[SAVES_MAX];
    struct erases erases;
    bool save_urgent;                      /* the table is full of unsaved records, or we are stopping */
    uint64_t checked_ms;                   /* when saves and commits were last looked for */

    enum engine_phase phase;
    bool input_ended, input_damaged;
    uint64_t drain_until_ms;               /* monotonic; 0 = no limit */
    bool source_paused;
    uint64_t progress_ms;                  /* when a batch was last computed or none was waiting */

    struct lookup *lookups;                /* under way */
    struct watch *watch;                   /* set by whoever serves the pages; NULL = nobody looks */
    void (*wake)(void *self);              /* set by whoever runs the loop */
    void *wake_self;

    struct metric_cell *m_result[EVENT_VERDICTS], *m_silent, *m_batches, *m_waves;
    struct metric_cell *m_stage[STAGES], *m_stage_batch[STAGES], *m_own, *m_end_to_end;
    struct metric_cell *m_saved, *m_save_failed, *m_committed, *m_table_users, *m_table_used, *m_table_clean;
    struct metric_cell *m_ready, *m_unsaved_age, *m_loads, *m_bad_records, *m_gap, *m_state_lost, *m_fenced;
    struct metric_cell *m_save_time, *m_partitions, *m_aborted, *m_erased;
};

extern const struct metric engine_metrics[]; /* rows of the engine itself */

/* ---- engine.c --------------------------------------------------------------------------------------------------- */
/* `check`: modules read their files but connect to nothing. NULL with a text. `loop` may be NULL with modules that need
 * none. The configuration must outlive the engine. */
struct engine *engine_create(struct config *config, struct ev_loop *loop, const struct clock *clock, bool check,
                             struct error *err);
void engine_destroy(struct engine **engine);
void engine_start(struct engine *e);
bool engine_step(struct engine *e);     /* one batch further; true when there is more to do at once */
void engine_tick(struct engine *e);     /* every 100 ms */
/* Finish, save, commit, then ENGINE_STOPPED; 0 = no limit. Called again it may set the limit that was lacking. */
void engine_drain(struct engine *e, int64_t limit_ms);
bool engine_ready(const struct engine *e, const char **why);
void engine_flow(struct engine *e, const struct flow *flow); /* to every instance */
void engine_load(struct engine *e, struct batch *b, uint32_t from); /* ask the store for b->loading[from … loading_n) */
bool engine_sinks_accept(const struct engine *e);
static inline uint64_t engine_mono_ms(const struct engine *e)
{
    return clock_mono_ns(&e->clock) / 1000000;
}

/* ---- batch.c ---------------------------------------------------------------------------------------------------- */
void batches_create(struct engine *e);
void batches_destroy(struct engine *e);
struct batch_slot *batch_free_slot(struct engine *e);   /* NULL when all are in work */
void batch_accept(struct engine *e, struct batch *b);    /* drops what is not of a partition of ours */
void batch_resolve(struct engine *e, struct batch_slot *slot); /* events → records; may stop at a full table */
bool batch_is_ready(const struct batch_slot *slot);
void batch_prepare(struct engine *e, struct batch *b);  /* arrays sized, scores cleared, ticket taken */
void batch_finish(struct engine *e, struct batch_slot *slot);
bool ticket_free(const struct engine *e);
struct ticket *ticket_take(struct engine *e);           /* while ticket_free() */
void ticket_complete(struct ticket *t);
void tickets_retire(struct engine *e);                  /* moves durable_seq and the partitions' durable_next */

/* ---- partition.c ------------------------------------------------------------------------------------------------ */
void partitions_advance(struct engine *e);              /* lets go of those that are finished */
void partitions_close_all(struct engine *e);
void partition_drop(struct engine *e, struct partition *p, const char *why); /* LOST; its unsaved records go */
void partitions_destroy(struct engine *e);

/* ---- save.c ----------------------------------------------------------------------------------------------------- */
void saves_create(struct engine *e);
void saves_destroy(struct engine *e);
void saves_advance(struct engine *e, uint64_t mono_ms); /* begin what is due, send what has become durable */
void save_cancel(struct engine *e, struct partition *p); /* the save under way, unless it was sent */
bool saves_idle(const struct partition *p); /* nothing unsaved, nothing uncommitted */

/* ---- epoch.c ---------------------------------------------------------------------------------------------------- */
void epochs_destroy(struct engine *e);
void epoch_advance(struct engine *e, uint64_t mono_ms); /* end the transaction when it is due */
void epoch_done(struct engine *e, bool ok);             /* the sink's answer */

/* ---- erase.c ---------------------------------------------------------------------------------------------------- */
void erases_create(struct engine *e);
void erases_destroy(struct engine *e);
void erases_advance(struct engine *e);
bool erases_waiting(const struct engine *e);            /* some are not applied yet: fill no batch */

/* ---- lookup.c --------------------------------------------------------------------------------------------------- */
/* `user` is NULL when no partition of ours has such a record; it is valid during the call. `loaded`: it was not in the
 * table. */
typedef void (*lookup_done)(void *self, struct user *user, bool loaded);
/* The answer comes by `done` from a later engine_step(); NULL when too many are under way. */
struct lookup *lookup_begin(struct engine *e, struct str name, lookup_done done, void *self);
void lookup_cancel(struct lookup *lookup);              /* `done` will not be called */
void lookups_advance(struct engine *e);
void lookups_destroy(struct engine *e);

#endif
