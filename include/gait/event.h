/* SPDX-License-Identifier: Apache-2.0 */
/* event.h - one click, decoded. All slices point into the batch's arena or the source's message and live as long as
 * the batch. */
#ifndef GAIT_EVENT_H
#define GAIT_EVENT_H

#include "gait/str.h"

#include <stdbool.h>
#include <stdint.h>

/* The types that gait knows by name (index = id, stored in records and model files by name). A configuration can add
 * more (engine.event_types); their ids follow. */
enum event_type {
    EVENT_PAGE_VIEW, EVENT_PRODUCT_VIEW, EVENT_SEARCH, EVENT_IMPRESSION, EVENT_CAMPAIGN_CLICK, EVENT_ADD_TO_CART,
    EVENT_REMOVE_FROM_CART, EVENT_CHECKOUT, EVENT_PURCHASE, EVENT_LOGIN, EVENT_LOGIN_FAILED, EVENT_LOGOUT, EVENT_ERROR,
    EVENT_TYPES_BUILTIN,
    EVENT_TYPES_MAX = 32,
};

struct event_types {
    uint32_t n; /* EVENT_TYPES_BUILTIN .. EVENT_TYPES_MAX */
    const char *name[EVENT_TYPES_MAX];
};

/* The built-in names followed by `n_more` others (borrowed). -1 with a text: too many, twice the same, or empty. */
struct error;
int event_types_init(struct event_types *types, const char *const *more, size_t n_more, struct error *err);
int event_type_find(const struct event_types *types, struct str name); /* -1 when unknown */

/* What becomes of an event. All but EVENT_OK, _SILENT and those marked below go to the dead-letter output with the
 * original bytes and the reason's name. The first reason found stays. */
enum event_verdict {
    EVENT_OK,
    EVENT_ALREADY_APPLIED,   /* offset < next of its record: replay; no dead letter */
    EVENT_DUPLICATE,         /* its event_id was seen in the ring; no dead letter */
    EVENT_NO_CONSENT,        /* consent: false, and the configuration obeys it; no dead letter */
    EVENT_GIVEN_UP,          /* its partition was lost while it was in work; no dead letter: its new owner has it */
    EVENT_ERASED,            /* older than the user's erasure; no dead letter */
    EVENT_IGNORED,           /* its type is one that the configuration passes over; no dead letter */
    EVENT_BAD_JSON, EVENT_BAD_UTF8, EVENT_TOO_DEEP, EVENT_TOO_LARGE, EVENT_NOT_OBJECT,
    EVENT_MISSING_FIELD, EVENT_WRONG_TYPE, EVENT_BAD_NUMBER, EVENT_BAD_TIME, EVENT_BAD_USER, EVENT_UNKNOWN_TYPE,
    EVENT_EMPTY,             /* a message without a value */
    EVENT_LATE,              /* older than the allowed lateness */
    EVENT_TABLE_FULL,        /* no room for its user, policy dead_letter */
    EVENT_VERDICTS,
};

const char *event_verdict_name(enum event_verdict verdict); /* "bad_json" … */
bool event_verdict_is_dead(enum event_verdict verdict);     /* belongs into the dead-letter output */

/* Bits of event.has: which optional fields were present. */
enum event_field {
    HAS_PRICE = 1, HAS_QUANTITY = 2, HAS_PLACE = 4 /* lat and lon */, HAS_LOAD = 8,
};

struct user;

struct event {
    /* set by the source */
    struct str raw;           /* the original bytes */
    struct str key;           /* the message's key; may be absent */
    int32_t partition;        /* index of the partition; files are partition 0 */
    int64_t offset;           /* in its partition; files: byte offset of the line, so it grows */
    uint64_t fetched_ns;      /* monotonic: when the source got it */
    int64_t log_ms;           /* when the log got it (Kafka's message timestamp), Unix ms; <= 0 = not known. Events from
                               * the future are clamped against it, so that a replay clamps the same ones; where it is
                               * not known the wall clock serves */
    /* set by decode */
    enum event_verdict verdict; /* the source's, when it is not EVENT_OK: decode keeps it */
    bool silent;              /* below the committed offset: state yes, Kafka outputs no (set by the engine) */
    uint8_t type;             /* enum event_type or a configured one */
    uint32_t has;             /* enum event_field bits */
    int64_t ts_ms;            /* event time, Unix ms; clamped when from the future */
    struct str user, event_id, session, item, category, currency, ip, device, country, page, campaign;
    double price, quantity;   /* 0 when absent; finite */
    double lat, lon;          /* degrees */
    double load_ms;
    const char *detail;       /* for dead letters: which field, what was found; may be NULL */
    /* set by the engine at load, borrowed from the user table until the batch ends */
    struct user *record;      /* NULL unless verdict is EVENT_OK at that point */
    int32_t next_of_user;     /* index of the same user's next event in this batch, -1 = last (the waves) */
    uint32_t wave;            /* 0 for the user's first event in this batch */
};

#endif
