// SPDX-License-Identifier: Apache-2.0
// unit_source_file.c - which lines come out of files, pipes and archives, at which offsets; where a restart goes on.
#include "fake_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

extern const struct module source_file;

enum { CAP = 4 };

/* A source on its way through files in a folder of its own. */
struct reading {
    struct engine *e;
    char folder[64];
    const char *paths[4];
    struct partition *p;
    struct event events[CAP];
    struct batch batch;
    char text[8192];    /* every line so far, '|' behind each */
    int64_t offsets[256];
    size_t lines;
};

static const char *path_of(struct reading *r, const char *name)
{
    char *path = malloc(128);
    assert_non_null(path);
    snprintf(path, 128, "%s/%s", r->folder, name);
    return path;
}

static void write_file(const char *path, const char *mode, const void *bytes, size_t n)
{
    FILE *file = fopen(path, mode);
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static void write_text(const char *path, const char *mode, const char *text)
{
    write_file(path, mode, text, strlen(text));
}

static struct reading *reading_new(void)
{
    struct reading *r = calloc(1, sizeof *r);
    assert_non_null(r);
    fake_folder(r->folder);
    return r;
}

static void reading_begin(struct reading *r, size_t paths, bool follow, const char *offset_file, int64_t from)
{
    r->e = fake_new(&source_file);
    struct option_strings list = {r->paths, paths};
    memcpy(fake_option(r->e, "paths"), &list, sizeof list);
    fake_bool(r->e, "follow", follow);
    fake_text(r->e, "offset_file", offset_file);
    fake_int(r->e, "line_bytes", 1024);
    fake_open(r->e);
    fake_flow(r->e, FLOW_TICK, NULL, 0);
    assert_int_equal(r->e->assigned, 1);
    r->p = fake_partition(r->e, 0);
    fake_flow(r->e, FLOW_START, r->p, from);
    r->text[0] = '\0';
    r->lines = 0;
}

static uint32_t read_batch(struct reading *r)
{
    r->batch = (struct batch){.events = r->events, .cap = CAP};
    source_file.run(&r->e->in, &r->batch);
    for (uint32_t i = 0; i < r->batch.n; i++) {
        const struct event *event = &r->events[i];
        size_t n = strlen(r->text);
        assert_true(n + event->raw.len + 2 < sizeof r->text);
        snprintf(r->text + n, sizeof r->text - n, "%.*s|", (int)event->raw.len, event->raw.at);
        assert_true(r->lines == 0 || event->offset > r->offsets[r->lines - 1]);
        assert_true(event->fetched_ns > 0);
        r->offsets[r->lines++] = event->offset;
    }
    if (r->batch.input_done)
        r->batch.input_done(r->batch.input);
    return r->batch.n;
}

static void read_all(struct reading *r)
{
    while (read_batch(r) > 0) {
    }
}

static void reading_end(struct reading *r)
{
    fake_free(r->e);
    r->e = NULL;
}

static void reading_free(struct reading *r)
{
    if (r->e)
        reading_end(r);
    for (size_t i = 0; i < 4; i++)
        free((void *)(uintptr_t)r->paths[i]);
    fake_folder_remove(r->folder);
    free(r);
}

static void commit_offset(struct reading *r, int64_t offset)
{
    unsigned before = r->e->commits_ok;
    source_file.commit(&r->e->in, &(struct commit){.partition = r->p, .offset = offset});
    assert_int_equal(r->e->commits_ok, before + 1);
}

/* ---- the tests -------------------------------------------------------------------------------------------------- */

static void test_lines_and_offsets(void **state)
{
    (void)state;
    struct reading *r = reading_new();
    r->paths[0] = path_of(r, "a");
    r->paths[1] = path_of(r, "b");
    write_text(r->paths[0], "w", "one\r\n\n\ntwo\nthree"); /* empty lines say nothing; the last has no newline */
    write_text(r->paths[1], "w", "four\nfive\nsix\nseven\neight\n");
    reading_begin(r, 2, false, NULL, OFFSET_NONE);
    assert_int_equal(r->e->assigned_committed, OFFSET_NONE);
    read_all(r);
    assert_string_equal(r->text, "one|two|three|four|five|six|seven|eight|");
    const int64_t offsets[] = {0, 7, 11, 16, 21, 26, 30, 36};
    assert_memory_equal(r->offsets, offsets, sizeof offsets);
    read_all(r);
    assert_int_equal(r->e->ended, 1); /* said once */
    reading_free(r);
}

/* The engine's offsets are "one behind the first byte of the last line" or a line's first byte: both must work. */
static void test_going_on_at_an_offset(void **state)
{
    (void)state;
    struct reading *r = reading_new();
    r->paths[0] = path_of(r, "a");
    r->paths[1] = path_of(r, "b");
    write_text(r->paths[0], "w", "one\ntwo\nx\nthree");
    write_text(r->paths[1], "w", "four\nfive\n");
    static const struct {
        int64_t from;
        const char *text;
    } cases[] = {
        {0, "one|two|x|three|four|five|"}, {1, "two|x|three|four|five|"}, {4, "two|x|three|four|five|"},
        {5, "x|three|four|five|"}, {8, "x|three|four|five|"}, {9, "three|four|five|"}, {10, "three|four|five|"},
        {11, "four|five|"}, {15, "four|five|"}, {16, "five|"}, {20, "five|"}, {21, ""}, {1000, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        reading_begin(r, 2, false, NULL, cases[i].from);
        read_all(r);
        assert_string_equal(r->text, cases[i].text);
        assert_int_equal(r->e->ended, 1);
        reading_end(r);
    }
    reading_free(r);
}

static void write_gzip(const char *path, const char *mode, const char *text)
{
    gzFile file = gzopen(path, mode);
    assert_non_null(file);
    assert_int_equal(gzwrite(file, text, (unsigned)strlen(text)), strlen(text));
    assert_int_equal(gzclose(file), Z_OK);
}

static void write_zstd(const char *path, const char *text)
{
    char packed[1024];
    size_t n = ZSTD_compress(packed, sizeof packed, text, strlen(text), 3);
    assert_false(ZSTD_isError(n));
    write_file(path, "w", packed, n);
}

static void test_archives(void **state)
{
    (void)state;
    struct reading *r = reading_new();
    r->paths[0] = path_of(r, "named-like-plain");
    r->paths[1] = path_of(r, "b.zst");
    write_gzip(r->paths[0], "wb", "one\ntwo\n");
    write_gzip(r->paths[0], "ab", "three\n"); /* a second member */
    write_zstd(r->paths[1], "four\nfive");
    reading_begin(r, 2, false, NULL, OFFSET_EARLIEST);
    read_all(r);
    assert_string_equal(r->text, "one|two|three|four|five|");
    reading_end(r);
    reading_begin(r, 2, false, NULL, 9); /* offsets are of the unpacked stream */
    read_all(r);
    assert_string_equal(r->text, "four|five|");
    reading_free(r);
}

static void test_a_damaged_archive_costs_only_its_rest(void **state)
{
    (void)state;
    struct reading *r = reading_new();
    r->paths[0] = path_of(r, "cut.gz");
    r->paths[1] = path_of(r, "b");
    write_gzip(r->paths[0], "wb", "one\ntwo\nthree\n");
    struct stat st;
    assert_int_equal(stat(r->paths[0], &st), 0);
    assert_int_equal(truncate(r->paths[0], st.st_size - 6), 0);
    write_text(r->paths[1], "w", "four\n");
    reading_begin(r, 2, false, NULL, OFFSET_NONE);
    read_all(r);
    assert_non_null(strstr(r->text, "four|"));
    assert_true(metrics_sum(r->e->metrics, "gait_source_file_errors_total") == 1);
    assert_int_equal(r->e->ended, 1);
    assert_int_equal(r->e->damaged, 1);
    reading_free(r);
}

static void test_long_lines(void **state)
{
    (void)state;
    struct reading *r = reading_new();
    r->paths[0] = path_of(r, "a");
    char *text = malloc(4 << 20);
    assert_non_null(text);
    memset(text, 'x', 4 << 20);
    text[1024] = '\n';            /* exactly the bound: allowed */
    text[1025 + 1024] = '\r';     /* a carriage return does not count */
    text[1025 + 1025] = '\n';
    text[2051 + 1025] = '\n';     /* one too many */
    text[(3 << 20)] = '\n';       /* many buffers long */
    memcpy(text + (3 << 20) + 1, "end\n", 4);
    write_file(r->paths[0], "w", text, (3 << 20) + 5);
    reading_begin(r, 1, false, NULL, OFFSET_NONE);
    assert_int_equal(read_batch(r), 4);
    assert_int_equal(r->events[0].verdict, EVENT_OK);
    assert_int_equal(r->events[1].verdict, EVENT_OK);
    assert_int_equal(r->events[1].raw.len, 1024);
    for (int i = 2; i < 4; i++) {
        assert_int_equal(r->events[i].verdict, EVENT_TOO_LARGE);
        assert_int_equal(r->events[i].raw.len, 1024); /* its beginning, for the dead letter */
    }
    r->text[0] = '\0';
    read_all(r);
    assert_string_equal(r->text, "end|");
    assert_int_equal(r->offsets[r->lines - 1], (3 << 20) + 1);
    assert_true(metrics_sum(r->e->metrics, "gait_source_file_too_long_total") == 2);
    free(text);
    reading_free(r);
}

/* Slices stay what they were while many later batches are read. */
static void test_slices_live_until_their_batch_ends(void **state)
{
    (void)state;
    struct reading *r = reading_new();
    r->paths[0] = path_of(r, "a");
    FILE *file = fopen(r->paths[0], "w");
    assert_non_null(file);
    for (int i = 0; i < 30000; i++)
        fprintf(file, "%0200d\n", i);
    fclose(file);
    reading_begin(r, 1, false, NULL, OFFSET_NONE);
    enum { HELD = 8 };
    struct event events[HELD][CAP];
    struct batch held[HELD] = {0};
    int next = 0, checked = 0;
    for (int round = 0; checked < 30000; round++) {
        struct batch *b = &held[round % HELD];
        for (uint32_t i = 0; i < b->n; i++)
            assert_int_equal(atoi(b->events[i].raw.at), checked++);
        if (b->input_done)
            b->input_done(b->input);
        *b = (struct batch){.events = events[round % HELD], .cap = CAP};
        source_file.run(&r->e->in, b);
        for (uint32_t i = 0; i < b->n; i++)
            assert_int_equal(b->events[i].offset, 201 * (int64_t)next++);
    }
    reading_free(r);
}

static void test_a_pipe_does_not_wait(void **state)
{
    (void)state;
    struct reading *r = reading_new();
    r->paths[0] = path_of(r, "pipe");
    assert_int_equal(mkfifo(r->paths[0], 0600), 0);
    reading_begin(r, 1, false, NULL, OFFSET_NONE);
    assert_int_equal(read_batch(r), 0); /* no writer yet */
    int fd = open(r->paths[0], O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(read_batch(r), 0);
    assert_int_equal(write(fd, "first\nsec", 9), 9);
    assert_int_equal(read_batch(r), 1);
    assert_int_equal(read_batch(r), 0);
    assert_int_equal(write(fd, "ond\nlast", 8), 8);
    read_all(r);
    assert_int_equal(r->e->ended, 0);
    close(fd);
    read_all(r);
    assert_string_equal(r->text, "first|second|last|");
    assert_int_equal(r->e->ended, 1);
    reading_free(r);
}

static void test_follow(void **state)
{
    (void)state;
    struct reading *r = reading_new();
    r->paths[0] = path_of(r, "log");
    reading_begin(r, 1, true, NULL, OFFSET_NONE);
    read_all(r); /* not there yet: waits */
    write_text(r->paths[0], "w", "one\ntw");
    read_all(r);
    assert_string_equal(r->text, "one|"); /* the writer is in the middle of a line */
    write_text(r->paths[0], "a", "o\n");
    read_all(r);
    char rotated[128];
    snprintf(rotated, sizeof rotated, "%s.1", r->paths[0]);
    assert_int_equal(rename(r->paths[0], rotated), 0);
    write_text(rotated, "a", "three\n");
    write_text(r->paths[0], "w", "four\n");
    read_all(r);
    write_text(rotated, "a", "late"); /* the writer has not opened the new file yet */
    read_all(r);
    assert_string_equal(r->text, "one|two|three|");
    r->e->skip_ns += 2000000000;
    read_all(r);
    assert_string_equal(r->text, "one|two|three|late|four|");
    write_text(r->paths[0], "w", "5\n"); /* cut and written anew, shorter than before */
    read_all(r);
    assert_string_equal(r->text, "one|two|three|late|four|5|");
    assert_int_equal(r->offsets[5], 4 + 4 + 6 + 4 + 5);
    assert_int_equal(r->e->ended, 0);
    assert_true(metrics_sum(r->e->metrics, "gait_source_file_rotations_total") == 2);
    reading_free(r);
}

static void test_follow_goes_on_after_a_restart(void **state)
{
    (void)state;
    struct reading *r = reading_new();
    r->paths[0] = path_of(r, "log");
    const char *offset_file = path_of(r, "offset");
    r->paths[3] = offset_file;
    write_text(r->paths[0], "w", "one\ntwo\n");
    reading_begin(r, 1, true, offset_file, OFFSET_NONE);
    read_all(r);
    commit_offset(r, 5);
    reading_end(r);
    reading_begin(r, 1, true, offset_file, 5);
    assert_int_equal(r->e->assigned_committed, 5);
    read_all(r);
    assert_string_equal(r->text, "");
    char rotated[128];
    snprintf(rotated, sizeof rotated, "%s.1", r->paths[0]);
    reading_end(r);
    /* rotated while we were away: what was added to the old one comes first */
    write_text(r->paths[0], "a", "three\n");
    assert_int_equal(rename(r->paths[0], rotated), 0);
    write_text(r->paths[0], "w", "four\n");
    reading_begin(r, 1, true, offset_file, 5);
    read_all(r);
    r->e->skip_ns += 2000000000;
    read_all(r);
    assert_string_equal(r->text, "three|four|");
    assert_int_equal(r->offsets[1], 14);
    commit_offset(r, 15);
    reading_end(r);
    /* in the second file its base counts */
    reading_begin(r, 1, true, offset_file, 15);
    write_text(r->paths[0], "a", "five\n");
    read_all(r);
    assert_string_equal(r->text, "five|");
    assert_int_equal(r->offsets[0], 19);
    reading_end(r);
    /* neither file is there any more: from the start of what there is, with growing offsets */
    assert_int_equal(unlink(rotated), 0);
    assert_int_equal(unlink(r->paths[0]), 0);
    write_text(rotated, "w", "other\n");
    write_text(r->paths[0], "w", "new\n");
    reading_begin(r, 1, true, offset_file, 20);
    read_all(r);
    assert_string_equal(r->text, "new|");
    assert_int_equal(r->offsets[0], 20);
    reading_free(r);
}

static void test_drain_hands_over_nothing_more(void **state)
{
    (void)state;
    struct reading *r = reading_new();
    r->paths[0] = path_of(r, "a");
    write_text(r->paths[0], "w", "one\ntwo\nthree\nfour\nfive\n");
    reading_begin(r, 1, false, NULL, OFFSET_NONE);
    assert_int_equal(read_batch(r), CAP);
    fake_flow(r->e, FLOW_DRAIN, NULL, 0);
    assert_int_equal(read_batch(r), 0);
    reading_free(r);
}

/* Dropped and taken over anew: read again from the offset that the store says. */
static void test_reopen(void **state)
{
    (void)state;
    struct reading *r = reading_new();
    r->paths[0] = path_of(r, "a");
    write_text(r->paths[0], "w", "one\ntwo\nthree\nfour\nfive\n");
    reading_begin(r, 1, false, NULL, OFFSET_NONE);
    assert_int_equal(read_batch(r), CAP);
    commit_offset(r, 5);
    fake_flow(r->e, FLOW_CLOSED, r->p, 0);
    assert_int_equal(read_batch(r), 0);
    fake_flow(r->e, FLOW_REOPEN, r->p, 0);
    assert_int_equal(r->e->assigned, 2);
    assert_int_equal(r->e->assigned_committed, 5);
    fake_flow(r->e, FLOW_START, r->p, 4);
    r->text[0] = '\0';
    r->lines = 0;
    read_all(r);
    assert_string_equal(r->text, "two|three|four|five|");
    reading_free(r);
}

static void refuse(struct reading *r, size_t paths, bool follow, const char *offset_file, const char *text)
{
    r->e = fake_new(&source_file);
    struct option_strings list = {r->paths, paths};
    memcpy(fake_option(r->e, "paths"), &list, sizeof list);
    fake_bool(r->e, "follow", follow);
    fake_text(r->e, "offset_file", offset_file);
    assert_int_equal(source_file.open(&r->e->in, true, &r->e->err), -1);
    if (!strstr(r->e->err.text, text))
        fail_msg("\"%s\" does not say \"%s\"", r->e->err.text, text);
    reading_end(r);
}

static void test_what_cannot_be_opened(void **state)
{
    (void)state;
    struct reading *r = reading_new();
    r->paths[0] = path_of(r, "absent");
    r->paths[1] = path_of(r, "present");
    write_text(r->paths[1], "w", "no offsets in here\n");
    refuse(r, 0, false, NULL, "paths");
    refuse(r, 1, false, NULL, "No such file");
    refuse(r, 2, true, NULL, "follows one file");
    r->paths[2] = r->paths[0];
    r->paths[0] = r->paths[1];
    refuse(r, 1, false, r->paths[1], "not a file of offsets");
    r->paths[0] = NULL;
    reading_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_and_offsets),
        cmocka_unit_test(test_going_on_at_an_offset),
        cmocka_unit_test(test_archives),
        cmocka_unit_test(test_a_damaged_archive_costs_only_its_rest),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_slices_live_until_their_batch_ends),
        cmocka_unit_test(test_a_pipe_does_not_wait),
        cmocka_unit_test(test_follow),
        cmocka_unit_test(test_follow_goes_on_after_a_restart),
        cmocka_unit_test(test_drain_hands_over_nothing_more),
        cmocka_unit_test(test_reopen),
        cmocka_unit_test(test_what_cannot_be_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
