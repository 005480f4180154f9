// SPDX-License-Identifier: Apache-2.0
// unit_store_memory.c - what is saved is loaded, in this run and, through the snapshot, in the next one.
#include "fake_engine.h"

#include <sys/stat.h>

extern const struct module store_memory;

struct storing {
    struct engine *e;
    struct partition *p;
    char folder[64], snapshot[128];
    struct metrics *metrics;
    struct users *users; /* only for users with names */
};

static void storing_begin(struct storing *s, bool with_snapshot)
{
    s->e = fake_new(&store_memory);
    if (with_snapshot)
        fake_text(s->e, "snapshot", s->snapshot);
    fake_open(s->e);
    s->p = fake_partition(s->e, 3);
    fake_flow(s->e, FLOW_OPEN, s->p, 0);
    assert_int_equal(s->e->opened, 1);
}

static void storing_end(struct storing *s)
{
    fake_free(s->e);
    s->e = NULL;
}

static int setup(void **state)
{
    struct storing *s = calloc(1, sizeof *s);
    assert_non_null(s);
    fake_folder(s->folder);
    snprintf(s->snapshot, sizeof s->snapshot, "%s/snapshot", s->folder);
    s->metrics = metrics_create();
    s->users = users_create(&(struct users_conf){.table_bytes = 1 << 20, .name_bytes = 32}, s->metrics, NULL);
    assert_non_null(s->users);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct storing *s = *state;
    if (s->e)
        storing_end(s);
    users_destroy(&s->users);
    metrics_destroy(&s->metrics);
    fake_folder_remove(s->folder);
    free(s);
    return 0;
}

static struct user *user_of(struct storing *s, int32_t partition, const char *name)
{
    bool made;
    return users_get(s->users, partition, str_of(name), &made);
}

static unsigned save(struct storing *s, const char *name, const void *bytes, size_t n, int64_t offset, int64_t until)
{
    struct save_item item = {.user = user_of(s, s->p->id, name), .name = str_of(name), .bytes = bytes,
                             .len = (uint32_t)n, .idle_until_ms = until};
    unsigned before = s->e->commits_ok;
    store_memory.commit(&s->e->in, &(struct commit){.partition = s->p, .offset = offset, .items = &item, .n = 1});
    return s->e->commits_ok - before;
}

/* What the store has under a name; NULL = nothing. */
static const struct fake_load *load(struct storing *s, int32_t partition, const char *name)
{
    struct user *user = user_of(s, partition, name);
    struct batch b = {.loading = &user, .loading_n = 1};
    size_t before = s->e->loads_n;
    store_memory.run(&s->e->in, &b);
    assert_int_equal(s->e->loads_n, before + 1); /* answered at once, and once */
    const struct fake_load *found = &s->e->loads[before];
    assert_ptr_equal(found->user, user);
    return found->bytes ? found : NULL;
}

static void expect(struct storing *s, const char *name, const char *text)
{
    const struct fake_load *found = load(s, s->p->id, name);
    assert_non_null(found);
    assert_int_equal(found->n, strlen(text));
    assert_memory_equal(found->bytes, text, found->n);
}

static void test_saved_is_loaded(void **state)
{
    struct storing *s = *state;
    storing_begin(s, false);
    assert_int_equal(s->e->opened_saved, OFFSET_NONE);
    assert_null(load(s, 3, "anna"));
    assert_int_equal(save(s, "anna", "first", 5, 10, INT64_MAX), 1);
    expect(s, "anna", "first");
    assert_int_equal(save(s, "anna", "a second one, longer than the first could have been in its place, surely", 72, 11,
                          INT64_MAX), 1);
    expect(s, "anna", "a second one, longer than the first could have been in its place, surely");
    assert_int_equal(save(s, "anna", "", 0, 12, INT64_MAX), 1);
    expect(s, "anna", "");
    assert_null(load(s, 4, "anna")); /* another partition's */
    assert_null(load(s, 3, "ann"));
}

static void test_taken_over_anew(void **state)
{
    struct storing *s = *state;
    storing_begin(s, false);
    int64_t fence = s->e->opened_fence;
    save(s, "anna", "x", 1, 10, INT64_MAX);
    fake_flow(s->e, FLOW_OPEN, s->p, 0);
    assert_int_equal(s->e->opened_saved, 10);
    assert_true(s->e->opened_fence > fence);
}

static void test_many_records(void **state)
{
    struct storing *s = *state;
    storing_begin(s, true);
    char name[32], text[32];
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "user-%d", i);
        snprintf(text, sizeof text, "record %d", i);
        assert_int_equal(save(s, name, text, strlen(text), i, i % 3 ? INT64_MAX : 5), 1);
    }
    for (int tick = 0; tick < 4; tick++) /* every third one has expired */
        fake_flow(s->e, FLOW_TICK, NULL, 0);
    assert_true(metrics_sum(s->e->metrics, "gait_store_memory_records") == 2000);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3000; i++) {
            snprintf(name, sizeof name, "user-%d", i);
            snprintf(text, sizeof text, "record %d", i);
            if (i % 3)
                expect(s, name, text);
            else
                assert_null(load(s, 3, name));
        }
        fake_forget_loads(s->e);
        storing_end(s);
        storing_begin(s, true); /* the second round sees the same through the snapshot */
        assert_int_equal(s->e->opened_saved, 2999);
    }
}

static void test_expired_is_gone(void **state)
{
    struct storing *s = *state;
    storing_begin(s, false);
    s->e->wall_ms = 1000;
    save(s, "anna", "x", 1, 10, 2000);
    expect(s, "anna", "x");
    s->e->wall_ms = 2001;
    assert_null(load(s, 3, "anna"));
}

static void test_full_refuses(void **state)
{
    struct storing *s = *state;
    storing_begin(s, false);
    fake_int(s->e, "max_bytes", 1 << 20);
    char *large = calloc(1, 1 << 20);
    assert_int_equal(save(s, "anna", large, 600 << 10, 10, INT64_MAX), 1);
    assert_int_equal(save(s, "berta", large, 600 << 10, 20, INT64_MAX), 0);
    assert_int_equal(s->e->commits_failed, 1);
    fake_flow(s->e, FLOW_OPEN, s->p, 0);
    assert_int_equal(s->e->opened_saved, 10); /* W has not moved */
    free(large);
}

static void test_snapshot_from_time_to_time(void **state)
{
    struct storing *s = *state;
    struct stat st;
    storing_begin(s, true);
    fake_int(s->e, "snapshot_ms", 1000);
    save(s, "anna", "x", 1, 10, INT64_MAX);
    fake_flow(s->e, FLOW_TICK, NULL, 0);
    assert_int_equal(stat(s->snapshot, &st), -1);
    s->e->skip_ns = 1100000000;
    fake_flow(s->e, FLOW_TICK, NULL, 0);
    assert_int_equal(stat(s->snapshot, &st), 0);
}

static void test_damaged_snapshots_are_refused(void **state)
{
    struct storing *s = *state;
    storing_begin(s, true);
    save(s, "anna", "content", 7, 10, INT64_MAX);
    storing_end(s);
    FILE *file = fopen(s->snapshot, "r");
    assert_non_null(file);
    char good[512], bad[513];
    size_t n = fread(good, 1, sizeof good, file);
    fclose(file);
    for (size_t i = 0; i < 2 * n + 1; i++) { /* cut at each byte, each byte flipped, one too many */
        size_t len = i < n ? i : n + (i == 2 * n);
        memcpy(bad, good, n);
        bad[n] = 'x';
        if (i >= n && i < 2 * n)
            bad[i - n] ^= 0x40;
        file = fopen(s->snapshot, "w");
        assert_non_null(file);
        assert_int_equal(fwrite(bad, 1, len, file), len);
        fclose(file);
        s->e = fake_new(&store_memory);
        fake_text(s->e, "snapshot", s->snapshot);
        assert_int_equal(store_memory.open(&s->e->in, false, &s->e->err), -1);
        assert_non_null(strstr(s->e->err.text, "move it away"));
        storing_end(s);
        struct stat st;
        assert_int_equal(stat(s->snapshot, &st), 0);
        assert_int_equal(st.st_size, len); /* left as it was */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_saved_is_loaded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_taken_over_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_records, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expired_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_snapshot_from_time_to_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_snapshots_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
