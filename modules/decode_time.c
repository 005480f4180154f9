// SPDX-License-Identifier: Apache-2.0
// decode_time.c - times and numbers as other systems write them. Part of decode_json; no state.
#include "decode_time.h"

#include <math.h>
#include <stdlib.h>

static const int64_t TIME_MAX_MS = INT64_C(253402300799999); /* the end of the year 9999 */
static const double AUTO_SECONDS = 1e11, AUTO_MS = 1e14, AUTO_US = 1e17;

bool decode_number(struct str text, double *value)
{
    char buf[64];
    bool digit = false;
    if (text.len == 0 || text.len >= sizeof buf)
        return false;
    for (uint32_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        digit |= c >= '0' && c <= '9';
        if (!(c >= '0' && c <= '9') && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E')
            return false;
        buf[i] = c;
    }
    buf[text.len] = 0;
    char *end;
    *value = strtod(buf, &end);
    return digit && end == buf + text.len && isfinite(*value);
}

/* ---- ISO 8601 -------------------------------------------------------------------------------------------------- */

/* Exactly `digits` of them; -1 when there is something else. */
static int take_digits(const char **at, const char *end, int digits)
{
    int value = 0;
    if (end - *at < digits)
        return -1;
    for (int i = 0; i < digits; i++) {
        char c = *(*at)++;
        if (c < '0' || c > '9')
            return -1;
        value = value * 10 + (c - '0');
    }
    return value;
}

static bool take_char(const char **at, const char *end, char c)
{
    if (*at == end || **at != c)
        return false;
    (*at)++;
    return true;
}

/* Days since 1970-01-01 in the Gregorian calendar: years run from March, so that the leap day comes last. */
static int64_t days_of(int year, int month, int day)
{
    static const int before[12] = {306, 337, 0, 31, 61, 92, 122, 153, 184, 214, 245, 275};
    int64_t y = year - (month <= 2);
    return y * 365 + y / 4 - y / 100 + y / 400 + before[month - 1] + day - 1 - 719468;
}

static bool take_date(const char **at, const char *end, int64_t *days)
{
    static const int longest[12] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year = take_digits(at, end, 4);
    if (year < 0 || !take_char(at, end, '-'))
        return false;
    int month = take_digits(at, end, 2);
    if (month < 1 || month > 12 || !take_char(at, end, '-'))
        return false;
    int day = take_digits(at, end, 2);
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (day < 1 || day > longest[month - 1] || (month == 2 && day == 29 && !leap))
        return false;
    *days = days_of(year, month, day);
    return true;
}

/* Fraction of a second in milliseconds, rounded. */
static bool take_fraction(const char **at, const char *end, int64_t *ms)
{
    double fraction = 0, unit = 100;
    const char *from = *at;
    while (*at < end && **at >= '0' && **at <= '9' && *at - from <= 18) {
        fraction += (*(*at)++ - '0') * unit;
        unit /= 10;
    }
    *ms = (int64_t)(fraction + 0.5);
    return *at > from && *at - from <= 18;
}

static bool take_zone(const char **at, const char *end, int64_t *minutes)
{
    *minutes = 0;
    if (*at == end || take_char(at, end, 'Z') || take_char(at, end, 'z'))
        return true;
    bool west = **at == '-';
    if (!take_char(at, end, '-') && !take_char(at, end, '+'))
        return false;
    int hour = take_digits(at, end, 2), minute = 0;
    if (*at < end) {
        take_char(at, end, ':');
        minute = take_digits(at, end, 2);
    }
    *minutes = (west ? -1 : 1) * (hour * 60 + minute);
    return hour >= 0 && hour <= 18 && minute >= 0 && minute < 60;
}

bool decode_time_iso8601(struct str text, int64_t *ts_ms)
{
    const char *at = text.at, *end = at + text.len;
    int64_t days, ms = 0, zone;
    int second = 0;
    if (!take_date(&at, end, &days))
        return false;
    if (!take_char(&at, end, 'T') && !take_char(&at, end, 't') && !take_char(&at, end, ' '))
        return false;
    int hour = take_digits(&at, end, 2);
    if (hour < 0 || hour > 23 || !take_char(&at, end, ':'))
        return false;
    int minute = take_digits(&at, end, 2);
    if (minute < 0 || minute > 59)
        return false;
    if (take_char(&at, end, ':')) {
        second = take_digits(&at, end, 2);
        if (second < 0 || second > 60)
            return false;
        if ((take_char(&at, end, '.') || take_char(&at, end, ',')) && !take_fraction(&at, end, &ms))
            return false;
    }
    if (!take_zone(&at, end, &zone) || at != end)
        return false;
    *ts_ms = ((days * 24 + hour) * 60 + minute - zone) * 60000 + second * INT64_C(1000) + ms;
    return *ts_ms >= 0 && *ts_ms <= TIME_MAX_MS;
}

/* ---- numbers --------------------------------------------------------------------------------------------------- */

static enum decode_time unit_of(double value)
{
    return value < AUTO_SECONDS ? DECODE_TIME_S : value < AUTO_MS ? DECODE_TIME_MS : DECODE_TIME_US;
}

static bool time_of_integer(enum decode_time format, int64_t value, int64_t *ts_ms)
{
    if (value < 0 || value >= (int64_t)AUTO_US)
        return false;
    if (format == DECODE_TIME_AUTO)
        format = unit_of((double)value);
    if (format == DECODE_TIME_S && value > TIME_MAX_MS / 1000)
        return false;
    *ts_ms = format == DECODE_TIME_S ? value * 1000 : format == DECODE_TIME_MS ? value : (value + 500) / 1000;
    return *ts_ms <= TIME_MAX_MS;
}

static bool time_of_real(enum decode_time format, double value, int64_t *ts_ms)
{
    if (!(value >= 0 && value < AUTO_US))
        return false;
    if (format == DECODE_TIME_AUTO)
        format = unit_of(value);
    double ms = format == DECODE_TIME_S ? value * 1000 : format == DECODE_TIME_MS ? value : value / 1000;
    if (ms > (double)TIME_MAX_MS)
        return false;
    *ts_ms = llround(ms);
    return true;
}

bool decode_time(enum decode_time format, uint8_t kind, const union decode_value *value, int64_t *ts_ms)
{
    double number;
    bool text_only = format == DECODE_TIME_ISO8601;
    switch (kind) {
    case DECODE_INT: return !text_only && time_of_integer(format, value->integer, ts_ms);
    case DECODE_REAL: return !text_only && time_of_real(format, value->real, ts_ms);
    case DECODE_TEXT:
        if (!text_only && decode_number(value->text, &number))
            return time_of_real(format, number, ts_ms);
        return (text_only || format == DECODE_TIME_AUTO) && decode_time_iso8601(value->text, ts_ms);
    default: return false;
    }
}
