// SPDX-License-Identifier: Apache-2.0
// store_redis.c - user records in Redis or Valkey: a checkpoint that can be trusted after any crash.
//
// Load and save stage of the flow. Keys ({p} keeps a partition's keys together):
//   PREFIX:{p}:fence     who may write: larger at each take-over
//   PREFIX:{p}:at        W: every event below it is contained in the records
//   PREFIX:{p}:erased    the same for the log of erasures; absent without one
//   PREFIX:{p}:saves     counts the saves
//   PREFIX:{p}:u:USER    a record (user.h), with a time to live
//   PREFIX:meta          format of all this, number of partitions of the input topic; the settings of daemons at work
//
// Everything is compared inside of Redis, in the same atomic call that reads or writes: the fence must be ours, and
// neither W nor the count of saves (a save of a tombstone moves no W) may be below what we know to be saved. If one is,
// Redis has lost its tail (crash with everysec, fail-over, FLUSHALL) and clean records in our table may be newer than
// what it has: writing W on top would hide the loss for ever. So the partition is dropped and taken over anew from the
// W that Redis still has; the log refills what is missing. A missing fence is the same case. When the connection comes
// back, fences are renewed first: a call that the broken connection still has on its way to Redis can then do nothing
// any more.
#include "store_redis.h"

#include "gait/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static const struct str no_name = {0};

static const struct metric store_redis_metrics[] = {
    {"gait_load_seconds", METRIC_HISTOGRAM, NULL,
     "From a batch of records asked of Redis to their arrival, in seconds."},
    {"gait_store_fell_back_total", METRIC_COUNTER, NULL,
     "Times Redis turned out to have lost what it had acknowledged; the partition was taken over anew."},
    {NULL, 0, NULL, NULL},
};

/* W may already be further than this call says: then an earlier one was carried out whose answer we never saw. */
static const char save_text[] =
    COMPARE
    "for i = 5, #KEYS do redis.call('SET', KEYS[i], ARGV[2 * i - 4], 'PX', ARGV[2 * i - 3]) end "
    "if (tonumber(now[2]) or -1) < tonumber(ARGV[4]) then redis.call('SET', KEYS[2], ARGV[4]) end "
    "if (tonumber(redis.call('GET', KEYS[4])) or -1) < tonumber(ARGV[5]) then redis.call('SET', KEYS[4], ARGV[5]) end "
    "return {1, redis.call('INCR', KEYS[3])}";

void store_begin_compared(struct store_redis *s, int script, const struct partition *p, uint32_t more)
{
    redis_begin_script(s->redis, script, (int)more + 3);
    redis_add_key(s->redis, p->id, "fence", no_name);
    redis_add_key(s->redis, p->id, "at", no_name);
    redis_add_key(s->redis, p->id, "saves", no_name);
}

void store_add_compared(struct store_redis *s, const struct partition *p)
{
    redis_add_text(s->redis, "%lld", (long long)p->fence);
    redis_add_text(s->redis, "%lld", (long long)p->saved_next);
    redis_add_text(s->redis, "%lld", (long long)p->saves);
}

int64_t store_number(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING ? strtoll(reply->str, NULL, 10) : OFFSET_NONE;
}

/* ---- partitions ------------------------------------------------------------------------------------------------- */

struct place *store_place(const struct store_redis *s, int32_t id)
{
    struct place *place = s->places;
    while (place && place->partition->id != id)
        place = place->next;
    return place;
}

/* Redis does not have what it should have. The engine drops the partition and asks for it anew. */
void store_lose(struct store_redis *s, struct partition *p, int answer)
{
    if (p->state == PARTITION_LOST)
        return;
    if (answer == ANSWER_FELL_BACK) {
        metric_add(s->fell_back, 1);
        log_error(s->in->name,
                  "partition %d: Redis has lost what it had acknowledged (restart, fail-over or FLUSHALL): "
                  "taking the partition over anew; the log refills what is missing", p->id);
    }
    partition_fenced(s->in->engine, p);
}

/* ---- save ------------------------------------------------------------------------------------------------------- */

static void on_save(void *owner, void *of, enum redis_result result, const redisReply *reply)
{
    struct store_redis *s = owner;
    struct commit *c = of;
    if (s->closing)
        return;
    int64_t answer = 0;
    if (result == REDIS_DONE) {
        assert(reply->type == REDIS_REPLY_ARRAY && reply->elements >= 1);
        answer = reply->element[0]->integer;
    }
    if (answer == ANSWER_OK)
        c->partition->saves = reply->element[1]->integer;
    if (answer == ANSWER_FENCED || answer == ANSWER_FELL_BACK)
        store_lose(s, c->partition, (int)answer);
    commit_done(s->in->engine, s->in, c, answer == ANSWER_OK);
}

void store_send_save(struct store_redis *s, struct commit *c)
{
    const struct partition *p = c->partition;
    int64_t now = clock_wall_ms(s->in->clock);
    store_begin_compared(s, s->script_save, p, c->n + 1);
    redis_add_key(s->redis, p->id, "erased", no_name);
    for (uint32_t i = 0; i < c->n; i++)
        redis_add_key(s->redis, p->id, "u:", c->items[i].name);
    store_add_compared(s, p);
    redis_add_text(s->redis, "%lld", (long long)c->offset);
    redis_add_text(s->redis, "%lld", (long long)c->erase_offset);
    for (uint32_t i = 0; i < c->n; i++) {
        int64_t left = c->items[i].idle_until_ms - now;
        redis_add(s->redis, c->items[i].bytes, c->items[i].len);
        redis_add_text(s->redis, "%lld", left > 0 ? (long long)left : 1LL);
    }
    redis_send(s->redis, on_save, c);
}

static void commit(struct instance *in, struct commit *c)
{
    struct store_redis *s = in->self;
    struct place *place = store_place(s, c->partition->id);
    assert(place && place->partition == c->partition);
    if (!redis_up(s->redis)) {
        commit_done(in->engine, in, c, false);
    } else if (place->renewing) {
        assert(!place->held);
        place->held = c;
    } else {
        store_send_save(s, c);
    }
}

void store_release_held(struct store_redis *s, struct place *place, bool send)
{
    struct commit *c = place->held;
    place->held = NULL;
    if (c && send)
        store_send_save(s, c);
    else if (c && !s->closing)
        commit_done(s->in->engine, s->in, c, false);
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static void flow(struct instance *in, const struct flow *f)
{
    struct store_redis *s = in->self;
    if (f->kind == FLOW_OPEN)
        store_open(s, f->partition);
    else if (f->kind == FLOW_CLOSED)
        store_close(s, f->partition);
    if (f->kind != FLOW_TICK)
        return;
    redis_tick(s->redis);
    store_open_tick(s);
    store_group_tick(s);
    store_send_loads(s);
}

static void run(struct instance *in, struct batch *b)
{
    store_load(in->self, b);
}

static int open_store(struct instance *in, bool check, struct error *err)
{
    struct store_redis *s = calloc(1, sizeof *s);
    assert(s);
    (void)err;
    in->self = s;
    s->in = in;
    s->conf = in->conf;
    s->waiting_end = &s->waiting;
    s->load_time = metric_cell(in->metrics, "gait_load_seconds", NULL);
    s->fell_back = metric_cell(in->metrics, "gait_store_fell_back_total", NULL);
    if (check)
        return 0;
    store_group_open(s);
    s->redis = redis_create(in, &s->conf->redis, &(struct redis_owner){.self = s, .up = store_came_up});
    store_open_scripts(s);
    s->script_save = redis_script(s->redis, save_text);
    return 0;
}

static void close_store(struct instance *in)
{
    struct store_redis *s = in->self;
    if (!s)
        return;
    s->closing = true;
    if (s->redis)
        store_group_leave(s);
    redis_destroy(&s->redis);
    store_open_end(s);
    store_load_end(s);
    free(s);
    in->self = NULL;
}

static const char *const others_choices[] = {[OTHERS_REFUSE] = "refuse", [OTHERS_ALLOW] = "allow", NULL};

static const struct option store_redis_options[] = {
    REDIS_OPTIONS(struct store_redis_conf, redis),
    {.name = "other_settings", .type = OPTION_ENUM, .offset = offsetof(struct store_redis_conf, other_settings),
     .initial = "refuse", .choices = others_choices,
     .help = "What to do when another daemon on these records reads events, keeps windows or rule state, or (at our "
             "start) has a model or rules other than ours. refuse: take no partition over while it runs. allow: go on, "
             "for a change that is rolled out daemon by daemon; records are then made partly by the old settings."},
    {.name = NULL},
};

const struct module store_redis = {
    .name = "store_redis",
    .summary = "Keeps user records in Redis or Valkey, guarded by a fence against processes that lost a partition.",
    .stage = STAGE_STORE,
    .options = store_redis_options,
    .conf_size = sizeof(struct store_redis_conf),
    .metrics = store_redis_metrics,
    .shared_metrics = redis_metrics,
    .redis_needs = REDIS_NEEDS " get set mget hset hsetnx hmget hgetall hdel incr"
                   " :{*}:fence :{*}:at :{*}:erased :{*}:saves :{*}:u:* :meta",
    .open = open_store,
    .run = run,
    .flow = flow,
    .commit = commit,
    .close = close_store,
};
