// SPDX-License-Identifier: Apache-2.0
// csv.c - CSV to JSON lines. One thread reads, converts and writes to a pipe; who opens csv_path() reads the other end.
#include "gait/csv.h"

#include "stream.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COLUMNS_MAX = 512, ROW_BYTES = 1 << 20, CHUNK_BYTES = 1 << 16 };

struct csv {
    struct stream *stream;
    char delimiter;
    int from, to;             /* the pipe's ends */
    char path[32];
    pthread_t thread;
    struct error problem;
    bool broken;
    size_t row;               /* complete ones so far, the header and empty ones too */
    char *names[COLUMNS_MAX]; /* as JSON keys with quotes and colon */
    size_t columns;
    /* the row at hand */
    char *text;               /* [ROW_BYTES] fields, each closed by NUL */
    size_t text_n, fields_n;
    size_t field[COLUMNS_MAX];
    bool quoted, was_quoted, quote_seen;
    FILE *out;
};

bool csv_is(const char *path)
{
    size_t n = strlen(path);
    if (n > 3 && strcmp(path + n - 3, ".gz") == 0)
        n -= 3;
    else if (n > 4 && strcmp(path + n - 4, ".zst") == 0)
        n -= 4;
    return n > 4 && (strncmp(path + n - 4, ".csv", 4) == 0 || strncmp(path + n - 4, ".tsv", 4) == 0);
}

/* ---- rows out ---------------------------------------------------------------------------------------------------- */

static void put_text(FILE *out, const char *text)
{
    putc_unlocked('"', out);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            putc_unlocked('\\', out);
        if (c < 0x20)
            fprintf(out, "\\u%04x", c);
        else
            putc_unlocked(c, out);
    }
    putc_unlocked('"', out);
}

/* What may stand in JSON without quotes: not 007, which is somebody's id, nor more digits than a double keeps. */
static bool is_bare(const char *text)
{
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        return true;
    text += *text == '-';
    size_t n = strspn(text, "0123456789");
    return n > 0 && n <= 15 && !text[n] && (n == 1 || *text != '0');
}

/* The row that is being read is the one after the last complete one. */
static int fail(struct csv *c, const char *text)
{
    c->broken = true;
    return error_set(&c->problem, "row %zu: %s", c->row + 1, text);
}

static int take_header(struct csv *c)
{
    const char *mark = "\xef\xbb\xbf"; /* some spreadsheets put a byte order mark first */
    for (size_t i = 0; i < c->fields_n; i++) {
        size_t len = 0;
        const char *name = c->text + c->field[i];
        FILE *key = open_memstream(&c->names[i], &len);
        assert(key);
        put_text(key, i == 0 && strncmp(name, mark, 3) == 0 ? name + 3 : name);
        putc_unlocked(':', key);
        fclose(key);
    }
    c->columns = c->fields_n;
    return 0;
}

static int put_row(struct csv *c)
{
    if (c->fields_n == 1 && !c->text[0]) /* an empty line */
        return 0;
    if (c->columns == 0)
        return take_header(c);
    if (c->fields_n > c->columns)
        return fail(c, "it has more fields than the header; is the delimiter right?");
    bool first = true;
    putc_unlocked('{', c->out);
    for (size_t i = 0; i < c->fields_n; i++) {
        const char *value = c->text + c->field[i];
        if (!*value)
            continue;
        if (!first)
            putc_unlocked(',', c->out);
        first = false;
        fputs(c->names[i], c->out);
        if (is_bare(value))
            fputs(value, c->out);
        else
            put_text(c->out, value);
    }
    fputs("}\n", c->out);
    return ferror(c->out) ? -1 : 0; /* nobody reads any more: no fault of the file */
}

/* ---- bytes in ---------------------------------------------------------------------------------------------------- */

static int put_byte(struct csv *c, char byte)
{
    if (c->text_n == ROW_BYTES)
        return fail(c, "longer than a megabyte; a quote may be missing");
    c->text[c->text_n++] = byte;
    return 0;
}

static int end_field(struct csv *c)
{
    if (put_byte(c, 0) < 0)
        return -1;
    c->quoted = c->was_quoted = c->quote_seen = false;
    if (c->fields_n + 1 == COLUMNS_MAX)
        return fail(c, "more than 511 fields");
    c->field[++c->fields_n] = c->text_n;
    return 0;
}

static int end_row(struct csv *c)
{
    if (c->text_n > c->field[c->fields_n] && !c->was_quoted && c->text[c->text_n - 1] == '\r')
        c->text_n--;
    if (end_field(c) < 0 || put_row(c) < 0)
        return -1;
    c->row++;
    c->text_n = c->fields_n = 0;
    return 0;
}

static int take_byte(struct csv *c, char byte)
{
    if (c->quoted) {
        if (!c->quote_seen && byte == '"') {
            c->quote_seen = true; /* the end, or the first of two */
            return 0;
        }
        if (!c->quote_seen || byte == '"') {
            c->quote_seen = false;
            return put_byte(c, byte);
        }
        c->quoted = c->quote_seen = false;
    }
    if (byte == c->delimiter)
        return end_field(c);
    if (byte == '\n')
        return end_row(c);
    if (c->was_quoted)
        return byte == '\r' ? 0 : fail(c, "text after a closing quote");
    if (byte == '"' && c->text_n == c->field[c->fields_n]) {
        c->quoted = c->was_quoted = true;
        return 0;
    }
    return put_byte(c, byte);
}

static int convert(struct csv *c)
{
    char chunk[CHUNK_BYTES];
    ssize_t n;
    while ((n = stream_read(c->stream, chunk, sizeof chunk)) > 0)
        for (ssize_t i = 0; i < n; i++)
            if (take_byte(c, chunk[i]) < 0)
                return -1;
    if (n < 0)
        return fail(c, n == STREAM_WAIT ? "pipes are not read as CSV" : stream_problem(c->stream));
    if (c->quoted && !c->quote_seen)
        return fail(c, "a quote is not closed");
    return c->text_n > 0 || c->fields_n > 0 ? end_row(c) : 0;
}

static void *run(void *argument)
{
    struct csv *c = argument;
    convert(c);
    fclose(c->out); /* and with it the pipe's end */
    return NULL;
}

/* ---- open, close ------------------------------------------------------------------------------------------------- */

struct csv *csv_open(const char *path, char delimiter, struct error *err)
{
    struct csv *c = calloc(1, sizeof *c);
    int ends[2] = {-1, -1};
    assert(c);
    c->delimiter = delimiter ? delimiter : strstr(path, ".tsv") ? '\t' : ',';
    c->stream = stream_open(path, err);
    if (!c->stream || pipe2(ends, O_CLOEXEC) < 0) {
        if (c->stream)
            error_set(err, "%s: %s", path, strerror(errno));
        stream_close(&c->stream);
        free(c);
        return NULL;
    }
    c->from = ends[0];
    c->to = ends[1];
    c->out = fdopen(c->to, "w");
    c->text = malloc(ROW_BYTES);
    assert(c->out && c->text);
    snprintf(c->path, sizeof c->path, "/dev/fd/%d", c->from);
    int rc = pthread_create(&c->thread, NULL, run, c);
    assert(rc == 0);
    return c;
}

const char *csv_path(const struct csv *csv)
{
    return csv->path;
}

int csv_close(struct csv **csv, struct error *err)
{
    struct csv *c = *csv;
    if (!c)
        return 0;
    close(c->from); /* a thread that still writes then gets EPIPE */
    pthread_join(c->thread, NULL);
    int rc = c->broken ? -1 : 0;
    if (rc < 0)
        error_set(err, "%s", c->problem.text);
    for (size_t i = 0; i < c->columns; i++)
        free(c->names[i]);
    stream_close(&c->stream);
    free(c->text);
    free(c);
    *csv = NULL;
    return rc;
}
