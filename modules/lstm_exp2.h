/* SPDX-License-Identifier: Apache-2.0 */
/* lstm_exp2.h - the constants of the one transcendental function that all kernels share, 2^t.
 *
 * t = n + f, n the nearest integer, f in [-0.5, 0.5]; 2^t = 2^n · p(f). p has degree 5 and p(0) = 1; its other
 * coefficients minimise the largest relative error over the interval (least squares weighted again and again by the
 * error itself, Lawson's method, at 4,001 Chebyshev points): 9.2e-8, about 0.8 units in the last place of a float.
 *
 * Adding 1.5 · 2^23 rounds t to an integer and leaves n in the low bits of the sum, from where a shift by 23 puts it
 * into the exponent. |t| ≤ 126 keeps the result a normal number and 1 + 2^t finite.
 *
 *   σ(x) = 1 / (1 + 2^(−x·log₂e))         absolute error ≤ 1e-7 for every x
 *   tanh(x) = 1 − 2 / (1 + 2^(2x·log₂e))  absolute error ≤ 2e-7 for every x
 *
 * Absolute is what counts here: both are added to numbers of the order of one. */
#ifndef GAIT_LSTM_EXP2_H
#define GAIT_LSTM_EXP2_H

#define EXP2_C1 0x1.62e42ap-1f
#define EXP2_C2 0x1.ebf9bcp-3f
#define EXP2_C3 0x1.c6b752p-5f
#define EXP2_C4 0x1.3cea88p-7f
#define EXP2_C5 0x1.5bba14p-10f
#define EXP2_ROUND 12582912.0f /* 1.5 · 2^23 */
#define EXP2_LIMIT 126.0f
#define EXP2_LOG2E 1.44269504f

#endif
