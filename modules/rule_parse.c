// SPDX-License-Identifier: Apache-2.0
// rule_parse.c - a rules file to a rule set. All or nothing: the first mistake ends it, with file, line and column.
//
//   actions: {review: 5, block: 10}       least sum of weights for each band
//   quiet: 10m                            after an alert, none that says no more for this long
//   lists: {office: [203.0.113.7]}
//   rules:
//     - name: purchases_5m
//       on: purchase                      event type or several; left out: every event
//       when: count.purchase.5m >= 5      or a list of conditions that must all hold
//       weight: 4
//       text: "{value} purchases within 5 minutes"
//       shadow: true                      counted only
#include "rule_parts.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { FILE_BYTES_MAX = 4 << 20, MEMORY_FIRST = 16384, MEMORY_MOST = 64 << 20, NAME_MAX_BYTES = 64 };

struct parse {
    struct instance *in;
    const char *path;
    yaml_document_t document;
    struct rule_set *set;
    struct error *err;
};

static int fail_at(struct parse *p, const yaml_node_t *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail_at(struct parse *p, const yaml_node_t *node, const char *format, ...)
{
    char text[640];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return error_set(p->err, "%s:%zu:%zu: %s", p->path, node->start_mark.line + 1, node->start_mark.column + 1, text);
}

/* ---- nodes ---------------------------------------------------------------------------------------------------- */

static yaml_node_t *node_of(struct parse *p, int id)
{
    return yaml_document_get_node(&p->document, id);
}

static const char *scalar(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : NULL;
}

static char *keep(struct parse *p, const char *text)
{
    char *copy = arena_copy(p->set->memory, text, strlen(text));
    assert(copy); /* the file is far smaller than the arena's limit */
    return copy;
}

/* Call `each` for every key of a map; it says what is wrong itself. */
typedef int map_entry(struct parse *p, const yaml_node_t *key, const yaml_node_t *value, void *to);

static int for_map(struct parse *p, const yaml_node_t *map, const char *what, map_entry *each, void *to)
{
    if (map->type != YAML_MAPPING_NODE)
        return fail_at(p, map, "%s must be a map", what);
    for (yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = node_of(p, pair->key), *value = node_of(p, pair->value);
        if (!scalar(key))
            return fail_at(p, key, "a key of %s must be a word", what);
        for (yaml_node_pair_t *before = map->data.mapping.pairs.start; before < pair; before++)
            if (strcmp(scalar(node_of(p, before->key)), scalar(key)) == 0)
                return fail_at(p, key, "'%s' stands there twice", scalar(key));
        if (each(p, key, value, to) < 0)
            return -1;
    }
    return 0;
}

/* Call `each` for every entry of a list, or for the one scalar that stands for a list of one. */
typedef int list_entry(struct parse *p, const yaml_node_t *entry, void *to);

static int for_list(struct parse *p, const yaml_node_t *list, const char *what, list_entry *each, void *to)
{
    if (scalar(list))
        return each(p, list, to);
    if (list->type != YAML_SEQUENCE_NODE)
        return fail_at(p, list, "%s must be a list", what);
    for (yaml_node_item_t *item = list->data.sequence.items.start; item < list->data.sequence.items.top; item++)
        if (each(p, node_of(p, *item), to) < 0)
            return -1;
    return 0;
}

static int read_number(struct parse *p, const yaml_node_t *node, const char *what, double *out)
{
    const char *text = scalar(node);
    char *end = NULL;
    errno = 0;
    *out = text ? strtod(text, &end) : 0;
    if (!text || end == text || *end || errno == ERANGE || !isfinite(*out))
        return fail_at(p, node, "%s must be a number, not '%s'", what, text ? text : "a list or map");
    return 0;
}

static int read_duration(struct parse *p, const yaml_node_t *node, const char *what, int64_t *ms)
{
    static const struct { const char *unit; double ms; } units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
    };
    const char *text = scalar(node);
    char *end = NULL;
    double number = text ? strtod(text, &end) : 0;
    for (size_t i = 0; text && end != text && i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(end, units[i].unit) == 0 && number >= 0 && number * units[i].ms <= 366.0 * 86400000) {
            *ms = llround(number * units[i].ms);
            return 0;
        }
    }
    return fail_at(p, node, "%s must be a duration such as 30s, 10m or 1h, at most 366d, not '%s'", what,
                   text ? text : "a list or map");
}

static int read_bool(struct parse *p, const yaml_node_t *node, const char *what, bool *out)
{
    const char *text = scalar(node);
    if (!text || (strcmp(text, "true") != 0 && strcmp(text, "false") != 0))
        return fail_at(p, node, "%s must be true or false", what);
    *out = strcmp(text, "true") == 0;
    return 0;
}

static int read_name(struct parse *p, const yaml_node_t *node, const char *what, const char **out)
{
    const char *text = scalar(node);
    size_t len = text ? strlen(text) : 0;
    size_t good = text ? strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") : 0;
    if (len == 0 || len > NAME_MAX_BYTES || good != len)
        return fail_at(p, node, "%s must be a word of letters, digits, '_', '.', '-', at most %d of them", what,
                       NAME_MAX_BYTES);
    *out = keep(p, text);
    return 0;
}

/* ---- actions and lists ---------------------------------------------------------------------------------------- */

static int read_band(struct parse *p, const yaml_node_t *key, const yaml_node_t *value, void *to)
{
    struct rule_set *set = p->set;
    struct rule_band band = {0};
    (void)to;
    if (set->bands_n == RULE_BANDS_MAX)
        return fail_at(p, key, "more than %d actions", RULE_BANDS_MAX);
    if (read_name(p, key, "an action", &band.name) < 0 || read_number(p, value, "an action's score", &band.least) < 0)
        return -1;
    if (band.least <= 0)
        return fail_at(p, value, "action '%s' must begin above 0", band.name);
    uint32_t at = set->bands_n++;
    for (; at > 0 && set->bands[at - 1].least >= band.least; at--) {
        if (set->bands[at - 1].least == band.least)
            return fail_at(p, value, "actions '%s' and '%s' begin at the same score", set->bands[at - 1].name,
                           band.name);
        set->bands[at] = set->bands[at - 1];
    }
    set->bands[at] = band;
    return 0;
}

static int add_value(struct parse *p, const yaml_node_t *entry, void *to)
{
    const char *text = scalar(entry);
    if (!text || !*text)
        return fail_at(p, entry, "a list's entry must be a text that is not empty");
    rule_list_add(to, str_of(text));
    return 0;
}

static int read_list(struct parse *p, const yaml_node_t *key, const yaml_node_t *value, void *to)
{
    struct rule_set *set = p->set;
    (void)to;
    if (set->lists_n == RULE_LISTS_MAX)
        return fail_at(p, key, "more than %d lists", RULE_LISTS_MAX);
    struct rule_list *list = &set->lists[set->lists_n];
    if (read_name(p, key, "a list's name", &list->name) < 0)
        return -1;
    size_t n = value->type == YAML_SEQUENCE_NODE
                   ? (size_t)(value->data.sequence.items.top - value->data.sequence.items.start) : 1;
    uint64_t places = 8;
    while (places < 2 * n)
        places *= 2;
    list->places = arena_take(set->memory, places * sizeof *list->places);
    if (!list->places)
        return fail_at(p, value, "list '%s' is too long", list->name);
    memset(list->places, 0, places * sizeof *list->places);
    list->mask = places - 1;
    set->lists_n++;
    return for_list(p, value, "a list", add_value, list);
}

/* ---- rules ---------------------------------------------------------------------------------------------------- */

static int add_type(struct parse *p, const yaml_node_t *entry, void *to)
{
    struct rule *rule = to;
    const char *text = scalar(entry);
    int type = text ? event_type_find(p->in->types, str_of(text)) : -1;
    if (type < 0)
        return fail_at(p, entry, "on: '%s' is no event type; engine.event_types adds further ones", text ? text : "");
    rule->types |= UINT32_C(1) << type;
    return 0;
}

static int add_condition(struct parse *p, const yaml_node_t *entry, void *to)
{
    struct rule *rule = to;
    struct error err;
    const char *text = scalar(entry);
    if (!text)
        return fail_at(p, entry, "a condition must be a text such as count.purchase.5m >= 5");
    if (rule->conditions_n == RULE_CONDITIONS_MAX)
        return fail_at(p, entry, "more than %d conditions in one rule", RULE_CONDITIONS_MAX);
    struct rule_condition *condition = &rule->conditions[rule->conditions_n];
    if (rule_condition_parse(p->in, p->set, text, condition, &err) < 0)
        return fail_at(p, entry, "%s", err.text);
    if (rule->shown < 0 && condition->operator < RULE_IN)
        rule->shown = (int8_t)rule->conditions_n;
    rule->conditions_n++;
    return 0;
}

static int read_text(struct parse *p, const yaml_node_t *node, struct rule *rule)
{
    static const char *const known[] = {"{value}", "{threshold}", "{user}"};
    const char *text = scalar(node);
    if (!text)
        return fail_at(p, node, "text must be a text");
    for (const char *at = strchr(text, '{'); at; at = strchr(at + 1, '{')) {
        size_t i = 0;
        while (i < 3 && strncmp(at, known[i], strlen(known[i])) != 0)
            i++;
        if (i == 3)
            return fail_at(p, node, "text: '%.20s' is none of {value}, {threshold} and {user}", at);
    }
    rule->text = keep(p, text);
    return 0;
}

static int read_rule_key(struct parse *p, const yaml_node_t *key, const yaml_node_t *value, void *to)
{
    struct rule *rule = to;
    const char *name = scalar(key);
    if (strcmp(name, "name") == 0)
        return read_name(p, value, "name", &rule->name);
    if (strcmp(name, "on") == 0)
        return for_list(p, value, "on", add_type, rule);
    if (strcmp(name, "when") == 0)
        return for_list(p, value, "when", add_condition, rule);
    if (strcmp(name, "weight") == 0)
        return read_number(p, value, "weight", &rule->weight);
    if (strcmp(name, "text") == 0)
        return read_text(p, value, rule);
    if (strcmp(name, "shadow") == 0)
        return read_bool(p, value, "shadow", &rule->shadow);
    return fail_at(p, key, "a rule has no '%s'; it has name, on, when, weight, text and shadow", name);
}

static int read_rule(struct parse *p, const yaml_node_t *entry, void *to)
{
    struct rule_set *set = p->set;
    struct rule *rule = &set->rules[set->rules_n];
    (void)to;
    *rule = (struct rule){.weight = NAN, .shown = -1};
    if (for_map(p, entry, "a rule", read_rule_key, rule) < 0)
        return -1;
    if (!rule->name)
        return fail_at(p, entry, "a rule without a name");
    for (uint32_t i = 0; i < set->rules_n; i++)
        if (strcmp(set->rules[i].name, rule->name) == 0)
            return fail_at(p, entry, "a second rule '%s'", rule->name);
    if (rule->conditions_n == 0)
        return fail_at(p, entry, "rule '%s' has no condition: add `when: COLUMN >= NUMBER`", rule->name);
    if (isnan(rule->weight))
        return fail_at(p, entry, "rule '%s' has no weight", rule->name);
    if (!rule->text)
        rule->text = rule->name;
    if (rule->types == 0)
        rule->types = UINT32_MAX;
    set->rules_n++;
    return 0;
}

static int read_rules(struct parse *p, const yaml_node_t *list)
{
    if (list->type != YAML_SEQUENCE_NODE)
        return fail_at(p, list, "rules must be a list");
    size_t n = (size_t)(list->data.sequence.items.top - list->data.sequence.items.start);
    if (n > RULES_MAX)
        return fail_at(p, list, "%zu rules; at most %d are possible", n, RULES_MAX);
    p->set->rules = arena_take(p->set->memory, (n + 1) * sizeof *p->set->rules);
    assert(p->set->rules);
    return for_list(p, list, "rules", read_rule, NULL);
}

/* ---- the file ------------------------------------------------------------------------------------------------- */

/* Lists first, whatever the file's order: rules refer to them. */
static int read_lists_key(struct parse *p, const yaml_node_t *key, const yaml_node_t *value, void *to)
{
    return strcmp(scalar(key), "lists") == 0 ? for_map(p, value, "lists", read_list, to) : 0;
}

static int read_key(struct parse *p, const yaml_node_t *key, const yaml_node_t *value, void *to)
{
    const char *name = scalar(key);
    if (strcmp(name, "lists") == 0)
        return 0;
    if (strcmp(name, "actions") == 0)
        return for_map(p, value, "actions", read_band, to);
    if (strcmp(name, "quiet") == 0)
        return read_duration(p, value, "quiet", &p->set->quiet_ms);
    if (strcmp(name, "rules") == 0)
        return read_rules(p, value);
    return fail_at(p, key, "there is no '%s'; there are actions, quiet, lists and rules", name);
}

/* For each event type the rules that look at it, in the file's order. */
static void index_types(struct parse *p)
{
    struct rule_set *set = p->set;
    for (uint32_t type = 0; type < EVENT_TYPES_MAX; type++) {
        set->of_type[type] = arena_take(set->memory, (set->rules_n + 1) * sizeof *set->of_type[type]);
        assert(set->of_type[type]);
        for (uint32_t i = 0; i < set->rules_n; i++)
            if (set->rules[i].types & UINT32_C(1) << type)
                set->of_type[type][set->of_type_n[type]++] = (uint16_t)i;
    }
}

static int read_document(struct parse *p)
{
    const yaml_node_t *root = yaml_document_get_root_node(&p->document);
    if (!root)
        return error_set(p->err, "%s: is empty; it needs 'actions' and 'rules'", p->path);
    if (for_map(p, root, "the file", read_lists_key, NULL) < 0 || for_map(p, root, "the file", read_key, NULL) < 0)
        return -1;
    if (p->set->bands_n == 0)
        return error_set(p->err, "%s: 'actions' is missing, as in actions: {review: 5, block: 10}", p->path);
    if (!p->set->rules)
        return error_set(p->err, "%s: 'rules' is missing", p->path);
    index_types(p);
    return 0;
}

static int parse_text(struct parse *p, const char *text, size_t len)
{
    yaml_parser_t parser;
    int rc = -1;
    if (!yaml_parser_initialize(&parser))
        return error_set(p->err, "out of memory");
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    if (yaml_parser_load(&parser, &p->document)) {
        rc = read_document(p);
        yaml_document_delete(&p->document);
    } else {
        error_set(p->err, "%s:%zu:%zu: %s", p->path, parser.problem_mark.line + 1, parser.problem_mark.column + 1,
                  parser.problem ? parser.problem : "not YAML");
    }
    yaml_parser_delete(&parser);
    return rc;
}

static char *read_file(const char *path, size_t *len, struct error *err)
{
    FILE *file = fopen(path, "rb");
    char *text = file ? malloc(FILE_BYTES_MAX + 1) : NULL;
    *len = text ? fread(text, 1, FILE_BYTES_MAX + 1, file) : 0;
    if (!text || ferror(file) || *len > FILE_BYTES_MAX) {
        if (text && *len > FILE_BYTES_MAX)
            error_set(err, "%s: longer than %d bytes", path, FILE_BYTES_MAX);
        else
            error_set(err, "%s: cannot read it: %m", path);
        free(text);
        text = NULL;
    }
    if (file)
        fclose(file);
    return text;
}

struct rule_set *rule_set_load(struct instance *in, const char *path, struct error *err)
{
    size_t len;
    char *text = read_file(path, &len, err);
    if (!text)
        return NULL;
    struct rule_set *set = calloc(1, sizeof *set);
    assert(set);
    set->memory = arena_create(MEMORY_FIRST, MEMORY_MOST);
    set->hash = XXH3_64bits(text, len);
    struct parse parse = {.in = in, .path = path, .set = set, .err = err};
    if (parse_text(&parse, text, len) < 0)
        rule_set_destroy(&set);
    free(text);
    return set;
}

void rule_set_destroy(struct rule_set **set)
{
    if (!*set)
        return;
    arena_destroy(&(*set)->memory);
    free(*set);
    *set = NULL;
}
