// SPDX-License-Identifier: Apache-2.0
// offline_redis.c - what the tools ask of Redis: records of a partition and the numbers beside them (store_redis.c has
// the keys). One synchronous connection.
#include "offline.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/time.h>

enum { SCAN_COUNT = 500 };

struct offline *offline_create(const struct offline_module *found, size_t n)
{
    struct offline *o = calloc(1, sizeof *o);
    assert(o);
    for (size_t i = 0; i < n; i++) {
        const char *name = found[i].module->name;
        if (strcmp(name, "source_kafka") == 0)
            o->source = found[i].conf;
        else if (strcmp(name, "sink_kafka") == 0)
            o->sink = found[i].conf;
        else if (strcmp(name, "store_redis") == 0)
            o->store = found[i].conf;
    }
    return o;
}

void offline_destroy(struct offline **offline)
{
    struct offline *o = *offline;
    if (!o)
        return;
    offline_kafka_end(o);
    if (o->redis)
        redisFree(o->redis);
    free(o);
    *offline = NULL;
}

/* ---- connection ------------------------------------------------------------------------------------------------ */

/* NULL with a text. The caller frees the answer. */
static redisReply *checked(struct offline *o, redisReply *reply, struct error *err)
{
    if (!reply) {
        error_set(err, "the connection to Redis broke: %s", o->redis->errstr);
    } else if (reply->type == REDIS_REPLY_ERROR) {
        error_set(err, "Redis says: %s", reply->str);
        freeReplyObject(reply);
        reply = NULL;
    }
    return reply;
}

static int greet(struct offline *o, struct error *err)
{
    const struct redis_conf *c = &o->store->redis;
    redisReply *reply = NULL;
    if (c->password && c->user)
        reply = redisCommand(o->redis, "AUTH %s %s", c->user, c->password);
    else if (c->password)
        reply = redisCommand(o->redis, "AUTH %s", c->password);
    if (c->password && !(reply = checked(o, reply, err)))
        return -1;
    if (reply)
        freeReplyObject(reply);
    reply = checked(o, redisCommand(o->redis, "SELECT %lld", (long long)c->db), err);
    if (reply)
        freeReplyObject(reply);
    return reply ? 0 : -1;
}

static int connected(struct offline *o, struct error *err)
{
    if (o->redis)
        return 0;
    if (!o->store)
        return error_set(err, "this needs store.redis in the configuration");
    const struct redis_conf *c = &o->store->redis;
    struct timeval wait = {.tv_sec = OFFLINE_WAIT_MS / 1000};
    o->redis = c->socket ? redisConnectUnixWithTimeout(c->socket, wait)
                         : redisConnectWithTimeout(c->host, (int)c->port, wait);
    assert(o->redis);
    if (o->redis->err) {
        error_set(err, "Redis at %s: %s", c->socket ? c->socket : c->host, o->redis->errstr);
        redisFree(o->redis);
        o->redis = NULL;
        return -1;
    }
    redisSetTimeout(o->redis, wait);
    return greet(o, err);
}

/* hiredis's own format: %s and %b are one argument each, spaces within them included. */
static redisReply *ask(struct offline *o, struct error *err, const char *format, ...)
{
    va_list arguments;
    if (connected(o, err) < 0)
        return NULL;
    va_start(arguments, format);
    redisReply *reply = redisvCommand(o->redis, format, arguments);
    va_end(arguments);
    return checked(o, reply, err);
}

static int done(redisReply *reply)
{
    if (!reply)
        return -1;
    freeReplyObject(reply);
    return 0;
}

/* PREFIX:{P}:KINDNAME, NUL-terminated. The caller frees it. */
static char *key_of(const struct offline *o, int32_t partition, const char *kind, struct str name, size_t *n)
{
    size_t cap = strlen(o->store->redis.prefix) + strlen(kind) + name.len + 32;
    char *key = malloc(cap);
    assert(key);
    *n = (size_t)snprintf(key, cap, "%s:{%d}:%s", o->store->redis.prefix, partition, kind);
    if (name.len)
        memcpy(key + *n, name.at, name.len);
    *n += name.len;
    key[*n] = 0;
    return key;
}

/* ---- the numbers of a partition -------------------------------------------------------------------------------- */

int offline_place(struct offline *o, int32_t p, struct offline_place *place, struct error *err)
{
    if (connected(o, err) < 0)
        return -1;
    const char *prefix = o->store->redis.prefix;
    redisReply *reply = ask(o, err, "MGET %s:{%d}:at %s:{%d}:erased", prefix, p, prefix, p);
    if (!reply)
        return -1;
    place->at = store_number(reply->element[0]);
    place->erased = store_number(reply->element[1]);
    freeReplyObject(reply);
    return 0;
}

/* The count of saves goes up, as with every change. */
static const char place_text[] =
    "local fence = math.max((tonumber(redis.call('GET', KEYS[1])) or 0) + 1, tonumber(ARGV[1])) "
    "redis.call('SET', KEYS[1], string.format('%.0f', fence)) "
    "for i = 2, 3 do "
    "if tonumber(ARGV[i]) < 0 then redis.call('DEL', KEYS[i]) else redis.call('SET', KEYS[i], ARGV[i]) end end "
    "redis.call('INCR', KEYS[4]) return 1";

int offline_place_set(struct offline *o, int32_t p, const struct offline_place *place, struct error *err)
{
    if (connected(o, err) < 0)
        return -1;
    const char *x = o->store->redis.prefix;
    return done(ask(o, err, "EVAL %s 4 %s:{%d}:fence %s:{%d}:at %s:{%d}:erased %s:{%d}:saves %lld %lld %lld",
                    place_text, x, p,
                    x, p, x, p, x, p, (long long)clock_wall_ms(&clock_system), (long long)place->at,
                                                                                (long long)place->erased));
}

int offline_meta(struct offline *o, int32_t *partitions, struct error *err)
{
    if (connected(o, err) < 0)
        return -1;
    redisReply *reply = ask(o, err, "HGET %s:meta partitions", o->store->redis.prefix);
    if (!reply)
        return -1;
    int64_t n = store_number(reply);
    *partitions = n > 0 ? (int32_t)n : 0;
    freeReplyObject(reply);
    return 0;
}

int offline_meta_set(struct offline *o, int32_t partitions, struct error *err)
{
    if (connected(o, err) < 0)
        return -1;
    return done(ask(o, err, "HSET %s:meta partitions %d", o->store->redis.prefix, partitions));
}

/* ---- records --------------------------------------------------------------------------------------------------- */

int offline_get(struct offline *o, int32_t p, struct str name, uint8_t **bytes, size_t *n, struct error *err)
{
    if (connected(o, err) < 0)
        return -1;
    size_t key_n;
    char *key = key_of(o, p, "u:", name, &key_n);
    redisReply *reply = ask(o, err, "GET %b", key, key_n);
    free(key);
    if (!reply)
        return -1;
    int found = reply->type == REDIS_REPLY_STRING;
    if (found) {
        *n = (size_t)reply->len;
        *bytes = malloc(*n ? *n : 1);
        assert(*bytes);
        memcpy(*bytes, reply->str, *n);
    }
    freeReplyObject(reply);
    return found;
}

int offline_put(struct offline *o, int32_t p, struct str name, const uint8_t *bytes, size_t n, int64_t ttl_ms,
                struct error *err)
{
    if (connected(o, err) < 0)
        return -1;
    size_t key_n;
    char *key = key_of(o, p, "u:", name, &key_n);
    redisReply *reply = ttl_ms > 0 ? ask(o, err, "SET %b %b PX %lld", key, key_n, bytes, n, (long long)ttl_ms)
                                   : ask(o, err, "SET %b %b", key, key_n, bytes, n);
    free(key);
    return done(reply);
}

int offline_delete(struct offline *o, int32_t p, struct str name, struct error *err)
{
    if (connected(o, err) < 0)
        return -1;
    size_t key_n;
    char *key = key_of(o, p, "u:", name, &key_n);
    redisReply *reply = ask(o, err, "DEL %b", key, key_n);
    free(key);
    return done(reply);
}

/* One answer to SCAN at a time: what is done with the name behind `head` bytes of each key. */
struct scan {
    struct offline *o;
    offline_record *each;      /* with the record … */
    offline_name *each_name;   /* … or only the name; one of the two */
    void *self;
    size_t head;
};

static int each_of(const struct scan *scan, const redisReply *keys, struct error *err)
{
    struct offline *o = scan->o;
    size_t head = scan->head;
    for (size_t i = 0; i < keys->elements; i++) {
        const redisReply *key = keys->element[i];
        struct str name = {key->str + head, (uint32_t)(key->len - head)};
        if (scan->each_name) {
            if (scan->each_name(scan->self, name, err) < 0)
                return -1;
            continue;
        }
        redisReply *value = ask(o, err, "GET %b", key->str, (size_t)key->len);
        redisReply *ttl = value ? ask(o, err, "PTTL %b", key->str, (size_t)key->len) : NULL;
        int rc = value && ttl ? 0 : -1;
        if (rc == 0 && value->type == REDIS_REPLY_STRING) /* else it has expired meanwhile */
            rc = scan->each(scan->self, name, (const uint8_t *)value->str, (size_t)value->len, ttl->integer, err);
        if (value)
            freeReplyObject(value);
        if (ttl)
            freeReplyObject(ttl);
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* What has a meaning in a pattern stands for itself. */
static size_t escape_pattern(const char *text, char *out)
{
    size_t n = 0;
    for (; *text; text++) {
        if (strchr("*?[]\\", *text))
            out[n++] = '\\';
        out[n++] = *text;
    }
    return n;
}

static int scan_keys(struct scan *scan, int32_t p, struct error *err)
{
    struct offline *o = scan->o;
    if (connected(o, err) < 0)
        return -1;
    size_t pattern_n;
    char cursor[32] = "0";
    char *key = key_of(o, p, "u:", (struct str){0}, &scan->head), *pattern = malloc(2 * scan->head + 2);
    assert(pattern);
    pattern_n = escape_pattern(key, pattern);
    pattern[pattern_n++] = '*';
    free(key);
    int rc = 0;
    do {
        redisReply *reply = ask(o, err, "SCAN %s MATCH %b COUNT %d", cursor, pattern, pattern_n, SCAN_COUNT);
        if (!reply) {
            rc = -1;
            break;
        }
        snprintf(cursor, sizeof cursor, "%s", reply->element[0]->str);
        rc = each_of(scan, reply->element[1], err);
        freeReplyObject(reply);
    } while (rc == 0 && strcmp(cursor, "0") != 0);
    free(pattern);
    return rc;
}

int offline_records(struct offline *o, int32_t p, offline_record *each, void *self, struct error *err)
{
    return scan_keys(&(struct scan){.o = o, .each = each, .self = self}, p, err);
}

int offline_names(struct offline *o, int32_t p, offline_name *each, void *self, struct error *err)
{
    return scan_keys(&(struct scan){.o = o, .each_name = each, .self = self}, p, err);
}
