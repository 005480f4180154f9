/* SPDX-License-Identifier: Apache-2.0 */
/* model_private.h - shared by the files that make, read and write models (model_make.c, model_vocabulary.c,
 * model_file.c). Everybody else sees include/gait/model.h. */
#ifndef GAIT_MODEL_PRIVATE_H
#define GAIT_MODEL_PRIVATE_H

#include "gait/model.h"

#include <jansson.h>

/* Copies the names and builds the look-up. -1 with a text: too many, empty, twice the same, NUL, not UTF-8. */
int model_vocabulary_init(struct model_vocabulary *v, const struct str *names, size_t n, struct error *err);
void model_vocabulary_free(struct model_vocabulary *v);

/* Each tensor of a model in file order, so that reading, writing and hashing cannot differ. */
struct model_tensor {
    char name[MODEL_NAME_MAX + 32];
    uint32_t dims;
    size_t shape[2];
    float *at;
};
enum { MODEL_TENSORS_MAX = MODEL_EMBEDDINGS_MAX + 4 * MODEL_LAYERS_MAX + 2 * MODEL_HEADS_MAX };
uint32_t model_tensors(const struct model *m, struct model_tensor *tensors);
static inline size_t model_tensor_floats(const struct model_tensor *t)
{
    return t->shape[0] * (t->dims == 2 ? t->shape[1] : 1);
}

/* An open file; its owner closes it. Texts do not name it. */
struct model *model_load_fd(int fd, struct error *err);

/* What a file says about a model besides the weights: an object of strings, the caller's (model_write.c). */
json_t *model_metadata(const struct model *m);
/* Has `write` fill a new file beside `path`, flushes it to disk and renames it. -1 with a text; the old one stays. */
int model_file_replace(const char *path, bool (*write)(int fd, const void *what), const void *what, struct error *err);
bool model_write_all(int fd, const void *from, size_t n);

/* Index in names of an enum's values; -1 when there is none of that name. */
int model_field_find(const char *name);
int model_transform_find(const char *name);
int model_head_kind_find(const char *name);

#endif
