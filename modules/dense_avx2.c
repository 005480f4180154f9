// SPDX-License-Identifier: Apache-2.0
// dense_avx2.c - the arithmetic of training with AVX2 and FMA, eight numbers at a time. 6 × 16 accumulators take 12 of
// the 16 registers, which hides the FMA's latency of 4 cycles at two a cycle; two hold B, one a number of A.
#if defined(__x86_64__)
#include <immintrin.h>

#define V __m256
#define V_WIDTH 8
#define V_ROWS 6
#define V_SET(x) _mm256_set1_ps(x)
#define V_LOAD(p) _mm256_loadu_ps(p)
#define V_STORE(p, v) _mm256_storeu_ps(p, v)
#define V_ADD(a, b) _mm256_add_ps(a, b)
#define V_SUB(a, b) _mm256_sub_ps(a, b)
#define V_MUL(a, b) _mm256_mul_ps(a, b)
#define V_DIV(a, b) _mm256_div_ps(a, b)
#define V_MIN(a, b) _mm256_min_ps(a, b)
#define V_MAX(a, b) _mm256_max_ps(a, b)
#define V_SQRT(a) _mm256_sqrt_ps(a)
#define V_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define V_ROUND(x) _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define V_POW2(x) \
    _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(x), _mm256_set1_epi32(127)), 23))
#define V_ISA "avx2"
#define V_NAME dense_avx2

#include "dense_body.h"
#endif
