// SPDX-License-Identifier: Apache-2.0
// train_days.c - see train_days.h. A day is one of UTC, as event times are.
#include "train_days.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { DAY_MS = 86400000 };

/* The C library's calendar says which days there are: what it would have to correct, such as February 30, is none. */
static bool day_of(const char *text, size_t n, int32_t *out)
{
    struct tm tm = {0};
    char copy[11], back[16];
    if (n != 10)
        return false;
    memcpy(copy, text, n);
    copy[n] = 0;
    if (sscanf(copy, "%4d-%2d-%2d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday) != 3)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    time_t s = timegm(&tm);
    if (strftime(back, sizeof back, "%Y-%m-%d", &tm) != 10 || strcmp(back, copy) != 0)
        return false;
    *out = (int32_t)(s / (DAY_MS / 1000));
    return s >= 0;
}

int train_days_parse(struct train_days *days, const char *list, struct error *err)
{
    for (const char *at = list;; at++) {
        size_t n = strcspn(at, ",");
        if (days->n == TRAIN_DAYS_MAX)
            return error_set(err, "more than %d days", TRAIN_DAYS_MAX);
        if (!day_of(at, n, &days->at[days->n]))
            return error_set(err, "'%.*s' is no day; they are written 2026-11-27, several with commas",
                             (int)(n < 40 ? n : 40), at);
        days->n++;
        at += n;
        if (!*at)
            return 0;
    }
}

bool train_days_has(const struct train_days *days, int64_t ts_ms)
{
    int64_t day = ts_ms / DAY_MS;
    for (size_t i = 0; i < days->n; i++)
        if (days->at[i] == day)
            return true;
    return false;
}
