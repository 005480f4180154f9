// SPDX-License-Identifier: Apache-2.0
// value.c - parses and writes single values of the configuration. Integers all the way, so that 0.1s is 100 ms exactly.
#include "value.h"

#include <ctype.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *name;
    int64_t size;
};

static const struct unit durations[] = {
    {"w", 7 * 86400000LL}, {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0},
};

static const struct unit sizes[] = {
    {"TB", 1LL << 40}, {"GB", 1LL << 30}, {"MB", 1LL << 20}, {"KB", 1LL << 10}, {"B", 1},
    {"TiB", 1LL << 40}, {"GiB", 1LL << 30}, {"MiB", 1LL << 20}, {"KiB", 1LL << 10}, {NULL, 0},
};

int value_bool(const char *text, bool *out, struct error *err)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *out = i % 2;
            return 0;
        }
    }
    return error_set(err, "'%.60s' is neither true nor false", text);
}

/* Digits, single underscores between them allowed. Returns what follows, or NULL: no digit, or too large. */
static const char *read_digits(const char *at, int64_t *out)
{
    if (!isdigit((unsigned char)*at))
        return NULL;
    int64_t value = 0;
    for (; isdigit((unsigned char)*at) || (*at == '_' && isdigit((unsigned char)at[1])); at++) {
        if (*at == '_')
            continue;
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *at - '0', &value))
            return NULL;
    }
    *out = value;
    return at;
}

int value_int(const char *text, int64_t *out, struct error *err)
{
    bool negative = *text == '-';
    int64_t value;
    const char *end = read_digits(text + (negative || *text == '+'), &value);
    if (!end && strspn(text, "+-_0123456789") == strlen(text) && strpbrk(text, "0123456789"))
        return error_set(err, "%.60s is too large a number", text);
    if (!end || *end)
        return error_set(err, "'%.60s' is not a whole number", text);
    *out = negative ? -value : value;
    return 0;
}

int value_real(const char *text, double *out, struct error *err)
{
    /* strtod would follow the locale, and take "inf", "nan" and "0x1p3". */
    if (strspn(text, "+-.0123456789eE") == strlen(text) && strpbrk(text, "0123456789")) {
        locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
        char *end;
        double value = c ? strtod_l(text, &end, c) : strtod(text, &end);
        if (c)
            freelocale(c);
        if (*end == 0 && isfinite(value)) {
            *out = value;
            return 0;
        }
        if (*end == 0)
            return error_set(err, "%.60s is too large a number", text);
    }
    return error_set(err, "'%.60s' is not a number", text);
}

static const struct unit *find_unit(const struct unit *units, const char *name, bool any_case)
{
    for (; units->name; units++)
        if ((any_case ? strcasecmp(name, units->name) : strcmp(name, units->name)) == 0)
            return units;
    return NULL;
}

/* "1.5h": whole part times unit, plus what the decimals make, which has to be whole too. */
static int read_amount(const char *text, const struct unit *units, bool any_case, const char *known, const char *plain,
                       int64_t *out, struct error *err)
{
    bool negative = *text == '-';
    int64_t whole, part = 0, scale = 1;
    const char *at = read_digits(text + negative, &whole);
    if (!at)
        return error_set(err, isdigit((unsigned char)text[negative]) ? "%.60s is too large" :
                         "'%.60s' does not begin with a number; write %s", text, known);
    if (*at == '.') {
        const char *digits = at + 1;
        at = digits + strspn(digits, "0123456789");
        if (at == digits || at - digits > 9)
            return error_set(err, "'%.60s': one to nine digits after the point", text);
        for (const char *d = digits; d < at; d++, scale *= 10)
            part = part * 10 + (*d - '0');
    }
    at += strspn(at, " ");
    if (!*at && whole == 0 && part == 0)
        plain = units == durations ? "ms" : "B";
    if (!*at && !plain)
        return error_set(err, "'%.60s' lacks a unit; write %s", text, known);
    const struct unit *unit = find_unit(units, *at ? at : plain, any_case);
    if (!unit)
        return error_set(err, "there is no unit '%.40s'; write %s", at, known);
    int64_t rest;
    if (__builtin_mul_overflow(whole, unit->size, &whole) || __builtin_mul_overflow(part, unit->size, &rest) ||
        __builtin_add_overflow(whole, rest / scale, &whole))
        return error_set(err, "%.60s is too large", text);
    if (rest % scale)
        return error_set(err, "%.60s is finer than %s", text, units == durations ? "a millisecond" : "a byte");
    *out = negative ? -whole : whole;
    return 0;
}

int value_duration(const char *text, bool plain_ms, int64_t *out_ms, struct error *err)
{
    return read_amount(text, durations, false, "ms, s, m, h, d or w behind the number, as in 250ms, 5s or 28d",
                       plain_ms ? "ms" : NULL, out_ms, err);
}

int value_bytes(const char *text, int64_t *out, struct error *err)
{
    return read_amount(text, sizes, true, "B, KB, MB, GB or TB behind the number, as in 64MB", "B", out, err);
}

static void write_amount(int64_t amount, const struct unit *units, char text[VALUE_TEXT_MAX])
{
    const struct unit *largest = units;
    while (largest->size > amount && largest->size > 1)
        largest++;
    while (units[1].name && units->size > 1 && (amount == 0 || amount % units->size))
        units++;
    if (amount / units->size > 99999 && units > largest)
        snprintf(text, VALUE_TEXT_MAX, "%.4g%s", (double)amount / (double)largest->size, largest->name);
    else
        snprintf(text, VALUE_TEXT_MAX, "%" PRId64 "%s", amount / units->size, units->name);
}

void value_duration_text(int64_t ms, char text[VALUE_TEXT_MAX])
{
    write_amount(ms, durations + 1, text); /* days are easier to read than weeks */
}

void value_bytes_text(int64_t bytes, char text[VALUE_TEXT_MAX])
{
    write_amount(bytes, sizes, text);
}
