// SPDX-License-Identifier: Apache-2.0
// modules.c - the contents page: every module, in the order of the flow. Nothing else names them.
#include "gait/module.h"

const struct module *const modules[] = {
    NULL,
};
