/* SPDX-License-Identifier: Apache-2.0 */
/* train_days.h - days that training is to leave out, such as a sale that will not come back soon. */
#ifndef GAIT_TRAIN_DAYS_H
#define GAIT_TRAIN_DAYS_H

#include "gait/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRAIN_DAYS_MAX = 366 };

struct train_days {
    int32_t at[TRAIN_DAYS_MAX]; /* days since 1970-01-01, UTC */
    size_t n;
};

/* Adds what `list` names: "2026-11-27,2026-11-30". -1 with a text. */
int train_days_parse(struct train_days *days, const char *list, struct error *err);
bool train_days_has(const struct train_days *days, int64_t ts_ms);

#endif
