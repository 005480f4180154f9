// SPDX-License-Identifier: Apache-2.0
// model_write.c - a model into a safetensors file: written beside the target, flushed to disk, then renamed over it, so
// that a reader sees the old file or the new one and a full disk leaves the old one alone.
#include "model_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FLOAT_DIGITS = 9, HEADER_ALIGN = 8 };

static void metadata_put(json_t *metadata, const char *key, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(FLOAT_DIGITS));
    assert(text);
    json_object_set_new(metadata, key, json_string(text));
    free(text);
}

static json_t *names_json(const struct model_vocabulary *v)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < v->n; i++)
        json_array_append_new(list, json_stringn(v->name[i].at, v->name[i].len));
    return list;
}

/* A head over the same names as an embedding shares the embedding's vocabulary. */
static const char *head_vocabulary(json_t *vocabularies, const struct model_head *head, char *own, size_t cap)
{
    json_t *names = names_json(&head->vocabulary);
    if (json_equal(names, json_object_get(vocabularies, head->target))) {
        json_decref(names);
        return head->target;
    }
    snprintf(own, cap, "head.%s", head->name);
    json_object_set_new(vocabularies, own, names);
    return own;
}

static json_t *lists_json(const struct model *m, json_t *metadata)
{
    json_t *vocabularies = json_object(), *embeddings = json_array(), *features = json_array(), *heads = json_array();
    for (uint32_t i = 0; i < m->embeddings_n; i++) {
        const struct model_embedding *e = &m->embeddings[i];
        const char *field = model_field_name(e->field);
        json_object_set_new(vocabularies, field, names_json(&e->vocabulary));
        json_array_append_new(embeddings, json_pack("{s:s,s:i,s:s}", "field", field, "width", (int)e->width,
                                                    "vocabulary", field));
    }
    for (uint32_t i = 0; i < m->features_n; i++) {
        const struct model_feature *f = &m->features[i];
        json_array_append_new(features, json_pack("{s:s,s:s,s:f,s:f,s:f}", "column", f->column, "transform",
                                                  model_transform_name(f->transform), "mean", (double)f->mean, "scale",
                                                  (double)f->scale, "clip", (double)f->clip));
    }
    for (uint32_t i = 0; i < m->heads_n; i++) {
        const struct model_head *h = &m->heads[i];
        char own[MODEL_NAME_MAX + 8];
        json_t *head = json_pack("{s:s,s:s,s:s}", "name", h->name, "kind", model_head_kind_name(h->kind), "target",
                                 h->target);
        if (h->kind == MODEL_SOFTMAX)
            json_object_set_new(head, "vocabulary", json_string(head_vocabulary(vocabularies, h, own, sizeof own)));
        json_array_append_new(heads, head);
    }
    metadata_put(metadata, "embeddings", embeddings);
    metadata_put(metadata, "features", features);
    metadata_put(metadata, "heads", heads);
    json_decref(embeddings);
    json_decref(features);
    json_decref(heads);
    return vocabularies;
}

json_t *model_metadata(const struct model *m)
{
    char number[24];
    json_t *metadata = json_object();
    json_object_set_new(metadata, "gait_version", json_string("1"));
    json_object_set_new(metadata, "format", json_string("pt"));
    json_object_set_new(metadata, "id", json_string(m->id_text));
    json_t *vocabularies = lists_json(m, metadata);
    metadata_put(metadata, "vocabularies", vocabularies);
    json_decref(vocabularies);
    snprintf(number, sizeof number, "%" PRId64, m->intent_horizon_ms);
    json_object_set_new(metadata, "intent_horizon_ms", json_string(number));
    if (m->training)
        json_object_set_new(metadata, "training", json_string(m->training));
    if (m->metrics)
        json_object_set_new(metadata, "metrics", json_string(m->metrics));
    return metadata;
}

/* The header's text, padded so that the tensors begin aligned; owned by the caller. */
static char *header_text(const struct model *m, const struct model_tensor *tensors, uint32_t n, uint64_t *length)
{
    json_t *header = json_object();
    uint64_t at = 0;
    json_object_set_new(header, "__metadata__", model_metadata(m));
    for (uint32_t i = 0; i < n; i++) {
        const struct model_tensor *t = &tensors[i];
        uint64_t bytes = model_tensor_floats(t) * sizeof(float);
        json_t *shape = json_array();
        for (uint32_t d = 0; d < t->dims; d++)
            json_array_append_new(shape, json_integer((json_int_t)t->shape[d]));
        json_object_set_new(header, t->name, json_pack("{s:s,s:o,s:[I,I]}", "dtype", "F32", "shape", shape,
                                                       "data_offsets", (json_int_t)at, (json_int_t)(at + bytes)));
        at += bytes;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    assert(text);
    json_decref(header);
    size_t used = strlen(text);
    *length = (used + HEADER_ALIGN - 1) / HEADER_ALIGN * HEADER_ALIGN;
    text = realloc(text, *length + 1);
    assert(text);
    memset(text + used, ' ', *length - used);
    return text;
}

bool model_write_all(int fd, const void *from, size_t n)
{
    for (const char *p = from; n > 0;) {
        ssize_t put = write(fd, p, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        p += put;
        n -= (size_t)put;
    }
    return true;
}

static bool write_model(int fd, const void *what)
{
    const struct model *m = what;
    struct model_tensor tensors[MODEL_TENSORS_MAX];
    uint32_t n = model_tensors(m, tensors);
    uint64_t length;
    char *header = header_text(m, tensors, n, &length);
    bool ok = model_write_all(fd, &length, sizeof length) && model_write_all(fd, header, length);
    free(header);
    for (uint32_t i = 0; i < n && ok; i++)
        ok = model_write_all(fd, tensors[i].at, model_tensor_floats(&tensors[i]) * sizeof(float));
    return ok;
}

/* A rename is on the disk only when its folder is. */
static bool sync_folder(const char *path)
{
    char *copy = strdup(path);
    assert(copy);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* mkstemp's file is its owner's alone; a model is readable by those whom the umask lets. */
static bool give_mode(int fd)
{
    mode_t mask = umask(022);
    umask(mask);
    return fchmod(fd, 0666 & ~mask) == 0;
}

int model_file_replace(const char *path, bool (*write)(int fd, const void *what), const void *what, struct error *err)
{
    char *temporary = malloc(strlen(path) + sizeof ".XXXXXX");
    assert(temporary);
    sprintf(temporary, "%s.XXXXXX", path);
    int fd = mkostemp(temporary, O_CLOEXEC), result = 0;
    if (fd < 0) {
        result = error_set(err, "cannot create a file beside it: %s", strerror(errno));
        free(temporary);
        return result;
    }
    bool ok = write(fd, what) && give_mode(fd) && fsync(fd) == 0;
    if (!ok)
        result = error_set(err, "cannot write %s: %s", temporary, strerror(errno));
    if (close(fd) < 0 && ok) {
        ok = false;
        result = error_set(err, "cannot write %s: %s", temporary, strerror(errno));
    }
    if (ok && (rename(temporary, path) < 0 || !sync_folder(path))) {
        ok = false;
        result = error_set(err, "cannot put it in its place: %s", strerror(errno));
    }
    if (!ok)
        unlink(temporary);
    free(temporary);
    return result;
}

int model_save(struct model *m, const char *path, struct error *err)
{
    if (model_seal(m, err) < 0 || model_file_replace(path, write_model, m, err) < 0)
        return error_prefix(err, "model %s", path);
    return 0;
}
