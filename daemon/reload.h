/* SPDX-License-Identifier: Apache-2.0 */
/* reload.h - a new configuration for the daemon at work, all or nothing.
 *
 *   file ─► config beside the old ─► compare: nothing that needs a restart ─► every module prepares ─► exchange, swap
 *             │ any mistake             │ anything                              │ anybody refuses
 *             └─────────────────────────┴───────────────────────────────────────┴──► the old one stays, and why
 */
#ifndef GAIT_RELOAD_H
#define GAIT_RELOAD_H

#include "engine.h"

struct reload {
    const char *path;             /* of the configuration file; a relative one needs the folder of the start */
    struct config *config;        /* at work; its values change in place */
    struct engine *engine;
    void (*done)(void *self);     /* after a swap, for what whoever runs the loop made of the settings; may be NULL */
    void *self;
};

struct reload_result {
    int rc;                       /* 0: the file's settings are at work; -1: everything is as it was */
    unsigned changes;             /* made; 0 with rc 0: there was nothing to change */
    struct error text;            /* what changed or why not, a line each */
};

/* Between two engine_step() calls: from a signal, a timer, or a call of the admin server on the same loop. `who` asks:
 * "SIGHUP", "admin 127.0.0.1"; it stands in the audit line. */
struct reload_result reload_request(struct reload *reload, const char *who);

/* The second half of it: with a configuration that is read already. Owns and destroys `next`. */
struct reload_result reload_apply(struct reload *reload, struct config **next);

#endif
