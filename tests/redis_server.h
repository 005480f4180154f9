/* SPDX-License-Identifier: Apache-2.0 */
/* redis_server.h - a real redis-server for one test: a unix socket in a folder of its own, no TCP port. */
#ifndef REDIS_SERVER_H
#define REDIS_SERVER_H

#include "fake_engine.h"

#include <ev.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

struct redis_server {
    char folder[64], socket[96];
    pid_t pid;
    redisContext *client; /* the test's own connection */
    struct ev_loop *loop;
};

static inline bool redis_is_there(void)
{
    return system("command -v redis-server >/dev/null 2>&1") == 0;
}

static inline void server_connect(struct redis_server *s)
{
    for (int tries = 0; tries < 1000; tries++) {
        s->client = redisConnectUnix(s->socket);
        redisReply *pong = s->client->err ? NULL : redisCommand(s->client, "PING");
        bool up = pong && pong->type == REDIS_REPLY_STATUS;
        freeReplyObject(pong);
        if (up)
            return;
        redisFree(s->client);
        poll(NULL, 0, 10);
    }
    fail_msg("redis-server does not come up on %s", s->socket);
}

/* `settings` are further arguments ("--appendonly yes"), NULL = none. */
static inline void server_start(struct redis_server *s, const char *settings)
{
    char command[512];
    snprintf(command, sizeof command, "exec redis-server --port 0 --unixsocket %s --dir %s --save '' --logfile log %s",
             s->socket, s->folder, settings ? settings : "");
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that crashes leaves no server behind */
        execl("/bin/sh", "sh", "-c", command, NULL);
        _exit(127);
    }
    server_connect(s);
}

static inline void server_stop(struct redis_server *s)
{
    if (s->client)
        redisFree(s->client);
    s->client = NULL;
    if (s->pid > 0) {
        kill(s->pid, SIGKILL);
        waitpid(s->pid, NULL, 0);
    }
    s->pid = 0;
}

static inline struct redis_server *server_new(void)
{
    struct redis_server *s = calloc(1, sizeof *s);
    assert_non_null(s);
    signal(SIGPIPE, SIG_IGN); /* as the daemon does */
    fake_folder(s->folder);
    snprintf(s->socket, sizeof s->socket, "%s/redis", s->folder);
    s->loop = ev_loop_new(EVFLAG_AUTO);
    return s;
}

static inline void server_free(struct redis_server *s)
{
    server_stop(s);
    fake_folder_remove(s->folder);
    ev_loop_destroy(s->loop);
    free(s);
}

/* The answer to a command as text: strings as they are, numbers in decimal, "(nil)", lists joined by spaces. */
static inline void server_text(const redisReply *reply, char *out, size_t cap)
{
    if (reply->type == REDIS_REPLY_ARRAY) {
        for (size_t i = 0; i < reply->elements; i++) {
            if (i > 0)
                strncat(out, " ", cap - strlen(out) - 1);
            server_text(reply->element[i], out, cap);
        }
    } else if (reply->type == REDIS_REPLY_INTEGER) {
        size_t n = strlen(out);
        snprintf(out + n, cap - n, "%lld", reply->integer);
    } else {
        strncat(out, reply->type == REDIS_REPLY_NIL ? "(nil)" : reply->str, cap - strlen(out) - 1);
    }
}

static inline const char *server_say(struct redis_server *s, const char *format, ...)
{
    static char text[4096];
    va_list args;
    va_start(args, format);
    redisReply *reply = redisvCommand(s->client, format, args);
    va_end(args);
    assert_non_null(reply);
    text[0] = '\0';
    server_text(reply, text, sizeof text);
    freeReplyObject(reply);
    return text;
}

static inline void server_pause_over(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop, (void)w, (void)events;
}

/* One turn of the loop, at most 5 ms long, and a tick for the module. */
static inline void server_turn(struct redis_server *s, struct engine *e)
{
    ev_timer timer;
    ev_timer_init(&timer, server_pause_over, 0.005, 0);
    ev_timer_start(s->loop, &timer);
    ev_run(s->loop, EVRUN_ONCE);
    ev_timer_stop(s->loop, &timer);
    fake_flow(e, FLOW_TICK, NULL, 0);
}

/* Wait for a condition, at most 10 seconds. */
#define server_until(s, e, condition)                                    \
    do {                                                                 \
        uint64_t until_ns = clock_system.mono_ns(NULL) + 10000000000ULL; \
        while (!(condition)) {                                           \
            if (clock_system.mono_ns(NULL) > until_ns)                   \
                fail_msg("waited in vain for %s", #condition);           \
            server_turn(s, e);                                           \
        }                                                                \
    } while (0)

#endif
