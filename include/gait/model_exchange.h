/* SPDX-License-Identifier: Apache-2.0 */
/* model_exchange.h - models from and to other tools. The rules of what a model may be stay in one place: an import
 * puts foreign weights into a model file in memory, in our names, gate order and orientation, and has it read like any
 * other file.
 *
 *   PyTorch  safetensors: PREFIX.weight_ih_lN [4H × I], weight_hh_lN, bias_ih_lN, bias_hh_lN; gates i f g o, ours
 *   Keras    safetensors, or .npz of numpy: …kernel [I × 4H], …recurrent_kernel [H × 4H], …bias [4H]; gates i f c o
 *   ONNX     LSTM nodes with W [1 × 4H × I], R [1 × 4H × H], B [1 × 8H] as constants; gates i o f c
 *
 * What such files do not say (vocabularies, features, which tensor is which head) stands in a JSON file: the members of
 * our own metadata, and for each embedding, layer or head where its tensors are (`gaitd model import --help`). */
#ifndef GAIT_MODEL_EXCHANGE_H
#define GAIT_MODEL_EXCHANGE_H

#include "gait/model.h"

enum model_source { MODEL_FROM_PYTORCH, MODEL_FROM_KERAS, MODEL_FROM_ONNX, MODEL_SOURCES };
extern const char *const model_source_names[]; /* "pytorch" …; NULL-terminated */

/* `meta` NULL: only for an ONNX file that says it itself, as ours do. NULL with a text. */
struct model *model_import(enum model_source source, const char *path, const char *meta, struct error *err);

/* One graph, opset 14. Inputs: for each embedding `row_FIELD` int64 [steps, batch] (0 = unknown, id + 1 = a name of the
 * vocabulary), `features` float [steps, batch, features] normalised as struct model_feature says; with `vector` instead
 * of them `X` float [steps, batch, input], as `gaitd model run` takes it. For each layer h0_lN and c0_lN [1, batch, H].
 * Outputs: for each layer h_lN and c_lN after the last step; for each head its name, [steps, batch, classes],
 * probabilities. The metadata_props are those of our files. Written beside `path`, then renamed. */
int model_export_onnx(const struct model *m, const char *path, bool vector, struct error *err);

#endif
