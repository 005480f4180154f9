/* SPDX-License-Identifier: Apache-2.0 */
/* sequential_test.h - whether one model is better than another by a margin, asked after every event.
 *
 * A test made for a fixed number of events is wrong here: whoever looks after every one and stops at the first good
 * moment finds a difference where there is none. This one is a bet. Whoever bets on "better by more than the margin"
 * begins with a wealth of 1 and stakes a share of it on each difference d (log loss of the model at work minus the
 * challenger's, clipped to ±bound):
 *
 *   y = d / bound, m = margin / bound        wealth ← wealth · (1 + λ · (y − m))        0 ≤ λ ≤ ½ / (1 + m)
 *
 * As long as the mean of d, given all that came before, is not above the margin, the wealth is a supermartingale, and
 * it reaches 1/alpha with a probability of at most alpha, however long and how often one looks (Ville 1939). Events
 * need not be independent. The stake is chosen before d is seen: λ = (ȳ − m) / (s² + (ȳ − m)²), from the mean and the
 * variance so far.
 *
 * I. Waudby-Smith, A. Ramdas: Estimating means of bounded random variables by betting. J. R. Statist. Soc. B 86 (2024),
 * sections 4 and B.3 (aGRAPA). */
#ifndef GAIT_SEQUENTIAL_TEST_H
#define GAIT_SEQUENTIAL_TEST_H

#include <stdbool.h>
#include <stdint.h>

struct sequential_test {
    double bound, margin, alpha;
    uint64_t n;
    double mean;           /* of d, clipped */
    double mean_y, squares; /* of y, as if a zero had come first; squares about the mean */
    double log_wealth, log_best;
};

/* 0 <= margin < bound, 0 < alpha < 1. */
void sequential_test_begin(struct sequential_test *t, double bound, double margin, double alpha);
/* One more difference. True from the moment on at which the wealth first reached 1/alpha. */
bool sequential_test_add(struct sequential_test *t, double difference);
bool sequential_test_decided(const struct sequential_test *t);
/* Anytime-valid: 1 / the greatest wealth so far, at most 1. */
double sequential_test_p(const struct sequential_test *t);

#endif
