// SPDX-License-Identifier: Apache-2.0
// offset_file.c - reads and writes source_file's offset file: four numbers as text, so that people can read them.
#include "offset_file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int offset_file_read(const char *path, int64_t *offset, struct segment *segment, struct error *err)
{
    *offset = -1;
    *segment = (struct segment){0};
    FILE *file = fopen(path, "re");
    if (!file)
        return errno == ENOENT ? 0 : error_set(err, "offset_file: %s: %s", path, strerror(errno));
    long long at = -1, base = -1;
    unsigned long long device = 0, inode = 0;
    int n = fscanf(file, "gait-offset 1 offset %lld base %lld device %llu inode %llu", &at, &base, &device, &inode);
    fclose(file);
    if (n != 4 || at < 0 || base < 0 || base > at)
        return error_set(err, "offset_file: %s is not a file of offsets as gaitd writes it; move it away to begin anew",
                         path);
    *offset = at;
    *segment = (struct segment){base, (dev_t)device, (ino_t)inode};
    return 0;
}

bool offset_file_write(const char *path, int64_t offset, const struct segment *segment)
{
    char temp[PATH_MAX];
    if (snprintf(temp, sizeof temp, "%s.new", path) >= (int)sizeof temp) {
        errno = ENAMETOOLONG;
        return false;
    }
    FILE *file = fopen(temp, "we");
    if (!file)
        return false;
    fprintf(file, "gait-offset 1\noffset %lld\nbase %lld\ndevice %llu\ninode %llu\n", (long long)offset,
            (long long)segment->base, (unsigned long long)segment->device, (unsigned long long)segment->inode);
    bool ok = fflush(file) == 0 && fdatasync(fileno(file)) == 0;
    ok = fclose(file) == 0 && ok;
    return ok && rename(temp, path) == 0;
}

bool segment_is(const char *path, const struct segment *segment, int64_t offset)
{
    struct stat now;
    return segment->inode != 0 && stat(path, &now) == 0 && now.st_ino == segment->inode &&
           now.st_dev == segment->device && now.st_size >= offset - segment->base;
}
