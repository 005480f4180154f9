/* SPDX-License-Identifier: Apache-2.0 */
/* state_verify.h - the inside of `gaitd state verify`: state_verify.c chooses users and compares, state_replay.c works
 * their records out from the log. */
#ifndef GAIT_STATE_VERIFY_H
#define GAIT_STATE_VERIFY_H

#include "log_source.h"
#include "state.h"

/* One record that is checked. */
struct verify_user {
    char *name;
    int32_t partition;
    uint8_t *stored;         /* as the store had it */
    size_t stored_n;
    uint8_t *computed;       /* as the log makes it; NULL = the log has no event of the user */
    size_t computed_n;
    int64_t seen_ms;         /* log time of the user's last event so far, 0 = none */
    int64_t silence_ms;      /* … and the longest time between two of them */
};

struct verify {
    struct verify_user *users; /* [users_n] by partition and name once chosen */
    size_t users_n;
    int64_t *low;            /* [log.partitions_n] earliest offset that is retained */
    int64_t *until;          /* … read up to it: W, or further where a record contains more; 0 = not needed */
    struct log_source log;
};

struct verify_user *verify_find(const struct verify *v, int32_t partition, struct str name); /* NULL = not chosen */

/* An engine whose source is the log, whose store is `v` and which has no sinks; everything between is the
 * configuration's. `flow` [CONFIG_MODULES_MAX + 3] and `own` outlive it. NULL with a text. */
struct config_module;
struct engine *replay_create(struct verify *v, const struct config *config, struct config *own,
                             struct config_module *flow, struct error *err);
/* Fills every user's `computed`. */
int replay_run(struct engine *e, struct verify *v, struct error *err);

#endif
