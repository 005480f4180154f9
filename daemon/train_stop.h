/* SPDX-License-Identifier: Apache-2.0 */
/* train_stop.h - ctrl-C, asked for between mini-batches instead of handled at any moment: the first one ends the work
 * in good order, the second one kills. */
#ifndef GAIT_TRAIN_STOP_H
#define GAIT_TRAIN_STOP_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

struct train_stop {
    bool asked;
};

static inline void train_stop_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
}

/* From now on SIGINT and SIGTERM wait until train_stop_asked() looks. Call it before threads begin. */
static inline void train_stop_arm(void)
{
    sigset_t set;
    train_stop_signals(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

/* `stop` may be NULL: nobody can ask. */
static inline bool train_stop_asked(struct train_stop *stop)
{
    sigset_t set;
    if (!stop || stop->asked)
        return stop != NULL;
    train_stop_signals(&set);
    if (sigtimedwait(&set, NULL, &(struct timespec){0}) < 0)
        return false;
    stop->asked = true;
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    return true;
}

#endif
