/* SPDX-License-Identifier: Apache-2.0 */
/* output.h - the outgoing messages as JSON text, the same for every sink (schemas in conf/schema/).
 *
 * Each writes into buf and returns the bytes used, without a closing NUL; 0 when `cap` is too small. No allocation. */
#ifndef GAIT_OUTPUT_H
#define GAIT_OUTPUT_H

#include "gait/batch.h"

/* {"user","ts","partition","offset","interests":[{"category","score"}],"intent","model","degraded"}
 * intent and model are null where there is none. */
size_t output_score(const struct batch *b, uint32_t event, char *buf, size_t cap);
/* Only the interests array of it, as the serving hash keeps it. */
size_t output_interests(const struct batch *b, uint32_t event, char *buf, size_t cap);
/* {"alert_id","user","ts","partition","offset","action","score",
 *  "symbols":[{"name","weight","value","threshold","text"}],"event_ids"}
 * alert_id is 16 hexadecimal digits: JSON numbers are not safe beyond 2^53. */
size_t output_alert(const struct batch *b, const struct alert *alert, char *buf, size_t cap);
/* For files: {"reason","detail","partition","offset","value"}; detail may be null. Bytes that are not UTF-8 stand in
 * "base64" instead of "value". */
size_t output_dead(const struct batch *b, uint32_t event, char *buf, size_t cap);

struct erasure;
/* {"user","partition","partitions","offset","erased_ms","saved_ms"}: of one partition of the clicks out of `partitions`
 * (0 = not known); offset is the request's. */
size_t output_erased(const struct erasure *erasure, int32_t partitions, char *buf, size_t cap);

/* JSON string escapes of `text`, without quotes; each byte of invalid UTF-8 becomes U+FFFD. */
size_t output_escape(struct str text, char *buf, size_t cap);
/* At most `decimals` (0 to 9) decimals, rounded as printf does, without zeros at the end; "null" when not finite. */
size_t output_number(double value, int decimals, char *buf, size_t cap);

#endif
