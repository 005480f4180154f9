// SPDX-License-Identifier: Apache-2.0
// unit_tail.c - what `gaitd tail` and `gaitd top` show of what events and daemons say, and that it is no command to it.
#include "tail_line.h"
#include "top_view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *shown(const char *json, const struct tail_form *form, bool *wanted)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    bool got = tail_line(out, json, strlen(json), form);
    if (wanted)
        *wanted = got;
    fclose(out);
    return text;
}

static void expect(const char *json, const char *line)
{
    char *text = shown(json, &(struct tail_form){0}, NULL);
    assert_string_equal(text, line);
    free(text);
}

static void test_scores_and_alerts_are_readable(void **state)
{
    (void)state;
    expect("{\"user\":\"u1\",\"ts\":1764000000123,\"intent\":0.25,"
           "\"interests\":[{\"category\":\"shoes\",\"score\":0.5},"
           "{\"category\":\"bags\",\"score\":0.125}],\"degraded\":true}",
           "2025-11-24 16:00:00.123  u1  intent 0.250  shoes 0.500, bags 0.125  (degraded)\n");
    expect("{\"alert_id\":\"00\",\"user\":\"u1\",\"ts\":1764000000000,\"action\":\"block\",\"score\":12.5,"
           "\"symbols\":[{\"text\":\"too fast\"},{\"text\":\"too far\"}]}",
           "2025-11-24 16:00:00.000  u1  block 12.5  too fast; too far\n");
}

static void test_a_user_s_name_is_no_command_to_the_terminal(void **state)
{
    (void)state;
    expect("{\"user\":\"x\\u001b[2J\\n\\u009b5m\\u00e9\",\"ts\":0,\"intent\":null}",
           "1970-01-01 00:00:00.000  x?[2J??5m\xc3\xa9  \n");
}

static void test_only_what_was_asked_for(void **state)
{
    (void)state;
    bool wanted;
    const char *json = "{\"user\":\"u1\",  \"ts\":0}";
    free(shown(json, &(struct tail_form){.user = "u2"}, &wanted));
    assert_false(wanted);
    free(shown("{\"user\":", &(struct tail_form){0}, &wanted));
    assert_false(wanted);
    free(shown("[1]", &(struct tail_form){0}, &wanted));
    assert_false(wanted);
    char *text = shown(json, &(struct tail_form){.user = "u1", .json = true}, &wanted);
    assert_true(wanted);
    assert_string_equal(text, "{\"user\":\"u1\",  \"ts\":0}\n");
    free(text);
}

/* Fields that are missing, null or of another type are dashes: the daemon may be a newer one. */
static void test_top_shows_what_there_is(void **state)
{
    (void)state;
    static const char *const statuses[] = {
        "{}", "[]",
        "{\"ready\":false,\"why\":\"no \\u001b broker\",\"rates\":{\"events_per_s\":1234.4,\"lag\":null,\"own_ms\":"
        "{\"p50\":1.5,\"p99\":null}},\"partitions\":[{\"id\":3,\"state\":\"open\",\"lag\":7}],"
        "\"table\":{\"users\":5,\"used_bytes\":5e6,\"limit_bytes\":1e7}}",
    };
    for (size_t i = 0; i < 3; i++) {
        char *text = NULL;
        size_t n = 0;
        FILE *out = open_memstream(&text, &n);
        json_t *status = json_loads(statuses[i], 0, NULL);
        json_t *alerts = json_loads("{\"alerts\":[{\"user\":\"\\u001b\",\"action\":\"block\",\"ts\":0},{}]}", 0, NULL);
        top_view(out, status, alerts, 1);
        fclose(out);
        assert_null(strchr(text, '\033'));
        assert_non_null(strstr(text, "! 01-01 00:00:00  block 0.0  ?  -\n"));
        if (i == 2) {
            assert_non_null(strstr(text, "! not ready: no ? broker\n"));
            assert_non_null(strstr(text, "  events/s       1234    lag            -"));
            assert_non_null(strstr(text, "p50     1.50  p99        -\n"));
            assert_non_null(strstr(text, "[###############               ] 5 of 10 MB, 5 users"));
            assert_non_null(strstr(text, "      3  open      lag          7  unsaved 0\n"));
        }
        json_decref(status);
        json_decref(alerts);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores_and_alerts_are_readable),
        cmocka_unit_test(test_a_user_s_name_is_no_command_to_the_terminal),
        cmocka_unit_test(test_only_what_was_asked_for),
        cmocka_unit_test(test_top_shows_what_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
