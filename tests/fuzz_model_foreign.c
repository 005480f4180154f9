// SPDX-License-Identifier: Apache-2.0
// fuzz_model_foreign.c - any bytes as a file of another tool: read, or refused with a text; never a crash. The first
// byte picks the reader.
#include "../modules/model_foreign.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int (*const readers[])(struct foreign *, const struct foreign_file *, struct error *) = {
        foreign_read_safetensors, foreign_read_npz, foreign_read_onnx,
    };
    if (size < 2)
        return 0;
    struct foreign f = {0};
    struct error err = {.text = ""};
    int result = readers[data[0] % 3](&f, &(struct foreign_file){data + 1, size - 1}, &err);
    assert(result == 0 || *err.text);
    for (uint32_t i = 0; i < f.n; i++)
        assert(foreign_size(f.tensors[i].dims, f.tensors[i].shape) != SIZE_MAX);
    foreign_free(&f);
    return 0;
}
