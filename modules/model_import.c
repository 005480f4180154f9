// SPDX-License-Identifier: Apache-2.0
// model_import.c - a model out of another tool's weights. Its tensors are copied under our names, in our gate order and
// orientation, into a model file in memory, which model_read.c then reads with all its checks.
#include "model_foreign.h"
#include "model_private.h"

#include "gait/model_exchange.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

const char *const model_source_names[] = {"pytorch", "keras", "onnx", NULL};

struct import {
    enum model_source source;
    json_t *meta;            /* the members of our metadata as JSON, and where the tensors are */
    struct foreign from, to; /* to: under our names */
    bool ours;               /* an ONNX file that gait wrote */
};

/* ---- layers ----------------------------------------------------------------------------------------------------- */

static int copy(struct import *im, const char *to, const struct foreign_tensor *t, struct error *err)
{
    struct foreign_tensor *copied = foreign_add(&im->to, to, t->dims, t->shape, err);
    if (!copied)
        return -1;
    memcpy(copied->at, t->at, foreign_size(t->dims, t->shape) * sizeof *t->at);
    return 0;
}

static int copy_transposed(struct import *im, const char *to, const struct foreign_tensor *t, struct error *err)
{
    size_t shape[] = {t->shape[1], t->shape[0]};
    assert(t->dims == 2);
    struct foreign_tensor *copied = foreign_add(&im->to, to, 2, shape, err);
    if (!copied)
        return -1;
    for (size_t i = 0; i < shape[0]; i++)
        for (size_t j = 0; j < shape[1]; j++)
            copied->at[i * shape[1] + j] = t->at[j * shape[0] + i];
    return 0;
}

static const char *const layer_parts[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};

/* All layers of one torch.nn.LSTM: PREFIX.weight_ih_l0, _l1 … Without biases they are zero. */
static int pytorch_lstm(struct import *im, const char *prefix, uint32_t *layers, struct error *err)
{
    for (uint32_t own = 0;; own++, ++*layers) {
        char name[FOREIGN_NAME_MAX + 32], to[64];
        snprintf(name, sizeof name, "%.200s.weight_hh_l%u", prefix, own);
        const struct foreign_tensor *hh = foreign_find(&im->from, name);
        if (!hh && own > 0)
            return 0;
        if (!hh || hh->dims != 2)
            return error_set(err, "there is no tensor %s of two dimensions", name);
        size_t rows = hh->shape[0];
        snprintf(name, sizeof name, "%.200s.weight_hr_l%u", prefix, own);
        if (foreign_find(&im->from, name))
            return error_set(err, "%s: a projected LSTM is not possible here", name);
        snprintf(name, sizeof name, "%.200s.weight_hh_l%u_reverse", prefix, own);
        if (foreign_find(&im->from, name))
            return error_set(err, "%s: a bidirectional LSTM is not possible here: it looks into the future", name);
        for (int i = 0; i < 4; i++) {
            snprintf(name, sizeof name, "%.200s.%s_l%u", prefix, layer_parts[i], own);
            snprintf(to, sizeof to, "lstm.%s_l%u", layer_parts[i], *layers);
            const struct foreign_tensor *t = foreign_find(&im->from, name);
            if (!t && i < 2)
                return error_set(err, "there is no tensor %s", name);
            if (t ? copy(im, to, t, err) < 0 : !foreign_add(&im->to, to, 1, &rows, err))
                return -1;
        }
    }
}

/* PREFIX + NAME, or the one that ends in ":0" as older files have it. */
static const struct foreign_tensor *keras_find(const struct import *im, const char *prefix, const char *name)
{
    char full[FOREIGN_NAME_MAX + 64];
    snprintf(full, sizeof full, "%.200s%s", prefix, name);
    const struct foreign_tensor *t = foreign_find(&im->from, full);
    snprintf(full, sizeof full, "%.200s%s:0", prefix, name);
    return t ? t : foreign_find(&im->from, full);
}

/* Gates i f c o are i f g o by another name: only the orientation differs, and there is one bias instead of two. */
static int keras_lstm(struct import *im, const char *prefix, uint32_t *layers, struct error *err)
{
    const struct foreign_tensor *kernel = keras_find(im, prefix, "kernel"), *bias = keras_find(im, prefix, "bias");
    const struct foreign_tensor *recurrent = keras_find(im, prefix, "recurrent_kernel");
    if (!kernel || !recurrent || kernel->dims != 2 || recurrent->dims != 2)
        return error_set(err, "there are no %.80skernel and %.80srecurrent_kernel of two dimensions", prefix, prefix);
    size_t rows = recurrent->shape[1];
    if (rows != 4 * recurrent->shape[0])
        return error_set(err, "%s has the shape [%zu, %zu]; an LSTM's is [H, 4·H]", recurrent->name,
                         recurrent->shape[0], rows);
    if (bias && (bias->dims != 1 || bias->shape[0] != rows))
        return error_set(err, "%s: the bias of an LSTM is [4·H]", bias->name);
    char to[4][64];
    for (int i = 0; i < 4; i++)
        snprintf(to[i], sizeof to[i], "lstm.%s_l%u", layer_parts[i], *layers);
    ++*layers;
    if (copy_transposed(im, to[0], kernel, err) < 0 || copy_transposed(im, to[1], recurrent, err) < 0)
        return -1;
    if (bias ? copy(im, to[2], bias, err) < 0 : !foreign_add(&im->to, to[2], 1, &rows, err))
        return -1;
    return foreign_add(&im->to, to[3], 1, &rows, err) ? 0 : -1;
}

/* The only tensor name that has `part` in it, up to there. -1 with a text when there are several, or none. */
static int only_prefix(const struct import *im, const char *part, char *prefix, struct error *err)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < im->from.n; i++) {
        const char *name = im->from.tensors[i].name, *at = strstr(name, part);
        size_t n = strlen(part);
        if (at && (at[n] == 0 || at[n] == ':') && found++ == 0)
            snprintf(prefix, FOREIGN_NAME_MAX + 1, "%.*s", (int)(at - name), name);
    }
    if (found == 1)
        return 0;
    return error_set(err, "%u tensors have %s in their name; say in the description which are layers, in order: "
                     "\"layers\": [\"PREFIX\", …]", found, part);
}

static int import_layers(struct import *im, struct error *err)
{
    const json_t *list = json_object_get(im->meta, "layers");
    uint32_t layers = 0;
    if (im->source == MODEL_FROM_ONNX) {
        for (uint32_t layer = 0; layer < im->from.layers; layer++)
            for (int i = 0; i < 4; i++) {
                char name[64];
                snprintf(name, sizeof name, "lstm.%s_l%u", layer_parts[i], layer);
                if (copy(im, name, foreign_find(&im->from, name), err) < 0)
                    return -1;
            }
        return 0;
    }
    bool pytorch = im->source == MODEL_FROM_PYTORCH;
    char only[FOREIGN_NAME_MAX + 1];
    if (!list) {
        if (only_prefix(im, pytorch ? ".weight_hh_l0" : "recurrent_kernel", only, err) < 0)
            return -1;
        return pytorch ? pytorch_lstm(im, only, &layers, err) : keras_lstm(im, only, &layers, err);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *prefix = json_string_value(json_array_get(list, i));
        if (!prefix)
            return error_set(err, "\"layers\" is a list of names");
        if ((pytorch ? pytorch_lstm(im, prefix, &layers, err) : keras_lstm(im, prefix, &layers, err)) < 0)
            return -1;
    }
    return 0;
}

/* ---- embeddings and heads --------------------------------------------------------------------------------------- */

static size_t vocabulary_size(const struct import *im, const json_t *entry)
{
    const char *name = json_string_value(json_object_get(entry, "vocabulary"));
    return name ? json_array_size(json_object_get(json_object_get(im->meta, "vocabularies"), name)) : 0;
}

static const struct foreign_tensor *named(const struct import *im, const json_t *entry, const char *key,
                                          const char *usual, struct error *err)
{
    const char *name = json_string_value(json_object_get(entry, key));
    const struct foreign_tensor *t = foreign_find(&im->from, name ? name : usual);
    if (!t)
        error_set(err, "there is no tensor %.80s; \"%s\" names it", name ? name : usual, key);
    return t;
}

/* Row 0 is for what is unknown. A table with a row for each name alone gets one of zeros. */
static int import_embedding(struct import *im, const json_t *entry, struct error *err)
{
    char name[MODEL_NAME_MAX + 32];
    const char *field = json_string_value(json_object_get(entry, "field"));
    size_t n = vocabulary_size(im, entry);
    snprintf(name, sizeof name, "embedding.%.60s.weight", field ? field : "?");
    const struct foreign_tensor *t = named(im, entry, "tensor", name, err);
    if (!t)
        return error_prefix(err, "embedding %.60s", field ? field : "?");
    if (t->dims != 2 || (t->shape[0] != n && t->shape[0] != n + 1))
        return error_set(err, "embedding %.60s: tensor %s has %zu rows; its vocabulary has %zu names, so %zu are "
                         "right, or one more in front for what is unknown", field, t->name,
                         t->dims ? t->shape[0] : 0, n, n);
    size_t shape[] = {n + 1, t->shape[1]}, skipped = (n + 1 - t->shape[0]) * t->shape[1];
    struct foreign_tensor *to = foreign_add(&im->to, name, 2, shape, err);
    if (!to)
        return -1;
    memcpy(to->at + skipped, t->at, foreign_size(t->dims, t->shape) * sizeof *t->at);
    return 0;
}

/* PyTorch keeps [out × in], Keras [in × out]; ONNX files have both. */
static int head_transposed(const struct import *im, const json_t *entry, const struct foreign_tensor *t, size_t classes,
                           struct error *err)
{
    const json_t *said = json_object_get(entry, "transposed");
    if (json_is_boolean(said))
        return json_is_true(said);
    if (im->source != MODEL_FROM_ONNX || im->ours)
        return im->source == MODEL_FROM_KERAS;
    if (t->shape[0] == t->shape[1])
        return error_set(err, "tensor %s is square: say \"transposed\": true when it is [in, out], else false",
                         t->name);
    return t->shape[1] == classes;
}

static int import_head(struct import *im, const json_t *entry, struct error *err)
{
    char weight[MODEL_NAME_MAX + 32], bias[MODEL_NAME_MAX + 32];
    const char *name = json_string_value(json_object_get(entry, "name"));
    const char *kind = json_string_value(json_object_get(entry, "kind"));
    size_t classes = kind && strcmp(kind, "sigmoid") == 0 ? 1 : vocabulary_size(im, entry);
    name = name ? name : "?";
    snprintf(weight, sizeof weight, "head.%.60s.weight", name);
    snprintf(bias, sizeof bias, "head.%.60s.bias", name);
    const struct foreign_tensor *t = named(im, entry, "weight", weight, err), *b;
    if (!t)
        return error_prefix(err, "head %.60s", name);
    if (t->dims != 2)
        return error_set(err, "head %.60s: tensor %s does not have two dimensions", name, t->name);
    int transposed = head_transposed(im, entry, t, classes, err);
    if (transposed < 0)
        return error_prefix(err, "head %.60s", name);
    if ((transposed ? copy_transposed(im, weight, t, err) : copy(im, weight, t, err)) < 0)
        return -1;
    if (json_is_null(json_object_get(entry, "bias")))
        return foreign_add(&im->to, bias, 1, &classes, err) ? 0 : -1;
    b = named(im, entry, "bias", bias, err);
    return b ? copy(im, bias, b, err) : error_prefix(err, "head %.60s", name);
}

static int import_list(struct import *im, const char *key, int (*one)(struct import *, const json_t *, struct error *),
                       struct error *err)
{
    const json_t *list = json_object_get(im->meta, key);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (one(im, json_array_get(list, i), err) < 0)
            return -1;
    return 0;
}

/* ---- the description -------------------------------------------------------------------------------------------- */

static const char *const described[] = {"vocabularies", "embeddings", "features", "heads", "intent_horizon_ms",
                                        "training", "metrics", NULL};

/* Ours: JSON inside of strings. */
static int meta_of_onnx(struct import *im, struct error *err)
{
    if (!json_object_get(im->from.metadata, "gait_version"))
        return error_set(err, "the file does not say which vocabularies, features and heads it has; a description does "
                         "(--meta)");
    im->ours = true;
    im->meta = json_object();
    for (int i = 0; described[i]; i++) {
        const char *text = json_string_value(json_object_get(im->from.metadata, described[i]));
        json_t *value = text ? json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL) : NULL;
        if (value)
            json_object_set_new(im->meta, described[i], value);
        else if (text)
            return error_set(err, "its metadata '%s' is not JSON", described[i]);
    }
    return 0;
}

static int meta_read(struct import *im, const char *path, struct error *err)
{
    json_error_t where;
    im->meta = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(im->meta))
        return error_set(err, "%s:%d: %s", path, im->meta ? 1 : where.line, im->meta ? "not an object" : where.text);
    const char *key;
    json_t *value;
    json_object_foreach(im->meta, key, value) {
        bool known = strcmp(key, "layers") == 0;
        for (int i = 0; described[i] && !known; i++)
            known = strcmp(key, described[i]) == 0;
        if (!known)
            return error_set(err, "%s: '%.80s' is not known; vocabularies, embeddings, features, layers, heads, "
                             "intent_horizon_ms, training and metrics are", path, key);
    }
    return 0;
}

static json_t *metadata_make(const struct import *im)
{
    json_t *metadata = json_object();
    json_object_set_new(metadata, "gait_version", json_string("1"));
    for (int i = 0; described[i]; i++) {
        const json_t *value = json_object_get(im->meta, described[i]);
        const char *missing = strcmp(described[i], "vocabularies") == 0 ? "{}" : i < 4 ? "[]" : NULL;
        char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9)) : NULL;
        if (text || missing)
            json_object_set_new(metadata, described[i], json_string(text ? text : missing));
        free(text);
    }
    return metadata;
}

/* ---- our file, in memory ---------------------------------------------------------------------------------------- */

static bool put(FILE *out, const void *bytes, size_t n)
{
    return n == 0 || fwrite(bytes, 1, n, out) == n;
}

static bool write_file(const struct import *im, FILE *out)
{
    json_t *header = json_object();
    uint64_t at = 0;
    json_object_set_new(header, "__metadata__", metadata_make(im));
    for (uint32_t i = 0; i < im->to.n; i++) {
        const struct foreign_tensor *t = &im->to.tensors[i];
        uint64_t bytes = foreign_size(t->dims, t->shape) * sizeof(float);
        json_t *shape = json_array();
        for (uint32_t d = 0; d < t->dims; d++)
            json_array_append_new(shape, json_integer((json_int_t)t->shape[d]));
        json_object_set_new(header, t->name, json_pack("{s:s,s:o,s:[I,I]}", "dtype", "F32", "shape", shape,
                                                       "data_offsets", (json_int_t)at, (json_int_t)(at + bytes)));
        at += bytes;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    assert(text);
    uint64_t length = strlen(text);
    bool ok = put(out, &length, sizeof length) && put(out, text, length);
    for (uint32_t i = 0; i < im->to.n && ok; i++) {
        const struct foreign_tensor *t = &im->to.tensors[i];
        ok = put(out, t->at, foreign_size(t->dims, t->shape) * sizeof(float));
    }
    free(text);
    return ok && fflush(out) == 0;
}

static struct model *load_ours(const struct import *im, struct error *err)
{
    int fd = memfd_create("model", MFD_CLOEXEC);
    FILE *out = fd >= 0 ? fdopen(fd, "w+") : NULL;
    struct model *m = NULL;
    if (!out || !write_file(im, out))
        error_set(err, "no memory for the model: %s", strerror(errno));
    else
        m = model_load_fd(fd, err);
    if (out)
        fclose(out);
    else if (fd >= 0)
        close(fd);
    return m;
}

static int read_source(struct import *im, const char *path, struct error *err)
{
    struct foreign_file file;
    if (foreign_map(&file, path, err) < 0)
        return -1;
    bool zip = file.n > 4 && memcmp(file.at, "PK\003\004", 4) == 0;
    int result;
    if (im->source == MODEL_FROM_ONNX)
        result = foreign_read_onnx(&im->from, &file, err);
    else if (zip && im->source == MODEL_FROM_PYTORCH)
        result = error_set(err, "a zip archive, as torch.save writes it: it holds a program, which nobody should run; "
                           "safetensors.torch.save_file writes what can be read");
    else
        result = zip ? foreign_read_npz(&im->from, &file, err) : foreign_read_safetensors(&im->from, &file, err);
    foreign_unmap(&file);
    return result < 0 ? error_prefix(err, "%s", path) : 0;
}

struct model *model_import(enum model_source source, const char *path, const char *meta, struct error *err)
{
    struct import im = {.source = source};
    struct model *m = NULL;
    int result = read_source(&im, path, err);
    if (result == 0 && (meta ? meta_read(&im, meta, err) : meta_of_onnx(&im, err)) < 0)
        result = meta ? -1 : error_prefix(err, "%s", path);
    if (result == 0 && (import_layers(&im, err) < 0 || import_list(&im, "embeddings", import_embedding, err) < 0 ||
                        import_list(&im, "heads", import_head, err) < 0 || !(m = load_ours(&im, err))))
        error_prefix(err, "%s", path);
    foreign_free(&im.from);
    foreign_free(&im.to);
    json_decref(im.meta);
    return m;
}
