// SPDX-License-Identifier: Apache-2.0
// store_redis_open.c - taking partitions over from Redis, and renewing their fences when the connection comes back.
#include "store_redis.h"

#include "gait/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { OPEN_RETRY_MS = 2000 };

static const struct str no_name = {0};

/* The new fence is larger than any that was ever given, even one that Redis has forgotten: it is at least the time. */
static const char open_text[] =
    "local old = redis.call('GET', KEYS[1]) "
    "local fence = math.max((tonumber(old) or 0) + 1, tonumber(ARGV[1])) "
    "local text = string.format('%.0f', fence) "
    "redis.call('SET', KEYS[1], text) "
    "return {text, redis.call('GET', KEYS[2]), redis.call('GET', KEYS[3]), redis.call('GET', KEYS[4])}";

static const char renew_text[] =
    COMPARE
    "redis.call('SET', KEYS[1], ARGV[4]) "
    "return {1, ARGV[4]}";

static void end_opening(struct store_redis *s, struct opening *opening)
{
    struct opening **at = &s->openings;
    while (*at != opening)
        at = &(*at)->next;
    *at = opening->next;
    free(opening);
}

/* The partition that is being opened; NULL when it is not wanted any more. */
static struct partition *wanted(const struct store_redis *s, const struct opening *opening)
{
    struct partition *p = engine_partition(s->in->engine, opening->id);
    return p && p->generation == opening->generation && p->state == PARTITION_OPENING ? p : NULL;
}

static void open_later(struct store_redis *s, struct opening *opening)
{
    opening->in_flight = false;
    opening->retry_at_ms = clock_mono_ns(s->in->clock) / 1000000 + OPEN_RETRY_MS;
}

static void on_open(void *owner, void *of, enum redis_result result, const redisReply *reply)
{
    struct store_redis *s = owner;
    struct opening *opening = of;
    struct partition *p = s->closing ? NULL : wanted(s, opening);
    if (result != REDIS_DONE && p) {
        open_later(s, opening);
        return;
    }
    end_opening(s, opening);
    if (!p)
        return;
    assert(reply->type == REDIS_REPLY_ARRAY && reply->elements == 4);
    struct place *place = calloc(1, sizeof *place);
    assert(place);
    *place = (struct place){.next = s->places, .partition = p};
    s->places = place;
    int64_t saves = store_number(reply->element[2]);
    p->saves = saves > 0 ? saves : 0;
    p->erase_saved = store_number(reply->element[3]);
    partition_opened(s->in->engine, p, store_number(reply->element[0]), store_number(reply->element[1]));
}

/* Another program's format, or a topic with another number of partitions: users would be looked for in the wrong
 * place. */
static bool meta_fits(struct store_redis *s, const redisReply *reply)
{
    int64_t format = store_number(reply->element[0]), partitions = store_number(reply->element[1]);
    int32_t ours = engine_input_partitions(s->in->engine);
    if (format != STORE_FORMAT)
        snprintf(s->why, sizeof s->why, "the records in Redis have format %lld, this gaitd knows %d",
                 (long long)format, STORE_FORMAT);
    else if (ours > 0 && partitions > 0 && partitions != ours)
        snprintf(s->why, sizeof s->why,
                 "the input topic has %d partitions, but the records in Redis (%s:meta) are of %lld: "
                 "users are in other partitions now; move the records to the new partitioning, or use another prefix",
                 ours, s->conf->redis.prefix, (long long)partitions);
    else if (store_group_fits(s, reply->element[2]))
        return true;
    log_often(LOG_ERROR, s->in->name, "refusing to read: %s", s->why);
    instance_ready(s->in, false, s->why);
    return false;
}

static void on_meta(void *owner, void *of, enum redis_result result, const redisReply *reply)
{
    struct store_redis *s = owner;
    struct opening *opening = of;
    struct partition *p = s->closing ? NULL : wanted(s, opening);
    if (!p) {
        end_opening(s, opening);
        return;
    }
    if (result != REDIS_DONE || !redis_up(s->redis) || !meta_fits(s, reply)) {
        open_later(s, opening);
        return;
    }
    instance_ready(s->in, true, NULL);
    s->admitted = true;
    store_begin_compared(s, s->script_open, p, 1);
    redis_add_key(s->redis, p->id, "erased", no_name);
    redis_add_text(s->redis, "%lld", (long long)clock_wall_ms(s->in->clock));
    redis_send(s->redis, on_open, opening);
}

static void send_openings(struct store_redis *s, bool all)
{
    uint64_t now = clock_mono_ns(s->in->clock) / 1000000;
    for (struct opening *o = s->openings; redis_up(s->redis) && o; o = o->next) {
        if (o->in_flight || (!all && now < o->retry_at_ms))
            continue;
        o->in_flight = true;
        store_send_meta(s, true, on_meta, o);
    }
}

void store_open(struct store_redis *s, const struct partition *p)
{
    struct opening *opening = calloc(1, sizeof *opening);
    assert(opening);
    *opening = (struct opening){.next = s->openings, .id = p->id, .generation = p->generation};
    s->openings = opening;
    send_openings(s, false);
}

void store_close(struct store_redis *s, const struct partition *p)
{
    for (struct place **at = &s->places; *at; at = &(*at)->next) {
        struct place *place = *at;
        if (place->partition != p)
            continue;
        assert(!place->held);
        *at = place->next;
        if (place->renew_in_flight)
            place->partition = NULL, place->next = NULL; /* the answer on its way frees it */
        else
            free(place);
        return;
    }
}

/* ---- coming back ------------------------------------------------------------------------------------------------ */

static void on_renew(void *owner, void *of, enum redis_result result, const redisReply *reply)
{
    struct store_redis *s = owner;
    struct place *place = of;
    struct partition *p = place->partition;
    if (!p) { /* closed meanwhile */
        free(place);
        return;
    }
    place->renew_in_flight = false;
    place->renewing = result != REDIS_DONE; /* tried again by the tick, or when the connection is back */
    int answer = 0;
    if (result == REDIS_DONE) {
        assert(reply->type == REDIS_REPLY_ARRAY && reply->elements >= 1);
        answer = (int)reply->element[0]->integer;
    }
    if (answer == ANSWER_OK)
        p->fence = store_number(reply->element[1]);
    else if (answer)
        store_lose(s, p, answer);
    store_release_held(s, place, answer == ANSWER_OK && redis_up(s->redis));
    if (!s->closing)
        store_send_loads(s);
}

static void renew(struct store_redis *s, struct place *place)
{
    const struct partition *p = place->partition;
    int64_t fence = clock_wall_ms(s->in->clock);
    place->renewing = place->renew_in_flight = true;
    store_begin_compared(s, s->script_renew, p, 0);
    store_add_compared(s, p);
    redis_add_text(s->redis, "%lld", (long long)(fence > p->fence ? fence : p->fence + 1));
    redis_send(s->redis, on_renew, place);
}

void store_came_up(void *self)
{
    struct store_redis *s = self;
    for (struct place *place = s->places; place && redis_up(s->redis); place = place->next)
        renew(s, place);
    send_openings(s, true);
}


void store_open_tick(struct store_redis *s)
{
    for (struct place *place = s->places; place; place = place->next) {
        if (place->renewing && !place->renew_in_flight && redis_up(s->redis))
            renew(s, place);
        if (place->partition->state == PARTITION_LOST)
            store_release_held(s, place, false);
    }
    send_openings(s, false);
}

void store_open_scripts(struct store_redis *s)
{
    s->script_meta = redis_script(s->redis, store_meta_text);
    s->script_open = redis_script(s->redis, open_text);
    s->script_renew = redis_script(s->redis, renew_text);
}

void store_open_end(struct store_redis *s)
{
    while (s->openings)
        end_opening(s, s->openings);
    while (s->places) {
        struct place *place = s->places;
        s->places = place->next;
        free(place);
    }
}
