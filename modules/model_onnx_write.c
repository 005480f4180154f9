// SPDX-License-Identifier: Apache-2.0
// model_onnx_write.c - a model as an ONNX graph, for onnxruntime and whatever else reads ONNX:
//
//   row_FIELD ─► Gather ┐
//   features ───────────┴► Concat ─► LSTM ─► Squeeze ─► LSTM ─► … ─► MatMul, Add, Softmax or Sigmoid ─► head
//
// The whole file is put together in memory: a model is small, and protobuf wants lengths before contents.
#include "model_private.h"
#include "onnx_fields.h"
#include "protobuf.h"

#include "gait/model_exchange.h"
#include "gait/version.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { GATES = 4, NAME_MAX_BYTES = 160 };
static const size_t onnx_bytes_max = ((size_t)1 << 31) - 1; /* protobuf's own limit */

/* Where our gates i f g o stand in ONNX's order i o f c: row block k of ours goes to block onnx_place[k]. */
static const uint32_t onnx_place[GATES] = {0, 2, 3, 1};

struct text {
    char at[NAME_MAX_BYTES];
};

__attribute__((format(printf, 1, 2))) static struct text named(const char *format, ...)
{
    struct text text;
    va_list args;
    va_start(args, format);
    vsnprintf(text.at, sizeof text.at, format, args);
    va_end(args);
    return text;
}

/* ---- pieces of a graph ------------------------------------------------------------------------------------------ */

static void put_tensor(struct protobuf_out *graph, const char *name, int type, uint32_t dims, const size_t *shape,
                       const void *bytes, size_t n)
{
    struct protobuf_out tensor = {0};
    for (uint32_t i = 0; i < dims; i++)
        protobuf_put_number(&tensor, TENSOR_DIMS, shape[i]);
    protobuf_put_number(&tensor, TENSOR_TYPE, (uint64_t)type);
    protobuf_put_text(&tensor, TENSOR_NAME, name);
    protobuf_put_bytes(&tensor, TENSOR_RAW, bytes, n);
    protobuf_put_message(graph, GRAPH_INITIALIZER, &tensor);
}

static void put_floats(struct protobuf_out *graph, const char *name, uint32_t dims, const size_t *shape,
                       const float *at)
{
    size_t n = 1;
    for (uint32_t i = 0; i < dims; i++)
        n *= shape[i];
    put_tensor(graph, name, TYPE_FLOAT, dims, shape, at, n * sizeof *at);
}

static void put_dim(struct protobuf_out *shape, const char *name, uint64_t value)
{
    struct protobuf_out dim = {0};
    if (name)
        protobuf_put_text(&dim, DIM_PARAM, name);
    else
        protobuf_put_number(&dim, DIM_VALUE, value);
    protobuf_put_message(shape, SHAPE_DIM, &dim);
}

/* A graph's input or output: [steps or 1, batch], and a third dimension unless `width` is 0. */
static void put_value(struct protobuf_out *graph, uint32_t field, const char *name, int type, bool steps,
                      uint64_t width)
{
    struct protobuf_out value = {0}, of_type = {0}, tensor = {0}, shape = {0};
    put_dim(&shape, steps ? "steps" : NULL, 1);
    put_dim(&shape, "batch", 0);
    if (width)
        put_dim(&shape, NULL, width);
    protobuf_put_number(&tensor, TENSOR_TYPE_ELEMENT, (uint64_t)type);
    protobuf_put_message(&tensor, TENSOR_TYPE_SHAPE, &shape);
    protobuf_put_message(&of_type, VALUE_TYPE_TENSOR, &tensor);
    protobuf_put_text(&value, VALUE_NAME, name);
    protobuf_put_message(&value, VALUE_TYPE, &of_type);
    protobuf_put_message(graph, field, &value);
}

static void put_attribute(struct protobuf_out *node, const char *name, int type, int64_t value)
{
    struct protobuf_out attribute = {0};
    protobuf_put_text(&attribute, ATTRIBUTE_NAME, name);
    protobuf_put_number(&attribute, type == ATTRIBUTE_IS_INT ? ATTRIBUTE_INT : ATTRIBUTE_INTS, (uint64_t)value);
    protobuf_put_number(&attribute, ATTRIBUTE_TYPE, (uint64_t)type);
    protobuf_put_message(node, NODE_ATTRIBUTE, &attribute);
}

/* Names of inputs and of outputs, each list ended by NULL; "" is an input left out. */
static struct protobuf_out node_begin(const char *op, const char *const *inputs, const char *const *outputs)
{
    struct protobuf_out node = {0};
    for (; *inputs; inputs++)
        protobuf_put_text(&node, NODE_INPUT, *inputs);
    for (; *outputs; outputs++)
        protobuf_put_text(&node, NODE_OUTPUT, *outputs);
    protobuf_put_text(&node, NODE_OP, op);
    return node;
}

static void put_node(struct protobuf_out *graph, const char *op, const char *const *inputs, const char *output,
                     const char *attribute, int type, int64_t value)
{
    struct protobuf_out node = node_begin(op, inputs, (const char *const[]){output, NULL});
    if (attribute)
        put_attribute(&node, attribute, type, value);
    protobuf_put_message(graph, GRAPH_NODE, &node);
}

/* ---- the model -------------------------------------------------------------------------------------------------- */

static void put_inputs(struct protobuf_out *graph, const struct model *m, bool vector)
{
    struct text gathered[MODEL_EMBEDDINGS_MAX];
    const char *parts[MODEL_EMBEDDINGS_MAX + 2] = {NULL};
    uint32_t n = 0;
    if (vector) {
        put_value(graph, GRAPH_INPUT, "X", TYPE_FLOAT, true, m->input);
        return;
    }
    for (uint32_t i = 0; i < m->embeddings_n; i++) {
        const struct model_embedding *e = &m->embeddings[i];
        struct text row = named("row_%s", model_field_name(e->field));
        struct text table = named("embedding.%s.weight", model_field_name(e->field));
        gathered[i] = named("embedded_%s", model_field_name(e->field));
        put_value(graph, GRAPH_INPUT, row.at, TYPE_INT64, true, 0);
        put_floats(graph, table.at, 2, (size_t[]){(size_t)e->vocabulary.n + 1, e->width}, e->weight);
        put_node(graph, "Gather", (const char *const[]){table.at, row.at, NULL}, gathered[i].at, "axis",
                 ATTRIBUTE_IS_INT, 0);
        parts[n++] = gathered[i].at;
    }
    if (m->features_n) {
        put_value(graph, GRAPH_INPUT, "features", TYPE_FLOAT, true, m->features_n);
        parts[n++] = "features";
    }
    put_node(graph, "Concat", parts, "X", "axis", ATTRIBUTE_IS_INT, 2);
}

/* Our blocks of `rows` × `width` floats, one for each gate, in ONNX's order. */
static void gates_place(float *to, const float *from, size_t rows, size_t width)
{
    for (uint32_t gate = 0; gate < GATES; gate++)
        memcpy(to + onnx_place[gate] * rows * width, from + gate * rows * width, rows * width * sizeof *to);
}

static void put_layer_weights(struct protobuf_out *graph, const struct model_layer *l, uint32_t index)
{
    size_t rows = l->hidden, wide = l->input > l->hidden ? l->input : l->hidden;
    float *at = calloc(GATES * rows * wide + 2 * GATES * rows, sizeof *at);
    assert(at);
    gates_place(at, l->weight_ih, rows, l->input);
    put_floats(graph, named("lstm.W_l%u", index).at, 3, (size_t[]){1, GATES * rows, l->input}, at);
    gates_place(at, l->weight_hh, rows, rows);
    put_floats(graph, named("lstm.R_l%u", index).at, 3, (size_t[]){1, GATES * rows, rows}, at);
    gates_place(at, l->bias_ih, rows, 1);
    gates_place(at + GATES * rows, l->bias_hh, rows, 1);
    put_floats(graph, named("lstm.B_l%u", index).at, 2, (size_t[]){1, 2 * GATES * rows}, at);
    free(at);
}

/* Y is [steps, directions, batch, H]; the one direction is squeezed away. Returns the sequence's name. */
static struct text put_layer(struct protobuf_out *graph, const struct model *m, uint32_t index, const char *input)
{
    const struct model_layer *l = &m->layers[index];
    struct text h0 = named("h0_l%u", index), c0 = named("c0_l%u", index), h = named("h_l%u", index);
    struct text c = named("c_l%u", index), y = named("y_l%u", index), sequence = named("sequence_l%u", index);
    struct text w = named("lstm.W_l%u", index), r = named("lstm.R_l%u", index), b = named("lstm.B_l%u", index);
    put_value(graph, GRAPH_INPUT, h0.at, TYPE_FLOAT, false, l->hidden);
    put_value(graph, GRAPH_INPUT, c0.at, TYPE_FLOAT, false, l->hidden);
    put_value(graph, GRAPH_OUTPUT, h.at, TYPE_FLOAT, false, l->hidden);
    put_value(graph, GRAPH_OUTPUT, c.at, TYPE_FLOAT, false, l->hidden);
    put_layer_weights(graph, l, index);
    struct protobuf_out node = node_begin("LSTM",
                                          (const char *const[]){input, w.at, r.at, b.at, "", h0.at, c0.at, NULL},
                                          (const char *const[]){y.at, h.at, c.at, NULL});
    put_attribute(&node, "hidden_size", ATTRIBUTE_IS_INT, l->hidden);
    protobuf_put_message(graph, GRAPH_NODE, &node);
    put_node(graph, "Squeeze", (const char *const[]){y.at, "direction_axis", NULL}, sequence.at, NULL, 0, 0);
    return sequence;
}

static void put_head(struct protobuf_out *graph, const struct model *m, const struct model_head *head,
                     const char *sequence)
{
    struct text weight = named("head.%s.weight", head->name), bias = named("head.%s.bias", head->name);
    struct text turned = named("turned_%s", head->name), product = named("product_%s", head->name);
    struct text logits = named("logits_%s", head->name);
    bool softmax = head->kind == MODEL_SOFTMAX;
    put_floats(graph, weight.at, 2, (size_t[]){head->classes, model_hidden(m)}, head->weight);
    put_floats(graph, bias.at, 1, (size_t[]){head->classes}, head->bias);
    put_node(graph, "Transpose", (const char *const[]){weight.at, NULL}, turned.at, NULL, 0, 0);
    put_node(graph, "MatMul", (const char *const[]){sequence, turned.at, NULL}, product.at, NULL, 0, 0);
    put_node(graph, "Add", (const char *const[]){product.at, bias.at, NULL}, logits.at, NULL, 0, 0);
    put_node(graph, softmax ? "Softmax" : "Sigmoid", (const char *const[]){logits.at, NULL}, head->name,
             softmax ? "axis" : NULL, ATTRIBUTE_IS_INT, 2);
    put_value(graph, GRAPH_OUTPUT, head->name, TYPE_FLOAT, true, head->classes);
}

static struct protobuf_out graph_make(const struct model *m, bool vector)
{
    struct protobuf_out graph = {0};
    const int64_t axis = 1;
    struct text sequence = named("X");
    protobuf_put_text(&graph, GRAPH_NAME, "gait");
    put_tensor(&graph, "direction_axis", TYPE_INT64, 1, (size_t[]){1}, &axis, sizeof axis);
    put_inputs(&graph, m, vector);
    for (uint32_t i = 0; i < m->layers_n; i++)
        sequence = put_layer(&graph, m, i, sequence.at);
    for (uint32_t i = 0; i < m->heads_n; i++)
        put_head(&graph, m, &m->heads[i], sequence.at);
    /* Kept for a later import, though no node needs them. */
    for (uint32_t i = 0; i < m->embeddings_n && vector; i++)
        put_floats(&graph, named("embedding.%s.weight", model_field_name(m->embeddings[i].field)).at, 2,
                   (size_t[]){(size_t)m->embeddings[i].vocabulary.n + 1, m->embeddings[i].width},
                   m->embeddings[i].weight);
    return graph;
}

static void put_metadata(struct protobuf_out *out, const struct model *m)
{
    json_t *metadata = model_metadata(m), *value;
    const char *key;
    json_object_foreach(metadata, key, value) {
        struct protobuf_out pair = {0};
        protobuf_put_text(&pair, PAIR_KEY, key);
        protobuf_put_bytes(&pair, PAIR_VALUE, json_string_value(value), json_string_length(value));
        protobuf_put_message(out, MODEL_METADATA, &pair);
    }
    json_decref(metadata);
}

static bool write_out(int fd, const void *what)
{
    const struct protobuf_out *out = what;
    return model_write_all(fd, out->at, out->n);
}

/* A head's name is also its output's, so it must not be one that the graph has already. */
static int check_names(const struct model *m, bool vector, struct error *err)
{
    static const char *const prefixes[] = {"h_l", "c_l", "y_l", "h0_l", "c0_l", "row_", "embedded_", "sequence_l",
                                           "turned_", "product_", "logits_", NULL};
    for (uint32_t i = 0; i < m->heads_n; i++) {
        const char *name = m->heads[i].name;
        bool taken = (strcmp(name, "features") == 0 && !vector) || strcmp(name, "direction_axis") == 0;
        for (int p = 0; prefixes[p]; p++)
            taken |= strncmp(name, prefixes[p], strlen(prefixes[p])) == 0;
        if (taken)
            return error_set(err, "head %s: the graph has another value of that name; train it under another one",
                             name);
    }
    return 0;
}

int model_export_onnx(const struct model *m, const char *path, bool vector, struct error *err)
{
    struct protobuf_out out = {0}, opset = {0};
    if (check_names(m, vector, err) < 0)
        return -1;
    struct protobuf_out graph = graph_make(m, vector);
    protobuf_put_number(&out, MODEL_IR_VERSION, ONNX_IR_VERSION);
    protobuf_put_text(&out, MODEL_PRODUCER, "gait");
    protobuf_put_text(&out, MODEL_PRODUCER_VERSION, GAIT_VERSION);
    protobuf_put_number(&opset, OPSET_VERSION, ONNX_OPSET);
    protobuf_put_message(&out, MODEL_OPSET, &opset);
    protobuf_put_message(&out, MODEL_GRAPH, &graph);
    put_metadata(&out, m);
    int result = 0;
    if (out.n > onnx_bytes_max)
        result = error_set(err, "%s: %zu bytes are more than an ONNX file may have (2 GB)", path, out.n);
    else if (model_file_replace(path, write_out, &out, err) < 0)
        result = error_prefix(err, "%s", path);
    protobuf_free(&out);
    return result;
}
