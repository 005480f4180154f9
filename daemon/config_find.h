/* SPDX-License-Identifier: Apache-2.0 */
/* config_find.h - a setting by the names that stand in the file. */
#ifndef GAIT_CONFIG_FIND_H
#define GAIT_CONFIG_FIND_H

#include "config.h"

/* Where the value of `option` of the first such module lies, as its type in option.h says; NULL when the configuration
 * has no such module. */
const void *config_find(const struct config *config, const char *module, const char *option);

#endif
