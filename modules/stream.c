// SPDX-License-Identifier: Apache-2.0
// stream.c - reads plain, gzip and zstd bytes alike. Used by source_file; it knows nothing of lines or events.
#include "stream.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum { PACKED_BYTES = 256 << 10, MAGIC_BYTES = 4 };

enum packing { PACKING_UNKNOWN, PACKING_PLAIN, PACKING_GZIP, PACKING_ZSTD };

struct stream {
    int fd;
    bool owns_fd, is_file;
    bool ended;              /* the descriptor has said end of file */
    enum packing packing;
    struct stat stat;
    int64_t position;        /* bytes read from the descriptor */
    unsigned char *in;       /* [PACKED_BYTES] raw bytes not yet handed over */
    size_t in_at, in_n;
    z_stream gzip;
    bool gzip_open, frame_open; /* frame: inside of a gzip member or zstd frame, so an end here is damage */
    ZSTD_DStream *zstd;
    char problem[160];
};

struct stream *stream_open(const char *path, struct error *err)
{
    struct stream *s = calloc(1, sizeof *s);
    assert(s);
    s->owns_fd = strcmp(path, "-") != 0;
    s->fd = s->owns_fd ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : STDIN_FILENO;
    if (s->fd < 0 || fstat(s->fd, &s->stat) < 0) {
        error_set(err, "%s: %s", path, strerror(errno));
        stream_close(&s);
        return NULL;
    }
    if (S_ISDIR(s->stat.st_mode)) {
        error_set(err, "%s: is a folder; a file is needed", path);
        stream_close(&s);
        return NULL;
    }
    s->is_file = S_ISREG(s->stat.st_mode);
    if (s->is_file) { /* standard input may be a file that somebody has read the beginning of */
        off_t at = lseek(s->fd, 0, SEEK_CUR);
        s->position = at > 0 ? at : 0;
    }
    s->in = malloc(PACKED_BYTES);
    assert(s->in);
    return s;
}

void stream_close(struct stream **stream)
{
    struct stream *s = *stream;
    if (!s)
        return;
    if (s->gzip_open)
        inflateEnd(&s->gzip);
    ZSTD_freeDStream(s->zstd);
    if (s->owns_fd && s->fd >= 0)
        close(s->fd);
    free(s->in);
    free(s);
    *stream = NULL;
}

static ssize_t broken(struct stream *s, const char *what, const char *why)
{
    snprintf(s->problem, sizeof s->problem, "%s: %s", what, why);
    return STREAM_BROKEN;
}

/* Asking first instead of setting O_NONBLOCK: the flag would stick to a terminal or pipe that others share with us. */
static bool would_wait(const struct stream *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    return !s->is_file && poll(&p, 1, 0) == 0;
}

static ssize_t read_raw(struct stream *s, void *buf, size_t cap)
{
    for (;;) {
        if (would_wait(s))
            return STREAM_WAIT;
        ssize_t n = read(s->fd, buf, cap);
        if (n >= 0) {
            s->position += n;
            s->ended = n == 0;
            return n;
        }
        if (errno == EAGAIN)
            return STREAM_WAIT;
        if (errno != EINTR)
            return broken(s, "cannot read", strerror(errno));
    }
}

/* More raw bytes behind those in `in`. STREAM_END and STREAM_WAIT when there are none. */
static ssize_t fill(struct stream *s)
{
    if (s->in_at > 0) {
        memmove(s->in, s->in + s->in_at, s->in_n - s->in_at);
        s->in_n -= s->in_at;
        s->in_at = 0;
    }
    assert(s->in_n < PACKED_BYTES);
    ssize_t n = read_raw(s, s->in + s->in_n, PACKED_BYTES - s->in_n);
    if (n > 0)
        s->in_n += (size_t)n;
    return n;
}

static enum packing packing_of(const unsigned char *bytes, size_t n)
{
    static const unsigned char gzip[] = {0x1f, 0x8b}, zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
    if (n >= sizeof gzip && memcmp(bytes, gzip, sizeof gzip) == 0)
        return PACKING_GZIP;
    return n >= sizeof zstd && memcmp(bytes, zstd, sizeof zstd) == 0 ? PACKING_ZSTD : PACKING_PLAIN;
}

/* Wait for four bytes (or the end), then decide once and for all. */
static ssize_t find_packing(struct stream *s)
{
    while (s->in_n < MAGIC_BYTES) {
        ssize_t n = fill(s);
        if (n < 0)
            return n;
        if (n == 0 && s->in_n == 0)
            return STREAM_END;
        if (n == 0)
            break;
    }
    s->packing = packing_of(s->in, s->in_n);
    if (s->packing == PACKING_GZIP) {
        int rc = inflateInit2(&s->gzip, 15 + 16); /* 16: a gzip header and nothing else */
        assert(rc == Z_OK);
        s->gzip_open = true;
    } else if (s->packing == PACKING_ZSTD) {
        s->zstd = ZSTD_createDStream();
        assert(s->zstd);
    }
    return 1;
}

static ssize_t read_plain(struct stream *s, void *buf, size_t cap)
{
    size_t kept = s->in_n - s->in_at;
    if (kept == 0)
        return read_raw(s, buf, cap);
    size_t n = kept < cap ? kept : cap;
    memcpy(buf, s->in + s->in_at, n);
    s->in_at += n;
    return (ssize_t)n;
}

/* One step of inflate; 0 = more raw bytes are needed. */
static ssize_t gzip_step(struct stream *s, void *buf, size_t cap)
{
    s->gzip.next_in = s->in + s->in_at;
    s->gzip.avail_in = (uInt)(s->in_n - s->in_at);
    s->gzip.next_out = buf;
    s->gzip.avail_out = (uInt)cap;
    s->frame_open = true;
    int rc = inflate(&s->gzip, Z_NO_FLUSH);
    s->in_at = s->in_n - s->gzip.avail_in;
    if (rc == Z_STREAM_END) { /* members may follow one another */
        s->frame_open = false;
        inflateReset(&s->gzip);
    } else if (rc != Z_OK && rc != Z_BUF_ERROR) {
        return broken(s, "damaged gzip data", s->gzip.msg ? s->gzip.msg : "unknown");
    }
    return (ssize_t)(cap - s->gzip.avail_out);
}

static ssize_t zstd_step(struct stream *s, void *buf, size_t cap)
{
    ZSTD_inBuffer in = {s->in + s->in_at, s->in_n - s->in_at, 0};
    ZSTD_outBuffer out = {buf, cap, 0};
    size_t rc = ZSTD_decompressStream(s->zstd, &out, &in);
    if (ZSTD_isError(rc))
        return broken(s, "damaged zstd data", ZSTD_getErrorName(rc));
    s->in_at += in.pos;
    s->frame_open = rc != 0;
    return (ssize_t)out.pos;
}

static ssize_t read_packed(struct stream *s, void *buf, size_t cap)
{
    if (cap > PACKED_BYTES)
        cap = PACKED_BYTES; /* keeps one call short */
    for (;;) {
        bool had_input = s->in_n > s->in_at;
        if (had_input || s->frame_open) { /* an open frame may still have output without further input */
            ssize_t n = s->packing == PACKING_GZIP ? gzip_step(s, buf, cap) : zstd_step(s, buf, cap);
            if (n != 0)
                return n;
            if (s->in_n > s->in_at && s->in_n - s->in_at == PACKED_BYTES)
                return broken(s, "damaged archive", "no progress");
        }
        if (s->in_n > s->in_at && !s->frame_open)
            continue; /* the next member */
        ssize_t n = fill(s);
        if (n == STREAM_END && s->frame_open)
            return broken(s, "damaged archive", "it ends in the middle");
        if (n <= 0)
            return n;
    }
}

ssize_t stream_read(struct stream *s, void *buf, size_t cap)
{
    assert(cap > 0);
    if (s->packing == PACKING_UNKNOWN) {
        ssize_t n = find_packing(s);
        if (n <= 0)
            return n;
    }
    return s->packing == PACKING_PLAIN ? read_plain(s, buf, cap) : read_packed(s, buf, cap);
}

const char *stream_problem(const struct stream *s)
{
    return s->problem;
}

int stream_fd(const struct stream *s)
{
    return s->fd;
}

bool stream_is_file(const struct stream *s)
{
    return s->is_file;
}

bool stream_is_packed(const struct stream *s)
{
    return s->packing == PACKING_GZIP || s->packing == PACKING_ZSTD;
}

const struct stat *stream_stat(const struct stream *s)
{
    return &s->stat;
}

bool stream_seek(struct stream *s, int64_t offset)
{
    assert(s->packing == PACKING_UNKNOWN && s->in_n == 0);
    if (!s->is_file || offset == 0 || offset > s->stat.st_size)
        return false;
    unsigned char magic[MAGIC_BYTES];
    ssize_t n = pread(s->fd, magic, sizeof magic, 0);
    if (n < 0 || packing_of(magic, (size_t)n) != PACKING_PLAIN || lseek(s->fd, offset, SEEK_SET) != offset)
        return false;
    s->packing = PACKING_PLAIN;
    s->position = offset;
    return true;
}

bool stream_restart_truncated(struct stream *s)
{
    struct stat now;
    if (!s->is_file || fstat(s->fd, &now) < 0 || now.st_size >= s->position)
        return false;
    if (lseek(s->fd, 0, SEEK_SET) != 0)
        return false;
    s->position = 0;
    s->in_at = s->in_n = 0;
    return true;
}
