/* SPDX-License-Identifier: Apache-2.0 */
/* decode_plan.h - the tree of keys that decode_simdjson.cc walks along; made by decode_plan.c.
 *
 *   paths  properties.price, properties.products.0.price
 *
 *   root ── "properties" ─┬─ "price" (leaf: price, rank 0)
 *                         └─ "products" ── "0" (index 0) ── "price" (leaf: price, rank 1)
 */
#ifndef GAIT_DECODE_PLAN_H
#define GAIT_DECODE_PLAN_H

#include "gait/decode.h"

enum { DECODE_PATH_DEPTH = 16, DECODE_NODE_KEYS = 128, DECODE_NODE_SLOTS = 256, DECODE_NODE_LEAVES = 8 };

struct decode_leaf {
    uint8_t field, rank; /* a smaller rank wins */
};

struct decode_node;

struct decode_key {
    uint64_t head, tail; /* the first and the last eight bytes; of a shorter key all, with zeros behind */
    uint32_t len;
    int32_t index;       /* the key as an array index, -1 = it is none */
    char *text;
    struct decode_node *node;
};

struct decode_node {
    uint32_t leaves_n, keys_n;
    int32_t index_max;   /* the largest array index asked for, -1 = none */
    struct decode_leaf leaves[DECODE_NODE_LEAVES];
    uint8_t slots[DECODE_NODE_SLOTS]; /* hash table: 1 + place in keys, 0 = empty; linear probing */
    struct decode_key keys[DECODE_NODE_KEYS];
};

struct decode_plan {
    struct decode_node root;
    uint8_t ranks[DECODE_FIELDS]; /* paths added so far */
};

/* Reads eight bytes whatever `len` is: the text must lie in a buffer with room behind it. */
static inline uint64_t decode_key_head(const char *text, uint32_t len)
{
    uint64_t head;
    memcpy(&head, text, sizeof head);
    return len >= 8 ? head : head & ((UINT64_C(1) << (8 * len)) - 1);
}

static inline uint64_t decode_key_tail(const char *text, uint32_t len)
{
    return len >= 8 ? decode_key_head(text + len - 8, 8) : decode_key_head(text, len);
}

static inline uint32_t decode_key_slot(uint64_t head, uint32_t len)
{
    return (uint32_t)(((head ^ len) * UINT64_C(0x9E3779B97F4A7C15)) >> 56);
}

/* NULL when nobody asks for what is under this key. */
static inline const struct decode_key *decode_node_find(const struct decode_node *node, const char *text, uint32_t len)
{
    uint64_t head = decode_key_head(text, len);
    for (uint32_t slot = decode_key_slot(head, len); node->slots[slot]; slot = (slot + 1) % DECODE_NODE_SLOTS) {
        const struct decode_key *key = &node->keys[node->slots[slot] - 1];
        if (key->head != head || key->len != len || key->tail != decode_key_tail(text, len))
            continue;
        if (len <= 16 || memcmp(key->text + 8, text + 8, len - 16) == 0)
            return key;
    }
    return NULL;
}

#endif
