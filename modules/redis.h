/* SPDX-License-Identifier: Apache-2.0 */
/* redis.h - one asynchronous connection to Redis or Valkey, shared code of store_redis and sink_redis.
 *
 *   DOWN ─(back-off over)─► CONNECTING ─► GREETING (auth, select, scripts) ─► UP ─(error, timeout, READONLY)─► DOWN
 *
 * The connection comes back by itself. Every request is answered exactly once: by Redis, or by REDIS_LOST when the
 * connection broke first, and then nobody knows whether Redis has carried it out. TLS is not here: hiredis 0.14 has
 * none; use a unix socket, a private network or stunnel. The same holds for Cluster redirections (-MOVED): refused. */
#ifndef GAIT_REDIS_H
#define GAIT_REDIS_H

#include "gait/module.h"

#include <hiredis/hiredis.h>

struct redis_conf {
    const char *host, *socket, *user, *password, *prefix;
    int64_t port, db, timeout_ms;
};

/* The option rows for a `struct redis_conf` that is `member` of `conf_type`. */
#define REDIS_OPTIONS(conf_type, member)                                                                              \
    {.name = "host", .type = OPTION_STRING, .offset = offsetof(conf_type, member.host), .initial = "127.0.0.1",       \
     .flags = OPTION_RESTART, .help = "Name or address of the Redis or Valkey server."},                              \
    {.name = "port", .type = OPTION_INT, .offset = offsetof(conf_type, member.port), .initial = "6379", .min = 1,     \
     .max = 65535, .flags = OPTION_RESTART, .help = "Its TCP port."},                                                 \
    {.name = "socket", .type = OPTION_STRING, .offset = offsetof(conf_type, member.socket), .flags = OPTION_RESTART,  \
     .help = "Path of its unix socket; used instead of host and port."},                                              \
    {.name = "user", .type = OPTION_STRING, .offset = offsetof(conf_type, member.user), .flags = OPTION_RESTART,      \
     .help = "ACL user; not set: the default user."},                                                                 \
    {.name = "password", .type = OPTION_STRING, .offset = offsetof(conf_type, member.password),                       \
     .flags = OPTION_RESTART | OPTION_SECRET, .help = "Its password."},                                               \
    {.name = "db", .type = OPTION_INT, .offset = offsetof(conf_type, member.db), .initial = "0", .min = 0, \
     .max = 65535, .flags = OPTION_RESTART, .help = "Number of the database."},                                       \
    {.name = "prefix", .type = OPTION_STRING, .offset = offsetof(conf_type, member.prefix), .initial = "gait",        \
     .flags = OPTION_RESTART, .help = "What every key begins with. Two groups on one Redis need two prefixes."},      \
    {.name = "timeout_ms", .type = OPTION_DURATION, .offset = offsetof(conf_type, member.timeout_ms), .initial = "5s",\
     .min = 100, .max = 600000,                                                                                       \
     .help = "Without any answer for so long the connection is closed and opened anew."}

/* What the connection itself needs, for struct module.redis_needs; AUTH is open to everybody. */
#define REDIS_NEEDS "select script|load evalsha"

enum redis_result {
    REDIS_DONE,    /* `reply` is the answer; never an error */
    REDIS_LATER,   /* Redis refuses for now: loading, out of memory, read-only, busy … the same may work later */
    REDIS_REFUSED, /* it will not work: no permission, moved to another node, wrong type */
    REDIS_LOST,    /* the connection broke before the answer came */
};

struct redis;

extern const struct metric redis_metrics[]; /* for struct module.shared_metrics */

/* `reply` is borrowed and NULL unless REDIS_DONE. */
typedef void redis_answer(void *owner, void *request, enum redis_result result, const redisReply *reply);

struct redis_owner {
    void *self;
    void (*up)(void *self); /* may send now; what was in flight before has been answered with REDIS_LOST */
};

enum { REDIS_SCRIPTS_MAX = 8 };

/* `conf` and the script texts are borrowed. Connects when the loop runs. */
struct redis *redis_create(struct instance *in, const struct redis_conf *conf, const struct redis_owner *owner);
void redis_destroy(struct redis **redis); /* requests in flight are answered with REDIS_LOST */
int redis_script(struct redis *redis, const char *text); /* before the first tick; its number for redis_begin_script */
void redis_tick(struct redis *redis);     /* every FLOW_TICK: time-outs, reconnection */
bool redis_up(const struct redis *redis);

/* Put a command together, then send it. Only while redis_up(). */
void redis_begin(struct redis *redis, const char *command);
void redis_begin_script(struct redis *redis, int script, int keys);
void redis_add(struct redis *redis, const void *bytes, size_t n);      /* borrowed until redis_send */
void redis_add_text(struct redis *redis, const char *format, ...) __attribute__((format(printf, 2, 3)));
void redis_add_key(struct redis *redis, int32_t partition, const char *kind, struct str name); /* PREFIX:{P}:KINDNAME */
void redis_send(struct redis *redis, redis_answer *answer, void *request);
void redis_write_out(struct redis *redis); /* at the end, when no loop runs any more: what was sent goes out */

#endif
