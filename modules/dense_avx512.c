// SPDX-License-Identifier: Apache-2.0
// dense_avx512.c - the arithmetic of training with AVX-512F, sixteen numbers at a time. 12 × 16 accumulators take 12 of
// the 32 registers: enough to hide the latency, and the numbers of A come as broadcasts from memory.
#if defined(__x86_64__)
#include <immintrin.h>

#define V __m512
#define V_WIDTH 16
#define V_ROWS 12
#define V_SET(x) _mm512_set1_ps(x)
#define V_LOAD(p) _mm512_loadu_ps(p)
#define V_STORE(p, v) _mm512_storeu_ps(p, v)
#define V_ADD(a, b) _mm512_add_ps(a, b)
#define V_SUB(a, b) _mm512_sub_ps(a, b)
#define V_MUL(a, b) _mm512_mul_ps(a, b)
#define V_DIV(a, b) _mm512_div_ps(a, b)
#define V_MIN(a, b) _mm512_min_ps(a, b)
#define V_MAX(a, b) _mm512_max_ps(a, b)
#define V_SQRT(a) _mm512_sqrt_ps(a)
#define V_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define V_ROUND(x) _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define V_POW2(x) \
    _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(127)), 23))
#define V_ISA "avx512"
#define V_NAME dense_avx512

#include "dense_body.h"
#endif
