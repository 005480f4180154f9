/* SPDX-License-Identifier: Apache-2.0 */
/* store_redis.h - the inside of store_redis: store_redis.c (keys, save, the module), store_redis_open.c (taking
 * partitions over, renewing fences), store_redis_group.c (whether the group's other daemons have the same settings),
 * store_redis_load.c (fetching records). */
#ifndef GAIT_STORE_REDIS_H
#define GAIT_STORE_REDIS_H

#include "redis.h"

enum { LOAD_USERS = 128, STORE_FORMAT = 1 };

/* What renew and save answer. */
enum { ANSWER_OK = 1, ANSWER_FENCED = 2, ANSWER_FELL_BACK = 3 };

enum { OTHERS_REFUSE, OTHERS_ALLOW };

struct store_redis_conf {
    struct redis_conf redis;
    int other_settings;
};

/* A partition that we have opened. */
struct place {
    struct place *next;
    struct partition *partition;
    bool renewing;          /* its fence has to be renewed: loads and saves wait */
    bool renew_in_flight;
    struct commit *held;    /* a save that came meanwhile */
    struct load *filling;   /* during run */
};

/* Up to LOAD_USERS records of one partition that are being fetched with one call. */
struct load {
    struct load *next;
    struct place *place;
    uint64_t begun_ns;
    uint32_t n;
    struct user *users[LOAD_USERS];
};

/* A take-over on its way. The partition may be gone when the answer comes, so it is named, not pointed at. */
struct opening {
    struct opening *next;
    int32_t id;
    uint64_t generation, retry_at_ms;
    bool in_flight;
};

struct store_redis {
    struct instance *in;
    const struct store_redis_conf *conf;
    struct redis *redis;
    struct place *places;
    struct load *waiting, **waiting_end; /* in order of asking */
    struct load *free;
    struct opening *openings;
    size_t loads_in_flight;
    int script_meta, script_open, script_renew, script_save;
    bool closing;
    char why[512];
    char id[64];            /* of this life of this process */
    bool admitted;          /* has taken a partition over: model and rules may change under way from now on */
    uint64_t told_ms;       /* monotonic: when the settings were last written */
    struct metric_cell *load_time, *fell_back;
};

/* What renew and save begin with. KEYS: fence, W, saves. ARGV: our fence, and what we know to be saved: W, saves. */
#define COMPARE                                                                       \
    "local now = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3]) "                      \
    "if now[1] and now[1] ~= ARGV[1] then return {2, now[1]} end "                    \
    "if not now[1] or (tonumber(now[2]) or -1) < tonumber(ARGV[2]) "                  \
    "or (tonumber(now[3]) or 0) < tonumber(ARGV[3]) then return {3} end "


/* ---- store_redis.c ---- */
struct place *store_place(const struct store_redis *s, int32_t id); /* NULL when we have not opened it */
void store_lose(struct store_redis *s, struct partition *p, int answer); /* FENCED or FELL_BACK: the engine drops it */
void store_send_save(struct store_redis *s, struct commit *c);
void store_release_held(struct store_redis *s, struct place *place, bool send);
/* Begin `script` with the keys that it compares by, and room for `more` further ones; the values behind the keys. */
void store_begin_compared(struct store_redis *s, int script, const struct partition *p, uint32_t more);
void store_add_compared(struct store_redis *s, const struct partition *p);
int64_t store_number(const redisReply *reply); /* OFFSET_NONE when it is not there */

/* ---- store_redis_open.c ---- */
void store_open_scripts(struct store_redis *s);
void store_open(struct store_redis *s, const struct partition *p);
void store_close(struct store_redis *s, const struct partition *p);
void store_open_tick(struct store_redis *s);
void store_came_up(void *store);
void store_open_end(struct store_redis *s);

/* ---- store_redis_group.c ---- */
/* Key and arguments of the script behind `script_meta`: number of partitions, then who we are. */
extern const char store_meta_text[];
void store_group_open(struct store_redis *s);
void store_send_meta(struct store_redis *s, bool compare, redis_answer *answer, void *request);
bool store_group_fits(struct store_redis *s, const redisReply *reply); /* false: s->why says what differs */
void store_group_tick(struct store_redis *s);
void store_group_leave(struct store_redis *s);

/* ---- store_redis_load.c ---- */
void store_load(struct store_redis *s, struct batch *b);
void store_send_loads(struct store_redis *s); /* what waits, as far as it may be sent */
void store_load_end(struct store_redis *s);

#endif
