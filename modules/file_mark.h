/* SPDX-License-Identifier: Apache-2.0 */
/* file_mark.h - tells whether a watched file is another one than before, without reading it. */
#ifndef GAIT_FILE_MARK_H
#define GAIT_FILE_MARK_H

#include <stdbool.h>
#include <sys/stat.h>

/* Zeroed: no file. */
struct file_mark {
    struct timespec changed;
    off_t size;
    ino_t inode;
};

/* False when there is no file to look at, as for a moment while it is being replaced. */
static inline bool file_mark_take(struct file_mark *mark, const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return false;
    *mark = (struct file_mark){.changed = st.st_mtim, .size = st.st_size, .inode = st.st_ino};
    return true;
}

static inline bool file_mark_same(const struct file_mark *a, const struct file_mark *b)
{
    return a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec && a->size == b->size &&
           a->inode == b->inode;
}

/* True when the file is another one than when `seen` was taken; `seen` is then renewed. */
static inline bool file_mark_renewed(struct file_mark *seen, const char *path)
{
    struct file_mark now;
    if (!file_mark_take(&now, path) || file_mark_same(&now, seen))
        return false;
    *seen = now;
    return true;
}

#endif
