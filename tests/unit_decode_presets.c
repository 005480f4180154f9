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

static void assert_text(struct str text, const char *expected)
{
    if (!str_is(text, expected))
        fail_msg("'%.*s' is not '%s'", (int)text.len, text.at, expected);
}

/* ---- Segment --------------------------------------------------------------------------------------------------- */

static const char segment_viewed[] =
    "{\"anonymousId\":\"507f191e810c19729de860ea\",\"channel\":\"browser\",\"context\":{\"ip\":\"203.0.113.9\",\"library\":"
    "{\"name\":\"analytics.js\",\"version\":\"2.11.1\"},\"locale\":\"de-DE\",\"page\":{\"path\":\"/p/1\",\"referrer\":\"\","
    "\"search\":\"\",\"title\":\"Shoe\",\"url\":\"https:\\/\\/shop.example\\/p\\/1\"},\"campaign\":{\"name\":\"spring\","
    "\"source\":\"news\"},\"userAgent\":\"Mozilla/5.0\"},\"event\":\"Product Viewed\",\"integrations\":{},"
    "\"messageId\":\"ajs-f8ca1e4de5024d9430b3928bd8ac6b96\",\"originalTimestamp\":\"2026-11-25T03:04:04.000Z\","
    "\"properties\":{\"product_id\":\"507f1f77\",\"sku\":\"G-32\",\"category\":\"Games\",\"name\":\"Monopoly\",\"brand\":"
    "\"Hasbro\",\"price\":18.99,\"quantity\":1,\"currency\":\"EUR\",\"position\":3},\"receivedAt\":"
    "\"2026-11-25T03:04:06.000Z\",\"sentAt\":\"2026-11-25T03:04:05.900Z\",\"timestamp\":\"2026-11-25T03:04:05.678Z\","
    "\"type\":\"track\",\"userId\":\"AiUGstSDIg\",\"version\":2}";

static const char segment_completed[] =
    "{\"anonymousId\":\"anon-1\",\"context\":{\"page\":{\"path\":\"/done\"}},\"event\":\"Order Completed\",\"messageId\":"
    "\"m-2\",\"properties\":{\"checkout_id\":\"c\",\"order_id\":\"o\",\"total\":27.5,\"revenue\":25.0,\"shipping\":3,\"tax\":2,"
    "\"currency\":\"USD\",\"products\":[{\"product_id\":\"p-1\",\"sku\":\"45790-32\",\"name\":\"Monopoly\",\"price\":19,"
    "\"quantity\":2,\"category\":\"Games\"},{\"product_id\":\"p-2\",\"category\":\"Books\"}]},\"timestamp\":"
    "\"2026-11-25T04:04:05+01:00\",\"type\":\"track\",\"userId\":null}";

static void test_segment(void **state)
{
    struct fixture *f = *state;
    set_preset(f, "conf/presets/segment.yaml");
    const struct event *e = decode_ok(f, segment_viewed, EVENT_PRODUCT_VIEW);
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

    e = decode_ok(f, segment_completed, EVENT_PURCHASE);
    assert_text(e->user, "anon-1");
    assert_text(e->item, "p-1");
    assert_text(e->category, "Games");
    assert_text(e->currency, "USD");
    assert_int_equal(e->ts_ms, 1795575845000);
    assert_true(e->price == 25);
    assert_int_equal(e->has, HAS_PRICE);

    decode_ok(f, "{\"type\":\"page\",\"name\":\"Home\",\"userId\":1,\"timestamp\":\"2026-11-25T03:04:05Z\"}", EVENT_PAGE_VIEW);
    assert_int_equal(decode(f, "{\"type\":\"identify\",\"userId\":\"u\"}")->verdict, EVENT_IGNORED);
    assert_int_equal(decode(f, "{\"type\":\"track\",\"event\":\"Something Else\"}")->verdict, EVENT_UNKNOWN_TYPE);
    assert_int_equal(decode(f, "{\"type\":\"page\",\"user_id\":\"u\",\"ts\":1}")->verdict, EVENT_MISSING_FIELD);
}

/* ---- Snowplow -------------------------------------------------------------------------------------------------- */

static const char snowplow_action[] =
    "{\"app_id\":\"shop\",\"platform\":\"web\",\"collector_tstamp\":\"2026-11-25T03:04:06.100Z\",\"derived_tstamp\":"
    "\"2026-11-25T03:04:05.678Z\",\"event\":\"unstruct\",\"event_name\":\"snowplow_ecommerce_action\",\"event_id\":"
    "\"c6ef3124-b53a-4b13-a233-0088f79dcbcb\",\"user_id\":\"jon.doe\",\"domain_userid\":\"bc2e92ec6c204a14\","
    "\"network_userid\":\"ecdff4d0-9175-40ac-a8bb-325c49733607\",\"domain_sessionid\":\"2b15e5c8\",\"user_ipaddress\":"
    "\"203.0.113.9\",\"geo_country\":\"DE\",\"geo_latitude\":52.5,\"geo_longitude\":13.4,\"page_urlpath\":\"/cart\","
    "\"mkt_campaign\":null,\"tr_total\":null,\"unstruct_event_com_snowplowanalytics_snowplow_ecommerce_"
    "snowplow_ecommerce_action_1\":{\"type\":\"add_to_cart\",\"name\":\"cart\"},"
    "\"contexts_com_snowplowanalytics_snowplow_ecommerce_product_1\":[{\"id\":\"12345\",\"name\":\"Shoe\",\"category\":"
    "\"shoes/running\",\"price\":99.5,\"currency\":\"EUR\",\"quantity\":2}]}";

static const char snowplow_transaction[] =
    "{\"event\":\"unstruct\",\"event_name\":\"snowplow_ecommerce_action\",\"collector_tstamp\":\"2026-11-25 03:04:05.000\","
    "\"derived_tstamp\":null,\"user_id\":null,\"domain_userid\":\"bc2e92ec6c204a14\","
    "\"unstruct_event_com_snowplowanalytics_snowplow_ecommerce_snowplow_ecommerce_action_1\":{\"type\":\"transaction\"},"
    "\"contexts_com_snowplowanalytics_snowplow_ecommerce_transaction_1\":[{\"transaction_id\":\"t\",\"revenue\":230,"
    "\"currency\":\"USD\",\"payment_method\":\"card\"}],\"contexts_com_snowplowanalytics_snowplow_ecommerce_product_1\":"
    "[{\"id\":\"a\",\"category\":\"x\",\"price\":100,\"currency\":\"EUR\"},{\"id\":\"b\"}]}";

static void test_snowplow(void **state)
{
    struct fixture *f = *state;
    set_preset(f, "conf/presets/snowplow.yaml");
    const struct event *e = decode_ok(f, snowplow_action, EVENT_ADD_TO_CART);
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

    e = decode_ok(f, snowplow_transaction, EVENT_PURCHASE);
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

static const char ga4_export[] =
    "{\"event_date\":\"20261125\",\"event_timestamp\":\"1795575845678901\",\"event_name\":\"view_item\",\"event_params\":["
    "{\"key\":\"ga_session_id\",\"value\":{\"int_value\":\"123\"}}],\"event_value_in_usd\":null,\"user_id\":null,"
    "\"user_pseudo_id\":\"1026454.4271112\",\"privacy_info\":{\"analytics_storage\":\"Yes\",\"ads_storage\":\"Unset\"},"
    "\"device\":{\"category\":\"mobile\",\"advertising_id\":\"\",\"language\":\"de\"},\"geo\":{\"country\":\"Germany\"},"
    "\"collected_traffic_source\":{\"manual_campaign_name\":\"spring\"},\"ecommerce\":{\"total_item_quantity\":\"1\","
    "\"purchase_revenue\":null},\"items\":[{\"item_id\":\"GGOEGAEB\",\"item_name\":\"Tee\",\"item_category\":\"Apparel\","
    "\"price\":\"22.0\",\"quantity\":\"1\"},{\"item_id\":\"other\"}]}";

static const char ga4_purchase[] =
    "{\"event_timestamp\":1795575845678901,\"event_name\":\"purchase\",\"user_id\":\"u-7\",\"user_pseudo_id\":\"1.2\","
    "\"ecommerce\":{\"transaction_id\":\"t-1\",\"purchase_revenue\":72.5,\"items\":[{\"item_id\":\"i1\","
    "\"item_category\":\"Bags\",\"price\":30}]}}";

static const char ga4_protocol[] =
    "{\"client_id\":\"x.y\",\"timestamp_micros\":\"1795575845678901\",\"events\":[{\"name\":\"add_to_cart\",\"params\":"
    "{\"currency\":\"EUR\",\"value\":30.03,\"session_id\":99,\"items\":[{\"item_id\":\"SKU_1\",\"item_category\":"
    "\"Apparel\",\"price\":10.01,\"quantity\":3}]}}]}";

static void test_ga4(void **state)
{
    struct fixture *f = *state;
    set_preset(f, "conf/presets/ga4.yaml");
    const struct event *e = decode_ok(f, ga4_export, EVENT_PRODUCT_VIEW);
    assert_text(e->user, "1026454.4271112");
    assert_text(e->device, "1026454.4271112");
    assert_text(e->item, "GGOEGAEB");
    assert_text(e->category, "Apparel");
    assert_text(e->country, "Germany");
    assert_text(e->campaign, "spring");
    assert_true(e->price == 22);
    assert_int_equal(e->ts_ms, 1795575845679);

    e = decode_ok(f, ga4_purchase, EVENT_PURCHASE);
    assert_text(e->user, "u-7");
    assert_text(e->item, "i1");
    assert_true(e->price == 72.5);

    e = decode_ok(f, ga4_protocol, EVENT_ADD_TO_CART);
    assert_text(e->user, "x.y");
    assert_text(e->session, "99");
    assert_text(e->currency, "EUR");
    assert_true(e->price == 30.03);

    assert_int_equal(decode(f, "{\"event_name\":\"scroll\"}")->verdict, EVENT_IGNORED);
    assert_int_equal(decode(f, "{\"event_name\":\"purchase\",\"privacy_info\":{\"analytics_storage\":\"No\"}}")->verdict,
                     EVENT_NO_CONSENT);
    decode_ok(f, "{\"event_name\":\"login\",\"user_id\":\"u\",\"event_timestamp\":1795575845678901,"
                 "\"privacy_info\":{\"analytics_storage\":\"Unset\"}}", EVENT_LOGIN);
}

/* ---- presets as such ------------------------------------------------------------------------------------------- */

#define STRINGS(...) {(const char *[]){__VA_ARGS__}, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)}

static void test_settings_come_before_the_preset(void **state)
{
    struct fixture *f = *state;
    struct option_map_entry fields = {"user_id", STRINGS("context.traits.email"), 1, 1};
    struct option_map_entry types[] = {{"search", STRINGS("Product Viewed"), 1, 1}, {"login", STRINGS("identify"), 2, 1}};
    set_preset(f, "conf/presets/segment.yaml");
    *(struct option_map *)option_at(f, "fields") = (struct option_map){&fields, 1};
    *(struct option_map *)option_at(f, "types") = (struct option_map){types, 2};
    *(struct option_strings *)option_at(f, "ignore_types") = (struct option_strings)STRINGS("Order Completed");
    const char *rest = "\"context\":{\"traits\":{\"email\":\"a@b\"}},\"userId\":\"u\",\"timestamp\":\"2026-11-25T03:04:05Z\"}";
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
