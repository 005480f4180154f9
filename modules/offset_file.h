/* SPDX-License-Identifier: Apache-2.0 */
/* offset_file.h - the small file in which source_file keeps what it has committed, and in which file that lies. */
#ifndef GAIT_OFFSET_FILE_H
#define GAIT_OFFSET_FILE_H

#include "gait/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Which file a stretch of the stream came from: what a restart needs to find its place again. */
struct segment {
    int64_t base;         /* stream offset of the file's first byte */
    dev_t device;
    ino_t inode;          /* 0 = not known */
};

/* `offset` is OFFSET_NONE (-1) when there is no such file yet. -1 with a text when it is something else. */
int offset_file_read(const char *path, int64_t *offset, struct segment *segment, struct error *err);
/* By temporary file and rename, so that a crash leaves the old or the new one. False with errno set. */
bool offset_file_write(const char *path, int64_t offset, const struct segment *segment);
/* Is this the segment's file, and long enough to hold `offset`? */
bool segment_is(const char *path, const struct segment *segment, int64_t offset);

#endif
