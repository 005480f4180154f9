// SPDX-License-Identifier: Apache-2.0
// model_vocabulary.c - the names that a model knows, and the way from a name or its hash to an id. Everything is copied
// once when a model is made or loaded; the hot path only looks up.
#include "model_private.h"

#include "gait/window.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>

enum { NAME_BYTES_MAX = 4096 };

static int name_check(struct str name, size_t i, struct error *err)
{
    if (name.len == 0)
        return error_set(err, "name %zu of the vocabulary is empty", i);
    if (name.len > NAME_BYTES_MAX)
        return error_set(err, "name %zu of the vocabulary has %u bytes; at most %d are allowed", i, name.len,
                         NAME_BYTES_MAX);
    if (memchr(name.at, 0, name.len))
        return error_set(err, "name %zu of the vocabulary contains a NUL byte", i);
    return 0;
}

/* The first of two names with one hash is the one that is found by hash. -1 when the same name is there already. */
static int slot_add(struct model_vocabulary *v, uint32_t id)
{
    for (uint32_t at = v->hash[id] & v->mask;; at = (at + 1) & v->mask) {
        if (v->slot[at] == 0) {
            v->slot[at] = id + 1;
            return 0;
        }
        if (str_equal(v->name[v->slot[at] - 1], v->name[id]))
            return -1;
    }
}

static size_t names_bytes(const struct str *names, size_t n)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += names[i].len + 1;
    return bytes;
}

/* Quoted and escaped; each text is owned by itself, since nobody knows the length beforehand. */
static int json_make(struct model_vocabulary *v, size_t i, struct error *err)
{
    json_t *text = json_stringn(v->name[i].at, v->name[i].len);
    if (!text)
        return error_set(err, "name %zu of the vocabulary is not UTF-8", i);
    char *json = json_dumps(text, JSON_ENCODE_ANY);
    assert(json);
    json_decref(text);
    v->json[i] = str_of(json);
    return 0;
}

int model_vocabulary_init(struct model_vocabulary *v, const struct str *names, size_t n, struct error *err)
{
    *v = (struct model_vocabulary){0};
    if (n > MODEL_VOCABULARY_MAX)
        return error_set(err, "a vocabulary of %zu names; at most %d are allowed", n, MODEL_VOCABULARY_MAX);
    for (size_t i = 0; i < n; i++)
        if (name_check(names[i], i, err) < 0)
            return -1;
    size_t slots = 16;
    while (slots < 2 * n)
        slots *= 2;
    v->mask = (uint32_t)slots - 1;
    v->name = calloc(n + 1, sizeof *v->name);
    v->json = calloc(n + 1, sizeof *v->json);
    v->hash = calloc(n + 1, sizeof *v->hash);
    v->slot = calloc(slots, sizeof *v->slot);
    v->text = malloc(names_bytes(names, n) + 1);
    assert(v->name && v->json && v->hash && v->slot && v->text);
    char *text = v->text;
    for (uint32_t i = 0; i < n; i++) {
        memcpy(text, names[i].at, names[i].len);
        text[names[i].len] = 0;
        v->name[i] = (struct str){text, names[i].len};
        text += names[i].len + 1;
        v->hash[i] = window_hash32(v->name[i]);
        v->n = i + 1;
        if (json_make(v, i, err) < 0)
            goto fail;
        if (slot_add(v, i) < 0) {
            error_set(err, "the vocabulary has %s twice", v->json[i].at);
            goto fail;
        }
    }
    return 0;
fail:
    model_vocabulary_free(v);
    return -1;
}

void model_vocabulary_free(struct model_vocabulary *v)
{
    for (uint32_t i = 0; i < v->n; i++)
        free((void *)(uintptr_t)v->json[i].at);
    free(v->name);
    free(v->json);
    free(v->hash);
    free(v->slot);
    free(v->text);
    *v = (struct model_vocabulary){0};
}

int model_vocabulary_find(const struct model_vocabulary *v, uint32_t hash)
{
    if (hash == 0 || v->n == 0)
        return -1;
    for (uint32_t at = hash & v->mask; v->slot[at]; at = (at + 1) & v->mask)
        if (v->hash[v->slot[at] - 1] == hash)
            return (int)v->slot[at] - 1;
    return -1;
}

int model_vocabulary_find_name(const struct model_vocabulary *v, struct str name)
{
    if (name.len == 0 || v->n == 0)
        return -1;
    for (uint32_t at = window_hash32(name) & v->mask; v->slot[at]; at = (at + 1) & v->mask)
        if (str_equal(v->name[v->slot[at] - 1], name))
            return (int)v->slot[at] - 1;
    return -1;
}
