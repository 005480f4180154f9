// SPDX-License-Identifier: Apache-2.0
// store_redis_load.c - fetching records: up to LOAD_USERS of one partition in a call, fence and W read along with them.
// A call without an answer is made again; no record is ever given up.
#include "store_redis.h"

#include <assert.h>
#include <stdlib.h>

enum { LOADS_IN_FLIGHT_MAX = 64 };

static const struct str no_name = {0};

static struct load *take_load(struct store_redis *s, struct place *place)
{
    struct load *load = s->free;
    if (load)
        s->free = load->next;
    else
        load = malloc(sizeof *load);
    assert(load);
    load->next = NULL;
    load->place = place;
    load->begun_ns = clock_mono_ns(s->in->clock);
    load->n = 0;
    return load;
}

static void give_back_load(struct store_redis *s, struct load *load)
{
    load->next = s->free;
    s->free = load;
}

/* Its events change nothing any more, but the batch has to come to its end. */
static void answer_nothing(struct store_redis *s, struct load *load)
{
    for (uint32_t i = 0; i < load->n; i++)
        load_done(s->in->engine, load->users[i], NULL, 0);
    give_back_load(s, load);
}

static void queue_load(struct store_redis *s, struct load *load)
{
    load->next = NULL;
    *s->waiting_end = load;
    s->waiting_end = &load->next;
}

static int compare(const struct partition *p, const redisReply *fence, const redisReply *at, const redisReply *saves)
{
    if (fence->type == REDIS_REPLY_STRING && store_number(fence) != p->fence)
        return ANSWER_FENCED;
    if (fence->type != REDIS_REPLY_STRING || store_number(at) < p->saved_next)
        return ANSWER_FELL_BACK;
    return p->saves > 0 && store_number(saves) < p->saves ? ANSWER_FELL_BACK : ANSWER_OK;
}

static void on_load(void *owner, void *of, enum redis_result result, const redisReply *reply)
{
    struct store_redis *s = owner;
    struct load *load = of;
    struct partition *p = load->place->partition;
    s->loads_in_flight--;
    if (result != REDIS_DONE) {
        queue_load(s, load); /* asked again when Redis is back, or by the tick */
        return;
    }
    assert(reply->type == REDIS_REPLY_ARRAY && reply->elements == load->n + 3);
    int answer = compare(p, reply->element[0], reply->element[1], reply->element[2]);
    if (answer != ANSWER_OK)
        store_lose(s, p, answer);
    if (p->state == PARTITION_LOST) {
        answer_nothing(s, load);
    } else {
        for (uint32_t i = 0; i < load->n; i++) {
            const redisReply *record = reply->element[i + 3];
            bool found = record->type == REDIS_REPLY_STRING;
            load_done(s->in->engine, load->users[i], found ? (const uint8_t *)record->str : NULL,
                      found ? (size_t)record->len : 0);
        }
        metric_observe_ns(s->load_time, clock_mono_ns(s->in->clock) - load->begun_ns, 1);
        give_back_load(s, load);
    }
    store_send_loads(s);
}

static void send_load(struct store_redis *s, struct load *load)
{
    int32_t id = load->place->partition->id;
    redis_begin(s->redis, "MGET");
    redis_add_key(s->redis, id, "fence", no_name);
    redis_add_key(s->redis, id, "at", no_name);
    redis_add_key(s->redis, id, "saves", no_name);
    for (uint32_t i = 0; i < load->n; i++)
        redis_add_key(s->redis, id, "u:", (struct str){load->users[i]->name, load->users[i]->name_len});
    s->loads_in_flight++;
    redis_send(s->redis, on_load, load);
}

void store_send_loads(struct store_redis *s)
{
    struct load *load = s->waiting, *next;
    s->waiting = NULL;
    s->waiting_end = &s->waiting;
    for (; load; load = next) {
        next = load->next;
        if (load->place->partition->state == PARTITION_LOST)
            answer_nothing(s, load);
        else if (redis_up(s->redis) && !load->place->renewing && s->loads_in_flight < LOADS_IN_FLIGHT_MAX)
            send_load(s, load);
        else
            queue_load(s, load);
    }
}

void store_load(struct store_redis *s, struct batch *b)
{
    struct place *place = NULL;
    for (uint32_t i = b->loading_from; i < b->loading_n; i++) {
        struct user *user = b->loading[i];
        if (!place || place->partition->id != user->partition)
            place = store_place(s, user->partition);
        assert(place); /* the engine fetches only for what we have opened */
        if (!place->filling)
            place->filling = take_load(s, place);
        place->filling->users[place->filling->n++] = user;
        if (place->filling->n == LOAD_USERS) {
            queue_load(s, place->filling);
            place->filling = NULL;
        }
    }
    for (place = s->places; place; place = place->next) {
        if (place->filling)
            queue_load(s, place->filling);
        place->filling = NULL;
    }
    store_send_loads(s);
}

static void free_list(struct load *load)
{
    while (load) {
        struct load *next = load->next;
        free(load);
        load = next;
    }
}

void store_load_end(struct store_redis *s)
{
    free_list(s->waiting);
    free_list(s->free);
}
