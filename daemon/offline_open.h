/* SPDX-License-Identifier: Apache-2.0 */
/* offline_open.h - a configuration as the tools need it: read and checked, nothing of it opened. */
#ifndef GAIT_OFFLINE_OPEN_H
#define GAIT_OFFLINE_OPEN_H

#include "config.h"

#include "gait/offline.h"

/* NULL after the mistakes were printed. Both are the caller's to destroy, the handle first. */
struct offline *offline_open(const char *path, struct config **config);

#endif
