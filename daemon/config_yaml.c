// SPDX-License-Identifier: Apache-2.0
// config_yaml.c - first step of reading a configuration: libyaml's events become a tree. Depth and size are bounded, so
// that a hostile file costs little. What YAML can do beyond maps, lists and scalars (anchors, tags, several documents)
// is refused by name instead of being half supported.
#include "config_yaml.h"

#include <assert.h>
#include <string.h>
#include <yaml.h>

struct reader {
    yaml_parser_t parser;
    const char *text;
    size_t len, nodes;
    struct arena *memory;
    struct config_errors *errors;
};

/* ---- mistakes of syntax ------------------------------------------------------------------------------------------ */

/* libyaml says what it stumbled over; people want to know what they probably did. */
static const struct {
    const char *problem, *hint;
} hints[] = {
    {"mapping values are not allowed", "a value with ': ' in it wants quotes; or the line is indented too far"},
    {"did not find expected key", "look at the indentation of this line and of the one before"},
    {"did not find expected '-'", "look at the indentation of this list"},
    {"did not find expected ',' or ']'", "a list in [ ] is not closed, or lacks a comma"},
    {"did not find expected ',' or '}'", "a map in { } is not closed, or lacks a comma"},
    {"could not find expected ':'", "a key wants ': ' behind it"},
    {"cannot start any token", "a value that begins with this character wants quotes"},
    {"unexpected end of stream", "a quote is not closed"},
    {"unknown escape character", "in double quotes a \\ begins an escape; write \\\\ or use single quotes"},
};

static const char *line_start(const struct reader *r, int line)
{
    const char *at = r->text, *end = r->text + r->len;
    for (int i = 1; i < line && at < end; i++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        at = newline ? newline + 1 : end;
    }
    return at;
}

static bool indented_by_tab(const struct reader *r, int line)
{
    for (const char *at = line_start(r, line); at < r->text + r->len; at++) {
        if (*at == '\t')
            return true;
        if (*at != ' ' && *at != '-')
            break;
    }
    return false;
}

static void report_bytes(struct reader *r)
{
    size_t offset = r->parser.problem_offset < r->len ? r->parser.problem_offset : r->len;
    int line = 1, column = 1;
    for (size_t i = 0; i < offset; i++) {
        column = r->text[i] == '\n' ? 1 : column + 1;
        line += r->text[i] == '\n';
    }
    if (r->parser.problem_value >= 0)
        config_errors_add(r->errors, line, column, "this is not a text: %s (0x%02X)", r->parser.problem,
                          (unsigned)r->parser.problem_value);
    else
        config_errors_add(r->errors, line, column, "this is not a text: %s", r->parser.problem);
}

static void report_syntax(struct reader *r)
{
    const yaml_parser_t *p = &r->parser;
    assert(p->error != YAML_MEMORY_ERROR && p->error != YAML_NO_ERROR);
    if (p->error == YAML_READER_ERROR) {
        report_bytes(r);
        return;
    }
    int line = (int)p->problem_mark.line + 1, column = (int)p->problem_mark.column + 1;
    if (indented_by_tab(r, line)) {
        config_errors_add(r->errors, line, column, "not YAML: a tab indents this line; use spaces");
        return;
    }
    const char *hint = NULL;
    for (size_t i = 0; i < sizeof hints / sizeof *hints && !hint; i++)
        if (strstr(p->problem, hints[i].problem))
            hint = hints[i].hint;
    char where[160] = "";
    if (p->context)
        snprintf(where, sizeof where, ", %s that begins in line %zu", p->context, p->context_mark.line + 1);
    config_errors_add(r->errors, line, column, "not YAML: %s%s%s%s", p->problem, where, hint ? ": " : "",
                      hint ? hint : "");
}

static bool next_event(struct reader *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event))
        return true;
    report_syntax(r);
    return false;
}

/* ---- the tree ---------------------------------------------------------------------------------------------------- */

static void *take_zeroed(struct reader *r, size_t bytes)
{
    void *at = arena_take(r->memory, bytes);
    assert(at); /* the file's size and the number of nodes are bounded */
    return memset(at, 0, bytes);
}

static void refuse_extras(struct reader *r, const struct node *node, const yaml_char_t *anchor, const yaml_char_t *tag)
{
    if (anchor)
        config_errors_add(r->errors, node->line, node->column,
                          "anchors (&%.40s) are not supported; write the value out where it is needed",
                          (const char *)anchor);
    if (tag)
        config_errors_add(r->errors, node->line, node->column,
                          "tags (%.40s) are not supported; a value that begins with '!' wants quotes",
                          (const char *)tag);
}

static void read_scalar(struct reader *r, struct node *node, const yaml_event_t *event)
{
    const char *value = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    refuse_extras(r, node, event->data.scalar.anchor, event->data.scalar.tag);
    if (memchr(value, 0, len))
        config_errors_add(r->errors, node->line, node->column, "a value must not contain a NUL character");
    node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    node->text = arena_copy(r->memory, value, len);
    assert(node->text);
}

static struct node *read_node(struct reader *r, yaml_event_t *event, int depth);

static void append(struct reader *r, struct node *parent, struct node **last, struct node *child)
{
    if (child->key && node_find(parent, child->key->text)) {
        config_errors_add(r->errors, child->key->line, child->key->column, "'%.60s' is set twice; first in line %d",
                          child->key->text, node_find(parent, child->key->text)->key->line);
        return;
    }
    *(*last ? &(*last)->next : &parent->children) = child;
    *last = child;
    parent->n++;
}

/* The nodes up to `end`; in a map each second one is a value and the one before it its key. */
static bool read_children(struct reader *r, struct node *parent, yaml_event_type_t end, int depth)
{
    struct node *last = NULL;
    for (;;) {
        yaml_event_t event;
        if (!next_event(r, &event))
            return false;
        if (event.type == end) {
            yaml_event_delete(&event);
            return true;
        }
        struct node *key = NULL, *child = read_node(r, &event, depth + 1);
        if (child && parent->kind == NODE_MAP) {
            key = child;
            if (!next_event(r, &event))
                return false;
            child = read_node(r, &event, depth + 1);
        }
        if (!child)
            return false;
        child->key = key;
        if (key && key->kind != NODE_SCALAR)
            config_errors_add(r->errors, key->line, key->column, "a key must be a text, not a list or a map");
        else
            append(r, parent, &last, child);
    }
}

/* Takes the event over. NULL after a mistake that ends the reading. */
static struct node *read_node(struct reader *r, yaml_event_t *event, int depth)
{
    struct node *node = take_zeroed(r, sizeof *node);
    bool ok = true;
    node->line = (int)event->start_mark.line + 1;
    node->column = (int)event->start_mark.column + 1;
    if (++r->nodes > YAML_NODES_MAX || depth > YAML_DEPTH_MAX) {
        config_errors_add(r->errors, node->line, node->column, depth > YAML_DEPTH_MAX ?
                          "nested deeper than %d levels" : "more than %d values; this is no configuration of gaitd",
                          depth > YAML_DEPTH_MAX ? YAML_DEPTH_MAX : YAML_NODES_MAX);
        ok = false;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        node->kind = NODE_LIST;
        refuse_extras(r, node, event->data.sequence_start.anchor, event->data.sequence_start.tag);
        ok = read_children(r, node, YAML_SEQUENCE_END_EVENT, depth);
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        node->kind = NODE_MAP;
        refuse_extras(r, node, event->data.mapping_start.anchor, event->data.mapping_start.tag);
        ok = read_children(r, node, YAML_MAPPING_END_EVENT, depth);
    } else if (event->type == YAML_ALIAS_EVENT) {
        config_errors_add(r->errors, node->line, node->column, "aliases (*%.40s) are not supported; write the value "
                          "out, or put a text that begins with '*' in quotes", (const char *)event->data.alias.anchor);
        node->text = "";
    } else {
        assert(event->type == YAML_SCALAR_EVENT);
        read_scalar(r, node, event);
    }
    yaml_event_delete(event);
    return ok ? node : NULL;
}

static struct node *read_stream(struct reader *r)
{
    struct node *root = NULL;
    for (bool done = false; !done;) {
        yaml_event_t event;
        if (!next_event(r, &event))
            return NULL;
        switch (event.type) {
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_END_EVENT:
            break;
        case YAML_DOCUMENT_START_EVENT:
            if (root) {
                config_errors_add(r->errors, (int)event.start_mark.line + 1, 1,
                                  "a second document begins here ('---'); one file is one configuration");
                done = true;
            }
            break;
        case YAML_STREAM_END_EVENT:
            if (!root)
                config_errors_add(r->errors, 0, 0, "the file is empty; at least source and store are needed");
            done = true;
            break;
        default:
            root = read_node(r, &event, 0);
            if (!root)
                return NULL;
            continue; /* read_node has deleted the event */
        }
        yaml_event_delete(&event);
    }
    return root;
}

struct node *yaml_tree(struct arena *memory, const char *text, size_t len, struct config_errors *errors)
{
    struct reader r = {.text = text, .len = len, .memory = memory, .errors = errors};
    int ok = yaml_parser_initialize(&r.parser);
    assert(ok);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    struct node *root = read_stream(&r);
    yaml_parser_delete(&r.parser);
    return root;
}

bool node_is_null(const struct node *node)
{
    if (node->kind != NODE_SCALAR || node->quoted)
        return false;
    static const char *const nothing[] = {"", "~", "null", "Null", "NULL"};
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing; i++)
        if (strcmp(node->text, nothing[i]) == 0)
            return true;
    return false;
}

const struct node *node_find(const struct node *map, const char *key)
{
    for (const struct node *child = map->children; child; child = child->next)
        if (strcmp(child->key->text, key) == 0)
            return child;
    return NULL;
}
