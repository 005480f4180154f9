// SPDX-License-Identifier: Apache-2.0
// module.c - finding modules by their names in the configuration. The list itself is modules.c.
#include "module.h"

#include "nearest.h"

#include <assert.h>
#include <string.h>

const char *stage_name(enum stage stage)
{
    static const char *const names[STAGES] = {
        [STAGE_SOURCE] = "source", [STAGE_DECODE] = "decode", [STAGE_STORE] = "store", [STAGE_WINDOW] = "window",
        [STAGE_MODEL] = "model",   [STAGE_SCORE] = "score",   [STAGE_RULE] = "rule",   [STAGE_SINK] = "sink",
    };
    assert((unsigned)stage < STAGES);
    return names[stage];
}

int stage_find(const char *name)
{
    for (int i = 0; i < STAGES; i++)
        if (strcmp(name, stage_name((enum stage)i)) == 0)
            return i;
    return -1;
}

const char *module_kind(const struct module *module)
{
    size_t n = strlen(stage_name(module->stage));
    assert(strncmp(module->name, stage_name(module->stage), n) == 0 && module->name[n] == '_');
    return module->name + n + 1;
}

const struct module *module_find(enum stage stage, const char *kind)
{
    for (size_t i = 0; modules[i]; i++)
        if (modules[i]->stage == stage && strcmp(module_kind(modules[i]), kind) == 0)
            return modules[i];
    return NULL;
}

const char *module_nearest(enum stage stage, const char *kind)
{
    struct nearest best = {0};
    for (size_t i = 0; modules[i]; i++)
        if (modules[i]->stage == stage)
            nearest_try(&best, kind, module_kind(modules[i]));
    return best.word;
}
