// SPDX-License-Identifier: Apache-2.0
// model_foreign.c - tensors of other tools in memory, and their safetensors files. Nothing in such a file is trusted.
#include "model_foreign.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const size_t tensor_floats_max = (size_t)1 << 31;
static const size_t type_bytes[FOREIGN_TYPES] = {4, 8, 2, 2};

void foreign_free(struct foreign *f)
{
    for (uint32_t i = 0; i < f->n; i++) {
        free(f->tensors[i].name);
        free(f->tensors[i].at);
    }
    free(f->tensors);
    json_decref(f->metadata);
    *f = (struct foreign){0};
}

const struct foreign_tensor *foreign_find(const struct foreign *f, const char *name)
{
    for (uint32_t i = 0; i < f->n; i++)
        if (strcmp(f->tensors[i].name, name) == 0)
            return &f->tensors[i];
    return NULL;
}

size_t foreign_size(uint32_t dims, const size_t *shape)
{
    size_t n = 1;
    for (uint32_t i = 0; i < dims; i++) {
        if (shape[i] > tensor_floats_max || (shape[i] && n > tensor_floats_max / shape[i]))
            return SIZE_MAX;
        n *= shape[i];
    }
    return n;
}

struct foreign_tensor *foreign_add(struct foreign *f, const char *name, uint32_t dims, const size_t *shape,
                                   struct error *err)
{
    size_t n = foreign_size(dims, shape);
    if (f->n == FOREIGN_TENSORS_MAX || strlen(name) > FOREIGN_NAME_MAX || dims > FOREIGN_DIMS_MAX || n == SIZE_MAX) {
        error_set(err, "tensor %.80s: more than %d tensors, %d dimensions or 2^31 numbers", name, FOREIGN_TENSORS_MAX,
                  FOREIGN_DIMS_MAX);
        return NULL;
    }
    if (foreign_find(f, name)) {
        error_set(err, "tensor %.80s is there twice", name);
        return NULL;
    }
    f->tensors = realloc(f->tensors, (f->n + 1) * sizeof *f->tensors);
    assert(f->tensors);
    struct foreign_tensor *t = &f->tensors[f->n++];
    *t = (struct foreign_tensor){.name = strdup(name), .dims = dims, .at = calloc(n ? n : 1, sizeof *t->at)};
    assert(t->name && t->at);
    memcpy(t->shape, shape, dims * sizeof *shape);
    return t;
}

/* ---- numbers ---------------------------------------------------------------------------------------------------- */

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE binary16; subnormals by scaling 2^-24. */
static float float_of_half(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 31, digits = half & 0x3ff;
    if (exponent == 31)
        return float_of_bits(sign | 0x7f800000 | digits << 13);
    if (exponent)
        return float_of_bits(sign | (exponent + 112) << 23 | digits << 13);
    float value = (float)digits * 0x1p-24f;
    return sign ? -value : value;
}

static float number_at(const uint8_t *at, enum foreign_type type)
{
    uint16_t half;
    float single;
    double wide;
    switch (type) {
    case FOREIGN_F64: memcpy(&wide, at, sizeof wide); return (float)wide;
    case FOREIGN_F16: memcpy(&half, at, sizeof half); return float_of_half(half);
    case FOREIGN_BF16: memcpy(&half, at, sizeof half); return float_of_bits((uint32_t)half << 16);
    default: memcpy(&single, at, sizeof single); return single;
    }
}

int foreign_add_bytes(struct foreign *f, const char *name, uint32_t dims, const size_t *shape, enum foreign_type type,
                      const uint8_t *bytes, size_t n, struct error *err)
{
    size_t numbers = foreign_size(dims, shape);
    if (numbers == SIZE_MAX || numbers * type_bytes[type] != n)
        return error_set(err, "tensor %.80s: its %zu bytes do not fit its shape", name, n);
    struct foreign_tensor *t = foreign_add(f, name, dims, shape, err);
    if (!t)
        return -1;
    for (size_t i = 0; i < numbers; i++)
        t->at[i] = number_at(bytes + i * type_bytes[type], type);
    return 0;
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

int foreign_map(struct foreign_file *file, const char *path, struct error *err)
{
    *file = (struct foreign_file){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        error_set(err, "%s: cannot open it: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    void *at = MAP_FAILED;
    if (S_ISREG(st.st_mode) && st.st_size > 0)
        at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (at == MAP_FAILED)
        return error_set(err, "%s: not a regular file with something in it", path);
    *file = (struct foreign_file){at, (size_t)st.st_size};
    return 0;
}

void foreign_unmap(struct foreign_file *file)
{
    if (file->at)
        munmap((void *)(uintptr_t)file->at, file->n);
    *file = (struct foreign_file){0};
}

static int safetensors_type(const char *dtype)
{
    static const char *const names[FOREIGN_TYPES] = {"F32", "F64", "F16", "BF16"};
    for (int i = 0; dtype && i < FOREIGN_TYPES; i++)
        if (strcmp(dtype, names[i]) == 0)
            return i;
    return -1;
}

static int safetensors_entry(struct foreign *f, const char *name, const json_t *entry, const uint8_t *data, size_t n,
                             struct error *err)
{
    const json_t *dims = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    json_int_t from = json_integer_value(json_array_get(offsets, 0));
    json_int_t to = json_integer_value(json_array_get(offsets, 1));
    int type = safetensors_type(json_string_value(json_object_get(entry, "dtype")));
    size_t shape[FOREIGN_DIMS_MAX];
    if (type < 0)
        return 0; /* whole numbers, such as a counter: no weight of ours */
    if (!json_is_array(dims) || json_array_size(dims) > FOREIGN_DIMS_MAX)
        return error_set(err, "tensor %.80s: it has no shape, or more than %d dimensions", name, FOREIGN_DIMS_MAX);
    for (size_t i = 0; i < json_array_size(dims); i++) {
        json_int_t size = json_integer_value(json_array_get(dims, i));
        if (size < 0)
            return error_set(err, "tensor %.80s: a negative dimension", name);
        shape[i] = (size_t)size;
    }
    if (json_array_size(offsets) != 2 || from < 0 || to < from || (uint64_t)to > n)
        return error_set(err, "tensor %.80s: its bytes are not in the file: it is cut short", name);
    return foreign_add_bytes(f, name, (uint32_t)json_array_size(dims), shape, (enum foreign_type)type, data + from,
                             (size_t)(to - from), err);
}

int foreign_read_safetensors(struct foreign *f, const struct foreign_file *file, struct error *err)
{
    uint64_t length = 0;
    if (file->n >= sizeof length)
        memcpy(&length, file->at, sizeof length);
    if (length < 2 || length > file->n - sizeof length)
        return error_set(err, "not a safetensors file, or cut short");
    json_error_t where;
    json_t *header = json_loadb((const char *)file->at + sizeof length, length, JSON_REJECT_DUPLICATES, &where), *entry;
    if (!json_is_object(header)) {
        json_decref(header);
        return error_set(err, "the header is not a JSON object: not a safetensors file");
    }
    const uint8_t *data = file->at + sizeof length + length;
    const char *name;
    int result = 0;
    json_object_foreach(header, name, entry) {
        if (result == 0 && strcmp(name, "__metadata__") != 0)
            result = safetensors_entry(f, name, entry, data, file->n - sizeof length - length, err);
    }
    json_decref(header);
    return result;
}
