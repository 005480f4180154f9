// SPDX-License-Identifier: Apache-2.0
// model_read.c - a model from a safetensors file. The file is not trusted: every length, type, shape and offset is
// checked before it is used, and what the file lacks or has too much of is said by name.
//
//   u64 length of the header | header (JSON) | tensors, one after the other without holes
#include "model_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_BYTES_MAX = 100 << 20 };
static const int64_t file_bytes_max = (int64_t)16 << 30;

struct reader {
    int fd;
    uint64_t data_at, data_bytes;
    json_t *header;       /* owns all below */
    json_t *metadata;
    json_t *vocabularies; /* parsed from the metadata's text; owned */
    struct model *model;
};

/* ---- small steps through JSON ----------------------------------------------------------------------------------- */

static const char *metadata_text(const struct reader *r, const char *key)
{
    return json_string_value(json_object_get(r->metadata, key));
}

/* The JSON inside a metadata string, of the wanted type; NULL with a text. The caller owns it. */
static json_t *metadata_json(const struct reader *r, const char *key, json_type type, const char *type_name,
                             struct error *err)
{
    const char *text = metadata_text(r, key);
    if (!text) {
        error_set(err, "the metadata lacks '%s'", key);
        return NULL;
    }
    json_error_t where;
    json_t *value = json_loads(text, JSON_REJECT_DUPLICATES, &where);
    if (value && json_typeof(value) == type)
        return value;
    error_set(err, "the metadata's '%s' is not a JSON %s%s%s", key, type_name, value ? "" : ": ",
              value ? "" : where.text);
    json_decref(value);
    return NULL;
}

static const char *member_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static float member_number(const json_t *object, const char *key, float missing)
{
    const json_t *value = json_object_get(object, key);
    return value ? (json_is_number(value) ? (float)json_number_value(value) : NAN) : missing;
}

/* Names of the vocabulary called `name`, to be freed by the caller; they point into the JSON. */
static struct str *vocabulary_names(const struct reader *r, const char *name, size_t *n, struct error *err)
{
    const json_t *list = json_object_get(r->vocabularies, name);
    if (!json_is_array(list)) {
        error_set(err, "the metadata has no vocabulary '%.80s'", name);
        return NULL;
    }
    *n = json_array_size(list);
    struct str *names = calloc(*n + 1, sizeof *names);
    assert(names);
    for (size_t i = 0; i < *n; i++) {
        const json_t *text = json_array_get(list, i);
        if (!json_is_string(text)) {
            error_set(err, "vocabulary '%.80s': entry %zu is not a string", name, i);
            free(names);
            return NULL;
        }
        names[i] = (struct str){json_string_value(text), (uint32_t)json_string_length(text)};
    }
    return names;
}

/* Before memory is taken for what the metadata describes: a short file must not ask for much. */
static int check_room(const struct reader *r, uint64_t rows, uint64_t columns, struct error *err)
{
    if (rows * columns * sizeof(float) <= r->data_bytes)
        return 0;
    return error_set(err, "%" PRIu64 " × %" PRIu64 " weights are more than the file's %" PRIu64 " bytes of data: it is "
                     "cut short", rows, columns, r->data_bytes);
}

/* ---- metadata to lists ------------------------------------------------------------------------------------------ */

static int read_embedding(struct reader *r, const json_t *entry, struct error *err)
{
    const char *field = member_text(entry, "field");
    json_int_t width = json_integer_value(json_object_get(entry, "width"));
    int known = model_field_find(field);
    if (known < 0)
        return error_set(err, "embedding of '%.80s': no such event field; type, category, item, country, campaign, "
                         "page and currency are", field);
    if (width < 1 || width > MODEL_WIDTH_MAX)
        return error_set(err, "embedding %s: 'width' has to be a number from 1 to %d", field, MODEL_WIDTH_MAX);
    size_t n;
    struct str *names = vocabulary_names(r, member_text(entry, "vocabulary"), &n, err);
    if (!names)
        return error_prefix(err, "embedding %s", field);
    int result = check_room(r, n + 1, (uint64_t)width, err);
    if (result == 0)
        result = model_add_embedding(r->model, (enum model_field)known, (uint32_t)width, names, n, err);
    else
        error_prefix(err, "embedding %s", field);
    free(names);
    return result;
}

static int read_feature(struct reader *r, const json_t *entry, struct error *err)
{
    const char *column = member_text(entry, "column"), *transform = member_text(entry, "transform");
    int known = *transform ? model_transform_find(transform) : MODEL_LINEAR;
    if (known < 0)
        return error_set(err, "feature %.80s: transform '%.80s' is not known; linear and log1p are", column, transform);
    struct model_feature feature = {
        .column = (char *)(uintptr_t)column, /* copied by model_add_feature */
        .transform = (enum model_transform)known,
        .mean = member_number(entry, "mean", 0),
        .scale = member_number(entry, "scale", 1),
        .clip = member_number(entry, "clip", 10),
    };
    return model_add_feature(r->model, &feature, err);
}

static int read_head(struct reader *r, const json_t *entry, struct error *err)
{
    const char *name = member_text(entry, "name"), *kind = member_text(entry, "kind");
    int known = model_head_kind_find(kind);
    if (known < 0)
        return error_set(err, "head %.80s: kind '%.80s' is not known; softmax and sigmoid are", name, kind);
    size_t n = 0;
    struct str *names = NULL;
    if (known == MODEL_SOFTMAX && !(names = vocabulary_names(r, member_text(entry, "vocabulary"), &n, err)))
        return error_prefix(err, "head %.80s", name);
    int result = check_room(r, n, model_hidden(r->model), err);
    if (result == 0)
        result = model_add_head(r->model, name, (enum model_head_kind)known, member_text(entry, "target"), names, n,
                                err);
    else
        error_prefix(err, "head %.80s", name);
    free(names);
    return result;
}

static int read_list(struct reader *r, const char *key, int (*read)(struct reader *, const json_t *, struct error *),
                     struct error *err)
{
    json_t *list = metadata_json(r, key, JSON_ARRAY, "array", err);
    int result = list ? 0 : -1;
    for (size_t i = 0; i < json_array_size(list) && result == 0; i++)
        result = read(r, json_array_get(list, i), err);
    json_decref(list);
    return result;
}

/* As many layers as there are lstm.weight_hh_lN [4·H × H]; H is read off, the rest is checked against it later. */
static int read_layers(struct reader *r, struct error *err)
{
    for (unsigned i = 0;; i++) {
        char name[32];
        snprintf(name, sizeof name, "lstm.weight_hh_l%u", i);
        const json_t *tensor = json_object_get(r->header, name);
        if (!tensor && i > 0)
            return 0;
        if (!tensor)
            return error_set(err, "tensor %s is missing", name);
        json_int_t hidden = json_integer_value(json_array_get(json_object_get(tensor, "shape"), 1));
        if (hidden < 1 || hidden > MODEL_WIDTH_MAX)
            return error_set(err, "tensor %s: its shape has to be [4·H, H] with H from 1 to %d", name, MODEL_WIDTH_MAX);
        uint32_t input = i ? model_hidden(r->model) : r->model->input;
        if (check_room(r, 4 * (uint64_t)hidden, (uint64_t)hidden + input, err) < 0)
            return error_prefix(err, "tensor %s", name);
        if (model_add_layer(r->model, (uint32_t)hidden, err) < 0)
            return -1;
    }
}

static int read_horizon(struct reader *r, struct error *err)
{
    const char *text = metadata_text(r, "intent_horizon_ms");
    if (!text)
        return r->model->intent < 0 ? 0 : error_set(err, "the metadata lacks 'intent_horizon_ms'; the head %s needs it",
                                                    r->model->heads[r->model->intent].name);
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || *end || end == text || value < 0)
        return error_set(err, "the metadata's 'intent_horizon_ms' is '%.40s'; milliseconds as a whole number are right",
                         text);
    r->model->intent_horizon_ms = value;
    return 0;
}

static int read_note(struct reader *r, const char *key, char **note, struct error *err)
{
    if (!metadata_text(r, key))
        return 0;
    json_t *object = metadata_json(r, key, JSON_OBJECT, "object", err);
    if (!object)
        return -1;
    json_decref(object);
    *note = strdup(metadata_text(r, key));
    assert(*note);
    return 0;
}

static int read_metadata(struct reader *r, struct error *err)
{
    r->metadata = json_object_get(r->header, "__metadata__");
    if (!json_is_object(r->metadata))
        return error_set(err, "the header has no object '__metadata__': not a model of gait's");
    const char *version = metadata_text(r, "gait_version");
    if (!version)
        return error_set(err, "the metadata lacks 'gait_version': not a model of gait's");
    if (strcmp(version, "1") != 0)
        return error_set(err, "format version '%.40s' is not known; this program reads version 1", version);
    r->vocabularies = metadata_json(r, "vocabularies", JSON_OBJECT, "object", err);
    if (!r->vocabularies)
        return -1;
    if (read_list(r, "embeddings", read_embedding, err) < 0 || read_list(r, "features", read_feature, err) < 0 ||
        read_layers(r, err) < 0 || read_list(r, "heads", read_head, err) < 0)
        return -1;
    if (read_horizon(r, err) < 0 || read_note(r, "training", &r->model->training, err) < 0)
        return -1;
    return read_note(r, "metrics", &r->model->metrics, err);
}

/* ---- tensors ---------------------------------------------------------------------------------------------------- */

struct span {
    uint64_t from, to;
    const char *name;
};

static int span_order(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    return x->from < y->from ? -1 : x->from > y->from ? 1 : x->to < y->to ? -1 : x->to > y->to;
}

static int check_shape(const json_t *entry, const struct model_tensor *t, struct error *err)
{
    const char *dtype = member_text(entry, "dtype");
    if (strcmp(dtype, "F32") != 0)
        return error_set(err, "tensor %s: its type is '%.20s'; F32 is right", t->name, dtype);
    const json_t *shape = json_object_get(entry, "shape");
    bool right = json_is_array(shape) && json_array_size(shape) == t->dims;
    for (uint32_t i = 0; i < t->dims && right; i++) {
        const json_t *size = json_array_get(shape, i);
        right = json_is_integer(size) && json_integer_value(size) == (json_int_t)t->shape[i];
    }
    if (right)
        return 0;
    char *text = shape ? json_dumps(shape, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if (t->dims == 2)
        error_set(err, "tensor %s: its shape is %.60s; [%zu,%zu] is right", t->name, text ? text : "missing",
                  t->shape[0], t->shape[1]);
    else
        error_set(err, "tensor %s: its shape is %.60s; [%zu] is right", t->name, text ? text : "missing", t->shape[0]);
    free(text);
    return -1;
}

static int check_tensor(const struct reader *r, const struct model_tensor *t, struct span *span, struct error *err)
{
    const json_t *entry = json_object_get(r->header, t->name);
    if (!json_is_object(entry))
        return error_set(err, "tensor %s is missing", t->name);
    if (check_shape(entry, t, err) < 0)
        return -1;
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    uint64_t bytes = model_tensor_floats(t) * sizeof(float);
    if (json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to) ||
        json_integer_value(from) < 0 || json_integer_value(to) < json_integer_value(from))
        return error_set(err, "tensor %s: 'data_offsets' has to be [from, to]", t->name);
    *span = (struct span){(uint64_t)json_integer_value(from), (uint64_t)json_integer_value(to), t->name};
    if (span->to - span->from != bytes)
        return error_set(err, "tensor %s: its offsets span %" PRIu64 " bytes; its shape needs %" PRIu64, t->name,
                         span->to - span->from, bytes);
    if (span->to > r->data_bytes)
        return error_set(err,
                         "tensor %s ends at byte %" PRIu64 " of the data; the file has %" PRIu64 ": it is cut short",
                         t->name, span->to, r->data_bytes);
    return 0;
}

/* No overlap, no hole, nothing behind. */
static int check_spans(const struct reader *r, struct span *spans, uint32_t n, struct error *err)
{
    uint64_t at = 0;
    qsort(spans, n, sizeof *spans, span_order);
    for (uint32_t i = 0; i < n; at = spans[i++].to)
        if (spans[i].from != at)
            return error_set(err,
                             "tensor %s begins at byte %" PRIu64 " of the data; the one before it ends at %" PRIu64,
                             spans[i].name, spans[i].from, at);
    if (at != r->data_bytes)
        return error_set(err, "%" PRIu64 " bytes follow the last tensor", r->data_bytes - at);
    return 0;
}

static int check_unknown(const struct reader *r, const struct model_tensor *tensors, uint32_t n, struct error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach(r->header, name, value) {
        bool known = strcmp(name, "__metadata__") == 0;
        for (uint32_t i = 0; i < n && !known; i++)
            known = strcmp(name, tensors[i].name) == 0;
        if (!known)
            return error_set(err, "tensor %.80s is not part of the model that the metadata describes", name);
    }
    return 0;
}

static int read_bytes(int fd, void *to, size_t n, uint64_t at)
{
    for (char *p = to; n > 0;) {
        ssize_t got = pread(fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = EIO; /* shorter than a moment ago */
        if (got <= 0)
            return -1;
        p += got;
        n -= (size_t)got;
        at += (uint64_t)got;
    }
    return 0;
}

static int read_tensors(struct reader *r, struct error *err)
{
    struct model_tensor tensors[MODEL_TENSORS_MAX];
    struct span spans[MODEL_TENSORS_MAX], sorted[MODEL_TENSORS_MAX];
    uint32_t n = model_tensors(r->model, tensors);
    for (uint32_t i = 0; i < n; i++) {
        if (check_tensor(r, &tensors[i], &spans[i], err) < 0)
            return -1;
        sorted[i] = spans[i];
    }
    if (check_unknown(r, tensors, n, err) < 0 || check_spans(r, sorted, n, err) < 0)
        return -1;
    for (uint32_t i = 0; i < n; i++)
        if (read_bytes(r->fd, tensors[i].at, model_tensor_floats(&tensors[i]) * sizeof(float),
                       r->data_at + spans[i].from) < 0)
            return error_set(err, "cannot read tensor %s: %s", tensors[i].name, strerror(errno));
    return 0;
}

/* ---- the file --------------------------------------------------------------------------------------------------- */

static int read_header(struct reader *r, struct error *err)
{
    struct stat st;
    uint64_t length;
    if (fstat(r->fd, &st) < 0)
        return error_set(err, "cannot look at it: %s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return error_set(err, "not a regular file");
    if (st.st_size > file_bytes_max)
        return error_set(err, "%lld bytes are more than any model has", (long long)st.st_size);
    if (st.st_size < (off_t)sizeof length)
        return error_set(err, "%lld bytes: too short for a safetensors file", (long long)st.st_size);
    if (read_bytes(r->fd, &length, sizeof length, 0) < 0)
        return error_set(err, "cannot read it: %s", strerror(errno));
    if (length > HEADER_BYTES_MAX || length < 2)
        return error_set(err, "a header of %" PRIu64 " bytes; 2 to %d are possible: not a safetensors file", length,
                         HEADER_BYTES_MAX);
    if (length > (uint64_t)st.st_size - sizeof length)
        return error_set(err, "the header says %" PRIu64 " bytes; the file has %lld: it is cut short", length,
                         (long long)st.st_size);
    char *text = malloc(length);
    assert(text);
    json_error_t where = {.text = ""};
    int got = read_bytes(r->fd, text, length, sizeof length);
    r->header = got < 0 ? NULL : json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
    free(text);
    if (got < 0)
        return error_set(err, "cannot read the header: %s", strerror(errno));
    if (!json_is_object(r->header))
        return error_set(err, "the header is not a JSON object%s%s", r->header ? "" : ": ",
                         r->header ? "" : where.text);
    r->data_at = sizeof length + length;
    r->data_bytes = (uint64_t)st.st_size - r->data_at;
    return 0;
}

static int check_id(const struct reader *r, struct error *err)
{
    const char *id = metadata_text(r, "id"); /* files that other programs wrote have none */
    if (id && strcmp(id, r->model->id_text) != 0)
        return error_set(err, "the content's id is %s, the file says %.40s: it was changed or damaged",
                         r->model->id_text, id);
    return 0;
}

struct model *model_load_fd(int fd, struct error *err)
{
    struct reader r = {.fd = fd, .model = model_create()};
    int result = read_header(&r, err);
    if (result == 0)
        result = read_metadata(&r, err);
    if (result == 0)
        result = read_tensors(&r, err);
    if (result == 0)
        result = model_seal(r.model, err);
    if (result == 0)
        result = check_id(&r, err);
    if (result < 0)
        model_destroy(&r.model);
    json_decref(r.header);
    json_decref(r.vocabularies);
    return r.model;
}

struct model *model_load(const char *path, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct model *m = NULL;
    if (fd < 0)
        error_set(err, "cannot open it: %s", strerror(errno));
    else
        m = model_load_fd(fd, err);
    if (!m)
        error_prefix(err, "model %s", path);
    if (fd >= 0)
        close(fd);
    return m;
}
