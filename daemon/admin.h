/* SPDX-License-Identifier: Apache-2.0 */
/* admin.h - the operators' HTTP server: health, metrics, the dashboard, and calls that look and change. It lives on the
 * daemon's own loop and never blocks it. */
#ifndef GAIT_ADMIN_H
#define GAIT_ADMIN_H

#include "config.h"

struct admin;
struct ev_loop;

/* What a call does that is not the engine's alone; 0, or -1 with a text. */
struct admin_calls {
    int (*reload)(void *self, struct error *err);
    void *self;
};

/* *admin stays NULL when it is off. -1 with a text: a setting is wrong, or a file cannot be read. An address that is
 * taken is no failure: it is tried again until it is free, since events matter more than pages. Everything is borrowed
 * until admin_destroy(). */
int admin_create(struct admin **admin, struct config *config, struct engine *engine, struct ev_loop *loop,
                 const struct admin_calls *calls, struct error *err);
void admin_destroy(struct admin **admin);
/* The settings alone, as `gaitd check` does: reads the files that they name. */
int admin_check(const struct config *config, struct error *err);

extern const struct metric admin_metrics[];

#endif
