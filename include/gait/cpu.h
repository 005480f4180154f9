/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.h - what the processor can do and the operating system lets us use. Asked once; the answer never changes.
 * GAIT_CPU in the environment (generic, avx2 or avx512) says how far to go at most. */
#ifndef GAIT_CPU_H
#define GAIT_CPU_H

enum cpu_feature {
    CPU_AVX2 = 1,   /* AVX2 and FMA, and the system saves the 256-bit registers */
    CPU_AVX512 = 2, /* AVX-512 F, DQ, BW and VL as well, and the system saves 512-bit and mask registers */
};

unsigned cpu_features(void); /* enum cpu_feature bits */

#endif
