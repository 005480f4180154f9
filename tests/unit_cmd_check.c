// SPDX-License-Identifier: Apache-2.0
// unit_cmd_check.c - `gaitd check` as scripts and people use it: exit status, all mistakes at once, the flow.
#include "../daemon/cmd.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

extern int optind;

struct fixture {
    char folder[32], path[64];
    char out[16384], err[16384]; /* what the command has written */
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->folder, "/tmp/unit_cmd_check.XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/gaitd.yaml", f->folder);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    char events[64];
    snprintf(events, sizeof events, "%s/events.jsonl", f->folder);
    unlink(events);
    unlink(f->path);
    assert_int_equal(rmdir(f->folder), 0); /* check has written nothing beside it */
    free(f);
    return 0;
}

static void write_file(const struct fixture *f, const char *name, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "%s/%s", f->folder, name);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

static void catch(int fd, FILE *file, int *kept)
{
    fflush(NULL);
    *kept = dup(fd);
    assert_true(dup2(fileno(file), fd) >= 0);
}

static void let_go(int fd, FILE *file, int kept, char *text, size_t cap)
{
    fflush(NULL);
    dup2(kept, fd);
    close(kept);
    rewind(file);
    text[fread(text, 1, cap - 1, file)] = 0;
    fclose(file);
}

static int check(struct fixture *f, int argc, char **argv)
{
    FILE *out = tmpfile(), *err = tmpfile();
    int kept_out, kept_err;
    catch(STDOUT_FILENO, out, &kept_out);
    catch(STDERR_FILENO, err, &kept_err);
    optind = 0;
    int rc = cmd_check(argc, argv);
    let_go(STDERR_FILENO, err, kept_err, f->err, sizeof f->err);
    let_go(STDOUT_FILENO, out, kept_out, f->out, sizeof f->out);
    return rc;
}

static int check_text(struct fixture *f, const char *text)
{
    write_file(f, "gaitd.yaml", text);
    return check(f, 3, (char *[]){"check", "-c", f->path, NULL});
}

static size_t lines_of(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static void a_good_file_shows_its_flow(void **state)
{
    struct fixture *f = *state;
    write_file(f, "events.jsonl", "{}\n");
    assert_int_equal(check_text(f, "source: {file: {paths: events.jsonl}}\nstore: {memory: {}}\n"), 0);
    assert_string_equal(f->err, "");
    assert_non_null(strstr(f->out, "nothing is wrong"));
    assert_non_null(strstr(f->out, "source  source.file\n"));
    assert_non_null(strstr(f->out, "decode  decode.json (filled in)\n"));
    assert_non_null(strstr(f->out, "nothing leaves"));
}

static void mistakes_of_the_file_come_all_at_once(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(check_text(f, "source: {file: {path: x}}\nengine: {batches: 0}\nlogg: {}\n"), 1);
    assert_string_equal(f->out, "");
    assert_int_equal(lines_of(f->err), 5); /* store, paths, path, batches, logg */
    char expected[128];
    snprintf(expected, sizeof expected, "%s:2:19: engine.batches: 0 is too small; at least 1\n", f->path);
    assert_non_null(strstr(f->err, expected));
}

static void mistakes_of_the_modules_come_all_at_once(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(check_text(f, "store: {memory: {}}\ndecode: {json: {fields: {user_idd: x}}}\n"
                                   "source:\n  file: {paths: nonexistent.jsonl}\n"), 1);
    char source[128], decode[128];
    snprintf(source, sizeof source, "%s:4: source.file: ", f->path);
    snprintf(decode, sizeof decode, "%s:2: decode.json: ", f->path);
    assert_non_null(strstr(f->err, source));
    assert_non_null(strstr(f->err, decode));
    assert_int_equal(lines_of(f->err), 2);
}

static void the_command_line(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(check(f, 1, (char *[]){"check", NULL}), 2);
    assert_non_null(strstr(f->err, "-c FILE is missing"));
    assert_int_equal(check(f, 4, (char *[]){"check", "-c", f->path, "more", NULL}), 2);
    assert_non_null(strstr(f->err, "what is 'more'?"));
    assert_int_equal(check(f, 2, (char *[]){"check", "--nonsense", NULL}), 2);
    assert_int_equal(check(f, 2, (char *[]){"check", "--help", NULL}), 0);
    assert_non_null(strstr(f->out, "Example: "));
    assert_int_equal(check(f, 3, (char *[]){"check", "--config", f->path, NULL}), 1);
    assert_non_null(strstr(f->err, "cannot be opened: No such file"));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(a_good_file_shows_its_flow),
        CASE(mistakes_of_the_file_come_all_at_once),
        CASE(mistakes_of_the_modules_come_all_at_once),
        CASE(the_command_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
