// SPDX-License-Identifier: Apache-2.0
// unit_config_value.c - one section of a configuration: what a table of option rows makes of it, and how it complains.
#include "../daemon/config_value.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct sample {
    bool flag;
    int64_t count, wait, wait_ms, size;
    double ratio;
    const char *name, *password, *path, *nothing;
    int colour;
    struct option_strings hosts, files;
    struct option_durations windows;
    struct option_map extra;
};

enum { RED, GREEN, BLUE };
static const char *const colours[] = {[RED] = "red", [GREEN] = "green", [BLUE] = "blue", NULL};

#define AT(member) .name = #member, .offset = offsetof(struct sample, member)
static const struct option rows[] = {
    {AT(flag), .type = OPTION_BOOL, .initial = "true"},
    {AT(count), .type = OPTION_INT, .initial = "3", .min = 1, .max = 8},
    {AT(wait), .type = OPTION_DURATION, .initial = "5s", .min = 1000, .max = 3600000},
    {AT(wait_ms), .type = OPTION_DURATION, .initial = "250ms"},
    {AT(size), .type = OPTION_BYTES, .initial = "64MB", .min = 1024}, /* max below min: no upper bound */
    {AT(ratio), .type = OPTION_REAL, .initial = "0.5", .min = 0, .max = 1},
    {AT(name), .type = OPTION_STRING, .initial = "gait:", .help = "Name."},
    {AT(password), .type = OPTION_STRING, .flags = OPTION_SECRET, .help = "Password."},
    {AT(path), .type = OPTION_PATH, .help = "Path."},
    {AT(nothing), .type = OPTION_STRING, .help = "Nothing."},
    {AT(colour), .type = OPTION_ENUM, .initial = "green", .choices = colours},
    {AT(hosts), .type = OPTION_STRINGS, .flags = OPTION_REQUIRED, .help = "Hosts, each host:port."},
    {AT(files), .type = OPTION_PATHS},
    {AT(windows), .type = OPTION_DURATIONS, .initial = "[5m, 1h]", .min = 1000, .max = 1e10},
    {AT(extra), .type = OPTION_MAP, .initial = "{a: b, c: [d, e]}", .flags = OPTION_SECRET},
    {.name = NULL},
};
#undef AT

struct fixture {
    struct sample conf;
    struct config_errors errors;
    struct arena *memory;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->memory = arena_create(1 << 12, 1 << 24);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    arena_destroy(&f->memory);
    free(f);
    return 0;
}

static void parse(struct fixture *f, const char *text)
{
    struct value_reader r = {.memory = f->memory, .folder = "/etc/gait/", .errors = &f->errors, .where = "sample",
                             .line = 1, .column = 1};
    struct node *root = yaml_tree(f->memory, text, strlen(text), &f->errors);
    f->conf = (struct sample){0};
    if (root)
        config_values(&r, rows, root, &f->conf);
}

static void accept(struct fixture *f, const char *text)
{
    parse(f, text);
    if (f->errors.n)
        fail_msg("%s: %s", text, f->errors.at[0].text);
}

/* Exactly one complaint, at the place, with the words. */
static void refuse(struct fixture *f, const char *text, int line, int column, const char *because)
{
    f->errors.n = 0;
    parse(f, text);
    if (f->errors.n != 1)
        fail_msg("%s: %zu errors, '%s', not one '%s'", text, f->errors.n, f->errors.n ? f->errors.at[0].text : "",
                 because);
    const struct config_error *e = &f->errors.at[0];
    if (e->line != line || e->column != column || !strstr(e->text, because))
        fail_msg("%s: %d:%d: '%s', not %d:%d: '%s'", text, e->line, e->column, e->text, line, column, because);
}

static void defaults_stand_where_nothing_is_said(void **state)
{
    struct fixture *f = *state;
    accept(f, "hosts: a:1");
    assert_true(f->conf.flag);
    assert_int_equal(f->conf.count, 3);
    assert_int_equal(f->conf.wait, 5000);
    assert_int_equal(f->conf.wait_ms, 250);
    assert_int_equal(f->conf.size, 64 << 20);
    assert_true(f->conf.ratio == 0.5);
    assert_string_equal(f->conf.name, "gait:"); /* not taken for a map */
    assert_null(f->conf.password);
    assert_null(f->conf.path);
    assert_int_equal(f->conf.colour, GREEN);
    assert_int_equal(f->conf.files.n, 0);
    assert_int_equal(f->conf.windows.n, 2);
    assert_int_equal(f->conf.windows.at[1], 3600000);
    assert_int_equal(f->conf.extra.n, 2);
    assert_string_equal(f->conf.extra.at[1].key, "c");
    assert_int_equal(f->conf.extra.at[1].values.n, 2);
    assert_string_equal(f->conf.extra.at[1].values.at[1], "e");
}

static void every_type_is_read(void **state)
{
    struct fixture *f = *state;
    accept(f, "flag: no\ncount: 8\nwait: 1h\nwait_ms: 2000\nsize: 1TB\nratio: 1\nname: 123\npassword: \"\"\n"
              "path: models/a.bin\nnothing: ~\ncolour: blue\nhosts: [a, 'b:2']\nfiles: [x, /y, '-']\nwindows: 7d\n"
              "extra:\n  security.protocol: SASL_SSL\n  topics:\n    - one\n    - NO\n");
    assert_false(f->conf.flag);
    assert_int_equal(f->conf.count, 8);
    assert_int_equal(f->conf.wait, 3600000);
    assert_int_equal(f->conf.wait_ms, 2000);
    assert_int_equal(f->conf.size, 1LL << 40);
    assert_string_equal(f->conf.name, "123");
    assert_string_equal(f->conf.password, "");
    assert_string_equal(f->conf.path, "/etc/gait/models/a.bin");
    assert_null(f->conf.nothing);
    assert_int_equal(f->conf.colour, BLUE);
    assert_int_equal(f->conf.hosts.n, 2);
    assert_string_equal(f->conf.hosts.at[1], "b:2");
    assert_string_equal(f->conf.files.at[0], "/etc/gait/x");
    assert_string_equal(f->conf.files.at[1], "/y");
    assert_string_equal(f->conf.files.at[2], "-");
    assert_int_equal(f->conf.windows.n, 1);
    assert_int_equal(f->conf.windows.at[0], 7 * 86400000LL);
    assert_string_equal(f->conf.extra.at[0].values.at[0], "SASL_SSL");
    assert_string_equal(f->conf.extra.at[1].values.at[1], "NO"); /* Norway, not false */
    assert_int_equal(f->conf.extra.at[1].line, 17);
    assert_int_equal(f->conf.extra.at[1].column, 3);
}

static void json_is_yaml(void **state)
{
    struct fixture *f = *state;
    accept(f, "{\"hosts\": [\"a:1\"], \"count\": 4, \"flag\": false, \"nothing\": null,\n"
              " \"extra\": {\"k\": \"\\u00e9\"}}");
    assert_int_equal(f->conf.count, 4);
    assert_false(f->conf.flag);
    assert_string_equal(f->conf.extra.at[0].values.at[0], "\xc3\xa9");
}

static void environment_is_not_expanded(void **state)
{
    struct fixture *f = *state;
    accept(f, "{hosts: a, name: '${HOME}'}");
    assert_string_equal(f->conf.name, "${HOME}");
}

/* Several daemons share a file; what must differ between them carries the name of the instance. */
static void the_instance_has_a_place(void **state)
{
    struct fixture *f = *state;
    setenv("GAIT_INSTANCE", "2", 1);
    accept(f, "{hosts: a, name: 'gait-{instance}/{instance}.sock'}");
    assert_string_equal(f->conf.name, "gait-2/2.sock");
    setenv("GAIT_INSTANCE", "{instance}", 1);
    accept(f, "{hosts: a, name: '{instance}'}");
    assert_string_equal(f->conf.name, "{instance}");
    setenv("GAIT_INSTANCE", "../x", 1);
    refuse(f, "{hosts: a, name: '{instance}'}", 1, 18, "without '/'");
    unsetenv("GAIT_INSTANCE");
    refuse(f, "{hosts: a, name: '{instance}'}", 1, 18, "GAIT_INSTANCE, which is not set");
}

static void wrong_values_say_what_would_be_right(void **state)
{
    struct fixture *f = *state;
    refuse(f, "hosts: a\ncount: 20", 2, 8, "sample.count: 20 is too large; at most 8");
    refuse(f, "hosts: a\ncount: 0", 2, 8, "0 is too small; at least 1");
    refuse(f, "hosts: a\ncount: many", 2, 8, "'many' is not a whole number");
    refuse(f, "hosts: a\ncount: [1]", 2, 8, "wants a whole number, not a list");
    refuse(f, "hosts: a\ncount:", 2, 7, "has no value; write a whole number, or leave the key out for the default 3");
    refuse(f, "hosts: a\nwait: 5 parsecs", 2, 7, "no unit 'parsecs'; write ms, s, m, h, d or w");
    refuse(f, "hosts: a\nwait: 5000", 2, 7, "'5000' lacks a unit");
    refuse(f, "hosts: a\nwait: 2d", 2, 7, "2d is too large; at most 1h");
    refuse(f, "hosts: a\nwait_ms: -1", 2, 10, "-1 is too small; at least 0ms");
    refuse(f, "hosts: a\nsize: 5 parsecs", 2, 7, "no unit 'parsecs'; write B, KB, MB, GB or TB");
    refuse(f, "hosts: a\nsize: 1", 2, 7, "1 is too small; at least 1KB");
    refuse(f, "hosts: a\nratio: 1.5", 2, 8, "1.5 is too large; at most 1");
    refuse(f, "hosts: a\nratio: .nan", 2, 8, "'.nan' is not a number");
    refuse(f, "hosts: a\nflag: maybe", 2, 7, "'maybe' is neither true nor false");
    refuse(f, "hosts: a\ncolour: gren", 2, 9, "did you mean 'green'? One of: red, green, blue");
    refuse(f, "hosts: a\ncolour: purple", 2, 9, "'purple' is not known; one of: red, green, blue");
    refuse(f, "hosts: a\npath: ''", 2, 7, "must not be empty");
    refuse(f, "hosts: a\nname: {b: c}", 2, 7, "wants a text, not a map");
    refuse(f, "hosts: a\nwindows: [5m, soon]", 2, 15, "'soon' does not begin with a number");
    refuse(f, "hosts: a\nwindows: [5m, [1h]]", 2, 15, "wants a list of durations, not a list in a list");
    refuse(f, "hosts: a\nextra: [a]", 2, 8, "wants a map (key: value), not a list");
    refuse(f, "hosts: a\nextra: {k: }", 2, 12, "'k' has no value");
    refuse(f, "hosts: a\nextra: {k: []}", 2, 12, "'k' has an empty list");
}

static void keys_are_known_once_and_complete(void **state)
{
    struct fixture *f = *state;
    refuse(f, "{}", 1, 1, "sample.hosts is missing: Hosts, each host:port.");
    refuse(f, "", 0, 0, "empty");
    refuse(f, "hosts: ''", 1, 8, "must not be empty");
    refuse(f, "hosts: []", 1, 8, "must not be empty");
    refuse(f, "hosts:", 1, 7, "has no value");
    refuse(f, "hosts: a\npasword: x", 2, 1, "there is no setting 'pasword'; did you mean 'password'?");
    refuse(f, "hosts: a\nelephant: x", 2, 1, "there is no setting 'elephant'; there are: flag, count, wait");
    refuse(f, "hosts: a\ncount: 1\ncount: 2", 3, 1, "'count' is set twice; first in line 2");
    parse(f, "5");
    assert_int_equal(f->errors.n, 3); /* the double, no hosts, no map */
}

static void all_mistakes_in_the_order_of_the_file(void **state)
{
    struct fixture *f = *state;
    parse(f, "count: 99\nwidth: 2\nwait: now\ncount: 1\nratio: x");
    static const int lines[] = {1, 1, 2, 3, 4, 5}; /* hosts is missing in the section, which begins in line 1 */
    assert_int_equal(f->errors.n, 6);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(f->errors.at[i].line, lines[i]);
}

static char *write_secret(const char *bytes, size_t n)
{
    char *path = strdup("/tmp/unit_config_value.XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), (ssize_t)n);
    close(fd);
    return path;
}

static void secrets_come_from_files_and_credentials(void **state)
{
    struct fixture *f = *state;
    char text[256], *path = write_secret("s3cret\n", 7);
    snprintf(text, sizeof text, "{hosts: a, password: {file: %s}, extra: {sasl.password: {file: %s}}}", path, path);
    accept(f, text);
    assert_string_equal(f->conf.password, "s3cret");
    assert_string_equal(f->conf.extra.at[0].values.at[0], "s3cret");
    setenv("CREDENTIALS_DIRECTORY", "/tmp", 1);
    snprintf(text, sizeof text, "{hosts: a, password: {credential: %s}}", path + strlen("/tmp/"));
    accept(f, text);
    assert_string_equal(f->conf.password, "s3cret");
    refuse(f, "{hosts: a, password: {credential: ../etc/passwd}}", 1, 35, "has no '/'");
    unsetenv("CREDENTIALS_DIRECTORY");
    refuse(f, text, 1, 35, "the service manager has not set CREDENTIALS_DIRECTORY");
    unlink(path);
    free(path);
}

static void secrets_that_cannot_be_read(void **state)
{
    struct fixture *f = *state;
    char text[256], *binary = write_secret("a\0b", 3), *empty = write_secret("\n", 1);
    refuse(f, "{hosts: a, password: {file: /nonexistent/x}}", 1, 29, "/nonexistent/x: No such file");
    refuse(f, "{hosts: a, password: {file: nonexistent}}", 1, 29, "/etc/gait/nonexistent: No such file");
    refuse(f, "{hosts: a, password: {file: /tmp}}", 1, 29, "Is a directory");
    refuse(f, "{hosts: a, password: {fil: /tmp/x}}", 1, 22, "wants a text, {file: PATH} or {credential: NAME}");
    refuse(f, "{hosts: a, password: [x]}", 1, 22, "not a list");
    refuse(f, "{hosts: a, password: {file: /dev/zero}}", 1, 29, "larger than 64 KB");
    snprintf(text, sizeof text, "{hosts: a, password: {file: %s}}", binary);
    refuse(f, text, 1, 29, "contains a NUL byte");
    snprintf(text, sizeof text, "{hosts: a, password: {file: %s}}", empty);
    refuse(f, text, 1, 29, "is empty");
    refuse(f, "{hosts: a, name: {file: /etc/hostname}}", 1, 18, "wants a text, not a map"); /* no secret */
    unlink(binary);
    unlink(empty);
    free(binary);
    free(empty);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(defaults_stand_where_nothing_is_said),
        CASE(every_type_is_read),
        CASE(json_is_yaml),
        CASE(environment_is_not_expanded),
        CASE(the_instance_has_a_place),
        CASE(wrong_values_say_what_would_be_right),
        CASE(keys_are_known_once_and_complete),
        CASE(all_mistakes_in_the_order_of_the_file),
        CASE(secrets_come_from_files_and_credentials),
        CASE(secrets_that_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
