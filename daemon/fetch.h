/* SPDX-License-Identifier: Apache-2.0 */
/* fetch.h - one user's record out of the store for a tool that runs beside the daemons: nothing is written, no fence
 * is raised. */
#ifndef GAIT_FETCH_H
#define GAIT_FETCH_H

#include "engine.h"

/* The record, in the table of `e`, which was created with `check`. After a repartitioning there may be two: the newer
 * one. NULL with a text: none, unreadable, erased, or the store cannot be asked. May block for the store's time-out. */
struct user *fetch_user(struct engine *e, const struct config *config, struct str name, struct error *err);

#endif
