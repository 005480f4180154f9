/* SPDX-License-Identifier: Apache-2.0 */
/* decode_fields.h - from the values that a payload holds to a checked struct event. Part of decode_json. */
#ifndef GAIT_DECODE_FIELDS_H
#define GAIT_DECODE_FIELDS_H

#include "decode_time.h"

#include "gait/arena.h"

/* Names of event types, ours and foreign ones, to what becomes of them. Made at opening, read-only after. */
struct decode_types;

enum { DECODE_TYPE_IGNORED = EVENT_TYPES_MAX };

struct decode_types *decode_types_create(void);
void decode_types_destroy(struct decode_types **types);
/* `name` is copied. False when it stands for another type already. */
bool decode_types_add(struct decode_types *types, const char *name, int type);
int decode_types_find(const struct decode_types *types, struct str name); /* -1 when unknown */

struct decode_rules {
    enum decode_time time;
    bool obey_consent;       /* events with consent: false are not processed */
    bool ignore_unknown;     /* unknown types are passed over instead of refused */
    bool any_user;           /* user ids may hold quotes and control characters */
    size_t user_bytes;       /* longest user id */
    const struct decode_types *types;
};

extern const char *const decode_field_names[DECODE_FIELDS]; /* "type", "user_id" … */

/* Fill `event` (its decoded members are zeroed) and set verdict and detail. Text stays where the values have it; what
 * is made anew (numbers as text, details) goes into the arena. */
void decode_fields(const struct decode_rules *rules, struct decode_values *values, struct event *event,
                   struct arena *arena);
/* The verdict when the arena has nothing left. */
void decode_out_of_room(struct event *event);

#endif
