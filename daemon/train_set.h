/* SPDX-License-Identifier: Apache-2.0 */
/* train_set.h - a shop's history in memory, arranged into sequences: what training and evaluation read.
 *
 *   events as the engine saw them (train_collect.c) ─► train_set_add ─► train_set_arrange ─► sequences
 *   ─► train_targets_… : what each head is to say after each event, and when that was known
 *
 * Names are numbered in the order in which they were met; a vocabulary (of a model) is chosen from them later. */
#ifndef GAIT_TRAIN_SET_H
#define GAIT_TRAIN_SET_H

#include "gait/event.h"
#include "gait/model.h"

/* ---- names ------------------------------------------------------------------------------------------------------ */

struct train_names {
    uint32_t n, cap;       /* names 1 … n; 0 = none */
    char **name;           /* [n + 1] */
    uint32_t *length, *count;
    uint32_t *slot;        /* [mask + 1] 0 = empty */
    uint32_t mask;
};

uint32_t train_names_add(struct train_names *t, struct str name);        /* counts it; 0 for an empty name */
uint32_t train_names_find(const struct train_names *t, struct str name); /* 0 when unknown */
struct str train_names_at(const struct train_names *t, uint32_t id);
void train_names_destroy(struct train_names *t);

/* ---- events ----------------------------------------------------------------------------------------------------- */

enum train_sequence_kind { TRAIN_BY_USER, TRAIN_BY_SESSION };

struct train_event {
    struct str user, session, fields[MODEL_FIELDS];
    int64_t ts_ms;
    const float *columns;  /* [columns_n] */
};

struct train_sequence {
    size_t start;          /* its first event */
    uint32_t length;
};

struct train_set {
    size_t n, cap;
    int64_t *ts_ms;
    uint32_t *user, *session, *fields[MODEL_FIELDS];
    uint8_t *early;        /* 1 = of the warm-up; set by the caller between collecting and arranging */
    float *columns;        /* [n × columns_n] raw */
    uint32_t columns_n;
    char **column_names;   /* [columns_n] */
    struct train_names users, sessions, names[MODEL_FIELDS];
    struct train_sequence *sequences; /* after train_set_arrange() */
    size_t sequences_n;
    int64_t first_ms, last_ms;
    uint64_t hash;         /* over all that was added */
    size_t not_numbers;    /* column values that were NaN or infinite; they become the mean */
    size_t backwards;      /* events older than the one before in their sequence (kept: the daemon sees them so too) */
};

struct train_set *train_set_create(const char *const *column_names, uint32_t columns_n);
void train_set_destroy(struct train_set **set);
void train_set_add(struct train_set *s, const struct train_event *e);
/* Events of a sequence side by side, in the order in which they came. Events without a session are cut where their user
 * was away for 30 minutes. */
void train_set_arrange(struct train_set *s, enum train_sequence_kind kind);
/* [n] indices of all events, user after user, each user's by time; of one time in their order. The caller frees it. */
size_t *train_set_by_user(const struct train_set *s);

/* ---- targets ---------------------------------------------------------------------------------------------------- */

enum { TRAIN_NOTHING = -1, TRAIN_UNSAYABLE = -2 };

/* For each event what one head is to say after it: a class, or 0/1; TRAIN_NOTHING; or TRAIN_UNSAYABLE, a name that is
 * not among the head's classes: not learned from, but a miss where the model is judged. `known_ms` is when the answer
 * was known: a model of time T may learn from answers before T only, and is judged on those after. */
struct train_target {
    int32_t *value;
    int64_t *known_ms;
    bool is_label;         /* 0/1 */
    uint64_t total, positives, unsayable;
};

void train_target_create(struct train_target *t, const struct train_set *s, bool is_label);
void train_target_destroy(struct train_target *t);
/* The field's name of the next event of the sequence, as class_of[name id] (TRAIN_UNSAYABLE where it is no class). */
void train_target_next(struct train_target *t, const struct train_set *s, enum model_field field,
                       const int32_t *class_of);
/* Whether this user buys (an event of type `type`) within the horizon. Answers that the data's end leaves open are −1.
 * Nothing after `until_ms` is looked at. */
void train_target_intent(struct train_target *t, const struct train_set *s, const char *type, int64_t horizon_ms,
                         int64_t until_ms);
/* Labels of a file: lines "user,label", "user,label,unix ms" or "user,label,unix ms,known" after a header whose second
 * name is `name`. A label belongs to the user's last event at or before its time, and was known then, or at `known` if
 * that is later. Of several files, with commas, the one with that header is read. -1 with a text. */
int train_target_labels(struct train_target *t, const struct train_set *s, const char *paths, const char *name,
                        uint64_t *unknown_users, struct error *err);

#endif
