// SPDX-License-Identifier: Apache-2.0
// decode_types.c - names of event types to ids, ours and those of foreign systems. Part of decode_json.
//
// A hash table with linear probing, at most half full; filled at opening, looked up once an event.
#include "decode_fields.h"

#include <assert.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

struct type_entry {
    char *name; /* NULL = empty */
    uint32_t len;
    int type;
};

struct decode_types {
    uint32_t n, cap; /* cap: a power of two */
    struct type_entry *at;
};

enum { TYPES_FIRST_CAP = 64 };

struct decode_types *decode_types_create(void)
{
    struct decode_types *types = calloc(1, sizeof *types);
    assert(types);
    types->cap = TYPES_FIRST_CAP;
    types->at = calloc(types->cap, sizeof *types->at);
    assert(types->at);
    return types;
}

void decode_types_destroy(struct decode_types **types)
{
    if (!*types)
        return;
    for (uint32_t i = 0; i < (*types)->cap; i++)
        free((*types)->at[i].name);
    free((*types)->at);
    free(*types);
    *types = NULL;
}

/* Where the name is, or where it would go. */
static struct type_entry *entry_of(const struct decode_types *types, struct str name)
{
    uint32_t at = (uint32_t)XXH3_64bits(name.at, name.len);
    for (;; at++) {
        struct type_entry *entry = &types->at[at & (types->cap - 1)];
        if (!entry->name || (entry->len == name.len && memcmp(entry->name, name.at, name.len) == 0))
            return entry;
    }
}

static void grow(struct decode_types *types)
{
    struct decode_types larger = {.n = types->n, .cap = types->cap * 2};
    larger.at = calloc(larger.cap, sizeof *larger.at);
    assert(larger.at);
    for (uint32_t i = 0; i < types->cap; i++)
        if (types->at[i].name)
            *entry_of(&larger, (struct str){types->at[i].name, types->at[i].len}) = types->at[i];
    free(types->at);
    *types = larger;
}

bool decode_types_add(struct decode_types *types, const char *name, int type)
{
    struct type_entry *entry = entry_of(types, str_of(name));
    if (entry->name)
        return entry->type == type;
    *entry = (struct type_entry){.name = strdup(name), .len = (uint32_t)strlen(name), .type = type};
    assert(entry->name);
    if (++types->n * 2 > types->cap)
        grow(types);
    return true;
}

int decode_types_find(const struct decode_types *types, struct str name)
{
    const struct type_entry *entry = entry_of(types, name);
    return entry->name ? entry->type : -1;
}
