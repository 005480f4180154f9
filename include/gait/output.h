/* SPDX-License-Identifier: Apache-2.0 */
/* output.h - the outgoing messages as JSON text, the same for every sink (schemas in conf/schema/).
 *
 * Each writes into buf and returns the bytes used, without a closing NUL; 0 when `cap` is too small. No allocation. */
#ifndef GAIT_OUTPUT_H
#define GAIT_OUTPUT_H

#include "gait/batch.h"

/* {"user","ts","partition","offset","interests":[{"category","score"}],"intent","model","degraded"} */
size_t output_score(const struct batch *b, uint32_t event, char *buf, size_t cap);
/* Only the interests array of it, as the serving hash keeps it. */
size_t output_interests(const struct batch *b, uint32_t event, char *buf, size_t cap);
/* {"alert_id","user","ts","partition","offset","action","score",
 *  "symbols":[{"name","weight","value","threshold","text"}],"event_ids"} */
size_t output_alert(const struct batch *b, const struct alert *alert, char *buf, size_t cap);
/* For files: {"reason","detail","partition","offset","value"}; value as text with invalid bytes escaped as \u00XX and
 * "base64" instead where it is not UTF-8. */
size_t output_dead(const struct batch *b, uint32_t event, char *buf, size_t cap);

/* JSON string escapes of `text`, without quotes; invalid UTF-8 becomes U+FFFD. */
size_t output_escape(struct str text, char *buf, size_t cap);
/* Shortest of up to `decimals` decimals; finite values of any size. */
size_t output_number(double value, int decimals, char *buf, size_t cap);

#endif
