// SPDX-License-Identifier: Apache-2.0
// fetch.c - see fetch.h. Redis is asked over a connection of this file's own, with the store's settings, by plain GETs;
// a store in memory has read its snapshot when it was opened and is asked like in the flow.
#include "fetch.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>

enum { PARTITIONS_MAX = 4096, MEMORY_PARTITIONS = 256 };

/* A setting of the store by its name in the file; NULL when it has none of that name. */
static const void *setting(const struct instance *store, const char *name)
{
    for (const struct option *o = store->module->options; o && o->name; o++)
        if (strcmp(o->name, name) == 0)
            return (const char *)store->conf + o->offset;
    return NULL;
}

static const char *setting_text(const struct instance *store, const char *name)
{
    const char *const *at = setting(store, name);
    return at ? *at : NULL;
}

static int64_t setting_number(const struct instance *store, const char *name)
{
    const int64_t *at = setting(store, name);
    return at ? *at : 0;
}

/* ---- records into the table ------------------------------------------------------------------------------------- */

struct found {
    struct user *user;
    bool unreadable;
    struct error why;
};

static bool is_newer(const struct found *f, const struct user *user)
{
    return !f->user || user->touched_ms > f->user->touched_ms;
}

static void keep(struct engine *e, struct found *f, struct user *user)
{
    bool there = user->next >= 0 || user->erased_ms != INT64_MIN;
    if (there && is_newer(f, user)) {
        if (f->user)
            users_remove(e->users, f->user);
        f->user = user;
    } else {
        users_remove(e->users, user);
    }
}

static void take_bytes(struct engine *e, struct found *f, int32_t partition, struct str name, const redisReply *reply)
{
    bool made;
    if (!reply || reply->type != REDIS_REPLY_STRING)
        return;
    struct user *user = users_get(e->users, partition, name, &made);
    assert(user && made); /* the table is empty but for one */
    int result = record_decode(e, user, (const uint8_t *)reply->str, reply->len, &f->why);
    user->state = USER_READY;
    f->unreadable |= result < 0;
    if (result < 0)
        users_remove(e->users, user);
    else
        keep(e, f, user);
}

/* ---- Redis ------------------------------------------------------------------------------------------------------ */

static int ask(redisContext *c, redisReply **reply, struct error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static int ask(redisContext *c, redisReply **reply, struct error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    *reply = redisvCommand(c, format, args);
    va_end(args);
    if (*reply && (*reply)->type != REDIS_REPLY_ERROR)
        return 0;
    error_set(err, "Redis: %s", *reply ? (*reply)->str : c->errstr);
    freeReplyObject(*reply);
    *reply = NULL;
    return -1;
}

static redisContext *redis_open(const struct instance *store, struct error *err)
{
    const char *host = setting_text(store, "host"), *path = setting_text(store, "socket");
    int port = (int)setting_number(store, "port");
    int64_t ms = setting_number(store, "timeout_ms");
    struct timeval limit = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    redisContext *c = path ? redisConnectUnixWithTimeout(path, limit) : redisConnectWithTimeout(host, port, limit);
    assert(c);
    if (c->err) {
        error_set(err, "cannot reach Redis at %s: %s", path ? path : host, c->errstr);
        redisFree(c);
        return NULL;
    }
    redisSetTimeout(c, limit);
    const char *user = setting_text(store, "user"), *password = setting_text(store, "password");
    redisReply *reply = NULL;
    int result = 0;
    if (password) {
        result = user ? ask(c, &reply, err, "AUTH %s %s", user, password) : ask(c, &reply, err, "AUTH %s", password);
        freeReplyObject(reply);
    }
    if (result == 0 && setting_number(store, "db")) {
        result = ask(c, &reply, err, "SELECT %d", (int)setting_number(store, "db"));
        freeReplyObject(reply);
    }
    if (result == 0)
        return c;
    redisFree(c);
    return NULL;
}

/* As many as the store's description of itself says. HMGET, since the daemons' Redis user may do that, but not HGET. */
static int partitions_of(redisContext *c, const char *prefix, int64_t *partitions, struct error *err)
{
    redisReply *reply;
    if (ask(c, &reply, err, "HMGET %s:meta partitions", prefix) < 0)
        return -1;
    const redisReply *value = reply->type == REDIS_REPLY_ARRAY && reply->elements == 1 ? reply->element[0] : NULL;
    *partitions = value && value->type == REDIS_REPLY_STRING ? strtoll(value->str, NULL, 10) : 0;
    freeReplyObject(reply);
    if (*partitions < 1 || *partitions > PARTITIONS_MAX)
        *partitions = PARTITIONS_MAX; /* not said: an answer for a key that is not there is short */
    return 0;
}

static int from_redis(struct engine *e, struct found *f, struct str name, struct error *err)
{
    const char *prefix = setting_text(e->store, "prefix");
    redisContext *c = redis_open(e->store, err);
    int64_t partitions;
    int result = c ? partitions_of(c, prefix, &partitions, err) : -1;
    for (int32_t p = 0; result == 0 && p < partitions; p++)
        redisAppendCommand(c, "GET %s:{%d}:u:%b", prefix, p, name.at, (size_t)name.len);
    for (int32_t p = 0; result == 0 && p < partitions; p++) {
        redisReply *reply = NULL;
        if (redisGetReply(c, (void **)&reply) != REDIS_OK || reply->type == REDIS_REPLY_ERROR)
            result = error_set(err, "Redis: %s", reply ? reply->str : c->errstr);
        take_bytes(e, f, p, name, result == 0 ? reply : NULL);
        freeReplyObject(reply);
    }
    if (c)
        redisFree(c);
    return result;
}

/* ---- a store that answers at once ------------------------------------------------------------------------------- */

static void from_memory(struct engine *e, struct found *f, struct str name)
{
    for (int32_t p = 0; p < MEMORY_PARTITIONS; p++) {
        bool made;
        struct user *user = users_get(e->users, p, name, &made);
        struct batch_slot slot = {.engine = e};
        struct batch *b = &slot.batch;
        assert(user && made);
        b->loading = &user;
        b->loading_n = b->loads = 1;
        user->loading_for = b;
        e->store->module->run(e->store, b);
        assert(user->state == USER_READY);
        keep(e, f, user);
    }
}

struct user *fetch_user(struct engine *e, const struct config *config, struct str name, struct error *err)
{
    struct found f = {0};
    if (name.len > users_name_bytes(e->users)) {
        error_set(err, "a user id has at most %zu bytes", users_name_bytes(e->users));
        return NULL;
    }
    bool redis = setting(e->store, "prefix");
    if (redis && from_redis(e, &f, name, err) < 0)
        return NULL;
    if (!redis)
        from_memory(e, &f, name);
    if (f.user && f.user->next >= 0)
        return f.user;
    if (f.user)
        error_set(err, "user %.*s was erased", (int)name.len, name.at);
    else if (f.unreadable)
        error_set(err, "the record of user %.*s cannot be read: %s", (int)name.len, name.at, f.why.text);
    else
        error_set(err, "the store of %s has no record of user %.*s%s", config->name, (int)name.len, name.at,
                  redis || setting_text(e->store, "snapshot") ? ""
                                                              : "; store.memory keeps none without a snapshot");
    return NULL;
}
