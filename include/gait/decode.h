/* SPDX-License-Identifier: Apache-2.0 */
/* decode.h - the C face of the JSON decoder: simdjson behind it (modules/decode_simdjson.cc, the only C++ in the tree).
 *
 *   configuration ─(once)─► plan: a tree of keys ─┐
 *   payload bytes ─► decoder_parse(): checks all of the JSON, walks it along the plan ─► struct decode_values
 *
 * The decoder knows JSON and paths; what a value means (time, user id, price) is decode_json.c's business. Parser and
 * buffers are allocated at creation and reused: nothing is allocated per event. No exception leaves it. */
#ifndef GAIT_DECODE_H
#define GAIT_DECODE_H

#include "gait/error.h"
#include "gait/event.h"

/* The fields of an event that a payload can carry, in the order of design's format. */
enum decode_field {
    DECODE_TYPE, DECODE_USER, DECODE_TS, DECODE_EVENT_ID, DECODE_SESSION, DECODE_ITEM, DECODE_CATEGORY, DECODE_PRICE,
    DECODE_QUANTITY, DECODE_CURRENCY, DECODE_IP, DECODE_DEVICE, DECODE_COUNTRY, DECODE_LAT, DECODE_LON, DECODE_PAGE,
    DECODE_LOAD_MS, DECODE_CAMPAIGN, DECODE_CONSENT, DECODE_FIELDS
};

/* What a payload holds for one field. */
enum decode_kind {
    DECODE_ABSENT,   /* not there, or null, or "" */
    DECODE_TEXT, DECODE_INT, DECODE_UINT /* above INT64_MAX */, DECODE_REAL, DECODE_BOOL,
    DECODE_NESTED,   /* an object or an array */
};

union decode_value {
    struct str text; /* unescaped UTF-8, in the room given to decoder_parse() */
    int64_t integer;
    uint64_t natural;
    double real;
    bool truth;
};

struct decode_values {
    uint8_t kind[DECODE_FIELDS]; /* enum decode_kind */
    uint8_t rank[DECODE_FIELDS]; /* decoder's own: which of the field's paths it came from */
    union decode_value at[DECODE_FIELDS];
};

/* ---- plan (modules/decode_plan.c) ------------------------------------------------------------------------------ */
struct decode_plan;

struct decode_plan *decode_plan_create(void);
void decode_plan_destroy(struct decode_plan **plan);
/* Look for `field` at `path`: keys joined by dots, "\." for a dot inside a key; a number is an array's index, or a key.
 * A field may have several paths: the one that was added first wins among those present. Of a key that stands twice in
 * an object the last value counts. -1 with a text. */
int decode_plan_add(struct decode_plan *plan, enum decode_field field, const char *path, struct error *err);

/* ---- decoder (modules/decode_simdjson.cc) ---------------------------------------------------------------------- */
struct decoder;

enum { DECODE_PADDING = 64 }; /* simdjson reads so many bytes beyond the text */

/* The plan is borrowed and complete by now. Memory: about 16 bytes for each of max_bytes, touched only as far as events
 * are long. `quick` = false leaves out the short cut for usual texts: the results are the same, and a test says so.
 * NULL when out of memory. */
struct decoder *decoder_create(const struct decode_plan *plan, size_t max_bytes, size_t max_depth, bool quick);
void decoder_destroy(struct decoder **decoder);

/* One JSON text. EVENT_OK, or what is wrong with it as JSON; `*detail` is then a constant text. A byte order mark
 * before it is passed over. Every byte is checked, those outside the plan too. `room` has raw.len + DECODE_PADDING
 * bytes; the values' text lies in it. */
enum event_verdict decoder_parse(struct decoder *decoder, struct str raw, char *room, struct decode_values *values,
                                 const char **detail);

#endif
