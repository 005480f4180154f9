// SPDX-License-Identifier: Apache-2.0
// unit_log.c - what reaches standard error: one line each, nothing an event carries can forge one, repeats held back.
#include "gait/log.h"

#include <jansson.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Standard error into a temporary file while `call` runs; what came, NUL-terminated. */
static void capture(void (*call)(void), char *text, size_t cap)
{
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    call();
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    text[fread(text, 1, cap - 1, file)] = '\0';
    fclose(file);
}

static void say_hostile(void)
{
    log_warning("sink.kafka", "user %s", "x\n2026-01-01 error engine: \x1b[2J forged");
}

static void test_control_characters_are_escaped(void **state)
{
    (void)state;
    char text[4096];
    log_setup(LOG_INFO, LOG_FORMAT_TEXT);
    capture(say_hostile, text, sizeof text);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    assert_null(strchr(text, '\x1b'));
    assert_non_null(strstr(text, " warning sink.kafka: user x\\x0a2026"));
}

static void say_quotes(void)
{
    log_error("engine", "a \"quoted\" \\ word\nand a line");
}

static void test_json_lines_are_json(void **state)
{
    (void)state;
    char text[4096];
    log_setup(LOG_INFO, LOG_FORMAT_JSON);
    capture(say_quotes, text, sizeof text);
    json_t *line = json_loads(text, 0, NULL);
    assert_non_null(line);
    assert_string_equal(json_string_value(json_object_get(line, "text")), "a \"quoted\" \\ word\nand a line");
    assert_string_equal(json_string_value(json_object_get(line, "level")), "error");
    json_decref(line);
}

static void say_often(void)
{
    for (int i = 0; i < 1000; i++)
        log_often(LOG_WARNING, "store", "down");
}

static void test_repeats_are_held_back(void **state)
{
    (void)state;
    char text[65536];
    size_t lines = 0;
    log_setup(LOG_INFO, LOG_FORMAT_TEXT);
    capture(say_often, text, sizeof text);
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    assert_in_range(lines, 1, 3);
}

static void say_long_and_quiet(void)
{
    char text[5000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    log_error("engine", "%s", text);
    log_debug("engine", "not wanted");
}

static void test_a_long_line_is_cut_and_levels_hold(void **state)
{
    (void)state;
    char text[8192];
    log_setup(LOG_INFO, LOG_FORMAT_TEXT);
    capture(say_long_and_quiet, text, sizeof text);
    assert_in_range(strlen(text), 1000, 2200);
    assert_null(strstr(text, "not wanted"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_control_characters_are_escaped),
        cmocka_unit_test(test_json_lines_are_json),
        cmocka_unit_test(test_repeats_are_held_back),
        cmocka_unit_test(test_a_long_line_is_cut_and_levels_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
