// SPDX-License-Identifier: Apache-2.0
// unit_erase.c - a user is forgotten step by step: emptied, tombstone durable, receipt sent, receipt durable, and only
// then has the erasure been done. The real engine between a source, a store and a sink that the test holds in its hand.
#include "../daemon/engine.h"

#include "gait/log.h"
#include "gait/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LINES_MAX = 16, RECORDS_MAX = 8, STEPS = 60 };
static const int64_t T0 = 1764000000000;

/* The store's copy of one record. */
struct stored {
    char name[32];
    uint8_t *bytes;
    size_t n;
};

struct world {
    struct config *config;
    struct engine *engine;
    uint64_t mono_ns;
    char lines[LINES_MAX][160];
    size_t lines_n, next;
    bool started;
    struct stored stored[RECORDS_MAX];
    size_t stored_n;
    int64_t erase_saved;          /* erase_done, as the store last got it */
    unsigned refuse_saves;        /* so many more saves fail */
    bool hold_receipts;           /* the sink's acknowledgement is awaited */
    struct ticket *held[8];
    size_t held_n;
    unsigned erased, receipts, closed; /* FLOW_ERASE, FLOW_ERASED, FLOW_CLOSED */
    bool saved_before_receipt;    /* the store had the tombstone at each FLOW_ERASED */
};

/* ---- the three modules ------------------------------------------------------------------------------------------- */

static int open_part(struct instance *in, bool check, struct error *err)
{
    (void)check, (void)err;
    in->self = in->conf;
    in->input = "clicks";
    return 0;
}

static void run_source(struct instance *in, struct batch *b)
{
    struct world *w = in->self;
    for (; w->started && w->next < w->lines_n && b->n < b->cap; w->next++)
        b->events[b->n++] = (struct event){.raw = str_of(w->lines[w->next]), .offset = (int64_t)w->next,
                                           .log_ms = T0 + 1000000};
}

static void flow_source(struct instance *in, const struct flow *flow)
{
    struct world *w = in->self;
    if (flow->kind == FLOW_START)
        w->started = true;
    w->closed += flow->kind == FLOW_CLOSED;
}

static void commit_source(struct instance *in, struct commit *c)
{
    commit_done(in->engine, in, c, true);
}

static struct stored *find_stored(struct world *w, struct str name)
{
    for (size_t i = 0; i < w->stored_n; i++)
        if (str_is(name, w->stored[i].name))
            return &w->stored[i];
    return NULL;
}

static void run_store(struct instance *in, struct batch *b)
{
    for (uint32_t i = b->loading_from; i < b->loading_n; i++) {
        struct user *user = b->loading[i];
        const struct stored *s = find_stored(in->self, (struct str){user->name, user->name_len});
        load_done(in->engine, user, s ? s->bytes : NULL, s ? s->n : 0);
    }
}

static void flow_store(struct instance *in, const struct flow *flow)
{
    if (flow->kind == FLOW_OPEN)
        partition_opened(in->engine, flow->partition, 1, OFFSET_NONE);
}

static void commit_store(struct instance *in, struct commit *c)
{
    struct world *w = in->self;
    bool ok = w->refuse_saves == 0;
    w->refuse_saves -= !ok;
    for (uint32_t i = 0; i < c->n && ok; i++) {
        struct stored *s = find_stored(w, c->items[i].name);
        if (!s) {
            assert_true(w->stored_n < RECORDS_MAX);
            s = &w->stored[w->stored_n++];
            memcpy(s->name, c->items[i].name.at, c->items[i].name.len);
        }
        free(s->bytes);
        s->n = c->items[i].len;
        s->bytes = malloc(s->n);
        assert_non_null(s->bytes);
        memcpy(s->bytes, c->items[i].bytes, s->n);
    }
    if (ok)
        w->erase_saved = c->erase_offset;
    commit_done(in->engine, in, c, ok);
}

static bool is_tombstone(struct world *w, struct str name)
{
    const struct stored *s = find_stored(w, name);
    return s && s->bytes[5] & 2; /* flags of the frame: user.h */
}

static void run_sink(struct instance *in, struct batch *b)
{
    (void)in, (void)b;
}

static void flow_sink(struct instance *in, const struct flow *flow)
{
    struct world *w = in->self;
    w->erased += flow->kind == FLOW_ERASE;
    if (flow->kind != FLOW_ERASED)
        return;
    w->receipts++;
    w->saved_before_receipt &= is_tombstone(w, flow->erasure->name);
    if (w->hold_receipts) {
        assert_true(w->held_n < 8);
        ticket_hold(flow->erasure->ticket, 1);
        w->held[w->held_n++] = flow->erasure->ticket;
    }
}

static const struct module source_hand = {.name = "source_hand", .summary = "", .stage = STAGE_SOURCE,
                                          .open = open_part, .run = run_source,
                                          .flow = flow_source, .commit = commit_source};
static const struct module store_hand = {.name = "store_hand", .summary = "", .stage = STAGE_STORE, .open = open_part,
                                         .run = run_store, .flow = flow_store, .commit = commit_store};
static const struct module sink_hand = {.name = "sink_hand", .summary = "", .stage = STAGE_SINK, .open = open_part,
                                        .run = run_sink, .flow = flow_sink};

/* ---- the engine -------------------------------------------------------------------------------------------------- */

static int64_t wall_ms(void *self)
{
    (void)self;
    return T0 + 2000000;
}

static uint64_t mono_ns(void *self)
{
    return ((struct world *)self)->mono_ns;
}

static void steps(struct world *w)
{
    for (int i = 0; i < STEPS; i++) {
        w->mono_ns += 20000000;
        if (i % 5 == 0)
            engine_tick(w->engine);
        engine_step(w->engine);
    }
}

static void click(struct world *w, const char *user, int64_t ts_ms)
{
    assert_true(w->lines_n < LINES_MAX);
    snprintf(w->lines[w->lines_n++], sizeof w->lines[0], "{\"type\":\"search\",\"user_id\":\"%s\",\"ts\":%lld}", user,
             (long long)ts_ms);
}

static int setup(void **state)
{
    static const char text[] = "engine: {batch_events: 8, batches: 2, table_bytes: 4MB, user_id_bytes: 16, save_ms: "
                               "50ms, commit_ms: 50ms}\nsource: {file: {paths: x}}\nstore: {memory: {}}\n"
                               "window: {rolling: {}}\n";
    struct world *w = calloc(1, sizeof *w);
    struct config_errors errors = {0};
    struct error err;
    assert_non_null(w);
    w->saved_before_receipt = true;
    w->erase_saved = -1;
    log_setup(LOG_ERROR, LOG_FORMAT_TEXT);
    w->config = config_parse(text, sizeof text - 1, "test.yaml", &errors);
    assert_non_null(w->config);
    static struct config_module flow[CONFIG_MODULES_MAX];
    static struct config own;
    own = *w->config;
    for (size_t i = 0; i < own.modules_n; i++) {
        enum stage stage = own.modules[i].module->stage;
        flow[i] = own.modules[i];
        if (stage == STAGE_SOURCE || stage == STAGE_STORE) {
            flow[i].module = stage == STAGE_SOURCE ? &source_hand : &store_hand;
            flow[i].conf = w;
        }
    }
    flow[own.modules_n++] = (struct config_module){.module = &sink_hand, .name = (char *)"sink.hand", .conf = w};
    own.modules = flow;
    const struct clock clock = {wall_ms, mono_ns, w};
    w->engine = engine_create(&own, NULL, &clock, false, &err);
    if (!w->engine)
        fail_msg("%s", err.text);
    engine_start(w->engine);
    partition_assigned(w->engine, 0, OFFSET_NONE);
    steps(w);
    assert_true(w->started);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    engine_destroy(&w->engine);
    config_destroy(&w->config);
    for (size_t i = 0; i < w->stored_n; i++)
        free(w->stored[i].bytes);
    free(w);
    return 0;
}

static struct partition *partition(struct world *w)
{
    struct partition *p = engine_partition(w->engine, 0);
    assert_non_null(p);
    return p;
}

static uint32_t events_of(struct world *w, const char *name)
{
    struct user *user = users_find(w->engine->users, 0, str_of(name));
    return user ? window_ring_count(engine_instance(w->engine, STAGE_WINDOW), user) : 0;
}

static double metric(struct world *w, const char *name)
{
    return metrics_sum(w->engine->metrics, name);
}

static bool erase(struct world *w, const char *user, int64_t erased_ms, int64_t offset)
{
    return engine_erase(w->engine, 0, str_of(user), erased_ms, offset);
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static void test_forgotten_saved_receipted_done(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 3; i++)
        click(w, "anna", T0 + i), click(w, "berta", T0 + i);
    steps(w);
    assert_int_equal(events_of(w, "anna"), 3);
    assert_true(erase(w, "anna", T0 + 2, 0));
    assert_true(erases_waiting(w->engine)); /* no batch before it */
    steps(w);
    assert_false(erases_waiting(w->engine));
    assert_int_equal(w->erased, 1);
    assert_int_equal(w->receipts, 1);
    assert_true(w->saved_before_receipt);
    assert_int_equal(partition(w)->erase_done, 1);
    assert_int_equal(w->erase_saved, 1); /* told to the store though no record changed since */
    assert_int_equal(events_of(w, "anna"), 0);
    assert_int_equal(events_of(w, "berta"), 3);
    click(w, "anna", T0 + 1); /* sent again, or late */
    click(w, "anna", T0 + 3);
    steps(w);
    assert_int_equal(events_of(w, "anna"), 1);
    assert_int_equal((int)metric(w, "gait_erased_total"), 1);
}

static void test_no_receipt_before_the_tombstone_is_saved(void **state)
{
    struct world *w = *state;
    click(w, "anna", T0);
    steps(w);
    w->refuse_saves = 1000;
    assert_true(erase(w, "anna", T0, 0));
    steps(w);
    assert_int_equal(events_of(w, "anna"), 0); /* forgotten at once */
    assert_int_equal(w->receipts, 0);
    assert_int_equal(partition(w)->erase_done, 0);
    w->refuse_saves = 0;
    steps(w);
    steps(w);
    assert_int_equal(w->receipts, 1);
    assert_true(w->saved_before_receipt);
    assert_int_equal(partition(w)->erase_done, 1);
}

static void test_not_done_before_the_receipt_is_durable(void **state)
{
    struct world *w = *state;
    w->hold_receipts = true;
    assert_true(erase(w, "anna", T0, 0)); /* of whom nothing is known: the tombstone is needed all the same */
    steps(w);
    assert_int_equal(w->receipts, 1);
    assert_int_equal(w->held_n, 1);
    assert_true(is_tombstone(w, str_of("anna")));
    assert_int_equal(partition(w)->erase_done, 0);
    assert_true(w->erase_saved <= 0);
    assert_int_equal((int)metric(w, "gait_erased_total"), 0);
    ticket_release(w->held[0], 1);
    steps(w);
    assert_int_equal(partition(w)->erase_done, 1);
    assert_int_equal((int)metric(w, "gait_erased_total"), 1);
}

/* After a crash the log of erasures is read once more: what came after the first time stays. */
static void test_a_second_time_takes_nothing_away(void **state)
{
    struct world *w = *state;
    click(w, "anna", T0);
    steps(w);
    assert_true(erase(w, "anna", T0, 0));
    steps(w);
    click(w, "anna", T0 + 5);
    steps(w);
    assert_int_equal(events_of(w, "anna"), 1);
    assert_true(erase(w, "anna", T0, 1));
    steps(w);
    assert_int_equal(events_of(w, "anna"), 1);
    assert_int_equal(w->receipts, 2);
    assert_true(erase(w, "anna", T0, 1)); /* an offset that was taken already is not even looked at */
    steps(w);
    assert_int_equal(w->receipts, 2);
    assert_int_equal(partition(w)->erase_done, 2);
}

static void test_what_cannot_be_erased_does_not_stand_in_the_way(void **state)
{
    struct world *w = *state;
    assert_true(erase(w, "", T0, 0));
    assert_true(erase(w, "a name of more than sixteen bytes", T0, 1));
    assert_true(engine_erase(w->engine, 5, str_of("anna"), T0, 0)); /* not our partition */
    steps(w);
    assert_int_equal(w->receipts, 0);
    assert_int_equal(partition(w)->erase_done, 2);
}

static void test_too_many_at_once_are_refused_until_there_is_room(void **state)
{
    struct world *w = *state;
    char name[16];
    w->refuse_saves = 100000;
    for (int i = 0; i < ERASES_MAX; i++) {
        snprintf(name, sizeof name, "u%d", i % 4);
        assert_true(erase(w, name, T0 + i, i));
    }
    assert_false(erase(w, "u0", T0, ERASES_MAX));
    steps(w);
    assert_false(erase(w, "u0", T0, ERASES_MAX));
    assert_int_equal(partition(w)->erase_next, ERASES_MAX); /* a refused one is offered again */
    w->refuse_saves = 0;
    for (int i = 0; i < 10; i++)
        steps(w);
    assert_int_equal(w->receipts, ERASES_MAX);
    assert_int_equal(partition(w)->erase_done, ERASES_MAX);
    assert_true(erase(w, "u0", T0, ERASES_MAX));
}

/* Done is only what is done without a gap: what is durable, and saved after it, keeps the order of computing. */
static void test_a_later_one_waits_for_the_earlier(void **state)
{
    struct world *w = *state;
    w->hold_receipts = true;
    assert_true(erase(w, "anna", T0, 0));
    steps(w);
    w->hold_receipts = false;
    assert_true(erase(w, "berta", T0, 1));
    steps(w);
    assert_int_equal(w->receipts, 1);
    assert_int_equal(partition(w)->erase_done, 0);
    ticket_release(w->held[0], 1);
    steps(w);
    assert_int_equal(w->receipts, 2);
    assert_int_equal(partition(w)->erase_done, 2);
}

/* The next owner reads them again; nothing of them keeps the partition. */
static void test_a_lost_partition_drops_them(void **state)
{
    struct world *w = *state;
    w->refuse_saves = 100000;
    assert_true(erase(w, "anna", T0, 0));
    assert_true(erase(w, "berta", T0, 1));
    steps(w);
    assert_int_equal(w->engine->erases.n, 2);
    partition_lost(w->engine, 0);
    steps(w);
    assert_int_equal(w->engine->erases.n, 0);
    assert_int_equal(w->closed, 1);
    assert_null(engine_partition(w->engine, 0));
    assert_false(erases_waiting(w->engine));
    assert_int_equal(w->receipts, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_forgotten_saved_receipted_done),
        TEST(test_no_receipt_before_the_tombstone_is_saved),
        TEST(test_not_done_before_the_receipt_is_durable),
        TEST(test_a_second_time_takes_nothing_away),
        TEST(test_what_cannot_be_erased_does_not_stand_in_the_way),
        TEST(test_too_many_at_once_are_refused_until_there_is_room),
        TEST(test_a_later_one_waits_for_the_earlier),
        TEST(test_a_lost_partition_drops_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
