// SPDX-License-Identifier: Apache-2.0
// sink_file.c - scores, alerts and dead letters as JSON lines in files, or on standard output.
//
// Last stage of the flow. Lines gather in one buffer for each file and are written in large pieces: when enough has
// gathered, at every tick, and after every batch while draining. A batch's ticket is held until its lines are written
// (with `fsync`, until the disk has them). A full disk or a slow reader makes the sink busy: nothing more is computed,
// nothing is lost, and writing is tried again at every tick. A file that was moved away is opened anew.
#include "gait/log.h"
#include "gait/module.h"
#include "gait/output.h"

#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum output_kind { OUTPUT_SCORES, OUTPUT_ALERTS, OUTPUT_DEAD, OUTPUTS };
static const char *const output_names[OUTPUTS] = {"scores", "alerts", "dead"};
enum { FLUSH_BYTES = 256 << 10, BUSY_BYTES = 1 << 20, BUFFER_FIRST = 512 << 10, BUFFER_MAX = 512 << 20 };

struct sink_file_conf {
    const char *paths[OUTPUTS];
    bool fsync;
};

struct output {
    const char *path;      /* NULL = not wanted */
    int fd;                /* -1 = not open */
    bool is_file, gone;    /* gone: a pipe without a reader */
    ev_io watcher;         /* of a pipe that was full */
    dev_t device;
    ino_t inode;
    char *buf;
    size_t from, to, cap;  /* [from, to) is not written yet */
    struct metric_cell *lines, *lost, *errors;
};

struct sink_file {
    struct instance *in;
    const struct sink_file_conf *conf;
    struct output outputs[OUTPUTS];
    struct ticket **tickets; /* held until all that is buffered is written */
    size_t tickets_n, tickets_cap;
    bool draining;
};

static const struct metric sink_file_metrics[] = {
    {"gait_sink_file_lines_total", METRIC_COUNTER, "output", "Lines handed to the file sink."},
    {"gait_sink_file_lost_total", METRIC_COUNTER, "output", "Lines that could not be kept: the pipe's reader is gone."},
    {"gait_sink_file_errors_total", METRIC_COUNTER, "output", "Failed writes; they are tried again."},
    {NULL, 0, NULL, NULL},
};

static void flush_all(struct sink_file *s);

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static int open_output(struct output *o)
{
    struct stat st;
    o->fd = strcmp(o->path, "-") == 0 ? STDOUT_FILENO
                                      : open(o->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0640);
    if (o->fd < 0 || fstat(o->fd, &st) < 0)
        return -1;
    o->is_file = S_ISREG(st.st_mode);
    o->device = st.st_dev;
    o->inode = st.st_ino;
    return 0;
}

static void close_output(struct sink_file *s, struct output *o)
{
    if (ev_is_active(&o->watcher))
        ev_io_stop(s->in->loop, &o->watcher);
    if (o->fd > STDOUT_FILENO)
        close(o->fd);
    o->fd = -1;
}

/* A pipe takes PIPE_BUF bytes without blocking whenever it says that it is writable; a file takes everything. */
static ssize_t write_some(const struct output *o)
{
    size_t n = o->to - o->from;
    if (!o->is_file) {
        struct pollfd p = {.fd = o->fd, .events = POLLOUT};
        if (poll(&p, 1, 0) == 0) {
            errno = EAGAIN;
            return -1;
        }
        if (n > PIPE_BUF)
            n = PIPE_BUF;
    }
    return write(o->fd, o->buf + o->from, n);
}

static void reader_gone(struct sink_file *s, struct output *o)
{
    log_error(s->in->name, "nobody reads %s any more: its lines are dropped and counted from now on", o->path);
    for (size_t i = o->from; i < o->to; i++)
        metric_add(o->lost, o->buf[i] == '\n');
    o->from = o->to;
    o->gone = true;
}

static void on_writable(struct ev_loop *loop, ev_io *w, int events)
{
    (void)events;
    ev_io_stop(loop, w);
    flush_all(w->data);
}

static void watch(struct sink_file *s, struct output *o)
{
    if (!s->in->loop || ev_is_active(&o->watcher))
        return;
    ev_io_set(&o->watcher, o->fd, EV_WRITE);
    ev_io_start(s->in->loop, &o->watcher);
}

/* True when nothing is left to be written. */
static bool flush_output(struct sink_file *s, struct output *o)
{
    if (o->from == o->to)
        return true;
    if (o->fd < 0 && open_output(o) < 0) {
        metric_add(o->errors, 1);
        log_often(LOG_ERROR, s->in->name, "cannot open %s: %m; trying again", o->path);
        return false;
    }
    while (o->from < o->to) {
        ssize_t n = write_some(o);
        if (n >= 0) {
            o->from += (size_t)n;
        } else if (errno == EPIPE) {
            reader_gone(s, o);
        } else if (errno == EAGAIN) {
            watch(s, o);
            return false;
        } else if (errno != EINTR) {
            metric_add(o->errors, 1);
            log_often(LOG_ERROR, s->in->name, "cannot write %s: %m; the flow waits, trying again", o->path);
            return false;
        }
    }
    if (s->conf->fsync && o->is_file && fdatasync(o->fd) < 0) {
        metric_add(o->errors, 1);
        log_often(LOG_ERROR, s->in->name, "cannot sync %s: %m", o->path);
    }
    o->from = o->to = 0;
    return true;
}

static void flush_all(struct sink_file *s)
{
    bool all = true;
    size_t waiting = 0;
    for (int i = 0; i < OUTPUTS; i++) {
        all = flush_output(s, &s->outputs[i]) && all;
        waiting += s->outputs[i].to - s->outputs[i].from;
    }
    for (size_t i = 0; all && i < s->tickets_n; i++)
        ticket_release(s->tickets[i], 1);
    if (all)
        s->tickets_n = 0;
    instance_busy(s->in, waiting > BUSY_BYTES);
}

/* ---- one batch -------------------------------------------------------------------------------------------------- */

static void make_room(struct output *o)
{
    if (o->from > 0) {
        memmove(o->buf, o->buf + o->from, o->to - o->from);
        o->to -= o->from;
        o->from = 0;
    }
    o->cap = o->cap ? o->cap * 2 : BUFFER_FIRST;
    o->buf = realloc(o->buf, o->cap);
    assert(o->buf);
}

/* `which` is an index into events (scores, dead letters) or alerts. The buffer grows until the line fits. */
static void add_line(struct output *o, enum output_kind kind, const struct batch *b, uint32_t which)
{
    metric_add(o->lines, 1);
    if (o->gone) {
        metric_add(o->lost, 1);
        return;
    }
    for (;;) {
        size_t room = o->cap - o->to, n = 0;
        if (room > 1 && kind == OUTPUT_SCORES)
            n = output_score(b, which, o->buf + o->to, room - 1);
        else if (room > 1 && kind == OUTPUT_ALERTS)
            n = output_alert(b, &b->alerts[which], o->buf + o->to, room - 1);
        else if (room > 1)
            n = output_dead(b, which, o->buf + o->to, room - 1);
        if (n > 0) {
            o->to += n;
            o->buf[o->to++] = '\n';
            return;
        }
        assert(o->cap < BUFFER_MAX); /* no event is that large */
        make_room(o);
    }
}

static void hold_ticket(struct sink_file *s, struct ticket *ticket)
{
    if (s->tickets_n == s->tickets_cap) {
        s->tickets_cap = s->tickets_cap ? s->tickets_cap * 2 : 64;
        s->tickets = realloc(s->tickets, s->tickets_cap * sizeof(struct ticket *));
        assert(s->tickets);
    }
    ticket_hold(ticket, 1);
    s->tickets[s->tickets_n++] = ticket;
}

static void run(struct instance *in, struct batch *b)
{
    struct sink_file *s = in->self;
    struct output *scores = &s->outputs[OUTPUT_SCORES], *alerts = &s->outputs[OUTPUT_ALERTS];
    struct output *dead = &s->outputs[OUTPUT_DEAD];
    for (uint32_t i = 0; i < b->n; i++) {
        const struct event *event = &b->events[i];
        if (event->silent)
            continue;
        if (scores->path && b->scores[i].publish)
            add_line(scores, OUTPUT_SCORES, b, i);
        if (dead->path && event_verdict_is_dead(event->verdict))
            add_line(dead, OUTPUT_DEAD, b, i);
    }
    for (uint32_t i = 0; alerts->path && i < b->alerts_n; i++)
        if (!b->events[b->alerts[i].event].silent)
            add_line(alerts, OUTPUT_ALERTS, b, i);
    size_t waiting = 0;
    for (int i = 0; i < OUTPUTS; i++)
        waiting += s->outputs[i].to - s->outputs[i].from;
    if (waiting == 0)
        return;
    hold_ticket(s, b->ticket);
    if (waiting >= FLUSH_BYTES || s->draining)
        flush_all(s);
}

/* The file that the path names is another one than ours (logrotate): what comes next goes to the new one. */
static void reopen_rotated(struct sink_file *s, struct output *o)
{
    struct stat st;
    if (!o->path || o->fd < 0 || !o->is_file || strcmp(o->path, "-") == 0)
        return;
    if (stat(o->path, &st) == 0 && st.st_ino == o->inode && st.st_dev == o->device)
        return;
    close_output(s, o);
    open_output(o); /* a failure shows at the next write */
}

static void flow(struct instance *in, const struct flow *f)
{
    struct sink_file *s = in->self;
    if (f->kind == FLOW_DRAIN)
        s->draining = true;
    if (f->kind != FLOW_DRAIN && f->kind != FLOW_TICK)
        return;
    flush_all(s);
    for (int i = 0; i < OUTPUTS && f->kind == FLOW_TICK; i++)
        reopen_rotated(s, &s->outputs[i]);
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static int check_folder(const char *path, const char *name, struct error *err)
{
    char copy[PATH_MAX];
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy)
        return error_set(err, "%s: the path is longer than %d bytes", name, PATH_MAX - 1);
    const char *folder = dirname(copy);
    return access(folder, W_OK) == 0 ? 0 : error_set(err, "%s: %s: %s", name, folder, strerror(errno));
}

static int open_sink(struct instance *in, bool check, struct error *err)
{
    struct sink_file *s = calloc(1, sizeof *s);
    assert(s);
    in->self = s;
    s->in = in;
    s->conf = in->conf;
    int wanted = 0;
    for (int i = 0; i < OUTPUTS; i++) {
        struct output *o = &s->outputs[i];
        o->fd = -1;
        ev_init(&o->watcher, on_writable);
        o->watcher.data = s;
        o->path = s->conf->paths[i];
        o->lines = metric_cell(in->metrics, "gait_sink_file_lines_total", output_names[i]);
        o->lost = metric_cell(in->metrics, "gait_sink_file_lost_total", output_names[i]);
        o->errors = metric_cell(in->metrics, "gait_sink_file_errors_total", output_names[i]);
        wanted += o->path != NULL;
    }
    if (wanted == 0)
        return error_set(err, "at least one of scores, alerts and dead must name a file");
    for (int i = 0; i < OUTPUTS; i++) {
        struct output *o = &s->outputs[i];
        if (!o->path || strcmp(o->path, "-") == 0)
            continue;
        if (check && check_folder(o->path, output_names[i], err) < 0)
            return -1;
        if (!check && open_output(o) < 0)
            return error_set(err, "%s: %s: %s", output_names[i], o->path, strerror(errno));
    }
    return 0;
}

static void close_sink(struct instance *in)
{
    struct sink_file *s = in->self;
    if (!s)
        return;
    for (int i = 0; i < OUTPUTS; i++) {
        struct output *o = &s->outputs[i];
        if (o->from < o->to && !flush_output(s, o))
            log_error(in->name, "%zu bytes for %s could not be written; their events are read again at the next start",
                      o->to - o->from, o->path);
        close_output(s, o);
        free(o->buf);
    }
    free(s->tickets);
    free(s);
    in->self = NULL;
}

#define AT(member) offsetof(struct sink_file_conf, member)
static const struct option sink_file_options[] = {
    {.name = "scores", .type = OPTION_PATH, .offset = AT(paths[OUTPUT_SCORES]), .flags = OPTION_RESTART,
     .help = "File for scores, a JSON line each; \"-\" is standard output. Not set: none are written."},
    {.name = "alerts", .type = OPTION_PATH, .offset = AT(paths[OUTPUT_ALERTS]), .flags = OPTION_RESTART,
     .help = "File for fraud alerts, a JSON line each; \"-\" is standard output. Not set: none are written."},
    {.name = "dead", .type = OPTION_PATH, .offset = AT(paths[OUTPUT_DEAD]), .flags = OPTION_RESTART,
     .help = "File for dead letters (bad events with the reason), a JSON line each; \"-\" is standard output. Not set: "
             "they are counted only."},
    {.name = "fsync", .type = OPTION_BOOL, .offset = AT(fsync), .initial = "false",
     .help = "Wait until the disk has the lines before their events count as done. Slow disks then slow the flow."},
    {.name = NULL},
};

const struct module sink_file = {
    .name = "sink_file",
    .summary = "Writes scores, alerts and dead letters as JSON lines to files or standard output.",
    .stage = STAGE_SINK,
    .several = true,
    .options = sink_file_options,
    .conf_size = sizeof(struct sink_file_conf),
    .metrics = sink_file_metrics,
    .open = open_sink,
    .run = run,
    .flow = flow,
    .close = close_sink,
};
