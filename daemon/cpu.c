// SPDX-License-Identifier: Apache-2.0
// cpu.c - which vector instructions may be used: the processor has them (cpuid) and the operating system saves their
// registers when it switches threads (xgetbv). A processor that has AVX-512 under a system that does not save its
// registers would silently compute nonsense.
#include "gait/cpu.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

enum { /* bits of extended control register 0: state that the system saves */
    XCR0_SSE = 1 << 1, XCR0_AVX = 1 << 2, XCR0_MASKS = 1 << 5, XCR0_UPPER = 1 << 6, XCR0_HIGH = 1 << 7,
    XCR0_FOR_AVX = XCR0_SSE | XCR0_AVX,
    XCR0_FOR_AVX512 = XCR0_FOR_AVX | XCR0_MASKS | XCR0_UPPER | XCR0_HIGH,
};

static unsigned saved_registers(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static unsigned detect(void)
{
    unsigned a, b, c, d, features = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return 0;
    if (!(c & bit_OSXSAVE) || !(c & bit_AVX) || !(c & bit_FMA))
        return 0;
    unsigned saved = saved_registers();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    if ((saved & XCR0_FOR_AVX) == XCR0_FOR_AVX && (b & bit_AVX2))
        features |= CPU_AVX2;
    const unsigned avx512 = bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL;
    if (features && (saved & XCR0_FOR_AVX512) == XCR0_FOR_AVX512 && (b & avx512) == avx512)
        features |= CPU_AVX512;
    return features;
}
#else
static unsigned detect(void)
{
    return 0;
}
#endif

/* GAIT_CPU=generic or GAIT_CPU=avx2 forbids all that goes beyond: `make test` runs everything once for each. */
static unsigned allowed(void)
{
    const char *most = getenv("GAIT_CPU");
    if (!most || strcmp(most, "avx512") == 0)
        return CPU_AVX2 | CPU_AVX512;
    return strcmp(most, "generic") == 0 ? 0 : CPU_AVX2;
}

unsigned cpu_features(void)
{
    static int asked;
    static unsigned features;
    if (!asked) {
        features = detect() & allowed();
        asked = 1;
    }
    return features;
}
