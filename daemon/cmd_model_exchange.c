// SPDX-License-Identifier: Apache-2.0
// cmd_model_exchange.c - `gaitd model import` and `gaitd model export`: models from and to other tools.
#include "arguments.h"
#include "cmd_model.h"

#include "gait/model_exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void import_usage(FILE *out)
{
    fputs("Usage: gaitd model import --from pytorch|keras|onnx [--meta DESCRIPTION] --out MODEL FILE\n\n"
          "Makes a model of the weights of another tool:\n"
          "  pytorch   safetensors (safetensors.torch.save_file(module.state_dict(), …)), torch.nn.LSTM's names\n"
          "  keras     safetensors or .npz (numpy.savez(…, **{w.path: w.numpy() for w in model.weights})),\n"
          "            names that end in kernel, recurrent_kernel, bias\n"
          "  onnx      LSTM nodes whose weights are constants of the file\n"
          "Gate order and orientation are converted. What such files do not say stands in the description:\n\n"
          "  {\"vocabularies\": {\"category\": [\"shoes\", \"shirts\"]},\n"
          "   \"embeddings\": [{\"field\": \"category\", \"width\": 16, \"vocabulary\": \"category\",\n"
          "                   \"tensor\": \"emb.weight\"}],\n"
          "   \"features\": [{\"column\": \"count.all.24h\", \"transform\": \"log1p\", \"mean\": 0, \"scale\": 2}],\n"
          "   \"layers\": [\"lstm1\", \"lstm2\"],\n"
          "   \"heads\": [{\"name\": \"interest\", \"kind\": \"softmax\", \"target\": \"category\",\n"
          "              \"vocabulary\": \"category\", \"weight\": \"fc.weight\", \"bias\": \"fc.bias\"},\n"
          "             {\"name\": \"intent\", \"kind\": \"sigmoid\", \"target\": \"intent\",\n"
          "              \"weight\": \"buy.weight\", \"bias\": null}],\n"
          "   \"intent_horizon_ms\": 86400000}\n\n"
          "The input is the embeddings in that order, then the features. \"layers\" are what stands before\n"
          ".weight_ih_l0 (pytorch) or kernel (keras), needed when there is more than one; an embedding of as many\n"
          "rows as names gets a row of zeros for unknown ones; \"transposed\": true or false tells a head's\n"
          "orientation where the tool's own is not meant. An ONNX file that gaitd wrote needs no description.\n\n"
          "  -f, --from TOOL         pytorch, keras or onnx\n"
          "  -d, --meta DESCRIPTION  JSON file\n"
          "  -o, --out MODEL         the model to write\n"
          "  -h, --help              print this text\n\n"
          "Example: gaitd model import --from pytorch --meta shop.json --out m.safetensors torch.safetensors\n", out);
}

static void export_usage(FILE *out)
{
    fputs("Usage: gaitd model export --onnx FILE [--vector] MODEL\n\n"
          "Writes a model as an ONNX graph (opset 14). Inputs, S steps of B users:\n"
          "  row_FIELD       int64 [S, B], for each embedding: 0 = unknown, k + 1 = name k of its vocabulary\n"
          "  features        float [S, B, F], normalised: (transform(column) - mean) / scale, clipped, 0 for none\n"
          "  h0_lN, c0_lN    float [1, B, H], the state before, for each layer\n"
          "Outputs: h_lN, c_lN, the state after the last step; and for each head its name, [S, B, classes], as\n"
          "probabilities. Vocabularies and features with their numbers are in metadata_props.\n\n"
          "  -x, --onnx FILE   the file to write\n"
          "      --vector      one input X [S, B, inputs] instead of row_FIELD and features: the embeddings one after\n"
          "                    another, then the features, as `gaitd model run` takes them\n"
          "  -h, --help        print this text\n\n"
          "Example: gaitd model export --onnx shop.onnx shop.safetensors\n", out);
}

static int wrong(void (*usage)(FILE *), const char *text)
{
    fprintf(stderr, "gaitd model: %s\n\n", text);
    usage(stderr);
    return 2;
}

static int failed(const struct error *err)
{
    fprintf(stderr, "gaitd model: %s\n", err->text);
    return 1;
}

static int source_of(const char *name)
{
    for (int i = 0; model_source_names[i]; i++)
        if (strcmp(model_source_names[i], name) == 0)
            return i;
    return -1;
}

int cmd_model_import(int argc, char **argv)
{
    static const struct long_option options[] = {
        {"from", required_argument, NULL, 'f'}, {"meta", required_argument, NULL, 'd'},
        {"out", required_argument, NULL, 'o'},  {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *from = NULL, *meta = NULL, *out = NULL;
    for (int c; (c = getopt_long(argc, argv, "f:d:o:h", options, NULL)) != -1;) {
        switch (c) {
        case 'f': from = optarg; break;
        case 'd': meta = optarg; break;
        case 'o': out = optarg; break;
        case 'h': import_usage(stdout); return 0;
        default: import_usage(stderr); return 2;
        }
    }
    int source = from ? source_of(from) : -1;
    if (source < 0)
        return wrong(import_usage, from ? "--from: pytorch, keras and onnx are possible" : "which tool is it --from?");
    if (!out || optind + 1 != argc)
        return wrong(import_usage, out ? "exactly one file to import is needed" : "where --out?");
    if (!meta && source != MODEL_FROM_ONNX)
        return wrong(import_usage, "such a file does not say what its inputs are: give a description, --meta");
    struct error err;
    struct model *m = model_import((enum model_source)source, argv[optind], meta, &err);
    int result = m ? model_save(m, out, &err) : -1;
    if (result == 0)
        printf("%s: model %s, %u inputs, %u layers, %u heads\n", out, model_id(m), m->input, m->layers_n, m->heads_n);
    model_destroy(&m);
    return result < 0 ? failed(&err) : 0;
}

int cmd_model_export(int argc, char **argv)
{
    static const struct long_option options[] = {
        {"onnx", required_argument, NULL, 'x'}, {"vector", no_argument, NULL, 'v'}, {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *onnx = NULL;
    bool vector = false;
    for (int c; (c = getopt_long(argc, argv, "x:h", options, NULL)) != -1;) {
        switch (c) {
        case 'x': onnx = optarg; break;
        case 'v': vector = true; break;
        case 'h': export_usage(stdout); return 0;
        default: export_usage(stderr); return 2;
        }
    }
    if (!onnx || optind + 1 != argc)
        return wrong(export_usage, onnx ? "exactly one model is needed" : "which file shall be written (--onnx)?");
    struct error err;
    struct model *m = model_load(argv[optind], &err);
    int result = m ? model_export_onnx(m, onnx, vector, &err) : -1;
    model_destroy(&m);
    return result < 0 ? failed(&err) : 0;
}
