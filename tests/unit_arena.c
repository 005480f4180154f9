// SPDX-License-Identifier: Apache-2.0
// unit_arena.c - a batch's memory: alignment, growth to the limit, a reset that gives back all but the first chunk.
#include "gait/arena.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_pieces_are_aligned_and_apart(void **state)
{
    (void)state;
    struct arena *arena = arena_create(64, 1 << 20);
    unsigned char *before = NULL;
    size_t before_bytes = 0;
    for (size_t bytes = 1; bytes < 200; bytes += 7) {
        unsigned char *at = arena_take(arena, bytes);
        assert_non_null(at);
        assert_int_equal((uintptr_t)at % 16, 0);
        memset(at, (int)bytes, bytes);
        for (size_t i = 0; before && i < before_bytes; i++)
            assert_int_equal(before[i], before_bytes);
        before = at;
        before_bytes = bytes;
    }
    arena_destroy(&arena);
    assert_null(arena);
}

static void test_the_limit_holds(void **state)
{
    (void)state;
    struct arena *arena = arena_create(1024, 4096);
    size_t taken = 0;
    while (arena_take(arena, 256))
        taken += 256;
    assert_in_range(taken, 2048, 4096);
    assert_null(arena_take(arena, SIZE_MAX));
    assert_null(arena_copy(arena, "x", SIZE_MAX));
    assert_int_equal(arena_used(arena), taken);
    arena_reset(arena);
    assert_int_equal(arena_used(arena), 0);
    assert_non_null(arena_take(arena, 2048));
    arena_destroy(&arena);
}

static void test_a_copy_ends_with_a_nul(void **state)
{
    (void)state;
    struct arena *arena = arena_create(16, 1024);
    const char *copy = arena_copy(arena, "ab\0cd", 5);
    assert_memory_equal(copy, "ab\0cd", 6);
    assert_string_equal(arena_copy(arena, NULL, 0), "");
    arena_destroy(&arena);
    arena_destroy(&arena); /* nothing there any more */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_are_aligned_and_apart),
        cmocka_unit_test(test_the_limit_holds),
        cmocka_unit_test(test_a_copy_ends_with_a_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
