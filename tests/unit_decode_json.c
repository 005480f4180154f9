// SPDX-License-Identifier: Apache-2.0
// unit_decode_json.c - what an event in gives: fields, or the verdict that its sender finds in the dead-letter output.
#include "gait/decode.h"
#include "gait/module.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

extern const struct module decode_json;

/* An instance with the options of the table at their defaults, and a batch of one event. */
struct fixture {
    struct instance in;
    struct event_types types;
    struct event event;
    struct batch batch;
    struct error err;
    char conf[512];
};

/* The member of the configuration that the option row `name` points at. */
static void *option_at(struct fixture *f, const char *name)
{
    for (const struct option *o = decode_json.options; o->name; o++)
        if (strcmp(o->name, name) == 0)
            return f->conf + o->offset;
    fail_msg("no option %s", name);
    return NULL;
}

static void set_int(struct fixture *f, const char *name, int64_t value)
{
    memcpy(option_at(f, name), &value, sizeof value);
}

static void set_enum(struct fixture *f, const char *name, int value)
{
    memcpy(option_at(f, name), &value, sizeof value);
}

static struct fixture *fixture_new(void)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    assert_true(decode_json.conf_size <= sizeof f->conf);
    const char *const more[] = {"wishlist"};
    assert_int_equal(event_types_init(&f->types, more, 1, &f->err), 0);
    f->in = (struct instance){.module = &decode_json, .name = "decode.json", .conf = f->conf, .types = &f->types};
    f->batch = (struct batch){.events = &f->event, .n = 1, .cap = 1, .arena = arena_create(65536, 4 << 20)};
    set_int(f, "max_event_bytes", 1 << 20);
    set_int(f, "max_depth", 64);
    return f;
}

static void fixture_free(struct fixture *f)
{
    if (f->in.self)
        decode_json.close(&f->in);
    arena_destroy(&f->batch.arena);
    free(f);
}

/* `len` bytes that end exactly where their allocation ends, so that a sanitizer sees any step beyond. */
static const struct event *decode_bytes(struct fixture *f, const char *bytes, size_t len)
{
    if (!f->in.self && decode_json.open(&f->in, false, &f->err) < 0)
        fail_msg("%s", f->err.text);
    char *exact = malloc(len ? len : 1);
    memcpy(exact, bytes, len);
    memset(&f->event, 0xA5, sizeof f->event);
    f->event.verdict = EVENT_OK; /* the source has nothing against it */
    f->event.raw = (struct str){exact, (uint32_t)len};
    decode_json.run(&f->in, &f->batch);
    free(exact); /* nothing in the event may point into the message's own buffer that was not said to */
    return &f->event;
}

static const struct event *decode(struct fixture *f, const char *json)
{
    return decode_bytes(f, json, strlen(json));
}

static void expect(struct fixture *f, const char *json, enum event_verdict verdict)
{
    const struct event *e = decode(f, json);
    if (e->verdict != verdict)
        fail_msg("%s: %s (%s), not %s", json, event_verdict_name(e->verdict), e->detail ? e->detail : "no detail",
                 event_verdict_name(verdict));
}

/* A complete event in which `members` come last. */
static const char *with(const char *members)
{
    static char text[8192];
    int n = snprintf(text, sizeof text, "{\"type\":\"purchase\",\"user_id\":\"u1\",\"ts\":1764000000123%s%s}",
                     members[0] ? "," : "", members);
    assert_true(n > 0 && (size_t)n < sizeof text);
    return text;
}

static void assert_text(struct str text, const char *expected)
{
    if (!str_is(text, expected))
        fail_msg("'%.*s' is not '%s'", (int)text.len, text.at, expected);
}

static int setup(void **state)
{
    *state = fixture_new();
    return 0;
}

static int teardown(void **state)
{
    fixture_free(*state);
    return 0;
}

/* ---- what a good event gives ----------------------------------------------------------------------------------- */

static void test_every_field_of_the_default_format(void **state)
{
    const struct event *e = decode(*state,
        "{\"event_id\":\"e-1\",\"type\":\"product_view\",\"user_id\":\"u1\",\"session_id\":\"s1\",\"ts\":1764000000123,"
        "\"item_id\":\"sku1\",\"category\":\"shoes.running\",\"price\":99.5,\"quantity\":1,\"currency\":\"EUR\","
        "\"ip\":\"203.0.113.7\",\"device_id\":\"d1\",\"country\":\"DE\",\"lat\":52.5,\"lon\":13.4,\"page\":\"/p/1\","
        "\"load_ms\":734,\"campaign\":\"c1\",\"consent\":true}");
    assert_int_equal(e->verdict, EVENT_OK);
    assert_null(e->detail);
    assert_int_equal(e->type, EVENT_PRODUCT_VIEW);
    assert_int_equal(e->ts_ms, 1764000000123);
    assert_text(e->event_id, "e-1");
    assert_text(e->user, "u1");
    assert_text(e->session, "s1");
    assert_text(e->item, "sku1");
    assert_text(e->category, "shoes.running");
    assert_text(e->currency, "EUR");
    assert_text(e->ip, "203.0.113.7");
    assert_text(e->device, "d1");
    assert_text(e->country, "DE");
    assert_text(e->page, "/p/1");
    assert_text(e->campaign, "c1");
    assert_true(e->price == 99.5 && e->quantity == 1 && e->lat == 52.5 && e->lon == 13.4 && e->load_ms == 734);
    assert_int_equal(e->has, HAS_PRICE | HAS_QUANTITY | HAS_PLACE | HAS_LOAD);
}

static void test_absent_fields_are_empty(void **state)
{
    const struct event *e = decode(*state, with("\"price\":null,\"category\":\"\",\"unknown\":{\"a\":[1,2]}"));
    assert_int_equal(e->verdict, EVENT_OK);
    assert_int_equal(e->has, 0);
    assert_null(e->category.at);
    assert_null(e->item.at);
    assert_true(e->price == 0 && e->lat == 0);
}

static void test_text_is_unescaped_and_kept(void **state)
{
    const struct event *e = decode(*state, with("\"category\":\"a\\u00e4\\n\\\"\\ud83d\\ude00\",\"page\":\"/\\/x\""));
    assert_int_equal(e->verdict, EVENT_OK);
    assert_text(e->category, "aä\n\"😀");
    assert_text(e->page, "//x");
}

static void test_texts_far_apart(void **state)
{
    size_t filler = 20000;
    char *json = malloc(filler + 200);
    int n = sprintf(json, "{\"type\":\"login\",\"x\":\"");
    memset(json + n, 'x', filler);
    strcpy(json + n + filler, "\",\"user_id\":\"far\",\"ts\":1}");
    const struct event *e = decode(*state, json);
    assert_int_equal(e->verdict, EVENT_OK);
    assert_int_equal(e->type, EVENT_LOGIN);
    assert_text(e->user, "far");
    assert_true(arena_used(((struct fixture *)*state)->batch.arena) < 1000);
    free(json);
}

#define LOGIN(user) "{\"type\":\"login\",\"ts\":1,\"user_id\":" user "}"

static void test_a_user_id_is_text_or_a_whole_number(void **state)
{
    struct fixture *f = *state;
    assert_text(decode(f, LOGIN("\"o'neil c ü\""))->user, "o'neil c ü");
    assert_text(decode(f, LOGIN("-9223372036854775808"))->user, "-9223372036854775808");
    assert_text(decode(f, LOGIN("9007199254740993"))->user, "9007199254740993");
    assert_text(decode(f, LOGIN("18446744073709551615"))->user, "18446744073709551615");
    expect(f, LOGIN("\"a\\u0000b\""), EVENT_BAD_USER);
    expect(f, LOGIN("1.5"), EVENT_WRONG_TYPE);
    expect(f, LOGIN("[\"u\"]"), EVENT_WRONG_TYPE);
    expect(f, LOGIN("\"\""), EVENT_MISSING_FIELD);
    expect(f, LOGIN("null"), EVENT_MISSING_FIELD);
    expect(f, LOGIN("\"a\\\"b\""), EVENT_BAD_USER);
    expect(f, LOGIN("\"a\\nb\""), EVENT_BAD_USER);
}

static void test_any_user_id_by_option(void **state)
{
    struct fixture *f = *state;
    set_enum(f, "user_ids", 1);
    assert_text(decode(f, "{\"type\":\"login\",\"ts\":1,\"user_id\":\"a\\\"b\\nc ü\"}")->user, "a\"b\nc ü");
    expect(f, "{\"type\":\"login\",\"ts\":1,\"user_id\":\"a\\u0000b\"}", EVENT_BAD_USER);
}

static void test_a_user_id_has_the_tables_bound(void **state)
{
    struct fixture *f = *state;
    struct metrics *metrics = metrics_create();
    struct users_conf conf = {.table_bytes = 1 << 20, .name_bytes = 100};
    f->in.users = users_create(&conf, metrics, &f->err);
    char json[5000];
    snprintf(json, sizeof json, "{\"type\":\"login\",\"ts\":1,\"user_id\":\"%0100d\"}", 7);
    expect(f, json, EVENT_OK);
    snprintf(json, sizeof json, "{\"type\":\"login\",\"ts\":1,\"user_id\":\"%0101d\"}", 7);
    expect(f, json, EVENT_BAD_USER);
    snprintf(json, sizeof json, "{\"type\":\"login\",\"ts\":1,\"user_id\":\"%04096d\"}", 7);
    expect(f, json, EVENT_BAD_USER);
    users_destroy(&f->in.users);
    metrics_destroy(&metrics);
}

static void test_numbers_written_as_text(void **state)
{
    struct fixture *f = *state;
    const struct event *e = decode(f, with("\"price\":\"99.50\",\"quantity\":\"2\",\"load_ms\":\"1e3\""));
    assert_int_equal(e->verdict, EVENT_OK);
    assert_true(e->price == 99.5 && e->quantity == 2 && e->load_ms == 1000);
    const char *const wrong[] = {"\"price\":\"99,50\"", "\"price\":\"€9\"",  "\"price\":\" 9\"",  "\"price\":\"0x10\"",
                                 "\"price\":\"inf\"",   "\"price\":\"nan\"", "\"price\":\"1e999\"", "\"price\":\"-\"",
                                 "\"price\":true",      "\"price\":{}",      "\"quantity\":[1]"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        expect(f, with(wrong[i]), EVENT_WRONG_TYPE);
}

static void test_numbers_out_of_range(void **state)
{
    struct fixture *f = *state;
    const char *const wrong[] = {"\"price\":-0.01", "\"quantity\":-1",  "\"price\":1e13",          "\"load_ms\":-1",
                                 "\"price\":1e400", "\"x\":-1e400",     "\"lat\":90.1,\"lon\":0",
                                 "\"lat\":0,\"lon\":-180.5",
                                 "\"price\":1e12,\"quantity\":1e6",     "\"price\":123456789012345678901234567890"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        expect(f, with(wrong[i]), EVENT_BAD_NUMBER);
    expect(f, with("\"lat\":1"), EVENT_MISSING_FIELD);
    expect(f, with("\"lon\":1"), EVENT_MISSING_FIELD);
    expect(f, with("\"lat\":-90,\"lon\":180"), EVENT_OK);
    expect(f, with("\"price\":0,\"quantity\":0"), EVENT_OK);
    expect(f, with("\"price\":NaN"), EVENT_BAD_JSON);
    expect(f, with("\"price\":Infinity"), EVENT_BAD_JSON);
}

static void test_the_last_of_equal_keys_counts(void **state)
{
    struct fixture *f = *state;
    assert_text(decode(f, with("\"user_id\":\"u2\""))->user, "u2");
    assert_text(decode(f, with("\"user_id\":null"))->user, "u1");
}

/* ---- time ------------------------------------------------------------------------------------------------------ */

static void expect_time(struct fixture *f, const char *ts, int64_t ts_ms)
{
    char json[200];
    snprintf(json, sizeof json, "{\"type\":\"login\",\"user_id\":\"u\",\"ts\":%s}", ts);
    const struct event *e = decode(f, json);
    if (ts_ms < 0 ? e->verdict != EVENT_BAD_TIME : e->verdict != EVENT_OK || e->ts_ms != ts_ms)
        fail_msg("%s: %s, %lld, not %lld", ts, event_verdict_name(e->verdict), (long long)e->ts_ms, (long long)ts_ms);
}

static void test_time_is_recognised(void **state)
{
    struct fixture *f = *state;
    expect_time(f, "1764000000123", 1764000000123);
    expect_time(f, "1764000000", 1764000000000);
    expect_time(f, "1764000000.1236", 1764000000124);
    expect_time(f, "1764000000123456", 1764000000123);
    expect_time(f, "1764000000123500", 1764000000124);
    expect_time(f, "1.764e12", 1764000000000);
    expect_time(f, "\"1764000000123456\"", 1764000000123);
    expect_time(f, "0", 0);
    expect_time(f, "\"2026-11-25T03:04:05Z\"", 1795575845000);
    expect_time(f, "\"2026-11-25T04:34:05.678+01:30\"", 1795575845678);
    expect_time(f, "\"2026-11-24 22:04:05,6785-0500\"", 1795575845679);
    expect_time(f, "\"2026-11-25T03:04\"", 1795575840000);
    expect_time(f, "\"2024-02-29T00:00:00+00\"", 1709164800000);
    expect_time(f, "\"2016-12-31T23:59:60Z\"", 1483228800000);
    expect_time(f, "\"1970-01-01T00:00:00Z\"", 0);
    expect_time(f, "\"9999-12-31T23:59:59.999Z\"", 253402300799999);
}

static void test_time_that_cannot_be(void **state)
{
    const char *const wrong[] = {
        "-1", "-0.5", "1e17", "1e300", "18446744073709551615", "\"-5\"", "\"yesterday\"", "\"2026-11-25\"",
        "\"2026-13-01T00:00:00Z\"", "\"2026-02-29T00:00:00Z\"", "\"1900-02-29T00:00:00Z\"", "\"2026-11-31T00:00:00Z\"",
        "\"2026-11-25T24:00:00Z\"", "\"2026-11-25T00:60:00Z\"", "\"2026-11-25T00:00:61Z\"", "\"2026-11-25T00:00:00X\"",
        "\"2026-11-25T00:00:00.Z\"", "\"2026-11-25T00:00:00Z \"", "\"2026-11-25T00:00:00+19:00\"",
        "\"2026-11-25T00:00:00+1\"",
        "\"1969-12-31T23:59:59Z\"", "\"2026-11-25T00:00:00.1234567890123456789Z\"", "\"T\"",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        expect_time(*state, wrong[i], -1);
    expect(*state, "{\"type\":\"login\",\"user_id\":\"u\",\"ts\":true}", EVENT_WRONG_TYPE);
    expect(*state, "{\"type\":\"login\",\"user_id\":\"u\",\"ts\":{}}", EVENT_WRONG_TYPE);
}

static void test_time_by_option(void **state)
{
    enum { MS = 1, S, US, ISO }; /* as in the option's choices */
    static const struct { int format; const char *ts; int64_t ts_ms; } cases[] = {
        {MS, "12345", 12345}, {MS, "\"12345.6\"", 12346}, {MS, "\"2026-11-25T03:04:05Z\"", -1}, {MS, "1e16", -1},
        {S, "12345", 12345000}, {S, "1.5", 1500}, {S, "1764000000123", -1},
        {US, "12345", 12}, {US, "1764000000123456", 1764000000123},
        {ISO, "\"2026-11-25T03:04:05Z\"", 1795575845000}, {ISO, "1764000000123", -1}, {ISO, "\"1764000000123\"", -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture *f = fixture_new();
        set_enum(f, "time", cases[i].format);
        expect_time(f, cases[i].ts, cases[i].ts_ms);
        fixture_free(f);
    }
}

/* ---- bad input ------------------------------------------------------------------------------------------------- */

static void test_broken_json(void **state)
{
    struct fixture *f = *state;
    const char *const broken[] = {
        "{", "}", "{\"type\"", "{\"type\":\"login\"", "not json", "{'type':'login'}", "{\"a\":1,}", "{\"a\":tru}",
        "{\"a\":\"\\x\"}", "{\"a\":\"\\ud800\"}", "{\"a\":\"line\nbreak\"}", "{\"a\":1}{\"b\":2}", "{\"a\":1} trailing",
        "{\"a\":1}\n{\"b\":2}", "{\"a\":\"open}", "{\"a\" 1}", "\xEF\xBB", "nul",
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        const struct event *e = decode(f, broken[i]);
        bool utf8 = broken[i][0] == '\xEF';
        if (e->verdict != (utf8 ? EVENT_BAD_UTF8 : EVENT_BAD_JSON) || !e->detail)
            fail_msg("%s: %s", broken[i], event_verdict_name(e->verdict));
    }
    expect(f, with("\"late\":{\"x\":[1,2,}"), EVENT_BAD_JSON);
    expect(f, "[]", EVENT_NOT_OBJECT);
    expect(f, "\"text\"", EVENT_NOT_OBJECT);
    expect(f, "17", EVENT_NOT_OBJECT);
    expect(f, "", EVENT_EMPTY);
    expect(f, " \n\t", EVENT_EMPTY);
    expect(f, "\xEF\xBB\xBF", EVENT_EMPTY);
    expect(f, "{\"type\":\"\xC3\x28\"}", EVENT_BAD_UTF8);
    expect(f, "{\"type\":\"\xED\xA0\x80\"}", EVENT_BAD_UTF8);
    expect(f, "{\"type\":\"\xC0\xAF\"}", EVENT_BAD_UTF8);
    assert_int_equal(decode_bytes(f, "{\"a\":1}\0", 8)->verdict, EVENT_BAD_JSON);
    assert_int_equal(decode_bytes(f, "\0", 1)->verdict, EVENT_BAD_JSON);
    expect(f, "\xEF\xBB\xBF" LOGIN("1"), EVENT_OK); /* a byte order mark is passed over */
}

static void test_missing_and_unknown(void **state)
{
    struct fixture *f = *state;
    expect(f, "{}", EVENT_MISSING_FIELD);
    expect(f, "{\"user_id\":\"u\",\"ts\":1}", EVENT_MISSING_FIELD);
    expect(f, "{\"type\":\"login\",\"ts\":1}", EVENT_MISSING_FIELD);
    expect(f, "{\"type\":\"login\",\"user_id\":\"u\"}", EVENT_MISSING_FIELD);
    expect(f, "{\"type\":7,\"user_id\":\"u\",\"ts\":1}", EVENT_WRONG_TYPE);
    expect(f, "{\"type\":\"LOGIN\",\"user_id\":\"u\",\"ts\":1}", EVENT_UNKNOWN_TYPE);
    expect(f, with("\"category\":{\"a\":1}"), EVENT_WRONG_TYPE);
    expect(f, with("\"item_id\":false"), EVENT_WRONG_TYPE);
    assert_text(decode(f, with("\"item_id\":17"))->item, "17");
    const struct event *e = decode(f, "{\"type\":\"wishlist\",\"user_id\":\"u\",\"ts\":1}");
    assert_int_equal(e->verdict, EVENT_OK);
    assert_int_equal(e->type, EVENT_TYPES_BUILTIN);
}

static void test_details_name_field_and_value(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(decode(f, with("\"price\":-5"))->detail,
                        "price: expected a number from 0 to 1e12, found number -5");
    assert_string_equal(decode(f, "{\"type\":\"login\",\"user_id\":\"u\"}")->detail,
                        "ts: expected a time as a number or ISO 8601, found nothing");
    /* a long value is cut between characters, not within one */
    assert_string_equal(decode(f, with("\"price\":\"aääääääääääääääääääääääääääää\""))->detail,
                        "price: expected a number from 0 to 1e12, found text 'aäääääääääääääääääää'…");
}

static void test_ten_thousand_levels(void **state)
{
    struct fixture *f = *state;
    enum { LEVELS = 10000 };
    char *json = malloc(LEVELS * 6 + 100);
    size_t n = 0;
    for (int i = 0; i < LEVELS; i++)
        n += (size_t)sprintf(json + n, "{\"a\":");
    json[n++] = '1';
    memset(json + n, '}', LEVELS);
    assert_int_equal(decode_bytes(f, json, n + LEVELS)->verdict, EVENT_TOO_DEEP);
    memset(json, '[', LEVELS);
    memset(json + LEVELS, ']', LEVELS);
    assert_int_equal(decode_bytes(f, json, 2 * LEVELS)->verdict, EVENT_TOO_DEEP);
    assert_int_equal(decode_bytes(f, json, LEVELS)->verdict, EVENT_BAD_JSON);
    free(json);
}

static void test_depth_by_option(void **state)
{
    struct fixture *f = *state;
    set_int(f, "max_depth", 3);
    expect(f, with("\"a\":{\"b\":1}"), EVENT_OK);
    expect(f, with("\"a\":{\"b\":{\"c\":{\"d\":1}}}"), EVENT_TOO_DEEP);
}

static void test_large_events(void **state)
{
    struct fixture *f = *state;
    size_t len = 10 << 20;
    char *json = malloc(len);
    memset(json, ' ', len);
    const char *event = with("\"item_id\":\"i\"");
    memcpy(json, event, strlen(event));
    assert_int_equal(decode_bytes(f, json, len)->verdict, EVENT_TOO_LARGE);
    assert_int_equal(decode_bytes(f, json, (1 << 20) + 1)->verdict, EVENT_TOO_LARGE);
    assert_int_equal(decode_bytes(f, json, 1 << 20)->verdict, EVENT_OK);
    free(json);
    expect(f, with(""), EVENT_OK); /* and the next one is none the worse */
}

static void test_a_full_arena_refuses(void **state)
{
    struct fixture *f = *state;
    while (arena_take(f->batch.arena, 1024))
        ;
    while (arena_take(f->batch.arena, 16))
        ;
    expect(f, with("\"item_id\":\"i\""), EVENT_TOO_LARGE);
}

/* ---- consent --------------------------------------------------------------------------------------------------- */

static void test_consent_comes_first(void **state)
{
    struct fixture *f = *state;
    const char *const refused[] = {"false", "0", "\"false\"", "\"denied\"", "\"No\""};
    const char *const given[] = {"true", "1", "\"granted\"", "\"YES\"", "null", "\"\""};
    char members[100];
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        snprintf(members, sizeof members, "\"price\":-1,\"consent\":%s", refused[i]);
        expect(f, with(members), EVENT_NO_CONSENT);
        assert_false(event_verdict_is_dead(f->event.verdict));
    }
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        snprintf(members, sizeof members, "\"consent\":%s", given[i]);
        expect(f, with(members), EVENT_OK);
    }
    expect(f, with("\"consent\":\"perhaps\""), EVENT_WRONG_TYPE);
    expect(f, with("\"consent\":2"), EVENT_WRONG_TYPE);
    expect(f, "{\"consent\":false}", EVENT_NO_CONSENT);
}

static void test_consent_by_option(void **state)
{
    struct fixture *f = *state;
    set_enum(f, "consent", 1);
    expect(f, with("\"consent\":false"), EVENT_OK);
}

/* ---- mapping --------------------------------------------------------------------------------------------------- */

#define STRINGS(...) {(const char *[]){__VA_ARGS__}, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)}

static void set_map(struct fixture *f, const char *name, struct option_map_entry *entries, size_t n)
{
    *(struct option_map *)option_at(f, name) = (struct option_map){entries, n};
}

static void test_paths_and_fallbacks(void **state)
{
    struct fixture *f = *state;
    struct option_map_entry fields[] = {
        {"user_id", STRINGS("userId", "context.traits.id", "anonymousId"), 1, 1},
        {"item_id", STRINGS("properties.products.1.sku", "properties.sku"), 2, 1},
        {"price", STRINGS("properties.a\\.b"), 3, 1},
        {"device_id", STRINGS("anonymousId"), 4, 1},
        {"page", STRINGS(""), 5, 1},
    };
    set_map(f, "fields", fields, 5);
    const struct event *e = decode(f, "{\"type\":\"login\",\"ts\":1,\"anonymousId\":\"anon\",\"page\":{},"
                       "\"properties\":{\"a.b\":5,\"products\":[{\"sku\":\"x\"},{\"sku\":\"y\"}],"
                       "\"sku\":\"z\"}}");
    assert_int_equal(e->verdict, EVENT_OK);
    assert_text(e->user, "anon");
    assert_text(e->device, "anon");
    assert_text(e->item, "y");
    assert_true(e->price == 5);
    e = decode(f, "{\"type\":\"login\",\"ts\":1,\"anonymousId\":\"anon\",\"context\":{\"traits\":{\"id\":12}},"
                  "\"userId\":null,\"properties\":{\"sku\":\"z\",\"products\":[]}}");
    assert_text(e->user, "12");
    assert_text(e->item, "z");
    e = decode(f, "{\"type\":\"login\",\"ts\":1,\"userId\":\"u\",\"anonymousId\":\"anon\",\"properties\":[1,2],"
                  "\"user_id\":\"not read\"}");
    assert_text(e->user, "u");
    assert_null(e->item.at);
    e = decode(f, "{\"type\":\"login\",\"ts\":1,\"userId\":\"u\","
                  "\"properties\":{\"products\":{\"1\":{\"sku\":\"k\"}}}}");
    assert_text(e->item, "k");
}

static void test_foreign_types(void **state)
{
    struct fixture *f = *state;
    struct option_map_entry types[] = {
        {"product_view", STRINGS("Product Viewed", "Product Clicked"), 1, 1},
        {"wishlist", STRINGS("login"), 2, 1},
    };
    set_map(f, "types", types, 2);
    *(struct option_strings *)option_at(f, "ignore_types") = (struct option_strings)STRINGS("heartbeat");
    expect(f, "{\"type\":\"heartbeat\"}", EVENT_IGNORED);
    assert_false(event_verdict_is_dead(EVENT_IGNORED));
    expect(f, "{\"type\":\"else\"}", EVENT_UNKNOWN_TYPE);
    assert_int_equal(decode(f, "{\"type\":\"Product Clicked\",\"user_id\":1,\"ts\":1}")->type, EVENT_PRODUCT_VIEW);
    assert_int_equal(decode(f, "{\"type\":\"product_view\",\"user_id\":1,\"ts\":1}")->type, EVENT_PRODUCT_VIEW);
    assert_int_equal(decode(f, "{\"type\":\"login\",\"user_id\":1,\"ts\":1}")->type, EVENT_TYPES_BUILTIN);
}

static void test_unknown_types_by_option(void **state)
{
    struct fixture *f = *state;
    set_enum(f, "unknown_types", 1);
    expect(f, "{\"type\":\"else\"}", EVENT_IGNORED);
    expect(f, "{\"type\":7}", EVENT_WRONG_TYPE);
}

static void expect_refused(struct fixture *f, const char *option, struct option_map_entry *entry, const char *text)
{
    set_map(f, option, entry, 1);
    assert_int_equal(decode_json.open(&f->in, true, &f->err), -1);
    if (!strstr(f->err.text, text))
        fail_msg("'%s' does not say '%s'", f->err.text, text);
    decode_json.close(&f->in);
    set_map(f, option, NULL, 0);
}

static void test_mappings_that_cannot_be(void **state)
{
    struct fixture *f = *state;
    struct option_map_entry wrong[] = {
        {"prise", STRINGS("p"), 7, 1},
        {"price", STRINGS("a..b"), 7, 1},
        {"price", STRINGS("a."), 7, 1},
        {"price", STRINGS("a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a"), 7, 1},
    };
    expect_refused(f, "fields", &wrong[0], "line 7: an event has no field 'prise'");
    expect_refused(f, "fields", &wrong[1], "price: 'a..b' has an empty key");
    expect_refused(f, "fields", &wrong[2], "empty key");
    expect_refused(f, "fields", &wrong[3], "more than 16 keys");
    struct option_map_entry types[] = {{"login", STRINGS("x"), 1, 1}, {"logout", STRINGS("x"), 2, 1}};
    struct option_map_entry unknown = {"sale", STRINGS("x"), 9, 1};
    expect_refused(f, "types", &unknown, "line 9: 'sale' is no event type");
    set_map(f, "types", types, 2);
    assert_int_equal(decode_json.open(&f->in, true, &f->err), -1);
    assert_non_null(strstr(f->err.text, "line 2: 'x' stands for two event types"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_every_field_of_the_default_format),
        TEST(test_absent_fields_are_empty),
        TEST(test_text_is_unescaped_and_kept),
        TEST(test_texts_far_apart),
        TEST(test_a_user_id_is_text_or_a_whole_number),
        TEST(test_any_user_id_by_option),
        TEST(test_a_user_id_has_the_tables_bound),
        TEST(test_numbers_written_as_text),
        TEST(test_numbers_out_of_range),
        TEST(test_the_last_of_equal_keys_counts),
        TEST(test_time_is_recognised),
        TEST(test_time_that_cannot_be),
        TEST(test_time_by_option),
        TEST(test_broken_json),
        TEST(test_missing_and_unknown),
        TEST(test_details_name_field_and_value),
        TEST(test_ten_thousand_levels),
        TEST(test_depth_by_option),
        TEST(test_large_events),
        TEST(test_a_full_arena_refuses),
        TEST(test_consent_comes_first),
        TEST(test_consent_by_option),
        TEST(test_paths_and_fallbacks),
        TEST(test_foreign_types),
        TEST(test_unknown_types_by_option),
        TEST(test_mappings_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
