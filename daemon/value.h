/* SPDX-License-Identifier: Apache-2.0 */
/* value.h - single values as people write them: numbers, durations, sizes. Pure functions.
 *
 * Each returns 0, or -1 with a text that says what was found and what would be right, without naming the setting. */
#ifndef GAIT_VALUE_H
#define GAIT_VALUE_H

#include "gait/error.h"

#include <stdbool.h>
#include <stdint.h>

int value_bool(const char *text, bool *out, struct error *err);         /* true false yes no on off */
int value_int(const char *text, int64_t *out, struct error *err);       /* decimal; 10_000 is 10000 */
int value_real(const char *text, double *out, struct error *err);       /* finite; decimal point whatever the locale */
/* "250ms", "1.5h", "7 d": ms s m h d w. Without unit: 0, or any number of milliseconds if `plain_ms`. */
int value_duration(const char *text, bool plain_ms, int64_t *out_ms, struct error *err);
int value_bytes(const char *text, int64_t *out, struct error *err);     /* "64MB", "1 GiB", "4096": powers of 1024 */

/* The other way: "90d", "1536KB"; rounded where exact would be long. For error texts. */
enum { VALUE_TEXT_MAX = 32 };
void value_duration_text(int64_t ms, char text[VALUE_TEXT_MAX]);
void value_bytes_text(int64_t bytes, char text[VALUE_TEXT_MAX]);

#endif
