// SPDX-License-Identifier: Apache-2.0
// model_place.c - puts a model in the place where daemons look for it, and keeps the one before for a rollback.
#include "gait/model.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

char *model_path_with(const char *path, const char *suffix)
{
    char *text = malloc(strlen(path) + strlen(suffix) + 1);
    assert(text);
    sprintf(text, "%s%s", path, suffix);
    return text;
}

int model_link_over(const char *from, const char *to, struct error *err)
{
    char *temporary = model_path_with(to, ".new");
    unlink(temporary);
    bool ok = link(from, temporary) == 0 && rename(temporary, to) == 0;
    int result = ok ? 0 : error_set(err, "cannot keep %s as %s: %s", from, to, strerror(errno));
    unlink(temporary); /* also when both names were the same file already, which rename() leaves */
    free(temporary);
    return result;
}

int model_install(struct model *m, const char *path, struct error *err)
{
    struct model *before = model_load(path, NULL); /* a broken one is not worth keeping */
    char *previous = model_path_with(path, ".previous");
    int result = before ? model_link_over(path, previous, err) : 0;
    if (result == 0)
        result = model_save(m, path, err);
    free(previous);
    model_destroy(&before);
    return result;
}
