// SPDX-License-Identifier: Apache-2.0
// fuzz_decode.c - any bytes as a message. Each input is read twice, with the decoder's short cut and without: verdict
// and every value must be the same. Then the whole decode stage runs over it, and what it passes must keep its
// promises; what it refuses must become a dead letter that is JSON.
//
// A directory as the last argument (the corpus) gets seeds first.
#include "gait/decode.h"
#include "gait/module.h"
#include "gait/output.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

extern const struct module decode_json;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_BYTES = 8192, MAX_DEPTH = 12, DEAD_BYTES = 8 * MAX_BYTES };

/* Everything that lives as long as the process. */
struct bench {
    struct decode_plan *plan;
    struct decoder *quick, *tree, *dead;
    char conf[512];
    struct event_types types;
    struct instance in;
    struct arena *arena;
    char *letter;
};

static const char *const seeds[] = {
    "{\"event_id\":\"e-1\",\"type\":\"product_view\",\"user_id\":\"u1\",\"session_id\":\"s1\",\"ts\":1764000000123,"
    "\"item_id\":\"sku1\",\"category\":\"shoes\",\"price\":99.5,\"quantity\":1,\"currency\":\"EUR\",\"lat\":5,"
    "\"page\":\"/p/1\",\"load_ms\":734,\"consent\":true}",
    "{\"type\":\"purchase\",\"user_id\":4711,\"ts\":\"2026-11-25T03:04:05.678+01:00\",\"price\":\"99.50\"}",
    "{ \"type\" : \"track\" , \"context\" : { \"page\" : { \"path\" : \"\\/p\\/1\" } } , \"b\" : null } }\n",
    "{ \"properties\" : { \"products\" : [ { \"sku\" : \"a\" } , { \"sku\" : null , \"price\" : -1.5e3 } ] } }\n",
    "\xEF\xBB\xBF{\"type\":\"login\",\"user_id\":\"\\u00e4\\ud83d\\ude00\\u0000\",\"ts\":1764000000.25}",
    "{\"a\":[[[[[[[[[[[[1]]]]]]]]]]]],\"b\":123456789012345678901234567890,\"ts\":-0.0}",
    "{\"user_id\":18446744073709551615,\"ts\":-9223372036854775808,\"price\":123456789012345,\"item_id\":1e2}",
    "{\"type\":\"login\",\"type\":null,\"type\":\"\",\"user_id\":true,\"ts\":1e400}",
    "[]", "{}", " ", "{\"user_id\":\"\xC3\x28\"}", "{\"a\":0,\"b\":-1,\"c\":0.5,\"d\":00,\"e\":1.,\"f\":.5,\"g\":tru}",
};

static const char *const paths[][2] = {
    {"0", "type"},       {"1", "user_id"},  {"1", "context.id"},       {"2", "ts"},
    {"3", "event_id"},   {"5", "item_id"},  {"5", "properties.products.1.sku"}, {"5", "properties.products.0.sku"},
    {"7", "price"},      {"7", "properties.products.1.price"},         {"11", "user_id"},
    {"15", "context.page.path"},            {"6", "properties"},       {"18", "consent"},
};

static struct bench *bench_new(void)
{
    struct bench *b = calloc(1, sizeof *b);
    struct error err;
    assert(b && decode_json.conf_size <= sizeof b->conf);
    b->plan = decode_plan_create();
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (decode_plan_add(b->plan, (enum decode_field)atoi(paths[i][0]), paths[i][1], &err) < 0)
            abort();
    b->quick = decoder_create(b->plan, MAX_BYTES, MAX_DEPTH, true);
    b->tree = decoder_create(b->plan, MAX_BYTES, MAX_DEPTH, false);
    b->dead = decoder_create(b->plan, DEAD_BYTES, MAX_DEPTH, false);
    b->arena = arena_create(1 << 20, 16 << 20);
    b->letter = malloc(DEAD_BYTES);
    assert(b->quick && b->tree && b->dead && b->letter);
    for (const struct option *o = decode_json.options; o->name; o++) {
        int64_t value = strcmp(o->name, "max_event_bytes") == 0 ? MAX_BYTES : MAX_DEPTH;
        if (strncmp(o->name, "max_", 4) == 0)
            memcpy(b->conf + o->offset, &value, sizeof value);
    }
    if (event_types_init(&b->types, NULL, 0, &err) < 0)
        abort();
    b->in = (struct instance){.module = &decode_json, .name = "decode.json", .conf = b->conf, .types = &b->types};
    if (decode_json.open(&b->in, false, &err) < 0)
        abort();
    return b;
}

static bool same_value(uint8_t kind, const union decode_value *a, const union decode_value *b)
{
    switch (kind) {
    case DECODE_TEXT: return str_equal(a->text, b->text);
    case DECODE_INT: return a->integer == b->integer;
    case DECODE_UINT: return a->natural == b->natural;
    case DECODE_REAL: return memcmp(&a->real, &b->real, sizeof a->real) == 0;
    case DECODE_BOOL: return a->truth == b->truth;
    default: return true;
    }
}

/* `exact` ends where the allocation ends: a step beyond is seen. */
static void compare(struct bench *b, struct str exact)
{
    static struct decode_values one, two;
    const char *detail = NULL;
    char *room_one = malloc(exact.len + DECODE_PADDING), *room_two = malloc(exact.len + DECODE_PADDING);
    assert(room_one && room_two);
    enum event_verdict first = decoder_parse(b->quick, exact, room_one, &one, &detail);
    enum event_verdict second = decoder_parse(b->tree, exact, room_two, &two, &detail);
    assert(first == second && (first == EVENT_OK || detail));
    for (int i = 0; first == EVENT_OK && i < DECODE_FIELDS; i++)
        assert(one.kind[i] == two.kind[i] && same_value(one.kind[i], &one.at[i], &two.at[i]));
    free(room_one);
    free(room_two);
}

static void check_promises(const struct event *e)
{
    assert(e->type < EVENT_TYPES_BUILTIN && e->ts_ms >= 0 && e->user.len > 0 && !memchr(e->user.at, 0, e->user.len));
    assert(isfinite(e->price) && e->price >= 0 && isfinite(e->quantity) && e->quantity >= 0 && isfinite(e->load_ms));
    assert(fabs(e->lat) <= 90 && fabs(e->lon) <= 180 && e->price * e->quantity <= 9e12);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bench *bench;
    if (!bench)
        bench = bench_new();
    if (size > MAX_BYTES)
        return 0;
    char *exact = malloc(size ? size : 1);
    assert(exact);
    memcpy(exact, data, size);
    struct str raw = {exact, (uint32_t)size};
    compare(bench, raw);
    struct event event = {.raw = raw};
    struct score score = {.intent = 0.5f};
    struct batch batch = {.events = &event, .scores = &score, .n = 1, .cap = 1, .arena = bench->arena};
    decode_json.run(&bench->in, &batch);
    size_t n = 0;
    if (event.verdict == EVENT_OK) {
        check_promises(&event);
        n = output_score(&batch, 0, bench->letter, DEAD_BYTES);
    } else if (event_verdict_is_dead(event.verdict)) {
        n = output_dead(&batch, 0, bench->letter, DEAD_BYTES);
    }
    if (n > 0) { /* what we write, we read */
        struct decode_values values;
        const char *detail = NULL;
        char *room = malloc(n + DECODE_PADDING);
        assert(room);
        if (decoder_parse(bench->dead, (struct str){bench->letter, (uint32_t)n}, room, &values, &detail) != EVENT_OK)
            abort();
        free(room);
    }
    free(exact);
    arena_reset(bench->arena);
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *folder = *argc > 1 ? (*argv)[*argc - 1] : "-";
    for (size_t i = 0; folder[0] != '-' && i < sizeof seeds / sizeof *seeds; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/seed-%zu", folder, i);
        FILE *file = fopen(path, "we");
        if (!file)
            break; /* a single input was named, not a folder */
        fputs(seeds[i], file);
        fclose(file);
    }
    return 0;
}
