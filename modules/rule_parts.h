// SPDX-License-Identifier: Apache-2.0
// rule_parts.h - the inside of rule_fraud, shared by its files:
//
//   rule_fraud.c     options, the batch loop, alerts, reloading
//   rule_parse.c     a rules file to a rule set; rule_condition.c reads what stands behind `when`
//   rule_signals.c   what the rules know of a user beyond the windows: places, devices, amounts, failed logins, gaps
#ifndef RULE_PARTS_H
#define RULE_PARTS_H

#include "gait/module.h"

enum { RULES_MAX = 512, RULE_CONDITIONS_MAX = 8, RULE_BANDS_MAX = 8, RULE_LISTS_MAX = 64 };
enum { SIGNAL_DEVICES = 8, SIGNAL_COUNTRIES = 4, SIGNAL_FAILURES = 16, SIGNAL_GAPS = 16 };

struct rule_conf {
    const char *path;
    int64_t new_ms, failed_ms, amount_purchases, regularity_clicks;
};

/* ---- rule sets ------------------------------------------------------------------------------------------------ */

enum rule_operator { RULE_GE, RULE_GT, RULE_LE, RULE_LT, RULE_EQ, RULE_NE, RULE_IN, RULE_NOT_IN };

enum rule_field { RULE_USER, RULE_IP, RULE_DEVICE, RULE_COUNTRY, RULE_SESSION, RULE_ITEM, RULE_CATEGORY, RULE_CAMPAIGN,
                  RULE_FIELDS };

/* `column operator number`, or `field in list`. */
struct rule_condition {
    uint8_t operator;       /* enum rule_operator */
    uint8_t field;          /* enum rule_field, with RULE_IN and RULE_NOT_IN */
    uint16_t place;         /* the column's place in the row */
    uint16_t list;          /* index */
    double number;
};

struct rule {
    const char *name, *text;
    double weight;
    uint32_t types;         /* bits of the event types that it looks at */
    bool shadow;            /* counted only */
    uint8_t conditions_n;   /* all must hold */
    int8_t shown;           /* the condition whose value and threshold the alert shows; -1 = none has any */
    struct rule_condition conditions[RULE_CONDITIONS_MAX];
    struct metric_cell *fired;
};

struct rule_band {
    const char *name;
    double least;           /* sum of weights */
    struct metric_cell *alerts;
};

/* Values by their hashes: an open-addressed set, 0 = empty place. */
struct rule_list {
    const char *name;
    uint64_t *places;
    uint64_t mask;
};

struct rule_set {
    struct arena *memory;   /* holds all of it */
    uint64_t hash;          /* of the file's bytes */
    struct rule *rules;
    uint32_t rules_n;
    struct rule_band bands[RULE_BANDS_MAX]; /* ascending */
    uint32_t bands_n;
    struct rule_list lists[RULE_LISTS_MAX];
    uint32_t lists_n;
    int64_t quiet_ms;       /* after an alert, no second one that says no more */
    uint16_t *of_type[EVENT_TYPES_MAX]; /* indices of the rules that look at events of the type */
    uint32_t of_type_n[EVENT_TYPES_MAX];
};

/* NULL with a text "FILE:LINE:COLUMN: …". Wants the columns that the rules name. */
struct rule_set *rule_set_load(struct instance *in, const char *path, struct error *err);
void rule_set_destroy(struct rule_set **set);

/* One condition from its text; -1 with a text that the caller puts file and line before. */
int rule_condition_parse(struct instance *in, const struct rule_set *set, const char *text, struct rule_condition *out,
                         struct error *err);
bool rule_list_holds(const struct rule_list *list, struct str value);
void rule_list_add(struct rule_list *list, struct str value);

/* ---- signals -------------------------------------------------------------------------------------------------- */

/* Something seen with the user, and when first. */
struct signal_seen {
    uint32_t hash;
    uint32_t reserved;
    int64_t first_ms;       /* of the very first one of a user: 0, it was never new */
};

/* The section of rule_fraud. Zeroed memory is an empty one. What every click needs comes first. */
struct signal_state {
    int64_t click_ms;                     /* last click; 0 = none in this visit */
    int64_t alert_ms;                     /* last alert; 0 = none */
    double alert_score;
    uint8_t gaps_first, gaps_n, failures_n, devices_n, countries_n, login_known;
    float gaps[SIGNAL_GAPS];              /* seconds between clicks, a ring */
    struct signal_seen devices[SIGNAL_DEVICES], countries[SIGNAL_COUNTRIES]; /* last used first */
    int64_t login_ms;
    float login_lat, login_lon;
    uint32_t amounts, reserved2;
    double amount_mean, amount_spread;    /* spread: mean square of the distance from the mean */
    int64_t failures[SIGNAL_FAILURES];    /* times of failed logins, oldest first */
};

enum signal_column { SIGNAL_TRAVEL_KMH, SIGNAL_TRAVEL_KM, SIGNAL_DEVICE_NEW, SIGNAL_COUNTRY_NEW, SIGNAL_AMOUNT_Z,
                     SIGNAL_FAILED_BEFORE, SIGNAL_REGULARITY, SIGNAL_CLICK_RATE, SIGNALS };

struct signals {
    int64_t new_ms, failed_ms;
    uint32_t amount_purchases, regularity_clicks;
    uint32_t column[SIGNALS];             /* ids */
    int place[SIGNALS];                   /* -1 = not wanted */
    uint32_t width;                       /* columns_width() that the places are for */
};

void signals_announce(struct signals *signals, struct instance *in);
void signals_plan(struct signals *signals, const struct instance *in);
/* Bring the user's state up to this event and write what is wanted into its row. */
void signals_step(const struct signals *signals, struct signal_state *state, const struct event *event, double *row);
void signals_record(struct signal_state *state, struct record_io *io);

#endif
