// SPDX-License-Identifier: Apache-2.0
// fuzz_record.c - any bytes as a user's record from the store: refused with a text and nothing left behind, or taken;
// and then events run over it as over any other record, and it can be written and read again.
//
// The first byte chooses whether the checksum is set right, so that mutations get past it into the sections. A
// directory as the last argument (the corpus) gets seeds first: records that the modules have written.
#include "support.h"

#include "model_maker.h"

#include <assert.h>
#include <math.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

extern const struct module window_rolling, model_lstm, score_interest;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TABLE_BYTES = 8 << 20, SUM_AT = 8, SUM_FROM = 16, SEEDS = 6 };

static const int64_t first_ms = INT64_C(1764000000000);

static void open_model(struct rig *rig)
{
    static const char *const columns[] = {"count.all.1h", "sum.purchase.7d", "distinct.category.24h", "gap", NULL};
    char path[] = "/tmp/fuzz_record.XXXXXX";
    const char *at = path;
    struct error err;
    struct model_shape shape = {.categories = 5, .category_width = 3, .types = 13, .type_width = 2, .columns = columns,
                                .hidden = {8, 6}, .interest = true, .intent = true};
    struct model *model = model_make(&shape, 1);
    int fd = mkstemp(path);
    if (fd < 0 || model_save(model, path, &err) < 0)
        abort();
    close(fd);
    model_destroy(&model);
    void *conf = rig_conf(rig, &model_lstm);
    rig_set(conf, &model_lstm, "path", &at, sizeof at);
    rig_set(conf, &model_lstm, "watch", &(bool){false}, sizeof(bool));
    rig_open(rig, &model_lstm, conf, NULL);
    unlink(path);
}

static struct rig *bench(void)
{
    static struct rig *rig;
    if (rig)
        return rig;
    rig = rig_new(NULL);
    rig->wall_ms = first_ms;
    rig_open(rig, &window_rolling, rig_conf(rig, &window_rolling), NULL);
    open_model(rig);
    rig_open(rig, &score_interest, rig_conf(rig, &score_interest), NULL);
    rig_ready(rig, TABLE_BYTES);
    return rig;
}

static void run_events(struct rig *rig, int n, int64_t step_ms)
{
    static const char *const categories[] = {"c0", "c1", "c4", "elsewhere", ""};
    for (int i = 0; i < n; i++) {
        struct event *event = rig_event(rig, "u", i % EVENT_TYPES_BUILTIN, first_ms + i * step_ms);
        event->category = str_of(categories[i % 5]);
        char id[16];
        snprintf(id, sizeof id, "e-%d", i % 7 ? i : 0); /* every seventh is a duplicate */
        event->log_ms = event->ts_ms;
        event->event_id = str_of(id);
        event->price = i;
        event->has = HAS_PRICE;
        rig_run(rig);
        assert(!isnan(rig->batch.risk[0]));
        rig_clear(rig);
    }
}

static void remove_user(struct rig *rig)
{
    struct users *users = rig->engine->users;
    struct user *user = rig_user(rig, "u");
    if (user && user->dirty_from >= 0) {
        users_saving(users, &rig->partition, user);
        users_saved(users, &rig->partition, user, true);
    }
    if (user)
        users_remove(users, user);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rig *rig = bench();
    struct error err = {0};
    bool made;
    if (size < 1)
        return 0;
    size_t n = size - 1;
    uint8_t *bytes = malloc(n ? n : 1); /* exactly as long: a step beyond is seen */
    assert(bytes);
    memcpy(bytes, data + 1, n);
    if (data[0] % 8 && n >= SUM_FROM) {
        uint64_t sum = XXH3_64bits(bytes + SUM_FROM, n - SUM_FROM);
        memcpy(bytes, "GAIT\1", 5);
        memcpy(bytes + SUM_AT, &sum, sizeof sum);
    }
    struct user *user = users_get(rig->engine->users, 0, str_of("u"), &made);
    assert(user && made);
    if (record_decode(rig->engine, user, bytes, n, &err) < 0) {
        assert(err.text[0] && user->next == -1 && !user->blocks && !user->degraded);
        size_t from = users_sections_offset(rig->engine->users);
        for (size_t i = from; i < users_slot_bytes(rig->engine->users); i++)
            assert(((uint8_t *)user)[i] == 0);
    }
    user->state = USER_READY;
    run_events(rig, 3, 1000);
    rig_round_trip(rig, "u");
    remove_user(rig);
    free(bytes);
    return 0;
}

/* Records of users with few and many events, close together and days apart. */
static void write_seed(struct rig *rig, const char *folder, int i)
{
    static const int events[SEEDS] = {0, 1, 27, 28, 60, 400};
    size_t cap = record_bytes_max(rig->engine);
    uint8_t *bytes = malloc(cap + 1);
    char path[1024];
    bool made;
    assert(bytes);
    users_get(rig->engine->users, 0, str_of("u"), &made)->state = USER_READY;
    run_events(rig, events[i], INT64_C(7200000) * (i + 1));
    bytes[0] = 1;
    size_t n = record_encode(rig->engine, rig_user(rig, "u"), bytes + 1, cap);
    assert(n > 0);
    snprintf(path, sizeof path, "%s/seed-%d", folder, i);
    FILE *file = fopen(path, "we");
    if (file) {
        fwrite(bytes, 1, n + 1, file);
        fclose(file);
    }
    free(bytes);
    remove_user(rig);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *folder = *argc > 1 ? (*argv)[*argc - 1] : "-";
    for (int i = 0; folder[0] != '-' && i < SEEDS; i++)
        write_seed(bench(), folder, i);
    return 0;
}
