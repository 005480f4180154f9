// SPDX-License-Identifier: Apache-2.0
// unit_value.c - single values as people write them in the configuration.
#include "../daemon/value.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void refused(int rc, const struct error *err, const char *because)
{
    assert_int_equal(rc, -1);
    if (!strstr(err->text, because))
        fail_msg("'%s' does not say '%s'", err->text, because);
}

static int64_t duration(const char *text)
{
    struct error err;
    int64_t ms = -1;
    if (value_duration(text, false, &ms, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    return ms;
}

static void durations_are_exact(void **state)
{
    (void)state;
    assert_int_equal(duration("250ms"), 250);
    assert_int_equal(duration("5s"), 5000);
    assert_int_equal(duration("10m"), 600000);
    assert_int_equal(duration("1.5h"), 5400000);
    assert_int_equal(duration("7 d"), 604800000);
    assert_int_equal(duration("4w"), 28 * 86400000LL);
    assert_int_equal(duration("0.1s"), 100);
    assert_int_equal(duration("0.001s"), 1);
    assert_int_equal(duration("1_000ms"), 1000);
    assert_int_equal(duration("0"), 0);
    assert_int_equal(duration("-5s"), -5000); /* whether it may be negative is the row's business */
}

static void durations_refuse_what_they_are_not(void **state)
{
    (void)state;
    struct error err;
    int64_t ms;
    refused(value_duration("5 parsecs", false, &ms, &err), &err, "no unit 'parsecs'; write ms, s, m, h, d or w");
    refused(value_duration("5", false, &ms, &err), &err, "lacks a unit");
    refused(value_duration("5M", false, &ms, &err), &err, "no unit 'M'"); /* minutes or months? */
    refused(value_duration("", false, &ms, &err), &err, "does not begin with a number");
    refused(value_duration("soon", false, &ms, &err), &err, "does not begin with a number");
    refused(value_duration("1.s", false, &ms, &err), &err, "after the point");
    refused(value_duration("1h30m", false, &ms, &err), &err, "no unit 'h30m'");
    refused(value_duration("0.5ms", false, &ms, &err), &err, "finer than a millisecond");
    refused(value_duration("9223372036854775807s", false, &ms, &err), &err, "too large");
    refused(value_duration("99999999999999999999s", false, &ms, &err), &err, "too large");
    refused(value_duration("1.0000000001s", false, &ms, &err), &err, "one to nine digits");
    assert_int_equal(value_duration("2000", true, &ms, &err), 0); /* a name that ends in _ms */
    assert_int_equal(ms, 2000);
}

static void sizes_are_powers_of_1024(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
    } cases[] = {
        {"4096", 4096}, {"64MB", 64 << 20}, {"1GiB", 1 << 30}, {"1 kb", 1024}, {"1.5KB", 1536}, {"2tb", 2LL << 40},
        {"7B", 7}, {"0", 0}, {"10_000", 10000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err;
        int64_t bytes = -1;
        assert_int_equal(value_bytes(cases[i].text, &bytes, &err), 0);
        assert_int_equal(bytes, cases[i].bytes);
    }
    struct error err;
    int64_t bytes;
    refused(value_bytes("5 parsecs", &bytes, &err), &err, "B, KB, MB, GB or TB");
    refused(value_bytes("64M", &bytes, &err), &err, "no unit 'M'");
    refused(value_bytes("0.3B", &bytes, &err), &err, "finer than a byte");
    refused(value_bytes("8388608TB", &bytes, &err), &err, "too large");
}

static void whole_numbers(void **state)
{
    (void)state;
    struct error err;
    int64_t value;
    assert_int_equal(value_int("-42", &value, &err), 0);
    assert_int_equal(value, -42);
    assert_int_equal(value_int("+1_000_000", &value, &err), 0);
    assert_int_equal(value, 1000000);
    assert_int_equal(value_int("9223372036854775807", &value, &err), 0);
    refused(value_int("9223372036854775808", &value, &err), &err, "too large");
    refused(value_int("12 ", &value, &err), &err, "not a whole number");
    refused(value_int("1e3", &value, &err), &err, "not a whole number");
    refused(value_int("0x10", &value, &err), &err, "not a whole number");
    refused(value_int("1__0", &value, &err), &err, "");
    refused(value_int("_1", &value, &err), &err, "");
    refused(value_int("-", &value, &err), &err, "not a whole number");
    refused(value_int("", &value, &err), &err, "not a whole number");
}

static void numbers_are_finite_and_decimal(void **state)
{
    (void)state;
    struct error err;
    double value;
    assert_int_equal(value_real("0.25", &value, &err), 0);
    assert_true(value == 0.25);
    assert_int_equal(value_real("-1e-3", &value, &err), 0);
    assert_true(value == -1e-3);
    refused(value_real("1e400", &value, &err), &err, "too large");
    refused(value_real("nan", &value, &err), &err, "not a number");
    refused(value_real(".inf", &value, &err), &err, "not a number");
    refused(value_real("0x1p3", &value, &err), &err, "not a number");
    refused(value_real("1,5", &value, &err), &err, "not a number");
    refused(value_real("1.2.3", &value, &err), &err, "not a number");
    refused(value_real("", &value, &err), &err, "not a number");
}

static void truth(void **state)
{
    (void)state;
    struct error err;
    bool value = false;
    assert_int_equal(value_bool("Yes", &value, &err), 0);
    assert_true(value);
    assert_int_equal(value_bool("off", &value, &err), 0);
    assert_false(value);
    refused(value_bool("1", &value, &err), &err, "neither true nor false");
    refused(value_bool("", &value, &err), &err, "neither true nor false");
}

static void amounts_as_text(void **state)
{
    (void)state;
    char text[VALUE_TEXT_MAX];
    value_duration_text(90 * 86400000LL, text);
    assert_string_equal(text, "90d");
    value_duration_text(90000, text);
    assert_string_equal(text, "90s");
    value_duration_text(0, text);
    assert_string_equal(text, "0ms");
    value_bytes_text(256 << 20, text);
    assert_string_equal(text, "256MB");
    value_bytes_text(1536, text);
    assert_string_equal(text, "1536B");
    value_bytes_text(1000000000000, text);
    assert_string_equal(text, "931.3GB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_are_exact),
        cmocka_unit_test(durations_refuse_what_they_are_not),
        cmocka_unit_test(sizes_are_powers_of_1024),
        cmocka_unit_test(whole_numbers),
        cmocka_unit_test(numbers_are_finite_and_decimal),
        cmocka_unit_test(truth),
        cmocka_unit_test(amounts_as_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
