/* SPDX-License-Identifier: Apache-2.0 */
/* module.h - read this first: what a stage of the flow is.
 *
 *   source → decode → load → window → model → score → rule → sink → (durable) → save → commit
 *
 * One file in modules/ is one module, named stage_kind like its key in the configuration (source_kafka is
 * `source: {kafka: …}`). Its const `struct module` is the last thing in the file; modules.c lists them all.
 * A store is two stages of the flow: load (its `run`) and save (its `commit`). */
#ifndef GAIT_MODULE_H
#define GAIT_MODULE_H

#include "gait/batch.h"
#include "gait/clock.h"
#include "gait/columns.h"
#include "gait/error.h"
#include "gait/metrics.h"
#include "gait/option.h"
#include "gait/user.h"

enum stage { STAGE_SOURCE, STAGE_DECODE, STAGE_STORE, STAGE_WINDOW, STAGE_MODEL, STAGE_SCORE, STAGE_RULE, STAGE_SINK,
             STAGES };
const char *stage_name(enum stage stage); /* "source" … */

struct ev_loop;
struct engine;
struct module;

/* One configured module at work. */
struct instance {
    const struct module *module;
    const char *name;        /* "source.kafka": for logs and errors */
    void *conf;              /* conf_size bytes, filled from the option rows; read-only. A reload changes the
                                values without OPTION_RESTART in place; what was made of them is renewed at FLOW_SWAP */
    void *self;              /* what open made; close frees it */
    struct engine *engine;
    /* services, borrowed, the same for all instances */
    struct ev_loop *loop;
    const struct clock *clock;
    struct metrics *metrics;
    const struct event_types *types;
    struct columns *columns;
    struct users *users;     /* NULL until every module is open */
    /* a record's section: `open` sets user_size (bytes, may stay 0); the engine places it before the first `run` */
    size_t user_size, user_offset;
    bool exactly_once;       /* set before open: the configuration asks for engine.delivery: exactly_once */
    bool transactional;      /* sink: set by open when its outputs become visible only by `commit` */
    bool busy;               /* set by instance_busy() */
    uint64_t content;        /* rule: set by open and at every swap, a hash of the rules; 0 = none */
    const char *input;       /* source: set by open, what it reads (the topic's or file's name), for dead letters */
};

enum partition_state {
    PARTITION_OPENING,       /* the store was asked */
    PARTITION_OPEN,          /* the source was started */
    PARTITION_CLOSING,       /* revoked: finishing, saving, committing */
    PARTITION_LOST,          /* somebody else has it: dropped without saving as soon as no batch holds it */
};

/* One partition of the input that this process owns. */
struct partition {
    int32_t id;
    int64_t fence;           /* the store's; a smaller one is a zombie */
    int64_t committed;       /* C when it was taken over, -1 = none: events below run silently */
    int64_t start;           /* where reading began: W, or the first event that came; negative = not known yet */
    int64_t read_next;       /* offset after the last event fetched */
    int64_t applied_next;    /* … after the last event computed */
    int64_t durable_next;    /* … below which every output is durable: what may be committed */
    int64_t committed_next;  /* … last committed, -1 = nothing yet */
    int64_t saved_next;      /* W as last saved, -1 = none */
    int64_t saves;           /* the store's: saves it has acknowledged; fewer there than here means that it lost some */
    int64_t erase_next;      /* erasure log: the offset after the last erasure taken, -1 = none yet */
    int64_t erase_done;      /* … below which every erasure is saved and its receipt durable */
    int64_t erase_saved;     /* erase_done as last saved; the store sets it before partition_opened() */
    int64_t low;             /* earliest offset that is still retained, -1 = not known; the source sets it when it meets
                                a hole in the offsets, before the event behind the hole */
    int64_t high;            /* end of the partition as last heard from the source, -1 = not known */
    int64_t applied_ms;      /* log time of the newest event computed, Unix ms; 0 = not known */
    int64_t retention_ms;    /* how long the log keeps an event, as the source says; 0 = not known, or for ever */
    uint64_t generation;     /* counts take-overs by this process: what belongs to an earlier one is not mixed up */
    uint8_t state;           /* enum partition_state; changed in partition.c only */
    bool degraded;           /* reading began above W: events are missing from its records */
    bool reopen;             /* dropped though the group may still say that it is ours: ask the source afterwards */
    int64_t reassigned;      /* assigned again while still closing: its C, OFFSET_NONE; INT64_MIN = not */
    uint32_t in_work;        /* events of it in batches, and erasures */
    struct save *save;       /* the save under way, NULL = none */
    int64_t save_retry_ms;   /* monotonic: no save before this */
    int64_t commit_retry_ms; /* … and no commit */
    uint64_t saved_ms, committed_ms; /* monotonic: when W and C last moved */
    struct commit *commit;   /* the source's commit under way, NULL = none */
    struct user *dirty_first, *dirty_last; /* unsaved records, oldest dirty_from first */
    size_t dirty_n;
};

/* What the engine tells a module outside the batches. Every call returns at once; answers come by the calls below. */
enum flow_kind {
    FLOW_OPEN,    /* to the store: take partition over (increment its fence, read W); answer partition_opened() */
    FLOW_START,   /* to the source: read `partition` from `offset` on (OFFSET_EARLIEST, or an offset) */
    FLOW_CLOSED,  /* to all: partition is finished and saved (or lost); let it and its users go. The pointers are
                     invalid afterwards: an open question about it (FLOW_OPEN) is not answered any more */
    FLOW_REOPEN,  /* to the source: partition `id` was dropped (fenced, or its transaction was aborted). If the group
                     still says that it is ours, ask C anew and call partition_assigned() again */
    FLOW_PAUSE,   /* to the source: fetch no more until FLOW_RESUME; run() is not called meanwhile */
    FLOW_RESUME,
    FLOW_DRAIN,   /* to the source: the daemon is stopping; hand over nothing more. To sinks: send what is queued now */
    FLOW_TICK,    /* to all, every 100 ms: timers, gauges */
    FLOW_ERASE,   /* to all: `erasure` takes place: forget what you keep of the user beside the sections that `record`
                     describes (the engine empties those), outside of this process too; ticket_hold_save() until
                     it is gone */
    FLOW_ERASED,  /* to sinks: `erasure` is durable in the store: send a receipt; ticket_hold() until that is durable */
    /* A reload, between two batches, all three within one call. A module that only reads in->conf at run time has
     * nothing to do: the values that may change are exchanged in place between PREPARE and SWAP. */
    FLOW_PREPARE, /* to all: read `change->conf` and the files it names, build what follows from it beside what is at
                     work, or refuse; nothing may show from outside yet */
    FLOW_SWAP,    /* everybody could: in->conf has the new values, take what was built. Cannot fail */
    FLOW_DISCARD, /* somebody could not: free what was built, if anything; everything stays as it was */
};

/* A user that is to be forgotten. Valid during the call; names it, for it may not be in the table at FLOW_ERASED. */
struct erasure {
    struct user *user;           /* ERASE: the record, still with its old content; NULL at ERASED */
    struct str name;
    int32_t partition;
    int64_t offset;              /* of the request in the erasure log, OFFSET_NONE = it came another way */
    int64_t erased_ms;           /* events of this time or older are refused from now on */
    int64_t saved_ms;            /* ERASED: wall clock when the store had acknowledged it */
    struct ticket *ticket;
};

enum { OFFSET_EARLIEST = -2, OFFSET_NONE = -1 };

/* A reload, as one instance sees it. */
struct flow_change {
    const void *conf;            /* the new settings, not yet at work; those that need a restart are as before */
    bool refused;                /* set by the module, with the reason in `text` */
    struct error text;           /* else what besides settings changes ("model A → B"); may stay empty */
};

struct flow {
    enum flow_kind kind;
    struct partition *partition; /* OPEN, START, CLOSED */
    int32_t id;                  /* REOPEN */
    int64_t offset;              /* START */
    const struct erasure *erasure; /* ERASE, ERASED */
    struct flow_change *change;  /* PREPARE */
};

/* What the engine asks of `commit`. */
struct save_item {
    struct user *user;       /* only as an identity; its content may have moved on */
    struct str name;         /* the user's */
    const uint8_t *bytes;    /* the record */
    uint32_t len;
    int64_t idle_until_ms;   /* when it expires if nothing more comes */
};

struct commit_offset {
    int32_t partition;
    uint64_t generation;     /* the engine's: of the take-over that it belongs to */
    int64_t offset;
};

/* To a source: commit `offset` of `partition` as C. To a store: write the items; then `offset` is the W of `partition`.
 * To a transactional sink: make all that was handed over since the last commit visible together with `offsets` as C,
 * or nothing of it (`abort`). What runs hand over meanwhile belongs to the next transaction. When the answer is not ok,
 * everything since the last successful commit is void, later runs' outputs included; the engine starts over from
 * there. */
struct commit {
    struct partition *partition;
    int64_t offset;
    int64_t erase_offset;    /* store only: erase_done, to be kept beside W; -1 = none */
    struct save_item *items; /* [n], store only */
    uint32_t n;
    struct commit_offset *offsets; /* [offsets_n], transactional sink only; may be 0 */
    uint32_t offsets_n;
    bool abort;              /* transactional sink only; answered not ok */
};

struct module {
    const char *name;        /* "source_kafka" */
    const char *summary;     /* one sentence for `gaitd options` */
    enum stage stage;
    bool several;                  /* a sink of which a configuration may have more than one, as a list */
    /* Stands beside the module of this kind, in the same stage and behind it, whether the file names it or not: its
     * settings can then come and go by reload. NULL = alone. */
    const char *beside;
    const struct option *options;  /* ended by a row without name; may be NULL */
    size_t conf_size;
    const struct metric *metrics;  /* rows of its own, declared before open; may be NULL */
    const struct metric *shared_metrics; /* rows that it shares with other modules (a connection's); may be NULL */
    uint16_t record_version;       /* of its section; 0 without one */
    /* What it needs of Redis, separated by blanks: commands as an ACL names them ("script|load") and key patterns,
     * which begin with ':' and come behind the prefix (":{*}:*"). NULL = nothing. */
    const char *redis_needs;

    /* May block and allocate. -1 with a text. `check` is true when only the configuration is being tested: read the
     * files it names, but connect to nothing and write nothing. Sets self (and user_size, columns). */
    int (*open)(struct instance *in, bool check, struct error *err);
    /* One batch. Hot: does not wait, does not allocate on the heap per event, cannot fail. source: append up to
     * cap - n events. store: fetch b->loading[loading_from … loading_n). sink: hold b->ticket once for each output that
     * is on its way. */
    void (*run)(struct instance *in, struct batch *b);
    void (*flow)(struct instance *in, const struct flow *flow);
    /* source, store, transactional sink: begin; the answer is commit_done(). The struct and its items stay valid until
     * then. */
    void (*commit)(struct instance *in, struct commit *c);
    /* Describe the section in `user`, for reading and writing alike. NULL without a section. */
    void (*record)(struct instance *in, struct user *user, struct record_io *io);
    /* Accepts a half-opened instance. */
    void (*close)(struct instance *in);
};

/* ---- calls from modules to the engine ---------------------------------------------------------------------------- */
void engine_wake(struct engine *engine);                       /* there may be work: have a step run soon */
void instance_busy(struct instance *in, bool busy);            /* a busy sink holds back computing; nothing is lost */
/* Not ready (say why): the daemon is not ready either. Instances begin as ready. */
void instance_ready(struct instance *in, bool ready, const char *why);
struct partition *engine_partition(struct engine *engine, int32_t id); /* NULL when not ours */
struct instance *engine_instance(struct engine *engine, enum stage stage); /* the first of that stage, NULL when none */

/* Source: partitions come and go. `committed` is C, or OFFSET_NONE. */
void partition_assigned(struct engine *engine, int32_t id, int64_t committed);
void partition_revoked(struct engine *engine, int32_t id); /* finish it; FLOW_CLOSED tells when it is done */
void partition_lost(struct engine *engine, int32_t id);    /* somebody else has it already: drop, save nothing */
/* Source: how many partitions the whole input has, as soon as it is known, before partition_assigned(). The store
 * refuses another number than that of the records it holds, since users are then in other partitions. 0 = not known. */
void engine_input_partitions_set(struct engine *engine, int32_t partitions);
int32_t engine_input_partitions(const struct engine *engine);
/* What of the configuration makes records what they are, "NAME=VALUE" a line: two daemons of a group in which it
 * differs would make different ones. With `content` also which model and rules are at work (model=, rules=). The
 * caller frees it. */
char *engine_settings(struct engine *engine, bool content);
/* A file came to its end: drain and stop. Not `whole`: some of it could not be read, as the exit status will tell. */
void engine_input_ended(struct engine *engine, bool whole);
/* Forget `user` in `partition`: events of erased_ms or older are not contained in the record any more and are refused
 * from now on. `offset` is its place in the log of erasures, which the source reads from p->erase_next on; OFFSET_NONE
 * without one. Not from within `run`. False: too many under way, call again later. No batch is filled before all
 * erasures that were accepted have been applied, so a source that hands over the erasures it finds before it starts a
 * partition keeps a replay from bringing a user back even for a moment. */
bool engine_erase(struct engine *engine, int32_t partition, struct str user, int64_t erased_ms, int64_t offset);
/* Store: the answer to FLOW_OPEN; `saved` is W or OFFSET_NONE. */
void partition_opened(struct engine *engine, struct partition *p, int64_t fence, int64_t saved);
/* Store: somebody took the partition from us (fence refused). */
void partition_fenced(struct engine *engine, struct partition *p);

/* Store: the answer for each record of b->loading, exactly once, during run or later. `bytes` NULL: the store has
 * none. When the connection breaks the store asks again; it never gives up. */
void load_done(struct engine *engine, struct user *user, const uint8_t *bytes, size_t n);

/* The answer to commit: ok, or the engine tries again later with newer content. */
void commit_done(struct engine *engine, struct instance *in, struct commit *c, bool ok);

extern const struct module *const modules[]; /* modules.c: all of them in flow order, ended by NULL */

#endif
