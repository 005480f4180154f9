// SPDX-License-Identifier: Apache-2.0
// admin_stream.c - /api/stream: server-sent events. The state once a second, the shop every five, alerts as they come.
//
// Each listener has a buffer of its own, bounded; a listener who does not read loses the connection, not others theirs.
// While a buffer is empty its connection is suspended, so that MHD does not ask again and again.
#include "admin_inside.h"

#include <stdlib.h>

enum { BUFFER_BYTES = 256 << 10, ALERTS_A_TICK = 50, TICKS_A_SECOND = 4, SHOP_S = 5 };

struct admin_stream {
    struct admin_stream *next;
    struct admin *admin;
    struct MHD_Connection *connection;
    bool suspended, ended;
    size_t from, n;                /* of buffer */
    char buffer[BUFFER_BYTES];
};

static void resume(struct admin_stream *s)
{
    if (!s->suspended)
        return;
    s->suspended = false;
    MHD_resume_connection(s->connection);
    admin_turn_soon(s->admin);
}

static ssize_t on_read(void *cls, uint64_t at, char *out, size_t max)
{
    struct admin_stream *s = cls;
    (void)at;
    if (s->from == s->n) {
        if (s->ended)
            return MHD_CONTENT_READER_END_OF_STREAM;
        s->suspended = true;
        MHD_suspend_connection(s->connection);
        return 0;
    }
    size_t n = s->n - s->from < max ? s->n - s->from : max;
    memcpy(out, s->buffer + s->from, n);
    s->from += n;
    if (s->from == s->n)
        s->from = s->n = 0;
    return (ssize_t)n;
}

static void on_free(void *cls)
{
    struct admin_stream *s = cls, **at = &s->admin->streams;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    s->admin->streams_n--;
    free(s);
}

/* "event: NAME\ndata: TEXT\n\n"; the text has no line break. */
static void push(struct admin_stream *s, const char *name, const char *text, size_t len)
{
    if (s->ended)
        return;
    if (s->from > 0) {
        memmove(s->buffer, s->buffer + s->from, s->n - s->from);
        s->n -= s->from;
        s->from = 0;
    }
    if (s->n + len + strlen(name) + 32 > BUFFER_BYTES) {
        s->ended = true;
        metric_add(s->admin->m_streams_dropped, 1);
        log_often(LOG_NOTICE, "admin", "a listener of /api/stream reads too slowly and is dropped");
    } else {
        s->n += (size_t)snprintf(s->buffer + s->n, BUFFER_BYTES - s->n, "event: %s\ndata: ", name);
        memcpy(s->buffer + s->n, text, len);
        s->n += len;
        memcpy(s->buffer + s->n, "\n\n", 2);
        s->n += 2;
    }
    resume(s);
}

static void push_json(struct admin *a, struct admin_stream *only, const char *name, json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(json);
    for (struct admin_stream *s = only ? only : a->streams; text && s; s = only ? NULL : s->next)
        push(s, name, text, strlen(text));
    free(text);
}

/* Of a flood of alerts the newest: each status says how many there were. */
static void push_alerts(struct admin *a)
{
    uint64_t newest = watch_alerts_newest(a->watch), kept = watch_alerts_kept(a->watch);
    uint64_t most = kept < ALERTS_A_TICK ? kept : ALERTS_A_TICK;
    uint64_t number = newest - a->alerts_sent > most ? newest - most : a->alerts_sent;
    struct watch_alert alert;
    a->alerts_sent = newest;
    while (number++ < newest) {
        bool there = watch_alert_at(a->watch, number, (struct str){0}, (struct str){0}, &alert);
        for (struct admin_stream *s = a->streams; there && s; s = s->next)
            push(s, "alert", alert.text.at, alert.text.len);
    }
}

void admin_streams_tick(struct admin *a)
{
    a->ticks++;
    if (!a->streams) {
        a->alerts_sent = watch_alerts_newest(a->watch);
        return;
    }
    push_alerts(a);
    if (a->ticks % TICKS_A_SECOND == 0)
        push_json(a, NULL, "status", admin_status_json(a));
    if (a->ticks % (TICKS_A_SECOND * SHOP_S) == 0)
        push_json(a, NULL, "shop", admin_shop_json(a));
}

static enum MHD_Result answer_stream(struct admin_request *r, struct admin_stream *s)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct admin_connection *c = info ? info->socket_context : NULL;
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16 << 10, on_read, s, on_free);
    if (!response) {
        on_free(s);
        return MHD_NO;
    }
    if (c)
        c->streaming = true;
    admin_headers(response, "text/event-stream");
    MHD_add_response_header(response, "X-Accel-Buffering", "no"); /* a proxy in between must not hold it back */
    r->answered = true;
    enum MHD_Result result = MHD_queue_response(r->connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

enum MHD_Result admin_get_stream(struct admin_request *r)
{
    struct admin *a = r->admin;
    metric_add(metric_cell(a->engine->metrics, "gait_admin_requests_total", "/api/stream"), 1);
    if (r->head)
        return admin_answer_static(r, "text/event-stream", "", 0);
    if (a->streams_n >= a->conf->streams) {
        admin_deny(a, "connections");
        r->retry_after_s = 5;
        return admin_answer_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, "%u listeners are as many as admin.streams allows",
                                  a->streams_n);
    }
    struct admin_stream *s = malloc(sizeof *s);
    if (!s)
        return MHD_NO;
    memset(s, 0, offsetof(struct admin_stream, buffer));
    s->admin = a;
    s->connection = r->connection;
    s->next = a->streams;
    a->streams = s;
    a->streams_n++;
    push_json(a, s, "status", admin_status_json(a));
    push_json(a, s, "shop", admin_shop_json(a));
    return answer_stream(r, s);
}

void admin_streams_end(struct admin *a)
{
    for (struct admin_stream *s = a->streams; s; s = s->next) {
        s->ended = true;
        resume(s);
    }
    MHD_run(a->daemon); /* each says goodbye, if its socket takes it */
}
