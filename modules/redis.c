// SPDX-License-Identifier: Apache-2.0
// redis.c - the connection: its life, the greeting, time-outs, and the one place that reads Redis's error replies.
#include "redis.h"

#include "gait/log.h"

#include <assert.h>
#include <hiredis/adapters/libev.h>
#include <hiredis/async.h>
#include <stdio.h>
#include <stdlib.h>

enum { RETRY_FIRST_MS = 100, RETRY_MAX_MS = 3000, SHA_BYTES = 40, TEXT_FIRST = 64 << 10 };

enum redis_state { DOWN, CONNECTING, GREETING, UP };

struct request {
    struct request *next; /* in the free list */
    struct redis *redis;
    redis_answer *answer;
    void *of;
};

struct script {
    struct redis *redis;
    const char *text;        /* NULL = stands for AUTH and SELECT in the greeting */
    char sha[SHA_BYTES + 1];
};

/* The command being put together. Texts lie in one buffer that may move, so they are kept by offset till it is sent. */
struct command {
    const char **argv;
    size_t *lens, *text_at; /* text_at + 1 where argv is in `text`; 0 = borrowed */
    int argc, cap;
    char *text;
    size_t text_n, text_cap;
};

struct redis {
    struct instance *in;
    const struct redis_conf *conf;
    struct redis_owner owner;
    redisAsyncContext *context; /* NULL when DOWN */
    enum redis_state state;
    struct script scripts[REDIS_SCRIPTS_MAX], no_script;
    int scripts_n;
    unsigned greetings;         /* answers that the greeting still waits for */
    size_t in_flight;
    struct request *free;
    struct command command;
    uint64_t progress_ms;       /* the last answer, or the first request after a pause, or the connection's begin */
    uint64_t retry_at_ms, retry_ms;
    bool was_up, told_down, closing;
    char where[128];            /* for people: host:port or the socket */
    char why[256];
    struct metric_cell *connected, *reconnects, *errors[4], *waiting;
};

const struct metric redis_metrics[] = {
    {"gait_redis_connected", METRIC_GAUGE, "instance", "1 when the connection is up and the scripts are loaded."},
    {"gait_redis_connections_total", METRIC_COUNTER, "instance", "Connections that came up."},
    {"gait_redis_in_flight", METRIC_GAUGE, "instance", "Requests that have no answer yet."},
    {"gait_redis_errors_total", METRIC_COUNTER, "kind",
     "Requests without success: later (loading, out of memory, read-only …), refused, lost (connection broke)."},
    {NULL, 0, NULL, NULL},
};

static uint64_t mono_ms(const struct redis *r)
{
    return clock_mono_ns(r->in->clock) / 1000000;
}

/* ---- going down ------------------------------------------------------------------------------------------------- */

static void went_down(struct redis *r, const char *why)
{
    if (r->state == DOWN || r->closing)
        return;
    bool was_up = r->state == UP;
    r->state = DOWN;
    r->context = NULL;
    r->retry_ms = r->retry_ms ? r->retry_ms * 2 : RETRY_FIRST_MS;
    if (r->retry_ms > RETRY_MAX_MS)
        r->retry_ms = RETRY_MAX_MS;
    r->retry_at_ms = mono_ms(r) + r->retry_ms;
    metric_set(r->connected, 0);
    if (was_up || !r->told_down)
        log_warning(r->in->name, "%s Redis at %s: %s; trying again until it works",
                    was_up ? "lost" : "cannot reach", r->where, why);
    r->told_down = true;
    snprintf(r->why, sizeof r->why, "no connection to Redis at %s: %s", r->where, why);
    instance_ready(r->in, false, r->why);
}

/* Ends the connection; hiredis then answers what is in flight with "no reply", at the latest after this callback. */
static void hang_up(struct redis *r, const char *why)
{
    redisAsyncContext *context = r->context;
    if (!context)
        return;
    went_down(r, why);
    redisAsyncFree(context);
}

/* When hiredis ends it, the answers without reply come before this; whatever comes first turns the state. */
static void on_disconnect(const redisAsyncContext *context, int status)
{
    struct redis *r = context->data;
    if (context == r->context)
        went_down(r, status == REDIS_OK || !context->errstr ? "connection closed" : context->errstr);
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

/* Before Redis 7 an error inside of a script comes with other words in front. */
static bool says(const redisReply *reply, const char *word)
{
    if (strncmp(reply->str, "ERR Error running script", 24) == 0)
        return strstr(reply->str, word) != NULL;
    return strncmp(reply->str, word, strlen(word)) == 0;
}

/* `renew`: the connection leads to the wrong server, or the server has forgotten our scripts. */
static enum redis_result classify(const redisReply *reply, bool *renew)
{
    static const struct {
        const char *word;
        enum redis_result result;
        bool renew;
    } kinds[] = {
        {"LOADING", REDIS_LATER, true},    {"READONLY", REDIS_LATER, true},     {"NOSCRIPT", REDIS_LATER, true},
        {"OOM", REDIS_LATER, false},       {"BUSY", REDIS_LATER, false},        {"MISCONF", REDIS_LATER, false},
        {"MASTERDOWN", REDIS_LATER, true}, {"TRYAGAIN", REDIS_LATER, false},    {"CLUSTERDOWN", REDIS_LATER, false},
        {"NOREPLICAS", REDIS_LATER, false}, {"UNKILLABLE", REDIS_LATER, false},
        {"ERR max number of clients", REDIS_LATER, true},
    };
    *renew = false;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (says(reply, kinds[i].word)) {
            *renew = kinds[i].renew;
            return kinds[i].result;
        }
    }
    return REDIS_REFUSED; /* NOAUTH, NOPERM, WRONGPASS, MOVED, CROSSSLOT, WRONGTYPE, ERR … */
}

static void say_error(struct redis *r, enum redis_result result, const char *text)
{
    metric_add(r->errors[result], 1);
    if (strncmp(text, "MOVED", 5) == 0 || strncmp(text, "CROSSSLOT", 9) == 0)
        log_often(LOG_ERROR, r->in->name,
                  "Redis says \"%s\": this is a Redis Cluster, which hiredis 0.14 cannot follow; "
                  "name a single server or a proxy", text);
    else
        log_often(LOG_ERROR, r->in->name, "Redis says \"%s\"; %s", text,
                  result == REDIS_LATER ? "trying again" : "that needs a person");
}

static void on_reply(redisAsyncContext *context, void *at, void *of)
{
    const redisReply *reply = at;
    struct request *request = of;
    struct redis *r = request->redis;
    enum redis_result result = reply ? REDIS_DONE : REDIS_LOST;
    bool renew = false;
    char text[128] = "";
    assert(r->in_flight > 0);
    r->in_flight--;
    r->progress_ms = mono_ms(r);
    if (!reply) {
        metric_add(r->errors[REDIS_LOST], 1);
        if (context == r->context)
            went_down(r, context->errstr ? context->errstr : "connection closed");
    } else if (reply->type == REDIS_REPLY_ERROR) {
        result = classify(reply, &renew);
        snprintf(text, sizeof text, "%s", reply->str);
        say_error(r, result, text);
        reply = NULL;
    }
    redis_answer *answer = request->answer;
    of = request->of;
    request->next = r->free;
    r->free = request;
    answer(r->owner.self, of, result, reply);
    if (renew && context == r->context)
        hang_up(r, text);
}

/* ---- commands --------------------------------------------------------------------------------------------------- */

static void add_argument(struct command *c, const char *at, size_t n, size_t text_at)
{
    if (c->argc == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 64;
        c->argv = realloc(c->argv, (size_t)c->cap * sizeof *c->argv);
        c->lens = realloc(c->lens, (size_t)c->cap * sizeof *c->lens);
        c->text_at = realloc(c->text_at, (size_t)c->cap * sizeof *c->text_at);
        assert(c->argv && c->lens && c->text_at);
    }
    c->argv[c->argc] = at;
    c->lens[c->argc] = n;
    c->text_at[c->argc++] = text_at;
}

static char *text_room(struct command *c, size_t n)
{
    if (c->text_cap - c->text_n < n) {
        c->text_cap = c->text_cap * 2 + n + TEXT_FIRST;
        c->text = realloc(c->text, c->text_cap);
        assert(c->text);
    }
    return c->text + c->text_n;
}

void redis_begin(struct redis *r, const char *command)
{
    r->command.argc = 0;
    r->command.text_n = 0;
    redis_add(r, command, strlen(command));
}

void redis_begin_script(struct redis *r, int script, int keys)
{
    assert(script >= 0 && script < r->scripts_n);
    redis_begin(r, "EVALSHA");
    redis_add(r, r->scripts[script].sha, SHA_BYTES);
    redis_add_text(r, "%d", keys);
}

void redis_add(struct redis *r, const void *bytes, size_t n)
{
    add_argument(&r->command, bytes, n, 0);
}

void redis_add_text(struct redis *r, const char *format, ...)
{
    struct command *c = &r->command;
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(text_room(c, 64), 64, format, args);
    assert(n >= 0);
    if (n >= 64)
        vsnprintf(text_room(c, (size_t)n + 1), (size_t)n + 1, format, again);
    va_end(again);
    va_end(args);
    add_argument(c, NULL, (size_t)n, c->text_n + 1);
    c->text_n += (size_t)n;
}

void redis_add_key(struct redis *r, int32_t partition, const char *kind, struct str name)
{
    struct command *c = &r->command;
    size_t kind_n = strlen(kind), prefix_n = strlen(r->conf->prefix);
    size_t n = prefix_n + 2 + 11 + 2 + kind_n + name.len;
    char *begin = text_room(c, n + 1), *at = begin;
    memcpy(at, r->conf->prefix, prefix_n);
    at += prefix_n;
    at += sprintf(at, ":{%d}:", partition);
    memcpy(at, kind, kind_n);
    at += kind_n;
    if (name.len)
        memcpy(at, name.at, name.len);
    at += name.len;
    add_argument(c, NULL, (size_t)(at - begin), c->text_n + 1);
    c->text_n += (size_t)(at - begin);
}

static void send_command(struct redis *r, redis_answer *answer, void *of)
{
    struct command *c = &r->command;
    struct request *request = r->free;
    if (request)
        r->free = request->next;
    else
        request = malloc(sizeof *request);
    assert(request);
    *request = (struct request){.redis = r, .answer = answer, .of = of};
    for (int i = 0; i < c->argc; i++)
        if (c->text_at[i])
            c->argv[i] = c->text + c->text_at[i] - 1;
    if (r->in_flight == 0)
        r->progress_ms = mono_ms(r);
    int rc = redisAsyncCommandArgv(r->context, on_reply, request, c->argc, c->argv, c->lens);
    assert(rc == REDIS_OK); /* fails only for a connection that is being closed; ours is not */
    r->in_flight++;
}

void redis_send(struct redis *r, redis_answer *answer, void *request)
{
    assert(r->state == UP);
    send_command(r, answer, request);
}

/* ---- coming up -------------------------------------------------------------------------------------------------- */

static void came_up(struct redis *r)
{
    r->state = UP;
    r->retry_ms = 0;
    metric_set(r->connected, 1);
    metric_add(r->reconnects, 1);
    if (r->told_down || !r->was_up)
        log_notice(r->in->name, "connected to Redis at %s", r->where);
    r->told_down = false;
    r->was_up = true;
    instance_ready(r->in, true, NULL);
    r->owner.up(r->owner.self);
    engine_wake(r->in->engine);
}

static void on_greeting(void *owner, void *of, enum redis_result result, const redisReply *reply)
{
    struct script *script = of;
    struct redis *r = script->redis;
    (void)owner;
    if (r->state != GREETING)
        return;
    if (result == REDIS_DONE && script->text) {
        assert(reply->type == REDIS_REPLY_STRING && reply->len == SHA_BYTES);
        memcpy(script->sha, reply->str, SHA_BYTES);
    }
    if (result == REDIS_LATER || result == REDIS_REFUSED)
        hang_up(r, result == REDIS_LATER ? "it is not ready (loading, or out of memory)"
                                         : "it refuses user, password, database or scripts");
    else if (result == REDIS_DONE && --r->greetings == 0)
        came_up(r);
}

static void greet(struct redis *r, struct script *script)
{
    r->greetings++;
    send_command(r, on_greeting, script);
}

static void on_connect(const redisAsyncContext *context, int status)
{
    struct redis *r = context->data;
    if (context != r->context)
        return;
    if (status != REDIS_OK) {
        went_down(r, context->errstr ? context->errstr : "cannot connect");
        return;
    }
    r->state = GREETING;
    r->greetings = 0;
    if (r->conf->password) {
        redis_begin(r, "AUTH");
        if (r->conf->user)
            redis_add(r, r->conf->user, strlen(r->conf->user));
        redis_add(r, r->conf->password, strlen(r->conf->password));
        greet(r, &r->no_script);
    }
    redis_begin(r, "SELECT");
    redis_add_text(r, "%lld", (long long)r->conf->db);
    greet(r, &r->no_script);
    for (int i = 0; i < r->scripts_n; i++) {
        redis_begin(r, "SCRIPT");
        redis_add(r, "LOAD", 4);
        redis_add(r, r->scripts[i].text, strlen(r->scripts[i].text));
        greet(r, &r->scripts[i]);
    }
}

static void begin_connect(struct redis *r)
{
    const struct redis_conf *conf = r->conf;
    redisAsyncContext *context = conf->socket ? redisAsyncConnectUnix(conf->socket)
                                              : redisAsyncConnect(conf->host, (int)conf->port);
    assert(context);
    r->state = CONNECTING;
    r->context = context;
    r->progress_ms = mono_ms(r);
    context->data = r;
    if (context->err) {
        char why[128];
        snprintf(why, sizeof why, "%s", context->errstr);
        hang_up(r, why);
        return;
    }
    int rc = redisLibevAttach(r->in->loop, context);
    assert(rc == REDIS_OK);
    redisAsyncSetDisconnectCallback(context, on_disconnect);
    redisAsyncSetConnectCallback(context, on_connect);
}

void redis_tick(struct redis *r)
{
    uint64_t now = mono_ms(r);
    bool waits = r->state == CONNECTING || r->state == GREETING || r->in_flight > 0;
    if (r->context && waits && now > r->progress_ms + (uint64_t)r->conf->timeout_ms) {
        char why[64];
        snprintf(why, sizeof why, "no answer for %lld ms", (long long)r->conf->timeout_ms);
        hang_up(r, why);
    }
    if (r->state == DOWN && now >= r->retry_at_ms)
        begin_connect(r);
    metric_set(r->waiting, (double)r->in_flight);
}

bool redis_up(const struct redis *r)
{
    return r->state == UP;
}

/* ---- making and ending ------------------------------------------------------------------------------------------ */

int redis_script(struct redis *r, const char *text)
{
    assert(r->scripts_n < REDIS_SCRIPTS_MAX && r->state == DOWN);
    r->scripts[r->scripts_n] = (struct script){.redis = r, .text = text};
    return r->scripts_n++;
}

struct redis *redis_create(struct instance *in, const struct redis_conf *conf, const struct redis_owner *owner)
{
    static const char *const kinds[] = {[REDIS_LATER] = "later", [REDIS_REFUSED] = "refused", [REDIS_LOST] = "lost"};
    struct redis *r = calloc(1, sizeof *r);
    assert(r && in->loop);
    r->in = in;
    r->conf = conf;
    r->owner = *owner;
    r->no_script.redis = r;
    if (conf->socket)
        snprintf(r->where, sizeof r->where, "%s", conf->socket);
    else
        snprintf(r->where, sizeof r->where, "%s:%lld", conf->host, (long long)conf->port);
    r->connected = metric_cell(in->metrics, "gait_redis_connected", in->name);
    r->reconnects = metric_cell(in->metrics, "gait_redis_connections_total", in->name);
    r->waiting = metric_cell(in->metrics, "gait_redis_in_flight", in->name);
    for (int i = REDIS_LATER; i <= REDIS_LOST; i++)
        r->errors[i] = metric_cell(in->metrics, "gait_redis_errors_total", kinds[i]);
    instance_ready(in, false, "not connected to Redis yet");
    return r;
}

void redis_write_out(struct redis *r)
{
    int done = 0;
    for (int i = 0; r->state == UP && !done && i < 100; i++) /* a few bytes; the socket does not wait */
        if (redisBufferWrite(&r->context->c, &done) != REDIS_OK)
            return;
}

void redis_destroy(struct redis **redis)
{
    struct redis *r = *redis;
    if (!r)
        return;
    redisAsyncContext *context = r->context;
    r->closing = true;
    r->state = DOWN;
    r->context = NULL;
    if (context)
        redisAsyncFree(context);
    while (r->free) {
        struct request *request = r->free;
        r->free = request->next;
        free(request);
    }
    free(r->command.argv);
    free(r->command.lens);
    free(r->command.text_at);
    free(r->command.text);
    free(r);
    *redis = NULL;
}
