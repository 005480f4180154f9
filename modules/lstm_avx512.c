// SPDX-License-Identifier: Apache-2.0
// lstm_avx512.c - the vector kernels (lstm_vector.h) for AVX-512: 16 lanes; 6 rows × 4 gates are 24 of the 32
// registers, the broadcasts come from memory inside the multiply-add.
#include "gait/cpu.h"

#include <immintrin.h>

#define LANES 16
#define ROWS 6
#define KERNEL "avx512"
#define KERNEL_NEEDS CPU_AVX512
#define KERNEL_STRUCT lstm_avx512

typedef __m512 vec;
#define v_load(p) _mm512_loadu_ps(p)
#define v_store(p, v) _mm512_storeu_ps(p, v)
#define v_set(x) _mm512_set1_ps(x)
#define v_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define v_add(a, b) _mm512_add_ps(a, b)
#define v_sub(a, b) _mm512_sub_ps(a, b)
#define v_mul(a, b) _mm512_mul_ps(a, b)
#define v_div(a, b) _mm512_div_ps(a, b)
#define v_min(a, b) _mm512_min_ps(a, b)
#define v_max(a, b) _mm512_max_ps(a, b)
#define v_scale(p, s) \
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(s), 23)))

#include "lstm_vector.h"
