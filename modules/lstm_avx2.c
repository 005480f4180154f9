// SPDX-License-Identifier: Apache-2.0
// lstm_avx2.c - the vector kernels (lstm_vector.h) for AVX2 with FMA: 8 lanes; 3 rows × 4 gates are 12 of the 16
// registers, three broadcasts and one weight vector take the rest. The only code here that needs AVX2 runs behind
// the kernel's functions, which nobody calls unless cpu_features() says so.
#include "gait/cpu.h"

#include <immintrin.h>

#define LANES 8
#define ROWS 3
#define KERNEL "avx2"
#define KERNEL_NEEDS CPU_AVX2
#define KERNEL_STRUCT lstm_avx2

typedef __m256 vec;
#define v_load(p) _mm256_loadu_ps(p)
#define v_store(p, v) _mm256_storeu_ps(p, v)
#define v_set(x) _mm256_set1_ps(x)
#define v_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define v_add(a, b) _mm256_add_ps(a, b)
#define v_sub(a, b) _mm256_sub_ps(a, b)
#define v_mul(a, b) _mm256_mul_ps(a, b)
#define v_div(a, b) _mm256_div_ps(a, b)
#define v_min(a, b) _mm256_min_ps(a, b)
#define v_max(a, b) _mm256_max_ps(a, b)
#define v_scale(p, s) \
    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(s), 23)))

#include "lstm_vector.h"
