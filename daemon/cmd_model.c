// SPDX-License-Identifier: Apache-2.0
// cmd_model.c - `gaitd model show` prints what is in a model file; `gaitd model run` feeds it input vectors and
// prints what every step makes of them, so that anyone can check our arithmetic with a library of their choice. What
// else there is has a file of its own.
#include "arguments.h"
#include "cmd.h"
#include "cmd_model.h"

#include "gait/cpu.h"
#include "gait/lstm.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SHOWN_NAMES = 12 };

static void print_usage(FILE *out)
{
    fputs("Usage: gaitd model show MODEL\n"
          "       gaitd model run --model MODEL [--kernel KERNEL] < SEQUENCES\n"
          "       gaitd model import|export|install|rollback|challenge … (each has --help)\n\n"
          "show prints a model's shapes, vocabularies, features and metadata.\n"
          "run reads lines {\"inputs\":[[…],…]}, each a sequence of input vectors (embeddings one after\n"
          "another, then the features), and prints a line for every step: h and c of every layer, and what the\n"
          "heads say.\n"
          "import makes a model of PyTorch, Keras or ONNX weights; export writes one as ONNX.\n"
          "install puts a model where a configuration wants it and keeps the one before; rollback takes that back;\n"
          "challenge puts one into shadow beside it.\n\n"
          "  -m, --model MODEL    the model file (safetensors)\n"
          "  -k, --kernel KERNEL  auto, generic, avx2 or avx512 (auto)\n"
          "  -h, --help           print this text\n\n"
          "Example: gaitd model show conf/demo.safetensors\n"
          "         echo '{\"inputs\":[[0.1,-0.2]]}' | gaitd model run --model tiny.safetensors\n", out);
}

static int wrong_usage(const char *text, const char *what)
{
    fprintf(stderr, "gaitd model: %s%s\n\n", text, what);
    print_usage(stderr);
    return 2;
}

static int failed(const char *text)
{
    fprintf(stderr, "gaitd model: %s\n", text);
    return 1;
}

/* ---- show ------------------------------------------------------------------------------------------------------- */

static void show_names(const struct model_vocabulary *v)
{
    for (uint32_t i = 0; i < v->n && i < SHOWN_NAMES; i++)
        printf("%s%s", i ? " " : "", v->json[i].at);
    printf("%s\n", v->n > SHOWN_NAMES ? " …" : "");
}

static void show_inputs(const struct model *m)
{
    printf("input        %u numbers\n", m->input);
    for (uint32_t i = 0; i < m->embeddings_n; i++) {
        const struct model_embedding *e = &m->embeddings[i];
        printf("  embedding  %-24s [%u × %u]  ", model_field_name(e->field), e->vocabulary.n + 1, e->width);
        show_names(&e->vocabulary);
    }
    for (uint32_t i = 0; i < m->features_n; i++) {
        const struct model_feature *f = &m->features[i];
        printf("  feature    %-24s %s, mean %g, scale %g, clip %g\n", f->column, model_transform_name(f->transform),
               (double)f->mean, (double)f->scale, (double)f->clip);
    }
}

static size_t show_layers(const struct model *m)
{
    size_t weights = 0;
    for (uint32_t i = 0; i < m->embeddings_n; i++)
        weights += (size_t)(m->embeddings[i].vocabulary.n + 1) * m->embeddings[i].width;
    for (uint32_t i = 0; i < m->layers_n; i++) {
        const struct model_layer *l = &m->layers[i];
        printf("layer %u      LSTM %u → %u: weight_ih [%u × %u], weight_hh [%u × %u], bias_ih and bias_hh [%u]\n", i,
               l->input, l->hidden, 4 * l->hidden, l->input, 4 * l->hidden, l->hidden, 4 * l->hidden);
        weights += 4 * (size_t)l->hidden * (l->input + l->hidden + 2);
    }
    for (uint32_t i = 0; i < m->heads_n; i++) {
        const struct model_head *h = &m->heads[i];
        printf("head         %s: %s over %s, weight [%u × %u]  ", h->name, model_head_kind_name(h->kind), h->target,
               h->classes, model_hidden(m));
        show_names(&h->vocabulary);
        weights += (size_t)h->classes * (model_hidden(m) + 1);
    }
    return weights;
}

static int show(const char *path)
{
    struct error err;
    struct model *m = model_load(path, &err);
    if (!m)
        return failed(err.text);
    printf("model        %s\n", model_id(m));
    show_inputs(m);
    size_t weights = show_layers(m);
    if (m->intent >= 0)
        printf("horizon      %" PRId64 " ms for intent\n", m->intent_horizon_ms);
    printf("weights      %zu\n", weights);
    printf("training     %s\n", m->training ? m->training : "-");
    printf("metrics      %s\n", m->metrics ? m->metrics : "-");
    model_destroy(&m);
    return 0;
}

/* ---- run -------------------------------------------------------------------------------------------------------- */

/* Nine digits bring every float back as it was. */
static void print_floats(const float *at, uint32_t n)
{
    putchar('[');
    for (uint32_t i = 0; i < n; i++)
        printf("%s%.9g", i ? "," : "", (double)at[i]);
    putchar(']');
}

static void print_states(const struct lstm *l, const char *name, const size_t *at, const float *state)
{
    printf(",\"%s\":[", name);
    for (uint32_t i = 0; i < l->model->layers_n; i++) {
        if (i)
            putchar(',');
        print_floats(state + at[i], l->model->layers[i].hidden);
    }
    putchar(']');
}

static void print_heads(const struct lstm *l, const float *hidden)
{
    fputs(",\"heads\":{", stdout);
    for (uint32_t i = 0; i < l->model->heads_n; i++) {
        const struct model_head *head = &l->model->heads[i];
        float *y = calloc(head->classes, sizeof *y);
        assert(y);
        lstm_head(l, i, 1, hidden, y);
        if (head->kind == MODEL_SOFTMAX)
            l->kernel->softmax(y, head->classes);
        else
            l->kernel->sigmoid(y, head->classes);
        printf("%s\"%s\":", i ? "," : "", head->name);
        print_floats(y, head->classes);
        free(y);
    }
    puts("}}");
}

/* One input vector out of JSON. */
static int read_vector(const struct lstm *l, const json_t *vector, size_t step, float *x, struct error *err)
{
    if (!json_is_array(vector) || json_array_size(vector) != l->input)
        return error_set(err, "step %zu: an input vector of this model is an array of %u numbers", step, l->input);
    for (uint32_t i = 0; i < l->input; i++) {
        const json_t *number = json_array_get(vector, i);
        if (!json_is_number(number) || !isfinite((float)json_number_value(number)))
            return error_set(err, "step %zu: element %u is not a number that fits a float", step, i);
        x[i] = (float)json_number_value(number);
    }
    return 0;
}

static int run_sequence(const struct lstm *l, size_t sequence, const json_t *line, float *x, float *state,
                        struct error *err)
{
    const json_t *inputs = json_object_get(line, "inputs");
    if (!json_is_array(inputs))
        return error_set(err, "an object with an array 'inputs' is right");
    memset(state, 0, l->state_floats * sizeof *state);
    for (size_t step = 0; step < json_array_size(inputs); step++) {
        if (read_vector(l, json_array_get(inputs, step), step, x, err) < 0)
            return -1;
        lstm_step(l, 1, NULL, x, &state);
        printf("{\"sequence\":%zu,\"step\":%zu", sequence, step);
        print_states(l, "h", l->h_at, state);
        print_states(l, "c", l->c_at, state);
        print_heads(l, state + l->h_at[l->model->layers_n - 1]);
    }
    return 0;
}

static int run_lines(const struct lstm *l, struct error *err)
{
    float *x = calloc(l->input, sizeof *x), *state = calloc(l->state_floats, sizeof *state);
    assert(x && state);
    char *line = NULL;
    size_t cap = 0, n = 0;
    ssize_t len;
    int result = 0;
    while (result == 0 && (len = getline(&line, &cap, stdin)) >= 0) {
        json_error_t where;
        json_t *value = json_loadb(line, (size_t)len, 0, &where);
        result = value ? run_sequence(l, n, value, x, state, err) : error_set(err, "%s", where.text);
        if (result < 0)
            error_prefix(err, "line %zu", n + 1);
        json_decref(value);
        n++;
    }
    if (result == 0 && (ferror(stdin) || fflush(stdout) != 0))
        result = error_set(err, "%s", strerror(errno));
    free(line);
    free(x);
    free(state);
    return result;
}

static int run(const char *path, const char *kernel_name)
{
    struct error err;
    const struct lstm_kernel *kernel = lstm_kernel_find(kernel_name, cpu_features(), &err);
    struct model *m = kernel ? model_load(path, &err) : NULL;
    if (!m)
        return failed(err.text);
    struct lstm *l = lstm_create(m, kernel, false);
    int result = run_lines(l, &err);
    lstm_destroy(&l);
    model_destroy(&m);
    return result < 0 ? failed(err.text) : 0;
}

struct part {
    const char *name;
    int (*run)(int argc, char **argv);
};

static const struct part parts[] = {
    {"import", cmd_model_import},
    {"export", cmd_model_export},
    {"install", cmd_model_install},
    {"rollback", cmd_model_install},
    {"challenge", cmd_model_install},
};

int cmd_model(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof parts / sizeof *parts; i++)
        if (strcmp(argv[1], parts[i].name) == 0)
            return parts[i].run(argc - 1, argv + 1);
    static const struct long_option options[] = {
        {"model", required_argument, NULL, 'm'},
        {"kernel", required_argument, NULL, 'k'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *model = NULL, *kernel = "auto";
    int c;
    while ((c = getopt_long(argc, argv, "m:k:h", options, NULL)) != -1) {
        switch (c) {
        case 'm': model = optarg; break;
        case 'k': kernel = optarg; break;
        case 'h': print_usage(stdout); return 0;
        default: print_usage(stderr); return 2;
        }
    }
    const char *what = optind < argc ? argv[optind++] : NULL;
    if (!what)
        return wrong_usage("show or run?", "");
    bool is_show = strcmp(what, "show") == 0;
    if (!is_show && strcmp(what, "run") != 0)
        return wrong_usage("show, run, import, export, install, rollback and challenge are possible, not ", what);
    if (!model && optind < argc)
        model = argv[optind++];
    if (optind < argc)
        return wrong_usage("too many arguments: ", argv[optind]);
    if (!model)
        return wrong_usage("which model file?", "");
    return is_show ? show(model) : run(model, kernel);
}
