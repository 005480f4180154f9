// SPDX-License-Identifier: Apache-2.0
// source_file.c - JSON lines from files, pipes or standard input; `follow` reads on as the file grows, like tail -F.
//
// First stage of the flow. All input is partition 0 and one stream: an event's offset is the byte at which its line
// begins, counted over all files (unpacked), so it grows even when a followed file is rotated or cut. Lines are
// borrowed slices of large buffers; a buffer is used again when every batch that borrows from it has ended.
#include "offset_file.h"
#include "stream.h"

#include "gait/log.h"
#include "gait/module.h"

#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFERS_MAX = 32, BUFFER_BYTES = 1 << 20, ROOM_MIN = 64 << 10 };
static const uint64_t rotate_wait_ns = 1000000000; /* writers keep the old file open for a while */

struct source_file_conf {
    struct option_strings paths;
    bool follow;
    const char *offset_file;
    int64_t line_bytes;
};

struct buffer {
    struct source_file *source;
    char *bytes;          /* [buffer_bytes] */
    size_t from, to;      /* not yet handed over */
    size_t scanned;       /* bytes from `from` on that hold no newline */
    uint32_t borrowers;   /* batches whose slices point in here */
};

struct source_file {
    struct instance *in;
    const struct source_file_conf *conf;
    struct stream *stream;       /* NULL between files */
    size_t path_next;            /* index of the path to open next */
    bool assigned, started, draining, ended, watching, told_missing;
    bool whole;              /* nothing of the input was passed over */
    bool resuming;               /* when `skip` is done: the byte there may be the middle of a line */
    bool skipping_line;          /* drop everything up to the next newline */
    bool open_rotated;           /* the place to go on is in PATH.1 */
    uint64_t rotated_ns;         /* when the followed path was first seen to lead elsewhere; 0 = it does not */
    int64_t offset;              /* of the byte at buffer->from */
    int64_t skip;                /* bytes of the stream still to be passed over */
    struct buffer buffers[BUFFERS_MAX];
    struct buffer *buffer;       /* being filled; NULL before the first read */
    size_t buffer_bytes;
    struct segment segment, segment_before; /* of the open file; of the one before it, or of the offset file */
    int64_t committed;           /* C, OFFSET_NONE */
    ev_io watcher;
    struct metric_cell *lines, *bytes, *too_long, *errors, *rotations;
};

static const struct metric source_file_metrics[] = {
    {"gait_source_file_lines_total", METRIC_COUNTER, NULL, "Lines read from files."},
    {"gait_source_file_bytes_total", METRIC_COUNTER, NULL, "Bytes read from files, unpacked."},
    {"gait_source_file_too_long_total", METRIC_COUNTER, NULL, "Lines longer than line_bytes: dead letters."},
    {"gait_source_file_errors_total", METRIC_COUNTER, NULL, "Files that could not be read to their end."},
    {"gait_source_file_rotations_total", METRIC_COUNTER, NULL, "Times a followed file was replaced or cut."},
    {NULL, 0, NULL, NULL},
};

/* ---- from one file to the next ---------------------------------------------------------------------------------- */

static bool is_stdin(const char *path)
{
    return strcmp(path, "-") == 0;
}

static void stop_watching(struct source_file *s)
{
    if (s->watching)
        ev_io_stop(s->in->loop, &s->watcher);
    s->watching = false;
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
    struct source_file *s = w->data;
    (void)loop, (void)events;
    stop_watching(s);
    engine_wake(s->in->engine);
}

static void watch(struct source_file *s)
{
    if (s->watching || !s->in->loop)
        return;
    ev_io_init(&s->watcher, on_readable, stream_fd(s->stream), EV_READ);
    s->watcher.data = s;
    ev_io_start(s->in->loop, &s->watcher);
    s->watching = true;
}

static void close_stream(struct source_file *s)
{
    stop_watching(s);
    stream_close(&s->stream);
}

/* The stretch that is to be passed over lies in this file: jump, where jumping is possible. */
static void skip_by_seeking(struct source_file *s)
{
    const struct stat *st = stream_stat(s->stream);
    if (s->skip == 0 || !stream_is_file(s->stream))
        return;
    int64_t jump = s->skip < st->st_size ? s->skip : st->st_size;
    if (stream_seek(s->stream, jump)) {
        s->skip -= jump;
        s->offset += jump;
    }
}

static bool rotated_path(const struct source_file *s, char path[PATH_MAX])
{
    return snprintf(path, PATH_MAX, "%s.1", s->conf->paths.at[0]) < PATH_MAX;
}

static bool open_failed(struct source_file *s, const char *why)
{
    if (!s->told_missing)
        log_warning(s->in->name, "%s; %s", why, s->conf->follow ? "waiting for it" : "passed over");
    s->told_missing = s->conf->follow;
    if (!s->conf->follow) {
        metric_add(s->errors, 1);
        s->whole = false;
        s->path_next++;
    }
    return false;
}

static bool open_next(struct source_file *s)
{
    char rotated[PATH_MAX];
    const char *path = s->open_rotated && rotated_path(s, rotated) ? rotated : s->conf->paths.at[s->path_next];
    struct error err;
    s->open_rotated = false;
    s->stream = stream_open(path, &err);
    if (!s->stream)
        return open_failed(s, err.text);
    s->told_missing = false;
    s->path_next++;
    if (is_stdin(path)) { /* never the same bytes twice: its offsets go on where the last run stopped */
        s->offset += s->skip + s->resuming;
        s->skip = 0;
        s->resuming = false;
    }
    const struct stat *st = stream_stat(s->stream);
    if (s->segment.inode)
        s->segment_before = s->segment;
    s->segment = (struct segment){s->offset, st->st_dev, st->st_ino};
    skip_by_seeking(s);
    log_info(s->in->name, "reading %s", is_stdin(path) ? "standard input" : path);
    return true;
}

/* Does the path lead to another file than the one that we have open, and for long enough? */
static bool was_rotated(struct source_file *s, uint64_t now_ns)
{
    const struct stat *open_one = stream_stat(s->stream);
    struct stat now;
    if (stat(s->conf->paths.at[0], &now) < 0 || (now.st_ino == open_one->st_ino && now.st_dev == open_one->st_dev)) {
        s->rotated_ns = 0;
        return false; /* moved away and the new one is not there yet: the old one may still grow */
    }
    if (s->rotated_ns == 0)
        s->rotated_ns = now_ns;
    return now_ns - s->rotated_ns >= rotate_wait_ns;
}

/* ---- lines ------------------------------------------------------------------------------------------------------ */

static struct buffer *free_buffer(struct source_file *s)
{
    for (size_t i = 0; i < BUFFERS_MAX; i++) {
        struct buffer *buffer = &s->buffers[i];
        if (buffer == s->buffer || buffer->borrowers > 0)
            continue;
        if (!buffer->bytes)
            buffer->bytes = malloc(s->buffer_bytes);
        assert(buffer->bytes);
        buffer->source = s;
        buffer->from = buffer->to = buffer->scanned = 0;
        return buffer;
    }
    return NULL;
}

/* Room to read into: the rest of an unfinished line moves to a fresh buffer when this one is nearly full. */
static bool make_room(struct source_file *s)
{
    struct buffer *old = s->buffer;
    if (old && s->buffer_bytes - old->to >= ROOM_MIN)
        return true;
    if (old && old->borrowers == 0) {
        memmove(old->bytes, old->bytes + old->from, old->to - old->from);
        old->to -= old->from;
        old->from = 0;
        return true;
    }
    struct buffer *fresh = free_buffer(s);
    if (!fresh)
        return false; /* as many batches as buffers are in work: later */
    if (old) {
        fresh->to = old->to - old->from;
        fresh->scanned = old->scanned;
        memcpy(fresh->bytes, old->bytes + old->from, fresh->to);
    }
    s->buffer = fresh;
    return true;
}

static void buffer_done(void *input)
{
    struct buffer *buffer = input;
    assert(buffer->borrowers > 0);
    buffer->borrowers--;
}

static void add_event(struct source_file *s, struct batch *b, const char *at, size_t len, uint64_t now_ns)
{
    if (len > 0 && at[len - 1] == '\r')
        len--;
    if (len == 0)
        return; /* an empty line says nothing */
    bool too_long = len > (size_t)s->conf->line_bytes;
    metric_add(s->lines, 1);
    if (too_long)
        metric_add(s->too_long, 1);
    b->events[b->n++] = (struct event){
        .raw = {at, (uint32_t)(too_long ? (size_t)s->conf->line_bytes : len)},
        .offset = s->offset,
        .fetched_ns = now_ns,
        .verdict = too_long ? EVENT_TOO_LARGE : EVENT_OK,
    };
}

static void consume(struct source_file *s, size_t n)
{
    s->buffer->from += n;
    s->buffer->scanned = 0;
    s->offset += (int64_t)n;
}

/* Bytes that this stream has to pass over, or the rest of a line that was too long. */
static void drop_unwanted(struct source_file *s)
{
    struct buffer *buffer = s->buffer;
    size_t have = buffer->to - buffer->from;
    if (s->skip > 0) {
        size_t n = (size_t)s->skip < have ? (size_t)s->skip : have;
        s->skip -= (int64_t)n;
        consume(s, n);
        have -= n;
    }
    if (s->resuming && s->skip == 0 && have > 0) {
        s->resuming = false;
        s->skipping_line = true;
    }
    if (s->skipping_line && have > 0) {
        const char *at = buffer->bytes + buffer->from, *end = memchr(at, '\n', have);
        consume(s, end ? (size_t)(end - at) + 1 : have);
        s->skipping_line = !end;
    }
}

/* Complete lines of the buffer into the batch. */
static void take_lines(struct source_file *s, struct batch *b, uint64_t now_ns)
{
    struct buffer *buffer = s->buffer;
    drop_unwanted(s);
    while (b->n < b->cap && buffer->from < buffer->to) {
        const char *at = buffer->bytes + buffer->from;
        size_t have = buffer->to - buffer->from;
        const char *end = memchr(at + buffer->scanned, '\n', have - buffer->scanned);
        if (!end) {
            buffer->scanned = have;
            if (have <= (size_t)s->conf->line_bytes + 1) /* one more: a carriage return */
                return;
            add_event(s, b, at, have, now_ns);
            consume(s, have);
            s->skipping_line = true;
            return;
        }
        add_event(s, b, at, (size_t)(end - at), now_ns);
        consume(s, (size_t)(end - at) + 1);
    }
}

/* What is left when a file ends without a newline is a line too. */
static void take_last_line(struct source_file *s, struct batch *b, uint64_t now_ns)
{
    struct buffer *buffer = s->buffer;
    if (buffer && buffer->from < buffer->to) {
        add_event(s, b, buffer->bytes + buffer->from, buffer->to - buffer->from, now_ns);
        consume(s, buffer->to - buffer->from);
    }
    s->skipping_line = false;
}

/* ---- run -------------------------------------------------------------------------------------------------------- */

/* The open file has no more for now. False: nothing to do before the next tick. */
static bool at_end(struct source_file *s, struct batch *b, uint64_t now_ns)
{
    bool follow = s->conf->follow && !stream_is_packed(s->stream);
    if (follow && stream_is_file(s->stream)) {
        if (stream_restart_truncated(s->stream)) {
            log_notice(s->in->name, "%s was cut: reading it from its start", s->conf->paths.at[0]);
            metric_add(s->rotations, 1);
            take_last_line(s, b, now_ns);
            s->segment.base = s->offset;
            return true;
        }
        if (!was_rotated(s, now_ns))
            return false;
        log_notice(s->in->name, "%s was replaced: reading the new one", s->conf->paths.at[0]);
        metric_add(s->rotations, 1);
        s->rotated_ns = 0;
    }
    take_last_line(s, b, now_ns);
    close_stream(s);
    if (follow) /* a named pipe is opened again for its next writer */
        s->path_next = 0;
    return true;
}

static void end_input(struct source_file *s)
{
    s->ended = true;
    if (s->skip > 0)
        log_warning(s->in->name, "the input ends %lld bytes before the offset at which the saved state stops; nothing "
                    "was read (are these the same files?)", (long long)s->skip);
    engine_input_ended(s->in->engine, s->whole);
}

/* Read until there is at least one line or nothing more to be had without waiting. */
static void read_lines(struct source_file *s, struct batch *b, uint64_t now_ns)
{
    for (;;) {
        if (!s->stream && s->path_next == s->conf->paths.n) {
            end_input(s);
            return;
        }
        if (!s->stream && !open_next(s)) {
            if (s->conf->follow)
                return;
            continue;
        }
        if (!make_room(s))
            return;
        struct buffer *buffer = s->buffer;
        ssize_t n = stream_read(s->stream, buffer->bytes + buffer->to, s->buffer_bytes - buffer->to);
        if (n > 0) {
            buffer->to += (size_t)n;
            metric_add(s->bytes, (double)n);
            take_lines(s, b, now_ns);
        } else if (n == STREAM_WAIT) {
            watch(s);
            return;
        } else {
            if (n == STREAM_BROKEN) {
                metric_add(s->errors, 1);
                s->whole = false;
                log_error(s->in->name, "%s: %s; the rest of it is passed over", s->conf->paths.at[s->path_next - 1],
                          stream_problem(s->stream));
            }
            if (!at_end(s, b, now_ns))
                return;
        }
        if (b->n > 0)
            return;
    }
}

static void run(struct instance *in, struct batch *b)
{
    struct source_file *s = in->self;
    if (!s->started || s->draining || s->ended)
        return;
    uint64_t now_ns = clock_mono_ns(in->clock);
    struct buffer *buffer = s->buffer;
    if (buffer)
        take_lines(s, b, now_ns);
    if (b->n == 0) {
        read_lines(s, b, now_ns);
        buffer = s->buffer;
    }
    if (b->n > 0) {
        b->input = buffer;
        b->input_done = buffer_done;
        buffer->borrowers++;
    }
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

/* A followed file has its own base: find the saved place in it, or in the one that was rotated away meanwhile. */
static void start_followed(struct source_file *s, int64_t offset)
{
    const char *path = s->conf->paths.at[0];
    char rotated[PATH_MAX];
    struct segment segment = s->segment.inode && offset >= s->segment.base ? s->segment : s->segment_before;
    struct stat now;
    if (offset < segment.base)
        segment = (struct segment){0};
    if (segment.inode == 0 && stat(path, &now) == 0) /* no offset file: the whole stream is this file */
        segment = (struct segment){0, now.st_dev, now.st_ino};
    s->open_rotated = !segment_is(path, &segment, offset) && rotated_path(s, rotated) &&
                      segment_is(rotated, &segment, offset);
    if (s->open_rotated || segment_is(path, &segment, offset)) {
        s->offset = segment.base;
        s->resuming = offset > segment.base;
        s->skip = offset - segment.base - s->resuming;
        return;
    }
    log_warning(s->in->name, "%s is not the file in which reading stopped, or was cut: reading from its start", path);
    s->offset = offset;
    s->resuming = false;
    s->skip = 0;
}

static void start(struct source_file *s, int64_t offset)
{
    close_stream(s);
    if (s->buffer)
        s->buffer->from = s->buffer->to = s->buffer->scanned = 0;
    if (s->buffer && s->buffer->borrowers > 0)
        s->buffer = NULL;
    s->path_next = 0;
    s->skipping_line = s->ended = s->open_rotated = false;
    s->offset = 0;
    s->resuming = offset > 0; /* the engine's offsets are "one behind the last line's first byte" */
    s->skip = offset > 0 ? offset - 1 : 0;
    if (s->conf->follow && offset > 0 && !is_stdin(s->conf->paths.at[0]))
        start_followed(s, offset);
    s->started = true;
    engine_wake(s->in->engine);
}

static void flow(struct instance *in, const struct flow *f)
{
    struct source_file *s = in->self;
    if (f->kind == FLOW_REOPEN || (f->kind == FLOW_TICK && !s->assigned)) {
        s->assigned = true;
        partition_assigned(in->engine, 0, s->committed);
    } else if (f->kind == FLOW_START) {
        start(s, f->offset);
    } else if (f->kind == FLOW_DRAIN) {
        s->draining = true;
    } else if (f->kind == FLOW_CLOSED) {
        s->started = false;
    }
}

static void commit(struct instance *in, struct commit *c)
{
    struct source_file *s = in->self;
    struct segment segment = c->offset >= s->segment.base ? s->segment : s->segment_before;
    if (segment.base > c->offset)
        segment = (struct segment){0}; /* several rotations ago */
    bool ok = !s->conf->offset_file || offset_file_write(s->conf->offset_file, c->offset, &segment);
    if (ok)
        s->committed = c->offset;
    else
        log_often(LOG_ERROR, in->name, "cannot write %s: %m; trying again", s->conf->offset_file);
    commit_done(in->engine, in, c, ok);
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static int check_paths(const struct source_file_conf *conf, struct error *err)
{
    if (conf->paths.n == 0)
        return error_set(err, "paths: is empty; name at least one file, or \"-\" for standard input");
    if (conf->follow && conf->paths.n > 1)
        return error_set(err, "follow: follows one file, but paths names %zu; run one gaitd for each", conf->paths.n);
    for (size_t i = 0; i < conf->paths.n; i++) {
        const char *path = conf->paths.at[i];
        bool absent = !is_stdin(path) && access(path, R_OK) < 0;
        if (absent && !(conf->follow && errno == ENOENT))
            return error_set(err, "paths: %s: %s", path, strerror(errno));
        struct stat st;
        if (!is_stdin(path) && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
            return error_set(err, "paths: %s: is a folder; a file is needed", path);
    }
    return 0;
}

static int open_source(struct instance *in, bool check, struct error *err)
{
    const struct source_file_conf *conf = in->conf;
    (void)check;
    struct source_file *s = calloc(1, sizeof *s);
    assert(s);
    in->self = s;
    s->in = in;
    s->conf = conf;
    size_t longest = (size_t)conf->line_bytes + 2 * ROOM_MIN;
    s->buffer_bytes = longest > BUFFER_BYTES ? longest : BUFFER_BYTES;
    s->committed = OFFSET_NONE;
    s->whole = true;
    if (check_paths(conf, err) < 0)
        return -1;
    if (conf->offset_file && offset_file_read(conf->offset_file, &s->committed, &s->segment_before, err) < 0)
        return -1;
    s->lines = metric_cell(in->metrics, "gait_source_file_lines_total", NULL);
    s->bytes = metric_cell(in->metrics, "gait_source_file_bytes_total", NULL);
    s->too_long = metric_cell(in->metrics, "gait_source_file_too_long_total", NULL);
    s->errors = metric_cell(in->metrics, "gait_source_file_errors_total", NULL);
    s->rotations = metric_cell(in->metrics, "gait_source_file_rotations_total", NULL);
    return 0;
}

static void close_source(struct instance *in)
{
    struct source_file *s = in->self;
    if (!s)
        return;
    close_stream(s);
    for (size_t i = 0; i < BUFFERS_MAX; i++)
        free(s->buffers[i].bytes);
    free(s);
    in->self = NULL;
}

#define AT(member) offsetof(struct source_file_conf, member)
static const struct option source_file_options[] = {
    {.name = "paths", .type = OPTION_PATHS, .offset = AT(paths), .flags = OPTION_REQUIRED | OPTION_RESTART,
     .help = "Files of JSON lines, read one after the other as one stream: plain, gzip or zstd, told by their content. "
             "\"-\" is standard input."},
    {.name = "follow", .type = OPTION_BOOL, .offset = AT(follow), .initial = "false", .flags = OPTION_RESTART,
     .help = "Go on reading as the file grows, also after it was rotated (PATH.1) or cut. One plain file only."},
    {.name = "offset_file", .type = OPTION_PATH, .offset = AT(offset_file), .flags = OPTION_RESTART,
     .help = "Where the committed offset is kept, so that a restart repeats no outputs. Without it nothing is "
             "remembered but what the store knows."},
    {.name = "line_bytes", .type = OPTION_BYTES, .offset = AT(line_bytes), .initial = "1MB", .min = 1024,
     .max = 256 << 20, .flags = OPTION_RESTART,
     .help = "Longest line in bytes. A longer one becomes a dead letter of its first line_bytes bytes."},
    {.name = NULL},
};

const struct module source_file = {
    .name = "source_file",
    .summary = "Reads JSON lines from files (plain, gzip, zstd), pipes or standard input; can follow a growing file.",
    .stage = STAGE_SOURCE,
    .options = source_file_options,
    .conf_size = sizeof(struct source_file_conf),
    .metrics = source_file_metrics,
    .open = open_source,
    .run = run,
    .flow = flow,
    .commit = commit,
    .close = close_source,
};
