// SPDX-License-Identifier: Apache-2.0
// sink_redis_queue.c - users wait here until `every_ms` has passed since their first unwritten event, then go to Redis,
// many in a call, with whatever is the latest then.
//
// Whoever writes a partition's hashes claims it first, under PREFIX:{p}:serving, with "FENCE:CONNECTION"; each call is
// carried out only while that claim stands. So a zombie (smaller fence) writes nothing, nor does what a broken
// connection still has on its way. A call that fails puts its users back, to be written with the values of then.
#include "sink_redis.h"

#include "gait/log.h"

#include <assert.h>
#include <stdlib.h>

enum { CALLS_MAX = 64, SLICE_CALLS = 8, RETRY_MS = 500 };

static const struct str no_name = {0};

static uint64_t mono_ms(const struct sink_redis *s)
{
    return clock_mono_ns(s->in->clock) / 1000000;
}

/* ---- epochs: which saves wait ----------------------------------------------------------------------------------- */

static struct epoch *epoch_at(struct sink_redis *s, uint32_t number)
{
    return &s->epochs[number % EPOCHS_MAX];
}

static bool epoch_is_done(const struct epoch *epoch)
{
    return epoch->outstanding == 0;
}

/* In order only: a user of an older epoch may be written by a newer entry. */
static void retire_epochs(struct sink_redis *s)
{
    for (;;) {
        struct epoch *epoch = epoch_at(s, s->epoch_first);
        if (!epoch_is_done(epoch))
            return;
        for (uint32_t i = 0; i < epoch->tickets_n; i++)
            ticket_release_save(epoch->tickets[i], 1);
        epoch->tickets_n = 0;
        if (s->epoch_first == s->epoch_now)
            return;
        s->epoch_first++;
    }
}

/* When the ring is full (Redis has been away for long) the newest epoch goes on growing. */
static void next_epoch(struct sink_redis *s)
{
    if (epoch_at(s, s->epoch_now)->tickets_n > 0 && s->epoch_now - s->epoch_first < EPOCHS_MAX - 1)
        s->epoch_now++;
}

void queue_ticket(struct sink_redis *s, struct ticket *ticket)
{
    struct epoch *epoch = epoch_at(s, s->epoch_now);
    if (epoch->tickets_n == epoch->tickets_cap) {
        epoch->tickets_cap = epoch->tickets_cap ? epoch->tickets_cap * 2 : 16;
        epoch->tickets = realloc(epoch->tickets, epoch->tickets_cap * sizeof(struct ticket *));
        assert(epoch->tickets);
    }
    ticket_hold_save(ticket, 1);
    epoch->tickets[epoch->tickets_n++] = ticket;
}

/* ---- the queue -------------------------------------------------------------------------------------------------- */

struct place *queue_place(struct sink_redis *s, int32_t id)
{
    for (struct place *place = s->places; place; place = place->next)
        if (place->partition->id == id)
            return place;
    struct partition *p = engine_partition(s->in->engine, id);
    if (!p)
        return NULL;
    struct place *place = calloc(1, sizeof *place);
    assert(place);
    *place = (struct place){.next = s->places, .partition = p};
    s->places = place;
    return place;
}

static void push(struct sink_redis *s, struct place *place, struct user *user)
{
    user->serving_queued = true;
    user->serving_next = NULL;
    *(place->last ? &place->last->serving_next : &place->first) = user;
    place->last = user;
    s->queued++;
}

static struct user *pop(struct sink_redis *s, struct place *place)
{
    struct user *user = place->first;
    place->first = user->serving_next;
    if (!place->first)
        place->last = NULL;
    user->serving_next = NULL;
    user->serving_queued = false;
    s->queued--;
    return user;
}

/* The table must keep whoever is queued or in a call. */
void queue_user(struct sink_redis *s, struct place *place, struct user *user, int64_t now_ms)
{
    struct serving *serving = serving_of(s, user);
    if (user->serving_queued || place->refused)
        return;
    user->pins++;
    serving->queued_ms = now_ms;
    serving->epoch = s->epoch_now;
    epoch_at(s, s->epoch_now)->outstanding++;
    push(s, place, user);
}

static void let_go(struct sink_redis *s, struct user *user, uint32_t epoch)
{
    assert(user->pins > 0 && epoch_at(s, epoch)->outstanding > 0);
    user->pins--;
    epoch_at(s, epoch)->outstanding--;
}

static void drop_queue(struct sink_redis *s, struct place *place)
{
    while (place->first) {
        struct user *user = pop(s, place);
        let_go(s, user, serving_of(s, user)->epoch);
    }
}

/* Not written. If the user is queued again already, that entry now stands for both epochs: it takes the older one. */
static void put_back(struct sink_redis *s, struct place *place, struct user *user, uint32_t epoch)
{
    struct serving *serving = serving_of(s, user);
    if (place->refused) {
        let_go(s, user, epoch);
    } else if (user->serving_queued) {
        bool older = (int32_t)(epoch - serving->epoch) < 0;
        let_go(s, user, older ? serving->epoch : epoch);
        serving->epoch = older ? epoch : serving->epoch;
    } else {
        serving->epoch = epoch;
        serving->queued_ms = 0;
        push(s, place, user);
    }
}

/* ---- calls ------------------------------------------------------------------------------------------------------ */

static struct call *take_call(struct sink_redis *s, struct place *place)
{
    struct call *call = s->free;
    if (call)
        s->free = call->next;
    else
        call = malloc(sizeof *call);
    assert(call);
    call->place = place;
    call->n = 0;
    call->next = s->calls;
    s->calls = call;
    s->calls_n++;
    return call;
}

static void give_back_call(struct sink_redis *s, struct call *call)
{
    struct call **at = &s->calls;
    while (*at != call)
        at = &(*at)->next;
    *at = call->next;
    call->next = s->free;
    s->free = call;
    s->calls_n--;
}

static void on_write(void *owner, void *of, enum redis_result result, const redisReply *reply)
{
    struct sink_redis *s = owner;
    struct call *call = of;
    struct place *place = call->place;
    bool ok = result == REDIS_DONE && reply->type == REDIS_REPLY_INTEGER && reply->integer == 1;
    if (place && ok) {
        for (uint32_t i = 0; i < call->n; i++)
            let_go(s, call->users[i], call->epochs[i]);
        metric_add(s->written, call->n);
    } else if (place) {
        for (uint32_t i = 0; i < call->n; i++)
            put_back(s, place, call->users[i], call->epochs[i]);
        place->claimed = false;
        place->retry_ms = mono_ms(s) + (result == REDIS_LOST ? 0 : RETRY_MS);
    }
    give_back_call(s, call);
    if (!s->closing)
        retire_epochs(s);
}

/* `of` is the partition's id: the place may be gone. Only a newer fence than ours is a refusal. */
static void on_claim(void *owner, void *of, enum redis_result result, const redisReply *reply)
{
    struct sink_redis *s = owner;
    int32_t id = (int32_t)(intptr_t)of;
    if (result != REDIS_DONE || reply->type != REDIS_REPLY_STRING || s->closing)
        return; /* the writes behind it fail likewise and come back */
    for (struct place *place = s->places; place; place = place->next) {
        if (place->partition->id != id || strtoll(reply->str, NULL, 10) <= place->partition->fence)
            continue;
        log_often(LOG_WARNING, s->in->name, "partition %d: somebody with a newer fence writes its users' hashes; we no "
                  "longer do", id);
        metric_add(s->refused, 1);
        place->refused = true;
        drop_queue(s, place);
        retire_epochs(s);
    }
}

/* Returns the token in `token`. */
static int claim_token(const struct sink_redis *s, const struct place *place, char token[64])
{
    return snprintf(token, 64, "%lld:%llu", (long long)place->partition->fence, (unsigned long long)s->connections);
}

static void send_claim(struct sink_redis *s, struct place *place)
{
    char token[64];
    int n = claim_token(s, place, token);
    redis_begin_script(s->redis, s->script_claim, 1);
    redis_add_key(s->redis, place->partition->id, "serving", no_name);
    redis_add(s->redis, token, (size_t)n);
    redis_add_text(s->redis, "%lld", (long long)place->partition->fence);
    redis_send(s->redis, on_claim, (void *)(intptr_t)place->partition->id);
    place->claimed = true;
}

static void add_hash_key(struct sink_redis *s, const struct user *user, char *at)
{
    size_t prefix_n = strlen(s->conf->redis.prefix);
    memcpy(at, s->conf->redis.prefix, prefix_n);
    memcpy(at + prefix_n, ":user:", 6);
    memcpy(at + prefix_n + 6, user->name, user->name_len);
    redis_add(s->redis, at, prefix_n + 6 + user->name_len);
}

/* The first users of the queue into one call. KEYS: claim, hashes. ARGV: token, time, seconds to live, values. */
static void send_call(struct sink_redis *s, struct place *place, int64_t due_ms)
{
    struct call *call = take_call(s, place);
    if (!s->scratch)
        s->scratch = malloc(CALL_USERS * serving_text_max(s)); /* mostly never touched */
    assert(s->scratch);
    char token[64], *at = s->scratch;
    while (place->first && call->n < CALL_USERS && serving_of(s, place->first)->queued_ms <= due_ms) {
        struct user *user = pop(s, place);
        if (serving_of(s, user)->forgotten) {
            let_go(s, user, serving_of(s, user)->epoch);
            continue;
        }
        call->users[call->n] = user;
        call->epochs[call->n++] = serving_of(s, user)->epoch;
    }
    int64_t now_ms = clock_wall_ms(s->in->clock);
    int token_n = claim_token(s, place, token);
    redis_begin_script(s->redis, s->script_write, (int)call->n + 1);
    redis_add_key(s->redis, place->partition->id, "serving", no_name);
    for (uint32_t i = 0; i < call->n; i++) {
        add_hash_key(s, call->users[i], at);
        at += strlen(s->conf->redis.prefix) + 6 + call->users[i]->name_len;
    }
    redis_add(s->redis, token, (size_t)token_n);
    redis_add_text(s->redis, "%lld", (long long)now_ms);
    redis_add_text(s->redis, "%lld", (long long)(s->conf->ttl_ms / 1000));
    for (uint32_t i = 0; i < call->n; i++)
        at = serving_add(s, call->users[i], at, now_ms);
    redis_send(s->redis, on_write, call);
}

static void flush_place(struct sink_redis *s, struct place *place, int64_t due_ms, int *calls)
{
    while (place->first && *calls > 0 && s->calls_n < CALLS_MAX && redis_up(s->redis) &&
           serving_of(s, place->first)->queued_ms <= due_ms) {
        if (!place->claimed)
            send_claim(s, place);
        send_call(s, place, due_ms);
        (*calls)--;
    }
}

/* Called every few milliseconds: a slice each time, so that neither we nor Redis work in bursts. */
void queue_flush(struct sink_redis *s)
{
    uint64_t now = mono_ms(s);
    int64_t due = s->draining ? INT64_MAX : (int64_t)now - s->conf->every_ms;
    int calls = s->draining ? CALLS_MAX : SLICE_CALLS;
    next_epoch(s);
    for (struct place *place = s->places; place; place = place->next) {
        bool closing = place->partition->state == PARTITION_CLOSING;
        if (now >= place->retry_ms && place->partition->state != PARTITION_LOST)
            flush_place(s, place, closing ? INT64_MAX : due, &calls);
    }
    retire_epochs(s);
    metric_set(s->waiting, (double)s->queued);
}

void queue_came_up(void *sink)
{
    struct sink_redis *s = sink;
    s->connections++;
    for (struct place *place = s->places; place; place = place->next) {
        place->claimed = false;
        place->retry_ms = 0;
    }
}

/* ---- ends ------------------------------------------------------------------------------------------------------- */

void queue_close_partition(struct sink_redis *s, const struct partition *p)
{
    struct place **at = &s->places;
    while (*at && (*at)->partition != p)
        at = &(*at)->next;
    struct place *place = *at;
    if (!place)
        return;
    drop_queue(s, place);
    for (struct call *call = s->calls; call; call = call->next) {
        if (call->place != place)
            continue;
        for (uint32_t i = 0; i < call->n; i++)
            let_go(s, call->users[i], call->epochs[i]);
        call->place = NULL;
    }
    *at = place->next;
    free(place);
    retire_epochs(s);
}

/* After the connection is gone: nothing is in flight any more. */
void queue_destroy(struct sink_redis *s)
{
    while (s->places) {
        struct place *place = s->places;
        s->places = place->next;
        free(place);
    }
    while (s->free) {
        struct call *call = s->free;
        s->free = call->next;
        free(call);
    }
    for (uint32_t i = 0; i < EPOCHS_MAX; i++)
        free(s->epochs[i].tickets);
}
