// SPDX-License-Identifier: Apache-2.0
// sink_redis_erase.c - the hash of a user who is erased goes before the tombstone is saved, so before the receipt.
//
// Only a hash whose latest event is not newer than the erasure is deleted: the request comes to every partition, and
// the user may be back already in the one that is theirs. So it needs no claim either: whoever does it, and however
// often, does what is asked for.
#include "sink_redis.h"

#include "gait/log.h"

#include <assert.h>
#include <stdlib.h>

enum { ERASE_RETRY_MS = 500 };

const char sink_redis_erase_text[] =
    "local ts = tonumber(redis.call('HGET', KEYS[1], 'event_ts') or '') "
    "if not ts or ts <= tonumber(ARGV[1]) then return redis.call('DEL', KEYS[1]) end "
    "return 0";

/* A hash that has to go. */
struct gone {
    struct gone *next;
    struct ticket *ticket;
    int64_t erased_ms;
    uint64_t retry_ms;
    bool in_flight;
    size_t key_n;
    char key[];
};

static void on_gone(void *owner, void *of, enum redis_result result, const redisReply *reply)
{
    struct sink_redis *s = owner;
    struct gone *gone = of;
    (void)reply;
    gone->in_flight = false;
    if (result != REDIS_DONE) {
        gone->retry_ms = clock_mono_ns(s->in->clock) / 1000000 + (result == REDIS_LOST ? 0 : ERASE_RETRY_MS);
        return;
    }
    struct gone **at = &s->gone;
    while (*at != gone)
        at = &(*at)->next;
    *at = gone->next;
    if (!s->closing)
        ticket_release_save(gone->ticket, 1);
    free(gone);
}

/* Behind whatever was sent before: a connection keeps the order. */
void erase_send(struct sink_redis *s)
{
    uint64_t now = clock_mono_ns(s->in->clock) / 1000000;
    for (struct gone *gone = s->gone, *next; gone && redis_up(s->redis); gone = next) {
        next = gone->next;
        if (gone->in_flight || now < gone->retry_ms)
            continue;
        gone->in_flight = true;
        redis_begin_script(s->redis, s->script_erase, 1);
        redis_add(s->redis, gone->key, gone->key_n);
        redis_add_text(s->redis, "%lld", (long long)gone->erased_ms);
        redis_send(s->redis, on_gone, gone);
    }
}

void erase_user(struct sink_redis *s, const struct erasure *erasure)
{
    size_t cap = strlen(s->conf->redis.prefix) + 6 + erasure->name.len + 1;
    struct gone *gone = calloc(1, sizeof *gone + cap);
    assert(gone);
    gone->ticket = erasure->ticket;
    gone->erased_ms = erasure->erased_ms;
    gone->key_n = (size_t)snprintf(gone->key, cap, "%s:user:", s->conf->redis.prefix);
    memcpy(gone->key + gone->key_n, erasure->name.at, erasure->name.len);
    gone->key_n += erasure->name.len;
    gone->next = s->gone;
    s->gone = gone;
    ticket_hold_save(erasure->ticket, 1);
    serving_forget(s, erasure->user, erasure->erased_ms);
    erase_send(s);
}

void erase_end(struct sink_redis *s)
{
    while (s->gone) {
        struct gone *gone = s->gone;
        s->gone = gone->next;
        free(gone);
    }
}
