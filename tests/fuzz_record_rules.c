// SPDX-License-Identifier: Apache-2.0
// fuzz_record_rules.c - any bytes as a user's record, with a checksum that is right, so that they reach the sections of
// window_rolling (a ring so short that tiles are reached) and of rule_fraud. What is refused leaves nothing behind;
// what is read must come out of encode and decode as it went in, and bear further events. The model's sections are in
// fuzz_record.c.
//
// A directory as the last argument (the corpus) gets seeds first.
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

extern const struct module window_rolling, rule_fraud;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RECORD_MAX = 1 << 16, SUM_AT = 8, SUM_FROM = 16, SEEDS = 24 };
#define T0 INT64_C(1700000000000)

static void must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "broken promise: %s\n", what);
    abort();
}

static struct rig *bench_new(void)
{
    char path[] = "/tmp/gait-fuzz-XXXXXX";
    const char *at = path;
    static const char rules[] = "actions: {review: 1}\nquiet: 1m\n"
                                "rules: [{name: r, when: count.all.28d > 3, weight: 1}]\n";
    int fd = mkstemp(path);
    must(fd >= 0 && write(fd, rules, sizeof rules - 1) == (ssize_t)sizeof rules - 1, "a temporary file");
    close(fd);
    static const char *const more[] = {"wishlist", NULL};
    struct rig *rig = rig_new(more);
    void *window = rig_conf(rig, &window_rolling), *rule = rig_conf(rig, &rule_fraud);
    rig_set_int(window, &window_rolling, "ring", 3);
    rig_set_int(window, &window_rolling, "event_ids", 4);
    rig_set(rule, &rule_fraud, "rules", &at, sizeof at);
    rig_open(rig, &window_rolling, window, NULL);
    rig_open(rig, &rule_fraud, rule, NULL);
    unlink(path);
    for (uint32_t i = 0; i < columns_count(rig->engine->columns); i++)
        columns_want(rig->engine->columns, columns_name(rig->engine->columns, i));
    rig_ready(rig, 1 << 20);
    return rig;
}

static void add_event(struct rig *rig, const char *user, int i)
{
    static const char *const words[] = {"a", "b", "c", "d", "e"};
    struct event *event = rig_event(rig, user, i * 7 % EVENT_TYPES_BUILTIN, T0 + (int64_t)i * i * 60000);
    event->log_ms = event->ts_ms;
    event->event_id = str_of(words[i % 5]);
    event->category = event->device = event->country = str_of(words[i % 3]);
    event->has = HAS_PRICE | HAS_PLACE;
    event->price = i;
    event->lat = event->lon = i % 90;
}

static void forget(struct rig *rig, const char *name)
{
    struct users *users = rig->engine->users;
    struct user *user = rig_user(rig, name);
    if (!user)
        return;
    if (user->dirty_from >= 0) {
        users_saving(users, &rig->partition, user);
        users_saved(users, &rig->partition, user, true);
    }
    users_remove(users, user);
}

static bool decode(struct rig *rig, const uint8_t *bytes, size_t n)
{
    bool made;
    struct error err;
    forget(rig, "u");
    struct user *user = users_get(rig->engine->users, 0, str_of("u"), &made);
    bool good = record_decode(rig->engine, user, bytes, n, &err) == 0;
    user->state = USER_READY;
    must(good || (user->next == -1 && !user->blocks), "a refused record leaves nothing behind");
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rig *rig;
    static uint8_t bytes[RECORD_MAX], first[RECORD_MAX], second[RECORD_MAX];
    if (!rig)
        rig = bench_new();
    if (size < SUM_FROM || size > sizeof bytes)
        return 0;
    memcpy(bytes, data, size);
    uint64_t sum = XXH3_64bits(bytes + SUM_FROM, size - SUM_FROM);
    memcpy(bytes + SUM_AT, &sum, sizeof sum);
    if (!decode(rig, bytes, size))
        return 0;
    size_t n = record_encode(rig->engine, rig_user(rig, "u"), first, sizeof first);
    must(n > 0, "what was read can be written");
    must(decode(rig, first, n), "what was written can be read");
    must(record_encode(rig->engine, rig_user(rig, "u"), second, sizeof second) == n && memcmp(first, second, n) == 0,
         "the same bytes again");
    for (int i = 0; i < 6; i++)
        add_event(rig, "u", 100 + i);
    rig_run(rig);
    for (uint32_t i = 0; i < rig->batch.n; i++)
        for (uint32_t k = 0; rig->batch.events[i].verdict == EVENT_OK && k < rig->batch.columns_n; k++)
            must(isfinite(batch_row(&rig->batch, i)[k]), "every column is a number");
    rig_clear(rig);
    n = record_encode(rig->engine, rig_user(rig, "u"), first, sizeof first);
    must(n > 0 && decode(rig, first, n), "what further events made can be read");
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *folder = *argc > 1 ? (*argv)[*argc - 1] : "-";
    struct rig *rig = bench_new();
    static uint8_t bytes[RECORD_MAX];
    for (int i = 0; folder[0] != '-' && i < SEEDS; i++) {
        char path[1024];
        add_event(rig, "u", i);
        rig_run(rig);
        rig_clear(rig);
        size_t n = record_encode(rig->engine, rig_user(rig, "u"), bytes, sizeof bytes);
        snprintf(path, sizeof path, "%s/seed-%d", folder, i);
        FILE *file = fopen(path, "we");
        if (!file)
            break; /* a single input was named, not a folder */
        fwrite(bytes, 1, n, file);
        fclose(file);
    }
    forget(rig, "u");
    rig_free(&rig);
    return 0;
}
