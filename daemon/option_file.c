// SPDX-License-Identifier: Apache-2.0
// option_file.c - further files of settings that a module reads itself, such as the presets of decode_json: the same
// rows, the same checks and the same words as in the configuration.
#include "config_value.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static char *read_whole(const char *path, size_t *len, struct error *err)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        error_set(err, "%s: cannot be opened: %s", path, strerror(errno));
        return NULL;
    }
    char *text = malloc(CONFIG_BYTES_MAX);
    assert(text);
    *len = fread(text, 1, CONFIG_BYTES_MAX, file);
    bool failed = ferror(file), whole = !failed && feof(file);
    if (!whole) {
        if (failed)
            error_set(err, "%s: cannot be read: %s", path, strerror(errno));
        else
            error_set(err, "%s: more than %d KB; this is no file of settings", path, CONFIG_BYTES_MAX >> 10);
        free(text);
        text = NULL;
    }
    fclose(file);
    return text;
}

int option_file(const char *path, const struct option *rows, void *conf, struct arena *memory, struct error *err)
{
    size_t len;
    char *text = read_whole(path, &len, err);
    if (!text)
        return -1;
    struct config_errors *errors = calloc(1, sizeof *errors);
    assert(errors);
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    struct value_reader reader = {.memory = memory, .errors = errors, .where = name};
    reader.folder = arena_copy(memory, path, slash ? (size_t)(slash - path) + 1 : 0);
    struct node *root = yaml_tree(memory, text, len, errors);
    if (root && root->kind != NODE_MAP)
        config_errors_add(errors, root->line, root->column, "is not a map of settings");
    else if (root)
        config_values(&reader, rows, root, conf);
    int rc = 0;
    if (errors->n > 0)
        rc = error_set(err, "%s:%d:%d: %s", path, errors->at[0].line, errors->at[0].column, errors->at[0].text);
    free(errors);
    free(text);
    return rc;
}
