// SPDX-License-Identifier: Apache-2.0
// unit_decode_presets.c - the mappings in conf/presets on payloads as those systems send them. Run from the top folder.
#include "gait/module.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct module decode_json;

struct fixture {
    struct instance in;
    struct event_types types;
    struct event event;
    struct batch batch;
    struct error err;
    char conf[512];
    char payload[8192];
};

static void *option_at(struct fixture *f, const char *name)
{
    for (const struct option *o = decode_json.options; o->name; o++)
        if (strcmp(o->name, name) == 0)
            return f->conf + o->offset;
    fail_msg("no option %s", name);
    return NULL;
}

static void set_preset(struct fixture *f, const char *path)
{
    *(const char **)option_at(f, "preset") = path;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    assert_true(decode_json.conf_size <= sizeof f->conf);
    assert_int_equal(event_types_init(&f->types, NULL, 0, &f->err), 0);
    f->in = (struct instance){.module = &decode_json, .name = "decode.json", .conf = f->conf, .types = &f->types};
    f->batch = (struct batch){.events = &f->event, .n = 1, .cap = 1, .arena = arena_create(65536, 4 << 20)};
    *(int64_t *)option_at(f, "max_event_bytes") = 1 << 20;
    *(int64_t *)option_at(f, "max_depth") = 64;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->in.self)
        decode_json.close(&f->in);
    arena_destroy(&f->batch.arena);
    free(f);
    return 0;
}

static const struct event *decode(struct fixture *f, const char *json)
{
    if (!f->in.self && decode_json.open(&f->in, false, &f->err) < 0)
        fail_msg("%s", f->err.text);
    f->event = (struct event){.raw = str_of(json)};
    decode_json.run(&f->in, &f->batch);
    return &f->event;
}

static const struct event *decode_ok(struct fixture *f, const char *json, enum event_type type)
{
    const struct event *e = decode(f, json);
    if (e->verdict != EVENT_OK)
        fail_msg("%s: %s", event_verdict_name(e->verdict), e->detail ? e->detail : "");
    assert_int_equal(e->type, type);
    return e;
}

/* The payload in tests/presets/NAME.json. */
static const struct event *decode_file(struct fixture *f, const char *name, enum event_type type)
{
    char path[100];
    snprintf(path, sizeof path, "tests/presets/%s.json", name);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    size_t n = fread(f->payload, 1, sizeof f->payload - 1, file);
    f->payload[n] = 0;
    fclose(file);
    return decode_ok(f, f->payload, type);
}

static void assert_text(struct str text, const char *expected)
{
    if (!str_is(text, expected))
        fail_msg("'%.*s' is not '%s'", (int)text.len, text.at, expected);
}

/* ---- Segment --------------------------------------------------------------------------------------------------- */

static void test_segment(void **state)
{
    struct fixture *f = *state;
    set_preset(f, "conf/presets/segment.yaml");
    const struct event *e = decode_file(f, "segment_product_viewed", EVENT_PRODUCT_VIEW);
    assert_text(e->user, "AiUGstSDIg");
    assert_text(e->device, "507f191e810c19729de860ea");
    assert_text(e->event_id, "ajs-f8ca1e4de5024d9430b3928bd8ac6b96");
    assert_text(e->item, "507f1f77");
    assert_text(e->category, "Games");
    assert_text(e->page, "/p/1");
    assert_text(e->campaign, "spring");
    assert_text(e->ip, "203.0.113.9");
    assert_int_equal(e->ts_ms, 1795575845678);
    assert_true(e->price == 18.99 && e->quantity == 1);
    assert_int_equal(e->has, HAS_PRICE | HAS_QUANTITY);

    e = decode_file(f, "segment_order_completed", EVENT_PURCHASE);
    assert_text(e->user, "anon-1");
    assert_text(e->item, "p-1");
    assert_text(e->category, "Games");
    assert_text(e->currency, "USD");
    assert_int_equal(e->ts_ms, 1795575845000);
    assert_true(e->price == 25);
    assert_int_equal(e->has, HAS_PRICE);

    decode_ok(f, "{\"type\":\"page\",\"name\":\"Home\",\"userId\":1,\"timestamp\":\"2026-11-25T03:04:05Z\"}",
              EVENT_PAGE_VIEW);
    assert_int_equal(decode(f, "{\"type\":\"identify\",\"userId\":\"u\"}")->verdict, EVENT_IGNORED);
    assert_int_equal(decode(f, "{\"type\":\"track\",\"event\":\"Something Else\"}")->verdict, EVENT_UNKNOWN_TYPE);
    assert_int_equal(decode(f, "{\"type\":\"page\",\"user_id\":\"u\",\"ts\":1}")->verdict, EVENT_MISSING_FIELD);
}

/* ---- Snowplow -------------------------------------------------------------------------------------------------- */

static void test_snowplow(void **state)
{
    struct fixture *f = *state;
    set_preset(f, "conf/presets/snowplow.yaml");
    const struct event *e = decode_file(f, "snowplow_add_to_cart", EVENT_ADD_TO_CART);
    assert_text(e->user, "jon.doe");
    assert_text(e->event_id, "c6ef3124-b53a-4b13-a233-0088f79dcbcb");
    assert_text(e->session, "2b15e5c8");
    assert_text(e->device, "ecdff4d0-9175-40ac-a8bb-325c49733607");
    assert_text(e->item, "12345");
    assert_text(e->category, "shoes/running");
    assert_text(e->country, "DE");
    assert_text(e->page, "/cart");
    assert_true(e->price == 99.5 && e->lat == 52.5 && e->lon == 13.4);
    assert_int_equal(e->ts_ms, 1795575845678);

    e = decode_file(f, "snowplow_transaction", EVENT_PURCHASE);
    assert_text(e->user, "bc2e92ec6c204a14");
    assert_text(e->item, "a");
    assert_text(e->currency, "USD");
    assert_true(e->price == 230);
    assert_int_equal(e->ts_ms, 1795575845000);

    decode_ok(f, "{\"event\":\"page_view\",\"event_name\":\"page_view\",\"user_id\":\"u\",\"collector_tstamp\":"
                 "\"2026-11-25T03:04:05Z\"}", EVENT_PAGE_VIEW);
    assert_int_equal(decode(f, "{\"event\":\"page_ping\",\"event_name\":\"page_ping\"}")->verdict, EVENT_IGNORED);
}

/* ---- GA4 ------------------------------------------------------------------------------------------------------- */

static void test_ga4(void **state)
{
    struct fixture *f = *state;
    set_preset(f, "conf/presets/ga4.yaml");
    const struct event *e = decode_file(f, "ga4_view_item", EVENT_PRODUCT_VIEW);
    assert_text(e->user, "1026454.4271112");
    assert_text(e->device, "1026454.4271112");
    assert_text(e->item, "GGOEGAEB");
    assert_text(e->category, "Apparel");
    assert_text(e->country, "Germany");
    assert_text(e->campaign, "spring");
    assert_true(e->price == 22);
    assert_int_equal(e->ts_ms, 1795575845679);

    e = decode_file(f, "ga4_purchase", EVENT_PURCHASE);
    assert_text(e->user, "u-7");
    assert_text(e->item, "i1");
    assert_true(e->price == 72.5);

    e = decode_file(f, "ga4_protocol_add_to_cart", EVENT_ADD_TO_CART);
    assert_text(e->user, "x.y");
    assert_text(e->session, "99");
    assert_text(e->currency, "EUR");
    assert_true(e->price == 30.03);

    assert_int_equal(decode(f, "{\"event_name\":\"scroll\"}")->verdict, EVENT_IGNORED);
    const struct event *refused =
        decode(f, "{\"event_name\":\"purchase\",\"privacy_info\":{\"analytics_storage\":\"No\"}}");
    assert_int_equal(refused->verdict, EVENT_NO_CONSENT);
    decode_ok(f, "{\"event_name\":\"login\",\"user_id\":\"u\",\"event_timestamp\":1795575845678901,"
                 "\"privacy_info\":{\"analytics_storage\":\"Unset\"}}", EVENT_LOGIN);
}

/* ---- presets as such ------------------------------------------------------------------------------------------- */

#define STRINGS(...) {(const char *[]){__VA_ARGS__}, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)}

static void test_settings_come_before_the_preset(void **state)
{
    struct fixture *f = *state;
    struct option_map_entry fields = {"user_id", STRINGS("context.traits.email"), 1, 1};
    struct option_map_entry types[] = {{"search", STRINGS("Product Viewed"), 1, 1},
                                       {"login", STRINGS("identify"), 2, 1}};
    set_preset(f, "conf/presets/segment.yaml");
    *(struct option_map *)option_at(f, "fields") = (struct option_map){&fields, 1};
    *(struct option_map *)option_at(f, "types") = (struct option_map){types, 2};
    *(struct option_strings *)option_at(f, "ignore_types") = (struct option_strings)STRINGS("Order Completed");
    const char *rest = "\"context\":{\"traits\":{\"email\":\"a@b\"}},\"userId\":\"u\","
                       "\"timestamp\":\"2026-11-25T03:04:05Z\"}";
    char json[400];
    snprintf(json, sizeof json, "{\"event\":\"Product Viewed\",%s", rest);
    assert_text(decode_ok(f, json, EVENT_SEARCH)->user, "a@b");
    snprintf(json, sizeof json, "{\"type\":\"identify\",%s", rest);
    decode_ok(f, json, EVENT_LOGIN);
    assert_int_equal(decode(f, "{\"event\":\"Order Completed\"}")->verdict, EVENT_IGNORED);
    snprintf(json, sizeof json, "{\"event\":\"Product Clicked\",%s", rest);
    decode_ok(f, json, EVENT_PRODUCT_VIEW);
}

static void expect_refused(struct fixture *f, const char *yaml, const char *text)
{
    char path[] = "/tmp/unit_decode_presets.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, yaml, strlen(yaml)) == (ssize_t)strlen(yaml));
    close(fd);
    set_preset(f, path);
    int rc = decode_json.open(&f->in, true, &f->err);
    unlink(path);
    assert_int_equal(rc, -1);
    if (!strstr(f->err.text, text))
        fail_msg("'%s' does not say '%s'", f->err.text, text);
    decode_json.close(&f->in);
}

static void test_presets_that_cannot_be(void **state)
{
    struct fixture *f = *state;
    expect_refused(f, "fields: {prise: p}\n", "an event has no field 'prise'");
    expect_refused(f, "fields: {type: event}\ntypes:\n  sale: x\n", "line 3: 'sale' is no event type");
    expect_refused(f, "types: {login: x, logout: [y, x]}\n", "'x' stands for two event types");
    expect_refused(f, "feilds: {type: event}\n", ":1:1: ");
    expect_refused(f, "[1, 2]\n", "is not a map of settings");
    expect_refused(f, "fields: {\n", "preset: /tmp/unit_decode_presets.");
    set_preset(f, "/nowhere/x.yaml");
    assert_int_equal(decode_json.open(&f->in, true, &f->err), -1);
    assert_non_null(strstr(f->err.text, "/nowhere/x.yaml: cannot be opened"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_segment),
        TEST(test_snowplow),
        TEST(test_ga4),
        TEST(test_settings_come_before_the_preset),
        TEST(test_presets_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
