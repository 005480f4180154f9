// SPDX-License-Identifier: Apache-2.0
// state_file.c - a backup as a stream of bytes; the layout is in state_file.h. One record is in memory at a time.
#include "state_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zlib.h>

enum { NAME_BYTES_MAX = 65535, RECORD_BYTES_MAX = 64 << 20, BUFFER_BYTES = 1 << 17 };
static const char magic[8] = "GAITBAK1";

struct state_file {
    gzFile gz;
    XXH3_state_t *sum;
    uint64_t records;
    char *path, *temporary; /* writing: the name is given when all is there */
    int fd;                 /* … and on the disk; the same file as gz, -1 = not writing */
    bool finished;
};

static struct state_file *make(const char *path)
{
    struct state_file *f = calloc(1, sizeof *f);
    size_t cap = strlen(path) + 8;
    assert(f);
    f->fd = -1;
    f->sum = XXH3_createState();
    f->path = strdup(path);
    f->temporary = malloc(cap);
    assert(f->sum && f->path && f->temporary);
    snprintf(f->temporary, cap, "%s.part", path);
    XXH3_64bits_reset(f->sum);
    return f;
}

void state_file_destroy(struct state_file **file)
{
    struct state_file *f = *file;
    if (!f)
        return;
    if (f->gz)
        gzclose(f->gz);
    if (f->fd >= 0)
        close(f->fd);
    if (!f->finished)
        unlink(f->temporary);
    XXH3_freeState(f->sum);
    free(f->path);
    free(f->temporary);
    free(f);
    *file = NULL;
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

static int put(struct state_file *f, const void *bytes, size_t n, struct error *err)
{
    XXH3_64bits_update(f->sum, bytes, n);
    if (n == 0 || gzwrite(f->gz, bytes, (unsigned)n) == (int)n)
        return 0;
    int code;
    const char *text = gzerror(f->gz, &code);
    return error_set(err, "%s: %s", f->temporary, code == Z_ERRNO ? strerror(errno) : text);
}

struct state_file *state_file_create(const char *path, int32_t partitions, struct error *err)
{
    struct state_file *f = make(path);
    f->fd = open(f->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600); /* it is all about people */
    int own = f->fd >= 0 ? fcntl(f->fd, F_DUPFD_CLOEXEC, 0) : -1;
    f->gz = own >= 0 ? gzdopen(own, "wb6") : NULL;
    if (!f->gz) {
        error_set(err, "%s: %s", f->temporary, strerror(errno));
        state_file_destroy(&f);
        return NULL;
    }
    gzbuffer(f->gz, BUFFER_BYTES);
    if (put(f, magic, sizeof magic, err) < 0 || put(f, &partitions, sizeof partitions, err) < 0)
        state_file_destroy(&f);
    return f;
}

int state_file_partition(struct state_file *f, int32_t id, const struct offline_place *place, struct error *err)
{
    return put(f, "P", 1, err) < 0 || put(f, &id, sizeof id, err) < 0 || put(f, &place->at, 8, err) < 0 ||
           put(f, &place->erased, 8, err) < 0 ? -1 : 0;
}

int state_file_record(struct state_file *f, struct str name, const uint8_t *bytes, size_t n, int64_t ttl_ms,
                      struct error *err)
{
    uint32_t len = (uint32_t)n;
    int64_t live = ttl_ms > 0 ? ttl_ms : 0;
    f->records++;
    return put(f, "R", 1, err) < 0 || put(f, &name.len, 4, err) < 0 || put(f, &len, 4, err) < 0 ||
           put(f, &live, 8, err) < 0 || put(f, name.at, name.len, err) < 0 || put(f, bytes, n, err) < 0 ? -1 : 0;
}

int state_file_finish(struct state_file *f, uint64_t *records, struct error *err)
{
    if (put(f, "E", 1, err) < 0 || put(f, &f->records, 8, err) < 0)
        return -1;
    uint64_t sum = XXH3_64bits_digest(f->sum);
    if (put(f, &sum, sizeof sum, err) < 0)
        return -1;
    int code = gzclose(f->gz);
    f->gz = NULL;
    if (code != Z_OK || fsync(f->fd) < 0 || rename(f->temporary, f->path) < 0)
        return error_set(err, "%s: %s", f->path, strerror(errno));
    f->finished = true;
    *records = f->records;
    return 0;
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

static int get(struct state_file *f, void *bytes, size_t n, struct error *err)
{
    if (n > 0 && gzread(f->gz, bytes, (unsigned)n) != (int)n)
        return error_set(err, "%s: cut short or damaged", f->path);
    XXH3_64bits_update(f->sum, bytes, n);
    return 0;
}

static int read_partition(struct state_file *f, const struct state_reader *reader, struct error *err)
{
    int32_t id = 0;
    struct offline_place place;
    if (get(f, &id, sizeof id, err) < 0 || get(f, &place.at, 8, err) < 0 || get(f, &place.erased, 8, err) < 0)
        return -1;
    if (id < 0)
        return error_set(err, "%s: damaged: there is no partition %d", f->path, id);
    return reader ? reader->partition(reader->self, id, &place, err) : 0;
}

static int read_record(struct state_file *f, const struct state_reader *reader, uint8_t *room, struct error *err)
{
    uint32_t name_len = 0, len = 0;
    int64_t ttl_ms = 0;
    if (get(f, &name_len, 4, err) < 0 || get(f, &len, 4, err) < 0 || get(f, &ttl_ms, 8, err) < 0)
        return -1;
    if (name_len == 0 || name_len > NAME_BYTES_MAX || len > RECORD_BYTES_MAX)
        return error_set(err, "%s: damaged: a record of %u bytes under a name of %u", f->path, len, name_len);
    if (get(f, room, name_len, err) < 0 || get(f, room + NAME_BYTES_MAX, len, err) < 0)
        return -1;
    f->records++;
    return reader ? reader->record(reader->self, (struct str){(const char *)room, name_len},
                                   room + NAME_BYTES_MAX, len, ttl_ms, err)
                  : 0;
}

static int read_end(struct state_file *f, struct error *err)
{
    uint64_t records = 0, sum = 0;
    uint8_t more;
    if (get(f, &records, 8, err) < 0)
        return -1;
    uint64_t right = XXH3_64bits_digest(f->sum);
    if (get(f, &sum, 8, err) < 0)
        return -1;
    if (sum != right || records != f->records || gzread(f->gz, &more, 1) != 0)
        return error_set(err, "%s: damaged: its checksum is wrong", f->path);
    return 1;
}

static int read_all(struct state_file *f, const struct state_reader *reader, int32_t *partitions, uint8_t *room,
                    struct error *err)
{
    char head[sizeof magic];
    if (get(f, head, sizeof head, err) < 0)
        return -1;
    if (memcmp(head, magic, sizeof magic) != 0)
        return error_set(err, "%s: no backup made by gaitd state export", f->path);
    if (get(f, partitions, sizeof *partitions, err) < 0)
        return -1;
    for (int rc = 0, first = 1;; first = 0) {
        char kind = 0;
        if (get(f, &kind, 1, err) < 0)
            return -1;
        if (kind == 'P')
            rc = read_partition(f, reader, err);
        else if (kind == 'R' && !first)
            rc = read_record(f, reader, room, err);
        else if (kind == 'E')
            rc = read_end(f, err);
        else
            rc = error_set(err, "%s: damaged", f->path);
        if (rc != 0)
            return rc < 0 ? -1 : 0;
    }
}

int state_file_read(const char *path, const struct state_reader *reader, int32_t *partitions, uint64_t *records,
                    struct error *err)
{
    struct state_file *f = make(path);
    f->finished = true; /* nothing of ours to remove */
    f->gz = gzopen(path, "rb");
    uint8_t *room = malloc((size_t)NAME_BYTES_MAX + RECORD_BYTES_MAX);
    assert(room);
    int rc = f->gz ? read_all(f, reader, partitions, room, err) : error_set(err, "%s: %s", path, strerror(errno));
    *records = f->records;
    free(room);
    state_file_destroy(&f);
    return rc;
}
