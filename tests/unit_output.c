// SPDX-License-Identifier: Apache-2.0
// unit_output.c - the outgoing messages: valid JSON whatever the text, numbers exact to the last decimal asked for,
// nothing half-written when the room is too small.
#include "gait/output.h"

#include "gait/model.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_bytes(const char *buf, size_t n, const char *expected)
{
    if (n != strlen(expected) || memcmp(buf, expected, n) != 0)
        fail_msg("'%.*s' is not '%s'", (int)n, buf, expected);
}

/* ---- numbers --------------------------------------------------------------------------------------------------- */

static void assert_number(double value, int decimals, const char *expected)
{
    char buf[400];
    assert_bytes(buf, output_number(value, decimals, buf, sizeof buf), expected);
}

static void test_numbers(void **state)
{
    (void)state;
    assert_number(0, 6, "0");
    assert_number(-0.0, 6, "0");
    assert_number(1, 6, "1");
    assert_number(0.5, 6, "0.5");
    assert_number(0.000001, 6, "0.000001");
    assert_number(0.0000004, 6, "0");
    assert_number(-0.0000004, 6, "0");
    assert_number(0.9999996, 6, "1");
    assert_number(-12.25, 1, "-12.2"); /* half to even, as printf has it */
    assert_number(-12.35, 1, "-12.3"); /* the double lies just below the half */
    assert_number(2.5, 0, "2");
    assert_number(3.5, 0, "4");
    assert_number(1e-300, 9, "0");
    assert_number(123456789.125, 2, "123456789.12");
    assert_number(9007199254740993.0, 6, "9007199254740992");
    assert_number(1e20, 6, "100000000000000000000");
    assert_number(NAN, 6, "null");
    assert_number(-INFINITY, 6, "null");
    char buf[400];
    assert_int_equal(output_number(-1.7976931348623157e308, 9, buf, sizeof buf), 310);
}

/* What printf says, without the zeros at the end. */
static void expected_number(double value, int decimals, char *text)
{
    int n = sprintf(text, "%.*f", decimals, value);
    if (decimals > 0)
        while (text[n - 1] == '0')
            n--;
    if (text[n - 1] == '.')
        n--;
    text[n] = 0;
    if (strcmp(text, "-0") == 0)
        strcpy(text, "0");
}

static void test_numbers_equal_printf(void **state)
{
    (void)state;
    uint64_t seed = 88172645463325252u;
    char expected[400];
    for (int i = 0; i < 300000; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        int decimals = (int)(seed % 10);
        double value = (double)(int64_t)(seed >> 11) * 0x1p-53 * pow(10, (double)(i % 22) - 8);
        if (i % 3 == 1) /* a half of the last decimal, or a hair beside it */
            value = ((double)(seed % 100000) + 0.5) / pow(10, decimals);
        if (i % 7 == 0)
            value = (double)(float)-value;
        expected_number(value, decimals, expected);
        assert_number(value, decimals, expected);
    }
}

/* ---- text ------------------------------------------------------------------------------------------------------ */

static void assert_escaped(const char *bytes, size_t len, const char *expected)
{
    char buf[400];
    assert_bytes(buf, output_escape((struct str){bytes, (uint32_t)len}, buf, sizeof buf), expected);
}

static void test_escapes(void **state)
{
    (void)state;
    assert_escaped("plain", 5, "plain");
    assert_escaped("", 0, "");
    assert_escaped("a\"b\\c\n\r\t\x01\0", 10, "a\\\"b\\\\c\\n\\r\\t\\u0001\\u0000");
    assert_escaped("ä€😀", 9, "ä€😀");
    assert_escaped("\xC3(", 2, "\xEF\xBF\xBD(");
    assert_escaped("\xC0\xAF", 2, "\xEF\xBF\xBD\xEF\xBF\xBD");            /* overlong */
    assert_escaped("\xED\xA0\x80", 3, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"); /* surrogate */
    assert_escaped("\xF4\x90\x80\x80", 4, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
    assert_escaped("x\xE2\x82", 3, "x\xEF\xBF\xBD\xEF\xBF\xBD");          /* cut short */
}

/* ---- messages -------------------------------------------------------------------------------------------------- */

struct fixture {
    struct event events[2];
    struct score scores[2];
    struct str names[3], json[3];
    struct model model;
    struct batch batch;
    char buf[4096];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    static const char *const names[] = {"shoes", "a\"b", "ü"}, *const json[] = {"\"shoes\"", "\"a\\\"b\"", "\"ü\""};
    for (int i = 0; i < 3; i++) {
        f->names[i] = str_of(names[i]);
        f->json[i] = str_of(json[i]);
    }
    f->model = (struct model){.heads_n = 1, .interest = 0, .intent = -1, .id_text = "00c0ffee00c0ffee"};
    f->model.heads[0].vocabulary = (struct model_vocabulary){.n = 3, .name = f->names, .json = f->json};
    f->batch = (struct batch){.events = f->events, .scores = f->scores, .n = 2, .cap = 2, .model = &f->model};
    f->events[1] = (struct event){.user = {"u\"1", 3}, .ts_ms = 1764000000123, .partition = 7};
    f->events[1].offset = 9007199254740993;
    f->scores[1] = (struct score){.n = 3, .intent = 0.25f, .top_id = {2, 0, 1}, .top_p = {0.5f, 0.25f, 1e-7f}};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static void test_score(void **state)
{
    struct fixture *f = *state;
    size_t n = output_score(&f->batch, 1, f->buf, sizeof f->buf);
    assert_bytes(f->buf, n,
                 "{\"user\":\"u\\\"1\",\"ts\":1764000000123,\"partition\":7,\"offset\":9007199254740993,\"interests\":["
                 "{\"category\":\"ü\",\"score\":0.5},{\"category\":\"shoes\",\"score\":0.25},"
                 "{\"category\":\"a\\\"b\",\"score\":0}],\"intent\":0.25,\"model\":\"00c0ffee00c0ffee\","
                 "\"degraded\":false}");
    n = output_interests(&f->batch, 1, f->buf, sizeof f->buf);
    assert_bytes(f->buf, n, "[{\"category\":\"ü\",\"score\":0.5},{\"category\":\"shoes\",\"score\":0.25},"
                            "{\"category\":\"a\\\"b\",\"score\":0}]");
}

static void test_score_without_a_model(void **state)
{
    struct fixture *f = *state;
    f->batch.model = NULL;
    f->events[0].user = str_of("u");
    f->scores[0] = (struct score){.intent = NAN, .degraded = true};
    size_t n = output_score(&f->batch, 0, f->buf, sizeof f->buf);
    assert_bytes(f->buf, n, "{\"user\":\"u\",\"ts\":0,\"partition\":0,\"offset\":0,\"interests\":[],\"intent\":null,"
                            "\"model\":null,\"degraded\":true}");
}

static void test_alert(void **state)
{
    struct fixture *f = *state;
    struct alert_symbol symbols[] = {
        {.name = "travel", .weight = 4.5, .value = 1e9, .threshold = 900, .text = "<script>\"\n"},
        {.name = "plain", .weight = -1, .value = NAN, .threshold = 0.1},
    };
    struct str ids[] = {{"e-2", 3}, {"e\\1", 3}};
    struct alert alert = {.event = 1, .id = 0xFEDCBA9876543210, .action = "review", .score = 3.5, .n = 2,
                          .symbols = symbols, .n_event_ids = 2, .event_ids = ids};
    size_t n = output_alert(&f->batch, &alert, f->buf, sizeof f->buf);
    assert_bytes(f->buf, n,
                 "{\"alert_id\":\"fedcba9876543210\",\"user\":\"u\\\"1\",\"ts\":1764000000123,\"partition\":7,"
                 "\"offset\":9007199254740993,\"action\":\"review\",\"score\":3.5,\"symbols\":[{\"name\":\"travel\","
                 "\"weight\":4.5,\"value\":1000000000,\"threshold\":900,\"text\":\"<script>\\\"\\n\"},"
                 "{\"name\":\"plain\",\"weight\":-1,\"value\":null,\"threshold\":0.1,\"text\":\"\"}],"
                 "\"event_ids\":[\"e-2\",\"e\\\\1\"]}");
}

static void assert_dead(struct fixture *f, const char *raw, size_t len, const char *member)
{
    f->events[1].verdict = EVENT_BAD_JSON;
    f->events[1].detail = "not \"one\"";
    f->events[1].raw = (struct str){raw, (uint32_t)len};
    char expected[1000];
    snprintf(expected, sizeof expected, "{\"reason\":\"bad_json\",\"detail\":\"not \\\"one\\\"\",\"partition\":7,"
             "\"offset\":9007199254740993,%s}", member);
    assert_bytes(f->buf, output_dead(&f->batch, 1, f->buf, sizeof f->buf), expected);
}

static void test_dead_letters_keep_every_byte(void **state)
{
    struct fixture *f = *state;
    assert_dead(f, "", 0, "\"value\":\"\"");
    assert_dead(f, "{\"a\":\"\0ü", 9, "\"value\":\"{\\\"a\\\":\\\"\\u0000ü\"");
    assert_dead(f, "\xFF", 1, "\"base64\":\"/w==\"");
    assert_dead(f, "\xFF\xFE", 2, "\"base64\":\"//4=\"");
    assert_dead(f, "\xFF\xFE\xFD", 3, "\"base64\":\"//79\"");
    assert_dead(f, "\xFF\xFE\xFD\0", 4, "\"base64\":\"//79AA==\"");
    f->events[1].detail = NULL;
    size_t n = output_dead(&f->batch, 1, f->buf, sizeof f->buf);
    assert_true(n > 0 && strstr(f->buf, "\"detail\":null,"));
}

/* Every room up to the message's own size gives nothing, and not a byte is written beyond it. */
static void test_too_little_room(void **state)
{
    struct fixture *f = *state;
    size_t n = output_score(&f->batch, 1, f->buf, sizeof f->buf);
    for (size_t room = 0; room <= n; room++) {
        char *exact = malloc(room ? room : 1);
        assert_int_equal(output_score(&f->batch, 1, exact, room), room == n ? n : 0);
        free(exact);
    }
    f->events[1].raw = str_of("\xFFxyz");
    n = output_dead(&f->batch, 1, f->buf, sizeof f->buf);
    for (size_t room = 0; room <= n; room++) {
        char *exact = malloc(room ? room : 1);
        assert_int_equal(output_dead(&f->batch, 1, exact, room), room == n ? n : 0);
        free(exact);
    }
}

/* Whatever bytes a user id has, another JSON library reads the message. */
static void test_any_bytes_give_valid_json(void **state)
{
    struct fixture *f = *state;
    char user[64];
    srand(7);
    for (int i = 0; i < 20000; i++) {
        size_t len = (size_t)rand() % sizeof user;
        for (size_t k = 0; k < len; k++)
            user[k] = (char)(rand() % 4 ? rand() : "\xC3\xA4\xED\xF0\"\\\x7F\xE2"[rand() % 8]);
        f->events[1].user = (struct str){user, (uint32_t)len};
        size_t n = output_score(&f->batch, 1, f->buf, sizeof f->buf);
        json_error_t err;
        json_t *json = json_loadb(f->buf, n, JSON_ALLOW_NUL, &err);
        if (!json)
            fail_msg("%s: %.*s", err.text, (int)n, f->buf);
        json_decref(json);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_numbers),
        TEST(test_numbers_equal_printf),
        TEST(test_escapes),
        TEST(test_score),
        TEST(test_score_without_a_model),
        TEST(test_alert),
        TEST(test_dead_letters_keep_every_byte),
        TEST(test_too_little_room),
        TEST(test_any_bytes_give_valid_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
