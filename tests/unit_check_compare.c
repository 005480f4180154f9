// SPDX-License-Identifier: Apache-2.0
// unit_check_compare.c - expectations of a configuration's tests: what counts as equal, and how a difference reads.
#include "../daemon/check_compare.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *json(const char *text)
{
    char quoted[512];
    size_t n = strlen(text);
    assert_true(n < sizeof quoted);
    for (size_t i = 0; i <= n; i++)
        quoted[i] = text[i] == '\'' ? '"' : text[i];
    json_t *value = json_loads(quoted, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    return value;
}

static bool equal(const char *expected, const char *found)
{
    json_t *a = json(expected), *b = json(found);
    bool same = check_equal(a, b, 0.001);
    json_decref(a);
    json_decref(b);
    return same;
}

static void only_the_fields_that_are_named_count(void **state)
{
    (void)state;
    assert_true(equal("{'user': 'u1'}", "{'user': 'u1', 'ts': 5}"));
    assert_true(equal("{}", "{'user': 'u1'}"));
    assert_false(equal("{'user': 'u1', 'risk': 1}", "{'user': 'u1'}"));
    assert_false(equal("{'user': 'u1'}", "{'user': 'u2'}"));
    assert_true(equal("{'intent': null}", "{'intent': null}"));
    assert_false(equal("{'intent': null}", "{}")); /* null is a value that has to be there */
}

static void numbers_have_a_tolerance_and_no_type(void **state)
{
    (void)state;
    assert_true(equal("5", "5.0009"));
    assert_false(equal("5", "5.0011"));
    assert_false(equal("1764000000000", "1764000000001")); /* absolute: a time is exact */
    assert_false(equal("5", "'5'"));
    assert_false(equal("true", "1"));
}

static void lists_may_hold_more_and_keep_their_order(void **state)
{
    (void)state;
    assert_true(equal("[1, 3]", "[1, 2, 3]"));
    assert_false(equal("[3, 1]", "[1, 2, 3]"));
    assert_false(equal("[2, 2]", "[1, 2, 3]"));
    assert_true(equal("[]", "[1]"));
    assert_true(equal("{'symbols': [{'name': 'b'}]}", "{'symbols': [{'name': 'a'}, {'name': 'b', 'weight': 2}]}"));
}

static void interests_count_from_the_first_one(void **state)
{
    (void)state;
    const char *found = "{'interests': [{'category': 'a', 'score': 0.5}, {'category': 'b', 'score': 0.2}]}";
    assert_true(equal("{'interests': [{'category': 'a'}]}", found));
    assert_true(equal("{'interests': [{'category': 'a'}, {'category': 'b'}]}", found));
    assert_false(equal("{'interests': [{'category': 'b'}]}", found));
    assert_false(equal("{'interests': [{}, {}, {}]}", found));
}

/* What is said of the difference; "" when there is none. To be freed. */
static char *differences(const char *expected, const char *found, bool exact)
{
    json_t *a = json(expected), *b = json(found);
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    unsigned n = check_list(a, b, exact, 0.001, "list", out);
    fclose(out);
    assert_int_equal(n > 0, len > 0);
    json_decref(a);
    json_decref(b);
    return text;
}

static void assert_says(const char *expected, const char *found, bool exact, const char *text)
{
    char *said = differences(expected, found, exact);
    assert_string_equal(said, text);
    free(said);
}

static void an_exact_list_lacks_nothing_and_has_nothing_more(void **state)
{
    (void)state;
    assert_says("[]", "[]", true, "");
    assert_says("[{'a': 1}]", "[{'a': 1, 'b': 2}]", true, "");
    assert_says("[{'a': 1}]", "[{'a': 2, 'b': 2}]", true, "      list[0].a: expected 1, found 2\n");
    assert_says("[{'a': 1}]", "[]", true, "      list[0]: missing: {\"a\":1}\n");
    assert_says("[]", "[{'a': 1}]", true, "      list[0]: not expected: {\"a\":1}\n");
    assert_says("[{'a': 1, 'c': 'x'}]", "[{'a': 1}]", true, "      list[0].c: expected \"x\", found nothing\n");
}

static void a_looser_list_names_the_nearest(void **state)
{
    (void)state;
    assert_says("[{'a': 2}]", "[{'a': 1}, {'a': 2}, {'a': 3}]", false, "");
    assert_says("[{'u': 'x', 'a': 9}]", "[{'u': 'y', 'a': 1}, {'u': 'x', 'a': 2}]", false,
                "      list[0].a: expected 9, found 2\n");
    assert_says("[{'a': 9}]", "[{'a': 1}, {'a': 2}]", false,
                "      list[0]: expected {\"a\":9}, and none of the 2 is like it\n");
    assert_says("[{'a': 2}, {'a': 1}]", "[{'a': 1}, {'a': 2}]", false,
                "      list[1]: expected {\"a\":1}, which comes earlier than the one expected before it\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_fields_that_are_named_count),
        cmocka_unit_test(numbers_have_a_tolerance_and_no_type),
        cmocka_unit_test(lists_may_hold_more_and_keep_their_order),
        cmocka_unit_test(interests_count_from_the_first_one),
        cmocka_unit_test(an_exact_list_lacks_nothing_and_has_nothing_more),
        cmocka_unit_test(a_looser_list_names_the_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
