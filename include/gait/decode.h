/* SPDX-License-Identifier: Apache-2.0 */
/* decode.h - the C face of the JSON decoder: simdjson behind it (modules/decode_simdjson.cc, the only C++ in the tree).
 *
 * A plan says where each event field is found in the payload; it is compiled once from the configuration. */
#ifndef GAIT_DECODE_H
#define GAIT_DECODE_H

#include "gait/arena.h"
#include "gait/event.h"

/* The fields of an event that a payload can carry, in the order of design's format. */
enum decode_field {
    DECODE_TYPE, DECODE_USER, DECODE_TS, DECODE_EVENT_ID, DECODE_SESSION, DECODE_ITEM, DECODE_CATEGORY, DECODE_PRICE,
    DECODE_QUANTITY, DECODE_CURRENCY, DECODE_IP, DECODE_DEVICE, DECODE_COUNTRY, DECODE_LAT, DECODE_LON, DECODE_PAGE,
    DECODE_LOAD_MS, DECODE_CAMPAIGN, DECODE_CONSENT, DECODE_FIELDS
};

#endif
