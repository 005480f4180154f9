/* SPDX-License-Identifier: Apache-2.0 */
/* sim_world.h - the data centre of the simulator: an input log, a consumer group, output topics and a Redis, all in
 * memory, all driven by one random number generator, so that a seed is a whole history.
 *
 *   sim.c          draws the faults, lets everybody take steps in random order, heals, compares
 *   sim_world.c    the servers: what the broker and Redis do with a request at the moment it reaches them
 *   sim_config.c   what a gaitd runs with, and reloads of it
 *   sim_modules.c  source, store and sink of the engine, speaking to those servers through queues
 *   oracle.c       what records and outputs must be, worked out naively from the log
 *   sim_compare.c  compares
 *
 * Each member (a gaitd) has one connection to each server. Requests are executed and answered in order; a broken
 * connection loses answers, or requests and answers, but never their order. */
#ifndef GAIT_SIM_WORLD_H
#define GAIT_SIM_WORLD_H

#include "../daemon/engine.h"

enum { PARTITIONS = 3, USERS = 12, ERASURES = 3, EVENTS_MAX = 160, MEMBERS = 3, REQUESTS_MAX = 4096,
      JOURNAL_MAX = 1 << 16 };

/* Mistakes that can be planted, to prove that the simulator finds them. */
enum bug {
    BUG_NONE,
    BUG_SKIP_FENCE,          /* the store writes whoever asks */
    BUG_SAVE_BEFORE_ACK,     /* outputs count as durable as soon as they are sent */
    BUG_FORGET_NEXT,         /* a record does not say which events it contains */
    BUG_W_TOO_FAR,           /* W is written a little ahead */
    BUG_RESUME_AT_C,         /* reading begins at the committed offset instead of W */
    BUG_DROP_TOMBSTONE,      /* an erased user's record is deleted instead of marked */
    BUG_IGNORE_TAIL_LOSS,    /* the store does not notice that acknowledged saves are gone */
    BUG_UNCOUNTED_SAVES,     /* … or does not when nothing but tombstones is gone */
    BUG_RECEIPT_TOO_EARLY,   /* the position in the log of erasures is saved before the receipt is out */
    BUG_KEEP_FENCE,          /* a new connection goes on with the old fence, though the old one may not be dead */
    BUG_COMMIT_POISONED,     /* a transaction with outputs of a lost partition is committed */
    BUG_RELOAD_FORGETS,      /* a module that was given a new configuration begins its users anew */
    BUGS
};
extern const char *const bug_names[BUGS];

struct bytes {
    uint8_t *at; /* NULL = none */
    size_t n;
};

struct log_event {
    uint32_t user;
    char text[360]; /* JSON */
};

/* A request to forget a user. The log of its partition holds no event before `offset` that is newer than erased_ms, and
 * goes on only when the receipt is there: what is to be contained afterwards does then not depend on who was faster. */
struct sim_erasure {
    uint32_t user;
    int32_t partition;
    int64_t offset, erased_ms;
    unsigned receipts[PARTITIONS];
};

/* A message in an output topic. `sum` is a hash of the JSON text. */
struct output {
    int32_t partition;
    int64_t offset;
    char kind;     /* 's'core, 'a'lert, 'd'ead letter, 'r'eceipt of an erasure */
    bool optional; /* oracle: may also be missing */
    uint64_t sum;
};

struct outputs {
    struct output *at;
    size_t n, cap;
};

enum request_kind {
    REQUEST_OPEN, REQUEST_RENEW, REQUEST_LOAD, REQUEST_SAVE, /* to Redis */
    REQUEST_OUTPUT, REQUEST_OFFSET, REQUEST_TRANSACTION, REQUEST_ASK, /* to the broker */
};

struct request {
    enum request_kind kind;
    bool executed, ok;
    int32_t partition;
    uint64_t generation;       /* the engine's, of the partition */
    uint64_t fence, new_fence; /* what the member holds; open, renew: what it wants */
    int64_t saved;             /* the W that the member knows to be saved */
    int64_t saves;             /* … and how many saves */
    int64_t offset;            /* W or C to write; W read; C read */
    int64_t erased;            /* how far the log of erasures was worked off, to write; read */
    uint32_t user;             /* load */
    struct user *record;       /* load */
    struct bytes bytes;        /* load: the answer */
    struct bytes *items;       /* save: [USERS], those to write have bytes */
    uint64_t number;           /* ask: which */
    uint64_t joined;           /* broker: the member's life in the group when it asked */
    struct commit *commit;
    struct output output;
    struct ticket *ticket;
    struct outputs outputs;    /* transaction */
    int64_t offsets[PARTITIONS]; /* transaction: C to write, -1 = leave */
    uint64_t assigned[PARTITIONS]; /* … of the assignments that the member knew of */
};

struct connection {
    struct request at[REQUESTS_MAX];
    size_t first, executed, end; /* answered ≤ executed ≤ asked, ever growing; modulo REQUESTS_MAX */
};

/* What sim_modules keeps of a partition that the member owns. */
struct held {
    bool mine;                 /* the group gave it to us, as far as we know */
    bool revoking;
    bool reading;
    int64_t position;
    int64_t erasures;          /* handed to the engine so far */
    int64_t erasures_first;    /* … before any click is read */
    uint64_t fence;
    uint64_t question;         /* of C; only the answer to the last one counts */
};

struct world;

struct member {
    struct world *world;
    int index;
    struct engine *engine;     /* NULL = dead */
    struct config *config;
    struct clock clock;
    bool awake;                /* the engine asked for a step */
    bool frozen;               /* SIGSTOP */
    uint64_t joined;           /* its life in the group, as it knows; behind the group's own: it is a zombie */
    uint64_t next_tick_ns;
    int batch_events;
    bool paused, draining;
    bool swapped;              /* a new configuration since the last batch */
    struct connection redis, broker;
    struct held held[PARTITIONS];
    struct outputs transaction; /* outputs since the last commit began */
};

/* One write, so that it can be taken back. */
struct undo {
    int32_t partition;
    int32_t user;              /* -1: fence, W and save number */
    struct bytes old;
    uint64_t old_fence;
    int64_t old_w, old_saves, old_erased;
};

struct world {
    uint64_t random;
    uint64_t now_ns;
    enum bug bug;
    bool exactly_once, verbose;
    uint64_t bug_used;

    struct log_event *log[PARTITIONS];
    int64_t log_n[PARTITIONS];      /* events there will be */
    int64_t log_end[PARTITIONS];    /* events there are by now */
    struct sim_erasure erasures[ERASURES];
    int64_t erasures_n, erasures_end; /* that there will be, that there are by now */
    bool healing;
    uint64_t reloads, refused_reloads;

    /* broker */
    int64_t committed[PARTITIONS];
    int owner[PARTITIONS];          /* member, -1 = in between */
    int target[PARTITIONS];
    uint64_t assigned[PARTITIONS];  /* counts the assignments: the generations of the group */
    uint64_t joined[MEMBERS];
    struct outputs outputs;

    /* Redis */
    struct bytes records[PARTITIONS][USERS];
    uint64_t fence[PARTITIONS];     /* 0 = no such key */
    int64_t w[PARTITIONS];
    int64_t saves[PARTITIONS], erased[PARTITIONS];
    uint64_t fences;                /* given so far: never the same twice */
    struct connection late;         /* saves of broken connections that Redis has still not read */
    struct undo *journal;
    size_t journal_n;

    struct member members[MEMBERS];
};

/* ---- sim_world.c ---- */
uint64_t world_random(struct world *w, uint64_t below);
bool world_chance(struct world *w, unsigned per_mille);
void world_say(const struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct bytes bytes_copy(const uint8_t *at, size_t n);
void world_output(struct world *w, const struct output *output);
void outputs_add(struct outputs *outputs, const struct output *output);
struct request *connection_ask(struct connection *c, enum request_kind kind);
bool is_zombie(const struct member *m);
/* The servers do the next request that has not been done; false when there is none. */
bool redis_execute(struct world *w, struct connection *c);
bool broker_execute(struct world *w, struct member *m);
void redis_lose_tail(struct world *w, size_t writes);
void redis_flush(struct world *w);
void request_free(struct request *r);
void connection_clear(struct connection *c);

/* ---- sim_modules.c ---- */
extern const struct module sim_source, sim_store, sim_sink, sim_chain;
struct sim_conf {
    struct member *member;
};
/* The next answer that is there goes to the engine; false when there is none. */
bool redis_answer(struct member *m);
bool broker_answer(struct member *m);
void redis_reset(struct member *m);  /* connection lost: open requests fail, or are asked again */
void broker_reset(struct member *m);
void source_assign(struct member *m, int32_t partition);
void source_revoke(struct member *m, int32_t partition);
void source_lost(struct member *m);
void source_feed(struct member *m);  /* erasures that are there go to the engine */
uint64_t output_sum(const char *text, size_t n);

/* ---- sim_config.c ---- */
struct sim_settings {
    int batch_events, table_kb;
    int save_ms, commit_ms, epoch_ms; /* 0 = as usual */
    const char *model, *rules;        /* NULL = as usual */
};
/* Everything between source and sink is what a shop would run. */
struct config *sim_config(struct member *m, const struct sim_settings *settings);
void sim_reload(struct member *m);    /* between two steps */

/* ---- oracle.c ---- */
struct oracle {
    struct outputs outputs;
    struct bytes records[PARTITIONS][USERS];
};
void oracle_work_out(struct oracle *oracle, const struct world *w, bool erasures);
void oracle_free(struct oracle *oracle);

/* ---- sim_compare.c ---- */
const char *world_compare(struct world *w, char *text, size_t cap); /* NULL when all is right, else `text` */

#endif
