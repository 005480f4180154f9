// SPDX-License-Identifier: Apache-2.0
// part_file.c - see part_file.h.
#include "part_file.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

FILE *part_file_open(struct part_file *f, const char *path, struct error *err)
{
    f->path = path;
    f->out = NULL;
    if (snprintf(f->part, sizeof f->part, "%s.part", path) >= (int)sizeof f->part)
        error_set(err, "the path is too long");
    else if (!(f->out = fopen(f->part, "we")))
        error_set(err, "cannot write %s: %s", f->part, strerror(errno));
    return f->out;
}

int part_file_close(struct part_file *f, struct error *err)
{
    bool failed = ferror(f->out) != 0;
    if (fclose(f->out) == 0 && !failed && rename(f->part, f->path) == 0)
        return 0;
    error_set(err, "cannot write %s: %s", f->path, strerror(errno));
    unlink(f->part);
    return -1;
}
