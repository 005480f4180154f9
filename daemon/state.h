/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - the verbs of `gaitd state`: one function each, -1 with a text. What they have to tell goes to stdout. */
#ifndef GAIT_STATE_H
#define GAIT_STATE_H

#include "offline_open.h"

struct state_call {
    struct offline *offline;
    struct config *config;
    const char *operand;     /* FILE or USER; NULL = none */
    const char *to;          /* --to */
    int32_t partition;       /* --partition, -1 = all */
    int32_t partitions;      /* --partitions, 0 = not given */
    int64_t sample, seed;    /* --sample, --seed */
    const char *user;        /* --user, NULL = not given */
    const char *ignore;      /* --ignore: names of sections, separated by commas; NULL = none */
    bool yes, json;
};

int state_export(const struct state_call *call, struct error *err);  /* state_backup.c */
int state_import(const struct state_call *call, struct error *err);
int state_rewind(const struct state_call *call, struct error *err);  /* state_move.c */
int state_rekey(const struct state_call *call, struct error *err);
int state_inspect(const struct state_call *call, struct error *err); /* state_inspect.c */
/* 1 = at least one record differs. */
int state_verify(const struct state_call *call, struct error *err);  /* state_verify.c */

/* Partitions of the input: as the store remembers it, else as the topic says. */
int state_partitions(const struct state_call *call, int32_t *partitions, struct error *err);
int state_clear(struct offline *o, int32_t partition, struct error *err); /* its records, not its numbers */

/* A record's sections one after the other, beginning STATE_HEAD_BYTES behind its start (user.h has the layout). False
 * at the end, or where the bytes are cut short. */
enum { STATE_HEAD_BYTES = 40 };
struct state_section {
    char name[256];
    uint16_t version;
    uint32_t len;
    const uint8_t *at;
};
bool state_section(const uint8_t **at, const uint8_t *end, struct state_section *s);

#endif
