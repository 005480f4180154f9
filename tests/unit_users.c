// SPDX-License-Identifier: Apache-2.0
// unit_users.c - the table of records: bounded, never losing what is unsaved or in use, and the dirty list that W
// stands on.
#include "fake_engine.h"

struct table {
    struct metrics *metrics;
    struct users *users;
    struct partition p;
};

static int setup(void **state)
{
    struct table *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->metrics = metrics_create();
    t->users = users_create(&(struct users_conf){.table_bytes = 100000, .name_bytes = 16, .section_bytes = 64},
                            t->metrics, NULL);
    assert_non_null(t->users);
    t->p.id = 3;
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct table *t = *state;
    users_destroy(&t->users);
    metrics_destroy(&t->metrics);
    free(t);
    return 0;
}

static struct user *get(struct table *t, int i, bool *made)
{
    char name[16];
    snprintf(name, sizeof name, "user-%d", i);
    struct user *user = users_get(t->users, 3, str_of(name), made);
    if (user)
        user->state = USER_READY;
    return user;
}

static struct user *find(struct table *t, int i)
{
    char name[16];
    snprintf(name, sizeof name, "user-%d", i);
    return users_find(t->users, 3, str_of(name));
}

/* The dirty list: in order of dirty_from, linked both ways, counted. */
static void check_list(const struct table *t)
{
    size_t n = 0;
    const struct user *before = NULL;
    for (const struct user *user = t->p.dirty_first; user; before = user, user = user->dirty_next, n++) {
        assert_ptr_equal(user->dirty_previous, before);
        assert_true(user->dirty_from >= 0);
        assert_true(!before || before->dirty_from < user->dirty_from);
    }
    assert_ptr_equal(t->p.dirty_last, before);
    assert_int_equal(t->p.dirty_n, n);
}

static void test_found_again(void **state)
{
    struct table *t = *state;
    bool made;
    struct user *user = get(t, 1, &made);
    assert_true(made);
    assert_ptr_equal(get(t, 1, &made), user);
    assert_false(made);
    assert_null(users_find(t->users, 4, str_of("user-1"))); /* another partition's */
    assert_null(users_find(t->users, 3, str_of("user-")));
    assert_null(users_find(t->users, 3, str_of("a name longer than the table's bound")));
    users_remove(t->users, user);
    assert_null(find(t, 1));
    assert_int_equal(users_count(t->users), 0);
    assert_int_equal(users_slots_used(t->users), 0);
}

/* Many more users than fit come and go: everyone who is said to be there is found, nobody else. */
static void test_eviction_keeps_the_index_right(void **state)
{
    struct table *t = *state;
    bool made;
    for (int i = 0; i < 20000; i++) {
        struct user *user = get(t, i % 3 ? i : i / 7, &made);
        assert_non_null(user);
        assert_true(users_count(t->users) <= users_slots(t->users));
    }
    size_t found = 0;
    for (int i = 0; i < 20000; i++)
        found += find(t, i) != NULL;
    assert_int_equal(found, users_count(t->users));
    assert_true(metrics_sum(t->metrics, "gait_table_evictions_total") > 0);
}

static void test_unsaved_and_pinned_stay(void **state)
{
    struct table *t = *state;
    bool made;
    int slots = (int)users_slots(t->users);
    for (int i = 0; i < slots; i++) {
        struct user *user = get(t, i, &made);
        if (i % 3 == 0)
            users_dirty(t->users, &t->p, user, i, 0);
        else if (i % 3 == 1)
            user->pins++;
    }
    for (int i = slots; i < 10 * slots; i++)
        assert_non_null(get(t, i, &made));
    for (int i = 0; i < slots; i++)
        if (i % 3 < 2)
            assert_non_null(find(t, i));
    for (int i = 10 * slots; get(t, i, &made); i++) /* all others unsaved too: no room */
        users_dirty(t->users, &t->p, find(t, i), i, 0);
    assert_true(metrics_sum(t->metrics, "gait_table_full_total") > 0);
    check_list(t);
    struct user *first = t->p.dirty_first; /* saved: room again */
    users_saving(t->users, &t->p, first);
    assert_null(get(t, 1000000, &made));
    users_saved(t->users, &t->p, first, true);
    assert_non_null(get(t, 1000000, &made));
}

static void test_dirty_saving_clean(void **state)
{
    struct table *t = *state;
    bool made;
    struct user *a = get(t, 1, &made), *b = get(t, 2, &made);
    assert_int_equal(users_clean(t->users), 2);
    users_dirty(t->users, &t->p, a, 10, 5);
    users_dirty(t->users, &t->p, b, 11, 5);
    users_dirty(t->users, &t->p, a, 12, 6); /* dirty already: the first offset counts */
    assert_int_equal(a->dirty_from, 10);
    assert_int_equal(users_clean(t->users), 0);
    users_saving(t->users, &t->p, a);
    assert_ptr_equal(t->p.dirty_first, b);
    users_dirty(t->users, &t->p, a, 13, 7); /* changed during the save: behind b */
    check_list(t);
    users_saved(t->users, &t->p, a, true);
    assert_int_equal(a->dirty_from, 13);
    assert_int_equal(users_clean(t->users), 0);
    users_saving(t->users, &t->p, b);
    users_saved(t->users, &t->p, b, true);
    assert_int_equal(users_clean(t->users), 1);
    check_list(t);
}

/* A failed save puts its records back where their offsets belong, changed again meanwhile or not. */
static void test_failed_saves_go_back_in_order(void **state)
{
    struct table *t = *state;
    bool made;
    struct user *users[40];
    for (int i = 0; i < 40; i++) {
        users[i] = get(t, i, &made);
        users_dirty(t->users, &t->p, users[i], i, 0);
    }
    for (int i = 0; i < 20; i++)
        users_saving(t->users, &t->p, users[i]);
    for (int i = 0; i < 20; i += 2)
        users_dirty(t->users, &t->p, users[i], 100 + i, 1);
    check_list(t);
    for (int i = 19; i >= 0; i--)
        users_saved(t->users, &t->p, users[i], false);
    check_list(t);
    assert_int_equal(t->p.dirty_n, 40);
    for (int i = 0; i < 40; i++)
        assert_int_equal(users[i]->dirty_from, i); /* W may not pass what was never saved */
}

static void test_a_partition_goes(void **state)
{
    struct table *t = *state;
    bool made;
    for (int i = 0; i < 30; i++) {
        struct user *user = get(t, i, &made);
        if (i % 2)
            users_dirty(t->users, &t->p, user, i, 0);
        if (i % 5 == 0)
            assert_non_null(users_block_add(t->users, user));
    }
    struct user *other = users_get(t->users, 4, str_of("user-1"), &made);
    users_remove_partition(t->users, &t->p);
    assert_int_equal(users_count(t->users), 1);
    assert_int_equal(users_slots_used(t->users), 1); /* blocks too */
    assert_ptr_equal(users_find(t->users, 4, str_of("user-1")), other);
    check_list(t);
}

static void test_blocks_are_bounded_and_zeroed(void **state)
{
    struct table *t = *state;
    bool made;
    struct user *user = get(t, 1, &made);
    int n = 0;
    for (struct user_block *block; (block = users_block_add(t->users, user)); n++) {
        for (size_t i = 0; i < users_block_bytes(t->users); i++)
            assert_int_equal(block->data[i], 0);
        memset(block->data, 0xff, users_block_bytes(t->users));
    }
    assert_int_equal(n, USER_BLOCKS_MAX);
    users_blocks_drop(t->users, user);
    assert_int_equal(users_slots_used(t->users), 1);
    assert_null(user->blocks);
    assert_non_null(users_block_add(t->users, user));
}

static void test_too_small_is_refused(void **state)
{
    (void)state;
    struct error err;
    struct metrics *metrics = metrics_create();
    assert_null(users_create(&(struct users_conf){.table_bytes = 1000, .name_bytes = 16}, metrics, &err));
    assert_non_null(strstr(err.text, "engine.table_bytes"));
    metrics_destroy(&metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_found_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_eviction_keeps_the_index_right, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unsaved_and_pinned_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dirty_saving_clean, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_saves_go_back_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_partition_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blocks_are_bounded_and_zeroed, setup, teardown),
        cmocka_unit_test(test_too_small_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
