/* SPDX-License-Identifier: Apache-2.0 */
/* model_foreign.h - tensors by name, as files of other tools hold them: between the readers (model_foreign.c,
 * model_numpy.c, model_onnx_read.c) and model_import.c. */
#ifndef MODULES_MODEL_FOREIGN_H
#define MODULES_MODEL_FOREIGN_H

#include "gait/error.h"
#include "gait/str.h"

#include <jansson.h>

enum { FOREIGN_DIMS_MAX = 4, FOREIGN_TENSORS_MAX = 4096, FOREIGN_NAME_MAX = 255 };

struct foreign_tensor {
    char *name;
    uint32_t dims;
    size_t shape[FOREIGN_DIMS_MAX];
    float *at;
};

/* Owns all that is in it. */
struct foreign {
    struct foreign_tensor *tensors;
    uint32_t n;
    uint32_t layers;     /* ONNX: LSTM nodes, already under the names lstm.*_lN */
    json_t *metadata;    /* ONNX: metadata_props, an object of strings; else NULL */
};

enum foreign_type { FOREIGN_F32, FOREIGN_F64, FOREIGN_F16, FOREIGN_BF16, FOREIGN_TYPES };

void foreign_free(struct foreign *f);
const struct foreign_tensor *foreign_find(const struct foreign *f, const char *name); /* NULL when not there */
/* A new tensor of zeros; NULL with a text: too many, twice the same name, too large. */
struct foreign_tensor *foreign_add(struct foreign *f, const char *name, uint32_t dims, const size_t *shape,
                                   struct error *err);
/* The same, filled with little-endian numbers of `type`; `n` bytes have to be exactly as many as the shape needs. */
int foreign_add_bytes(struct foreign *f, const char *name, uint32_t dims, const size_t *shape, enum foreign_type type,
                      const uint8_t *bytes, size_t n, struct error *err);
size_t foreign_size(uint32_t dims, const size_t *shape); /* numbers; SIZE_MAX when that is absurd */

/* A whole file, to be given back with foreign_unmap. -1 with a text. */
struct foreign_file {
    const uint8_t *at;
    size_t n;
};
int foreign_map(struct foreign_file *file, const char *path, struct error *err);
void foreign_unmap(struct foreign_file *file);

int foreign_read_safetensors(struct foreign *f, const struct foreign_file *file, struct error *err);
int foreign_read_npz(struct foreign *f, const struct foreign_file *file, struct error *err);
int foreign_read_onnx(struct foreign *f, const struct foreign_file *file, struct error *err);

#endif
