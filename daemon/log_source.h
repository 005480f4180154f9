/* SPDX-License-Identifier: Apache-2.0 */
/* log_source.h - the input's log, read once by a tool with an engine of its own (training, evaluation, `gaitd state
 * verify`): partition after partition, each from the earliest retained offset to an end that is known beforehand.
 * Nothing joins the group and nothing is committed. */
#ifndef GAIT_LOG_SOURCE_H
#define GAIT_LOG_SOURCE_H

#include "config.h"

#include "gait/error.h"
#include "gait/offline.h"

/* The caller fills in the first three; they outlive the engine. */
struct log_source {
    struct offline *offline;
    const int64_t *until;           /* [partitions_n] end of each; 0 = nothing is read of it */
    int32_t partitions_n;
    int32_t reading;                /* the partition at hand */
    bool begun, assigned, draining;
    bool pending;                   /* `message` is still to be handed over: a batch had no room for it any more */
    struct offline_message message; /* lent by `offline` */
    int64_t done;                   /* messages handed over */
    bool failed;                    /* reading broke off, `error` says why; the engine hears of it */
    struct error error;
};

/* The source for an engine. */
struct config_module log_source_module(struct log_source *source);

#endif
