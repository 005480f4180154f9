/* SPDX-License-Identifier: Apache-2.0 */
/* version.h - the version that `gaitd version`, the log's first line and the build-info metric show. */
#ifndef GAIT_VERSION_H
#define GAIT_VERSION_H

#define GAIT_VERSION "0.1.0"

#endif
