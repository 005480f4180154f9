// SPDX-License-Identifier: Apache-2.0
// unit_sink_file.c - lines come out once each; tickets are held until they are written; a full disk, a slow reader and
// a rotated file lose nothing.
#include "fake_engine.h"

#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

extern const struct module sink_file;

enum { N = 4 };

struct sinking {
    struct engine *e;
    char folder[64], scores[96], alerts[96], dead[96];
    struct event events[N];
    struct score score[N];
    struct alert alert;
    struct ticket ticket;
    struct batch batch;
};

static int setup(void **state)
{
    struct sinking *s = calloc(1, sizeof *s);
    assert_non_null(s);
    fake_folder(s->folder);
    snprintf(s->scores, sizeof s->scores, "%s/scores", s->folder);
    snprintf(s->alerts, sizeof s->alerts, "%s/alerts", s->folder);
    snprintf(s->dead, sizeof s->dead, "%s/dead", s->folder);
    s->e = fake_new(&sink_file);
    s->batch = (struct batch){.events = s->events, .scores = s->score, .alerts = &s->alert, .n = N,
                              .ticket = &s->ticket};
    for (int i = 0; i < N; i++)
        s->events[i] = (struct event){.user = str_of("anna"), .raw = str_of("raw bytes"), .offset = i};
    s->alert = (struct alert){.event = 0, .id = 7, .action = "review"};
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct sinking *s = *state;
    fake_free(s->e);
    fake_folder_remove(s->folder);
    free(s);
    return 0;
}

static void begin(struct sinking *s)
{
    fake_text(s->e, "scores", s->scores);
    fake_text(s->e, "alerts", s->alerts);
    fake_text(s->e, "dead", s->dead);
    fake_open(s->e);
}

static size_t lines_in(const char *path)
{
    FILE *file = fopen(path, "r");
    size_t lines = 0;
    if (!file)
        return 0;
    for (int c; (c = fgetc(file)) != EOF;)
        lines += c == '\n';
    fclose(file);
    return lines;
}

static void run(struct sinking *s)
{
    sink_file.run(&s->e->in, &s->batch);
}

static void tick(struct sinking *s)
{
    fake_flow(s->e, FLOW_TICK, NULL, 0);
}

static void test_each_to_its_file(void **state)
{
    struct sinking *s = *state;
    begin(s);
    s->score[0].publish = s->score[1].publish = s->score[3].publish = true;
    s->events[2].verdict = EVENT_BAD_JSON;
    s->events[1].silent = true; /* replayed: written before */
    s->batch.alerts_n = 1;
    run(s);
    assert_int_equal(s->ticket.holds, 1);
    assert_int_equal(lines_in(s->scores), 0);
    tick(s);
    assert_int_equal(s->ticket.holds, 0);
    assert_int_equal(lines_in(s->scores), 2);
    assert_int_equal(lines_in(s->alerts), 1);
    assert_int_equal(lines_in(s->dead), 1);
    tick(s);
    assert_int_equal(lines_in(s->scores), 2);
}

static void test_nothing_to_write_holds_nothing(void **state)
{
    struct sinking *s = *state;
    begin(s);
    s->events[0].verdict = EVENT_DUPLICATE; /* no dead letter */
    run(s);
    assert_int_equal(s->ticket.holds, 0);
}

static void test_drain_writes_at_once(void **state)
{
    struct sinking *s = *state;
    begin(s);
    s->score[0].publish = true;
    run(s);
    fake_flow(s->e, FLOW_DRAIN, NULL, 0);
    assert_int_equal(lines_in(s->scores), 1);
    run(s); /* batches that were in work */
    assert_int_equal(lines_in(s->scores), 2);
    assert_int_equal(s->ticket.holds, 0);
}

/* A limit on the file's size stands for a full disk: part of a line fits, the rest does not. */
static void test_full_disk(void **state)
{
    struct sinking *s = *state;
    struct rlimit before, limit;
    begin(s);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 100;
    s->score[0].publish = s->score[1].publish = true;
    char huge[3000];
    memset(huge, 'x', sizeof huge);
    s->events[2].verdict = EVENT_BAD_JSON;
    s->events[2].raw = (struct str){huge, sizeof huge};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    size_t batches = 0;
    while (!s->e->in.busy && batches < 10000) { /* goes on until much waits, then says so */
        run(s);
        batches++;
        if (batches % 100 == 0)
            tick(s);
    }
    assert_true(s->e->in.busy);
    assert_int_equal(s->ticket.holds, batches);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(metrics_sum(s->e->metrics, "gait_sink_file_errors_total") > 0);
    tick(s);
    assert_false(s->e->in.busy);
    assert_int_equal(s->ticket.holds, 0);
    assert_int_equal(lines_in(s->scores), 2 * batches);
    assert_int_equal(lines_in(s->dead), batches);
}

static void test_slow_reader_and_none(void **state)
{
    struct sinking *s = *state;
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(mkfifo(s->scores, 0600), 0);
    int reader = open(s->scores, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    fake_text(s->e, "scores", s->scores);
    s->e->in.loop = ev_loop_new(EVFLAG_AUTO);
    fake_open(s->e);
    s->score[0].publish = true;
    size_t batches = 0, read_lines = 0;
    while (!s->e->in.busy) {
        run(s);
        batches++;
    }
    char buf[65536];
    while (s->ticket.holds > 0) { /* the loop itself goes on writing as the reader reads */
        ssize_t n = read(reader, buf, sizeof buf);
        for (ssize_t i = 0; i < n; i++)
            read_lines += buf[i] == '\n';
        ev_run(s->e->in.loop, EVRUN_NOWAIT);
    }
    for (ssize_t n; (n = read(reader, buf, sizeof buf)) > 0;)
        for (ssize_t i = 0; i < n; i++)
            read_lines += buf[i] == '\n';
    assert_int_equal(read_lines, batches);
    assert_false(s->e->in.busy);
    close(reader); /* `gaitd run … | head` */
    run(s);
    tick(s);
    run(s);
    assert_int_equal(s->ticket.holds, 0);
    assert_true(metrics_sum(s->e->metrics, "gait_sink_file_lost_total") == 2);
    ev_loop_destroy(s->e->in.loop);
    s->e->in.loop = NULL;
}

static void test_rotated(void **state)
{
    struct sinking *s = *state;
    char old[128];
    begin(s);
    snprintf(old, sizeof old, "%s.1", s->scores);
    s->score[0].publish = true;
    run(s);
    tick(s);
    assert_int_equal(rename(s->scores, old), 0);
    run(s);
    tick(s); /* what was buffered still goes to the old one; then the new one is made */
    run(s);
    tick(s);
    assert_int_equal(lines_in(old), 2);
    assert_int_equal(lines_in(s->scores), 1);
}

static void test_what_is_left_is_written_at_the_end(void **state)
{
    struct sinking *s = *state;
    begin(s);
    s->score[0].publish = true;
    run(s);
    sink_file.close(&s->e->in);
    assert_int_equal(lines_in(s->scores), 1);
}

static void refuse(struct sinking *s, bool check, const char *text)
{
    assert_int_equal(sink_file.open(&s->e->in, check, &s->e->err), -1);
    if (!strstr(s->e->err.text, text))
        fail_msg("\"%s\" does not say \"%s\"", s->e->err.text, text);
    sink_file.close(&s->e->in);
}

static void test_what_cannot_be_opened(void **state)
{
    struct sinking *s = *state;
    struct stat st;
    refuse(s, true, "at least one");
    fake_text(s->e, "scores", "/nowhere/at/all");
    refuse(s, true, "scores: /nowhere/at: No such file");
    refuse(s, false, "scores: /nowhere/at/all: No such file");
    fake_text(s->e, "scores", s->scores);
    assert_int_equal(sink_file.open(&s->e->in, true, &s->e->err), 0);
    assert_int_equal(stat(s->scores, &st), -1); /* checking makes no file */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_to_its_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_to_write_holds_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_drain_writes_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_reader_and_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_left_is_written_at_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_opened, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
