// SPDX-License-Identifier: Apache-2.0
// decode_plan.c - field paths from the configuration, compiled into the tree that the decoder walks along.
//
// Built once at opening, read-only after. The plan owns its nodes and their keys.
#include "decode_plan.h"

#include <assert.h>
#include <stdlib.h>

enum { PATH_BYTES_MAX = 1024, INDEX_DIGITS_MAX = 4 };

static void node_init(struct decode_node *node)
{
    memset(node, 0, sizeof *node);
    node->index_max = -1;
}

static void node_clear(struct decode_node *node)
{
    for (uint32_t i = 0; i < node->keys_n; i++) {
        node_clear(node->keys[i].node);
        free(node->keys[i].node);
        free(node->keys[i].text);
    }
}

struct decode_plan *decode_plan_create(void)
{
    struct decode_plan *plan = calloc(1, sizeof *plan);
    assert(plan);
    node_init(&plan->root);
    return plan;
}

void decode_plan_destroy(struct decode_plan **plan)
{
    if (!*plan)
        return;
    node_clear(&(*plan)->root);
    free(*plan);
    *plan = NULL;
}

static int32_t index_of(const char *text, uint32_t len)
{
    int32_t index = 0;
    if (len == 0 || len > INDEX_DIGITS_MAX || (len > 1 && text[0] == '0'))
        return -1;
    for (uint32_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        index = index * 10 + (text[i] - '0');
    }
    return index;
}

/* The node under this key, made when it is new; NULL when the node is full. `text` has room for eight bytes. */
static struct decode_node *node_child(struct decode_node *node, const char *text, uint32_t len)
{
    const struct decode_key *known = decode_node_find(node, text, len);
    if (known)
        return known->node;
    if (node->keys_n == DECODE_NODE_KEYS)
        return NULL;
    struct decode_key *key = &node->keys[node->keys_n++];
    key->head = decode_key_head(text, len);
    key->tail = decode_key_tail(text, len);
    key->len = len;
    key->index = index_of(text, len);
    key->text = malloc(len + 1);
    key->node = malloc(sizeof *key->node);
    assert(key->text && key->node);
    memcpy(key->text, text, len);
    key->text[len] = 0;
    node_init(key->node);
    if (key->index > node->index_max)
        node->index_max = key->index;
    uint32_t slot = decode_key_slot(key->head, len);
    while (node->slots[slot])
        slot = (slot + 1) % DECODE_NODE_SLOTS;
    node->slots[slot] = (uint8_t)node->keys_n;
    return key->node;
}

/* One key of the path into `key`, escapes undone; returns what follows its dot, NULL at the end of the path. */
static const char *next_key(const char *path, char *key, uint32_t *len)
{
    *len = 0;
    for (; *path && *path != '.'; path++) {
        if (*path == '\\' && path[1])
            path++;
        key[(*len)++] = *path;
    }
    return *path ? path + 1 : NULL;
}

int decode_plan_add(struct decode_plan *plan, enum decode_field field, const char *path, struct error *err)
{
    char key[PATH_BYTES_MAX + 8] = "";
    struct decode_node *node = &plan->root;
    if (strlen(path) > PATH_BYTES_MAX)
        return error_set(err, "a path of %zu bytes; at most %d are possible", strlen(path), PATH_BYTES_MAX);
    unsigned depth = 0;
    for (const char *rest = path; rest; depth++) {
        uint32_t len;
        rest = next_key(rest, key, &len);
        if (len == 0)
            return error_set(err, "'%s' has an empty key; a path is keys joined by dots, such as properties.price",
                             path);
        if (depth == DECODE_PATH_DEPTH)
            return error_set(err, "'%s' has more than %d keys", path, DECODE_PATH_DEPTH);
        node = node_child(node, key, len);
        if (!node)
            return error_set(err, "'%s': more than %d different keys beside each other", path, DECODE_NODE_KEYS);
    }
    if (node->leaves_n == DECODE_NODE_LEAVES)
        return error_set(err, "'%s' is used for more than %d fields", path, DECODE_NODE_LEAVES);
    if (plan->ranks[field] == UINT8_MAX)
        return error_set(err, "'%s': more than %d paths for one field", path, UINT8_MAX);
    node->leaves[node->leaves_n++] = (struct decode_leaf){(uint8_t)field, plan->ranks[field]++};
    return 0;
}
