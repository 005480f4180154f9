// SPDX-License-Identifier: Apache-2.0
// unit_columns.c - columns are announced, and only those that somebody wants get a place; event names beside them.
#include "gait/columns.h"
#include "gait/error.h"
#include "gait/event.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

static void test_only_wanted_columns_have_a_place(void **state)
{
    (void)state;
    struct columns *columns = columns_create();
    uint32_t a = columns_add(columns, "count.purchase.5m", "a"), b = columns_add(columns, "gap", "b");
    assert_int_equal(columns_add(columns, "count.purchase.5m", "again"), a);
    assert_int_equal(columns_count(columns), 2);
    assert_int_equal(columns_width(columns), 0);
    assert_int_equal(columns_want(columns, "gap"), 0);
    assert_int_equal(columns_want(columns, "gap"), 0);
    assert_int_equal(columns_place(columns, a), -1);
    assert_int_equal(columns_place(columns, b), 0);
    assert_int_equal(columns_want(columns, "nothing"), -1);
    assert_string_equal(columns_nearest(columns, "count.purchases.5m"), "count.purchase.5m");
    assert_null(columns_nearest(columns, "zzzzzzzz"));
    columns_destroy(&columns);
}

static void test_many_columns_keep_their_places(void **state)
{
    (void)state;
    struct columns *columns = columns_create();
    char name[32];
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "column.%d", i);
        assert_int_equal(columns_add(columns, name, ""), i);
        if (i % 3 == 0)
            assert_int_equal(columns_want(columns, name), i / 3);
    }
    for (uint32_t i = 0; i < 500; i++)
        assert_int_equal(columns_place(columns, i), i % 3 == 0 ? (int)i / 3 : -1);
    columns_destroy(&columns);
}

static void test_event_types(void **state)
{
    (void)state;
    struct event_types types;
    struct error err;
    const char *more[] = {"wishlist_add", "review"};
    assert_int_equal(event_types_init(&types, more, 2, &err), 0);
    assert_int_equal(event_type_find(&types, str_of("purchase")), EVENT_PURCHASE);
    assert_int_equal(event_type_find(&types, str_of("review")), EVENT_TYPES_BUILTIN + 1);
    assert_int_equal(event_type_find(&types, str_of("Purchase")), -1);
    const char *twice[] = {"login"};
    assert_int_equal(event_types_init(&types, twice, 1, &err), -1);
    assert_string_equal(err.text, "event type 'login' is there already");
    const char *empty[] = {""};
    assert_int_equal(event_types_init(&types, empty, 1, &err), -1);
    const char *const not_names[] = {"it's", "say \"x\"", "two\nlines", "back\\slash", "all"};
    for (size_t i = 0; i < sizeof not_names / sizeof *not_names; i++)
        assert_int_equal(event_types_init(&types, &not_names[i], 1, &err), -1);
    char names[EVENT_TYPES_MAX][8];
    const char *many[EVENT_TYPES_MAX];
    for (int i = 0; i < EVENT_TYPES_MAX; i++) {
        snprintf(names[i], sizeof names[i], "t%d", i);
        many[i] = names[i];
    }
    assert_int_equal(event_types_init(&types, many, EVENT_TYPES_MAX, &err), -1);
    assert_int_equal(event_types_init(&types, many, EVENT_TYPES_MAX - EVENT_TYPES_BUILTIN, &err), 0);
}

static void test_every_verdict_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < EVENT_VERDICTS; i++) {
        assert_non_null(event_verdict_name((enum event_verdict)i));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(event_verdict_name((enum event_verdict)i),
                                    event_verdict_name((enum event_verdict)j));
    }
    assert_false(event_verdict_is_dead(EVENT_OK));
    assert_false(event_verdict_is_dead(EVENT_ALREADY_APPLIED));
    assert_true(event_verdict_is_dead(EVENT_BAD_JSON));
    assert_true(event_verdict_is_dead(EVENT_LATE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_wanted_columns_have_a_place),
        cmocka_unit_test(test_many_columns_keep_their_places),
        cmocka_unit_test(test_event_types),
        cmocka_unit_test(test_every_verdict_has_a_name_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
