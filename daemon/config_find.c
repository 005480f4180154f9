// SPDX-License-Identifier: Apache-2.0
// config_find.c - settings by name, for commands that look at a running daemon from outside and know no module.
#include "config_find.h"

#include <string.h>

const void *config_find(const struct config *config, const char *module, const char *option)
{
    for (size_t i = 0; i < config->modules_n; i++) {
        const struct config_module *m = &config->modules[i];
        if (strcmp(m->name, module) != 0)
            continue;
        for (const struct option *o = m->module->options; o && o->name; o++)
            if (strcmp(o->name, option) == 0)
                return (const char *)m->conf + o->offset;
    }
    return NULL;
}
