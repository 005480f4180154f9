/* SPDX-License-Identifier: Apache-2.0 */
/* module.h (the daemon's) - looking up modules: the configuration's `source: {kafka: …}` is the module source_kafka. */
#ifndef GAIT_MODULE_PRIVATE_H
#define GAIT_MODULE_PRIVATE_H

#include "gait/module.h"

int stage_find(const char *name);                         /* enum stage; -1 when there is none of this name */
const char *module_kind(const struct module *module);     /* "kafka" of "source_kafka" */
const struct module *module_find(enum stage stage, const char *kind);  /* NULL when there is none */
const char *module_nearest(enum stage stage, const char *kind);        /* its kind; NULL when none is near */

#endif
