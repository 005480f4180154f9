/* SPDX-License-Identifier: Apache-2.0 */
/* part_file.h - a text file that appears as a whole or not at all: written beside its place and renamed. For reports
 * and labels; model files, which have to survive a power failure, go through model_file_replace(). */
#ifndef GAIT_PART_FILE_H
#define GAIT_PART_FILE_H

#include "gait/error.h"

#include <stdio.h>

struct part_file {
    FILE *out;
    const char *path;
    char part[4096];
};

/* `path` is borrowed till the end. NULL with a text when nothing can be written there. */
FILE *part_file_open(struct part_file *f, const char *path, struct error *err);
/* -1 with a text: the file at `path` is what it was before. */
int part_file_close(struct part_file *f, struct error *err);

#endif
