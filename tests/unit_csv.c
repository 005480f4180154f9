// SPDX-License-Identifier: Apache-2.0
// unit_csv.c - CSV as JSON lines: quotes, numbers that are ids, empty fields, and files that are no CSV.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gait/csv.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What comes out of a file with this content; the close's text in `problem`, "" when all is well. */
static const char *convert(const char *content, char delimiter, char *problem)
{
    static char out[8192];
    char path[] = "/tmp/gait-csv-XXXXXX";
    struct error err = {""};
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    close(fd);
    struct csv *csv = csv_open(path, delimiter, &err);
    assert_non_null(csv);
    FILE *in = fopen(csv_path(csv), "r");
    assert_non_null(in);
    out[fread(out, 1, sizeof out - 1, in)] = 0;
    fclose(in);
    int rc = csv_close(&csv, &err);
    assert_null(csv);
    snprintf(problem, sizeof err.text, "%s", rc < 0 ? err.text : "");
    unlink(path);
    return out;
}

static void test_rows(void **state)
{
    (void)state;
    char problem[sizeof(struct error)];
    assert_string_equal(convert("user,n\nu1,5\r\n\nu2,\n\"a,b\",-3\n", 0, problem),
                        "{\"user\":\"u1\",\"n\":5}\n{\"user\":\"u2\"}\n{\"user\":\"a,b\",\"n\":-3}\n");
    assert_string_equal(problem, "");
    /* Doubled quotes, a newline within quotes, what JSON has to escape; no newline at the end. */
    assert_string_equal(convert("a;b\n\"x\"\"y\";\"1\n2\"\n\\;\t", ';', problem),
                        "{\"a\":\"x\\\"y\",\"b\":\"1\\u000a2\"}\n{\"a\":\"\\\\\",\"b\":\"\\u0009\"}\n");
    assert_string_equal(problem, "");
    /* Ids keep their zeros, long numbers their digits, decimals their text. */
    assert_string_equal(convert("\xef\xbb\xbfid,big,price,ok\n007,12345678901234567,1.50,true\n", 0, problem),
                        "{\"id\":\"007\",\"big\":\"12345678901234567\",\"price\":\"1.50\",\"ok\":true}\n");
    assert_string_equal(convert("", 0, problem), "");
    assert_string_equal(problem, "");
}

static void test_damage(void **state)
{
    (void)state;
    char problem[sizeof(struct error)];
    convert("a,b\n1,2,3\n", 0, problem);
    assert_non_null(strstr(problem, "row 2: it has more fields"));
    convert("a,b\n\"1,2\n", 0, problem);
    assert_non_null(strstr(problem, "quote is not closed"));
    convert("a,b\n\"1\"x,2\n", 0, problem);
    assert_non_null(strstr(problem, "after a closing quote"));
    struct error err;
    assert_null(csv_open("/nowhere/x.csv", 0, &err));
    assert_non_null(strstr(err.text, "/nowhere/x.csv"));
}

/* A reader that stops in the middle is no fault of the file, and nothing hangs. */
static void test_reader_leaves(void **state)
{
    (void)state;
    char path[] = "/tmp/gait-csv-XXXXXX";
    struct error err;
    FILE *file = fdopen(mkstemp(path), "w");
    fputs("a\n", file);
    for (int i = 0; i < 100000; i++)
        fprintf(file, "%d\n", i);
    fclose(file);
    struct csv *csv = csv_open(path, 0, &err);
    assert_non_null(csv);
    FILE *in = fopen(csv_path(csv), "r");
    char line[64];
    assert_non_null(fgets(line, sizeof line, in));
    fclose(in);
    assert_int_equal(csv_close(&csv, &err), 0);
    unlink(path);
}

static void test_names(void **state)
{
    (void)state;
    assert_true(csv_is("x.csv") && csv_is("a/x.csv.gz") && csv_is("x.tsv.zst"));
    assert_false(csv_is("x.jsonl") || csv_is("csv") || csv_is("x.csv.bak") || csv_is("-"));
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_reader_leaves),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
