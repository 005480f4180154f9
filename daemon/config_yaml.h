/* SPDX-License-Identifier: Apache-2.0 */
/* config_yaml.h - a YAML text as a tree of nodes that know their line and column. */
#ifndef GAIT_CONFIG_YAML_H
#define GAIT_CONFIG_YAML_H

#include "config.h"

enum { YAML_DEPTH_MAX = 16, YAML_NODES_MAX = 10000 };

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct node {
    enum node_kind kind;
    int line, column;      /* from 1 */
    bool quoted;           /* scalar: was in quotes or a block, so "" and "null" are texts */
    const char *text;      /* scalar: NUL-terminated, without further NULs */
    const struct node *key; /* of a map's child */
    struct node *children; /* list and map, in file order */
    struct node *next;     /* sibling */
    size_t n;              /* children */
};

/* NULL after a mistake that makes the rest meaningless; lesser ones (a key twice, an anchor) are added to `errors` and
 * the tree goes on. The tree lives in `memory`. */
struct node *yaml_tree(struct arena *memory, const char *text, size_t len, struct config_errors *errors);

bool node_is_null(const struct node *node); /* nothing, ~ or null, unquoted */
const struct node *node_find(const struct node *map, const char *key); /* NULL when it is not there */

#endif
