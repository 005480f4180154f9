// SPDX-License-Identifier: Apache-2.0
// unit_sequential_test.c - equal models are hardly ever found different, however often one looks;
// a better one is found.
#include "../modules/sequential_test.h"
#include "model_maker.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { STREAMS = 1000, EVENTS = 4000 };

static double uniform(uint64_t *seed)
{
    return ((double)(random_next(seed) >> 11) + 0.5) * 0x1p-53;
}

static double normal(uint64_t *seed)
{
    double radius = sqrt(-2 * log(uniform(seed)));
    return radius * cos(6.283185307179586 * uniform(seed));
}

/* One difference of a stream with the given mean; the kinds are shapes that log losses have. */
typedef double draw(uint64_t *seed, double mean, int i, double *memory);

static double gaussian(uint64_t *seed, double mean, int i, double *memory)
{
    (void)i, (void)memory;
    return mean + 0.5 * normal(seed);
}

/* Mostly nothing, now and then much. */
static double rare(uint64_t *seed, double mean, int i, double *memory)
{
    (void)i, (void)memory;
    double p = 0.02, size = 1.5;
    return mean + (uniform(seed) < p ? size * (1 - p) / p * 0.05 : -size * 0.05);
}

/* The scatter comes in waves, and depends on what was seen before. */
static double restless(uint64_t *seed, double mean, int i, double *memory)
{
    double scatter = 0.1 + fabs(*memory) * 0.8 + (i / 500 % 2 ? 0.5 : 0);
    double noise = (uniform(seed) < 0.5 ? -1 : 1) * scatter;
    *memory = uniform(seed) < 0.1 ? 0.2 : noise * 0.5;
    return mean + noise;
}

static draw *const shapes[] = {gaussian, rare, restless};

/* How many of the streams the test decides within EVENTS, and after how many events on average. */
static int decided(draw *shape, double mean, double margin, double alpha, double *events)
{
    int n = 0;
    double sum = 0;
    for (uint64_t stream = 1; stream <= STREAMS; stream++) {
        uint64_t seed = stream * 0x9E3779B97F4A7C15u + 7;
        struct sequential_test t;
        double memory = 0;
        sequential_test_begin(&t, 4, margin, alpha);
        for (int i = 0; i < EVENTS; i++)
            if (sequential_test_add(&t, shape(&seed, mean, i, &memory))) {
                n++;
                sum += i + 1;
                break;
            }
    }
    *events = n ? sum / n : 0;
    return n;
}

static void equal_models_are_found_different_no_more_often_than_alpha(void **state)
{
    (void)state;
    double events;
    static const double alphas[] = {0.05, 0.01};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (size_t a = 0; a < 2; a++) {
            int n = decided(shapes[s], 0, 0, alphas[a], &events);
            /* the binomial's three standard deviations, for the bound holds in the mean */
            double most = STREAMS * alphas[a] + 3 * sqrt(STREAMS * alphas[a] * (1 - alphas[a]));
            if (n > most)
                fail_msg("shape %zu, alpha %g: %d of %d", s, alphas[a], n, STREAMS);
        }
}

/* Better, but not by more than the margin: that is not to be found either. */
static void the_margin_counts(void **state)
{
    (void)state;
    double events;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        assert_true(decided(shapes[s], 0.05, 0.05, 0.05, &events) <= STREAMS * 0.05 + 3 * sqrt(STREAMS * 0.0475));
}

static void a_better_model_is_found(void **state)
{
    (void)state;
    double events;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        int n = decided(shapes[s], 0.15, 0.01, 0.01, &events);
        if (n < STREAMS * 95 / 100)
            fail_msg("shape %zu: %d of %d", s, n, STREAMS);
        assert_true(events < EVENTS / 2);
    }
}

static void a_worse_model_never_is(void **state)
{
    (void)state;
    double events;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        assert_true(decided(shapes[s], -0.15, 0, 0.01, &events) <= 2);
}

static void one_wild_event_proves_nothing(void **state)
{
    (void)state;
    struct sequential_test t;
    sequential_test_begin(&t, 4, 0, 0.01);
    assert_false(sequential_test_add(&t, 1e300));
    assert_false(sequential_test_add(&t, INFINITY));
    assert_true(t.mean == 4);
    assert_true(sequential_test_p(&t) > 0.5 && sequential_test_p(&t) <= 1);
    sequential_test_begin(&t, 4, 0, 0.01);
    for (int i = 0; i < 100000; i++) /* the same model twice */
        assert_false(sequential_test_add(&t, 0));
    assert_true(sequential_test_p(&t) == 1);
}

static void once_decided_it_stays_so(void **state)
{
    (void)state;
    struct sequential_test t;
    sequential_test_begin(&t, 1, 0, 0.05);
    int i = 0;
    while (!sequential_test_add(&t, 0.5))
        assert_true(++i < 1000);
    for (i = 0; i < 1000; i++)
        assert_true(sequential_test_add(&t, -0.5));
    assert_true(sequential_test_p(&t) <= 0.05);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_models_are_found_different_no_more_often_than_alpha),
        cmocka_unit_test(the_margin_counts),
        cmocka_unit_test(a_better_model_is_found),
        cmocka_unit_test(a_worse_model_never_is),
        cmocka_unit_test(one_wild_event_proves_nothing),
        cmocka_unit_test(once_decided_it_stays_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
