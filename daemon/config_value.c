// SPDX-License-Identifier: Apache-2.0
// config_value.c - second step of reading a configuration: an option row says how the node of its name becomes a member
// of a struct. Defaults go through the same code, so that the reference cannot promise what the parser refuses.
#include "config_value.h"

#include "nearest.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

enum { SECRET_BYTES_MAX = 64 << 10 };

const char *option_type_phrase(enum option_type type)
{
    static const char *const phrases[] = {
        [OPTION_BOOL] = "true or false",       [OPTION_INT] = "a whole number",
        [OPTION_REAL] = "a number",            [OPTION_STRING] = "a text",
        [OPTION_PATH] = "a path",              [OPTION_ENUM] = "one of several words",
        [OPTION_DURATION] = "a duration",      [OPTION_BYTES] = "a size in bytes",
        [OPTION_STRINGS] = "a list of texts",  [OPTION_PATHS] = "a list of paths",
        [OPTION_DURATIONS] = "a list of durations", [OPTION_MAP] = "a map of texts",
    };
    assert((size_t)type < sizeof phrases / sizeof *phrases);
    return phrases[type];
}

static bool fail(const struct value_reader *r, const struct option *o, const struct node *node, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static bool fail(const struct value_reader *r, const struct option *o, const struct node *node, const char *format, ...)
{
    struct error err;
    va_list args;
    va_start(args, format);
    vsnprintf(err.text, sizeof err.text, format, args);
    va_end(args);
    config_errors_add(r->errors, node->line, node->column, "%s.%s: %s", r->where, o->name, err.text);
    return false;
}

static void *take(const struct value_reader *r, size_t bytes)
{
    void *at = arena_take(r->memory, bytes ? bytes : 1);
    assert(at); /* bounded by the file's size */
    return memset(at, 0, bytes);
}

static const char *copy(const struct value_reader *r, const char *text)
{
    const char *at = arena_copy(r->memory, text, strlen(text));
    assert(at);
    return at;
}

/* The text of a scalar that holds something. NULL after saying that it is none. */
static const char *scalar(const struct value_reader *r, const struct option *o, const struct node *node)
{
    if (node_is_null(node))
        fail(r, o, node, "has no value; write %s, or leave the key out%s%s", option_type_phrase(o->type),
             o->initial ? " for the default " : "", o->initial ? o->initial : "");
    else if (node->kind != NODE_SCALAR)
        fail(r, o, node, "wants %s, not a %s", option_type_phrase(o->type), node->kind == NODE_MAP ? "map" :
             o->type >= OPTION_STRINGS ? "list in a list" : "list");
    else
        return node->text;
    return NULL;
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

const char *option_bound_text(const struct option *o, double bound, char text[VALUE_TEXT_MAX])
{
    if (o->type == OPTION_DURATION || o->type == OPTION_DURATIONS)
        value_duration_text((int64_t)bound, text);
    else if (o->type == OPTION_BYTES)
        value_bytes_text((int64_t)bound, text);
    else
        snprintf(text, VALUE_TEXT_MAX, "%.15g", bound);
    return text;
}

static bool within(const struct value_reader *r, const struct option *o, const struct node *node, double value)
{
    char text[VALUE_TEXT_MAX];
    bool bounded = o->min != 0 || o->max != 0, unsign = o->type != OPTION_INT && o->type != OPTION_REAL;
    if ((bounded && value < o->min) || (unsign && value < 0))
        return fail(r, o, node, "%s is too small; at least %s", node->text, option_bound_text(o, o->min, text));
    if (bounded && o->max >= o->min && value > o->max)
        return fail(r, o, node, "%s is too large; at most %s", node->text, option_bound_text(o, o->max, text));
    return true;
}

static bool read_int(const struct value_reader *r, const struct option *o, const struct node *node, int64_t *out)
{
    struct error err;
    const char *text = scalar(r, o, node);
    if (!text)
        return false;
    size_t n = strlen(o->name);
    bool plain_ms = n > 3 && strcmp(o->name + n - 3, "_ms") == 0;
    int64_t value;
    int rc = o->type == OPTION_INT ? value_int(text, &value, &err) :
             o->type == OPTION_BYTES ? value_bytes(text, &value, &err) : value_duration(text, plain_ms, &value, &err);
    if (rc < 0)
        return fail(r, o, node, "%s", err.text);
    if (!within(r, o, node, (double)value))
        return false;
    *out = value;
    return true;
}

static bool read_real(const struct value_reader *r, const struct option *o, const struct node *node, double *out)
{
    struct error err;
    const char *text = scalar(r, o, node);
    double value;
    if (!text)
        return false;
    if (value_real(text, &value, &err) < 0)
        return fail(r, o, node, "%s", err.text);
    if (!within(r, o, node, value))
        return false;
    *out = value;
    return true;
}

static bool read_bool(const struct value_reader *r, const struct option *o, const struct node *node, bool *out)
{
    struct error err;
    const char *text = scalar(r, o, node);
    if (!text)
        return false;
    return value_bool(text, out, &err) == 0 || fail(r, o, node, "%s", err.text);
}

static bool read_enum(const struct value_reader *r, const struct option *o, const struct node *node, int *out)
{
    const char *text = scalar(r, o, node);
    if (!text)
        return false;
    struct nearest near = {0};
    char all[256] = "";
    for (int i = 0; o->choices[i]; i++) {
        if (strcmp(text, o->choices[i]) == 0) {
            *out = i;
            return true;
        }
        nearest_try(&near, text, o->choices[i]);
        size_t n = strlen(all);
        snprintf(all + n, sizeof all - n, "%s%s", i ? ", " : "", o->choices[i]);
    }
    if (near.word)
        return fail(r, o, node, "'%.60s' is not known; did you mean '%s'? One of: %s", text, near.word, all);
    return fail(r, o, node, "'%.60s' is not known; one of: %s", text, all);
}

/* ---- texts ------------------------------------------------------------------------------------------------------- */

/* A relative path means: beside the configuration file. "-" is standard input or output to those who take it. */
static const char *resolve(const struct value_reader *r, const char *path)
{
    if (path[0] == '/' || strcmp(path, "-") == 0 || !r->folder[0])
        return copy(r, path);
    size_t a = strlen(r->folder), b = strlen(path);
    char *at = take(r, a + b + 1);
    memcpy(at, r->folder, a);
    memcpy(at + a, path, b);
    return at;
}

/* The file's content without its last newline. NULL with a text. */
static const char *read_secret_file(const struct value_reader *r, const char *path, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        error_set(err, "cannot open the secret's file %.300s: %s", path, strerror(errno));
        return NULL;
    }
    char text[SECRET_BYTES_MAX + 1];
    size_t n = 0;
    ssize_t got = 0;
    while (n < SECRET_BYTES_MAX && (got = read(fd, text + n, SECRET_BYTES_MAX - n)) > 0)
        n += (size_t)got;
    int problem = got < 0 ? errno : 0;
    close(fd);
    n -= n > 0 && text[n - 1] == '\n';
    text[n] = 0;
    if (problem)
        error_set(err, "cannot read the secret's file %.300s: %s", path, strerror(problem));
    else if (n == 0 || got > 0 || memchr(text, 0, n))
        error_set(err, "the secret's file %.300s %s", path,
                  n == 0 ? "is empty" : got > 0 ? "is larger than 64 KB" : "contains a NUL byte");
    else
        return copy(r, text);
    return NULL;
}

/* {file: PATH}, or {credential: NAME}: one that systemd's LoadCredential= has put up. */
static const char *read_secret(const struct value_reader *r, const struct option *o, const struct node *node)
{
    struct error err;
    const struct node *only = node->n == 1 ? node->children : NULL;
    if (!only || only->kind != NODE_SCALAR || !only->text[0] ||
        (strcmp(only->key->text, "file") != 0 && strcmp(only->key->text, "credential") != 0)) {
        fail(r, o, node, "wants a text, {file: PATH} or {credential: NAME}");
        return NULL;
    }
    const char *path = resolve(r, only->text);
    if (strcmp(only->key->text, "credential") == 0) {
        const char *folder = getenv("CREDENTIALS_DIRECTORY");
        if (!folder || strchr(only->text, '/')) {
            fail(r, o, only, folder ? "a credential's name has no '/'" :
                 "there are no credentials: the service manager has not set CREDENTIALS_DIRECTORY");
            return NULL;
        }
        struct value_reader there = *r;
        char *with_slash = take(r, strlen(folder) + 2);
        strcat(strcpy(with_slash, folder), "/");
        there.folder = with_slash;
        path = resolve(&there, only->text);
    }
    const char *text = read_secret_file(r, path, &err);
    if (!text)
        fail(r, o, only, "%s", err.text);
    return text;
}

static bool is_path(const struct option *o)
{
    return o->type == OPTION_PATH || o->type == OPTION_PATHS;
}

/* {instance} stands for the name of this one among several daemons that share a file (gaitd@NAME.service). NULL after
 * saying that nobody gave us a name, or a bad one. */
static const char *with_instance(const struct value_reader *r, const struct option *o, const struct node *node,
                                 const char *text)
{
    static const char mark[] = "{instance}";
    const char *name = getenv("GAIT_INSTANCE"), *found;
    size_t n = name ? strlen(name) : 0;
    if (strstr(text, mark) && (n == 0 || n > 64 || strchr(name, '/'))) {
        fail(r, o, node, "%s stands for the environment variable GAIT_INSTANCE, which %s", mark,
             n == 0 ? "is not set; gaitd@NAME.service sets it" : "must be at most 64 bytes without '/'");
        return NULL;
    }
    for (size_t from = 0; (found = strstr(text + from, mark)); from += n) {
        size_t before = (size_t)(found - text);
        char *made = take(r, before + n + strlen(found) + 1);
        memcpy(made, text, before);
        memcpy(made + before, name, n);
        strcpy(made + before + n, found + sizeof mark - 1);
        text = made;
        from = before;
    }
    return text;
}

/* NULL after saying why. */
static const char *read_text(const struct value_reader *r, const struct option *o, const struct node *node)
{
    if (node->kind == NODE_MAP && o->flags & OPTION_SECRET)
        return read_secret(r, o, node);
    const char *text = scalar(r, o, node);
    if (text && !(o->flags & OPTION_SECRET))
        text = with_instance(r, o, node, text);
    if (!text)
        return NULL;
    if (!text[0] && (is_path(o) || o->flags & OPTION_REQUIRED)) {
        fail(r, o, node, "must not be empty");
        return NULL;
    }
    return is_path(o) ? resolve(r, text) : copy(r, text);
}

static bool read_string(const struct value_reader *r, const struct option *o, const struct node *node, const char **out)
{
    const char *text = read_text(r, o, node);
    if (text)
        *out = text;
    return text;
}

/* ---- lists and maps ---------------------------------------------------------------------------------------------- */

static bool read_strings(const struct value_reader *r, const struct option *o, const struct node *node,
                         struct option_strings *out)
{
    const struct node *item = node->kind == NODE_LIST ? node->children : node;
    size_t n = node->kind == NODE_LIST ? node->n : 1, done = 0;
    const char **at = take(r, n * sizeof *at);
    for (size_t i = 0; i < n; i++, item = item->next) {
        at[done] = read_text(r, o, item);
        done += at[done] != NULL;
    }
    if (done < n)
        return false;
    if (n == 0 && o->flags & OPTION_REQUIRED)
        return fail(r, o, node, "must not be empty");
    *out = (struct option_strings){at, n};
    return true;
}

static bool read_durations(const struct value_reader *r, const struct option *o, const struct node *node,
                           struct option_durations *out)
{
    const struct node *item = node->kind == NODE_LIST ? node->children : node;
    size_t n = node->kind == NODE_LIST ? node->n : 1, done = 0;
    int64_t *at = take(r, n * sizeof *at);
    for (size_t i = 0; i < n; i++, item = item->next)
        done += read_int(r, o, item, &at[i]);
    if (done < n)
        return false;
    *out = (struct option_durations){at, n};
    return true;
}

static bool read_map(const struct value_reader *r, const struct option *o, const struct node *node,
                     struct option_map *out)
{
    if (node->kind != NODE_MAP)
        return fail(r, o, node, "wants a map (key: value), not %s",
                    node->kind == NODE_LIST ? "a list" : node_is_null(node) ? "nothing" : "a single value");
    struct option_map_entry *at = take(r, node->n * sizeof *at);
    bool ok = true;
    size_t i = 0;
    for (const struct node *child = node->children; child; child = child->next, i++) {
        at[i] = (struct option_map_entry){.key = copy(r, child->key->text), .line = child->key->line,
                                          .column = child->key->column};
        if (child->kind == NODE_LIST && child->n == 0)
            ok = fail(r, o, child, "'%.60s' has an empty list", at[i].key);
        else if (node_is_null(child))
            ok = fail(r, o, child, "'%.60s' has no value", at[i].key);
        else
            ok &= read_strings(r, o, child, &at[i].values);
    }
    if (ok)
        *out = (struct option_map){at, i};
    return ok;
}

/* ---- a table of rows --------------------------------------------------------------------------------------------- */

static bool read_value(const struct value_reader *r, const struct option *o, const struct node *node, void *conf)
{
    void *member = (char *)conf + o->offset;
    if (node_is_null(node) && !o->initial && !(o->flags & OPTION_REQUIRED))
        return true; /* "not set", said aloud */
    switch (o->type) {
    case OPTION_BOOL:      return read_bool(r, o, node, member);
    case OPTION_REAL:      return read_real(r, o, node, member);
    case OPTION_ENUM:      return read_enum(r, o, node, member);
    case OPTION_INT:
    case OPTION_DURATION:
    case OPTION_BYTES:     return read_int(r, o, node, member);
    case OPTION_STRING:
    case OPTION_PATH:      return read_string(r, o, node, member);
    case OPTION_STRINGS:
    case OPTION_PATHS:     return read_strings(r, o, node, member);
    case OPTION_DURATIONS: return read_durations(r, o, node, member);
    case OPTION_MAP:       return read_map(r, o, node, member);
    }
    assert(!"unknown option type");
    return false;
}

/* Scalars are taken as they stand ("gait:" is no map); lists and maps are written as in the file. A row whose default
 * its own parser refuses is a bug. */
static void set_default(const struct value_reader *r, const struct option *o, void *conf)
{
    struct node plain = {.kind = NODE_SCALAR, .quoted = true, .text = o->initial};
    const struct node *node = &plain;
    if (o->type >= OPTION_STRINGS)
        node = yaml_tree(r->memory, o->initial, strlen(o->initial), r->errors);
    size_t before = r->errors->n;
    bool ok = node && read_value(r, o, node, conf);
    assert(ok && r->errors->n == before);
}

static void report_unknown(const struct value_reader *r, const struct option *options, const struct node *child)
{
    struct nearest near = {0};
    char all[300] = "";
    for (const struct option *o = options; o && o->name; o++) {
        nearest_try(&near, child->key->text, o->name);
        size_t n = strlen(all);
        snprintf(all + n, sizeof all - n, "%s%s", n ? ", " : "", o->name);
    }
    if (near.word)
        config_errors_add(r->errors, child->key->line, child->key->column,
                          "%s: there is no setting '%.60s'; did you mean '%s'?", r->where, child->key->text, near.word);
    else
        config_errors_add(r->errors, child->key->line, child->key->column,
                          all[0] ? "%s: there is no setting '%.60s'; there are: %s" :
                          "%s: there is no setting '%.60s'; it has none%s", r->where, child->key->text, all);
}

static const struct option *find_row(const struct option *options, const char *name)
{
    for (const struct option *o = options; o && o->name; o++)
        if (strcmp(o->name, name) == 0)
            return o;
    return NULL;
}

void config_values(const struct value_reader *r, const struct option *options, const struct node *map, void *conf)
{
    for (const struct option *o = options; o && o->name; o++) {
        if (o->initial)
            set_default(r, o, conf);
        if (o->flags & OPTION_REQUIRED && !(map && map->kind == NODE_MAP && node_find(map, o->name)))
            config_errors_add(r->errors, r->line, r->column, "%s.%s is missing: %.300s", r->where, o->name, o->help);
    }
    if (!map || node_is_null(map))
        return;
    if (map->kind != NODE_MAP) {
        config_errors_add(r->errors, map->line, map->column, "%s wants settings (key: value), not %s", r->where,
                          map->kind == NODE_LIST ? "a list" : "a single value");
        return;
    }
    for (const struct node *child = map->children; child; child = child->next) {
        const struct option *o = find_row(options, child->key->text);
        if (o)
            read_value(r, o, child, conf);
        else
            report_unknown(r, options, child);
    }
}
