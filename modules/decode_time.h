/* SPDX-License-Identifier: Apache-2.0 */
/* decode_time.h - the ways in which other systems write the time of an event, as Unix milliseconds. */
#ifndef GAIT_DECODE_TIME_H
#define GAIT_DECODE_TIME_H

#include "gait/decode.h"

/* AUTO tells numbers apart by their size: below 1e11 seconds (until the year 5138), below 1e14 milliseconds, below 1e17
 * microseconds. Milliseconds before March 1973 are thus read as seconds: then say `time: ms`. */
enum decode_time { DECODE_TIME_AUTO, DECODE_TIME_MS, DECODE_TIME_S, DECODE_TIME_US, DECODE_TIME_ISO8601 };

/* A value that is present. False when it is no time between 1970 and 9999 in that format. Fractions are rounded to the
 * nearest millisecond; a number may be written as text. */
bool decode_time(enum decode_time format, uint8_t kind, const union decode_value *value, int64_t *ts_ms);

/* "2026-11-25T03:04:05.678+01:00": a space instead of the T, no seconds, 1 to 18 digits of fraction after a dot or a
 * comma, a zone as Z, +01, +0100 or +01:00; without a zone it is UTC. A leap second is the second after it. */
bool decode_time_iso8601(struct str text, int64_t *ts_ms);

/* "-12.50e3": a whole decimal number, finite. No white space, no hexadecimal, no names. */
bool decode_number(struct str text, double *value);

#endif
