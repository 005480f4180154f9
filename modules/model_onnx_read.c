// SPDX-License-Identifier: Apache-2.0
// model_onnx_read.c - weights out of an ONNX file: its constants under their own names, and each LSTM node's W, R and B
// under PyTorch's names and in PyTorch's gate order, numbered as the nodes follow one another.
#include "model_foreign.h"
#include "onnx_fields.h"
#include "protobuf.h"

#include "gait/model.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { LSTM_INPUTS = 8, GATES = 4 };

/* ONNX has i o f c; ours are i f g o (c is what we call g). */
static const uint32_t onnx_gate[GATES] = {0, 2, 3, 1};

static void text_of(const struct protobuf_field *field, char *text)
{
    size_t n = field->n < FOREIGN_NAME_MAX ? field->n : FOREIGN_NAME_MAX;
    if (n)
        memcpy(text, field->bytes, n);
    text[n] = 0;
}

/* ---- tensors ---------------------------------------------------------------------------------------------------- */

struct tensor {
    char name[FOREIGN_NAME_MAX + 1];
    uint32_t dims;
    size_t shape[FOREIGN_DIMS_MAX];
    uint64_t type, location;
    const uint8_t *bytes;
    size_t n;
    bool broken;
};

static void tensor_dim(struct tensor *t, uint64_t size)
{
    if (t->dims == FOREIGN_DIMS_MAX || size > (uint64_t)1 << 31)
        t->broken = true;
    else
        t->shape[t->dims++] = (size_t)size;
}

static struct tensor tensor_parse(struct protobuf_in in)
{
    struct tensor t = {.name = ""};
    for (struct protobuf_field f; protobuf_next(&in, &f);) {
        struct protobuf_in packed = protobuf_inside(&f);
        switch (f.number) {
        case TENSOR_DIMS:
            if (f.wire == PROTOBUF_VARINT)
                tensor_dim(&t, f.value);
            while (f.wire == PROTOBUF_BYTES && packed.at < packed.end && !packed.failed && !t.broken)
                tensor_dim(&t, protobuf_varint(&packed));
            break;
        case TENSOR_TYPE: t.type = f.value; break;
        case TENSOR_LOCATION: t.location = f.value; break;
        case TENSOR_NAME: text_of(&f, t.name); break;
        case TENSOR_FLOATS: case TENSOR_DOUBLES: case TENSOR_RAW:
            t.broken |= f.wire != PROTOBUF_BYTES || t.bytes; /* one list, packed */
            t.bytes = f.bytes;
            t.n = f.n;
            break;
        default: break;
        }
    }
    t.broken |= in.failed;
    return t;
}

static int tensor_add(struct foreign *f, struct protobuf_in in, const char *name, struct error *err)
{
    struct tensor t = tensor_parse(in);
    if (name)
        snprintf(t.name, sizeof t.name, "%s", name);
    enum foreign_type type = t.type == TYPE_DOUBLE ? FOREIGN_F64 : t.type == TYPE_FLOAT16 ? FOREIGN_F16
                           : t.type == TYPE_BFLOAT16 ? FOREIGN_BF16 : FOREIGN_F32;
    if (type == FOREIGN_F32 && t.type != TYPE_FLOAT)
        return 0; /* indices and shapes */
    if (t.location != 0)
        return error_set(err, "tensor %.80s lies in another file; save the model as one file", t.name);
    if (t.broken)
        return error_set(err, "tensor %.80s is damaged, or has more than %d dimensions", t.name, FOREIGN_DIMS_MAX);
    return foreign_add_bytes(f, t.name, t.dims, t.shape, type, t.bytes, t.n, err);
}

/* ---- LSTM nodes ------------------------------------------------------------------------------------------------- */

struct node {
    char op[16];
    char input[LSTM_INPUTS][FOREIGN_NAME_MAX + 1];
    char output[FOREIGN_NAME_MAX + 1];
    uint32_t inputs;
    struct protobuf_in value;     /* of a Constant */
    const char *refused;          /* an attribute that makes it another kind of LSTM */
};

static const char *attribute_refused(const char *name, const struct protobuf_field *text, uint64_t number)
{
    static const char *const usual[] = {"Sigmoid", "Tanh", "sigmoid", "tanh"};
    if (strcmp(name, "direction") == 0)
        return protobuf_text_is(text, "forward") ? NULL : "direction: only forward is possible here";
    if (strcmp(name, "input_forget") == 0)
        return number ? "input_forget: coupled gates are not possible here" : NULL;
    if (strcmp(name, "clip") == 0)
        return "clip: clipped gates are not possible here";
    if (strcmp(name, "activations") != 0 || !text->n)
        return NULL;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        if (protobuf_text_is(text, usual[i]))
            return NULL;
    return "activations: Sigmoid, Tanh and Tanh are possible here";
}

static void node_attribute(struct node *node, struct protobuf_in in)
{
    char name[FOREIGN_NAME_MAX + 1] = "";
    uint64_t number = 0;
    for (struct protobuf_field f, none = {0}; protobuf_next(&in, &f);) {
        const char *refused = NULL;
        switch (f.number) {
        case ATTRIBUTE_NAME: text_of(&f, name); refused = strcmp(name, "clip") == 0 ? "clip" : NULL; break;
        case ATTRIBUTE_INT: number = f.value; refused = attribute_refused(name, &none, number); break;
        case ATTRIBUTE_STRING: case ATTRIBUTE_STRINGS: refused = attribute_refused(name, &f, number); break;
        case ATTRIBUTE_TENSOR:
            if (strcmp(name, "value") == 0)
                node->value = protobuf_inside(&f);
            break;
        default: break;
        }
        if (refused && !node->refused)
            node->refused = refused;
    }
}

static bool node_parse(struct protobuf_in in, struct node *node)
{
    memset(node, 0, sizeof *node);
    for (struct protobuf_field f; protobuf_next(&in, &f);) {
        if (f.number == NODE_OP && f.n < sizeof node->op)
            memcpy(node->op, f.bytes, f.n);
        else if (f.number == NODE_INPUT && node->inputs < LSTM_INPUTS)
            text_of(&f, node->input[node->inputs++]);
        else if (f.number == NODE_OUTPUT && !*node->output)
            text_of(&f, node->output);
        else if (f.number == NODE_ATTRIBUTE)
            node_attribute(node, protobuf_inside(&f));
    }
    return !in.failed;
}

/* Rows of gates in our order: `from` [4H × width] at `offset` floats → lstm.NAME_lN. */
static int layer_add(struct foreign *f, const char *name, const struct foreign_tensor *from, size_t offset,
                     size_t hidden, size_t width, struct error *err)
{
    char full[64];
    size_t shape[] = {GATES * hidden, width};
    const float *at = from ? from->at : NULL; /* the list may move when it grows, the numbers do not */
    snprintf(full, sizeof full, "lstm.%s_l%u", name, f->layers);
    struct foreign_tensor *t = foreign_add(f, full, width > 1 || strstr(name, "weight") ? 2 : 1, shape, err);
    if (!t)
        return -1;
    for (uint32_t gate = 0; gate < GATES && at; gate++)
        memcpy(t->at + gate * hidden * width, at + offset + onnx_gate[gate] * hidden * width,
               hidden * width * sizeof *at);
    return 0;
}

static int lstm_add(struct foreign *f, const struct node *node, struct error *err)
{
    const struct foreign_tensor *w = foreign_find(f, node->input[1]), *r = foreign_find(f, node->input[2]);
    const struct foreign_tensor *b = *node->input[3] ? foreign_find(f, node->input[3]) : NULL;
    if (f->layers == MODEL_LAYERS_MAX) /* nodes may share their weights: many of them would be much memory */
        return error_set(err, "more LSTM nodes than the %d layers that a model has at most", MODEL_LAYERS_MAX);
    if (node->refused)
        return error_set(err, "LSTM node %u: %s", f->layers, node->refused);
    if (*node->input[7])
        return error_set(err, "LSTM node %u has peepholes; an LSTM here has none", f->layers);
    if (!w || !r || (*node->input[3] && !b))
        return error_set(err, "LSTM node %u: %.80s is no constant of the file; export with constant folding", f->layers,
                         !w ? node->input[1] : !r ? node->input[2] : node->input[3]);
    size_t hidden = r->dims == 3 ? r->shape[2] : 0, width = w->dims == 3 ? w->shape[2] : 0;
    if (!hidden || !width || r->shape[0] != 1 || r->shape[1] != GATES * hidden || w->shape[0] != 1 ||
        w->shape[1] != GATES * hidden || (b && (b->dims != 2 || b->shape[0] != 1 || b->shape[1] != 2 * GATES * hidden)))
        return error_set(err, "LSTM node %u: W [1, 4H, I], R [1, 4H, H] and B [1, 8H] are right", f->layers);
    struct foreign_tensor weights = *w, recurrent = *r, bias = b ? *b : (struct foreign_tensor){0};
    if (layer_add(f, "weight_ih", &weights, 0, hidden, width, err) < 0 ||
        layer_add(f, "weight_hh", &recurrent, 0, hidden, hidden, err) < 0 ||
        layer_add(f, "bias_ih", b ? &bias : NULL, 0, hidden, 1, err) < 0 ||
        layer_add(f, "bias_hh", b ? &bias : NULL, GATES * hidden, hidden, 1, err) < 0)
        return -1;
    f->layers++;
    return 0;
}

/* ---- the file --------------------------------------------------------------------------------------------------- */

static void metadata_add(struct foreign *f, struct protobuf_in in)
{
    struct protobuf_field key = {0}, value = {0};
    for (struct protobuf_field field; protobuf_next(&in, &field);)
        *(field.number == PAIR_KEY ? &key : &value) = field;
    char name[FOREIGN_NAME_MAX + 1];
    text_of(&key, name);
    if (!f->metadata)
        f->metadata = json_object();
    if (value.bytes)
        json_object_set_new(f->metadata, name, json_stringn((const char *)value.bytes, value.n));
}

/* Constants first: a node may stand before the initializers in the file. */
static int read_graph(struct foreign *f, struct protobuf_in graph, struct error *err)
{
    struct protobuf_in in = graph;
    struct protobuf_field field;
    struct node *node = malloc(sizeof *node);
    int result = 0;
    assert(node);
    while (result == 0 && protobuf_next(&in, &field)) {
        if (field.number == GRAPH_INITIALIZER)
            result = tensor_add(f, protobuf_inside(&field), NULL, err);
        else if (field.number == GRAPH_NODE && !node_parse(protobuf_inside(&field), node))
            result = error_set(err, "a node is damaged");
        else if (field.number == GRAPH_NODE && strcmp(node->op, "Constant") == 0 && node->value.at)
            result = tensor_add(f, node->value, node->output, err);
    }
    if (result == 0 && in.failed)
        result = error_set(err, "the graph is damaged or cut short");
    for (in = graph; result == 0 && protobuf_next(&in, &field);)
        if (field.number == GRAPH_NODE && node_parse(protobuf_inside(&field), node) && strcmp(node->op, "LSTM") == 0)
            result = lstm_add(f, node, err);
    free(node);
    return result;
}

int foreign_read_onnx(struct foreign *f, const struct foreign_file *file, struct error *err)
{
    struct protobuf_in in = {.at = file->at, .end = file->at + file->n};
    bool graph = false;
    for (struct protobuf_field field; protobuf_next(&in, &field);) {
        if (field.number == MODEL_METADATA && field.wire == PROTOBUF_BYTES)
            metadata_add(f, protobuf_inside(&field));
        if (field.number != MODEL_GRAPH || field.wire != PROTOBUF_BYTES || graph)
            continue;
        graph = true;
        if (read_graph(f, protobuf_inside(&field), err) < 0)
            return -1;
    }
    if (in.failed || !graph)
        return error_set(err, "not an ONNX file, or cut short");
    if (f->layers == 0)
        return error_set(err, "the graph has no LSTM node");
    return 0;
}
