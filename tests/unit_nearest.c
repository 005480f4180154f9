// SPDX-License-Identifier: Apache-2.0
// unit_nearest.c - "did you mean …?" helps with slips and keeps quiet otherwise.
#include "../daemon/nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void distances(void **state)
{
    (void)state;
    assert_int_equal(nearest_distance("topic", "topic"), 0);
    assert_int_equal(nearest_distance("tpoic", "topic"), 1); /* neighbours swapped */
    assert_int_equal(nearest_distance("topi", "topic"), 1);
    assert_int_equal(nearest_distance("topicx", "topic"), 1);
    assert_int_equal(nearest_distance("tobic", "topic"), 1);
    assert_int_equal(nearest_distance("Table-Bytes", "table_bytes"), 0);
    assert_int_equal(nearest_distance("", "abc"), 3);
    assert_int_equal(nearest_distance("abc", ""), 3);
    assert_int_equal(nearest_distance("", ""), 0);
}

static void long_words_are_near_to_nothing(void **state)
{
    (void)state;
    char word[NEAREST_WORD_MAX + 2];
    memset(word, 'a', sizeof word);
    word[NEAREST_WORD_MAX] = 0;
    assert_int_equal(nearest_distance(word, word), 0);
    word[NEAREST_WORD_MAX] = 'a';
    word[NEAREST_WORD_MAX + 1] = 0;
    struct nearest best = {0};
    nearest_try(&best, word, word);
    assert_null(best.word);
}

static void the_nearest_wins_and_strangers_do_not(void **state)
{
    (void)state;
    static const char *const known[] = {"brokers", "topic", "group", "properties"};
    struct nearest best = {0}, none = {0};
    for (size_t i = 0; i < 4; i++) {
        nearest_try(&best, "broker", known[i]);
        nearest_try(&none, "elephant", known[i]);
    }
    assert_string_equal(best.word, "brokers");
    assert_int_equal(best.distance, 1);
    assert_null(none.word);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distances),
        cmocka_unit_test(long_words_are_near_to_nothing),
        cmocka_unit_test(the_nearest_wins_and_strangers_do_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
