// SPDX-License-Identifier: Apache-2.0
// config.c - last step of reading a configuration: sections become the engine's settings and the list of modules, in
// flow order. Whoever loads owns the config; it has to outlive the engine that is made from it.
#include "config.h"

#include "config_value.h"
#include "module.h"
#include "nearest.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MEMORY_BYTES_MAX = 1 << 29 };

/* What a stage may hold, and what is filled in when the file does not name it. */
static const struct stage_rule {
    bool required, several;
    const char *filled_in, *only_with; /* only_with: and the file has this section */
} stage_rules[STAGES] = {
    [STAGE_SOURCE] = {.required = true}, [STAGE_DECODE] = {.required = true, .filled_in = "json"},
    [STAGE_STORE] = {.required = true},  [STAGE_WINDOW] = {.filled_in = "rolling"},
    [STAGE_MODEL] = {0},                 [STAGE_SCORE] = {.filled_in = "interest", .only_with = "model"},
    [STAGE_RULE] = {0},                  [STAGE_SINK] = {.several = true},
};

struct loading {
    struct config *config;
    struct config_errors *errors;
    char *folder;
};

/* ---- errors ------------------------------------------------------------------------------------------------------ */

/* Texts quote the file, and terminals obey control characters, also those that UTF-8 writes as C2 80 to C2 9F. */
static void silence(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        if (*c == 0xC2 && c[1] >= 0x80 && c[1] < 0xA0)
            c[0] = c[1] = '?';
        else if (*c < ' ' || *c == 127)
            *c = '?';
    }
}

/* Kept in the order of the file; equal places in the order of finding. */
void config_errors_add(struct config_errors *errors, int line, int column, const char *format, ...)
{
    if (errors->n++ >= CONFIG_ERRORS_MAX)
        return;
    size_t i = errors->n - 1;
    for (; i > 0; i--) {
        const struct config_error *before = &errors->at[i - 1];
        if (before->line < line || (before->line == line && before->column <= column))
            break;
        errors->at[i] = *before;
    }
    struct config_error *e = &errors->at[i];
    e->line = line;
    e->column = column;
    va_list args;
    va_start(args, format);
    vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    silence(e->text);
}

void config_errors_print(const struct config_errors *errors, FILE *out)
{
    size_t kept = errors->n < CONFIG_ERRORS_MAX ? errors->n : CONFIG_ERRORS_MAX;
    for (size_t i = 0; i < kept; i++) {
        const struct config_error *e = &errors->at[i];
        if (e->line > 0)
            fprintf(out, "%s:%d:%d: %s\n", errors->name, e->line, e->column, e->text);
        else
            fprintf(out, "%s: %s\n", errors->name, e->text);
    }
    if (errors->n > kept)
        fprintf(out, "%s: %zu more\n", errors->name, errors->n - kept);
}

/* ---- modules ----------------------------------------------------------------------------------------------------- */

static void list_kinds(enum stage stage, char *text, size_t cap)
{
    *text = 0;
    for (size_t i = 0; modules[i]; i++) {
        size_t n = strlen(text);
        if (modules[i]->stage == stage)
            snprintf(text + n, cap - n, "%s%s", n ? ", " : "", module_kind(modules[i]));
    }
}

static size_t count_of(const struct config *config, const struct module *module)
{
    size_t n = 0;
    for (size_t i = 0; i < config->modules_n; i++)
        n += config->modules[i].module == module;
    return n;
}

static void add_module(struct loading *l, const struct module *module, const struct node *settings, int line,
                       int column)
{
    struct config *config = l->config;
    if (config->modules_n == CONFIG_MODULES_MAX) {
        config_errors_add(l->errors, line, column, "more than %d modules", CONFIG_MODULES_MAX);
        return;
    }
    size_t nth = count_of(config, module) + 1;
    char name[64];
    int n = snprintf(name, sizeof name, "%s.%s", stage_name(module->stage), module_kind(module));
    if (nth > 1)
        snprintf(name + n, sizeof name - (size_t)n, ".%zu", nth);
    struct config_module *cm = &config->modules[config->modules_n++];
    *cm = (struct config_module){.module = module, .line = line};
    cm->name = arena_copy(config->memory, name, strlen(name));
    cm->conf = calloc(1, module->conf_size ? module->conf_size : 1);
    assert(cm->name && cm->conf);
    struct value_reader r = {.memory = config->memory, .folder = l->folder, .errors = l->errors, .where = cm->name,
                             .line = line, .column = column};
    config_values(&r, module->options, settings, cm->conf);
}

static void read_module(struct loading *l, enum stage stage, const struct node *settings)
{
    const struct node *key = settings->key;
    const struct module *module = module_find(stage, key->text);
    if (!module) {
        char all[256];
        list_kinds(stage, all, sizeof all);
        const char *near = module_nearest(stage, key->text);
        config_errors_add(l->errors, key->line, key->column, near ? "there is no %s '%.60s'; did you mean '%s'?" :
                          "there is no %s '%.60s'; there are: %s", stage_name(stage), key->text, near ? near : all);
    } else if (settings->kind == NODE_LIST && !module->several) {
        config_errors_add(l->errors, settings->line, settings->column, "%s.%s: there can be one only, so it wants "
                          "settings (key: value), not a list", stage_name(stage), module_kind(module));
    } else if (settings->kind == NODE_LIST) {
        for (const struct node *item = settings->children; item; item = item->next)
            add_module(l, module, item, item->line, item->column);
    } else {
        add_module(l, module, settings, key->line, key->column);
    }
}

/* The module, if it is one that stands beside another. */
static const struct module *stands_beside(enum stage stage, const struct node *child)
{
    const struct module *module = module_find(stage, child->key->text);
    return module && module->beside ? module : NULL;
}

static void read_stage(struct loading *l, enum stage stage, const struct node *section)
{
    char all[256];
    list_kinds(stage, all, sizeof all);
    if (section->kind != NODE_MAP) {
        config_errors_add(l->errors, section->line, section->column, "%s wants a module by name and its settings, "
                          "as in '%s: {NAME: {…}}'; there are: %s", stage_name(stage), stage_name(stage), all);
        return;
    }
    if (section->n == 0)
        config_errors_add(l->errors, section->line, section->column, "%s names no module; there are: %s",
                          stage_name(stage), all);
    const struct node *first = NULL; /* that stands alone */
    for (const struct node *child = section->children; child; child = child->next) {
        if (stands_beside(stage, child))
            continue;
        if (first && !stage_rules[stage].several)
            config_errors_add(l->errors, child->key->line, child->key->column, "%s: there can be one only, and "
                              "'%.60s' in line %d is it", stage_name(stage), first->key->text, first->key->line);
        first = first ? first : child;
        read_module(l, stage, child);
    }
    for (const struct node *child = section->children; child; child = child->next) {
        const struct module *module = stands_beside(stage, child);
        if (module && (!first || strcmp(first->key->text, module->beside) != 0))
            config_errors_add(l->errors, child->key->line, child->key->column, "%s.%s stands beside %s.%s, which is "
                              "missing", stage_name(stage), module_kind(module), stage_name(stage), module->beside);
    }
}

/* What stands beside the modules of a stage is always there: with the file's settings, or with the defaults. */
static void add_beside(struct loading *l, enum stage stage, const struct node *section)
{
    size_t n = l->config->modules_n;
    const struct module *alone = n > 0 ? l->config->modules[n - 1].module : NULL;
    for (size_t i = 0; modules[i] && alone && alone->stage == stage; i++) {
        const struct module *m = modules[i];
        if (m->stage != stage || !m->beside || strcmp(m->beside, module_kind(alone)) != 0)
            continue;
        const struct node *named = section && section->kind == NODE_MAP ? node_find(section, module_kind(m)) : NULL;
        if (named)
            read_module(l, stage, named);
        else
            add_module(l, m, NULL, 0, 0);
    }
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static void report_unknown_section(struct loading *l, const struct node *key)
{
    struct nearest near = {0};
    for (int i = 0; i < STAGES; i++)
        nearest_try(&near, key->text, stage_name((enum stage)i));
    for (const struct config_section *s = config_sections; s->name; s++)
        nearest_try(&near, key->text, s->name);
    nearest_try(&near, key->text, "tests");
    if (near.word)
        config_errors_add(l->errors, key->line, key->column, "there is no section '%.60s'; did you mean '%s'?",
                          key->text, near.word);
    else
        config_errors_add(l->errors, key->line, key->column, "there is no section '%.60s'; there are: source, decode, "
                          "store, window, model, score, rule, sink, engine, log, metrics, admin, tests", key->text);
}

static void read_sections(struct loading *l, const struct node *root)
{
    for (const struct config_section *s = config_sections; s->name; s++) {
        const struct node *section = node_find(root, s->name);
        struct value_reader r = {.memory = l->config->memory, .folder = l->folder, .errors = l->errors,
                                 .where = s->name, .line = section ? section->key->line : 0};
        config_values(&r, s->options, section, (char *)l->config + s->offset);
    }
}

/* Here and not only in the engine, because here is the line. */
static void check_event_types(struct loading *l, const struct node *root)
{
    const struct node *engine = node_find(root, "engine");
    const struct node *node = engine && engine->kind == NODE_MAP ? node_find(engine, "event_types") : NULL;
    const struct option_strings *more = &l->config->engine.event_types;
    struct event_types types;
    struct error err;
    if (node && event_types_init(&types, more->at, more->n, &err) < 0)
        config_errors_add(l->errors, node->line, node->column, "engine.event_types: %s", err.text);
}

/* In flow order, whatever the file's order; sinks in the file's. What is missing is filled in or missed. */
static void read_stages(struct loading *l, const struct node *root)
{
    for (int i = 0; i < STAGES; i++) {
        enum stage stage = (enum stage)i;
        const struct stage_rule *rule = &stage_rules[i];
        const struct node *section = node_find(root, stage_name(stage));
        const struct module *filled_in = rule->filled_in ? module_find(stage, rule->filled_in) : NULL;
        char all[256];
        list_kinds(stage, all, sizeof all);
        if (section)
            read_stage(l, stage, section);
        else if (filled_in && (!rule->only_with || node_find(root, rule->only_with)))
            add_module(l, filled_in, NULL, 0, 0);
        else if (rule->required)
            config_errors_add(l->errors, 0, 0, "section '%s' is missing; it names one of: %s", stage_name(stage), all);
        add_beside(l, stage, section);
    }
}

static void read_root(struct loading *l, const struct node *root)
{
    if (root->kind != NODE_MAP) {
        config_errors_add(l->errors, root->line, root->column, node_is_null(root) ?
                          "the file holds no settings; at least source and store are needed" :
                          "a configuration is a map of sections: 'source:', 'store:', …");
        return;
    }
    for (const struct node *child = root->children; child; child = child->next) {
        bool known = stage_find(child->key->text) >= 0 || strcmp(child->key->text, "tests") == 0;
        for (const struct config_section *s = config_sections; s->name; s++)
            known |= strcmp(s->name, child->key->text) == 0;
        if (!known)
            report_unknown_section(l, child->key);
    }
    l->config->tests = node_find(root, "tests");
    read_sections(l, root);
    check_event_types(l, root);
    read_stages(l, root);
}

struct config *config_parse(const char *text, size_t len, const char *name, struct config_errors *errors)
{
    snprintf(errors->name, sizeof errors->name, "%s", name);
    struct config *config = calloc(1, sizeof *config);
    assert(config);
    config->memory = arena_create(1 << 16, MEMORY_BYTES_MAX);
    config->modules = calloc(CONFIG_MODULES_MAX, sizeof *config->modules);
    config->name = strdup(name);
    assert(config->modules && config->name);
    const char *slash = strrchr(name, '/');
    struct loading l = {config, errors, arena_copy(config->memory, name, slash ? (size_t)(slash - name) + 1 : 0)};
    size_t before = errors->n;
    if (len > CONFIG_BYTES_MAX) {
        config_errors_add(errors, 0, 0, "more than %d KB; this is no configuration of gaitd", CONFIG_BYTES_MAX >> 10);
    } else {
        struct node *root = yaml_tree(config->memory, text, len, errors);
        if (root)
            read_root(&l, root);
        assert(root || errors->n > before);
    }
    if (errors->n > before)
        config_destroy(&config);
    return config;
}

static char *read_file(const char *path, size_t *len, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || S_ISDIR(st.st_mode)) {
        error_set(err, "cannot be opened: %s", strerror(fd < 0 ? errno : EISDIR));
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    /* One byte more than allowed shows that it is too large, without reading 100 MB. */
    size_t cap = CONFIG_BYTES_MAX + 1;
    char *text = malloc(cap);
    assert(text);
    ssize_t got = 0;
    *len = 0;
    while (*len < cap && ((got = read(fd, text + *len, cap - *len)) > 0 || (got < 0 && errno == EINTR)))
        *len += got > 0 ? (size_t)got : 0;
    if (got < 0) {
        error_set(err, "cannot be read: %s", strerror(errno));
        free(text);
        text = NULL;
    }
    close(fd);
    return text;
}

struct config *config_load(const char *path, struct config_errors *errors)
{
    struct error err;
    size_t len;
    char *text = read_file(path, &len, &err);
    if (!text) {
        snprintf(errors->name, sizeof errors->name, "%s", path);
        config_errors_add(errors, 0, 0, "%s", err.text);
        return NULL;
    }
    struct config *config = config_parse(text, len, path, errors);
    explicit_bzero(text, len);
    free(text);
    return config;
}

void config_destroy(struct config **config)
{
    struct config *c = *config;
    if (!c)
        return;
    for (size_t i = 0; i < c->modules_n; i++)
        free(c->modules[i].conf);
    free(c->modules);
    free(c->name);
    arena_destroy(&c->memory);
    arena_destroy(&c->reloaded);
    free(c);
    *config = NULL;
}
