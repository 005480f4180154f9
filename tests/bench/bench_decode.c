// SPDX-License-Identifier: Apache-2.0
// bench_decode.c - what it costs to decode an event of about 300 bytes, with the short cut and by the tree parser, and
// to write a score message with ten categories.
//
//   make bench-decode
#include "gait/decode.h"
#include "gait/model.h"
#include "gait/output.h"

#include "../support.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

extern const struct module decode_json;

enum { EVENTS = 16384, BATCH = 512, ROUNDS = 30, TOP = 10, TEXT_BYTES = 512 };

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static struct str *make_events(size_t *bytes)
{
    struct str *events = calloc(EVENTS, sizeof *events);
    char *at = malloc((size_t)EVENTS * TEXT_BYTES);
    assert(events && at);
    srand(1);
    *bytes = 0;
    for (int i = 0; i < EVENTS; i++) {
        int n = snprintf(at, TEXT_BYTES,
                         "{\"event_id\":\"e-%08x\",\"type\":\"product_view\",\"user_id\":\"u%06d\","
                         "\"session_id\":\"s-%06x\",\"ts\":1764000%06d,\"item_id\":\"sku%05d\","
                         "\"category\":\"shoes.running\",\"price\":%d.%02d,\"quantity\":1,\"currency\":\"EUR\","
                         "\"ip\":\"203.0.113.%d\",\"device_id\":\"d-%08x\",\"country\":\"DE\","
                         "\"page\":\"/p/%d\",\"load_ms\":%d,\"campaign\":\"c1\"}",
                         (unsigned)rand(), rand() % 200000, (unsigned)rand() & 0xffffff, rand() % 1000000,
                         rand() % 10000, rand() % 200, rand() % 100, rand() % 250, (unsigned)rand(), rand() % 10000,
                         rand() % 3000);
        events[i] = (struct str){at, (uint32_t)n};
        *bytes += (size_t)n;
        at += n;
    }
    return events;
}

/* The whole stage, as the engine calls it. */
static double decode_stage(struct rig *rig, const struct str *events)
{
    struct batch *b = &rig->batch;
    double best = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        double from = now_ns();
        for (int i = 0; i < EVENTS; i += BATCH) {
            for (b->n = 0; b->n < BATCH; b->n++)
                b->events[b->n] = (struct event){.raw = events[i + (int)b->n]};
            decode_json.run(&rig->engine->instances[0], b);
            arena_reset(b->arena);
        }
        double took = (now_ns() - from) / EVENTS;
        best = took < best ? took : best;
    }
    b->n = 0;
    return best;
}

/* The decoder alone. */
static double decode_texts(const struct decode_plan *plan, bool quick, const struct str *events)
{
    struct decoder *decoder = decoder_create(plan, 1 << 20, 64, quick);
    struct decode_values values;
    char room[TEXT_BYTES + DECODE_PADDING];
    const char *detail;
    double best = 1e18;
    assert(decoder);
    for (int round = 0; round < ROUNDS; round++) {
        double from = now_ns();
        for (int i = 0; i < EVENTS; i++)
            if (decoder_parse(decoder, events[i], room, &values, &detail) != EVENT_OK)
                abort();
        double took = (now_ns() - from) / EVENTS;
        best = took < best ? took : best;
    }
    decoder_destroy(&decoder);
    return best;
}

static double write_scores(void)
{
    struct str name = str_of("\"shoes.running\"");
    struct model *model = calloc(1, sizeof *model);
    struct event event = {.user = str_of("u123456"), .ts_ms = 1764000000123, .offset = 123456789};
    struct score score = {.n = TOP, .intent = 0.123456f};
    char buf[4096];
    double best = 1e18;
    assert(model);
    model->heads[0].vocabulary = (struct model_vocabulary){.n = 1, .json = &name};
    struct batch b = {.events = &event, .scores = &score, .n = 1, .model = model};
    for (int round = 0; round < ROUNDS; round++) {
        double from = now_ns();
        for (int i = 0; i < EVENTS; i++) {
            for (int k = 0; k < TOP; k++)
                score.top_p[k] = (float)(i + 1) / (float)(EVENTS + 7 * k);
            if (output_score(&b, 0, buf, sizeof buf) == 0)
                abort();
        }
        double took = (now_ns() - from) / EVENTS;
        best = took < best ? took : best;
    }
    free(model);
    return best;
}

int main(void)
{
    static const char *const names[] = {"type", "user_id", "ts", "event_id", "session_id", "item_id", "category",
                                        "price", "quantity", "currency", "ip", "device_id", "country", "lat", "lon",
                                        "page", "load_ms", "campaign", "consent"};
    size_t bytes;
    struct str *events = make_events(&bytes);
    struct rig *rig = rig_new(NULL);
    struct decode_plan *plan = decode_plan_create();
    struct error err;
    for (int f = 0; f < DECODE_FIELDS; f++)
        if (decode_plan_add(plan, (enum decode_field)f, names[f], &err) < 0)
            abort();
    rig_open(rig, &decode_json, rig_conf(rig, &decode_json), NULL);
    printf("events of %zu bytes; best of %d rounds, CPU time\n", bytes / EVENTS, ROUNDS);
    printf("decode stage             %6.0f ns an event\n", decode_stage(rig, events));
    printf("decoder, short cut       %6.0f ns\n", decode_texts(plan, true, events));
    printf("decoder, tree parser     %6.0f ns\n", decode_texts(plan, false, events));
    printf("score message, top %d    %6.0f ns\n", TOP, write_scores());
    decode_plan_destroy(&plan);
    rig_free(&rig);
    free((void *)(uintptr_t)events[0].at);
    free(events);
    return 0;
}
