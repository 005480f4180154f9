// SPDX-License-Identifier: Apache-2.0
// fuzz_config.c - any bytes as a configuration: accepted, or refused with at least one text; never a crash, never slow.
#include "../daemon/config.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_errors errors = {0};
    struct config *config = config_parse((const char *)data, size, "fuzz.yaml", &errors);
    assert((config != NULL) == (errors.n == 0));
    for (size_t i = 0; i < errors.n && i < CONFIG_ERRORS_MAX; i++)
        assert(errors.at[i].text[0]);
    config_destroy(&config);
    return 0;
}
