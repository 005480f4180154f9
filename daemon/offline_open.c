// SPDX-License-Identifier: Apache-2.0
// offline_open.c - from a configuration file to the handle that `gaitd user` and `gaitd state` work with.
#include "offline_open.h"

#include <stdio.h>

struct offline *offline_open(const char *path, struct config **config)
{
    struct config_errors errors = {0};
    *config = config_load(path, &errors);
    if (!*config) {
        config_errors_print(&errors, stderr);
        return NULL;
    }
    struct offline_module found[CONFIG_MODULES_MAX];
    for (size_t i = 0; i < (*config)->modules_n; i++)
        found[i] = (struct offline_module){(*config)->modules[i].module, (*config)->modules[i].conf};
    return offline_create(found, (*config)->modules_n);
}
