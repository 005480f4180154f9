/* SPDX-License-Identifier: Apache-2.0 */
/* config_compare.h - two configurations beside each other, setting by setting, as the option rows describe them. */
#ifndef GAIT_CONFIG_COMPARE_H
#define GAIT_CONFIG_COMPARE_H

#include "config.h"

#include <stdio.h>

enum { CONFIG_VALUE_TEXT_MAX = 160 };

struct config_difference {
    char where[192];     /* "sink.kafka.scores", or "sink.file.2" for a module as a whole */
    char text[2 * CONFIG_VALUE_TEXT_MAX + 16]; /* "5 → 3", "added", "removed"; of a secret only that it changed */
    bool restart;        /* a reload cannot do it */
};

typedef void config_difference_call(void *self, const struct config_difference *difference);

/* Tell each difference, in the order of sections and modules. */
void config_compare(const struct config *running, const struct config *next, config_difference_call *call, void *self);

/* Exchange the values of all settings without OPTION_RESTART between the two, which must not differ otherwise. Structs
 * stay where they are, so pointers to them, and to values that need a restart, stay good. What `next` holds then goes
 * with it. */
void config_exchange(struct config *running, struct config *next);

/* Equal for configurations that mean the same, whatever their files look like. Secrets have no part in it. */
uint64_t config_hash(const struct config *config);
/* One stage's settings, "MODULE.NAME=VALUE" a line, without secrets and paths, which may differ between machines. */
void config_put_stage(const struct config *config, enum stage stage, FILE *out);

#endif
