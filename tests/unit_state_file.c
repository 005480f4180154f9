// SPDX-License-Identifier: Apache-2.0
// unit_state_file.c - a backup gives back what was put in, or is refused as a whole: cut short, changed, or another's.
#include "../daemon/state_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

enum { BYTES_MAX = 4096 };

struct folder {
    char path[64], file[80];
};

static int setup(void **state)
{
    struct folder *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->path, "/tmp/unit_state_file.XXXXXX");
    assert_non_null(mkdtemp(f->path));
    snprintf(f->file, sizeof f->file, "%s/backup", f->path);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct folder *f = *state;
    unlink(f->file);
    int rc = rmdir(f->path); /* fails when something else was left behind */
    free(f);
    return rc;
}

static void write_backup(const struct folder *f)
{
    struct error err;
    uint64_t records = 0;
    struct state_file *file = state_file_create(f->file, 3, &err);
    assert_non_null(file);
    assert_int_equal(state_file_partition(file, 0, &(struct offline_place){100, -1}, &err), 0);
    assert_int_equal(state_file_record(file, str_of("anna"), (const uint8_t *)"one\0two", 7, 60000, &err), 0);
    assert_int_equal(state_file_record(file, (struct str){"b\0b", 3}, (const uint8_t *)"", 0, -1, &err), 0);
    assert_int_equal(state_file_partition(file, 2, &(struct offline_place){-1, 7}, &err), 0);
    assert_int_equal(state_file_record(file, str_of("anna"), (const uint8_t *)"x", 1, 0, &err), 0);
    assert_int_equal(state_file_finish(file, &records, &err), 0);
    assert_int_equal(records, 3);
    state_file_destroy(&file);
}

/* What was read, as one text. */
static int on_partition(void *self, int32_t id, const struct offline_place *place, struct error *err)
{
    char *text = self;
    (void)err;
    sprintf(text + strlen(text), "[%d %lld %lld]", (int)id, (long long)place->at, (long long)place->erased);
    return 0;
}

static int on_record(void *self, struct str name, const uint8_t *bytes, size_t n, int64_t ttl_ms, struct error *err)
{
    char *text = self;
    (void)err;
    sprintf(text + strlen(text), "(%u:%.*s %zu:%.*s %lld)", name.len, (int)name.len, name.at, n, (int)n,
            (const char *)bytes, (long long)ttl_ms);
    return 0;
}

static int read_backup(const struct folder *f, char *text, struct error *err)
{
    const struct state_reader reader = {.self = text, .partition = on_partition, .record = on_record};
    int32_t partitions = 0;
    uint64_t records = 0;
    *text = 0;
    int rc = state_file_read(f->file, &reader, &partitions, &records, err);
    if (rc == 0) {
        assert_int_equal(partitions, 3);
        assert_int_equal(records, 3);
    }
    return rc;
}

static const char whole[] = "[0 100 -1](4:anna 7:one 60000)(3:b 0: 0)[2 -1 7](4:anna 1:x 0)";

static void test_what_was_written_is_read(void **state)
{
    char text[BYTES_MAX];
    struct error err;
    write_backup(*state);
    assert_int_equal(read_backup(*state, text, &err), 0);
    assert_string_equal(text, whole);
}

static size_t unpack(const struct folder *f, uint8_t *bytes)
{
    gzFile gz = gzopen(f->file, "rb");
    assert_non_null(gz);
    int n = gzread(gz, bytes, BYTES_MAX);
    gzclose(gz);
    assert_true(n > 0 && n < BYTES_MAX);
    return (size_t)n;
}

static void pack(const struct folder *f, const uint8_t *bytes, size_t n)
{
    gzFile gz = gzopen(f->file, "wb");
    assert_non_null(gz);
    assert_int_equal(gzwrite(gz, bytes, (unsigned)n), (int)n);
    assert_int_equal(gzclose(gz), Z_OK);
}

/* Packed anew, so that gzip's own checksum is right and ours has to tell. */
static void test_each_changed_byte_is_noticed(void **state)
{
    uint8_t bytes[BYTES_MAX], changed[BYTES_MAX];
    struct error err;
    char text[BYTES_MAX];
    write_backup(*state);
    size_t n = unpack(*state, bytes);
    for (size_t i = 0; i < n; i++) {
        memcpy(changed, bytes, n);
        changed[i] ^= 1;
        pack(*state, changed, n);
        if (read_backup(*state, text, &err) == 0)
            fail_msg("byte %zu of %zu", i, n);
        assert_non_null(strstr(err.text, "backup"));
    }
}

static void test_each_length_but_the_right_one_is_refused(void **state)
{
    uint8_t bytes[BYTES_MAX];
    struct error err;
    char text[BYTES_MAX];
    write_backup(*state);
    size_t n = unpack(*state, bytes);
    for (size_t kept = 0; kept < n; kept++) {
        pack(*state, bytes, kept);
        assert_int_equal(read_backup(*state, text, &err), -1);
    }
    bytes[n] = 0; /* one byte more */
    pack(*state, bytes, n + 1);
    assert_int_equal(read_backup(*state, text, &err), -1);
    pack(*state, bytes, n);
    assert_int_equal(read_backup(*state, text, &err), 0);
}

/* A sound checksum over a length that cannot be. */
static void test_absurd_lengths_are_refused(void **state)
{
    static const uint32_t lengths[][2] = {{0, 4}, {70000, 4}, {4, 0x7fffffff}, {0xffffffff, 0xffffffff}};
    struct error err;
    char text[BYTES_MAX];
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        uint8_t bytes[256] = "GAITBAK1\3\0\0\0P";
        size_t n = 13 + 4 + 16;
        bytes[n++] = 'R';
        memcpy(bytes + n, lengths[i], 8);
        n += 8 + 8 + 40;
        pack(*state, bytes, n);
        assert_int_equal(read_backup(*state, text, &err), -1);
        assert_non_null(strstr(err.text, "damaged"));
    }
}

static void test_another_file_is_said_to_be_one(void **state)
{
    const struct folder *f = *state;
    struct error err;
    char text[BYTES_MAX];
    pack(f, (const uint8_t *)"{\"type\":\"search\"}\n", 18);
    assert_int_equal(read_backup(f, text, &err), -1);
    assert_non_null(strstr(err.text, "no backup made by gaitd state export"));
    unlink(f->file);
    assert_int_equal(read_backup(f, text, &err), -1);
    assert_non_null(strstr(err.text, "No such file"));
}

/* Nothing under the name before all is there; what was there before stays. */
static void test_unfinished_leaves_nothing_behind(void **state)
{
    const struct folder *f = *state;
    struct error err;
    char text[BYTES_MAX];
    struct state_file *file = state_file_create(f->file, 3, &err);
    assert_non_null(file);
    assert_int_equal(state_file_record(file, str_of("anna"), (const uint8_t *)"x", 1, 0, &err), 0);
    assert_int_equal(access(f->file, F_OK), -1);
    state_file_destroy(&file);
    assert_int_equal(access(f->file, F_OK), -1);
    write_backup(f);
    file = state_file_create(f->file, 8, &err);
    assert_non_null(file);
    state_file_destroy(&file);
    assert_int_equal(read_backup(f, text, &err), 0);
    assert_string_equal(text, whole);
}

static void test_place_that_cannot_be_written(void **state)
{
    struct error err;
    (void)state;
    assert_null(state_file_create("/nowhere/at/all", 3, &err));
    assert_non_null(strstr(err.text, "/nowhere/at/all"));
}

static int refuse_partition(void *self, int32_t id, const struct offline_place *place, struct error *err)
{
    (void)id, (void)place;
    ++*(int *)self;
    return error_set(err, "Redis is full");
}

static void test_reader_that_fails_ends_it(void **state)
{
    const struct folder *f = *state;
    struct error err;
    int calls = 0;
    int32_t partitions;
    uint64_t records;
    const struct state_reader reader = {.self = &calls, .partition = refuse_partition, .record = on_record};
    write_backup(f);
    assert_int_equal(state_file_read(f->file, &reader, &partitions, &records, &err), -1);
    assert_string_equal(err.text, "Redis is full");
    assert_int_equal(calls, 1);
    assert_int_equal(state_file_read(f->file, NULL, &partitions, &records, &err), 0); /* only checked */
    assert_int_equal(records, 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_what_was_written_is_read),
        TEST(test_each_changed_byte_is_noticed),
        TEST(test_each_length_but_the_right_one_is_refused),
        TEST(test_absurd_lengths_are_refused),
        TEST(test_another_file_is_said_to_be_one),
        TEST(test_unfinished_leaves_nothing_behind),
        TEST(test_place_that_cannot_be_written),
        TEST(test_reader_that_fails_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
